"""What a signal does to a stream, and what its user reads then: here, and on a cluster."""

import pathlib

import pytest
from flink_rest import JOB, flink_rest
from helpers import job

from penstock.io.beam.local.stopping import is_stopping, stream
from penstock.io.beam.windows import parse_window
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.windowed.manifest import Closing, WindowManifest
from penstock.io.dataset.windowed.resume import StreamFile
from penstock.io.errors import ConfigError, DataError
from pipelines._report.process import started_for_a_job
from pipelines._report.signals import NotStopped, Stopped
from pipelines._run import stopping as _stopping
from pipelines._run.flink_job import FlinkJob
from pipelines._run.staging import pending_windows
from pipelines._run.stopping import Stopping, check_stopping, stop_here, stop_on_flink

CHECKPOINT = {"latest": {"completed": {"external_path": "s3://c/chk-7"}}}


@pytest.fixture
def cluster():
    with flink_rest() as cluster:
        yield cluster


def stopped(monkeypatch, is_idle=True, **fields) -> str:
    """What is said of a stream on this machine."""
    monkeypatch.setattr(_stopping, "wait_until_idle", lambda seconds: is_idle)
    with stream() as name:
        said = stop_here(Stopping(**fields, stream=name))
        assert is_stopping(name)
    assert isinstance(said, Stopped)
    return str(said)


def unreadable():
    raise DataError("windows/x.json: no JSON")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param(
            {"open_windows": lambda: ["20260101T120000Z_20260101T120100Z", "20260101T120100Z_20260101T120200Z"]},
            "Stopped. 2 windows stay open (from 2026-01-01T12:00:00Z); the same command goes on with them.",
            id="two",
        ),
        pytest.param(
            {"open_windows": lambda: ["20260101T120000.500000Z_20260101T120001Z"]},
            "Stopped. 1 window stays open (from 2026-01-01T12:00:00.500000Z); the same command goes on with it.",
            id="one",
        ),
        pytest.param({}, "Stopped. No window is open; the same command goes on.", id="none"),
        pytest.param(
            {"open_windows": unreadable},
            "Stopped; which windows are open cannot be read (windows/x.json: no JSON); the same command goes on.",
            id="unreadable",
        ),
        pytest.param(
            {"goes_on": False, "is_idle": False},
            "Stopped. No window is open; the next start reads from the beginning, into another folder.",
            id="files",
        ),
        pytest.param(
            {"is_idle": False},
            "Stopped. No window is open; the same command goes on. What was not finished after 6 s is read again.",
            id="not finished",
        ),
    ],
)
def test_a_stream_here_stops_in_two_lines(monkeypatch, capsys, fields, said):
    assert stopped(monkeypatch, **fields) == said
    first = "Stopping: nothing more is read, and what was read is finished. Another Ctrl-C ends it at once.\n"
    assert capsys.readouterr().err == first


def test_a_stop_is_no_error_and_a_stop_that_failed_is_one():
    def run(error):
        def fails(_):
            raise error

        return job(run=fails)

    assert run(Stopped("Stopped. It is.")) == (130, "Stopped. It is.\n")
    assert run(NotStopped("the job runs on")) == (1, "python -m pipelines.prepare: error: the job runs on\n")


def test_a_job_that_is_left(cluster):
    assert str(stop_on_flink(FlinkJob(cluster.address, JOB), "name", Stopping())) == (
        f"The job runs on: {cluster.address}/#/job/b"
    )
    assert str(stop_on_flink(None, "name", Stopping())) == "The job runs on: name"
    assert cluster.asked == []


def test_a_job_that_is_cancelled(cluster):
    flink_job, how = FlinkJob(cluster.address, JOB), Stopping(stop_with="cancel")
    cluster.answers["/jobs/b"] = [{"state": "CANCELED"}]
    assert str(stop_on_flink(flink_job, "name", how)) == (
        "Cancelled job b, which has no checkpoint yet. Windows that are published are whole."
    )
    cluster.answers["/jobs/b/checkpoints"] = [CHECKPOINT]
    assert str(stop_on_flink(flink_job, "name", how)) == (
        "Cancelled job b. To go on from its last checkpoint:\n  this command with --savepoint_path=s3://c/chk-7"
    )


def test_a_job_that_ends_with_a_savepoint_says_the_command_that_goes_on(cluster, capsys):
    cluster.answers["/jobs/b/stop"] = [{"request-id": "r"}]
    operation = {"location": "s3://savepoints/2 x"}
    cluster.answers["/jobs/b/savepoints/r"] = [{"status": {"id": "COMPLETED"}, "operation": operation}]
    typed = ["prepare", "--input", "in/*.csv", "--savepoint_path", "s3://savepoints/1", "--output=o"]
    with started_for_a_job("penstock ", typed):
        said = stop_on_flink(FlinkJob(cluster.address, JOB), "name", Stopping(stop_with="savepoint"))
    assert str(said) == (
        "Stopped with the savepoint s3://savepoints/2 x; to go on:\n"
        "  penstock prepare --input 'in/*.csv' --output=o '--savepoint_path=s3://savepoints/2 x'"
    )
    assert type(said) is Stopped
    assert capsys.readouterr().err == "Stopping job b with a savepoint. Another Ctrl-C ends only this program.\n"


