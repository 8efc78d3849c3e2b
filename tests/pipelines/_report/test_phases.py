"""What the counters tell: the phase that a pipeline is in, and how far it is."""

import pyarrow as pa
import pytest
from helpers import run_prepare, write_csv, write_jsonl, write_parquet, write_schema_file, write_tfrecord

from penstock.io.beam import progress
from penstock.io.beam.progress import Counts, ReadPosition
from pipelines import verify
from pipelines._report.phases import PUBLISH, READ, ROLL, STREAM, VERIFY, WRITE, Phase, Status, current_phase

PHASES = [READ, ROLL, WRITE, PUBLISH]
READING = {"parts": 3, "bytes": 1000}


def counts(planned=None, **done):
    return Counts(done, planned or {})


@pytest.mark.parametrize(
    ("found", "phase"),
    [
        pytest.param(counts(), None, id="nothing is known"),
        pytest.param(counts(READING), None, id="planned elsewhere"),
        pytest.param(counts(READING, bytes=1), READ, id="begun"),
        pytest.param(counts(READING | {"rolled": 9}, bytes=1000, parts=2), READ, id="the next is planned"),
        pytest.param(counts(READING | {"rolled": 9}, bytes=900, parts=3), ROLL, id="all parts, not all bytes"),
        pytest.param(counts(READING, rows=8, written=7), WRITE, id="writing, and nobody counts parts"),
        pytest.param(counts({"shards": 2}, shards=1, written=9), WRITE, id="one of two shards"),
        pytest.param(counts({"shards": 2}, shards=2), PUBLISH, id="all shards"),
    ],
)
def test_current_phase(found, phase):
    assert current_phase(PHASES, found) is phase


@pytest.mark.parametrize(
    ("phase", "found", "fraction"),
    [
        pytest.param(READ, counts(rows=5), None, id="no total"),
        pytest.param(READ, counts(READING, bytes=250), 0.25, id="bytes"),
        pytest.param(READ, counts(READING, bytes=1200, parts=2), 0.99, id="some read twice, a part to go"),
        pytest.param(READ, counts(READING, bytes=100, parts=2), 2 / 3, id="some need not be read"),
        pytest.param(READ, counts(READING, bytes=100, parts=3), 1.0, id="all parts"),
        pytest.param(WRITE, counts({"shards": 4}, shards=1, written=99), 0.25, id="shards, bytes unknown"),
        pytest.param(VERIFY, counts({"bytes": 10}, bytes=10), 1.0, id="bytes alone"),
        pytest.param(PUBLISH, counts(shards=3), None, id="nothing is counted"),
    ],
)
def test_fraction(phase, found, fraction):
    assert phase.fraction(found) == fraction


@pytest.mark.parametrize(
    ("phase", "found", "text"),
    [
        pytest.param(None, counts(rows=9), "writing the dataset: 1:01:05", id="unknown"),
        pytest.param(
            READ,
            counts(READING, bytes=455, rows=12_000, rejected=1_234),
            "reading: 45%, 12,000 rows, 1,234 rejected, 1,200 rows/s, 455 B of 1000 B, 1:01:05",
            id="reading",
        ),
        pytest.param(READ.named("fitting"), counts(rows=10), "fitting: 10 rows, 1 rows/s, 1:01:05", id="no total"),
        pytest.param(
            WRITE,
            counts({"shards": 4, "written": 2 << 20}, shards=1, written=1 << 20, rows=9, rejected=1),
            "writing shards: 50%, 1/4 shards, 1 rejected, 1.0 MiB of 2.0 MiB, 1:01:05",
            id="writing",
        ),
        pytest.param(
            ROLL, counts({"rolled": 1000}, rolled=999), "rolling features: 99%, 999/1,000 rows, 1:01:05", id="roll"
        ),
        pytest.param(PUBLISH, counts(), "publishing: 1:01:05", id="publishing"),
    ],
)
def test_status_as_a_line_of_a_log(phase, found, text):
    assert str(Status.of("writing the dataset", phase, found, seconds=3665.9, phase_seconds=10)) == text


def test_a_rate_over_no_time_is_not_told():
    assert "rows/s" not in str(Status.of("", READ, counts(rows=5), seconds=0, phase_seconds=0))


def test_a_phase_keeps_its_counters_under_another_name():
    assert READ.named("inferring") == Phase("inferring", READ.pieces, READ.unit, READ.amount, READ.rows)


ROWS = [{"id": row, "time": 1_700_000_000 + row} for row in range(3000)]
WINDOWS = ("--event_time=time:s", "--window=fixed:1000s", "--num_shards=2")


def at(watermark, position=10, end=10, idle=False):
    return ReadPosition(None if watermark is None else watermark * 1_000_000, position, end, idle)


