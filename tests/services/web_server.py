"""A small web server with objects in memory, in a thread: what a proxy's tests put behind it."""

import contextlib
import http.server
import threading
from collections.abc import Iterator, Mapping
from typing import Any


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "WebServer"

    def handle_expect_100(self) -> bool:
        """Asks for no body that would be refused."""
        return self._refused() or super().handle_expect_100()

    def do_PUT(self) -> None:
        """Keeps the body."""
        if "expect" not in self.headers and self._refused():
            return
        body = b"".join(self._body())
        self.server.objects[self.path] = body
        self._answer(200, self.headers.get("Content-Type", "").encode())

    def do_GET(self) -> None:
        """Gives a body: of `/chunked...` in chunks, of `/closed...` up to the connection's end."""
        body = self.server.objects.get(self.path)
        if body is None:
            return self._answer(404, b"no such object")
        if self.path.startswith("/chunked"):
            self._answer(200, None, {"Transfer-Encoding": "chunked"})
            for piece in (body[:7], body[7:]):
                self.wfile.write(b"%x;note=1\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\nSum: 1\r\n\r\n")
        elif self.path.startswith("/closed"):
            self._answer(200, None, {"Connection": "close"})
            self.wfile.write(body)
            self.close_connection = True
        else:
            self._answer(200, body)

    def do_HEAD(self) -> None:
        """Says how long the body is."""
        self._answer(200, None, {"Content-Length": str(len(self.server.objects[self.path]))})

    def _refused(self) -> bool:
        if self.headers.get("If-None-Match") != "*" or self.path not in self.server.objects:
            return False
        self._answer(412, b"it is there")
        return True

    def _body(self) -> Iterator[bytes]:
        for piece in self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._pieces():
            self.server.received += len(piece)
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        left = int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read1(min(left, 1 << 16))
            if not piece:
                raise ConnectionResetError("the body has no end")
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, status: int, body: bytes | None, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""


class WebServer(http.server.ThreadingHTTPServer):
    """The server, and what it has seen.

    Attributes:
      objects: bodies by path.
      received: bytes of bodies that have come.
      connections: how many were opened.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.objects: dict[str, bytes] = {}
        self.received = self.connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        """Counts a connection, and answers it in a thread."""
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that is reset is what tests want."""


@contextlib.contextmanager
def web_server() -> Iterator[WebServer]:
    """A server, for as long as the block lasts."""
    with WebServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
