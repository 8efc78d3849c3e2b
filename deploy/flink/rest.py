"""The few calls of Flink's REST interface that running a job takes: jobs, checkpoints, savepoints, cancelling."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

_POLL_SECONDS = 0.5


class FlinkRest:
    """A JobManager, by the address of its REST interface, such as `http://localhost:8081`."""

    def __init__(self, address: str):
        self.address = address.rstrip("/")

    def get(self, path: str) -> Any:
        """What is at a path such as `/jobs/overview`.

        Raises:
          OSError: when nobody answers, or with an error.
        """
        return self._call(urllib.request.Request(self.address + path))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Sends a request that starts something.

        Raises:
          OSError: when nobody answers, or with an error.
        """
        headers = {"Content-Type": "application/json"}
        return self._call(urllib.request.Request(self.address + path, json.dumps(body).encode(), headers))

    def is_up(self, task_managers: int) -> bool:
        """Whether it answers, and that many TaskManagers have registered."""
        try:
            return bool(self.get("/overview")["taskmanagers"] >= task_managers)
        except OSError:
            return False

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs it knows, the oldest first: `jid`, `name`, `state`, `start-time` (ms), ..."""
        return sorted(self.get("/jobs/overview")["jobs"], key=lambda job: job["start-time"])

    def job_of(self, name: str, seconds: float = 120) -> str:
        """The id of the newest job of a name, once it is there.

        Raises:
          TimeoutError: when it is not, in that time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = [job["jid"] for job in self.jobs() if job["name"] == name]
            if found:
                return str(found[-1])
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"{self.address}: no job {name} after {seconds:g} s")

    def state(self, job: str) -> str:
        """`RUNNING`, `RESTARTING`, `CANCELED`, ..."""
        return str(self.get(f"/jobs/{job}")["state"])

    def checkpoints(self, job: str) -> dict[str, Any]:
        """`counts` (completed, failed, restored, ...), `latest` (completed, restored, ...), `history`."""
        return dict(self.get(f"/jobs/{job}/checkpoints"))

    def cancel(self, job: str, seconds: float = 60) -> None:
        """Ends a job where it is.

        Raises:
          TimeoutError: when it has not ended in that time.
        """
        self._call(urllib.request.Request(f"{self.address}/jobs/{job}", method="PATCH"))
        deadline = time.monotonic() + seconds
        while self.state(job) not in ("CANCELED", "FAILED", "FINISHED"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job} is {self.state(job)}, {seconds:g} s after it was to end")
            time.sleep(_POLL_SECONDS)

    def stop(self, job: str, folder: str, seconds: float = 120) -> str:
        """Ends a job with a savepoint, whose path it returns; nothing is read, written or published after it.

        Raises:
          RuntimeError: when Flink could not write it; the job runs on.
          TimeoutError: when it is not there in that time.
        """
        request = self.post(f"/jobs/{job}/stop", {"targetDirectory": folder, "drain": False})["request-id"]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.get(f"/jobs/{job}/savepoints/{request}")
            if found["status"]["id"] == "COMPLETED":
                if "location" in found["operation"]:
                    return str(found["operation"]["location"])
                raise RuntimeError(f"no savepoint of job {job}: {found['operation'].get('failure-cause')}")
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"no savepoint of job {job} after {seconds:g} s")

    def _call(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")[:500]
            raise OSError(f"{request.full_url}: {error.code} {error.reason}: {detail}") from error
        return json.loads(text) if text else None
