"""`penstock check`: statistics, or rows, against a schema, earlier statistics, those of serving."""

import json

import pyarrow as pa
import pytest
from google.protobuf import text_format
from helpers import FLAGS, write_schema_file
from tensorflow_metadata.proto.v0 import anomalies_pb2

from penstock.transforms.statistics.compute import compute_statistics
from pipelines import check
from pipelines._cli.command import main
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE
from pipelines._report.summary.statistics import shown


def statistics(path, rows=2000, shift=0.0, city="Rome"):
    columns = {"id": list(range(rows)), "fare": [row % 7 + shift for row in range(rows)], "city": [city] * rows}
    compute_statistics([pa.record_batch(columns)]).write(str(path))
    return path


@pytest.fixture
def folder(tmp_path):
    statistics(tmp_path / "now.pb")
    statistics(tmp_path / "like.pb")
    statistics(tmp_path / "far.pb", shift=1000.0)
    write_schema_file(tmp_path / "schema.pbtxt", id="INT", fare="FLOAT", city="BYTES")
    write_schema_file(
        tmp_path / "wrong.pbtxt", id="INT", fare="FLOAT", city="BYTES", more="INT presence {min_count: 1}"
    )
    return tmp_path


def run(capsys, *flags):
    capsys.readouterr()
    code = main("check", check.run, [*FLAGS, *map(str, flags)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_nothing_is_found_where_nothing_is_wrong(folder, capsys):
    flags = ("--statistics", folder / "now.pb", "--schema", folder / "schema.pbtxt", "--baseline", folder / "like.pb")
    code, out, stderr = run(capsys, *flags)
    assert (code, stderr) == (DONE, "")
    assert "2,000 rows, nothing found against" in out


def test_an_error_ends_with_1_and_says_what_was_expected_and_seen(folder, capsys):
    code, out, _ = run(capsys, "--statistics", folder / "now.pb", "--baseline", folder / "far.pb")
    assert code == DATA_FAILED
    assert "1 error in" in out or " errors in" in out
    assert "fare" in out
    assert "  expected " in out
    assert "  seen     " in out


def test_findings_as_json_and_as_anomalies(folder, capsys):
    flags = ("--statistics", folder / "now.pb", "--schema", folder / "wrong.pbtxt")
    code, out, _ = run(capsys, *flags, "--anomalies_output", folder / "found.pbtxt", "--json")
    found = json.loads(out)
    assert (code, found["status"], found["rows"]) == (DATA_FAILED, "faulty", {"All Examples": 2000})
    (finding,) = found["findings"]
    assert (finding["severity"], finding["subject"]) == ("error", "more")
    assert finding["expected"]
    assert finding["seen"]
    anomalies = text_format.Parse((folder / "found.pbtxt").read_text(), anomalies_pb2.Anomalies())
    assert list(anomalies.anomaly_info) == ["more"]
    run(capsys, *flags, "--anomalies_output", folder / "found.pb")
    assert anomalies_pb2.Anomalies.FromString((folder / "found.pb").read_bytes()) == anomalies


def test_thresholds_and_columns_that_may_differ(folder, capsys):
    flags = ("--statistics", folder / "now.pb", "--baseline", statistics(folder / "near.pb", shift=0.5))
    code, out, _ = run(capsys, *flags)
    assert code == DATA_FAILED
    assert "threshold distribution: 0.05 -> 0.143, or ignore" in out
    more = ("--threshold", "mean=0.3", "--threshold", "distribution=0.6", "--threshold", "values=1")
    code, out, _ = run(capsys, *flags, *more, "--threshold", "new_values=1", "--threshold", "shares=10")
    assert (code, "nothing found against" in out) == (DONE, True), out
    code, out, _ = run(capsys, *flags, "--ignore", "fare")
    assert (code, "nothing found against" in out) == (DONE, True), out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threshold", "psy=0.2"], "psy=0.2: no such threshold; there are false_alarms, distribution, mean, values"),
        (["--threshold", "mean"], "--threshold mean: must be NAME=NUMBER, such as mean=0.2"),
        (["--threshold", "mean=1", "--threshold", "mean=2"], "--threshold mean=2: mean was given before"),
        (["--threshold", "values=2"], "--threshold: values is a part of the rows, from 0 to 1, got 2.0"),
    ],
)
def test_thresholds_that_are_none_are_refused(folder, capsys, flags, message):
    given = ("--statistics", folder / "now.pb", "--baseline", folder / "like.pb")
    code, _, stderr = run(capsys, *given, *flags)
    assert code == WRONG_USAGE
    assert message in stderr
    code, _, stderr = run(capsys, "--statistics", folder / "now.pb", "--schema", folder / "schema.pbtxt", *flags[:2])
    assert code == WRONG_USAGE
    assert "pass --baseline or --serving too" in stderr


