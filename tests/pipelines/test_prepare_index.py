"""`--index` end to end: a dataset, what is added to it, what is put together, windows."""

import pytest
from helpers import job, manifest_of, run_prepare

import penstock
from penstock.io.dataset.windowed.manifest import read_stored, read_window_manifests
from penstock.io.files.folders import list_files
from penstock.transforms.verify import verify_dataset
from pipelines import spans, verify
from pipelines._jobs.appending import Appending
from pipelines._jobs.replay import completed
from pipelines._options.prepare import PrepareOptions
from pipelines._options.replay import ReplayOptions
from pipelines._report.result import DONE, WRONG_USAGE

START = 1_700_000_040


@pytest.fixture
def rows(tmp_path):
    """Two files of 40 rows, one of which is no number in the second one, over two minutes each."""
    for day in range(2):
        first = day * 40
        lines = [f"{number},{START + 3 * number}" for number in range(first, first + 40)]
        lines[7:8] = [f"x,{START}"] if day else lines[7:8]
        (tmp_path / f"day{day}.csv").write_text("\n".join(["id,time", *lines]) + "\n")
    return tmp_path


def indexes(output):
    return {path for path in list_files(str(output)) if "_index/" in path}


def ids(output):
    return sorted(int(row["id"]) for row in penstock.load(str(output)).source(missing={"id": -1}))


def test_what_is_added_and_put_together_has_indexes(rows, capsys):
    out = rows / "out"
    flags = (f"--output={out}", "--max_reject_fraction=0.5")
    assert run_prepare(f"--input={rows}/day0.csv", *flags, "--index", "--num_shards=2") == DONE
    assert run_prepare(f"--input={rows}/day1.csv", *flags, "--append") == DONE
    manifest = manifest_of(out)
    assert (manifest.compression, manifest.provenance["options"]["index"]) == ("none", True)
    assert indexes(out) == {shard.index.path for shard in manifest.shards}
    assert len(manifest.shards) == 3
    assert ids(out) == [number for number in range(80) if number != 47]
    assert spans.compact([str(out)]) == DONE
    (shard,) = manifest_of(out).shards
    assert list(verify_dataset(str(out))) == []
    assert verify.run(["--dataset", str(out), "--clean", "--clean_age", "0s"]) == DONE
    assert indexes(out) == {shard.index.path}
    assert len(ids(out)) == 79
    appended = [f"--input={rows}/day1.csv", f"--output={out}", "--append"]
    for more, index in (([], True), (["--compression=gzip"], False)):
        assert Appending.begin(str(out)).completed(PrepareOptions.parse([*appended, *more])).output.index == index
    letters = f"--dead_letters={out}/run-*/dead_letters/*.jsonl"
    assert completed(ReplayOptions.parse([letters, "--output=elsewhere"])).output.index
    options = completed(ReplayOptions.parse([letters, "--output=elsewhere", "--compression=gzip"]))
    assert not options.output.index
    assert run_prepare(f"--input={rows}/day0.csv", f"--output={out}", "--overwrite") == DONE
    assert indexes(out) == set()


def test_windows_have_indexes(rows):
    out = rows / "out"
    flags = ("--event_time=time:s", "--window=fixed:60s", "--num_shards=2", "--index")
    assert run_prepare(f"--input={rows}/day0.csv", f"--output={out}", *flags) == DONE
    windows = list(read_window_manifests(str(out)))
    assert indexes(out) == {shard.index.path for window in windows for shard in window.shards}
    assert len(indexes(out)) == 2 * len(windows) > 2
    assert ids(out) == list(range(40))
    assert spans.compact([str(out)]) == DONE
    assert verify.run(["--dataset", str(out), "--clean", "--clean_age", "0s"]) == DONE
    (made,) = read_stored(str(out))
    assert indexes(out) == {shard.index.path for shard in made.shards}
    assert ids(out) == list(range(40))


def test_what_has_no_index_is_refused(rows):
    for flags, what in (
        (("--compression=gzip",), "shards with gzip can only be read from their beginning"),
        (("--output_format=parquet",), "the format parquet finds its rows in its own way"),
    ):
        code, said = job(f"--input={rows}/day0.csv", f"--output={rows}/out", "--index", *flags)
        assert (code, what in said) == (WRONG_USAGE, True), said
