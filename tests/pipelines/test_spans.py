"""Adding to a dataset end to end, and the jobs about spans and versions."""

import dataclasses
import errno
import itertools
import json
import os
import shutil

import pyarrow as pa
import pytest
from helpers import job, manifest_of, run_prepare
from quick_windows import write_windows

import penstock
from penstock.io.dataset.spans import rewrite
from penstock.io.errors import ConfigError
from penstock.io.files import folders
from penstock.io.files.folders import list_files
from penstock.io.reserved import SPLIT
from penstock.transforms.dataset_report import dataset_report
from penstock.transforms.statistics.compute import compute_statistics
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.verify import verify_dataset
from pipelines import check, compare, prepare, profile, replay, spans, status, verify
from pipelines._cli.command import main
from pipelines._jobs import replay as _replay


def write_day(folder, day, count=30, more=""):
    first = day * 100
    lines = [f"{first + row},{row}.5" for row in range(count)]
    (folder / f"day{day}.csv").write_text("\n".join(["id,fare", *lines, *more.split()]) + "\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset of two days, the second one added."""
    folder = tmp_path_factory.mktemp("spans")
    write_day(folder, 1)
    flags = ("--split=train=0.7,eval=0.3", "--split_key=id", "--max_reject_fraction=0.5")
    assert run_prepare(f"--input={folder}/day1.csv", f"--output={folder}/out", *flags) == 0
    write_day(folder, 2, more="x,y")
    added = f"--input={folder}/day*.csv", f"--output={folder}/out", "--append", "--span=2026-11-27"
    assert run_prepare(*added) == 0
    return folder


@pytest.fixture
def dataset(made, tmp_path):
    shutil.copytree(made / "out", tmp_path / "out", copy_function=shutil.copy2)
    return tmp_path / "out"


def told(capsys, run, *argv):
    capsys.readouterr()
    assert run([str(one) for one in argv]) == 0
    return json.loads(capsys.readouterr().out)


def append(made, output, *flags):
    return job(f"--input={made}/day*.csv", f"--output={output}", "--append", *flags)


def test_rows_splits_and_statistics_of_both(dataset, capsys):
    manifest = manifest_of(dataset)
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (61, 60, 1)
    assert [(span.name, span.rows_in, span.rows_rejected) for span in manifest.spans] == [
        ("1", 30, 0),
        ("2026-11-27", 31, 1),
    ]
    assert [one["span"] for one in manifest.provenance["inputs"]] == ["1", "2026-11-27"]
    assert list(verify_dataset(str(dataset))) == []
    ids = [
        one
        for split in manifest.splits
        for b in penstock.load(dataset, split).batches(100)
        for one in b["id"].to_pylist()
    ]
    assert sorted(ids) == [*range(100, 130), *range(200, 230)]
    found = told(capsys, status.run, "--output", dataset, "--json")
    assert (found["version"], [span["name"] for span in found["spans"]]) == (2, ["1", "2026-11-27"])
    assert found["unknown"] == found["staging"] == []


def test_inputs_that_are_in_are_left_out(made, dataset, capsys):
    found = told(capsys, prepare.run, f"--input={made}/day*.csv", f"--output={dataset}", "--append", "--json")
    assert (found["status"], found["skipped"]) == ("nothing_to_do", [f"{made}/day1.csv", f"{made}/day2.csv"])
    assert manifest_of(dataset).dataset_version == 2


@pytest.mark.parametrize("content", ["id,fare\n", ""], ids=["header", "empty"])
def test_a_day_without_rows_adds_nothing_and_may_come_later(made, dataset, tmp_path, capsys, caplog, content):
    day = tmp_path / "day3.csv"
    day.write_text(content)
    flags = f"--input={made}/day*.csv", f"--input={day}", f"--output={dataset}", "--append"
    found = told(capsys, prepare.run, *flags, "--json")
    assert (found["status"], found["exit_code"], len(found["skipped"])) == ("nothing_to_do", 0, 2)
    assert f"the input has no rows: {day} (1 files" in caplog.text
    assert prepare.run([flags[1], *flags[2:]]) == 0
    assert "nothing to add: the input has no rows" in capsys.readouterr().out
    assert manifest_of(dataset).dataset_version == 2
    assert list(verify_dataset(str(dataset))) == []
    assert not [path for path in list_files(str(dataset)) if path.startswith(".tmp")]
    write_day(tmp_path, 3)
    assert told(capsys, prepare.run, *flags, "--json")["rows_out"] == 30
    assert [span.rows_out for span in manifest_of(dataset).spans] == [30, 30, 30]


def test_provenance_that_was_edited_is_named_by_each_job(made, dataset, capsys):
    path = dataset / "manifest.json"
    fields = json.loads(path.read_text())
    fields["provenance"]["inputs"] = "day1.csv"
    path.write_text(json.dumps(fields))
    letters = f"--dead_letters={dataset}/*/dead_letters/*.jsonl"
    for run, argv in (
        (prepare.run, [f"--input={made}/day*.csv", f"--output={dataset}", "--append"]),
        (spans.run, [dataset]),
        (spans.log, [dataset]),
        (spans.compact, [dataset]),
        (replay.run, [letters, f"--output={dataset}", "--append"]),
        (verify.run, [f"--dataset={dataset}"]),
    ):
        assert main("spans", run, list(map(str, argv))) == 1
        told = "".join(capsys.readouterr())
        assert "provenance.inputs must be a list of objects, got 'day1.csv'" in told
        assert "manifest.json" in told


def test_a_first_span_without_rows_is_an_error(tmp_path):
    (tmp_path / "day.csv").write_text("id,fare\n")
    code, err = job(f"--input={tmp_path}/day.csv", f"--output={tmp_path}/out", "--append")
    assert (code, "the input has no rows" in err, (tmp_path / "out").exists()) == (1, True, False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--split=train=0.5,eval=0.5"], "could come into another split; leave out the flags", id="ratios"),
        pytest.param(["--seed=9"], "--seed 9: the dataset has the seed 0", id="seed"),
        pytest.param(
            ["--features=f.yaml"], "has no features, so nothing that is added may: leave it out", id="features"
        ),
        pytest.param(["--schema=other.pbtxt"], "have another schema than the dataset: feature fare", id="schema"),
        pytest.param(["--span=1"], "--span 1: the dataset has a span of this name", id="name"),
        pytest.param(
            ["--compression=none"],
            "--compression none: the shards of the dataset are written with gzip: leave it out",
            id="compression",
        ),
        pytest.param(["--output_format=parquet"], "the shards of the dataset are tfrecord: leave it out", id="format"),
        pytest.param(["--shuffle=none"], "the shards of the dataset are written with global", id="shuffle"),
        pytest.param(
            ["--window=fixed:60s", "--num_shards=1"], "append adds a span to a dataset that is one", id="windows"
        ),
    ],
)
def test_what_contradicts_the_dataset_is_refused(made, dataset, flags, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text("features:\n  f:\n    input: fare\n    ops: [scale_to_z_score]\n")
    text = (dataset / "schema.pbtxt").read_text().replace('name: "fare"', 'name: "fare"\n  deprecated: false', 1)
    (tmp_path / "other.pbtxt").write_text(text.replace("type: FLOAT", "type: INT"))
    write_day(tmp_path, 3)
    before = sorted(os.listdir(dataset))
    code, err = job(f"--input={tmp_path}/day3.csv", f"--output={dataset}", "--append", *flags)
    assert code == 2
    assert message in err
    assert sorted(os.listdir(dataset)) == before
    assert manifest_of(dataset).dataset_version == 2


def test_a_new_column_is_refused_and_left_out_only_where_a_schema_is_given(dataset, tmp_path):
    (tmp_path / "more.csv").write_text("id,fare,more\n900,1.5,7\n")
    flags = (f"--input={tmp_path}/more.csv", f"--output={dataset}", "--append")
    code, err = job(*flags)
    assert code == 2
    assert "more.csv: has columns that the dataset does not have (more); to leave them out, pass --schema" in err
    assert manifest_of(dataset).dataset_version == 2


def test_a_file_that_has_changed_is_an_error(made, dataset, tmp_path):
    shutil.copy(made / "day1.csv", tmp_path / "kept")
    before = os.stat(made / "day1.csv")
    try:
        write_day(made, 1, count=31)
        code, err = append(made, dataset)
    finally:
        shutil.copy(tmp_path / "kept", made / "day1.csv")
        os.utime(made / "day1.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert code == 1
    assert "day1.csv: is in the dataset (span 1) as it was before" in err
    assert "penstock drop-span" in err


def test_spans_log_and_diff(dataset, capsys):
    listed = told(capsys, spans.run, dataset, "--json")
    assert [(span["name"], span["date"]) for span in listed["spans"]][1] == ("2026-11-27", "2026-11-27T23:59:59Z")
    log = told(capsys, spans.log, dataset, "--json")["versions"]
    assert [(one["version"], one["operation"], one["rows_added"], one["readable"]) for one in log] == [
        (2, "append 2026-11-27", 30, True),
        (1, "prepare", 30, True),
    ]
    found = told(capsys, spans.diff, dataset, "--json")
    assert ([span["name"] for span in found["spans"]], found["removed"]) == (["2026-11-27"], [])
    assert sum(after - before for before, after in found["splits"].values()) == 30
    by_split = {one["names"][0]: one for one in found["statistics"]}
    assert found["not_compared"] is None
    assert {split: tuple(one["rows"]) for split, one in by_split.items()} == {
        split: tuple(rows) for split, rows in found["splits"].items()
    }
    differs = {one["column"]: one["differs"] for one in by_split["train"]["columns"]}
    assert differs["id"]["max"][0] < 200 <= differs["id"]["max"][1]
    assert spans.diff([str(dataset)]) == 0
    assert "train: " in capsys.readouterr().out


def test_diff_of_a_version_that_there_is_not(dataset):
    with pytest.raises(ConfigError, match="there is no version 0; there are 1 to 2"):
        spans.diff([str(dataset), "0", "1"])


def test_diff_says_why_statistics_are_not_compared(dataset, capsys):
    span = manifest_of(dataset).spans[1]
    (dataset / span.statistics / "out.pb").write_bytes(b"?")
    found = told(capsys, spans.diff, dataset, "--json")
    assert found["statistics"] == []
    assert "out.pb" in found["not_compared"]
    assert spans.diff([str(dataset)]) == 0
    assert "statistics are not compared: " in capsys.readouterr().out


def test_statistics_of_a_dataset_are_those_of_all_its_spans(dataset, capsys):
    rows = dict(manifest_of(dataset).splits)
    compared = told(capsys, compare.run, dataset, dataset, "--json")["datasets"]
    assert {pair["names"][0]: pair["rows"] for pair in compared} == {name: [count] * 2 for name, count in rows.items()}
    checked = told(capsys, check.run, "--statistics", dataset, "--baseline", dataset, "--json")
    assert checked["rows"] == rows
    merged = told(capsys, profile.run, "--merge", dataset, "--json")["datasets"]
    assert {one["name"]: one["rows"] for one in merged} == rows


def test_a_span_without_statistics_leaves_none_of_all_rows(dataset):
    manifest = manifest_of(dataset)
    first, second = manifest.spans
    changed = dataclasses.replace(manifest, spans=(dataclasses.replace(first, statistics=None), second))
    (dataset / "manifest.json").write_text(changed.to_json())
    newest = f"{dataset}/{second.statistics}/out.pb"
    code, err = job(dataset, dataset, run=compare.run)
    assert code == 2
    assert f"span 1 has no statistics, so there are none of all rows of the dataset; name {newest}" in err.replace(
        "those of one span, such as ", ""
    )
    assert compare.run([newest, newest]) == 0


def test_statistics_that_cannot_be_merged_are_told_of(dataset):
    span = manifest_of(dataset).spans[0]
    rows = pa.record_batch({"id": [1, 2], SPLIT: ["train", "eval"]})
    compute_statistics([rows], StatisticsOptions(weight="id")).write(f"{dataset}/{span.statistics}/out.pb")
    code, err = job(dataset, dataset, run=compare.run)
    assert code == 2
    assert f"{dataset}: the statistics of its spans cannot be merged: " in err
    assert "weight is 'id' in one and None in the other" in err


def test_the_report_of_a_dataset_has_statistics_of_all_spans(dataset):
    report = dataset_report(str(dataset))
    rows = {one.name: one.num_examples for one in report.statistics.datasets}
    assert rows == dict(manifest_of(dataset).splits)


def test_compact_then_clean(dataset, capsys):
    found = told(capsys, spans.compact, dataset, "--json")
    assert [span["name"] for span in found["spans"]] == ["1..2026-11-27"]
    assert found["spans"][0]["statistics"] is not None
    assert list(verify_dataset(str(dataset))) == []
    newest = told(capsys, spans.log, dataset, "--json")["versions"][0]
    assert (newest["rows_added"], newest["rows_removed"]) == (0, 0)
    assert len(penstock.load(dataset, "train", version=1)) < len(penstock.load(dataset, "train"))
    kept = told(capsys, verify.run, "--dataset", dataset, "--clean", "--json")
    assert kept["cleaned"] == []
    cleaned = told(capsys, verify.run, "--dataset", dataset, "--clean", "--clean_age", "0s", "--json")
    assert "train/part-00000-of-00001.tfrecord.gz" in cleaned["cleaned"]
    assert list(verify_dataset(str(dataset))) == []
    assert {path.partition("/")[0] for path in list_files(str(dataset))} >= {
        "_versions",
        "manifest.json",
        "schema.pbtxt",
    }
    assert [one["readable"] for one in told(capsys, spans.log, dataset, "--json")["versions"]] == [True, False, False]
    with pytest.raises(penstock.io.ConfigError, match="shards of version 1 are deleted"):
        penstock.load(dataset, "train", version=1)


@pytest.mark.parametrize(
    ("run", "argv"),
    [(spans.drop_span, ["1"]), (spans.retain, ["365d"]), (spans.compact, [])],
    ids=["drop-span", "retain", "compact"],
)
def test_a_full_disk_is_told_without_flags_of_other_jobs(dataset, capsys, monkeypatch, run, argv):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found = manifest_of(dataset)
    old = dataclasses.replace(found.spans[0], date="2020-01-01T00:00:00Z")
    (dataset / "manifest.json").write_text(dataclasses.replace(found, spans=(old, found.spans[1])).to_json())
    monkeypatch.setattr(folders.os, "replace", full)
    assert main("spans", run, [str(dataset), *argv]) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert error.endswith("; make room there\n")
    assert manifest_of(dataset).dataset_version == 2


def test_records_are_sorted_where_compact_is_told_to(dataset, tmp_path, monkeypatch):
    places, real = [], rewrite.merge_batches
    monkeypatch.setattr(
        rewrite, "merge_batches", lambda batches, at, *more: places.append(at) or real(batches, at, *more)
    )
    assert spans.compact([str(dataset), f"--spill_dir={tmp_path}/spill"]) == 0
    assert len(places) == 2
    assert all(place.startswith(f"{tmp_path}/spill/") for place in places)
    assert list(verify_dataset(str(dataset))) == []
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--spill_dir .*: is a file; name a folder"):
        spans.compact([str(dataset), f"--spill_dir={tmp_path}/file"])


def test_retain(dataset, made, capsys, caplog):
    """The second span has its date in its name, and the first one is as old as the test."""
    manifest = manifest_of(dataset)
    old = dataclasses.replace(manifest.spans[0], date="2020-01-01T00:00:00Z")
    changed = dataclasses.replace(manifest, spans=(old, manifest.spans[1]))
    (dataset / "manifest.json").write_text(changed.to_json())
    dry = told(capsys, spans.retain, dataset, "365d", "--dry_run", "--json")
    assert ([span["name"] for span in dry["removed"]], dry["version"], dry["status"]) == (["1"], 2, "described")
    done = told(capsys, spans.retain, dataset, "365d", "--json")
    assert ([span["name"] for span in done["spans"]], done["version"]) == (["2026-11-27"], 3)
    assert list(verify_dataset(str(dataset))) == []
    assert told(capsys, spans.retain, dataset, "365d", "--json")["version"] == 3
    assert append(made, dataset)[0] == 0
    assert "1 input was in the dataset until penstock retain, and left out" in caplog.text
    assert manifest_of(dataset).dataset_version == 3
    code, err = job(dataset, "2026-11-27", run=spans.drop_span)
    assert (code, "no span would be left" in err) == (2, True)


def test_replay_adds_what_it_repairs(dataset, tmp_path, capsys):
    """The row x,y is no number; that of the letter is put right in a copy of the file, which lies in the dataset."""
    (letters,) = manifest_of(dataset).dead_letters
    path = dataset / letters.path
    path.write_text(path.read_text().replace("x,y", "299,7.5"))
    flags = (f"--dead_letters={dataset}/run-*/dead_letters/*.jsonl", f"--output={dataset}", "--append", "--span=mended")
    done = told(capsys, replay.run, *flags, "--json")
    assert (done["letters"]["repaired"], done["letters"]["rejected"], done["span"]) == (1, 0, "mended")
    after = manifest_of(dataset)
    assert [(span.name, span.rows_out, span.rows_rejected) for span in after.spans][2:] == [("mended", 1, 0)]
    assert (after.rows_in, after.rows_out, after.rows_rejected) == (62, 61, 1)
    found = [batch["id"].to_pylist() for split in after.splits for batch in penstock.load(dataset, split).batches(100)]
    assert 299 in itertools.chain(*found)
    assert {fault.code for fault in verify_dataset(str(dataset))} == set()
    assert told(capsys, replay.run, *flags[:3], "--json")["status"] == "nothing_to_do", "each file once"
    code, err = job(*flags, "--watch=1", run=replay.run)
    assert (code, "--append adds one replay to a dataset" in err) == (2, True)


def test_dead_letters_are_replayed_with_the_flags_of_their_span(dataset):
    """The second span has a delimiter and rules of its own; compacted with the first one, it keeps them."""
    manifest = manifest_of(dataset)
    first, second = manifest.spans
    own = {"csv_delimiter": ";", "rules": "strict.yaml"}
    changed = dataclasses.replace(second, provenance={**second.provenance, "options": own})
    (dataset / "manifest.json").write_text(dataclasses.replace(manifest, spans=(first, changed)).to_json())
    letters = _replay.letter_files([f"{dataset}/run-*/dead_letters/*.jsonl"])
    found = _replay.inherited_flags(letters, ())
    assert (found["csv_delimiter"], found["rules"], found["split_key"]) == (";", "strict.yaml", ["id"])
    (dataset / "dead_letters").mkdir()
    (dataset / "dead_letters" / "a.jsonl").write_text("")
    both = _replay.letter_files([f"{dataset}/**/dead_letters/*.jsonl"])
    with pytest.raises(
        ConfigError, match=rf"{dataset}, span 1 and {dataset}, span {second.name} had a different --csv"
    ):
        _replay.inherited_flags(both, ())
    assert _replay.inherited_flags(both, ("csv_delimiter", "rules"))["split_key"] == ["id"]
    assert spans.compact([str(dataset)]) == 0
    letters = _replay.letter_files([f"{dataset}/run-*/dead_letters/*.jsonl"])
    with pytest.raises(ConfigError, match=r"had a different --csv_delimiter: pass it"):
        _replay.inherited_flags(letters[-1:], ())


def test_windows_are_put_together(tmp_path, capsys):
    write_windows(tmp_path, range(50, 70))
    write_windows(tmp_path, [55], final=False)
    found = told(capsys, spans.compact, tmp_path, "--period=1m", "--json")
    assert [(one["window"][0], one["windows"], one["rows_out"], one["shards"]) for one in found["sets"]] == [
        ("1970-01-01T00:00:00.000000Z", 9, 27, 1),
        ("1970-01-01T00:01:00.000000Z", 10, 30, 1),
    ]
    assert (found["open"], found["version"]) == (["19700101T000055Z_19700101T000056Z"], None)
    assert spans.compact([str(tmp_path)]) == 0
    assert f"{tmp_path}: no windows are to be put together" in capsys.readouterr().out
    looked = told(capsys, status.run, "--output", tmp_path, "--json")
    assert (looked["window_count"], looked["rows_out"], looked["earlier_files"]) == (20, 60, 19)
    assert looked["unknown"] == looked["missing"] == looked["staging"] == []
    done = told(capsys, verify.run, "--dataset", tmp_path, "--clean", "--clean_age", "0s", "--json")
    assert (done["windows"], done["shards"], done["rows_out"], len(done["cleaned"])) == (20, 3, 60, 19)
    assert told(capsys, verify.run, "--dataset", tmp_path, "--json")["good"]
    code, err = job(tmp_path, "--name=x", run=spans.compact)
    assert (code, "--name x: is for spans" in err) == (2, True)


def test_a_period_is_of_windows(dataset):
    code, err = job(dataset, "--period=1h", run=spans.compact)
    assert (code, "--period 1h: is for a dataset with windows" in err) == (2, True)
