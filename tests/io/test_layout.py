import os

import pytest

from penstock.io.errors import ConfigError, DataError
from penstock.io.layout import (
    Manifest,
    RejectsFile,
    Shard,
    Staging,
    check_output,
    copy_folder,
    dataset_id,
    list_files,
    new_run_id,
    part_name,
    read_manifest,
    remove_folder,
)

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
        "dead_letters": (RejectsFile("dead_letters/part-00000-of-00001.jsonl", 1),),
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
    assert Manifest.from_json(manifest().to_json()) == manifest()


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


def test_folder_without_manifest_has_none(tmp_path):
    assert read_manifest(str(tmp_path)) is None
    assert read_manifest(str(tmp_path / "nothing")) is None


def test_dataset_id_is_of_the_content_in_order():
    assert dataset_id(SHARDS) == dataset_id(list(SHARDS))
    assert len({dataset_id(SHARDS), dataset_id(SHARDS[::-1]), dataset_id(SHARDS[:1]), dataset_id(())}) == 4


def test_names_of_files_to_come():
    staging = Staging("out", "r1")
    assert staging.path("train", "x") == "out/.tmp-r1/train/x"
    assert staging.published(staging.path("train", "x")) == "out/train/x"
    assert new_run_id() != new_run_id()


@pytest.mark.parametrize("index", [-1, 2])
def test_part_index_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match=rf"index must be in \[0, 2\), got {index}"):
        part_name(index, 2, ".tfrecord")


def test_files_are_listed_copied_and_removed_with_their_folders(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x[1]").write_bytes(b"12")
    (tmp_path / "a" / ".tmp-1").write_bytes(b"")
    copy_folder(f"{tmp_path}/a", f"{tmp_path}/copy")
    assert list_files(f"{tmp_path}/copy") == list_files(f"{tmp_path}/a/") == {"b/x[1]": 2, ".tmp-1": 0}
    remove_folder(f"{tmp_path}/copy")
    remove_folder(f"{tmp_path}/copy")
    assert list_files(f"{tmp_path}/copy") == {}


def test_empty_or_new_output_is_fine_and_left_empty(tmp_path):
    check_output(str(tmp_path), overwrite=False)
    check_output(str(tmp_path / "new" / "folder"), overwrite=False)
    assert list_files(str(tmp_path)) == {}


def test_output_that_is_a_file_or_not_empty_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--output .*file: is a file; name a folder"):
        check_output(str(tmp_path / "file"), overwrite=True)
    with pytest.raises(ConfigError, match=r"is not empty \(file\); pass --overwrite"):
        check_output(str(tmp_path), overwrite=False)


def test_overwrite_spares_a_folder_that_is_no_dataset(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"no part of a dataset \(thesis\.tex\).*move them away"):
        check_output(str(tmp_path), overwrite=True)


def test_output_that_cannot_be_written_is_refused():
    with pytest.raises(ConfigError, match=r"--output /proc/nothing: cannot be written"):
        check_output("/proc/nothing", overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_output_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be written"):
        check_output(str(tmp_path), overwrite=False)