def test_skew_is_looked_for_apart_from_drift(folder, capsys):
    flags = ("--statistics", folder / "now.pb", "--serving", folder / "far.pb", "--baseline", folder / "like.pb")
    found = json.loads(run(capsys, *flags, "--json")[1])
    assert {finding["code"].partition(".")[0] for finding in found["findings"]} == {"skew"}


def test_rows_are_read_as_the_schema_says_where_they_can_be(folder, capsys):
    (folder / "in.csv").write_text("id,fare,city\n1,2,007\n2,3,8\n")
    code, out, stderr = run(capsys, "--input", folder / "in.csv", "--schema", folder / "schema.pbtxt")
    assert (code, stderr.count("error")) == (DONE, 0), out
    (folder / "in.csv").write_text("id,fare,city\n1,2,007\nx,3,8\n")
    code, out, _ = run(capsys, "--input", folder / "in.csv", "--schema", folder / "schema.pbtxt", "--json")
    (finding,) = json.loads(out)["findings"]
    assert (code, finding["subject"]) == (DATA_FAILED, "id")


def test_a_report_shows_both(folder, capsys):
    flags = ("--statistics", folder / "now.pb", "--baseline", folder / "far.pb", "--report", folder / "report.html")
    assert run(capsys, *flags)[0] == DATA_FAILED
    assert "fare" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        pytest.param([], WRONG_USAGE, "--statistics is required, or --input", id="nothing"),
        pytest.param(["--statistics={0}/now.pb"], WRONG_USAGE, "--schema is required, or --baseline", id="against"),
        pytest.param(
            ["--statistics={0}/now.pb", "--input={0}/now.pb"], WRONG_USAGE, "both say what is checked", id="both"
        ),
        pytest.param(
            ["--statistics={0}/now.pb", "--baseline={0}/like.pb", "--environment=SERVING"],
            WRONG_USAGE,
            "--environment is about a schema",
            id="environment",
        ),
        pytest.param(
            ["--statistics={0}/now.pb", "--baseline={0}/like.pb", "--anomalies_output={0}/far.pb"],
            WRONG_USAGE,
            "is there already; pass --overwrite",
            id="there",
        ),
        pytest.param(
            ["--statistics={0}/schema.pbtxt.pb", "--schema={0}/schema.pbtxt"], WRONG_USAGE, "cannot be read", id="file"
        ),
        pytest.param(["--statistics={0}/bad.pb", "--baseline={0}/now.pb"], DATA_FAILED, "bad.pb", id="no statistics"),
    ],
)
def test_what_is_wrong_with_the_command_is_told(folder, capsys, flags, code, message):
    (folder / "bad.pb").write_bytes(b"\xff")
    found, _, stderr = run(capsys, *(flag.format(folder) for flag in flags))
    assert (found, message in stderr) == (code, True), stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0"), (-1234567, "-1,234,567"), (float("nan"), "nan"), (float("inf"), "inf"), (1e-9, "1e-09")],
)
def test_numbers_in_few_characters(value, text):
    assert shown(value) == text
