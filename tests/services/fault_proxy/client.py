"""What a test has of a fault proxy: a process of its own before a server, with a plan that may change while it runs."""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from deploy.flink.service import Service, free_port, is_listening
from services.fault_proxy.plan import Fault
from services.fault_proxy.server import CONTROL

_TESTS = pathlib.Path(__file__).parents[2]
_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Passed:
    """What went through a proxy since it was started, or since `count_anew`.

    Attributes:
      requests: how many, by kind (`services.fault_proxy.kinds`), those that failed with them.
      faults: how many, by action.
      bytes_in: of the bodies of requests.
      bytes_out: of the bodies of answers.
      now: requests that have no answer yet.
      most_at_once: the most requests that had no answer yet at one time.
      failures: of the server behind the proxy, which no plan asked for.
      log: method, target, kind, status (0: none) and actions of the last requests, as they ended.
    """

    requests: dict[str, int]
    faults: dict[str, int]
    bytes_in: int
    bytes_out: int
    now: int
    most_at_once: int
    failures: list[str]
    log: list[tuple[str, str, str, int, list[str]]]

    @property
    def total(self) -> int:
        """How many requests."""
        return sum(self.requests.values())


class FaultProxy:
    """A proxy between `start` and `stop`; with no plan, all passes."""

    def __init__(self, server: str, folder: pathlib.Path):
        """Before a server, `http://HOST:PORT`; its log goes to a folder."""
        port, address = free_port(), urllib.parse.urlsplit(server)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._port = port
        leash = [sys.executable, "-I", "-S", _TESTS / "services" / "leash.py"]
        program = [sys.executable, "-m", "services.fault_proxy.server"]
        command = [*leash, *program, str(port), str(address.hostname), str(address.port)]
        self._service = Service(f"fault-proxy-{port}", command, folder, {"PYTHONPATH": os.fspath(_TESTS)})

    def start(self) -> None:
        """Starts it, and returns once it listens."""
        self._service.start()
        self._service.wait_for(lambda: is_listening(self._port), _SECONDS)

    def stop(self) -> None:
        """Ends it; then nobody listens at its endpoint."""
        self._service.stop()

    def plan(self, *faults: Fault, seed: int = 0) -> None:
        """From the next request on, these faults and no others."""
        self._ask("PUT", {"seed": seed, "faults": [dataclasses.asdict(fault) for fault in faults]})

    def passed(self) -> Passed:
        """What was counted up to now."""
        return Passed(**self._ask("GET"))

    def count_anew(self) -> Passed:
        """What was counted up to now; from now on counts begin with zero."""
        return Passed(**self._ask("DELETE"))

    def _ask(self, method: str, settings: dict[str, Any] | None = None) -> Any:
        body = None if settings is None else json.dumps(settings).encode()
        request = urllib.request.Request(self.endpoint + CONTROL, body, method=method)
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return json.load(answer)


@contextlib.contextmanager
def fault_proxy(server: str, folder: pathlib.Path) -> Iterator[FaultProxy]:
    """A proxy before a server, for as long as the block lasts."""
    proxy = FaultProxy(server, folder)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
