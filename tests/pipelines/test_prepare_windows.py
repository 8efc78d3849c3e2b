"""The main job from files, with windows: published at the end, when all are whole."""

import datetime

import pytest
from helpers import job, run_prepare, tree, window_examples, write_csv, write_schema_file

from penstock.io.beam.durations import MAX_AHEAD, ZERO
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.errors import ConfigError, DataError
from pipelines._cli.streams import StreamOptions
from pipelines._jobs import prepare as _prepare
from pipelines._plan.plan import Plan
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE
from pipelines.verify import run as verify

FIVE_MINUTES = datetime.timedelta(minutes=5)
START = 1_700_000_000
FLAGS = ("--event_time=time:s", "--window=fixed:60s", "--num_shards=1")


def write_rows(path, minutes, per_minute=5):
    rows = [{"id": i, "time": START // 60 * 60 + 60 * m + i} for m in range(minutes) for i in range(per_minute)]
    return write_csv(path, rows, ("id", "time"))


def windows_of(output):
    return list(read_window_manifests(str(output)))


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "rows.csv", 3)


def test_each_window_is_a_dataset(tmp_path, rows):
    out = tmp_path / "out"
    assert run_prepare("--input", rows, "--output", out, *FLAGS) == DONE
    windows = windows_of(out)
    assert [(window.rows_on_time, window.final) for window in windows] == [(5, True)] * 3
    assert sorted(row["id"] for row in window_examples(out, windows[1])) == [[0], [1], [2], [3], [4]]
    assert not list(out.glob(".tmp-*"))
    assert verify(["--dataset", str(out)]) == DONE


def test_overwriting_replaces_all_windows(tmp_path, rows):
    out = tmp_path / "out"
    assert run_prepare("--input", rows, "--output", out, *FLAGS) == DONE
    assert job("--input", rows, "--output", out, *FLAGS)[0] == WRONG_USAGE
    fewer = write_rows(tmp_path / "fewer.csv", 1)
    assert run_prepare("--input", fewer, "--output", out, *FLAGS, "--overwrite") == DONE
    assert len(windows_of(out)) == 1
    assert verify(["--dataset", str(out)]) == DONE


def fails(*_, **__):
    raise DataError("out of luck")


@pytest.mark.parametrize(
    ("owner", "step"), [(_prepare, "infer_schema"), (_prepare, "build"), (Plan, "check_and_split")]
)
def test_a_run_that_fails_leaves_the_old_windows(tmp_path, rows, monkeypatch, owner, step):
    out = tmp_path / "out"
    assert run_prepare("--input", rows, "--output", out, *FLAGS) == DONE
    before = tree(out)
    monkeypatch.setattr(owner, step, fails)
    assert job("--input", rows, "--output", out, *FLAGS, "--overwrite")[0] == DATA_FAILED
    assert tree(out) == before
    assert not list(out.glob(".tmp-*"))


def test_a_new_folder_of_a_run_that_fails_is_gone(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(_prepare, "build", fails)
    assert job("--input", rows, "--output", tmp_path / "out", *FLAGS)[0] == DATA_FAILED
    assert not (tmp_path / "out").exists()


def test_no_rows_are_an_error(tmp_path):
    path = write_csv(tmp_path / "rows.csv", [], ("id", "time"))
    schema = write_schema_file(tmp_path / "schema.pbtxt", id="INT", time="INT")
    code, stderr = job("--input", path, "--schema", schema, "--output", tmp_path / "out", *FLAGS)
    assert (code, "no rows" in stderr) == (DATA_FAILED, True), stderr
    assert not (tmp_path / "out").exists()


def test_only_streams_are_resumed(tmp_path, rows):
    code, stderr = job("--input", rows, "--output", tmp_path / "out", *FLAGS, "--resume")
    assert (code, "--resume goes on with a stream, and this input has an end" in stderr) == (WRONG_USAGE, True)


@pytest.mark.parametrize(
    ("reason", "kind", "bad"), [("schema.type", "INT", "x"), ("schema.domain", "INT int_domain { max: 99 }", "100")]
)
def test_a_reject_is_in_the_window_of_its_event_time(tmp_path, rows, reason, kind, bad):
    with open(rows, "a") as file:
        file.write(f"{bad},{START // 60 * 60 + 130}\n")
    path = write_schema_file(tmp_path / "schema.pbtxt", id=kind, time="INT")
    out = tmp_path / "out"
    run_prepare("--input", rows, "--output", out, "--schema", path, "--max_reject_fraction=0.5", *FLAGS)
    assert [window.rejected_by_reason for window in windows_of(out)] == [{}, {}, {reason: 1}]
    assert [window.rows_foreign for window in windows_of(out)] == [0, 0, 0]


def test_a_row_of_the_future_is_taken_from_input_with_an_end_unless_it_is_refused(tmp_path, rows):
    with open(rows, "a") as file:
        file.write("7,32472144000\n")
    run_prepare("--input", rows, "--output", tmp_path / "all", *FLAGS)
    assert windows_of(tmp_path / "all")[-1].window[0] == "2999-01-01T00:00:00.000000Z"
    out = tmp_path / "out"
    run_prepare("--input", rows, "--output", out, "--max_ahead=1h", *FLAGS)
    first, *others = windows_of(out)
    assert (first.rejected_by_reason, first.rows_foreign, first.status) == ({"future": 1}, 1, "published")
    assert [window.rows_rejected for window in others] == [0, 0]


def test_a_guard_on_time_needs_times(tmp_path, rows):
    with pytest.raises(ConfigError, match="--max_ahead is about event times: pass --event_time COLUMN"):
        run_prepare("--input", rows, "--output", tmp_path / "out", "--max_ahead=1h")


@pytest.mark.parametrize(
    ("given", "stream", "bounded"),
    [(None, MAX_AHEAD, None), ("none", None, None), ("0s", ZERO, ZERO), ("5m", FIVE_MINUTES, FIVE_MINUTES)],
)
def test_streams_alone_have_a_guard_on_time_without_the_flag(given, stream, bounded):
    options = StreamOptions(max_ahead=given)
    assert (options.guard(is_endless=True), options.guard(is_endless=False)) == (stream, bounded)


def test_a_guard_on_time_is_a_duration_or_none(tmp_path, rows, capsys):
    with pytest.raises(SystemExit):
        run_prepare("--input", rows, "--output", tmp_path / "out", "--max_ahead=soon")
    assert "--max_ahead: a duration must be a whole number with ms, s, m, h or d" in capsys.readouterr().err
