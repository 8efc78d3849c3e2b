"""Services that outlive the program that started them: a file says which processes they are, and how to reach them."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from typing import Any

from deploy.flink.service import Service

_POLL_SECONDS = 0.2


class Remembered:
    """The services of a folder, by a file in it."""

    def __init__(self, file: pathlib.Path, marks: Iterable[pathlib.Path] = ()):
        """The command line of each service has the folder in it, or one of `marks`: others have not."""
        self._file = file
        self._marks = [str(path.resolve()) for path in (file.parent, *marks)]

    def save(self, services: Sequence[Service], **values: Any) -> None:
        """Writes which services run, and values that help to reach them."""
        self._write(
            {
                **values,
                "processes": {service.name: service.pid for service in services},
                "commands": {service.name: [str(service.log.parent), *service.command] for service in services},
            }
        )

    def _write(self, state: dict[str, Any]) -> None:
        self._file.write_text(json.dumps(state, indent=1))

    def load(self) -> dict[str, Any]:
        """What was saved: the values, and `processes` by name.

        Raises:
          FileNotFoundError: when nothing was.
        """
        return dict(json.loads(self._file.read_text()))

    def running(self) -> dict[str, int]:
        """The processes that are there: another program may have got the number of one since."""
        if not self._file.exists():
            return {}
        return {name: pid for name, pid in self.load()["processes"].items() if self._is_ours(pid)}

    def _is_ours(self, pid: int) -> bool:
        command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return any(mark in found for mark in self._marks)

    def show(self) -> bool:
        """Prints a line for each service; whether any of them runs.

        Raises:
          FileNotFoundError: when none was ever started.
        """
        running = self.running()
        for name in self.load()["processes"]:
            print(f"{name:16} {f'process {running[name]}' if name in running else 'not running'}")
        return bool(running)

    def restart(self, name: str) -> Service:
        """Starts a service again, with its command; where it runs still, it is killed before.

        Raises:
          ValueError: for a name that none of them has; names those that there are.
        """
        state = self.load()
        if name not in state["commands"]:
            raise ValueError(f"no service {name}; there are {', '.join(state['commands'])}")
        if name in (running := self.running()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running[name], signal.SIGKILL)
        folder, *command = state["commands"][name]
        service = Service(name, command, pathlib.Path(folder))
        service.start()
        state["processes"][name] = service.pid
        self._write(state)
        return service

    def end(self, seconds: float = 10) -> None:
        """Ends them politely; what is left after some seconds is killed."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.running() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for pid in self.running().values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