@pytest.mark.parametrize("stop_with", ["savepoint", "cancel"])
def test_a_job_that_cannot_be_stopped_runs_on(cluster, stop_with):
    cluster.answers = {}
    said = stop_on_flink(FlinkJob(cluster.address, JOB), "name", Stopping(stop_with=stop_with))
    assert type(said) is NotStopped
    assert str(said) == (
        f"the job runs on, it could not be stopped: 404 Not Found: Not found. ({cluster.address}/#/job/b)"
    )
    said = stop_on_flink(None, "name", Stopping(stop_with=stop_with))
    assert type(said) is NotStopped
    assert str(said) == "the job name may run on: the cluster does not answer, or does not know it yet"


def test_a_cluster_without_a_folder_for_savepoints_is_found_out_before_the_job_starts(cluster):
    how = Stopping(stop_with="savepoint")
    with pytest.raises(ConfigError, match=r"--stop_with savepoint asks the cluster .*: pass --flink_master=HOST:PORT"):
        check_stopping(how, None)
    cluster.answers["/jobmanager/config"] = [[{"key": "rest.port", "value": "8081"}]]
    with pytest.raises(ConfigError, match=r"has no folder for savepoints: pass --savepoint_dir, or set execution\."):
        check_stopping(how, cluster.address)
    check_stopping(Stopping(stop_with="savepoint", savepoint_dir="s3://x"), cluster.address)
    check_stopping(Stopping(stop_with="cancel"), cluster.address)
    check_stopping(Stopping(), None)
    cluster.answers["/jobmanager/config"] = [[{"key": "state.savepoints.dir", "value": "s3://x"}]]
    check_stopping(how, cluster.address)
    check_stopping(how, "http://127.0.0.1:1")  # which the submission tells


STREAM = ["--input=kafka://127.0.0.1:1/t", "--window=fixed:60s", "--num_shards=1", "--schema=x", "--output=out"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input=a.csv", "--output=out", "--on_running=refuse"], "--on_running is for a stream on Flink (--runner"),
        (
            [*STREAM, "--on_running=cancel"],
            "--on_running is for a stream on Flink (--runner FlinkRunner): leave it out",
        ),
        (
            [*STREAM, "--runner=FlinkRunner", "--on_running=attach", "--savepoint_path=s3://x"],
            "--on_running attach goes on with the job that runs, and --savepoint_path starts one: leave out one",
        ),
        (["--input=a.csv", "--output=out", "--stop_with=leave"], "--stop_with is for a stream, and this input has an"),
        ([*STREAM, "--stop_with=cancel"], "--stop_with is for a stream on Flink (--runner FlinkRunner): leave it out"),
        (
            [*STREAM, "--runner=FlinkRunner", "--savepoint_dir=s3://x"],
            "--savepoint_dir is where --stop_with savepoint writes: pass that too, or leave it out",
        ),
        (
            [*STREAM, "--runner=FlinkRunner", "--savepoint_dir=s3://x", "--stop_with=cancel"],
            "--savepoint_dir is where --stop_with savepoint writes: pass that too, or leave it out",
        ),
    ],
)
def test_flags_that_the_job_has_no_use_for(flags, message):
    code, said = job(*flags)
    assert (code, message in said) == (2, True), said


def manifest(folder, name, **fields) -> WindowManifest:
    """Writes the manifest of a window."""
    counts = dict.fromkeys(["rows_in", "rows_out", "rows_rejected", "rows_on_time", "rows_late"], 0)
    texts = {"run_id": "r", "dataset_id": "d", "created": "2026-01-01T00:00:00Z", "status": "published"}
    empty = {"shards": (), "dead_letters": (), "rejected_by_reason": {}, "rejected_by_stage": {}, "inputs": ()}
    made = WindowManifest(
        **{
            **counts,
            **texts,
            **empty,
            "window": ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            "windows": "fixed:1m",
            "final": True,
            "sequence": 1,
            "splits": {"eval": 0, "train": 0},
            "compression": "gzip",
            "shuffle": "global",
            "seed": 0,
            "num_shards": 2,
            **fields,
        }
    )
    (folder / "windows").mkdir(exist_ok=True)
    (folder / "windows" / f"{name}.json").write_text(made.to_json())
    return made


def test_windows_are_open_while_rows_of_them_are_there_and_no_final_manifest(tmp_path):
    staging = Staging(str(tmp_path), "run")
    assert pending_windows(staging) == []
    names = [f"20260101T0000{second}Z_20260101T000100Z" for second in ("30", "20.500000", "20", "10")]
    for name in names:
        folder = tmp_path / ".tmp-run" / "chunks" / name
        folder.mkdir(parents=True)
        (folder / "chunk").write_bytes(b"")
    manifest(tmp_path, names[0], final=False)
    manifest(tmp_path, names[3])
    assert pending_windows(staging) == [names[2], names[1], names[0]]


def test_windows_that_had_passed_before_their_rows_came_are_not_pending(tmp_path):
    staging = Staging(str(tmp_path), "r")
    windows = parse_window("fixed:10s")
    for start in (0, 10_000_000):
        chunk = pathlib.Path(staging.path("chunks", windows.name(start), "c"))
        chunk.parent.mkdir(parents=True)
        chunk.write_bytes(b"")
    reached = Closing(1, 1, clock=10_000_000, resume_at={})
    assert StreamFile("r", 1, "", {}, {}, reached=reached).write(staging, replaces=0)
    assert pending_windows(staging) == [windows.name(10_000_000)]
