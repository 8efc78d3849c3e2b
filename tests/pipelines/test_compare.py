"""`penstock compare`: what differs between two files of statistics, column by column."""

import json

import numpy as np
import pyarrow as pa
import pytest

from penstock.io.reserved import SPLIT
from penstock.transforms.statistics.compute import compute_statistics
from pipelines import compare
from pipelines._cli.command import main
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE


def write(path, splits=None, **columns):
    batch = {**columns, **({SPLIT: pa.array(splits)} if splits else {})}
    compute_statistics([pa.record_batch(batch)]).write(str(path))


@pytest.fixture
def folder(tmp_path):
    rows = range(500)
    same = {"id": list(rows), "city": ["Rome", "Oslo"] * 250}
    write(tmp_path / "a.pb", **same, fare=[row % 7 for row in rows], old=[1] * 500)
    write(tmp_path / "b.pb", **same, fare=[None if row % 2 else row % 7 + 9 for row in rows], new=[1] * 500)
    write(tmp_path / "s.pb", ["train", "eval"] * 250, **same)
    return tmp_path


def run(capsys, *arguments):
    capsys.readouterr()
    code = main("compare", compare.run, list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_what_differs_is_told_and_nothing_else(folder, capsys):
    code, out, _ = run(capsys, folder / "a.pb", folder / "b.pb")
    assert code == DONE
    table = out.partition("what a check finds")[0]
    assert "500 rows before, 500 rows after" in table
    assert "city" not in table
    assert ["old", "the", "column", "there"] in [line.split() for line in table.splitlines()]
    assert ["fare", "missing", "0.00%", "50.00%"] in [line.split() for line in table.splitlines()]


def test_all_columns_and_where_flags_stand_do_not_matter(folder, capsys):
    code, out, _ = run(capsys, folder / "a.pb", "--all", "--json", folder / "b.pb")
    (pair,) = json.loads(out)["datasets"]
    columns = {column["column"]: column for column in pair["columns"]}
    assert (code, set(columns)) == (DONE, {"id", "city", "fare", "old", "new"})
    assert (columns["old"]["only_in"], columns["new"]["only_in"], columns["id"]["only_in"]) == ("a", "b", None)
    assert columns["id"]["differs"] == {}
    assert columns["fare"]["differs"]["missing"] == [0.0, 0.5]
    assert columns["fare"]["distances"]["kolmogorov_smirnov"] == pytest.approx(1)
    assert any(finding["subject"] == "fare" for finding in pair["findings"])


def test_equal_statistics_do_not_differ(folder, capsys):
    code, out, _ = run(capsys, folder / "a.pb", folder / "a.pb")
    assert (code, "no column differs" in out) == (DONE, True)


def test_splits_are_compared_by_name_or_as_is_said(folder, capsys):
    found = json.loads(run(capsys, folder / "s.pb", folder / "s.pb", "--json")[1])
    assert [pair["names"] for pair in found["datasets"]] == [["eval", "eval"], ["train", "train"]]
    found = json.loads(run(capsys, folder / "s.pb", folder / "s.pb", "--datasets=train,eval", "--json")[1])
    assert [pair["names"] for pair in found["datasets"]] == [["train", "eval"]]
    code, _, stderr = run(capsys, folder / "a.pb", folder / "s.pb")
    assert (code, "say with --datasets which to compare" in stderr) == (WRONG_USAGE, True)
    code, _, stderr = run(capsys, folder / "s.pb", folder / "s.pb", "--datasets=test")
    assert (code, "--datasets test: A has statistics of eval, train" in stderr) == (WRONG_USAGE, True)


def test_a_report_shows_both(folder, capsys):
    assert run(capsys, folder / "a.pb", folder / "b.pb", "--report", folder / "report.html")[0] == DONE
    page = (folder / "report.html").read_text()
    assert "fare" in page
    assert "The data was not checked" not in page


def test_correlations_are_compared(folder, capsys):
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 4000))
    for name, y in (("with", x + noise / 3), ("without", rng.permutation(x + noise / 3))):
        compute_statistics([pa.record_batch({"x": x, "y": y})]).write(str(folder / f"{name}.pb"))
    given = (folder / "with.pb", folder / "without.pb")
    code, out, _ = run(capsys, *given, "--report", folder / "c.html")
    assert (code, "x and y: Another correlation" not in out) == (DONE, True)
    assert "[drift.correlation]" in out
    assert "x and y" in out
    assert "Correlations that differ most from the baseline" in (folder / "c.html").read_text()
    found = json.loads(run(capsys, *given, "--json")[1])["datasets"][0]
    (one,) = found["correlations"]
    assert one["columns"] == ["x", "y"]
    assert (one["before"] > 0.9, abs(one["after"]) < 0.1) == (True, True)
    assert [finding["code"] for finding in found["findings"]] == ["drift.correlation"]
    found = json.loads(run(capsys, *given, "--threshold=correlation=1.5", "--json")[1])["datasets"][0]
    assert found["findings"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param([], WRONG_USAGE, "A B are required", id="none"),
        pytest.param(["a.pb"], WRONG_USAGE, "got 1", id="one"),
        pytest.param(["a.pb", "b.pb", "s.pb"], WRONG_USAGE, "got 3", id="three"),
        pytest.param(["a.pb", "no.pb"], WRONG_USAGE, "no.pb: cannot be read", id="missing"),
        pytest.param(["a.pb", "bad.pb"], DATA_FAILED, "bad.pb", id="broken"),
    ],
)
def test_what_is_wrong_with_the_command_is_told(folder, capsys, monkeypatch, arguments, code, message):
    monkeypatch.chdir(folder)
    (folder / "bad.pb").write_bytes(b"\xff")
    found, _, stderr = run(capsys, *arguments)
    assert (found, message in stderr) == (code, True), stderr
