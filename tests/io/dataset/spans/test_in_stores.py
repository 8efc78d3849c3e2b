"""The same in an object store: conditional writes in place of renames, folders of runs that stay where they are."""

import pytest
from spans_runs import SPLITS, expected, ids_of, publish, rows, stage
from store_fixtures import bucket, emulator  # noqa: F401

from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.spans.compact import compact_spans
from penstock.io.dataset.spans.drop import drop_spans
from penstock.io.errors import DataError
from penstock.io.files.folders import list_files
from penstock.transforms.leftovers import leftovers
from penstock.transforms.verify import verify_dataset


def test_spans_of_a_store(bucket):  # noqa: F811
    output = f"{bucket}/out"
    for number in range(3):
        publish(stage(output, rows(10 * number, 10), number))
    assert list(verify_dataset(output)) == []
    manifest = read_manifest(output)
    assert (manifest.rows_in, manifest.rows_out, len(manifest.spans)) == (33, 30, 3)
    assert len({span.folder for span in manifest.spans}) == 3
    late = stage(output, rows(30, 10))
    publish(stage(output, rows(30, 10)))
    with pytest.raises(DataError, match="another run has published since this one began"):
        publish(late)
    compact_spans(output, ["2", "3"], None, None, lambda parts, target: False)
    drop_spans(output, ["1"], "drop-span 1")
    assert list(verify_dataset(output)) == []
    assert [span.name for span in read_manifest(output).spans] == ["2..3", "4"]
    found = sorted(one for split in SPLITS for one in ids_of(output, split))
    assert found == list(range(10, 40))
    assert ids_of(output, "train", version=3) == expected("train", 30)
    assert leftovers(output) == [late[0].staging.name]
    assert sum(path.startswith("_versions/") for path in list_files(output)) == 5
