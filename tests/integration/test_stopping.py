"""A stream that is stopped, here and on Flink, and what its user reads when what runs it has died."""

import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from forked import Program
from helpers import write_jsonl
from services.events import SCHEMA
from services.stream_job import StreamJob

from penstock.io.dataset.windowed.manifest import read_window_manifests

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

# Milliseconds.
_START = 1_750_000_000_000
_SECONDS = 60


def add_rows(folder: pathlib.Path, name: str, seconds: range) -> None:
    """A file with a row for each of some seconds."""
    folder.mkdir(exist_ok=True)
    rows = [{"id": second, "user": "u", "amount": 0.5, "at": _START + 1000 * second} for second in seconds]
    write_jsonl(folder / f".{name}", rows).rename(folder / f"{name}.jsonl")


def wait_for(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


class LocalStream:
    """`prepare` of a folder on Prism, in a session of its own, as in a terminal."""

    def __init__(self, folder: pathlib.Path, prism: str):
        self.output, self._log = folder / "dataset", folder / "log"
        (folder / "schema.pbtxt").write_text(SCHEMA)
        command = ["-m", "pipelines.prepare", f"--input={folder}/in/*.jsonl", "--watch=0.3"]
        command += [f"--schema={folder}/schema.pbtxt", "--event_time=at:ms", f"--output={self.output}"]
        command += ["--window=fixed:10s", "--num_shards=1", f"--prism_location={prism}"]
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        with self._log.open("wb") as log:
            self.process = Program(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )

    def windows(self) -> int:
        return len(list(read_window_manifests(str(self.output)))) if self.output.exists() else 0

    def prism(self) -> int:
        """The process of its Prism."""
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], capture_output=True, text=True
        )
        return int(next(line.split()[0] for line in listed.stdout.splitlines() if "--job_port" in line))

    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()


@pytest.fixture
def local_stream(tmp_path, prism):
    add_rows(tmp_path / "in", "a", range(_SECONDS))
    stream = LocalStream(tmp_path, prism)
    wait_for(lambda: stream.windows() >= 4)
    yield stream
    stream.process.kill()


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_signal_stops_a_stream_in_two_lines(local_stream, number, to_all):
    prism = local_stream.prism()
    if to_all:  # as a terminal does
        os.killpg(local_stream.process.pid, number)
    else:
        local_stream.process.send_signal(number)
    assert local_stream.process.wait(20) == 128 + number
    lines = local_stream.lines()[2:]
    assert lines[0].startswith("Stopping: nothing more is read, and what was read is finished.")
    assert re.fullmatch(
        r"Stopped\. \d windows? stays? open \(from 2025-06-15T15:0\d:\d\dZ\); the next start reads "
        r"from the beginning, into another folder\.",
        lines[1],
    )
    assert len(lines) == 2
    assert not pathlib.Path(f"/proc/{prism}").exists()
    assert list(local_stream.temporary.iterdir()) == []


def test_another_ctrl_c_ends_a_stream_and_its_prism_at_once(local_stream):
    prism = local_stream.prism()
    local_stream.process.send_signal(signal.SIGTERM)
    wait_for(lambda: len(local_stream.lines()) == 3)
    local_stream.process.send_signal(signal.SIGINT)
    assert local_stream.process.wait(2) == 128 + signal.SIGTERM
    assert local_stream.lines()[3:] == [
        "interrupted again: temporary files are left behind, which the next run removes"
    ]
    wait_for(lambda: not pathlib.Path(f"/proc/{prism}/exe").exists(), 5)


def test_a_prism_that_dies_is_named_in_one_line(local_stream):
    os.kill(local_stream.prism(), signal.SIGKILL)
    assert local_stream.process.wait(20) == 1
    assert local_stream.lines()[2:] == [
        "python -m pipelines.prepare: error: Prism, Beam's local runner, has died under the job (killed by SIGKILL); "
        "what is published is whole, and the next start reads from the beginning, into another folder"
    ]


