"""The job that fits features alone."""

import functools
import json
import re

import forked
import pytest
from helpers import all_files, job, run_prepare, shard_contents, write_csv, write_schema_file

from pipelines import fit
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE

fit_job = functools.partial(job, run=fit.run)

ROWS = [{"id": row, "word": "ab"[row % 2] if row else "only_eval", "x": row * 0.5} for row in range(200)]
FEATURES = "features: {x: {ops: [scale_to_0_1]}, word: {ops: [compute_and_apply_vocabulary]}, id: {}}"


BY_TFT = ("--features_engine=tft",)


@pytest.fixture
def folder(tmp_path):
    """in.csv, schema.pbtxt, features.yaml."""
    write_csv(tmp_path / "in.csv", ROWS, list(ROWS[0]))
    one = "presence { min_fraction: 1 } value_count { min: 1 max: 1 }"
    types = {"id": "INT", "word": "BYTES", "x": "FLOAT"}
    write_schema_file(tmp_path / "schema.pbtxt", **{name: f"{kind} {one}" for name, kind in types.items()})
    (tmp_path / "features.yaml").write_text(FEATURES)
    return tmp_path


def flags(folder, *more):
    return (
        f"--input={folder}/in.csv",
        f"--features={folder}/features.yaml",
        *BY_TFT,
        f"--output={folder}/graph",
        *more,
    )


def test_graph_is_the_one_that_prepare_would_fit(folder, capsys):
    tft = pytest.importorskip("tensorflow_transform")
    common = (f"--schema={folder}/schema.pbtxt", "--split=train=0.8,eval=0.2")
    code, told = fit_job(*flags(folder, *common))
    assert code == DONE
    assert not re.search("warning|error|Traceback", told, re.IGNORECASE)  # a slow machine's progress may stand there
    assert "they are in" in capsys.readouterr().out
    graph = tft.TFTransformOutput(f"{folder}/graph")
    assert set(graph.transformed_feature_spec()) == {"x", "word", "id"}
    assert not [path for path in all_files(folder / "graph") if ".tmp" in path]

    given = (f"--input={folder}/in.csv", *common, "--num_shards=2")
    assert run_prepare(*given, f"--transform={folder}/graph", f"--output={folder}/applied") == DONE
    assert run_prepare(*given, f"--features={folder}/features.yaml", *BY_TFT, f"--output={folder}/fitted") == DONE
    assert shard_contents(folder / "applied") == shard_contents(folder / "fitted")

    assert fit_job(*flags(folder, *common))[0] == WRONG_USAGE
    assert fit_job(*flags(folder, *common, "--overwrite"))[0] == DONE


def test_what_a_killed_fit_left_goes_with_the_next_one(folder):
    pytest.importorskip("tensorflow_transform")
    graph = folder / "graph"
    left, others = graph / ".tmp-fit-dead", graph / ".tmp-fit-of-nobody"
    end = f"os._exit(pathlib.Path({str(left)!r}, 'x').write_text('x'))"
    code = f"import os, pathlib; from penstock.io.files.owned import owning\nwith owning({str(left)!r}): {end}"
    forked.run(["-c", code])
    others.mkdir()
    assert left.exists()
    code, told = fit_job(*flags(folder, f"--schema={folder}/schema.pbtxt"))
    assert code == DONE
    assert f"removed what a killed run left in {graph} (" in told
    assert [path.name for path in graph.glob(".tmp-*")] == [others.name]


def test_without_a_schema_it_is_inferred_and_written_beside_the_graph(folder):
    pytest.importorskip("tensorflow_transform")
    assert fit_job(*flags(folder)) == (DONE, "")
    assert "schema.pbtxt" in all_files(folder / "graph")


def test_rows_that_only_warn_are_counted_by_reason(folder, capsys):
    pytest.importorskip("tensorflow_transform")
    rows = [{**row, "id": row["id"] if row["id"] % 5 else None, "word": "ab"[row["id"] % 2]} for row in ROWS]
    write_csv(folder / "in.csv", rows, list(rows[0]))
    one = "presence { min_fraction: 1 } value_count { min: 1 max: 1 }"
    types = {
        "id": "INT presence { min_fraction: 1 }",
        "word": f'BYTES {one} string_domain {{ value: "a" }}',
        "x": f"FLOAT {one}",
    }
    write_schema_file(folder / "schema.pbtxt", **types)
    (folder / "features.yaml").write_text("features: {x: {ops: [scale_to_0_1]}}")
    common = (f"--schema={folder}/schema.pbtxt", "--split=train=0.8,eval=0.2")
    warn = ("--schema_warn=word.domain,id.presence",)
    assert fit_job(*flags(folder, *common, *warn, "--json"))[0] == DONE
    result = json.loads(capsys.readouterr().out)
    assert [(note["code"], note["subject"], note["count"]) for note in result["notes"]] == [
        ("schema.domain", "word", 100),
        ("schema.presence", "id", 40),
    ]
    assert fit_job(*flags(folder, *common, *warn, "--overwrite"))[0] == DONE
    text = capsys.readouterr().out
    assert "passed with a warning (a row may have several)\n  schema.domain word   100\n" in text
    assert not [path for path in folder.iterdir() if path.name.startswith("graph.")], "nothing is left beside it"


def test_dry_run_tells_what_would_be_done_and_does_nothing(folder, capsys):
    assert fit_job(*flags(folder, "--dry_run")) == (DONE, "")
    assert "1. infer the schema" in capsys.readouterr().out
    assert not (folder / "graph").exists()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"features": None}, WRONG_USAGE, "--features is required"),
        ({"output": None}, WRONG_USAGE, "--output is required"),
        ({"input": None}, WRONG_USAGE, "--input is required"),
        ({"split": "a=0.5,b=0.5"}, WRONG_USAGE, "fitted on the split 'train', which --split does not name"),
        ({"input": "nothing.csv"}, DATA_FAILED, "no file matches nothing.csv"),
    ],
)
def test_wrong_usage_is_told(folder, change, code, message):
    given = {"input": f"{folder}/in.csv", "features": f"{folder}/features.yaml", "output": f"{folder}/graph", **change}
    found, error = fit_job(*(f"--{name}={value}" for name, value in given.items() if value is not None))
    assert (found, message in error) == (code, True), error


def test_a_report_shows_the_rows_that_were_fitted(folder, capsys):
    pytest.importorskip("tensorflow_transform")
    (folder / "in.csv").write_text((folder / "in.csv").read_text() + "200,a,much\n")
    report = folder / "report.html"
    given = flags(folder, f"--schema={folder}/schema.pbtxt", "--split=train=0.8,eval=0.2", f"--report={report}")
    assert fit_job(*given)[0] == DONE
    assert f"the report: {report}" in capsys.readouterr().out
    page = report.read_text()
    assert "Fit of " in page
    assert "What the schema asks of each feature" in page
    assert '<span class="value">train</span>: ' in page
    assert '<span class="value">eval</span>' not in page  # no statistics of rows that were not fitted
    assert "200,a,much" in page
    assert '<dt class="value">other splits</dt>' in page
    assert not [path for path in all_files(folder / "graph") if "notes" in path or "state" in path]


def test_a_report_in_the_folder_of_the_graph_is_refused(folder):
    code, error = fit_job(*flags(folder, f"--report={folder}/graph/report.html"))
    assert code == WRONG_USAGE
    assert "lies in --output" in error
