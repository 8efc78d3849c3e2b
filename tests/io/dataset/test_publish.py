import contextlib
import json
import pkgutil
import shutil
import threading
import time
from concurrent import futures

import pytest
from apache_beam.io.filesystems import FileSystems

from penstock.io.dataset import publish as publish_dataset
from penstock.io.dataset.layout import Staging, lock_path
from penstock.io.dataset.manifest import Shard, ShardIndex, read_manifest
from penstock.io.dataset.publish import Publisher, read_outcome
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import ConfigError, DataError
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import list_files, remove_folder
from penstock.io.reasons import Note


def write(path, text="x"):
    with FileSystems.create(path, compression_type="uncompressed") as file:
        file.write(text.encode())


def shard(staging, split, index=0, total=1, records=3):
    path = f"{split}/part-{index:05d}-of-{total:05d}.tfrecord"
    text = f"{staging.run_id} {path}"
    entry = described(text, path, split, records)
    for name in entry.stored():
        write(staging.path(*name.split("/")), text)
    return entry


def described(text, path, split, records=3):
    """What the manifest says of a shard of this text; those of train have an index, of the same text."""
    index = ShardIndex(f"_index/{path}.index", len(text), "00000000") if split == "train" else None
    return Shard(path, split, records, len(text), 1, "00000000", f"sha of {path}", index=index)


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
    return Publisher(Staging(str(output), run_id), DatasetSpec(str(output), **{**options, **changes}))


def publish(run, **changes):
    """A whole small run: 6 rows out, 2 rejected."""
    return run.publish(*stage(run), **{"rows_read": 7, **changes})


def stage(run):
    staging = run.staging
    write(staging.path("schema.pbtxt"), staging.run_id)
    write(staging.path("transform", "fn", "saved_model.pb"))
    write(staging.path("runs", "spilled"))
    shards = [shard(staging, "eval"), shard(staging, "train")]
    return shards, [rejects(staging, "b"), rejects(staging, "a", stage="read")]


DATASET = {
    "manifest.json",
    "schema.pbtxt",
    "transform/fn/saved_model.pb",
    "train/part-00000-of-00001.tfrecord",
    "_index/train/part-00000-of-00001.tfrecord.index",
    "eval/part-00000-of-00001.tfrecord",
    "dead_letters/part-00000-of-00002.jsonl",
    "dead_letters/part-00001-of-00002.jsonl",
}


def published(output):
    return {path for path in list_files(str(output)) if not path.startswith((".tmp-", ".replaced-"))}


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


def test_notes_of_rows_follow_those_of_the_whole_input(tmp_path):
    known = Note("float32.rounded", "b", 9, "of all rows")
    found = [Note("float32.rounded", name, count, "d") for name, count in (("c", 2), ("a", 1), ("b", 1), ("c", 3))]
    manifest = publish(publisher(tmp_path, notes=(known,)), notes=found).manifest
    sums = (Note("float32.rounded", "a", 1, "d"), Note("float32.rounded", "c", 5, "d"))
    assert read_manifest(str(tmp_path)).notes == manifest.notes == (known, *sums)


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


def with_statistics(run):
    write(run.staging.path("statistics", "out.pb"))
    return run


def test_a_run_that_an_observer_refuses_leaves_its_dead_letters_and_statistics(tmp_path):
    run = with_statistics(publisher(tmp_path, extras=("schema.pbtxt", "transform", "statistics")))
    outcome = publish(run, refused=["fare: shifted", "tip: shifted"])
    assert (outcome.status, outcome.refused) == ("refused", ("fare: shifted", "tip: shifted"))
    assert outcome.statistics == f"{tmp_path}/statistics"
    assert published(tmp_path) == {"statistics/out.pb", *(path for path in DATASET if path.startswith("dead_letters"))}
    assert read_outcome(run.staging) == outcome


def test_a_run_that_is_refused_leaves_an_old_dataset_as_it_was(tmp_path):
    extras = ("schema.pbtxt", "transform", "statistics")
    publish(with_statistics(publisher(tmp_path, "old", extras=extras)))
    before = {path: (tmp_path / path).read_bytes() for path in published(tmp_path)}
    outcome = publish(with_statistics(publisher(tmp_path, "new", extras=extras)), refused=["fare: shifted"])
    assert {path: (tmp_path / path).read_bytes() for path in published(tmp_path)} == before
    assert outcome.statistics == f"{tmp_path}/.tmp-new/statistics"
    assert set(list_files(outcome.statistics)) == {"out.pb"}