@pytest.mark.parametrize("stop_with", ["savepoint", "cancel", "leave"])
def test_ctrl_c_does_to_a_job_on_flink_what_stop_with_says(tmp_path, flink_cluster, stop_with):
    add_rows(tmp_path / "in", "a", range(_SECONDS))
    job = StreamJob(flink_cluster, f"{tmp_path}/in/*.jsonl", tmp_path, "--watch=1", f"--stop_with={stop_with}")
    try:
        job.wait_for("a checkpoint", lambda: job.completed() > 0)
        job.wait_for("how to stop it", lambda: f"/#/job/{job.id}" in job.log())
        job.process.send_signal(signal.SIGTERM)
        assert job.process.wait(120) == 128 + signal.SIGTERM
        last = job.log().splitlines()
        if stop_with == "leave":
            assert (job.state(), last[-1]) == (
                "RUNNING",
                f"The job runs on: {flink_cluster.rest.address}/#/job/{job.id}",
            )
            return
        what, ended = ("Cancelled job", "CANCELED") if stop_with == "cancel" else ("Stopped with", "FINISHED")
        wait_for(lambda: job.state() == ended)  # the savepoint is there a moment before
        assert last[-2].startswith(what)
        found = re.search(r"--savepoint_path=file:(\S+)$", last[-1])
        assert found
        assert pathlib.Path(found[1]).is_dir()
        assert last[-1].startswith(f"  python -m pipelines.prepare '--input={tmp_path}/in/*.jsonl' --format=")
    finally:
        job.end()


def test_a_job_that_fails_again_and_again_is_told_with_the_reason(tmp_path, flink_cluster):
    add_rows(tmp_path / "in", "a", range(_SECONDS))
    job = StreamJob(flink_cluster, f"{tmp_path}/in/*.jsonl", tmp_path, "--watch=1")
    try:
        job.wait_for("a window", lambda: any(job.output.glob("windows/*")))
        for path in job.output.iterdir():  # nothing can be written any more
            if path.is_dir() and path.name.startswith(".tmp-"):
                path.rename(path.with_name("gone"))
                path.write_text("")
        for number in range(4):
            add_rows(tmp_path / "in", f"b{number}", range(_SECONDS * (number + 1), _SECONDS * (number + 2)))
        job.wait_for("the reason", lambda: "The job has failed 3 times for one reason" in job.log())
        assert "Flink starts it again: " in job.log()
    finally:
        job.end()


def test_a_dead_job_server_leaves_the_job_running(tmp_path, flink_cluster):
    add_rows(tmp_path / "in", "a", range(_SECONDS))
    job = StreamJob(flink_cluster, f"{tmp_path}/in/*.jsonl", tmp_path, "--watch=1")
    try:
        job.wait_for("how to stop it", lambda: f"/#/job/{job.id}" in job.log())
        flink_cluster.job_server.kill()
        assert job.process.wait(60) == 1
        (last,) = [line for line in job.log().splitlines() if "Beam's job server" in line]
        assert last == job.log().splitlines()[-1]
        assert last.endswith(
            f"the job runs on, only this program has ended: {flink_cluster.rest.address}/#/job/{job.id}"
        )
        assert "Traceback" not in job.log()
        assert flink_cluster.rest.state(job.id) == "RUNNING"
    finally:
        flink_cluster.job_server.start()
        job.end()


def test_a_dead_job_manager_is_named_with_the_way_on(tmp_path, flink_cluster):
    add_rows(tmp_path / "in", "a", range(_SECONDS))
    job = StreamJob(flink_cluster, f"{tmp_path}/in/*.jsonl", tmp_path, "--watch=1")
    try:
        job.wait_for("a checkpoint", lambda: job.completed() > 0)
        job.wait_for("how to stop it", lambda: f"/#/job/{job.id}" in job.log())
        time.sleep(12)  # until `prepare` has seen it too
        flink_cluster.job_manager.kill()
        assert job.process.wait(240) == 1
        assert "does not answer any more; with high availability the job runs on" in job.log()
        assert "--savepoint_path=file:" in job.log().splitlines()[-1]
        assert "Traceback" not in job.log()
    finally:
        job.process.kill()
        flink_cluster.stop()
        flink_cluster.start()
