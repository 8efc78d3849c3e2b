"""A server on loopback that takes events of OpenLineage, or does what servers do when they do not."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any


class LineageServer(http.server.ThreadingHTTPServer):
    """Keeps what it is sent.

    Attributes:
      answers: the codes of the next answers; 200 when there are none left.
      events: what was taken.
      requests: path and headers of each request.
      hold: while it is clear, no request is answered.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.events: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: LineageServer

    def do_POST(self) -> None:
        """Takes an event, or answers as it is told to."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.hold.wait(60)
        code = self.server.answers.pop(0) if self.server.answers else 200
        if code == 200:
            self.server.events.append(json.loads(body))
        with contextlib.suppress(OSError):  # who asked may have gone
            self.send_response(code)
            if code in (301, 302, 307):
                self.send_header("Location", f"{self.server.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_GET(self) -> None:
        """Remembers that somebody followed a redirection."""
        self.server.requests.append((self.path, dict(self.headers)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def lineage_server() -> Iterator[LineageServer]:
    """A server for the block."""
    with LineageServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.hold.set()
            server.shutdown()
