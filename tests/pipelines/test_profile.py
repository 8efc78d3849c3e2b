"""`penstock profile`: statistics of rows as a table, a file, a report; files that merge."""

import json

import pyarrow as pa
import pytest
from helpers import FLAGS, run_prepare, write_parquet, write_schema_file

from penstock.transforms.statistics.files import read_list
from penstock.transforms.statistics.statistics import Statistics
from pipelines import profile
from pipelines._cli.command import main
from pipelines._jobs import profile as _profile
from pipelines._plan import inferred as _inferred
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE
from pipelines._run.job import run_pipeline

HEAD = "id,fare,city,weight\n"


def lines(start, stop):
    return "".join(f"{row},{row % 7}.5,{'Rome' if row % 3 else 'Oslo'},{row % 2}\n" for row in range(start, stop))


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "a.csv").write_text(HEAD + lines(0, 30))
    (tmp_path / "b.csv").write_text(HEAD + lines(30, 50) + "50,x,,0\n51,1\n")
    return tmp_path


def run(capsys, *flags):
    """The exit code, and what was printed."""
    capsys.readouterr()
    code = main("profile", profile.run, [*FLAGS, *map(str, flags)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def as_json(capsys, *flags):
    return json.loads(run(capsys, *flags, "--json")[1])


def test_a_table_is_told_and_nothing_written(rows, capsys):
    code, out, _ = run(capsys, "--input", rows / "a.csv")
    assert code == DONE
    assert "All Examples: 30 rows" in out
    assert [line.split()[:2] for line in out.splitlines()[3:7]] == [
        ["city", "STRING"],
        ["fare", "FLOAT"],
        ["id", "INT"],
        ["weight", "INT"],
    ]
    assert "'Rome' 20" in out
    assert sorted(path.name for path in rows.iterdir()) == ["a.csv", "b.csv"]


def test_the_file_is_that_of_its_rows(rows, capsys):
    found = as_json(capsys, "--input", rows / "a.csv", "--output", rows / "out")
    assert found["output"] == f"{rows}/out/statistics.pb"
    assert sorted(path.name for path in (rows / "out").iterdir()) == ["statistics.json", "statistics.pb"]
    (dataset,) = read_list(found["output"]).datasets
    assert (dataset.name, dataset.num_examples) == ("All Examples", 30)
    (told,) = found["datasets"]
    columns = {column["column"]: column for column in told["columns"]}
    assert (columns["fare"]["min"], columns["fare"]["max"], columns["fare"]["missing"]) == (0.5, 6.5, 0)
    assert columns["city"]["top"] == ["Rome", 20]
    assert columns["id"]["distinct"] == 30


def test_rows_that_the_schema_cannot_read_are_told(rows, capsys):
    schema = write_schema_file(rows / "schema.pbtxt", id="INT", fare="FLOAT", city="BYTES", weight="INT")
    found = as_json(capsys, "--input", rows / "b.csv", "--schema", schema)
    assert (found["rows_unread"], found["datasets"][0]["rows"]) == (2, 20)
    assert found["unread_for"] == {"schema.type": 1, "csv.column_count": 1}
    assert "2 rows could not be read" in run(capsys, "--input", rows / "b.csv", "--schema", schema)[1]


def test_types_are_inferred_from_the_whole_input(rows, capsys):
    found = as_json(capsys, "--input", f"{rows}/*.csv")
    types = {column["column"]: column["type"] for column in found["datasets"][0]["columns"]}
    assert types == {"id": "INT", "fare": "STRING", "city": "STRING", "weight": "INT"}
    assert (found["rows_unread"], found["datasets"][0]["rows"]) == (1, 51)


# What lies in the middle of three files, of which the guess sees the first and the last; and how many passes it takes.
MIDDLE = {
    "alike": (lines(30, 50), 1),
    "nulls and bad rows": ("30,,,\n31,2.5,Rome,1\n32,1\n", 1),
    "a number that is text": ("30,x,Rome,1\n", 2),
    "a whole number that is a fraction": ("30.5,1.5,Rome,1\n", 2),
    "a number that is too large": (f"{1 << 70},1.5,Rome,1\n", 2),
}


@pytest.fixture
def passes(monkeypatch):
    """The titles of the pipelines that are run."""
    found = []

    def counting(options, title, *rest):
        found.append(title)
        return run_pipeline(options, title, *rest)

    for module in (_inferred, _profile):
        monkeypatch.setattr(module, "run_pipeline", counting)
    return found


@pytest.mark.parametrize("middle", MIDDLE)
def test_one_pass_tells_what_two_do(rows, capsys, passes, monkeypatch, middle):
    (text, needed), flags = MIDDLE[middle], ("--slice_by=city", "--label=fare")
    (rows / "b.csv").write_text(HEAD + text)
    (rows / "c.csv").write_text(HEAD + lines(50, 60))
    one = as_json(capsys, "--input", f"{rows}/?.csv", "--output", rows / "one.pb", *flags)
    assert len(passes) == needed
    monkeypatch.setattr(_inferred, "reads_alike", lambda reader: False)
    two = as_json(capsys, "--input", f"{rows}/?.csv", "--output", rows / "two.pb", *flags)
    assert len(passes) == needed + 2
    assert (rows / "one.pb").read_bytes() == (rows / "two.pb").read_bytes()
    assert [one[key] for key in ("rows_unread", "unread_for")] == [two[key] for key in ("rows_unread", "unread_for")]
    assert sorted(path.name for path in rows.iterdir() if path.suffix != ".csv") == [
        "one.json",
        "one.pb",
        "two.json",
        "two.pb",
    ]


def test_one_pass_over_parquet(rows, capsys, passes, monkeypatch):
    table = pa.table({"i": [1, None, 3], "f": [0.1, 2.5, None], "t": ["a", "b", None], "l": [[1], [], None]})
    path = write_parquet(rows / "a.parquet", table)
    as_json(capsys, "--input", path, "--output", rows / "one.pb")
    assert len(passes) == 1
    monkeypatch.setattr(_inferred, "reads_alike", lambda reader: False)
    as_json(capsys, "--input", path, "--output", rows / "two.pb")
    assert (rows / "one.pb").read_bytes() == (rows / "two.pb").read_bytes()


def test_a_wrong_guess_hides_no_error(rows, capsys, passes):
    (rows / "b.csv").write_text(HEAD + "30,1.5,Rome,-1\n")
    code, _, stderr = run(capsys, "--input", f"{rows}/?.csv", "--weight=weight")
    assert (code, "each row must have one weight" in stderr) == (DATA_FAILED, True), stderr
    assert "b.csv" in stderr


def test_files_merge_to_that_of_all_rows(rows, capsys):
    schema = ("--schema", write_schema_file(rows / "schema.pbtxt", id="INT", fare="FLOAT", city="BYTES"))
    for name, source in (("a", "a.csv"), ("b", "b.csv"), ("all", "[ab].csv")):
        assert run(capsys, "--input", f"{rows}/{source}", *schema, "--output", rows / f"{name}.pb")[0] == DONE
    flags = ("--merge", rows / "b.pb", rows / "a.pb", "--output", rows / "merged.pb")
    assert as_json(capsys, *flags)["datasets"][0]["rows"] == 50
    assert (rows / "merged.pb").read_bytes() == (rows / "all.pb").read_bytes()
    (rows / "job.yaml").write_text(f"merge: [{rows}/a.pb, {rows}/b.pb]\n")
    assert as_json(capsys, "--config", rows / "job.yaml")["datasets"][0]["rows"] == 50


def test_a_profile_of_splits_is_that_of_the_dataset(rows, capsys):
    given = ("--input", rows / "a.csv", "--split=train=0.6,eval=0.4", "--split_key=id")
    schema = ("--schema", write_schema_file(rows / "schema.pbtxt", id="INT", fare="FLOAT", city="BYTES"))
    assert run(capsys, *given, *schema, "--output", rows / "splits.pb")[0] == DONE
    assert run_prepare(*given, *schema, "--output", rows / "out", "--statistics=all") == DONE
    assert (rows / "splits.pb").read_bytes() == (rows / "out/statistics/out.pb").read_bytes()


def test_slices_weights_and_the_label(rows, capsys):
    flags = ("--slice_by=city", "--weight=weight", "--label=fare", "--output", rows / "s.pb")
    found = as_json(capsys, "--input", rows / "a.csv", *flags)
    assert {one["name"]: one["rows"] for one in found["datasets"]} == {
        "All Examples": 30,
        "city_Oslo": 10,
        "city_Rome": 20,
    }
    options = Statistics.read(f"{rows}/s.pb").options
    assert (options.slice_by, options.weight, options.label) == (("city",), "weight", "fare")
    assert read_list(f"{rows}/s.pb").datasets[0].weighted_num_examples == 15


def test_a_report_and_a_dataset_by_its_folder(rows, capsys):
    assert run_prepare("--input", rows / "a.csv", "--output", rows / "out") == DONE
    code, out, _ = run(capsys, "--merge", rows / "out", "--report", rows / "report.html")
    assert (code, "the report: " in out) == (DONE, True)
    assert "Rome" in (rows / "report.html").read_text()


def test_a_dry_run_says_what_would_be_done(rows, capsys):
    code, out, _ = run(capsys, "--input", rows / "a.csv", "--dry_run")
    assert (code, "infer the types from the whole input" in out) == (DONE, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--merge={0}/a.csv", "--input={0}/a.csv"], "--merge reads files of statistics", id="both"),
        pytest.param(["--input=kafka://localhost:1/t"], "a profile is of input with an end", id="endless"),
        pytest.param(["--input={0}/a.csv", "--output={0}/a.pb"], "is there already; pass --overwrite", id="there"),
        pytest.param(["--input={0}/a.csv", "--weight=w"], "--weight w: no such column", id="weight"),
        pytest.param(["--input={0}/a.csv", "--split_time=train<2026-01-01,eval"], "pass --event_time", id="time"),
        pytest.param(["--merge={0}/no.pb"], "no.pb: cannot be read", id="no file"),
        pytest.param(["--input={0}/a.csv", "--output={0}/b.csv"], "is a file that is not called .pb", id="no folder"),
    ],
)
def test_what_is_wrong_is_told_before_rows_are_read(rows, capsys, flags, message):
    (rows / "a.pb").write_bytes(b"")
    code, _, stderr = run(capsys, *(flag.format(rows) for flag in flags))
    assert (code, message in stderr) == (WRONG_USAGE, True), stderr


def test_files_that_cannot_be_merged_are_named(rows, capsys):
    (rows / "broken.pb").write_bytes(b"\xff\xff")
    code, _, stderr = run(capsys, "--merge", rows / "broken.pb")
    assert (code, f"{rows}/broken.pb" in stderr) == (DATA_FAILED, True)


def test_input_without_rows_fails_and_leaves_nothing(rows, capsys):
    (rows / "none.csv").write_text(HEAD)
    for flags in ((), ("--schema", write_schema_file(rows / "schema.pbtxt", id="INT"))):
        code, _, stderr = run(capsys, "--input", rows / "none.csv", "--output", rows / "out", *flags)
        assert (code, "the input has no rows" in stderr) == (DATA_FAILED, True)
    assert not list(rows.glob("out/*"))
