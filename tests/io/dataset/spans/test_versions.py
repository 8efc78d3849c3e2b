"""Versions that are looked at one after another."""

import dataclasses
import gzip
import json

import pytest
from spans_runs import publish, rows, stage

from penstock.io.dataset import manifest as manifests
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.spans.versions import read_versions, superseded
from penstock.io.errors import DataError
from penstock.io.files.folders import list_files


@pytest.fixture
def dataset(tmp_path):
    for number in range(3):
        publish(stage(tmp_path, rows(number * 10, 10), 1))
    return tmp_path


def rewrite(dataset, number, change):
    path = dataset / "_versions" / f"{number:06d}.json.gz"
    fields = json.loads(gzip.decompress(path.read_bytes()))
    change(fields)
    path.write_bytes(gzip.compress(json.dumps(fields, indent=2).encode()))


def test_each_has_what_its_manifest_says(dataset):
    *_, last = read_versions(str(dataset))
    said = read_manifest(str(dataset))
    assert [one.number for one in read_versions(str(dataset))] == [1, 2, 3]
    assert last.spans == {span.run_id: span.rows_out for span in said.spans}
    assert last.shards == {shard.path for shard in said.shards}
    assert last.files == {*said.files()}
    for name in ("created", "run_id", "operation", "dataset_id", "rows_out"):
        assert getattr(last, name) == getattr(said, name)


def test_one_that_was_never_added_to_is_one_span(dataset):
    rewrite(dataset, 1, lambda fields: [fields.pop(name) for name in ("spans", "operation", "dataset_version")])
    first, *_ = read_versions(str(dataset))
    assert (first.number, first.operation, first.spans) == (1, "", {first.run_id: 10})


def test_no_manifest_is_built_of_them(dataset, monkeypatch):
    monkeypatch.setattr(manifests, "from_fields", lambda *_: pytest.fail("a manifest with all its spans is read"))
    assert len([*read_versions(str(dataset))]) == 3
    assert superseded(str(dataset), list_files(str(dataset))) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda fields: fields.update(version=9), "manifest version must be 1, got 9", id="newer"),
        pytest.param(lambda fields: fields.update(rows_out="7"), "must be of type int, got '7'", id="text"),
        pytest.param(lambda fields: fields.update(created=7), "must be of type str, got 7", id="number"),
        pytest.param(lambda fields: fields.pop("shards"), "KeyError.'shards'", id="missing"),
        pytest.param(lambda fields: fields.update(shards=[7]), "AttributeError", id="shards"),
        pytest.param(lambda fields: fields["spans"].append("x"), "TypeError", id="spans"),
        pytest.param(lambda fields: fields["spans"][0].update(provenance=7), "AttributeError", id="provenance"),
        pytest.param(lambda fields: fields["spans"][0].update(provenance={"parts": 7}), "TypeError", id="parts"),
    ],
)
def test_one_that_is_none_is_named(dataset, change, message):
    rewrite(dataset, 2, change)
    with pytest.raises(DataError, match=rf"_versions/000002.json.gz: not a manifest: .*{message}"):
        list(read_versions(str(dataset)))


def test_one_that_is_cut_is_named(dataset):
    path = dataset / "_versions" / "000002.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"_versions/000002.json.gz: cannot be decompressed"):
        list(read_versions(str(dataset)))


def test_a_file_that_comes_back_is_not_left_out(dataset):
    """As when somebody puts an earlier manifest back: the file is of the newest version again."""
    newest = read_manifest(str(dataset))
    gone = newest.shards[-1]
    rewrite(dataset, 2, lambda fields: fields.update(shards=[]))
    assert superseded(str(dataset), list_files(str(dataset))) == {}
    (dataset / "_versions" / "000002.json.gz").write_bytes(gzip.compress(newest.to_json().encode()))
    (dataset / "manifest.json").write_text(dataclasses.replace(newest, shards=newest.shards[:-1]).to_json())
    assert superseded(str(dataset), list_files(str(dataset))) == {gone.path: newest.created}
