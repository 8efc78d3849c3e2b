"""An object as a file to write: it appears when the file is closed, as a whole or not at all."""

import collections
import concurrent.futures
import io
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from penstock.io.files.stores.reading import WAITING_THREADS, helpers

# An object that is smaller is sent with one request.
PIECE_BYTES = 8 << 20


class Upload(Protocol):
    """An object that is sent in pieces."""

    def send(self, data: bytes) -> None:
        """Sends a piece."""

    def finish(self) -> None:
        """Makes the object of all pieces."""

    def abort(self) -> None:
        """Gives the pieces up."""


class ObjectWriter(io.RawIOBase):
    """Collects the bytes of an object, and sends it.

    Args:
      put: sends a whole object.
      begin: begins one that is sent in pieces.
    """

    def __init__(self, put: Callable[[bytes], object], begin: Callable[[], Upload]):
        self._put, self._begin = put, begin
        self._buffer = bytearray()
        self._upload: Upload | None = None

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Takes all bytes; they may change afterwards."""
        self._buffer += data
        if len(self._buffer) >= PIECE_BYTES:
            if self._upload is None:
                self._upload = self._begin()
            sent, self._buffer = bytes(self._buffer), bytearray()
            self._upload.send(sent)
        return len(data)

    def close(self) -> None:
        """Makes the object appear."""
        if self.closed:
            return
        try:
            content, self._buffer = bytes(self._buffer), bytearray()  # not twice while it is on its way
            if self._upload is None:
                self._put(content)
            else:
                if content:
                    self._upload.send(content)
                self._upload.finish()
        finally:
            self._buffer = bytearray()
            super().close()

    def abort(self) -> None:
        """Closes the file without an object."""
        if not self.closed:
            self._buffer = bytearray()
            if self._upload is not None:
                self._upload.abort()
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        """An object whose file was never closed does not appear, unlike what Python does with a file on a disk."""
        self._buffer = bytearray()


class Uploads:
    """Files that are being closed side by side, so that not each of them waits for its store's answer.

    So many wait at a time as there are threads for it, with 32 MiB at most that are on their way.
    """

    def __init__(self) -> None:
        self._under_way: collections.deque[tuple[int, concurrent.futures.Future[None]]] = collections.deque()
        self._bytes = 0

    def add(self, close: Callable[[], None], size: int) -> None:
        """Closes a file which was given `size` bytes, in another thread; waits for others where too much is under way.

        Raises:
          OSError: when another one has failed.
        """
        size = min(size, PIECE_BYTES)  # of a larger one, the others were sent before
        self._under_way.append((size, helpers().submit(close)))
        self._bytes += size
        while self._bytes > _MAX_UNDER_WAY_BYTES or len(self._under_way) > WAITING_THREADS:
            self._wait_for_first()

    def wait(self) -> None:
        """Returns once all files are closed.

        Raises:
          OSError: when one has failed.
        """
        while self._under_way:
            self._wait_for_first()

    def _wait_for_first(self) -> None:
        size, future = self._under_way.popleft()
        self._bytes -= size
        future.result()

    def give_up(self) -> None:
        """Closes no file that was not begun, and returns once nothing is under way."""
        for _, future in self._under_way:
            future.cancel()
        concurrent.futures.wait([future for _, future in self._under_way])
        self._under_way.clear()
        self._bytes = 0


# In 50 ms that are 640 MB/s of each worker.
_MAX_UNDER_WAY_BYTES = 32 << 20
