"""One request and its answer, on the way through the proxy with the faults that a plan has for them."""

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from services.fault_proxy.plan import DELAYS, Fault
from services.fault_proxy.wire import Framing, Head, Peer, frame

_LOGGED_REQUESTS = 20_000
_PIECE_BYTES = 1 << 18
# Stores here close a connection that was idle for 5 s; what is sent just then would be lost by our fault.
_IDLE_SECONDS = 1.0
_DRAIN_SECONDS = 10.0
_REASONS = {403: "Forbidden", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
_REASONS |= {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


class CutError(Exception):
    """A plan ends the connection with the client here, with a reset."""


class Counts:
    """What has passed since the start, or since it was set to zero."""

    def __init__(self, now: int = 0) -> None:
        self.requests: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()
        self.bytes_in = self.bytes_out = 0
        self.now = self.most_at_once = now
        self.failures: list[str] = []
        self.log: collections.deque[tuple[Any, ...]] = collections.deque(maxlen=_LOGGED_REQUESTS)

    def reset(self) -> None:
        """Sets all to zero; requests that go on still count as such."""
        vars(self).update(vars(Counts(self.now)))

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**vars(self), "log": list(self.log)}


class Upstream:
    """The connection to the store that belongs to one of a client; a new one where the last cannot be used again."""

    def __init__(self, host: str, port: int):
        self._address = (host, port)
        self._peer: Peer | None = None
        self._since = 0.0

    async def take(self) -> Peer:
        """A connection that nobody else uses.

        Raises:
          OSError: when the store does not listen.
        """
        peer, self._peer = self._peer, None
        if peer is not None and not peer.reader.at_eof() and time.monotonic() - self._since < _IDLE_SECONDS:
            return peer
        if peer is not None:
            peer.close()
        return await Peer.connect(*self._address)

    def keep(self, peer: Peer) -> None:
        """For the next request."""
        self._peer, self._since = peer, time.monotonic()

    def close(self) -> None:
        """Ends the connection that is kept."""
        if self._peer is not None:
            self._peer.close()


class Exchange:
    """A request whose head has come, and what is to happen to it."""

    def __init__(self, head: Head, client: Peer, upstream: Upstream, faults: list[Fault], counts: Counts):
        self._head, self._client, self._upstream, self._counts = head, client, upstream, counts
        self._fault = next((fault for fault in faults if fault.action not in DELAYS), None)
        self._speed = min((fault.bytes_per_second for fault in faults if fault.action == "slow"), default=0)
        self._body = head.request_framing()
        self._client_is_gone = self._is_cut_short = False
        self.status = 0

    @property
    def _action(self) -> str:
        return self._fault.action if self._fault else ""

    @property
    def _size(self) -> int:
        return self._fault.size if self._fault else 0

    async def run(self) -> bool:
        """Whether the client may send another request on its connection.

        Raises:
          CutError, OSError, ValueError: when its connection is to end with a reset.
        """
        if self._action == "reset_before":
            raise CutError
        if self._action == "hang":
            await asyncio.sleep(self._fault.seconds if self._fault else 0)
            raise CutError
        if self._fault and self._action == "status":
            return await self._refuse(self._fault)
        try:
            peer = await self._upstream.take()
        except OSError as error:
            self._fail(error)
            raise
        if self._action == "reset_during":
            await self._cut_during(peer)
        return await self._pass(peer)

    async def _refuse(self, fault: Fault) -> bool:
        self.status = fault.status
        keeps = self._head.keeps_alive and not self._head.awaits_continue
        if not self._head.awaits_continue:
            async for piece in self._client.pieces(self._body):
                self._counts.bytes_in += len(piece)
        body = b"" if self._head.start[0] == "HEAD" else b"This fault was planned.\n"
        lines = [f"HTTP/1.1 {fault.status} {_REASONS.get(fault.status, 'Planned')}", f"Content-Length: {len(body)}"]
        lines += [] if fault.retry_after is None else [f"Retry-After: {fault.retry_after:g}"]
        lines += [] if keeps else ["Connection: close"]
        await self._client.write("\r\n".join([*lines, "", ""]).encode() + body)
        return keeps

    async def _cut_during(self, peer: Peer) -> None:
        """The store gets the first bytes of the body, and then neither side hears of the other again."""
        left = self._size
        try:
            await peer.write(self._head.raw)
            if self._head.awaits_continue:
                await self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async for piece in self._client.pieces(self._body, max(1, left)):
                await peer.write(frame(piece[:left], self._body) if left > 0 else b"")
                left -= len(piece)
                if left <= 0:
                    break
        finally:
            peer.reset()
        raise CutError

    async def _pass(self, peer: Peer) -> bool:
        sending = asyncio.create_task(self._send(peer))
        try:
            answer = await self._read_answer(peer)
            framing = answer.answer_framing(self._head.start[0])
            await self._relay(answer, framing, peer)
            is_sent = await self._end_of(sending)
        except BaseException:
            peer.reset()
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        keeps = is_sent and answer.keeps_alive and framing != "close" and not self._is_cut_short
        if keeps:
            self._upstream.keep(peer)
        else:
            peer.close()
        return keeps and self._head.keeps_alive

    async def _end_of(self, sending: asyncio.Task[bool]) -> bool:
        """Whether the store has the whole request. It may have answered before, to a client that sends on."""
        if not sending.done() and self._head.awaits_continue:
            return False
        with contextlib.suppress(TimeoutError, OSError):
            return await asyncio.wait_for(asyncio.shield(sending), _DRAIN_SECONDS)
        return False

    async def _send(self, peer: Peer) -> bool:
        """Whether the store has taken the whole request; where it takes no more, the rest goes nowhere."""
        is_taken = await _sends(peer, self._head.raw)
        pieces = self._client.pieces(self._body, self._piece_bytes)
        if self._action == "corrupt" and self._body != 0:
            pieces = _with_wrong_bit(pieces, self._body, self._size)
        try:
            async for piece in pieces:
                self._counts.bytes_in += len(piece)
                is_taken = is_taken and await _sends(peer, frame(piece, self._body))
                await self._hold_up(piece)
        except OSError:
            self._client_is_gone = True
            peer.reset()  # the store must not wait for the rest
            raise
        return is_taken and await _sends(peer, frame(b"", self._body))

    async def _read_answer(self, peer: Peer) -> Head:
        """The head of the answer; those before it, which ask for more, are passed on."""
        try:
            while (answer := await peer.read_head()) is not None and answer.status < 200:
                await self._client.write(answer.raw)
            if answer is None:
                raise ConnectionResetError("the store ended the connection without an answer")
        except (OSError, ValueError) as error:
            self._fail(error)
            raise
        self.status = answer.status
        return answer

    async def _relay(self, answer: Head, framing: Framing, peer: Peer) -> None:
        pieces = peer.pieces(framing, self._piece_bytes)
        if self._action == "reset_after":
            async for _ in pieces:
                pass
            raise CutError
        if self._action in ("truncate", "reset_body", "shorten") and framing != 0:
            return await self._relay_part(answer, framing, pieces)
        if self._action == "corrupt" and self._body == 0:
            pieces = _with_wrong_bit(pieces, framing, self._size)
        await self._client.write(answer.raw)
        async for piece in pieces:
            await self._give(piece, framing)
        await self._client.write(frame(b"", framing))

    async def _relay_part(self, answer: Head, framing: Framing, pieces: AsyncIterator[bytes]) -> None:
        """The first bytes of an answer's body; at most all but the last, where its length is known."""
        left = min(self._size, framing - 1) if isinstance(framing, int) else self._size
        shortens = self._action == "shorten" and isinstance(framing, int)
        await self._client.write(answer.with_length(left) if shortens else answer.raw)
        async for piece in pieces:
            if left > 0:
                await self._give(piece[:left], framing)
            left -= len(piece)
            if left <= 0 and not shortens:
                break
        if self._action == "reset_body":
            raise CutError
        self._is_cut_short = not shortens

    async def _give(self, piece: bytes, framing: Framing) -> None:
        self._counts.bytes_out += len(piece)
        await self._client.write(frame(piece, framing))
        await self._hold_up(piece)

    @property
    def _piece_bytes(self) -> int:
        return max(1, min(_PIECE_BYTES, self._speed // 10)) if self._speed else _PIECE_BYTES

    async def _hold_up(self, piece: bytes) -> None:
        if self._speed:
            await asyncio.sleep(len(piece) / self._speed)

    def _fail(self, error: Exception) -> None:
        if not self._client_is_gone:
            self._counts.failures.append(f"{' '.join(self._head.start[:2])}: {error}")


async def _sends(peer: Peer, data: bytes) -> bool:
    """Whether the other side takes it."""
    try:
        await peer.write(data)
    except OSError:
        return False
    return True


async def _with_wrong_bit(pieces: AsyncIterator[bytes], framing: Framing, at: int) -> AsyncIterator[bytes]:
    """The pieces of a body, one bit of one byte of which is wrong; the last byte's where it has no more than `at`."""
    at = min(at, framing - 1) if isinstance(framing, int) else at
    async for piece in pieces:
        yield piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :] if 0 <= at < len(piece) else piece
        at -= len(piece)
