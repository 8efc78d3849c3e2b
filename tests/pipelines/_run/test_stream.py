"""The runner of a stream: which, with what options, and what its user reads."""

import threading
import time

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions
from apache_beam.runners.portability import prism_runner
from apache_beam.testing import test_stream
from flink_rest import JOB, NAME, flink_rest
from helpers import job

from penstock.io.beam import progress
from penstock.io.dead_letters.handler import DeadLetterHandler
from penstock.io.errors import ConfigError, RunnerError
from penstock.io.write import WriteDataset
from pipelines._cli.beam import beam_options
from pipelines._cli.flags import job_parser, parse_job
from pipelines._cli.flink import STREAM_DEFAULTS, FlinkJobOptions, find_job, flink_address
from pipelines._cli.options import RunOptions
from pipelines._report.signals import Stopped
from pipelines._run import stream as _stream
from pipelines._run.flink_job import FlinkJob
from pipelines._run.stopping import Stopping
from pipelines._run.stream import StreamRunner, stream_runner, wait_for_stream, watch_stream


def parsed(*flags: str) -> PipelineOptions:
    _, beam = parse_job(job_parser("job", "", "", [RunOptions]), flags)
    return beam_options(beam.arguments)


def test_a_stream_on_flink_gets_checkpoints_unless_told_otherwise():
    options = parsed("--runner=FlinkRunner", "--flink_master=host:8081", "--checkpointing_interval=2000")
    assert stream_runner(options) == StreamRunner("FlinkRunner", "http://host:8081")
    found = options.view_as(FlinkJobOptions)
    assert {name: getattr(found, name) for name in STREAM_DEFAULTS} == {
        **STREAM_DEFAULTS,
        "checkpointing_interval": 2000,
    }
    assert options.view_as(StandardOptions).streaming
    assert options.view_as(PortableOptions).environment_cache_millis == 0, "a dead worker stays in a cache"


def test_a_switch_that_is_a_default_can_be_turned_off():
    options = parsed("--runner=FlinkRunner", "--finish_bundle_before_checkpointing=false")
    stream_runner(options)
    assert options.view_as(FlinkJobOptions).finish_bundle_before_checkpointing is False


def test_a_switch_is_true_or_false():
    with pytest.raises(ConfigError, match="--allow_non_restored_state: must be true or false, got 'maybe'"):
        parsed("--allow_non_restored_state=maybe")


def test_a_batch_job_sets_none_of_them():
    options = parsed("--runner=FlinkRunner").view_as(FlinkJobOptions)
    assert all(getattr(options, name) is None for name in STREAM_DEFAULTS)


@pytest.mark.parametrize("runner", ["DataflowRunner", "some.module.Runner"])
def test_other_runners_just_stream(runner):
    options = parsed(f"--runner={runner}")
    assert stream_runner(options) == StreamRunner(runner)
    assert options.view_as(StandardOptions).streaming
    assert options.view_as(FlinkJobOptions).checkpointing_interval is None


@pytest.mark.parametrize("flags", [(), ("--runner=DirectRunner",), ("--runner=PrismRunner",)])
def test_a_local_stream_runs_on_prism(tmp_path, flags):
    (tmp_path / "prism").write_bytes(b"")
    assert stream_runner(parsed(*flags, f"--prism_location={tmp_path}/prism")) == StreamRunner("PrismRunner")


def test_prism_that_cannot_be_had_is_named_with_the_way_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be fetched .*; build it with Go: go install .*--prism_location="):
        stream_runner(parsed(f"--prism_location={tmp_path}/none"))


