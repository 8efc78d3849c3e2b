"""Metrics over HTTP, read by the parser of Prometheus itself; tests/integration/test_metrics.py has a real server."""

import dataclasses
import socket
import urllib.error
import urllib.request

import pytest
from helpers import job, run_prepare, write_csv
from prometheus_client.parser import text_string_to_metric_families

from penstock.io.beam.progress import Counts, ReadPosition
from penstock.io.errors import ConfigError, MissingExtraError
from penstock.io.files import extras
from pipelines._report import metrics
from pipelines._report.metrics import serving_metrics
from pipelines._report.result import WRONG_USAGE

ONE, HOSTILE = "kafka://a:1/events/0", 'kafka://a:1/x"y\\z\n{}=,#é/1'
COUNTS = Counts(
    {"rows": 20, "rejected": 4, "late": 3, "windows": 5, "final": 2, "bad": 1},
    {},
    {"open": 7, "waiting": 12, "opened": 9, "published_at": 1_767_225_600},
    {ONE: ReadPosition(1_500_000, 10, 25), HOSTILE: ReadPosition(None, 3, None, is_idle=True)},
)


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, sample.labels.get("partition")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("penstock_")
    }


def test_all_that_is_counted_is_served():
    with serving_metrics("127.0.0.1", 0, lambda: COUNTS) as port:
        found = scraped(port)
    assert found == {
        ("penstock_build_info", None): 1,
        ("penstock_rows_in_total", None): 20,
        ("penstock_rows_rejected_total", None): 4,
        ("penstock_rows_late_total", None): 3,
        ("penstock_windows_published_total", None): 5,
        ("penstock_windows_final_total", None): 2,
        ("penstock_windows_quarantined_total", None): 1,
        ("penstock_windows_open", None): 7,
        ("penstock_rows_waiting", None): 12,
        ("penstock_last_published_timestamp_seconds", None): 1_767_225_600,
        ("penstock_watermark_timestamp_seconds", ONE): 1.5,
        ("penstock_next_offset", ONE): 10,
        ("penstock_next_offset", HOSTILE): 3,
        ("penstock_lag_offsets", ONE): 15,
        ("penstock_partition_idle", ONE): 0,
        ("penstock_partition_idle", HOSTILE): 1,
    }


def test_counters_are_there_before_anything_is_counted():
    with serving_metrics("127.0.0.1", 0, lambda: Counts({}, {})) as port:
        assert scraped(port)["penstock_rows_in_total", None] == 0


def test_each_answer_is_of_its_moment():
    counts = [COUNTS]
    with serving_metrics("127.0.0.1", 0, lambda: counts[0]) as port:
        scraped(port)
        counts[0] = dataclasses.replace(COUNTS, done={"rows": 21})
        assert scraped(port)["penstock_rows_in_total", None] == 21


def test_the_server_ends_with_the_block_and_says_where_it_is(capsys):
    with serving_metrics("127.0.0.1", 0) as port:
        assert capsys.readouterr().err == f"Metrics: http://127.0.0.1:{port}/metrics\n"
    with pytest.raises(urllib.error.URLError):
        scraped(port)
    with serving_metrics("127.0.0.1", port):
        assert scraped(port)


def test_the_server_ends_with_a_block_that_fails():
    with pytest.raises(RuntimeError), serving_metrics("127.0.0.1", 0) as port:
        raise RuntimeError
    with pytest.raises(urllib.error.URLError):
        scraped(port)


def test_it_listens_on_loopback_alone():
    with serving_metrics("127.0.0.1", 0) as port, socket.create_server(("127.0.0.2", port)):
        pass  # a server on all addresses would have this one too


def test_without_a_port_nothing_is_served(capsys):
    with serving_metrics("127.0.0.1", None) as port:
        assert (port, capsys.readouterr().err) == (None, "")


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=rf"--metrics_port {number}: cannot listen .*; pass another port, or 0"),
            serving_metrics("127.0.0.1", number),
        ):
            pass


def test_a_host_that_is_not_ours():
    with (
        pytest.raises(ConfigError, match=r"--metrics_port 0: cannot listen on 192\.0\.2\.1:0"),
        serving_metrics("192.0.2.1", 0),
    ):
        pass


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", dataclasses.replace(extras.METRICS, modules=("no_such_module",)))
    with (
        pytest.raises(MissingExtraError, match=r"--metrics_port needs prometheus-client: pip install '.\[metrics"),
        serving_metrics("127.0.0.1", 0),
    ):
        pass


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--metrics_port=x"], "must be the number of a port, from 0 to 65535, got 'x'", id="no number"),
        pytest.param(["--metrics_port=65536"], "must be the number of a port, from 0 to 65535", id="too large"),
        pytest.param(
            ["--metrics_host=::1"], "--metrics_host is the address of --metrics_port: pass that", id="no port"
        ),
        pytest.param(
            ["--metrics_port=0", "--runner=FlinkRunner"],
            "the workers of --runner=FlinkRunner are elsewhere: leave it out",
            id="elsewhere",
        ),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, flags, message):
    source = write_csv(tmp_path / "rows.csv", [{"id": 1}], ("id",))
    code, stderr = job("--input", source, "--output", tmp_path / "out", *flags)
    assert (code, message in stderr) == (WRONG_USAGE, True), stderr
    assert not (tmp_path / "out").exists()


def test_a_job_whose_port_is_taken_reads_nothing(tmp_path):
    source = write_csv(tmp_path / "rows.csv", [{"id": 1}], ("id",))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, stderr = job("--input", source, "--output", tmp_path / "out", f"--metrics_port={port}")
    assert (code, "cannot listen on 127.0.0.1" in stderr) == (WRONG_USAGE, True), stderr
    assert not (tmp_path / "out").exists()


def test_a_job_serves_its_counts(tmp_path, monkeypatch):
    source = write_csv(tmp_path / "rows.csv", [{"id": number} for number in range(9)], ("id",))
    found = []
    from pipelines._jobs import prepare as _prepare

    before = _prepare.tell
    port = {}
    monkeypatch.setattr("pipelines._report.metrics.say", lambda text: port.update(at=text.split(":")[-1].split("/")[0]))
    monkeypatch.setattr(_prepare, "tell", lambda *given: found.append(scraped(port["at"])) or before(*given))
    assert run_prepare("--input", source, "--output", tmp_path / "out", "--metrics_port=0") == 0
    assert found[0]["penstock_rows_in_total", None] == 9
