"""A real Prometheus reads the metrics of jobs."""

import json
import os
import pathlib
import re
import signal
import time

import pytest
from forked import Program
from helpers import write_schema_file
from services.prometheus import Prometheus, prometheus_binary

from penstock.io.beam.progress import Counts, ReadPosition
from pipelines._report.metrics import serving_metrics

pytestmark = pytest.mark.integration

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "penstock-tests"
ONE, HOSTILE = "kafka://a:1/events/0", 'kafka://a:1/x"y\\z\n{}=,#é/1'
COUNTS = Counts(
    {"rows": 20, "windows": 5},
    {},
    {"open": 7},
    {ONE: ReadPosition(1_500_000, 10, 25), HOSTILE: ReadPosition(None, 3, 4)},
)


@pytest.fixture(scope="module")
def binary():
    try:
        return prometheus_binary(CACHE)
    except RuntimeError as error:
        missing = pytest.fail if os.environ.get("PENSTOCK_NO_SKIP") else pytest.skip
        return missing(str(error))


@pytest.fixture
def watched(tmp_path, binary):
    """Starts a Prometheus that asks a port of this machine."""
    started = []

    def start(port):
        server = Prometheus(tmp_path, binary, f"127.0.0.1:{port}")
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


def values(server, expression, seconds=60, wanted=lambda found: found):
    """The samples of an expression by partition, once they are as wanted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        samples = server.query(expression)
        found = {sample["metric"].get("partition"): float(sample["value"][1]) for sample in samples}
        if wanted(found):
            return found
        time.sleep(0.5)
    pytest.fail(f"{expression} is still {found} after {seconds} s")


def test_values_and_labels_arrive_as_they_are(watched):
    with serving_metrics("127.0.0.1", 0, lambda: COUNTS) as port:
        server = watched(port)
        assert values(server, "penstock_rows_in_total") == {None: 20}
        assert values(server, "penstock_windows_open") == {None: 7}
        assert values(server, "penstock_next_offset") == {ONE: 10, HOSTILE: 3}
        assert values(server, "penstock_lag_offsets") == {ONE: 15, HOSTILE: 1}
        assert values(server, "penstock_watermark_timestamp_seconds") == {ONE: 1.5}
        assert values(server, "up") == {None: 1}
    assert values(server, "up", wanted=lambda found: found == {None: 0}), "the server ends with the job"


def test_a_stream(tmp_path, prism, watched):
    """Files that come, on Prism: its rows and windows are counted, and the server ends with it."""
    schema = write_schema_file(tmp_path / "schema.pbtxt", id="INT", time="INT")
    rows = [json.dumps({"id": number, "time": 1_700_000_000 + number}) for number in range(300)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(rows) + "\n")
    argv = (
        *("-m", "pipelines.prepare", f"--input={tmp_path}/in/*.jsonl", f"--schema={schema}", "--watch=1"),
        *("--event_time=time:s", "--window=fixed:60s", "--num_shards=1", "--idle_timeout=2s", "--metrics_port=0"),
        *(f"--output={tmp_path}/out", f"--prism_location={prism}"),
    )
    with (tmp_path / "stderr").open("w") as log, Program(argv, stderr=log) as job:
        try:
            server = watched(_port(tmp_path / "stderr"))
            assert values(server, "penstock_rows_in_total", 120, lambda found: found == {None: 300})
            assert values(server, "penstock_windows_published_total", 120, lambda found: found.get(None, 0) >= 5)
            assert values(server, "penstock_last_published_timestamp_seconds")[None] > 1_700_000_000
        finally:
            job.send_signal(signal.SIGINT)
            job.wait(60)


def _port(log: pathlib.Path) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := re.search(r"Metrics: http://127.0.0.1:(\d+)/metrics", log.read_text()):
            return int(found[1])
        time.sleep(0.2)
    pytest.fail(log.read_text())
