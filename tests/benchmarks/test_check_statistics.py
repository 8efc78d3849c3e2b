import importlib
import json

import pytest
from benchmarks.data import TAXI, generate_typed
from benchmarks.run import PEERS

ROWS = 3_000


@pytest.fixture
def checker(monkeypatch):
    """The check of what profilers found; it lies among scripts that are no package."""
    monkeypatch.syspath_prepend(str(PEERS))
    return importlib.import_module("check_statistics")


@pytest.fixture
def task(checker, tmp_path):
    dataset = generate_typed(tmp_path / "rows.csv", "csv", TAXI, ROWS)
    (tmp_path / "output").mkdir()
    return checker.Task(str(dataset.path), str(tmp_path / "output"), "csv", "none", 1, list(dataset.columns), "")


def told(checker, task, **changes):
    """What is told by one who is right, but for changes to `fare_amount`."""
    exact = checker.truth(task)
    columns = {name: dict(numbers) for name, numbers in exact["columns"].items()}
    for numbers in columns.values():
        if "median" in numbers:
            numbers["median"] = sum(numbers["median"]) / 2
    columns["fare_amount"] |= changes
    return {"rows": exact["rows"], "columns": columns}


def test_who_is_right_makes_no_mistakes(checker, task):
    assert list(checker.mistakes(told(checker, task), checker.truth(task))) == []


@pytest.mark.parametrize(
    ("name", "factor"),
    [("missing", 1.1), ("mean", 1.00001), ("deviation", 1.01), ("max", 1.0001), ("median", 1.2), ("distinct", 0.8)],
)
def test_a_wrong_number_is_found(checker, task, name, factor):
    right = told(checker, task)["columns"]["fare_amount"][name]
    (found,) = checker.mistakes(told(checker, task, **{name: right * factor}), checker.truth(task))
    assert found.startswith(f"fare_amount: {name} ")


def test_columns_and_rows_that_are_left_out_are_found(checker, task):
    partial = told(checker, task)
    del partial["columns"]["vendor_id"]
    partial["rows"] -= 1
    assert list(checker.mistakes(partial, checker.truth(task))) == [
        "2,999 rows, not 3,000",
        "nothing of vendor_id",
    ]


def test_the_check_tells_what_was_computed(checker, task, tmp_path):
    (tmp_path / "output" / "statistics.pb").write_bytes(b"12345")
    (tmp_path / "output" / checker.TOLD).write_text(json.dumps(told(checker, task)))
    found = checker.check(task)
    assert (found["rows"], found["bytes"], found["shards"], found["mistakes"]) == (ROWS, 5, 1, [])
    assert set(found["computed"]) == {
        "missing",
        "distinct",
        "mean",
        "deviation",
        "min",
        "max",
        "zeros",
        "median",
        "top",
    }