A, B, C = (f"kafka://a:1,b:2/events/{number}" for number in range(3))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        pytest.param(Counts({}, {}), "0 published, 0 rows", id="nothing yet"),
        pytest.param(
            Counts({"rows": 20, "windows": 3, "final": 1, "bad": 1, "rejected": 4, "late": 5}, {}, {"open": 2}),
            "2 windows open, 3 published, 2 not final, 1 with too many rejects, 4 rejected, 5 late, 20 rows",
            id="windows",
        ),
        pytest.param(
            Counts({"rows": 7}, {}, {}, {A: at(60, 5, 10), B: at(30, 3, 1003), C: at(90)}),
            "0 published, lag 1,005, watermark 1970-01-01T00:00:30Z (events/1), 7 rows",
            id="the least watermark",
        ),
        pytest.param(
            Counts({}, {}, {}, {A: at(60), B: at(30, idle=True), C: at(None, idle=True)}),
            "0 published, lag 0, watermark 1970-01-01T00:01:00Z (events/0), 0 rows",
            id="idle ones hold nothing back",
        ),
        pytest.param(
            Counts({}, {}, {}, {A: at(60), B: at(None, 0, None), C: at(None, 0, None)}),
            "0 published, lag 0, no watermark: no good row yet of events/1 and 1 more, 0 rows",
            id="without a row",
        ),
        pytest.param(
            Counts({}, {}, {}, {A: at(60, idle=True)}), "0 published, lag 0, all partitions idle, 0 rows", id="all idle"
        ),
        pytest.param(
            Counts({"rows": 7, "windows": 1}, {}, {"up_to": 120_000_000}),
            "1 published, 1 not final, published up to 1970-01-01T00:02:00Z, 7 rows",
            id="from the dataset",
        ),
        pytest.param(
            Counts({"rows": 9, "windows": 1, "final": 1}, {}, {"open": 1, "waiting": 1234}, {A: at(60)}),
            "1,234 rows waiting, 1 published, lag 0, 9 rows",
            id="processing time, which has no watermark",
        ),
        pytest.param(
            Counts({}, {}, {}, {A: at(-62_135_596_800 * 3)}),
            "0 published, lag 0, watermark -3937-01-02T00:00:00Z (events/0), 0 rows",
            id="a wild clock",
        ),
    ],
)
def test_a_stream(found, text):
    status = Status.of("streaming", STREAM, found, seconds=3665, phase_seconds=10, rate=1234.4)
    assert str(status) == f"streaming: 1,234 rows/s, {text}, 1:01:05"


def test_a_stream_has_begun_before_its_first_row():
    assert current_phase([STREAM], Counts({}, {})) is STREAM


def all_done(*names):
    """Whether all of these were planned, and all that was planned of them is done."""
    found = progress.snapshot()
    return {name: found.done.get(name) for name in names} == {name: found.planned.get(name, -1) for name in names}


class TestAllThatIsPlannedIsDone:
    """By a job whose workers are in this process, in each way that it can go."""

    @pytest.mark.parametrize("write", ["csv", "jsonl", "parquet", "tfrecord"])
    def test_parts_of_each_format(self, tmp_path, write):
        path = tmp_path / f"in.{write}"
        match write:
            case "csv":
                write_csv(path, ROWS, ("id", "time"))
            case "jsonl":
                write_jsonl(path, ROWS)
            case "parquet":
                write_parquet(path, pa.Table.from_pylist(ROWS))
            case "tfrecord":
                write_tfrecord(path, ROWS)
        assert run_prepare("--input", path, "--output", tmp_path / "out") == 0
        found = progress.snapshot()
        assert all_done("parts", "shards", "written")
        assert found.done["rows"] == len(ROWS)
        assert found.planned["bytes"] == path.stat().st_size

    @pytest.mark.parametrize(
        ("flags", "counters"),
        [
            pytest.param(["--shuffle=global", "--num_shards=3"], ["parts", "shards", "written"], id="global"),
            pytest.param(["--shuffle=none", "--num_shards=3"], ["parts", "shards", "written"], id="none"),
            pytest.param(["--split=a=0.5,b=0.4,c=0.1"], ["parts", "shards", "written"], id="splits"),
            pytest.param(WINDOWS, ["parts", "shards", "windows"], id="windows"),
            pytest.param([*WINDOWS, "--rolling=rolling.yaml"], ["parts", "rolled", "shards", "windows"], id="rolling"),
        ],
    )
    def test_ways_to_write(self, tmp_path, monkeypatch, flags, counters):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "rolling.yaml").write_text("rolling: {key: id, window: 1h, features: {n: {op: count}}}")
        write_schema_file(tmp_path / "schema", id="INT", time="INT")
        write_csv(tmp_path / "in.csv", ROWS, ("id", "time"))
        assert run_prepare("--input=in.csv", "--schema=schema", "--output=out", *flags) == 0
        assert all_done(*counters)

    def test_bytes_that_are_verified(self, tmp_path):
        path = tmp_path / "in.csv"
        path.write_text("id\n" + "1\n2,3\n" * 500)
        assert run_prepare("--input", path, "--output", tmp_path / "out", "--max_reject_fraction=0.5") == 0
        assert verify.run([f"--dataset={tmp_path}/out"]) == 0
        assert all_done("bytes")
        assert progress.snapshot().done["rows"] == 500


def test_rejects_are_counted_and_a_new_pipeline_begins_at_zero(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id\n1\n2,3\n")
    for output in ("one", "two"):
        run_prepare("--input", path, "--output", tmp_path / output, "--max_reject_fraction=0.5")
        assert progress.snapshot().done["rejected"] == 1