def test_without_a_network_prism_is_missed_before_the_stream_starts(tmp_path, monkeypatch):
    def no_network(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(prism_runner, "urlopen", no_network)
    monkeypatch.setattr(prism_runner.PrismJobServer, "BIN_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"Prism, .* cannot be fetched .*not known.*; build it with Go: go install"):
        stream_runner(parsed())


@pytest.mark.parametrize(
    ("runner", "message"),
    [
        ("SparkRunner", "SparkRunner cannot run a Python pipeline on a stream; --runner=FlinkRunner can"),
        ("FnApiRunner", "FnApiRunner cannot run a stream; leave it out"),
    ],
)
def test_runners_that_cannot_stream_are_refused(runner, message):
    with pytest.raises(ConfigError, match=message):
        stream_runner(parsed(f"--runner={runner}"))


@pytest.mark.parametrize(
    ("flags", "address"),
    [
        (("--runner=FlinkRunner", "--flink_master=host:8081"), "http://host:8081"),
        (("--runner=FlinkRunner", "--flink_master=https://host/flink/"), "https://host/flink"),
        (("--runner=FlinkRunner", "--flink_master=[local]"), None),
        (("--runner=FlinkRunner",), None),
        (("--runner=DataflowRunner", "--flink_master=host:8081"), None),
    ],
)
def test_address_of_a_cluster(flags, address):
    assert flink_address(parsed(*flags)) == address


@pytest.fixture
def flink():
    """A stand-in for Flink's REST interface."""
    with flink_rest() as cluster:
        yield cluster


def test_a_job_is_found_by_its_name(flink):
    assert find_job(flink.address, NAME) == JOB
    assert find_job(flink.address, "none_0b8e-uuid", seconds=0.1) is None


class _Result:
    """A job that ends in some way, once its user has been told about it."""

    _job_id = NAME

    def __init__(self, error: BaseException | None = None, wait=lambda: None):
        self._error = error
        self._wait = wait

    def wait_until_finish(self) -> None:
        told = [thread for thread in threading.enumerate() if "(_watch)" in thread.name]
        while told and not _stream.TOLD.wait(0.01):
            told = [thread for thread in told if thread.is_alive()]
        self._wait()
        if self._error is not None:
            raise self._error


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """Notes that a user has been told how to stop the stream."""
    _stream.TOLD = threading.Event()
    tell = _stream._tell_how_to_stop

    def tell_and_note(*arguments):
        tell(*arguments)
        _stream.TOLD.set()

    monkeypatch.setattr(_stream, "_tell_how_to_stop", tell_and_note)
    yield
    del _stream.TOLD


def test_how_to_stop_a_stream_on_flink(capsys, flink):
    wait_for_stream(_Result(), StreamRunner("FlinkRunner", flink.address), Stopping())
    printed = capsys.readouterr().err
    assert f"Flink runs the stream: {flink.address}/#/job/b\n" in printed
    assert "flink stop -p FOLDER b\n" in printed
    assert "this command with --savepoint_path=SAVEPOINT\n" in printed


@pytest.mark.parametrize(
    ("runner", "stopping", "message"),
    [
        ("PrismRunner", Stopping(), "Streaming; Ctrl-C stops it, with its windows whole; the same command goes on."),
        ("PrismRunner", Stopping(goes_on=False), "whole; the next start reads from the beginning, into"),
        ("DataflowRunner", Stopping(), f"Streaming as job {NAME}; Ctrl-C ends only this program."),
        ("FlinkRunner", Stopping(stop_with="cancel"), "/#/job/b\nCtrl-C cancels the job."),
        ("FlinkRunner", Stopping(stop_with="savepoint"), "/#/job/b\nCtrl-C ends the job with a savepoint."),
    ],
)
def test_how_to_stop_a_stream_elsewhere(capsys, flink, runner, stopping, message):
    address = flink.address if runner == "FlinkRunner" else None
    wait_for_stream(_Result(), StreamRunner(runner, address), stopping)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runner", "message"),
    [
        (StreamRunner("PrismRunner"), "Stopped. No window is open; the same command goes on."),
        (StreamRunner("DataflowRunner"), f"The job runs on: {NAME}"),
    ],
)
def test_ctrl_c_says_what_runs_on(runner, message):
    def run(error):
        return job(run=lambda _: wait_for_stream(_Result(error), runner, Stopping()))

    assert run(KeyboardInterrupt())[1].endswith(f"{message}\n")
    wrapped = RuntimeError("of Beam")
    wrapped.__context__ = KeyboardInterrupt()
    code, printed = run(wrapped)
    assert (code, printed.endswith(f"{message}\n")) == (130, True)


def test_ctrl_c_does_to_a_job_on_flink_what_was_asked_for(flink):
    flink.answers[f"/jobs/{JOB}"] = [{"state": "CANCELED"}]
    runner, how = StreamRunner("FlinkRunner", flink.address), Stopping(stop_with="cancel")
    with pytest.raises(Stopped, match="Cancelled job b, which has no checkpoint yet"):
        wait_for_stream(_Result(KeyboardInterrupt()), runner, how)
    assert flink.asked == [("PATCH", f"/jobs/{JOB}", None)]


def test_a_job_that_restarts_for_one_reason_is_told_of_once(capsys, flink, monkeypatch):
    monkeypatch.setattr(_stream, "_WATCH_SECONDS", 0.01)
    failures = [{"stacktrace": "x.JobException: y\n\tat z\nCaused by: java.io.IOException: No space left"}] * 3
    flink.answers[f"/jobs/{JOB}/exceptions"] = [
        {"exceptionHistory": {"entries": failures[:2]}},
        (500, "a cluster that has much to do"),
        {"exceptionHistory": {"entries": failures}},
    ]
    flink.answers[f"/jobs/{JOB}/checkpoints"] = [{"latest": {"completed": {"external_path": "s3://c/chk-7"}}}]
    runner = StreamRunner("FlinkRunner", flink.address)
    wait_for_stream(_Result(wait=lambda: time.sleep(0.5)), runner, Stopping())
    line = "The job has failed 3 times for one reason, and Flink starts it again: java.io.IOException: No space left"
    assert capsys.readouterr().err.count(line) == 1
    assert runner.checkpoint == "s3://c/chk-7"


def test_a_job_that_runs_is_watched_until_it_is_cancelled(capsys, flink, monkeypatch):
    monkeypatch.setattr(_stream, "_POLL_SECONDS", 0.01)
    states = ["RUNNING", "RESTARTING", (503, ""), "CANCELED"]
    flink.answers[f"/jobs/{JOB}"] = [state if isinstance(state, tuple) else {"state": state} for state in states]
    watch_stream(FlinkJob(flink.address, JOB), Stopping())
    said = capsys.readouterr().err
    assert f"Flink runs the stream: {flink.address}/#/job/b\n" in said
    assert said.endswith("The job was cancelled.\n")


def test_a_job_that_is_watched_fails_with_its_reason(flink):
    flink.answers[f"/jobs/{JOB}"] = [{"state": "FAILED"}]
    with pytest.raises(RunnerError, match="the job has failed: Flink gives no reason"):
        watch_stream(FlinkJob(flink.address, JOB), Stopping())
    failures = {"entries": [{"stacktrace": "x.Y: z\n\tat z\nCaused by: java.io.IOException: No space left"}]}
    flink.answers[f"/jobs/{JOB}/exceptions"] = [{"exceptionHistory": failures}]
    with pytest.raises(RunnerError, match=r"the job has failed: java\.io\.IOException: No space left"):
        watch_stream(FlinkJob(flink.address, JOB), Stopping())


def test_a_job_that_is_watched_and_lost_is_given_up(flink, monkeypatch):
    monkeypatch.setattr(_stream, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(_stream, "_LOST_SECONDS", 0.05)
    flink.answers[f"/jobs/{JOB}"] = [{"state": "RUNNING"}, (404, {"errors": ["Job not found"]})]
    with pytest.raises(
        RunnerError, match=r"job b is not to be found any more \(404 .*Job not found\): the JobManager at"
    ):
        watch_stream(FlinkJob(flink.address, JOB), Stopping())


def test_ctrl_c_does_to_a_job_that_is_watched_what_was_asked_for(flink, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_stream, "_end_of", interrupt)
    flink.answers[f"/jobs/{JOB}"] = [{"state": "CANCELED"}]
    with pytest.raises(Stopped, match="Cancelled job b, which has no checkpoint yet"):
        watch_stream(FlinkJob(flink.address, JOB), Stopping(stop_with="cancel"))


def test_a_job_manager_that_falls_silent_is_told_of_once(capsys, flink, monkeypatch):
    monkeypatch.setattr(_stream, "_WATCH_SECONDS", 0.01)
    monkeypatch.setattr(_stream, "_SILENCE_SECONDS", 0.05)
    flink.answers[f"/jobs/{JOB}/exceptions"] = [(503, "")]
    wait_for_stream(_Result(wait=lambda: time.sleep(0.5)), StreamRunner("FlinkRunner", flink.address), Stopping())
    line = f"Still waiting: the JobManager at {flink.address} does not answer any more; with high availability the job"
    assert capsys.readouterr().err.count(line) == 1


@pytest.mark.parametrize(("closed", "noted", "times"), [(7, 5, 1), (7, 7, 0), (7, None, 0)])
def test_windows_that_a_local_runner_has_lost_sight_of_are_told_of_once(capsys, monkeypatch, closed, noted, times):
    monkeypatch.setattr(_stream, "_WATCH_SECONDS", 0.01)
    monkeypatch.setattr(_stream, "_STALL_SECONDS", 0.05)
    progress.reset()
    progress.tell(closed=closed, **({} if noted is None else {"noted": noted}))
    wait_for_stream(_Result(wait=lambda: time.sleep(0.5)), StreamRunner("PrismRunner"), Stopping())
    progress.reset()
    line = (
        "2 versions of windows that have closed are not published, and nothing has happened for 0.05 s: the runner may"
    )
    said = capsys.readouterr().err
    assert said.count(line) == times
    assert said.count("Their rows are not lost: stop it (Ctrl-C), and the same command goes on.") == times


def test_a_cancelled_stream_has_not_failed(capsys):
    cancelled = RuntimeError("failed in state FAILED: org.x.JobCancellationException: Job was cancelled.")
    wait_for_stream(_Result(cancelled), StreamRunner("DataflowRunner"), Stopping())
    assert capsys.readouterr().err.endswith("The job was cancelled.\n")
    with pytest.raises(RuntimeError, match="a fault"):
        wait_for_stream(_Result(RuntimeError("a fault")), StreamRunner("DataflowRunner"), Stopping())


@pytest.mark.parametrize("with_handler", [True, False])
def test_a_stream_is_one_graph_that_flink_restarts_as_a_whole(tmp_path, with_handler):
    pipeline = beam.Pipeline()
    batches = pipeline | test_stream.TestStream().advance_watermark_to_infinity().with_output_types(pa.RecordBatch)
    handler = DeadLetterHandler(str(tmp_path / "rejects"), "run") if with_handler else None
    _ = batches | WriteDataset(str(tmp_path), num_shards=2, window="fixed:1m", dead_letters=handler, run_id="run")
    transforms = pipeline.to_runner_api().components.transforms.values()
    others = [transform.unique_name for transform in transforms if transform.spec.urn == "beam:transform:impulse:v1"]
    assert others == [], "they are no part of what the stream feeds"
