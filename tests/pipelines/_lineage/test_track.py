"""What is told of a run, from its beginning to its end; tests/integration has OpenLineage's own classes judge it."""

import functools
import json
import logging
import os
import uuid

import pytest
from helpers import job, manifest_of, write_csv
from lineage_server import lineage_server

from penstock.io.errors import ConfigError
from pipelines._jobs import prepare as _prepare
from pipelines._lineage import track
from pipelines._lineage.events import PRODUCER, run_uuid
from pipelines._lineage.transport import Delivery, HttpTransport
from pipelines._options.lineage import LineageOptions, LineageTarget
from pipelines._report.signals import Interrupted
from pipelines._report.windows import PublishedWindows

ROWS = [{"x": number, "name": f"n{number}", "y": None if number % 4 else number / 8} for number in range(40)]
PARENT = "airflow/prod/flights.prepare/8f1d3c0e-5d8a-4f0e-9b37-0a3b1c2d3e4f"

# Of each part of an event, what the spec (2-0-2) requires.
REQUIRED = {
    "event": {"eventTime", "producer", "schemaURL", "run", "job"},
    "run": {"runId"},
    "job": {"namespace", "name"},
    "dataset": {"namespace", "name"},
    "facet": {"_producer", "_schemaURL"},
}


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """On a machine that is busy, events take longer than a job waits."""
    monkeypatch.setattr(track, "Delivery", functools.partial(Delivery, finish_seconds=60))
    monkeypatch.setattr(track, "HttpTransport", functools.partial(HttpTransport, timeout=60))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE_")]:
        monkeypatch.delenv(name)


