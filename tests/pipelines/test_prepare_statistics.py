"""The main job with statistics: of what comes in, goes out and is rejected; the gate; the report."""

import datetime
import json

import pytest
from helpers import all_files, job, manifest_of, run_prepare, write_schema_file

from penstock.transforms.history.store import append, read
from penstock.transforms.statistics.files import read_list
from penstock.transforms.statistics.statistics import Statistics
from penstock.transforms.verify import verify_dataset
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE

COLUMNS = ["id", "fare", "city"]
NAMES = ("in", "out", "rejected")
SPLIT = ("--split=train=0.5,eval=0.5", "--split_key=id", "--num_shards=1")


def write_csv(path, rows, columns):
    path.write_text("".join(",".join(row) + "\n" for row in (columns, *rows)))


def make_rows(count=40, shift=0.0):
    """Rows of which a few are bad: no number, no record, a fare below 0, no id."""
    rows = [[str(row), str(row % 7 + shift), "Rome" if row % 3 else "Oslo"] for row in range(count)]
    return [*rows, ["x", "1", "Rome"], ["41", "-2", "Rome"], ["", "3", "Oslo"], ["44", "1", "Rome", "?"]]


@pytest.fixture
def inputs(tmp_path):
    demand = "presence { min_fraction: 1 }"
    write_schema_file(tmp_path / "schema.pbtxt", id=f"INT {demand}", fare="FLOAT", city="BYTES")
    (tmp_path / "rules.yaml").write_text("rules:\n- name: paid\n  sql: fare >= 0\n")
    write_csv(tmp_path / "in.csv", make_rows(), COLUMNS)
    return tmp_path


def prepare(inputs, output, *flags, source="in.csv"):
    given = (f"--input={inputs}/{source}", f"--schema={inputs}/schema.pbtxt", f"--rules={inputs}/rules.yaml")
    return job(*given, f"--output={inputs}/{output}", "--max_reject_fraction=0.5", *SPLIT, *flags)


def statistics_of(dataset):
    return {name: Statistics.read(str(dataset / "statistics" / f"{name}.pb")) for name in NAMES}


def column(statistics, name, dataset="All Examples"):
    (proto,) = [one for one in statistics.to_proto().datasets if one.name == dataset]
    return next(feature for feature in proto.features if feature.path.step[0] == name)


def test_statistics_are_of_the_rows_that_the_manifest_counts(inputs):
    assert prepare(inputs, "out")[0] == DONE
    manifest, found = manifest_of(inputs / "out"), statistics_of(inputs / "out")
    rows = {name: {key: table.rows for key, table in one.tables.items()} for name, one in found.items()}
    assert (manifest.rows_in, manifest.rows_rejected) == (44, 4)
    assert rows == {"in": {"All Examples": 44}, "out": dict(manifest.splits), "rejected": {"All Examples": 4}}
    assert list(verify_dataset(str(inputs / "out"))) == []
    assert "statistics" in manifest.extras


def test_a_rejected_row_counts_with_what_could_be_read_of_it(inputs):
    prepare(inputs, "out")
    found = statistics_of(inputs / "out")
    fare = column(found["rejected"], "fare").num_stats
    assert (fare.min, fare.max, fare.common_stats.num_non_missing) == (-2, 3, 3)
    ids = column(found["rejected"], "id").num_stats
    assert (ids.common_stats.num_non_missing, ids.common_stats.num_missing, ids.max) == (1, 3, 41)
    assert column(found["in"], "fare").num_stats.min == -2
    assert column(found["in"], "fare").num_stats.common_stats.num_non_missing == 43


def test_what_came_in_is_what_went_out_and_what_was_rejected(inputs):
    prepare(inputs, "out")
    found = statistics_of(inputs / "out")
    merged = Statistics(found["rejected"].options)
    merged.merge(found["rejected"])
    for table in found["out"].tables.values():
        part = Statistics(found["out"].options)
        part.tables = {"All Examples": table}
        merged.merge(part)
    assert merged.to_bytes() == found["in"].to_bytes()


@pytest.mark.parametrize("flags", [("--direct_num_workers=2",), ("--shuffle=none", "--overwrite")], ids=str)
def test_the_same_rows_give_the_same_bytes(inputs, flags):
    prepare(inputs, "one")
    write_csv(inputs / "a.csv", make_rows()[:17], COLUMNS)
    write_csv(inputs / "b.csv", make_rows()[17:], COLUMNS)
    assert prepare(inputs, "two", *flags, source="[ab].csv")[0] == DONE
    for name in NAMES:
        for suffix in ("pb", "json"):
            paths = [inputs / output / "statistics" / f"{name}.{suffix}" for output in ("one", "two")]
            assert paths[0].read_bytes() == paths[1].read_bytes(), name


