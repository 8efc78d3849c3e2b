"""A job on a Flink cluster, through the REST interface of the cluster: its state, its restarts, and how it ends."""

import collections
import dataclasses
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines._report.crash import in_one_line
from pipelines._run.worker_errors import worker_error

ENDED = ("CANCELED", "FAILED", "FINISHED")

_CALL_SECONDS = 10.0
_POLL_SECONDS = 0.5

_NUMBERS = re.compile(r"\b[0-9a-f]{8,}\b|\d+")


@dataclasses.dataclass(frozen=True)
class FlinkJob:
    """A job of a cluster.

    Attributes:
      address: of the cluster's REST interface, such as `http://localhost:8081`.
      id: Flink's id of the job.
    """

    address: str
    id: str

    @property
    def page(self) -> str:
        """Where Flink's web interface shows it."""
        return f"{self.address}/#/job/{self.id}"

    def state(self) -> str:
        """`RUNNING`, `RESTARTING`, `CANCELED`, ...

        Raises:
          OSError: when the cluster does not answer, or does not know the job.
        """
        return str(self._get("")["state"])

    def failures(self) -> list[str]:
        """Returns the Java stack traces of the failures that it knows, the newest first.

        Raises:
          OSError: as in `state`.
        """
        history = self._get("/exceptions").get("exceptionHistory") or {}
        return [str(entry["stacktrace"]) for entry in history.get("entries", [])]

    def last_checkpoint(self) -> str | None:
        """Returns the path of its last checkpoint; None if there is none, or if it lies in no folder.

        Raises:
          OSError: as in `state`.
        """
        completed = (self._get("/checkpoints").get("latest") or {}).get("completed") or {}
        path = completed.get("external_path")
        return None if path in (None, "<checkpoint-not-externally-addressable>") else str(path)

    def cancel(self, seconds: float = 60) -> None:
        """Ends it where it is.

        Raises:
          OSError: as in `state`.
          RuntimeError: when it has not ended in so many seconds.
        """
        self._call(urllib.request.Request(f"{self.address}/jobs/{self.id}", method="PATCH"))
        deadline = time.monotonic() + seconds
        while (state := self.state()) not in ENDED:
            if time.monotonic() > deadline:
                raise RuntimeError(f"it is {state} after {seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def stop(self, folder: str | None, seconds: float = 300) -> str:
        """Ends it with a savepoint, whose path it returns; nothing is read, written or published after that.

        Args:
          folder: where the savepoint goes; None for the folder that the cluster is configured for.
          seconds: how long that may take.

        Raises:
          OSError: as in `state`.
          RuntimeError: when there is no savepoint.
        """
        request = self._post("/stop", {"targetDirectory": folder, "drain": False})["request-id"]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self._get(f"/savepoints/{request}")
            if found["status"]["id"] == "COMPLETED":
                if "location" in found["operation"]:
                    return str(found["operation"]["location"])
                cause = (found["operation"].get("failure-cause") or {}).get("stack-trace", "no reason is given")
                raise RuntimeError(f"no savepoint: {reason_of(cause)}")
            time.sleep(_POLL_SECONDS)
        raise RuntimeError(f"no savepoint after {seconds:g} s")

    def _get(self, path: str) -> Any:
        return self._call(urllib.request.Request(f"{self.address}/jobs/{self.id}{path}"))

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        url = f"{self.address}/jobs/{self.id}{path}"
        return self._call(urllib.request.Request(url, json.dumps(body).encode(), headers))

    def _call(self, request: urllib.request.Request) -> Any:
        return call(request)


def call(request: urllib.request.Request) -> Any:
    """Sends a request to a cluster; returns the JSON of its answer.

    Raises:
      OSError: when nobody answers, or with an error, whose first words it names.
    """
    try:
        with urllib.request.urlopen(request, timeout=_CALL_SECONDS) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise OSError(f"{error.code} {error.reason}: {_first_error(error.read())}") from error
    try:
        return json.loads(text) if text else None
    except ValueError as error:
        raise OSError(f"{request.full_url}: is no REST interface of Flink: {error}") from error


def _first_error(body: bytes) -> str:
    """What Flink says is wrong with a request: its errors are lists of a sentence and stack traces."""
    try:
        errors = [text for text in json.loads(body)["errors"] if text.strip()]
        return reason_of(errors[-1])
    except (ValueError, KeyError, TypeError, IndexError):
        return body.decode(errors="replace")[:200]


def repeated_failure(stacktraces: Iterable[str], times: int) -> str | None:
    """Returns the newest reason that so many of the failures of a job have, but for numbers in it; None for none.

    Args:
      stacktraces: of Java, one for each failure, the newest first.
      times: at least so many failures.
    """
    reasons = [reason_of(text) for text in stacktraces]
    counts = collections.Counter(map(without_numbers, reasons))
    return next((reason for reason in reasons if counts[without_numbers(reason)] >= times), None)


def without_numbers(reason: str) -> str:
    """A reason as others like it read, which name another file, offset or instruction.

    >>> without_numbers("chunks/3ebd22aea9004aa4: No space left (12 MB)")
    'chunks/#: No space left (# MB)'
    """
    return _NUMBERS.sub("#", reason)


def reason_of(stacktrace: str) -> str:
    """The reason in a stack trace of Java, in one line: what a worker raised, else the innermost cause.

    >>> reason_of("x.JobException: it failed\\n\\tat x.Y\\nCaused by: java.io.IOException: No space left\\n\\tat z")
    'java.io.IOException: No space left'
    """
    raised = worker_error(RuntimeError(stacktrace))
    if raised is not None:
        return str(raised)
    causes = [line.removeprefix("Caused by: ") for line in stacktrace.splitlines() if line.startswith("Caused by: ")]
    text = causes[-1] if causes else stacktrace.strip().partition("\n")[0]
    return in_one_line(RuntimeError(text)).removeprefix("RuntimeError:").lstrip()
