"""The same in an object store: conditional writes in place of renames, folders of runs that stay where they are."""

import time
from datetime import timedelta

import pytest
from quick_windows import ids_of as window_ids
from quick_windows import write_windows
from spans_runs import SPLITS, expected, ids_of, publish, rows, stage
from store_fixtures import bucket, emulator  # noqa: F401

import penstock
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.spans.compact import compact_spans
from penstock.io.dataset.spans.drop import drop_spans
from penstock.io.dataset.spans.windows import compact_windows
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.transforms.dataset_status import dataset_status
from penstock.transforms.leftovers import leftovers
from penstock.transforms.verify import verify_dataset
from pipelines._inspect.clean import clean


def test_spans_of_a_store(bucket):  # noqa: F811
    output = f"{bucket}/out"
    for number in range(3):
        publish(stage(output, rows(10 * number, 10), number, index=True))
    assert list(verify_dataset(output)) == []
    manifest = read_manifest(output)
    assert (manifest.rows_in, manifest.rows_out, len(manifest.spans)) == (33, 30, 3)
    assert len({span.folder for span in manifest.spans}) == 3
    late = stage(output, rows(30, 10), index=True)
    publish(stage(output, rows(30, 10), index=True))
    with pytest.raises(DataError, match="another run has published since this one began"):
        publish(late)
    compact_spans(output, ["2", "3"], None, None, lambda parts, target: False)
    drop_spans(output, ["1"], "drop-span 1")
    assert list(verify_dataset(output)) == []
    assert [span.name for span in read_manifest(output).spans] == ["2..3", "4"]
    found = sorted(one for split in SPLITS for one in ids_of(output, split))
    assert found == list(range(10, 40))
    assert ids_of(output, "train", version=3) == expected("train", 30)
    assert all(shard.index.path in list_files(output) for shard in read_manifest(output).shards)
    source = penstock.load(output, "train").source()
    assert sorted(int(row["id"]) for row in source.__getitems__(range(len(source)))) == ids_of(output, "train")
    assert leftovers(output) == [late[0].staging.name]
    assert sum(path.startswith("_versions/") for path in list_files(output)) == 5


def test_windows_of_a_store(bucket, tmp_path):  # noqa: F811
    output = f"{bucket}/windows-out"

    def upload(numbers):
        write_windows(tmp_path, numbers, index=True)
        for path in tmp_path.rglob("*.*"):
            stores.write_file(f"{output}/{path.relative_to(tmp_path)}", path.read_bytes())

    upload(range(5))
    compact_windows(output, timedelta(minutes=1))
    upload(range(5, 9))
    (found,) = compact_windows(output, timedelta(minutes=1)).sets
    assert len(found.parts) == 9
    assert list(verify_dataset(output)) == []
    assert ids_of(output, "train") == sorted(one for number in range(9) for one in window_ids(number))
    assert dataset_status(output, 0.0).is_good
    gone = clean(output, verify_dataset(output), time.time() + 60)
    assert len(gone) == 2 * (9 + 1)
    assert not any(path.startswith("_index/") for path in list_files(output))
    assert list(verify_dataset(output)) == []
    assert ids_of(output, "train") == sorted(one for number in range(9) for one in window_ids(number))
