"""`prepare` from a topic of events into windows, as a process, on a Flink cluster."""

import contextlib
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from deploy.flink.local_cluster import LocalCluster
from services.events import SCHEMA, sums

# Milliseconds.
WINDOW, LATENESS, ORDER = 5_000, 10_000, 2_000


class StreamJob:
    """`prepare` on a cluster, from a topic into a folder, and what the cluster says about it."""

    def __init__(self, cluster: LocalCluster, uri: str, folder: pathlib.Path, *flags: str, schema: str = SCHEMA):
        self.cluster, self.output = cluster, folder / "dataset"
        self._log = folder / "prepare.log"
        (folder / "schema.pbtxt").write_text(schema)
        command = [sys.executable, "-m", "pipelines.prepare", f"--input={uri}", "--format=jsonl"]
        command += [f"--schema={folder}/schema.pbtxt", "--event_time=at:ms", f"--output={self.output}"]
        command += [f"--window=fixed:{WINDOW}ms", f"--allowed_lateness={LATENESS}ms", f"--out_of_orderness={ORDER}ms"]
        command += ["--num_shards=2", "--parallelism=2", "--checkpointing_interval=2000", *cluster.flags(), *flags]
        known = {job["jid"] for job in cluster.rest.jobs()}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self._wait(lambda: any(self._is_new(job, known) for job in cluster.rest.jobs()), 300)
        self.id = next(job["jid"] for job in cluster.rest.jobs() if self._is_new(job, known))

    @staticmethod
    def _is_new(job: dict[str, Any], known: set[str]) -> bool:
        return job["state"] == "RUNNING" and job["jid"] not in known

    def wait_for(self, what: str, holds: Callable[[], bool], seconds: float = 300) -> None:
        """Returns when something holds; fails when it does not in that time, or the job has ended."""
        try:
            self._wait(holds, seconds)
        except TimeoutError:
            pytest.fail(f"not after {seconds} s: {what}; {dict(sums(self.output))}; {self.log()}")

    def _wait(self, holds: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None:
                pytest.fail(f"prepare has ended: {self.log()}")
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.5)

    def log(self) -> str:
        """The end of what the job printed."""
        return self._log.read_text(errors="replace")[-2000:]

    def restored(self) -> int:
        """How often it was restarted, each time from a checkpoint."""
        return int(self.cluster.rest.checkpoints(self.id)["counts"]["restored"])

    def completed(self) -> int:
        """How many checkpoints it has completed."""
        return int(self.cluster.rest.checkpoints(self.id)["counts"]["completed"])

    def end(self) -> int:
        """Cancels it; the exit code of `prepare`."""
        with contextlib.suppress(OSError):
            self.cluster.rest.cancel(self.id)
        return self.process.wait(60)