def test_the_dataset_is_the_same_without_them(inputs):
    prepare(inputs, "with")
    assert prepare(inputs, "without", "--statistics=none")[0] == DONE
    assert manifest_of(inputs / "with").dataset_id == manifest_of(inputs / "without").dataset_id
    assert not any(path.startswith("statistics") for path in all_files(inputs / "without"))
    assert manifest_of(inputs / "without").extras == ("schema.pbtxt",)


def test_slices_are_of_splits_and_of_all_rows(inputs):
    assert prepare(inputs, "out", "--slice_by=city")[0] == DONE
    found = {name: set(one.tables) for name, one in statistics_of(inputs / "out").items()}
    assert found["in"] == {"All Examples", "city_Rome", "city_Oslo"}
    assert found["out"] == {
        f"{split}{rest}" for split in ("train", "eval") for rest in ("", "/city_Rome", "/city_Oslo")
    }


def test_rolling_features_are_in_what_goes_out_alone(inputs):
    (inputs / "rolling.yaml").write_text("rolling: {key: city, window: 1h, features: {fares: {op: count}}}")
    assert prepare(inputs, "out", f"--rolling={inputs}/rolling.yaml", "--event_time=id:s")[0] == DONE
    found = statistics_of(inputs / "out")
    assert "fares" in found["out"].tables["train"].features
    assert set(found["in"].tables["All Examples"].features) == set(COLUMNS)
    assert found["in"].tables["All Examples"].rows == manifest_of(inputs / "out").rows_in


def test_rows_like_those_before_are_published(inputs):
    prepare(inputs, "first")
    code, _ = prepare(inputs, "second", f"--check_against={inputs}/first")
    assert code == DONE
    assert prepare(inputs, "second", f"--check_against={inputs}/second", "--overwrite")[0] == DONE


def far_away(inputs):
    write_csv(inputs / "far.csv", [[str(row), str(row % 7 + 1000), "Bern"] for row in range(2000)], COLUMNS)
    write_csv(inputs / "near.csv", [[str(row), str(row % 7), "Rome"] for row in range(2000)], COLUMNS)


def test_rows_that_are_not_like_those_before_publish_nothing(inputs):
    far_away(inputs)
    prepare(inputs, "near", source="near.csv")
    code, stderr = prepare(inputs, "far", f"--check_against={inputs}/near", source="far.csv")
    assert code == DATA_FAILED
    assert "the rows are not like those of --check_against" in stderr
    assert "fare" in stderr
    assert "nothing is published" in stderr
    assert not (inputs / "far" / "manifest.json").exists()
    assert {path.split("/")[0] for path in all_files(inputs / "far")} == {"statistics"}
    assert read_list(str(inputs / "far/statistics/out.pb")).datasets[0].num_examples > 0


def test_rows_that_are_refused_leave_the_old_dataset(inputs):
    far_away(inputs)
    prepare(inputs, "out", source="near.csv")
    before = manifest_of(inputs / "out")
    flags = (f"--check_against={inputs}/out", "--overwrite")
    code, stderr = prepare(inputs, "out", *flags, source="far.csv")
    assert (code, manifest_of(inputs / "out")) == (DATA_FAILED, before)
    assert "/.tmp-" in stderr, "the statistics of the rows that were refused"


def test_the_result_says_why(inputs, capsys):
    far_away(inputs)
    prepare(inputs, "near", source="near.csv")
    capsys.readouterr()
    prepare(inputs, "far", f"--check_against={inputs}/near", "--json", source="far.csv")
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["exit_code"]) == ("too_much_drift", 1)
    assert any("fare" in sentence for sentence in found["drift"])
    assert found["statistics"] == f"{inputs}/far/statistics"
    assert (found["manifest"], found["splits"]) == (None, {})


@pytest.fixture
def remembered(inputs):
    """An output with a history of twelve runs, and the dataset of the thirteenth."""
    far_away(inputs)
    assert prepare(inputs, "out", source="near.csv")[0] == DONE
    statistics = read_list(str(inputs / "out/statistics/out.pb"))
    for day in range(12):
        made = datetime.datetime(2026, 1, 1 + day, tzinfo=datetime.UTC)
        append(str(inputs / "out" / "_history"), statistics, f"day {day}", created=made)
    return inputs / "out"


def runs_of(output):
    return read(str(output / "_history"), feature="", split="train")["run"].to_pylist()


def test_each_run_is_in_the_history_which_survives_it(inputs, remembered, capsys):
    first = manifest_of(remembered)
    assert first.anomalies == ()
    assert runs_of(remembered) == [*(f"day {day}" for day in range(12)), first.run_id]
    capsys.readouterr()
    assert prepare(inputs, "out", "--overwrite", source="far.csv")[0] == DONE
    assert "unusual about the rows: " in capsys.readouterr().out
    second = manifest_of(remembered)
    assert runs_of(remembered)[-2:] == [first.run_id, second.run_id]
    fares = {one.reason for one in second.anomalies if one.feature == "fare"}
    assert fares == {"HISTORY_LEVEL"}
    assert {(one.severity, one.against) for one in second.anomalies} == {("warning", "history")}
    assert list(verify_dataset(str(remembered))) == []