def test_too_many_rejects_are_told_before_what_an_observer_says(tmp_path):
    outcome = publish(publisher(tmp_path, max_reject_fraction=0), refused=["fare: shifted"])
    assert (outcome.status, outcome.refused, outcome.statistics) == ("too_many_rejects", (), None)


def test_rejects_at_the_limit_are_published(tmp_path):
    assert publish(publisher(tmp_path, max_reject_fraction=0.25)).status == "published"


def test_no_rows_publish_nothing(tmp_path):
    run = publisher(tmp_path)
    assert run.publish([shard(run.staging, "train", records=0)], [], 0).status == "no_rows"
    assert published(tmp_path) == set()


def test_overwrite_leaves_no_file_of_the_old_dataset_or_of_a_crashed_run(tmp_path):
    old = publisher(tmp_path, "old", splits=("gone",), extras=())
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


PRIMITIVES = (
    "penstock.io.files.folders.os.replace",
    "penstock.io.files.atomic.aside.os.rename",
    "penstock.io.dataset.publish._write",
    "penstock.io.dataset.layout._mark",
)


def fail_at(patched, step):
    """Lets the nth change of the filesystem fail; those before it are done."""
    steps = []

    def failing(real):
        def change(*arguments):
            steps.append(real)
            if len(steps) == step:
                raise OSError("the machine is gone")
            return real(*arguments)

        return change

    for name in PRIMITIVES:
        module, _, function = name.rpartition(".")
        patched.setattr(name, failing(getattr(pkgutil.resolve_name(module), function)))


def crash(tmp_path, monkeypatch, step):
    """A run that replaces an old dataset and fails half-way; None when it has fewer steps."""
    publish(publisher(tmp_path, "old"))
    run = publisher(tmp_path, "new")
    with monkeypatch.context() as patched:
        fail_at(patched, step)
        with contextlib.suppress(OSError):
            publish(run)
            return None
    return run


# The manifest is staged, 8 old files are set aside, that is noted twice, 7 files move, the manifest moves, what was set
# aside is let go of.
STEPS = range(1, 21)


def test_steps_of_a_publication_are_all_tested(tmp_path, monkeypatch):
    assert crash(tmp_path / "last", monkeypatch, STEPS.stop - 1) is not None
    assert crash(tmp_path / "beyond", monkeypatch, STEPS.stop) is None


@pytest.mark.parametrize("step", STEPS)
def test_publication_that_fails_at_any_step_can_be_repeated(tmp_path, monkeypatch, step):
    run = crash(tmp_path, monkeypatch, step)
    manifest = read_manifest(str(tmp_path))
    assert manifest is None or (manifest.run_id, published(tmp_path)) == ("old" if step <= 2 else "new", DATASET)
    assert (manifest is None) == (2 < step < 20)
    shards = [staged_before(f"new {split}/part-00000-of-00001.tfrecord") for split in ("train", "eval")]
    files = [
        DeadLetterFile(run.staging.path("dead_letters", f"{name}.jsonl"), 1, {"x": 1}, {stage: 1})
        for name, stage in (("a", "read"), ("b", "validate"))
    ]
    assert run.publish(shards, files, 7).status == "published"
    assert set(list_files(str(tmp_path))) == DATASET
    for path in ("train/part-00000-of-00001.tfrecord", shards[0].index.path, "schema.pbtxt"):
        assert (tmp_path / path).read_text().startswith("new")


def staged_before(text):
    path = text.removeprefix("new ")
    return described(text, path, path.split("/")[0])


@pytest.mark.parametrize("step", STEPS)
def test_attempt_that_was_thought_dead_spoils_nothing(tmp_path, monkeypatch, step):
    """A first attempt stops anywhere, a second publishes, and the first goes on."""
    publish(publisher(tmp_path, "old"))
    steps, arguments = [], []
    run = publisher(tmp_path, "new")

    def stalling(real):
        def change(*parts):
            steps.append(real)
            if len(steps) == step:
                assert run.publish(*arguments).status == "published"
            return real(*parts)

        return change

    write(run.staging.path("schema.pbtxt"), "new")
    write(run.staging.path("transform", "fn", "saved_model.pb"))
    shards = [shard(run.staging, "eval"), shard(run.staging, "train")]
    files = [rejects(run.staging, "b"), rejects(run.staging, "a", stage="read")]
    arguments += [shards, files, 7]
    for name in ("os.replace", "_write", "_mark"):
        owner = next(full for full in PRIMITIVES if full.endswith(name))
        module, _, function = owner.rpartition(".")
        monkeypatch.setattr(owner, stalling(getattr(pkgutil.resolve_name(module), function)))
    assert run.publish(*arguments).status == "published"
    monkeypatch.undo()
    assert read_manifest(str(tmp_path)).run_id == "new"
    assert published(tmp_path) == DATASET


