"""An HTTP/1.1 proxy before one server, which fails as a plan says.

`python -m services.fault_proxy.server PORT HOST PORT` has its own port first, on the loopback interface.

Bodies pass through as they come, whatever their size. Requests for `/__faults__` are for the proxy itself: GET gives
what was counted, PUT sets a plan, DELETE counts anew.
"""

import asyncio
import json
import random
import sys

from services.fault_proxy.exchange import Counts, CutError, Exchange, Upstream
from services.fault_proxy.kinds import kind_of
from services.fault_proxy.plan import Fault, Plan, Request
from services.fault_proxy.wire import MAX_HEAD_BYTES, Head, Peer

CONTROL = "/__faults__"


class Proxy:
    """The proxy's state, and what it does with connections."""

    def __init__(self, host: str, port: int):
        self._address = (host, port)
        self._plan, self._random = Plan(), random.Random(0)
        self._counts = Counts()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection, one after the other."""
        client, upstream = Peer(reader, writer), Upstream(*self._address)
        try:
            goes_on = True
            while goes_on and (head := await client.read_head()) is not None:
                own = head.start[1].startswith(CONTROL)
                goes_on = await (self._control(head, client) if own else self._answer(head, client, upstream))
            client.close()
        except (CutError, OSError, ValueError):
            client.reset()
        finally:
            upstream.close()

    async def _answer(self, head: Head, client: Peer, upstream: Upstream) -> bool:
        method, target, _ = head.start
        request, counts = Request(method, target, kind_of(method, target, head.headers)), self._counts
        faults = self._plan.of(request)
        actions = [fault.action for fault in faults]
        counts.requests[request.kind] += 1
        counts.faults.update(actions)
        counts.now += 1
        counts.most_at_once = max(counts.most_at_once, counts.now)
        exchange = Exchange(head, client, upstream, faults, counts)
        try:
            await self._hold_up(faults)
            return await exchange.run()
        finally:
            counts.now -= 1
            counts.log.append((method, target, request.kind, exchange.status, actions))

    async def _hold_up(self, faults: list[Fault]) -> None:
        for fault in faults:
            if fault.action == "latency":
                await asyncio.sleep(fault.seconds + fault.jitter * self._random.random())

    async def _control(self, head: Head, client: Peer) -> bool:
        body = b"".join([piece async for piece in client.pieces(head.request_framing())])
        if head.start[0] == "PUT":
            settings = json.loads(body)
            faults = [Fault.from_json(fault) for fault in settings["faults"]]
            self._plan, self._random = Plan(settings["seed"], faults), random.Random(settings["seed"])
        answer = json.dumps(self._counts.as_json()).encode()
        if head.start[0] == "DELETE":
            self._counts.reset()
        await client.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        return head.keeps_alive


async def main(own_port: int, host: str, port: int) -> None:
    """Serves until the process ends."""
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", own_port, limit=MAX_HEAD_BYTES, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
