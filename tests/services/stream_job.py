"""`prepare` from a topic of events into windows, as a process: on Prism, and on a Flink cluster."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from deploy.flink.local_cluster import LocalCluster
from deploy.flink.service import children
from forked import Program
from services.events import SCHEMA, sums

# Milliseconds.
WINDOW, LATENESS, ORDER = 5_000, 10_000, 2_000

EVENT_TIME = (
    "--event_time=at:ms",
    f"--window=fixed:{WINDOW}ms",
    f"--allowed_lateness={LATENESS}ms",
    f"--out_of_orderness={ORDER}ms",
)


class Stream:
    """`prepare` from a topic into a folder, or into a store, in a session of its own, as in a terminal.

    The log goes on from start to start; `log` has what this one printed.
    """

    def __init__(
        self,
        uri: str,
        folder: pathlib.Path,
        *flags: str,
        schema: str = SCHEMA,
        windows: Sequence[str] = EVENT_TIME,
        env: Mapping[str, str] = {},
        output: str = "",
    ):
        self.output = folder / "dataset"
        self.written = output or str(self.output)
        self._log = folder / "prepare.log"
        (folder / "schema.pbtxt").write_text(schema)
        command = ["-m", "pipelines.prepare", f"--input={uri}", "--format=jsonl"]
        command += [f"--schema={folder}/schema.pbtxt", f"--output={self.written}", *windows, "--num_shards=2", *flags]
        with self._log.open("ab") as log:
            self._begin = log.tell()
            self.process = Program(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **env}
            )

    def log(self) -> str:
        """What this start has printed."""
        return self._log.read_bytes()[self._begin :].decode(errors="replace")

    def wait_for(self, what: str, holds: Callable[[], bool], seconds: float = 300) -> None:
        """Returns when something holds; fails when it does not in that time, or the job has ended."""
        deadline = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None:
                pytest.fail(f"prepare has ended: {self.log()[-3000:]}")
            if time.monotonic() > deadline:
                pytest.fail(f"not after {seconds} s: {what}; {dict(sums(self.written))}; {self.log()[-3000:]}")
            time.sleep(0.3)

    def signal(self, number: signal.Signals) -> int:
        """Sends a signal to `prepare`; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(120)


class PrismStream(Stream):
    """On a Prism of its own, with its temporary files in the same folder."""

    def __init__(self, prism: str, uri: str, folder: pathlib.Path, *flags: str, **options: Any):
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        env = {"TMPDIR": str(self.temporary)}
        super().__init__(uri, folder, f"--prism_location={prism}", *flags, env=env, **options)

    def prism(self) -> int:
        """The process of its Prism."""
        (found,) = children(self.process.pid)
        return found


class StreamJob(Stream):
    """On a cluster, and what the cluster says about it."""

    def __init__(self, cluster: LocalCluster, uri: str, folder: pathlib.Path, *flags: str, **options: Any):
        self.cluster = cluster
        known = {job["jid"] for job in cluster.rest.jobs()}
        here = ["--parallelism=2", "--checkpointing_interval=2000", *cluster.flags()]
        super().__init__(uri, folder, *here, *flags, **options)
        self.wait_for("its job", lambda: any(self._is_new(job, known) for job in cluster.rest.jobs()))
        self.id = next(job["jid"] for job in cluster.rest.jobs() if self._is_new(job, known))

    @staticmethod
    def _is_new(job: dict[str, Any], known: set[str]) -> bool:
        return job["state"] == "RUNNING" and job["jid"] not in known

    def restored(self) -> int:
        """How often it was restarted, each time from a checkpoint."""
        return int(self.cluster.rest.checkpoints(self.id)["counts"]["restored"])

    def is_restored(self, before: int) -> bool:
        """Whether it runs from a checkpoint once more than so often; nobody may answer meanwhile."""
        with contextlib.suppress(OSError):
            return self.state() == "RUNNING" and self.restored() > before
        return False

    def completed(self) -> int:
        """How many checkpoints it has completed."""
        return int(self.cluster.rest.checkpoints(self.id)["counts"]["completed"])

    def state(self) -> str:
        """As Flink names it; empty while nobody answers."""
        with contextlib.suppress(OSError):
            return self.cluster.rest.state(self.id)
        return ""

    def end(self) -> int:
        """Cancels it; the exit code of `prepare`."""
        with contextlib.suppress(OSError):
            self.cluster.rest.cancel(self.id)
        return self.process.wait(60)
