"""An object as a file to write: it appears when the file is closed, as a whole or not at all."""

import io
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

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
            if self._upload is None:
                self._put(bytes(self._buffer))
            else:
                if self._buffer:
                    self._upload.send(bytes(self._buffer))
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
