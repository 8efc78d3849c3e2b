"""HTTP/1.1 as a proxy needs it: heads of messages, and their bodies piece by piece."""

import asyncio
import dataclasses
import re
import socket
import struct
from collections.abc import AsyncIterator
from typing import Literal, Self

MAX_HEAD_BYTES = 1 << 18
_PIECE_BYTES = 1 << 18

# How a body ends: after so many bytes, after its last chunk, or with the connection.
Framing = int | Literal["chunked", "close"]


@dataclasses.dataclass(frozen=True)
class Head:
    """The first line and the headers of a request or an answer.

    Attributes:
      raw: as it came, with the empty line.
      start: the three words of the first line.
      headers: by name in lower case; of one that comes twice, the last.
    """

    raw: bytes
    start: tuple[str, str, str]
    headers: dict[str, str]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Of all bytes up to the empty line, with it.

        Raises:
          ValueError: if that is no HTTP.
        """
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        start = (*first.split(" ", 2), "", "")[:3]
        if "HTTP/" not in first:
            raise ValueError(f"no HTTP: {first[:100]!r}")
        pairs = (line.partition(":") for line in lines)
        return cls(raw, (start[0], start[1], start[2]), {name.lower(): value.strip() for name, _, value in pairs})

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start[1])

    @property
    def keeps_alive(self) -> bool:
        """Whether another message may follow on the connection."""
        version = self.start[0] if self.start[0].startswith("HTTP/") else self.start[2]
        words = self.headers.get("connection", "").lower()
        return "keep-alive" in words if version == "HTTP/1.0" else "close" not in words

    @property
    def awaits_continue(self) -> bool:
        """Whether the body of a request comes only when it is asked for."""
        return self.headers.get("expect", "").lower() == "100-continue"

    def request_framing(self) -> Framing:
        """How the body of a request ends."""
        return self._framing(0)

    def answer_framing(self, method: str) -> Framing:
        """How the body of an answer to a method ends."""
        has_none = method == "HEAD" or self.status in (204, 304)
        return 0 if has_none else self._framing("close")

    def _framing(self, otherwise: Framing) -> Framing:
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return "chunked"
        return int(self.headers["content-length"]) if "content-length" in self.headers else otherwise

    def with_length(self, length: int) -> bytes:
        """The same head of a body of another length."""
        return re.sub(rb"(?im)^(content-length:) *\d+", rb"\1 %d" % length, self.raw)


@dataclasses.dataclass(frozen=True)
class Peer:
    """One side of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        """A new connection.

        Raises:
          OSError: when nobody listens.
        """
        return cls(*await asyncio.open_connection(host, port, limit=MAX_HEAD_BYTES))

    async def read_head(self) -> Head | None:
        """The head of the next message; None where the other side has closed the connection.

        Raises:
          ConnectionError: when it has closed it within a head.
          ValueError: when it does not speak HTTP.
        """
        try:
            return Head.parse(await self.reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise ConnectionResetError("the connection ended within a head") from error
            return None
        except asyncio.LimitOverrunError as error:
            raise ValueError(f"a head has more than {MAX_HEAD_BYTES} bytes") from error

    async def pieces(self, framing: Framing, most: int = _PIECE_BYTES) -> AsyncIterator[bytes]:
        """The bytes of a body, without the frames of chunks; at most so many at once.

        Raises:
          ConnectionError: when the connection ends before the body does.
        """
        if framing == "chunked":
            async for piece in self._chunks(most):
                yield piece
        elif framing == "close":
            while piece := await self.reader.read(most):
                yield piece
        else:
            async for piece in self._exactly(framing, most):
                yield piece

    async def _exactly(self, left: int, most: int) -> AsyncIterator[bytes]:
        while left:
            piece = await self.reader.read(min(left, most))
            if not piece:
                raise ConnectionResetError(f"{left} bytes of a body are missing")
            left -= len(piece)
            yield piece

    async def _chunks(self, most: int) -> AsyncIterator[bytes]:
        while size := int((await self._line()).split(b";")[0], 16):
            async for piece in self._exactly(size, most):
                yield piece
            await self._line()
        while (await self._line()).strip():
            pass  # trailers; none of the clients and stores here needs them

    async def _line(self) -> bytes:
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the connection ended within a chunked body")
        return line

    async def write(self, data: bytes) -> None:
        """Sends bytes, once there is room for them."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Ends the connection with a reset: what was not sent is not sent, and the other side is told nothing."""
        if (opened := self.writer.get_extra_info("socket")) is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """Ends the connection in order."""
        self.writer.close()


def frame(piece: bytes, framing: Framing) -> bytes:
    """A piece of a body as it is sent; the empty piece ends a body of chunks."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece
