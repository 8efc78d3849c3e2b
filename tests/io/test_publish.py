import json

import pytest
from apache_beam.io.filesystems import FileSystems

from penstock.io.dead_letters import DeadLetterFile
from penstock.io.errors import ConfigError, DataError
from penstock.io.layout import Shard, Staging, list_files, read_manifest, remove_folder
from penstock.io.publish import Publisher, read_outcome


def write(path, text="x"):
    with FileSystems.create(path, compression_type="uncompressed") as file:
        file.write(text.encode())


def shard(staging, split, index=0, total=1, records=3):
    path = f"{split}/part-{index:05d}-of-{total:05d}.tfrecord"
    write(staging.path(path), f"{staging.run_id} {path}")
    return Shard(path, split, records, 1, 1, "00000000", f"sha of {path}")


def rejects(staging, name="b", records=1, stage="validate"):
    path = staging.path("dead_letters", f"{name}.jsonl")
    write(path, "{}\n" * records)
    return DeadLetterFile(path, records, {"schema.type": records}, {stage: records})


def publisher(output, run_id="r1", **changes):
    options = {
        "splits": ("train", "eval"),
        "max_reject_fraction": 0.25,
        "overwrite": True,
        "compression": "none",
        "shuffle": "global",
        "seed": 0,
        "extras": ("schema.pbtxt", "transform"),
    }
    return Publisher(Staging(str(output), run_id), **{**options, **changes})


def publish(run, **changes):
    """A whole small run: 6 rows out, 2 rejected."""
    staging = run.staging
    write(staging.path("schema.pbtxt"), staging.run_id)
    write(staging.path("transform", "fn", "saved_model.pb"))
    write(staging.path("runs", "spilled"))
    shards = [shard(staging, "eval"), shard(staging, "train")]
    files = [rejects(staging, "b"), rejects(staging, "a", stage="read")]
    return run.publish(shards, files, **{"rows_read": 7, **changes})


DATASET = {
    "manifest.json",
    "schema.pbtxt",
    "transform/fn/saved_model.pb",
    "train/part-00000-of-00001.tfrecord",
    "eval/part-00000-of-00001.tfrecord",
    "dead_letters/part-00000-of-00002.jsonl",
    "dead_letters/part-00001-of-00002.jsonl",
}


def published(output):
    return {path for path in list_files(str(output)) if not path.startswith(".tmp-")}


def test_published_dataset_is_what_the_manifest_says(tmp_path):
    run = publisher(tmp_path)
    outcome = publish(run)
    assert set(list_files(str(tmp_path))) == DATASET
    manifest = read_manifest(str(tmp_path))
    assert outcome.manifest == manifest == read_outcome(run.staging).manifest
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (8, 6, 2)
    assert manifest.rejected_by_stage == {"read": 1, "validate": 1}
    assert [one.split for one in manifest.shards] == ["train", "eval"]
    assert set(manifest.files()) == {path for path in DATASET if "/fn/" not in path} - {"manifest.json"} | {"transform"}


def test_lost_row_is_an_error_and_publishes_nothing(tmp_path):
    with pytest.raises(DataError, match=r"rows are unaccounted for: 9 in, 6 out, 2 rejected"):
        publish(publisher(tmp_path), rows_read=8)
    assert published(tmp_path) == set()


def test_too_many_rejects_leave_the_dead_letters_and_no_manifest(tmp_path):
    outcome = publish(publisher(tmp_path, max_reject_fraction=0.24))
    assert outcome.status == "too_many_rejects"
    assert outcome.dead_letters == f"{tmp_path}/dead_letters"
    assert published(tmp_path) == {path for path in DATASET if path.startswith("dead_letters")}


