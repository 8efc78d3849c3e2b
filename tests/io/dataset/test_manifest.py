import dataclasses
import json

import pytest

from penstock.io.dataset.manifest import Manifest, PublishedDeadLetters, Shard, dataset_id, read_manifest
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError, DataError
from penstock.io.reasons import Note

SHARDS = (
    Shard("train/part-00000-of-00001.tfrecord", "train", 3, 90, 90, "00000000", "aa"),
    Shard("eval/part-00000-of-00001.tfrecord", "eval", 1, 30, 30, "00000001", "bb", ("2020-01-01T00:00:00Z",) * 2),
)


def manifest(**changes):
    fields = {
        "run_id": "r",
        "dataset_id": dataset_id(SHARDS),
        "created": "2020-01-01T00:00:00Z",
        "rows_in": 5,
        "rows_out": 4,
        "rows_rejected": 1,
        "splits": {"train": 3, "eval": 1},
        "shards": SHARDS,
        "dead_letters": (PublishedDeadLetters("dead_letters/part-00000-of-00001.jsonl", 1),),
        "rejected_by_reason": {"schema.type": 1},
        "rejected_by_stage": {"read": 1},
        "compression": "none",
        "shuffle": "global",
        "seed": 7,
        "extras": ("schema.pbtxt",),
        "provenance": {"inputs": [{"uri": "señal.csv"}]},
    }
    return Manifest(**{**fields, **changes})


def test_manifest_round_trips_as_json():
    noted = manifest(notes=(Note("float32.rounded", "ts", 2, "1.1 is written as 1.2"),))
    assert Manifest.from_json(noted.to_json()) == noted
    assert Manifest.from_json(manifest().to_json()) == manifest()


def test_manifest_of_an_older_release_has_no_notes():
    fields = json.loads(manifest().to_json())
    del fields["notes"]
    assert Manifest.from_json(json.dumps(fields)).notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"not a manifest"),
        ("[]", r"not a manifest"),
        ('{"version": 1}', r"not a manifest"),
        ('{"version": 9}', r"manifest version must be 1, got 9"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=rf"manifest\.json: {message}"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(("part", "field"), [("shards", "records"), ("dead_letters", "path")])
def test_fields_of_another_type_are_refused(part, field):
    fields = json.loads(manifest().to_json())
    fields[part][0][field] = [7]
    with pytest.raises(DataError, match=rf"not a manifest: TypeError.*{field} must be of type"):
        Manifest.from_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        pytest.param({"inputs": 7}, "inputs must be a list of objects, got 7", id="number"),
        pytest.param({"inputs": "a.csv"}, "inputs must be a list of objects, got 'a.csv'", id="text"),
        pytest.param({"inputs": None}, "inputs must be a list of objects, got None", id="null"),
        pytest.param({"inputs": ["a.csv"]}, r"inputs\[0\] must be an object, got 'a.csv'", id="texts"),
        pytest.param({"inputs": [{"uri": "é"}, {}]}, r"inputs\[1\].uri must be a text, got None", id="no_uri"),
        pytest.param(
            {"inputs": [{"uri": "a", "version": [1]}]}, r"inputs\[0\].version must be a text, got \[1\]", id="version"
        ),
        pytest.param(
            {"inputs": [{"uri": "a", "size": "1"}]}, r"inputs\[0\].size must be an integer, got '1'", id="size"
        ),
        pytest.param({"retired": {"uri": "a"}}, "retired must be a list of objects", id="retired"),
        pytest.param({"options": []}, r"options must be an object, got \[\]", id="options"),
        pytest.param({"options": None}, "options must be an object, got None", id="no_options"),
        pytest.param({"options": {"input": 7}}, "options.input must be a list, got 7", id="given"),
        pytest.param({"options": {"input": [7]}}, "options.input must be a text, got 7", id="given_numbers"),
        pytest.param({"split": "train"}, "split must be an object, got 'train'", id="split"),
        pytest.param({"versions": 1}, "versions must be an object, got 1", id="versions"),
        pytest.param({"parts": [{}]}, r"parts\[0\].run_id must be a text, got None", id="parts"),
        pytest.param(
            {"parts": [{"run_id": "r", "provenance": {"options": 1}}]},
            r"parts\[0\].provenance.options must be an object, got 1",
            id="nested",
        ),
    ],
)
def test_a_provenance_that_others_cannot_read_is_refused(tmp_path, provenance, message):
    fields = json.loads(manifest().to_json())
    (tmp_path / "manifest.json").write_text(json.dumps({**fields, "provenance": provenance}))
    with pytest.raises(DataError, match=rf"manifest\.json: provenance\.{message}"):
        read_manifest(str(tmp_path))
    with pytest.raises(ConfigError, match=rf"^provenance\.{message}"):
        DatasetSpec(str(tmp_path), num_shards=1, provenance=provenance)


def test_other_provenance_may_be_anything():
    more = {"who": [1], "inputs": [{"uri": "a", "size": None, "start": 7}], "parts": [], "label": None}
    found = dataclasses.replace(manifest(), provenance=more)
    assert Manifest.from_json(found.to_json()) == found


def test_folder_without_manifest_has_none(tmp_path):
    assert read_manifest(str(tmp_path)) is None
    assert read_manifest(str(tmp_path / "nothing")) is None


def test_dataset_id_is_of_the_content_in_order():
    assert dataset_id(SHARDS) == dataset_id(list(SHARDS))
    assert len({dataset_id(SHARDS), dataset_id(SHARDS[::-1]), dataset_id(SHARDS[:1]), dataset_id(())}) == 4
