"""The indexes of shards, held against the records while these are read."""

import contextlib
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import IO

import google_crc32c
import numpy as np

from penstock.io.dataset.manifest import Shard
from penstock.io.dataset.options import INDEX_TYPE
from penstock.io.dataset.shard_formats.base import ReadPiece
from penstock.io.files import stores
from penstock.transforms.verify.fault import Fault

_READ_BYTES = 1 << 20
_ITEM_BYTES = np.dtype(INDEX_TYPE).itemsize


class OffsetsCheck(contextlib.AbstractContextManager["OffsetsCheck"]):
    """Reads the index of a shard along with the shard; memory holds what is of one piece.

    A shard without an index has no fault here, nor one whose index is missing, which is told elsewhere.
    """

    def __init__(self, directory: str, shard: Shard, present: Collection[str]):
        self._directory = directory
        self._records = shard.records
        self._index = shard.index if shard.index and shard.index.path in present else None
        self._file: IO[bytes] | None = None
        self._crc = self._bytes = self._seen = self._end = 0
        self._wrong = self._unreadable = ""

    def __enter__(self) -> "OffsetsCheck":
        if self._index is not None:
            try:
                self._file = stores.open_file(stores.join(self._directory, *self._index.path.split("/")))
            except OSError as error:
                self._unreadable = str(error)
            self._compare(np.zeros(1, np.int64))
        return self

    def add(self, piece: ReadPiece) -> None:
        """Takes the next records of the shard."""
        if self._file is not None and piece.records:
            ends = piece.offsets[1:] - piece.offsets[0] + self._end
            self._end = int(ends[-1])
            self._compare(ends)

    def _compare(self, expected: np.ndarray) -> None:
        content = self._read(len(expected) * _ITEM_BYTES)
        found = np.frombuffer(content[: len(content) // _ITEM_BYTES * _ITEM_BYTES], INDEX_TYPE)
        different = found != expected[: len(found)]
        if different.any() and not self._wrong:
            at = int(np.argmax(different))
            record = self._seen + at - 1
            what = f"record {record} ends" if record >= 0 else "record 0 begins"
            self._wrong = f"says that {what} at byte {int(found[at])}, and it does at byte {int(expected[at])}"
        self._seen += len(expected)

    def _read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        try:
            while size and self._file is not None and (piece := self._file.read(size)):
                self._crc = google_crc32c.extend(self._crc, piece)
                self._bytes, size = self._bytes + len(piece), size - len(piece)
                pieces.append(piece)
        except OSError as error:
            self._unreadable, self._file = str(error), None
        return b"".join(pieces)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while kind is None and self._read(_READ_BYTES):
            pass
        if self._file is not None:
            self._file.close()

    def faults(self) -> Iterator[Fault]:
        """Yields what is wrong, once the shard is read."""
        index = self._index
        if index is None:
            return
        due, crc = (self._records + 1) * _ITEM_BYTES, f"{self._crc:08x}"
        if self._unreadable:
            yield Fault("file.unreadable", index.path, f"cannot be read: {self._unreadable}")
        elif self._bytes != index.bytes:
            detail = f"size must be {index.bytes} bytes, as the manifest says, found {self._bytes}"
            yield Fault("index.wrong", index.path, detail)
        elif crc != index.crc32c:
            yield Fault("index.wrong", index.path, f"CRC32C must be {index.crc32c}, as the manifest says, found {crc}")
        elif index.bytes != due:
            yield Fault("index.wrong", index.path, f"must have {due} bytes for {self._records} records")
        elif self._wrong:
            yield Fault("index.wrong", index.path, self._wrong)
