"""moto's S3 on a port of the loopback interface, with conditional writes as atomic as those of S3: `python FILE PORT`.

moto looks at the condition of a write and then writes, and another thread may write in between. Here one write is done
at a time. Its body is read before, so that a slow client holds up nobody.
"""

import io
import sys
import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.wsgi import get_input_stream

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class OneWriteAtATime:
    """A WSGI application around another one."""

    def __init__(self, application: Any):
        self._application = application
        self._writing = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answers a request."""
        if environ["REQUEST_METHOD"] in _READS:
            return self._application(environ, start_response)
        body = get_input_stream(environ).read()
        environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        with self._writing:
            return list(self._application(environ, start_response))


if __name__ == "__main__":
    application = OneWriteAtATime(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True, request_handler=MotoRequestHandler)
