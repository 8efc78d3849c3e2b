"""A job that still writes a dataset on a Flink cluster: whether it is found, and what becomes of it."""

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from flink_rest import flink_rest

from penstock.io.dataset.layout import Staging
from penstock.io.dataset.windowed.resume import StreamFile
from penstock.io.errors import ConfigError, RunnerError
from pipelines._cli.beam import beam_options
from pipelines._cli.flags import job_parser, parse_job
from pipelines._cli.options import RunOptions
from pipelines._run.flink_job import FlinkJob
from pipelines._run.running import job_name, make_way, name_job, running_job

FIRST, OTHER = "20260101T000000Z-1a2b3c4d", "20260101T000000Z-00000000"


@pytest.fixture
def cluster():
    with flink_rest() as cluster:
        cluster.answers["/jobs/overview"] = [{"jobs": []}]
        yield cluster


@pytest.fixture
def output(tmp_path):
    """A dataset that the run FIRST began."""
    assert StreamFile(FIRST, 1, "2026-01-01T00:00:00Z", {}, {}).write(Staging(str(tmp_path), FIRST), replaces=0)
    return str(tmp_path)


def options(address: str | None, *flags: str) -> PipelineOptions:
    where = [f"--flink_master={address}"] if address else []
    _, beam = parse_job(job_parser("job", "", "", [RunOptions]), ["--runner=FlinkRunner", *where, *flags])
    return beam_options(beam.arguments)


def a_job(jid: str, dataset: str, state: str = "RUNNING", start: int = 1, folder: str = "out") -> dict[str, object]:
    return {"jid": jid, "name": job_name(folder, dataset, f"run-{jid}"), "state": state, "start-time": start}


@pytest.mark.parametrize(
    ("jobs", "found"),
    [
        pytest.param([], None, id="none"),
        pytest.param([a_job("a", FIRST)], "a", id="its own"),
        pytest.param([a_job("a", FIRST, folder="s3://moved/or spelled/otherwise/")], "a", id="another folder"),
        pytest.param([a_job("a", FIRST, "RESTARTING")], "a", id="one that restarts"),
        pytest.param([a_job("a", OTHER)], None, id="another dataset of this name"),
        pytest.param([{**a_job("a", FIRST), "name": "beamapp"}], None, id="of a name that the user gave"),
        pytest.param([a_job("a", FIRST, state) for state in ("CANCELED", "FAILED", "FINISHED")], None, id="ended"),
        pytest.param([a_job("a", FIRST, start=2), a_job("b", FIRST, start=9)], "b", id="two"),
    ],
)
def test_the_job_of_a_dataset_is_found(cluster, output, jobs, found):
    cluster.answers["/jobs/overview"] = [{"jobs": jobs}]
    job = running_job(options(cluster.address), output, None)
    assert job == (found and FlinkJob(cluster.address, found))


def test_the_name_of_a_job_is_the_one_that_is_looked_for(cluster, output):
    named = options(cluster.address)
    name_job(named, output, FIRST, OTHER)
    name = named.view_as(GoogleCloudOptions).job_name
    assert str(name).startswith("penstock-test_the_name_of")
    cluster.answers["/jobs/overview"] = [{"jobs": [{**a_job("a", FIRST), "name": name}]}]
    assert running_job(options(cluster.address), output, None) == FlinkJob(cluster.address, "a")


def test_a_job_keeps_the_name_that_the_user_gives(output):
    named = options(None, "--job_name=mine")
    name_job(named, output, FIRST, OTHER)
    assert named.view_as(GoogleCloudOptions).job_name == "mine"
    elsewhere = PipelineOptions(["--runner=DataflowRunner"])
    name_job(elsewhere, output, FIRST, OTHER)
    assert elsewhere.view_as(GoogleCloudOptions).job_name is None


def test_a_new_dataset_has_no_job(cluster, tmp_path):
    cluster.answers = {}
    assert running_job(options(cluster.address), str(tmp_path), "refuse") is None


def test_who_cannot_look_says_so_only_to_those_who_asked(cluster, output):
    silent = options("http://127.0.0.1:1")
    assert running_job(silent, output, None) is None
    with pytest.raises(ConfigError, match=r"--on_running attach: the cluster at http://127.0.0.1:1 does not answer: "):
        running_job(silent, output, "attach")
    assert running_job(options(None), output, None) is None
    with pytest.raises(ConfigError, match=r"--on_running cancel looks for .*, and needs --flink_master=HOST:PORT, the"):
        running_job(options(None), output, "cancel")
    with pytest.raises(ConfigError, match=r"--on_running refuse looks for .*, and needs no --job_name"):
        running_job(options(cluster.address, "--job_name=mine"), output, "refuse")


@pytest.mark.parametrize("how", [None, "cancel"])
def test_a_job_makes_way(cluster, capsys, how):
    cluster.answers["/jobs/b"] = [{"state": "CANCELLING"}, {"state": "CANCELED"}]
    make_way(FlinkJob(cluster.address, "b"), "out", how)
    assert cluster.asked == [("PATCH", "/jobs/b", None)]
    said = "Cancelled job b, which wrote to out; --on_running attach watches such a job instead.\n"
    assert capsys.readouterr().err == said


def test_a_job_that_cannot_be_ended_is_told(cluster):
    cluster.answers = {}
    with pytest.raises(RunnerError, match=r"job b writes to out, and could not be cancelled: 404 .*; cancel it, and"):
        make_way(FlinkJob(cluster.address, "b"), "out", None)


def test_a_job_that_is_to_be_left_is_left(cluster):
    with pytest.raises(
        ConfigError, match=r"--output out: job b writes there \(.*/#/job/b\); --on_running attach watch"
    ):
        make_way(FlinkJob(cluster.address, "b"), "out", "refuse")
    assert cluster.asked == []