def test_too_many_rejects_leave_an_old_dataset_as_it_was(tmp_path):
    publish(publisher(tmp_path, "old"))
    before = {path: (tmp_path / path).read_bytes() for path in published(tmp_path)}
    outcome = publish(publisher(tmp_path, "new", max_reject_fraction=0))
    assert {path: (tmp_path / path).read_bytes() for path in published(tmp_path)} == before
    assert outcome.dead_letters == f"{tmp_path}/.tmp-new/dead_letters"
    assert len(list_files(outcome.dead_letters)) == 2


def test_rejects_at_the_limit_are_published(tmp_path):
    assert publish(publisher(tmp_path, max_reject_fraction=0.25)).status == "published"


def test_no_rows_publish_nothing(tmp_path):
    run = publisher(tmp_path)
    assert run.publish([shard(run.staging, "train", records=0)], [], 0).status == "no_rows"
    assert published(tmp_path) == set()


def test_overwrite_leaves_no_file_of_the_old_dataset_or_of_a_crashed_run(tmp_path):
    old = publisher(tmp_path, "old", splits=("gone",))
    old.publish([shard(old.staging, "gone", index, 2) for index in range(2)], [], 6)
    write(f"{tmp_path}/.tmp-crashed/train/part-00000-of-00009.tfrecord")
    publish(publisher(tmp_path, "new"))
    assert published(tmp_path) == DATASET
    assert set(list_files(str(tmp_path))) == DATASET
    assert (tmp_path / "schema.pbtxt").read_text() == "new"
    assert not (tmp_path / "gone").exists()


def test_folder_that_was_filled_meanwhile_is_not_touched(tmp_path):
    write(f"{tmp_path}/train/part-00000-of-00001.tfrecord", "theirs")
    with pytest.raises(ConfigError, match=r"was filled while the job ran"):
        publish(publisher(tmp_path, overwrite=False))
    assert (tmp_path / "train/part-00000-of-00001.tfrecord").read_text() == "theirs"


@pytest.mark.parametrize("fails_at", range(1, 6))
def test_publication_that_fails_half_way_has_no_manifest_and_can_be_repeated(tmp_path, monkeypatch, fails_at):
    publish(publisher(tmp_path, "old"))
    run, steps = publisher(tmp_path, "new"), []

    def failing(real):
        def step(*arguments):
            steps.append(real)
            if len(steps) == fails_at:
                raise OSError("the machine is gone")
            return real(*arguments)

        return step

    with monkeypatch.context() as patched:
        for name in ("_rename", "_delete", "_write"):
            patched.setattr(
                f"penstock.io.publish.{name}",
                failing(getattr(__import__("penstock.io.publish", fromlist=[name]), name)),
            )
        with pytest.raises(OSError, match="the machine is gone"):
            publish(run)
    manifest = read_manifest(str(tmp_path))
    assert manifest is None or manifest.run_id == "old"
    repeated = run.publish(
        [
            Shard(f"{split}/part-00000-of-00001.tfrecord", split, 3, 1, 1, "00000000", "s")
            for split in ("train", "eval")
        ],
        [DeadLetterFile(run.staging.path("dead_letters", f"{name}.jsonl"), 1, {"x": 1}, {"read": 1}) for name in "ab"],
        6,
    )
    assert repeated.status == "published"
    assert published(tmp_path) == DATASET
    for path in ("train/part-00000-of-00001.tfrecord", "schema.pbtxt"):
        assert (tmp_path / path).read_text().startswith("new")


def test_second_publication_of_a_published_run_changes_nothing(tmp_path):
    run = publisher(tmp_path)
    first = publish(run)
    again = run.publish(list(first.manifest.shards), [rejects(run.staging, name, stage="read") for name in "ab"], 6)
    assert again.status == "published"
    assert json.loads((tmp_path / "manifest.json").read_text())["created"] == first.manifest.created
    assert published(tmp_path) == DATASET


def test_run_without_an_outcome_is_told(tmp_path):
    staging = Staging(str(tmp_path), "r1")
    with pytest.raises(DataError, match=r"the run r1 ended without an outcome"):
        read_outcome(staging)
    remove_folder(staging.directory)
