"""An object as a file to read: bytes come in pieces that grow while they are read in order, and the next one ahead."""

import concurrent.futures
import functools
import io
from collections.abc import Callable
from typing import Protocol

# The first piece of an object, and what is fetched at a place that is jumped to.
_FIRST_BYTES, _JUMP_BYTES = 1 << 20, 1 << 18

# A piece when much is read in order: the time of a request is small beside that of so many bytes.
_MAX_BYTES = 8 << 20


class Ranges(Protocol):
    """An object whose bytes can be asked for."""

    def begin(self, length: int) -> tuple[bytes, int]:
        """Returns the first bytes of the object, as many as there are, and its size."""

    def size(self) -> int:
        """Returns the size of the object."""

    def fetch(self, start: int, end: int) -> bytes:
        """Returns the bytes [start, end), all of them."""


@functools.cache
def helpers() -> concurrent.futures.ThreadPoolExecutor:
    """The threads of this process that wait for stores."""
    return concurrent.futures.ThreadPoolExecutor(max_workers=32, thread_name_prefix="store")


def in_parallel(work: Callable[[str], object], items: list[str]) -> None:
    """Does some work for all items, and raises the first error once all is done."""
    if len(items) == 1:
        work(items[0])
        return
    futures = [helpers().submit(work, item) for item in items]
    concurrent.futures.wait(futures)
    for future in futures:
        future.result()


class ObjectReader(io.RawIOBase):
    """Reads an object in any order."""

    def __init__(self, ranges: Ranges, size: int | None = None):
        self._ranges = ranges
        self._size = size
        self._at = 0
        self._piece, self._start = b"", 0
        self._step = _FIRST_BYTES
        self._ahead: tuple[int, concurrent.futures.Future[bytes]] | None = None

    def prepare(self) -> None:
        """Fetches the first piece, which tells whether there is an object."""
        if self._fill(_FIRST_BYTES):
            self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to another byte; only its distance from the end needs a request."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (self._whole() if base is None else base)
        if self._at < 0:
            raise ValueError(f"negative position {self._at}")
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Returns as many bytes as there are, up to `size`."""
        if size is None or size < 0:
            return self.readall()
        parts, left = [], size
        while left and (part := self._some(left)):
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readall(self) -> bytes:
        """Returns all bytes from here."""
        parts = []
        while part := self._some(_MAX_BYTES):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Reads into a buffer."""
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _whole(self) -> int:
        if self._size is None:
            self._size = self._ranges.size()
        return self._size

    def _some(self, size: int) -> bytes:
        """Bytes from here, fewer than are asked for where a piece ends; none at the end of the object."""
        offset = self._at - self._start
        if not 0 <= offset < len(self._piece):
            if not self._fill(size):
                return b""
            offset = self._at - self._start
        data = self._piece[offset : offset + size]
        self._at += len(data)
        return data

    def _fill(self, size: int) -> bool:
        """Fetches the piece that begins here; False at the end of the object."""
        if self._size is None and self._at == 0:
            self._piece, self._size = self._ranges.begin(max(_FIRST_BYTES, min(size, _MAX_BYTES)))
            self._start = 0
            return bool(self._piece)
        whole = self._whole()
        if self._at >= whole:
            return False
        in_order = self._at == self._start + len(self._piece)
        self._step = min(2 * self._step, _MAX_BYTES) if in_order else _JUMP_BYTES
        self._piece, self._start = self._fetched(self._at, min(whole, self._at + max(size, self._step))), self._at
        end = self._start + len(self._piece)
        if in_order and end < whole:
            self._ahead = end, helpers().submit(self._ranges.fetch, end, min(whole, end + self._step))
        return True

    def _fetched(self, start: int, end: int) -> bytes:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == start:
            return ahead[1].result()
        if ahead is not None:
            ahead[1].cancel()
        return self._ranges.fetch(start, end)

    def close(self) -> None:
        """Forgets what was fetched."""
        if self._ahead is not None:
            self._ahead[1].cancel()
        self._ahead, self._piece = None, b""
        super().close()