def test_a_gate_on_the_history_publishes_nothing_and_remembers_nothing(inputs, remembered, capsys):
    before, runs = manifest_of(remembered), runs_of(remembered)
    capsys.readouterr()
    flags = ("--overwrite", "--check_against=history", "--json")
    assert prepare(inputs, "out", *flags, source="far.csv")[0] == DATA_FAILED
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "too_much_drift"
    assert any("mean of fare is 1" in sentence and "[HISTORY_LEVEL]" in sentence for sentence in found["drift"])
    assert {one["severity"] for one in found["anomalies"]} == {"error"}
    assert (manifest_of(remembered), runs_of(remembered)) == (before, runs)
    assert prepare(inputs, "out", *flags, source="near.csv")[0] == DONE


def test_a_history_that_cannot_be_read_is_said(inputs, remembered):
    (remembered / "_history" / "L0-1-0123456789abcdef.parquet").write_bytes(b"PAR1")
    assert prepare(inputs, "out", "--overwrite", f"--report={inputs}/report.html", source="near.csv")[0] == DONE
    (anomaly,) = manifest_of(remembered).anomalies
    assert (anomaly.reason, anomaly.severity) == ("HISTORY_UNREADABLE", "warning")


def test_without_statistics_there_is_no_history(inputs):
    prepare(inputs, "out", "--statistics=none")
    assert not (inputs / "out" / "_history").exists()


def test_a_report_shows_the_run(inputs):
    prepare(inputs, "first")
    code, _ = prepare(inputs, "out", f"--check_against={inputs}/first", f"--report={inputs}/report.html")
    assert code == DONE
    text = (inputs / "report.html").read_text()
    assert "fare" in text
    assert "rule.paid" in text


def test_a_report_has_what_left_the_history(inputs, remembered):
    flags = ("--overwrite", f"--report={inputs}/report.html")
    assert prepare(inputs, "out", *flags, source="far.csv")[0] == DONE
    text = (inputs / "report.html").read_text()
    assert "HISTORY_LEVEL" in text
    assert "Compared with history." in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--statistics=none", "--slice_by=city"], "--slice_by needs statistics", id="none"),
        pytest.param(["--slice_by=town"], "--slice_by town: no such column; there are id, fare, city", id="column"),
        pytest.param(["--check_against=no.pb"], "--check_against no.pb: cannot be read", id="no file"),
        pytest.param(["--report={0}/out/report.html"], "lies in --output", id="report in the output"),
        pytest.param(
            ["--check_against=history", "--window=fixed:1h", "--event_time=id:s"],
            "windows of input that has an end are published in any order",
            id="history of bounded windows",
        ),
        pytest.param(["--check_against={0}/first", "--folds=3"], "and none of fold_0", id="other splits"),
    ],
)
def test_what_does_not_go_together_is_refused(inputs, flags, message):
    given = [f"--input={inputs}/in.csv", f"--schema={inputs}/schema.pbtxt", f"--output={inputs}/out"]
    if "{0}/first" in flags[0]:
        assert prepare(inputs, "first")[0] == DONE
    code, stderr = job(*given, *(flag.format(inputs) for flag in flags))
    assert code == WRONG_USAGE
    assert message in stderr
    assert not (inputs / "out").exists()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        pytest.param(lambda path: path.write_bytes(b"\xff\xff"), "statistics.broken", id="broken"),
        pytest.param(lambda path: path.unlink(), "file.missing", id="missing"),
        pytest.param(
            lambda path: path.write_bytes((path.parent / "rejected.pb").read_bytes()),
            "statistics.rows",
            id="other rows",
        ),
    ],
)
def test_verify_names_statistics_that_are_not_those_of_the_dataset(inputs, damage, code):
    prepare(inputs, "out")
    damage(inputs / "out" / "statistics" / "in.pb")
    (fault,) = verify_dataset(str(inputs / "out"))
    assert (fault.code, fault.path) == (code, "statistics/in.pb")


def test_a_run_without_rows_leaves_nothing(inputs):
    write_csv(inputs / "none.csv", [], COLUMNS)
    assert prepare(inputs, "out", source="none.csv")[0] == DATA_FAILED
    assert not (inputs / "out").exists()


def test_types_that_are_inferred_have_statistics(tmp_path):
    write_csv(tmp_path / "in.csv", make_rows()[:10], COLUMNS)
    assert run_prepare("--input", tmp_path / "in.csv", "--output", tmp_path / "out") == DONE
    assert column(statistics_of(tmp_path / "out")["out"], "fare", "train").num_stats.max == 6
