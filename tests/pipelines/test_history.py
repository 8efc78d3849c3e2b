"""What `history` shows and finds, and what it refuses."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pytest
from helpers import manifest_of, run_prepare, write_csv

from penstock.transforms.history.store import append, read
from penstock.transforms.statistics.compute import compute_statistics
from pipelines import history, verify
from pipelines._cli.command import main
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE
from pipelines._report.summary.history import sparkline

START = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)


def statistics_of(day, factor=1.0):
    random = np.random.default_rng(day)
    columns = {"fare": factor * random.gamma(2, 5, 500), "kind": ["cash", "card"] * 250, "gap": [None, 1] * 250}
    return compute_statistics([pa.record_batch(columns)])


@pytest.fixture
def dataset(tmp_path):
    """A folder with a history of thirty days, and the statistics of two more, of which one is good."""
    for day in range(30):
        append(
            str(tmp_path / "out" / "_history"),
            statistics_of(day).to_proto(),
            f"day {day}",
            created=START + datetime.timedelta(days=day),
        )
    statistics_of(30).write(str(tmp_path / "good.pb"))
    statistics_of(30, 100).write(str(tmp_path / "cents.pb"))
    return tmp_path / "out"


def told(capsys, dataset, *flags):
    code = main("history", history.run, ["--dataset", str(dataset), *map(str, flags)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def found(capsys, dataset, *flags):
    code, out, _ = told(capsys, dataset, *flags, "--json")
    return code, json.loads(out)


def test_a_change_of_unit_is_named_and_drawn(dataset, capsys):
    code, out, _ = told(capsys, dataset, "--add", dataset.parent / "cents.pb", "--run", "today")
    assert code == DONE
    assert "31 points, the newest run today" in out
    assert "metrics that have left their history: 3" in out
    assert "All Examples: mean of fare is " in out
    line = next(line for line in out.splitlines() if line.split()[2:4] == ["fare", "mean"])
    assert "▁" * 30 + "█" in line
    assert "metrics that never changed" in out


def test_a_good_day_has_nothing_to_say(dataset, capsys):
    code, out, _ = told(capsys, dataset, "--add", dataset.parent / "good.pb")
    assert code == DONE
    assert "no metric has left its history" in out


def test_the_same_file_again_changes_nothing(dataset, capsys):
    for _ in range(2):
        code, result = found(capsys, dataset, "--add", dataset.parent / "cents.pb")
        assert (code, result["points"], len(result["left"])) == (DONE, 31, 3)
    assert result["run"].startswith("cents-")


def test_one_metric(dataset, capsys):
    code, result = found(capsys, dataset, "--feature", "fare", "--metric", "mean", "--split", "All Examples")
    assert code == DONE
    (series,) = result["series"]
    assert (series["split"], series["feature"], series["metric"]) == ("All Examples", "fare", "mean")
    assert len(series["values"]) == len(series["times"]) == 30
    assert series["times"][0] == "2026-06-01T00:00:00Z"
    assert series["values"][0] == pytest.approx(statistics_of(0).to_proto().datasets[0].features[0].num_stats.mean)


def test_findings_have_all_that_is_known(dataset, capsys):
    _, result = found(capsys, dataset, "--add", dataset.parent / "cents.pb", "--metric", "median")
    (one,) = result["left"]
    assert (one["feature"], one["metric"], one["test"], one["since"], one["points"]) == (
        "fare", "median", "level", None, 31,
    )  # fmt: skip
    assert one["value"] > 50 * one["expected"]
    assert one["z"] > 10
    assert one["p"] < 1e-6
    assert one["text"].startswith("All Examples: median of fare is ")


def test_windows_have_their_bounds(tmp_path, capsys):
    start = START + datetime.timedelta(hours=3)
    append(str(tmp_path / "_history"), statistics_of(0).to_proto(), "run", (start, start + datetime.timedelta(hours=1)))
    _, result = found(capsys, tmp_path)
    assert result["window"] == ["2026-06-01T03:00:00Z", "2026-06-01T04:00:00Z"]
    assert "the newest 2026-06-01T03:00:00Z to 2026-06-01T04:00:00Z" in told(capsys, tmp_path)[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--feature", "fair"],
            "--feature fair: the history has no such feature; did you mean 'fare'? it has fare, gap,",
        ),
        (["--metric", "means"], "--metric means: the history has no such metric; did you mean 'mean'?"),
        (["--split", "x"], "--split x: the history has no such split; it has All Examples"),
        (["--feature", "kind", "--metric", "mean"], "--feature kind, --metric mean: the history has no such metric"),
        (["--run", "today"], "--run names the run of --add: pass --add FILE.pb too"),
        (["--false_alarms", "0"], "false_alarms must be above 0, got 0.0"),
        (["--time_zone", "Mars"], "time_zone must be a name of the time zone database"),
    ],
)
def test_what_is_not_there_is_refused(dataset, capsys, flags, message):
    code, _, err = told(capsys, dataset, *flags)
    assert code == WRONG_USAGE
    assert message in err


def test_no_history_is_refused(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")
    code, _, err = told(capsys, tmp_path)
    assert code == WRONG_USAGE
    assert "has no history" in err
    assert "--add FILE.pb appends the statistics of a run" in err
    assert main("history", history.run, []) == WRONG_USAGE
    assert "DATASET is required" in capsys.readouterr().err


def test_a_file_that_holds_no_statistics_is_named(dataset, capsys):
    (dataset.parent / "bad.pb").write_bytes(b"\xff\xff")
    code, _, err = told(capsys, dataset, "--add", dataset.parent / "bad.pb")
    assert code == DATA_FAILED
    assert "bad.pb" in err


def test_a_history_outlives_its_dataset_and_is_no_part_of_it(tmp_path, capsys):
    out = tmp_path / "out"
    append(str(out / "_history"), statistics_of(0).to_proto(), "before")
    source = write_csv(tmp_path / "rows.csv", [{"x": 1}, {"x": 2}], ("x",))
    flags = ("--input", source, "--output", out, "--num_shards=1")
    assert run_prepare(*flags) == DONE
    assert run_prepare(*flags, "--overwrite") == DONE
    runs = read(str(out / "_history"), feature="", metrics=["rows"])["run"].to_pylist()
    assert (len(runs), runs[0], runs[-1]) == (3, "before", manifest_of(out).run_id)
    assert main("verify", verify.run, ["--dataset", str(out)]) == DONE
    assert "good" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "bars"),
    [([1], "▄"), ([2, 2, 2], "▄▄▄"), ([0, 7], "▁█"), (range(8), "▁▂▃▄▅▆▇█"), ([-1.7e308, 1.7e308], "▁█")],
)
def test_sparklines(values, bars):
    assert sparkline(list(values)) == bars
