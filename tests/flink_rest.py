"""A stand-in for Flink's REST interface: a cluster of one job, whose answers a test sets."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

JOB = "b"
# Beam's id of the job, which Flink knows without its last part.
NAME = "its-name_1_0b8e-uuid"


class FlinkRest:
    """Its address, the answer at each path, and what was asked of it: methods and paths with their bodies.

    An answer is JSON or, with an error, a pair of its code and JSON. Several of them in a list come one after the
    other; the last one stays.
    """

    def __init__(self) -> None:
        jobs = [{"jid": "a", "name": "other"}, {"jid": JOB, "name": "its-name_1"}]
        self.answers: dict[str, list[Any]] = {
            "/jobs/overview": [{"jobs": jobs}],
            "/overview": [{"taskmanagers": 1}],
            f"/jobs/{JOB}": [{"state": "RUNNING"}],
            f"/jobs/{JOB}/exceptions": [{}],
            f"/jobs/{JOB}/checkpoints": [{"latest": {"completed": None}}],
        }
        self.asked: list[tuple[str, str, Any]] = []
        self.address = ""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method != "GET":
            self.asked.append((method, path, body))
        answers = self.answers.get(path, [(404, {"errors": ["Not found."]})])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, tuple) else (200, answer)


@contextlib.contextmanager
def flink_rest() -> Iterator[FlinkRest]:
    """Serves it on loopback, for as long as the block lasts."""
    cluster = FlinkRest()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            code, answer = cluster.answer(self.command, self.path, body)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(b"" if answer is None else json.dumps(answer).encode())

        do_GET = do_POST = do_PATCH = _answer

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        cluster.address = f"http://127.0.0.1:{server.server_port}"
        yield cluster
        server.shutdown()
        thread.join()