def prepared(tmp_path, *flags, rows=ROWS):
    """Exit code, what was said, and the events of a run."""
    write_csv(tmp_path / "in.csv", rows, ["x", "name", "y"])
    path = tmp_path / "events.jsonl"
    flags = ("--input", tmp_path / "in.csv", "--output", tmp_path / "flights", "--openlineage_file", path, *flags)
    code, said = job(*flags)
    return code, said, [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check(event):
    """Refuses an event without what the spec requires of each of its parts."""
    assert {*event} >= REQUIRED["event"]
    assert {*event["run"]} >= REQUIRED["run"]
    uuid.UUID(event["run"]["runId"])
    assert {*event["job"]} >= REQUIRED["job"]
    facets = [*event["run"]["facets"].values(), *event["job"]["facets"].values()]
    for dataset in (*event["inputs"], *event["outputs"]):
        assert {*dataset} >= REQUIRED["dataset"]
        for name in ("facets", "inputFacets", "outputFacets"):
            facets += dataset.get(name, {}).values()
    for facet in facets:
        assert {*facet} >= REQUIRED["facet"]
        assert facet["_producer"] == event["producer"] == PRODUCER


def test_a_run_is_told_from_its_start_to_its_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "prod")
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", PARENT)
    code, said, events = prepared(tmp_path)
    assert (code, said) == (0, said)
    manifest = manifest_of(tmp_path / "flights")
    for event in events:
        check(event)
    start, complete = events
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"] == run_uuid(manifest.run_id)
    assert {**complete["job"], "facets": None} == {"namespace": "prod", "name": "prepare.flights", "facets": None}
    assert complete["run"]["facets"]["parent"]["job"] == {"namespace": "airflow/prod", "name": "flights.prepare"}
    assert complete["job"]["facets"]["jobType"]["processingType"] == "BATCH"
    (read,), (written,) = complete["inputs"], complete["outputs"]
    assert (read["namespace"], read["name"]) == ("file", str(tmp_path / "in.csv"))
    statistics = read["inputFacets"]["inputStatistics"]
    assert (statistics["rowCount"], statistics["fileCount"]) == (40, 1)
    assert statistics["size"] == (tmp_path / "in.csv").stat().st_size
    assert (written["namespace"], written["name"]) == ("file", str(tmp_path / "flights"))
    assert written["facets"]["version"]["datasetVersion"] == manifest.dataset_id
    assert written["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    assert {field["name"] for field in written["facets"]["schema"]["fields"]} == {"x", "name", "y"}
    statistics = written["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["fileCount"]) == (40, len(manifest.shards))
    assert statistics["size"] == sum(shard.bytes for shard in manifest.shards)
    metrics = written["facets"]["dataQualityMetrics"]
    assert metrics["rowCount"] == 40
    assert (metrics["columnMetrics"]["x"]["max"], metrics["columnMetrics"]["y"]["nullCount"]) == (39, 30)
    assert f"OpenLineage's events of the run went to {tmp_path}/events.jsonl" in capsys.readouterr().out


def test_the_statistics_of_splits_are_told_as_one(tmp_path):
    _, _, events = prepared(tmp_path, "--split", "train=0.5,eval=0.5")
    metrics = events[-1]["outputs"][0]["facets"]["dataQualityMetrics"]
    assert metrics["rowCount"] == 40
    assert metrics["columnMetrics"]["x"] == {"nullCount": 0, "count": 40, "min": 0, "max": 39}


def test_a_run_that_fails_says_why(tmp_path):
    (tmp_path / "rules.yaml").write_text("rules:\n- {name: none, sql: x < 0}\n")
    code, _, (_, fail) = prepared(tmp_path, "--rules", tmp_path / "rules.yaml")
    check(fail)
    assert (code, fail["eventType"]) == (1, "FAIL")
    assert "40 of 40 rows were rejected" in fail["run"]["facets"]["errorMessage"]["message"]
    assert fail["outputs"][0]["facets"] == {}


def test_a_run_that_is_interrupted_is_aborted(tmp_path, monkeypatch):
    def interrupted(*_):
        raise Interrupted

    monkeypatch.setattr(_prepare, "_write_dataset", interrupted)
    code, _, (_, abort) = prepared(tmp_path)
    check(abort)
    assert (code, abort["eventType"]) == (130, "ABORT")


def test_what_is_added_alters_the_dataset(tmp_path):
    prepared(tmp_path)
    write_csv(tmp_path / "more.csv", ROWS[:7], ["x", "name", "y"])
    flags = ("--append", "--output", tmp_path / "flights", "--openlineage_file", tmp_path / "events.jsonl")
    assert job("--input", tmp_path / "more.csv", *flags)[0] == 0
    *_, event = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert event["outputs"][0]["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "ALTER"
    assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 7


def test_the_server_of_the_environment_is_told_and_named(tmp_path, monkeypatch, capsys):
    with lineage_server() as server:
        monkeypatch.setenv("OPENLINEAGE_URL", server.url)
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "secret")
        write_csv(tmp_path / "in.csv", ROWS, ["x", "name", "y"])
        code, said = job("--input", tmp_path / "in.csv", "--output", tmp_path / "out")
        assert code == 0
    assert [event["eventType"] for event in server.events] == ["START", "COMPLETE"]
    shown = capsys.readouterr().out
    assert f"went to {server.url}/api/v1/lineage (OPENLINEAGE_URL)" in shown
    assert "secret" not in shown + said


def test_a_server_that_is_not_there_fails_no_job(tmp_path, capsys, caplog):
    code, _, events = prepared(tmp_path, "--openlineage_url", "http://127.0.0.1:1")
    assert (code, len(events)) == (0, 2)
    assert "2 of 2 events did not reach http://127.0.0.1:1/api/v1/lineage" in caplog.text
    assert "OpenLineage's events" not in capsys.readouterr().out


def test_what_cannot_be_found_out_is_left_out_of_an_event(tmp_path, monkeypatch, caplog):
    def damaged(_):
        raise OSError("no disk")

    monkeypatch.setattr(track, "_columns", damaged)
    code, _, (_, complete) = prepared(tmp_path)
    assert (code, "schema" in complete["outputs"][0]["facets"]) == (0, False)
    assert "OpenLineage: something is left out of an event: no disk" in caplog.text


@pytest.mark.parametrize("parent", ["a/b", "a/b/c", "/b/0f8fad5b-d9cb-469f-a165-70867728950e"])
def test_a_parent_that_is_none_is_left_out(tmp_path, monkeypatch, caplog, parent):
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", parent)
    run = track.RunOfJob("r", "n", "j", {}, False, ("Beam", "1"), parent)
    assert "parent" not in run.event("START", [], [])["run"]["facets"]
    assert "OPENLINEAGE_PARENT_ID is not NAMESPACE/JOB/RUN_ID" in caplog.text


def test_a_stream_tells_what_it_has_published(monkeypatch):
    told, looks = [], iter([0, 0, 5, 5, 9])

    class Told(track._Told):
        def __init__(self):
            self._output, self._done = "out", self
            self._put = lambda make: told.append(make())
            self._event = lambda kind, written: (kind, written.rows)

        def wait(self, _):
            rows = next(looks, None)
            monkeypatch.setattr(PublishedWindows, "look", lambda windows: None)
            monkeypatch.setattr(PublishedWindows, "rows_out", lambda windows: rows)
            return rows is None

    Told()._look_on()
    assert told == [("RUNNING", 5), ("RUNNING", 9)]


@pytest.mark.parametrize("url", ["localhost:5000", "ftp://host", "http://", "http://host/?key=1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match=r"--openlineage_url must be http\(s\)://HOST\[:PORT\]\[/PATH\], got"):
        LineageOptions(openlineage_url=url).check()


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="set OPENLINEAGE_API_KEY in the environment") as error:
        LineageOptions(openlineage_url="http://me:secret@host").check()
    assert "secret" not in str(error.value)


def test_a_name_that_nobody_is_told_is_refused():
    with pytest.raises(ConfigError, match="--openlineage_job is for the events of --openlineage_url or"):
        LineageOptions(openlineage_job="x").check()


def test_the_environment_can_switch_it_off():
    environment = {"OPENLINEAGE_URL": "http://host", "OPENLINEAGE_DISABLED": "True"}
    assert LineageTarget.of(LineageOptions(), environment) is None
    assert LineageTarget.of(LineageOptions(), {}) is None


def test_an_endpoint_of_the_environment_is_below_the_server():
    environment = {"OPENLINEAGE_URL": "http://host/x/", "OPENLINEAGE_ENDPOINT": "/events"}
    target = LineageTarget.of(LineageOptions(), environment)
    assert (target.url, target.api_key, target.namespace) == ("http://host/x/events", None, "default")


def test_a_wrong_environment_is_warned_of_and_fails_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        assert LineageTarget.of(LineageOptions(), {"OPENLINEAGE_URL": "host"}) is None
        target = LineageTarget.of(LineageOptions(openlineage_file="x"), {"OPENLINEAGE_API_KEY": "two\nlines"})
    assert target.api_key is None
    assert "OPENLINEAGE_URL must be http(s)://HOST" in caplog.text
    assert "two" not in caplog.text
