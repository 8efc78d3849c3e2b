"""An object as a file to read: bytes come in pieces, and the next ones are fetched ahead of their use.

Whoever says how far he will read in order (`until`) gets pieces of one size from the first, and nothing behind the end.
Else pieces grow while bytes are read in order. A read that is larger than a piece comes in several ones, side by side.
"""

import collections
import concurrent.futures
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

# What tells what an object is; so much comes with one request even where less is wanted.
HEAD_BYTES = 1 << 18

# The first piece, where an object is read from its beginning.
_FIRST_BYTES = 1 << 20

# A piece when much is read in order: the time of a request is small beside that of so many bytes.
_MAX_BYTES = 8 << 20

# How many pieces are fetched ahead. With them, a reader holds at most four pieces, the one that it gives included.
_AHEAD = 2

Data = bytes | memoryview

_T = TypeVar("_T")


class Ranges(Protocol):
    """An object whose bytes can be asked for."""

    def begin(self, length: int) -> tuple[Data, int]:
        """Returns the first bytes of the object, as many as there are, and its size."""

    def size(self) -> int:
        """Returns the size of the object."""

    def fetch(self, start: int, end: int) -> Data:
        """Returns the bytes [start, end), all of them."""


@functools.cache
def helpers() -> concurrent.futures.ThreadPoolExecutor:
    """The threads of this process that wait for stores."""
    return concurrent.futures.ThreadPoolExecutor(max_workers=WAITING_THREADS, thread_name_prefix="store")


# So many requests of a process wait at a time; at 50 ms each they are 1,280 a second.
WAITING_THREADS = 64


def in_parallel(work: Callable[[_T], object], items: Sequence[_T]) -> None:
    """Does some work for all items, and raises the first error once all is done."""
    if len(items) == 1:
        work(items[0])
        return
    futures = [helpers().submit(work, item) for item in items]
    concurrent.futures.wait(futures)
    for future in futures:
        future.result()


class ObjectReader(io.RawIOBase):
    """Reads an object in any order.

    Args:
      ranges: the object.
      size: its bytes, None where they are not known.
      until: the byte up to which it will be read in order, from the first one that is read; None if that is not known.
      head: gives the first `HEAD_BYTES` of the object, where somebody keeps them.
    """

    def __init__(
        self, ranges: Ranges, size: int | None = None, until: int | None = None, head: Callable[[], Data] | None = None
    ):
        self._ranges = ranges
        self._size = size
        self._until = until
        self._head = head
        self._at = 0
        self._piece: Data = b""
        self._start = 0
        self._step = 0
        self._in_order: bool | None = None  # not known before the read that is under way needs a piece
        self._ahead: collections.deque[tuple[int, int, concurrent.futures.Future[Data]]] = collections.deque()

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
        return b"".join(self._parts(size))

    def readall(self) -> bytes:
        """Returns all bytes from here."""
        if self._size is None and self._at == 0:
            self._fill(_MAX_BYTES)
        return self.read(max(0, self._whole() - self._at))

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Reads into a buffer."""
        at = 0
        for part in self._parts(len(buffer)):
            buffer[at : at + len(part)] = part
            at += len(part)
        return at

    def _parts(self, size: int) -> Iterator[memoryview]:
        """The bytes from here, up to `size`, as they lie in pieces."""
        end, self._in_order = self._at + size, None
        while self._at < end and (part := self._some(end - self._at)):
            yield part

    def _whole(self) -> int:
        if self._size is None:
            self._size = self._ranges.size()
        return self._size

    def _some(self, size: int) -> memoryview:
        """Bytes from here, fewer than are asked for where a piece ends; none at the end of the object."""
        offset = self._at - self._start
        if not 0 <= offset < len(self._piece):
            if not self._fill(size):
                return memoryview(b"")
            offset = self._at - self._start
        data = memoryview(self._piece)[offset : offset + size]
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
        if self._head is not None and self._at < HEAD_BYTES:
            self._piece, self._start, self._head = self._head(), 0, None
            if self._at < len(self._piece):
                return True
        self._piece, self._start = self._fetched(*self._plan(size, whole), whole), self._at
        return True

    def _plan(self, size: int, whole: int) -> tuple[int, int]:
        """Where the bytes end that are wanted from here, and those that may be fetched ahead."""
        sure = min(whole, self._at + size)
        if self._until is not None:
            self._step = HEAD_BYTES  # of a last line that goes on behind the end
            sure = max(sure, min(whole, self._until))
            return sure, sure
        if self._in_order is None:
            self._in_order = bool(self._piece) and self._at == self._start + len(self._piece)
        if self._in_order:
            self._step = min(max(2 * self._step, size), _MAX_BYTES)
        else:
            self._step = HEAD_BYTES if self._at or self._piece else _FIRST_BYTES
        return sure, min(whole, max(sure, self._at + self._step) + _AHEAD * self._step) if self._in_order else sure

    def _fetched(self, sure: int, limit: int, whole: int) -> Data:
        """The piece that begins here. Those that follow it, up to a limit, are asked for before it is waited for."""

        def end_of(start: int, limit: int) -> int:
            return _piece_end(start, max(sure, min(limit, start + self._step)))

        if not self._ahead or self._ahead[0][0] != self._at:
            self._forget()
        found = self._ahead.popleft() if self._ahead else None
        first = found[1] if found else end_of(self._at, whole)
        last = self._ahead[-1][1] if self._ahead else first
        while len(self._ahead) < _AHEAD and last < limit:
            start, last = last, end_of(last, limit)
            self._ahead.append((start, last, helpers().submit(self._ranges.fetch, start, last)))
        return found[2].result() if found else self._ranges.fetch(self._at, first)

    def _forget(self) -> None:
        for _, _, future in self._ahead:
            future.cancel()
        self._ahead.clear()

    def close(self) -> None:
        """Forgets what was fetched."""
        self._forget()
        self._piece = b""
        super().close()


def _piece_end(start: int, end: int) -> int:
    """Where the first one of equal pieces ends.

    >>> _piece_end(0, 17 << 20) == (17 << 20) // 2
    True
    """
    count = max(1, round((end - start) / _MAX_BYTES))
    return start - (start - end) // count
