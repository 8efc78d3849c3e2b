"""The main job with each kind of split."""

import itertools

import pytest
from helpers import job, manifest_of, run_prepare, write_csv

from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.transforms.verify import verify_dataset
from pipelines._jobs import replay as _replay
from pipelines._options.replay import ReplayOptions
from pipelines._report.result import DATA_FAILED, DONE

NAMES = ("id", "user", "t", "label")


def rows_of(ids):
    return [{"id": n, "user": None if n % 4 else n, "t": f"2026-06-{n % 30 + 1:02d}", "label": 0} for n in ids]


def prepared(tmp_path, *flags):
    out = tmp_path / "out"
    if not (tmp_path / "in").exists():
        for name, ids in (("train", range(60)), ("eval", range(60, 90))):
            (tmp_path / "in" / name).mkdir(parents=True)
            write_csv(tmp_path / "in" / name / "rows.csv", rows_of(ids), NAMES)
    assert run_prepare("--input", tmp_path / "in", "--output", out, "--max_reject_fraction=0", *flags) == DONE
    assert list(verify_dataset(str(out))) == []
    manifest = manifest_of(out)
    assert manifest.rows_in == 90 == manifest.rows_out + manifest.rows_rejected
    return manifest


def test_by_time_with_a_gap_that_counts_as_no_fault(tmp_path):
    time = "train<2026-06-11, eval<2026-06-21, test"
    manifest = prepared(tmp_path, "--event_time=t", f"--split_time={time}", "--split_gap=2d")
    assert manifest.splits == {"train": 24, "eval": 24, "test": 30}
    assert (manifest.rejected_by_reason, manifest.rejected_by_stage) == ({"split.gap": 12}, {"excluded": 12})
    assert manifest.provenance["split"]["gap"] == "2d"


def test_rows_of_a_gap_are_not_among_those_of_too_many_rejects(tmp_path):
    times = [*["2026-06-10"] * 4, *["2026-06-01"] * 3, *["never"] * 3]
    path = write_csv(tmp_path / "in.csv", [{"id": n, "t": time} for n, time in enumerate(times)], ("id", "t"))
    flags = ("--event_time=t", "--split_time=train<2026-06-11, test", "--split_gap=2d")
    code, told = job("--input", path, "--output", tmp_path / "out", *flags)
    assert (code, "3 of 6 rows were rejected, more than --max_reject_fraction 0.05" in told) == (DATA_FAILED, True), (
        told
    )


def test_by_folder_from_a_configuration(tmp_path):
    (tmp_path / "job.yaml").write_text("split_from: {train: train/*, eval: eval/*}\n")
    manifest = prepared(tmp_path, f"--config={tmp_path}/job.yaml")
    assert manifest.splits == {"train": 60, "eval": 30}
    assert manifest.provenance["split"] == {"by": "file", "patterns": ["train=train/*", "eval=eval/*"]}


def test_what_is_wrong_with_splits_is_told(tmp_path, capsys):
    flags = ("--split=8,1,1", "--split_key=user", "--label=label", "--split_stratify=label")
    manifest = prepared(tmp_path, *flags)
    codes = {note.code: note.subject for note in manifest.notes}
    assert set(codes) == {"split.null_key", "split.no_positive"}
    assert f"split.null_key {codes['split.null_key']}   67" in (text := capsys.readouterr().out)
    assert "look at the splits (no row is rejected for it)" in text
    assert "not as they were read" not in text
    assert manifest.provenance["split"]["hash_version"] == 2


def test_each_window_counts_its_rows_without_a_key(tmp_path):
    rows = write_csv(tmp_path / "rows.csv", rows_of(range(60)), NAMES)
    flags = ("--split=8,1,1", "--split_key=user", "--event_time=t", "--window=fixed:10d", "--num_shards=1")
    assert run_prepare("--input", rows, "--output", tmp_path / "out", *flags) == DONE
    noted = [
        {note.code: note.count for note in window.notes if note.code.startswith("split.")}
        for window in read_window_manifests(str(tmp_path / "out"))
    ]
    assert sum(counts["split.null_key"] for counts in noted) == 45
    assert {*itertools.chain(*noted)} == {"split.null_key"}


@pytest.fixture
def letters(tmp_path):
    """Dead letters of a dataset with splits."""
    prepared(tmp_path, "--event_time=t", "--split_time=train<2026-06-11,test", "--split_gap=2d", "--seed=3")
    return f"--dead_letters={tmp_path}/out/dead_letters/*.jsonl"


def test_a_replay_splits_as_the_run_did(tmp_path, letters):
    manifest = tmp_path / "out" / "manifest.json"
    split = _replay.completed(ReplayOptions.parse([letters, "--output=x"])).split
    assert (split.split_time, split.split_gap, split.seed) == ("train<2026-06-11,test", "2d", 3)
    assert split.split_hash == 2
    # A manifest from before there were versions of the hash.
    manifest.write_text(manifest.read_text().replace('"split_hash": 2', '"older": 0'))
    assert _replay.completed(ReplayOptions.parse([letters, "--output=x"])).split.split_hash == 1
    split = _replay.completed(ReplayOptions.parse([letters, "--output=x", "--folds=3"])).split
    assert (split.split_time, split.split_gap, split.split_hash) == (None, None, 2), "another kind is a new beginning"
    split.names()