def test_attempt_that_comes_too_late_deletes_nothing(tmp_path, monkeypatch):
    """It looked for the manifest before another attempt wrote it."""
    first = publish(publisher(tmp_path)).manifest
    late = publisher(tmp_path)
    looks = iter([None])
    real = Publisher._current
    monkeypatch.setattr(Publisher, "_current", lambda self: next(looks, real(self)))
    files = [DeadLetterFile(late.staging.path("dead_letters", "a.jsonl"), 2, {"x": 2}, {"validate": 2})]
    assert late.publish(list(first.shards), files, 8).status == "published"
    assert read_manifest(str(tmp_path)) == first
    assert set(list_files(str(tmp_path))) == DATASET


@pytest.mark.parametrize(
    "meddle",
    [
        lambda path: (path / ".tmp-r1/train/part-00000-of-00001.tfrecord").unlink(),
        lambda path: (path / ".tmp-r1/train/part-00000-of-00001.tfrecord").write_text("short"),
        lambda path: (path / ".tmp-r1/schema.pbtxt").unlink(),
        lambda path: shutil.rmtree(path / ".tmp-r1"),
    ],
    ids=["shard_gone", "shard_changed", "extra_gone", "all_gone"],
)
def test_run_whose_files_another_one_removed_leaves_the_old_dataset(tmp_path, meddle, monkeypatch):
    publish(publisher(tmp_path, "old"))
    run = publisher(tmp_path)
    real = Publisher._judge
    monkeypatch.setattr(Publisher, "_judge", lambda *given, **options: (meddle(tmp_path), real(*given, **options))[1])
    with pytest.raises(DataError, match=r"is not as this run wrote it; does another run write into the same folder"):
        publish(run)
    assert read_manifest(str(tmp_path)).run_id == "old"
    assert published(tmp_path) == DATASET


@pytest.mark.parametrize("path", ["train/part-00000-of-00001.tfrecord", "train/part-00007-of-00009.tfrecord"])
def test_run_into_whose_files_another_one_writes_gets_no_manifest(tmp_path, monkeypatch, path):
    real = Publisher._rename

    def meddled(self, moves):
        real(self, moves)
        write(f"{tmp_path}/{path}", "theirs, of another length")

    monkeypatch.setattr(Publisher, "_rename", meddled)
    with pytest.raises(DataError, match=rf"{path} is not as this run wrote it"):
        publish(publisher(tmp_path))
    assert read_manifest(str(tmp_path)) is None


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


def test_of_two_runs_that_overwrite_at_once_one_wins_whole(tmp_path, monkeypatch):
    publish(publisher(tmp_path, "old"))
    real, begin = publish_dataset.move_files, threading.Barrier(2)

    def slowly(moves):
        for source, target in moves.items():
            time.sleep(0.003)
            real({source: target})

    monkeypatch.setattr(publish_dataset, "move_files", slowly)

    def overwrite(run, shards, files):
        begin.wait()
        return run.publish(shards, files, 7).manifest.run_id

    given = [(run, *stage(run)) for run in (publisher(tmp_path, "r1"), publisher(tmp_path, "r2"))]
    with futures.ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(overwrite, *one) for one in given]
        (error,) = [run.exception() for run in runs if run.exception()]
        (winner,) = [run.result() for run in runs if not run.exception()]
    assert "does another run write into the same folder? nothing is published" in str(error)
    assert read_manifest(str(tmp_path)).run_id == winner
    assert published(tmp_path) == DATASET
    assert (tmp_path / "schema.pbtxt").read_text() == winner


def test_a_run_waits_for_another_one_that_publishes(tmp_path):
    """The other one clears away what this one has staged, which then says so."""
    first, second = publisher(tmp_path, "r1"), publisher(tmp_path, "r2")
    with futures.ThreadPoolExecutor(1) as pool, alone(lock_path(str(tmp_path))):
        waiting = pool.submit(second.publish, *stage(second), 7)
        with pytest.raises(futures.TimeoutError):
            waiting.result(0.1)
        publish(first)
    with pytest.raises(DataError, match=r"is not as this run wrote it; does another run write into the same folder"):
        waiting.result()
    assert published(tmp_path) == DATASET
    assert read_manifest(str(tmp_path)).run_id == "r1"
