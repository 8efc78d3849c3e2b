"""Delivers events, to a server or a file, beside the job: nothing here delays it for long, and nothing makes it fail.

Events are sent by a thread, in their order. When the job ends, they have `finish_seconds` to arrive.
"""

import contextlib
import fcntl
import http.client
import json
import logging
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipelines._report.printable import printable

_LOGGER = logging.getLogger(__name__)

REQUEST_SECONDS = 3.0
FINISH_SECONDS = 5.0

# Before each try but the first.
_WAITS_SECONDS = (0.2, 1.0)

_TOO_MANY = 429
_SERVER_ERROR = 500

Event = Mapping[str, Any]


class Transport(Protocol):
    """One way to deliver events.

    Attributes:
      place: where they go, for messages.
    """

    place: str

    def send(self, event: Event) -> None:
        """Delivers an event.

        Raises:
          OSError: when it does not arrive.
        """


class FileTransport:
    """Appends to a file of this machine; runs that do so at the same time do not mix their lines."""

    def __init__(self, path: str):
        self.place = path

    def send(self, event: Event) -> None:
        """Appends a line: the whole of it, or nothing; raises the errors of `Transport.send`."""
        line = (json.dumps(event, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")
        folder = os.path.dirname(self.place)
        if folder:
            os.makedirs(folder, exist_ok=True)
        file = os.open(self.place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = os.fstat(file).st_size
            if os.write(file, line) < len(line):
                os.ftruncate(file, before)
                raise OSError("no space is left for a whole line")
        finally:
            os.close(file)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Would send the key to another host, and the event as a GET."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


class HttpTransport:
    """Posts to a server, three times at most: again where it cannot be reached, is busy, or has an error of its own.

    Proxies of the environment are used. A redirection is an error, since the key is for one host.

    Args:
      url: whole, with the path of the endpoint.
      api_key: what authorizes events; None for a server that asks for nothing.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = REQUEST_SECONDS):
        self.place = url
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_NoRedirects)

    def send(self, event: Event) -> None:
        """Posts an event; raises the errors of `Transport.send`."""
        body = json.dumps(event).encode()
        for wait in (*_WAITS_SECONDS, None):
            try:
                self._post(body)
                return
            except urllib.error.HTTPError as error:
                error.close()
                if wait is None or not (error.code == _TOO_MANY or error.code >= _SERVER_ERROR):
                    raise OSError(f"the server answers {error.code} {error.reason}") from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                if wait is None:
                    reason = getattr(error, "reason", error)
                    raise OSError(str(reason) or type(reason).__name__) from None
            time.sleep(wait)

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(self.place, body, self._headers, method="POST")
        with contextlib.closing(self._opener.open(request, timeout=self._timeout)):
            pass


class Delivery:
    """Sends events by each of some transports, each by a thread of its own."""

    def __init__(self, transports: Sequence[Transport], finish_seconds: float = FINISH_SECONDS):
        self._ways = [_Way(transport) for transport in transports]
        self._finish_seconds = finish_seconds

    def put(self, event: Event) -> None:
        """Takes an event, and returns at once."""
        for way in self._ways:
            way.put(event)

    def finish(self) -> bool:
        """Waits at most `finish_seconds` for all to arrive, and warns if some have not; returns whether all have."""
        deadline = time.monotonic() + self._finish_seconds
        return all([way.finish(deadline) for way in self._ways])


class _Way:
    def __init__(self, transport: Transport):
        self._transport = transport
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._given = self._arrived = 0
        self._reason = ""
        self._thread = threading.Thread(target=self._work, name="openlineage", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        self._given += 1
        self._events.put(event)

    def finish(self, deadline: float) -> bool:
        self._events.put(None)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._arrived == self._given:
            return True
        reason = self._reason or f"no answer for {FINISH_SECONDS:g} s"
        _LOGGER.warning(
            "%s",
            printable(
                f"OpenLineage: {self._given - self._arrived} of {self._given} events did not reach "
                f"{self._transport.place}: {reason}; the job itself is not affected"
            ),
        )
        return False

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            try:
                self._transport.send(event)
                self._arrived += 1
            except Exception as error:  # whatever a server or a proxy makes of it, the job goes on
                self._reason = str(error) or type(error).__name__
