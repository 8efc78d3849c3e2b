import json

import pytest
from benchmarks import run
from benchmarks.contest import PROFILERS, SCENARIOS
from benchmarks.measure import Usage
from benchmarks.report import OK

NAMES = ["penstock-batches", "ydata", "tfdv"]


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """What is launched, in order; each run takes the next of `seconds` of its setting, a second if there is none."""
    runs = Launches()
    monkeypatch.setattr(run, "CACHE", tmp_path)
    monkeypatch.setattr(run, "python_of", lambda requirements: requirements.stem)
    monkeypatch.setattr(run.Arena, "launch", lambda arena, python, script, task: runs.launch(script, json.loads(task)))
    return runs


class Launches:
    """Runs nothing, and says how long it took."""

    def __init__(self):
        self.order, self.seconds, self.mistakes = [], {}, []

    def launch(self, script, task):
        if script == "check_statistics.py":
            found = {
                "rows": 100,
                "bytes": 5,
                "shards": 1,
                "digest": "",
                "computed": ["mean"],
                "mistakes": self.mistakes,
            }
            return found, None
        name = f"{script.removesuffix('_profile.py').removesuffix('.py')} {task['setting']}".strip()
        self.order.append(name)
        times = self.seconds.get(name, [])
        if (seconds := times.pop(0) if times else 1.0) is None:
            raise run.ContestantError("exit code 1: out of luck")
        return {"seconds": seconds, "cpu_besides": 0.5, "versions": {}}, Usage(0, seconds + 1, 2.0, 1000)


def bench(names=NAMES, repeat=2):
    return run.bench(SCENARIOS["statistics"], 100, names, repeat, False, 60.0)


def test_contestants_take_turns(launched):
    result = bench(["penstock-batches", "whylogs"])
    assert launched.order == ["penstock_batches", "whylogs c"] * 2
    assert [len(entry.runs) for entry in result.entries] == [2, 2]
    assert result.entries[0].best.cpu_seconds == 1.5
    assert result.entries[0].computed == ("mean",)


def test_what_is_slow_is_not_tried_again(launched):
    launched.seconds = {"ydata pyarrow": [2.5], "tfdv in_memory 1": [30.0]}
    result = bench()
    first = ["penstock_batches", "ydata c", "ydata pyarrow", "tfdv in_memory 1"]
    assert launched.order == [*first, "penstock_batches", "ydata c"]
    assert [entry.best.seconds for entry in result.entries] == [1.0, 1.0, 30.0]


def test_a_setting_that_fails_leaves_the_other(launched):
    launched.seconds = {"ydata c": [None]}
    (entry,) = bench(["ydata"]).entries
    assert launched.order == ["ydata c", "ydata pyarrow", "ydata pyarrow"]
    assert (entry.status, entry.best.setting) == (OK, "pyarrow")
    assert entry.note == "c: exit code 1: out of luck"


def test_who_fails_with_every_setting_has_failed(launched):
    launched.seconds = {"ydata c": [None], "ydata pyarrow": [None]}
    (entry,) = bench(["ydata"]).entries
    assert (entry.status, launched.order) == ("failed", ["ydata c", "ydata pyarrow"])


def test_who_is_wrong_has_no_time(launched):
    launched.mistakes = ["fare_amount: mean 3, not 4"]
    (entry,) = bench(["whylogs"]).entries
    assert (entry.status, entry.note, entry.best) == ("wrong", "fare_amount: mean 3, not 4", None)
    assert launched.order == ["whylogs c"]


def test_a_real_run(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "CACHE", tmp_path)
    result = run.bench(SCENARIOS["statistics"], 2_000, ["penstock-batches"], 1, False, 120.0)
    (entry,) = result.entries
    assert (entry.status, entry.note, entry.rows_out) == (OK, "", 2_000)
    assert {"mean", "median", "distinct", "top"} <= set(entry.computed)
    assert entry.best.peak_bytes > 50e6
    assert "to statistics" in run.table(result)


def test_every_profiler_can_be_named():
    names = [contestant.name for contestant in PROFILERS]
    assert run.parse(["--only", ",".join(names)]).only == names
