"""The runner of a stream: which, with what options, and what its user reads."""

import http.server
import json
import threading

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions
from apache_beam.testing import test_stream
from helpers import job

from penstock.io.dead_letters.handler import DeadLetterHandler
from penstock.io.errors import ConfigError
from penstock.io.write import WriteDataset
from pipelines._cli.beam import beam_options
from pipelines._cli.flags import job_parser, parse_job
from pipelines._cli.flink import STREAM_DEFAULTS, FlinkJobOptions, find_job, flink_address
from pipelines._cli.options import RunOptions
from pipelines._run.stream import StreamRunner, stream_runner, wait_for_stream


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


class _Flink(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.path == "/jobs/overview"
        self.send_response(200)
        self.end_headers()
        jobs = [{"jid": "a", "name": "other"}, {"jid": "b", "name": "its-name_1"}]
        self.wfile.write(json.dumps({"jobs": jobs}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def flink():
    """A stand-in for Flink's REST interface."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Flink) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_job_is_found_by_its_name(flink):
    assert find_job(flink, "its-name_1_0b8e-uuid") == "b"
    assert find_job(flink, "none_0b8e-uuid", seconds=0.1) is None


class _Result:
    """A job that ends in some way, once its user has been told about it."""

    _job_id = "its-name_1_0b8e-uuid"

    def __init__(self, error: BaseException | None = None):
        self._error = error

    def wait_until_finish(self) -> None:
        for thread in threading.enumerate():
            if "_tell_how_to_stop" in thread.name:
                thread.join()
        if self._error is not None:
            raise self._error


def test_how_to_stop_a_stream_on_flink(capsys, flink):
    wait_for_stream(_Result(), StreamRunner("FlinkRunner", flink))
    printed = capsys.readouterr().err
    assert f"Flink runs the stream: {flink}/#/job/b\n" in printed
    assert "flink stop -p FOLDER b\n" in printed
    assert "--resume --savepoint_path=SAVEPOINT\n" in printed


@pytest.mark.parametrize(
    ("runner", "message"),
    [
        (StreamRunner("PrismRunner"), "Streaming; Ctrl-C stops it."),
        (StreamRunner("DataflowRunner"), "Streaming as job its-name_1_0b8e-uuid; Ctrl-C ends only this program."),
    ],
)
def test_how_to_stop_a_stream_elsewhere(capsys, runner, message):
    wait_for_stream(_Result(), runner)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runner", "message"),
    [
        (StreamRunner("PrismRunner"), "stopped; the windows that are published are whole"),
        (StreamRunner("DataflowRunner"), "the job runs on: its-name_1_0b8e-uuid"),
    ],
)
def test_ctrl_c_says_what_runs_on(runner, message):
    assert job(run=lambda _: wait_for_stream(_Result(KeyboardInterrupt()), runner))[1].endswith(f"error: {message}\n")


def test_a_cancelled_stream_has_not_failed(capsys):
    cancelled = RuntimeError("failed in state FAILED: org.x.JobCancellationException: Job was cancelled.")
    wait_for_stream(_Result(cancelled), StreamRunner("DataflowRunner"))
    assert capsys.readouterr().err.endswith("The job was cancelled.\n")
    with pytest.raises(RuntimeError, match="a fault"):
        wait_for_stream(_Result(RuntimeError("a fault")), StreamRunner("DataflowRunner"))


@pytest.mark.parametrize("with_handler", [True, False])
def test_a_stream_is_one_graph_that_flink_restarts_as_a_whole(tmp_path, with_handler):
    pipeline = beam.Pipeline()
    batches = pipeline | test_stream.TestStream().advance_watermark_to_infinity().with_output_types(pa.RecordBatch)
    handler = DeadLetterHandler(str(tmp_path / "rejects"), "run") if with_handler else None
    _ = batches | WriteDataset(str(tmp_path), num_shards=2, window="fixed:1m", dead_letters=handler, run_id="run")
    transforms = pipeline.to_runner_api().components.transforms.values()
    others = [transform.unique_name for transform in transforms if transform.spec.urn == "beam:transform:impulse:v1"]
    assert others == [], "they are no part of what the stream feeds"
