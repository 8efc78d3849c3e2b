"""Spans that are added, with kills in between: the dataset is the old one or the new one, and never something else."""

import contextlib
import dataclasses
import json
import random
import shutil
import threading
import time

import pyarrow as pa
import pytest
from spans_runs import SPLITS, expected, ids_of, publish, rows, schema, stage
from tensorflow_metadata.proto.v0 import schema_pb2

import penstock
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.options import Addition
from penstock.io.dataset.publish import read_outcome
from penstock.io.dataset.spans import append
from penstock.io.dataset.spans.append import SpanFolder, replace_manifest
from penstock.io.dataset.spans.compact import compact_spans
from penstock.io.dataset.spans.drop import dataset_with_spans, drop_spans
from penstock.io.dataset.spans.versions import read_version, read_versions
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import folders
from penstock.io.files.folders import list_files
from penstock.io.files.owned import owning
from penstock.transforms.verify import verify_dataset
from pipelines._inspect.clean import clean


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def killed_after(monkeypatch):
    """Ends what publishes before it changes the disk for the Nth time."""
    left = [None]

    def counting(real):
        def change(*args, **kwargs):
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    left[0] = None
                    raise Killed
            return real(*args, **kwargs)

        return change

    for module, name in ((folders.os, "replace"), (folders.os, "makedirs"), (folders.shutil, "rmtree")):
        monkeypatch.setattr(module, name, counting(getattr(module, name)))
    return lambda changes: left.__setitem__(0, changes)


@pytest.mark.parametrize("spans", [12, pytest.param(100, marks=pytest.mark.soak)])
def test_spans_any_of_which_are_killed(tmp_path, killed_after, spans):
    chance, kills, total, rejected = random.Random(18), 0, 0, 0
    for number in range(spans):
        batch, bad = rows(total, chance.randrange(0, 12)), chance.randrange(0, 3)
        if not len(batch) + bad:
            batch = rows(total, 1)
        before = read_manifest(str(tmp_path))
        staged = stage(tmp_path, batch, bad)
        killed_after(chance.randrange(0, 14))
        try:
            publish(staged)
        except Killed:
            kills += 1
        killed_after(None)
        after = read_manifest(str(tmp_path))
        if after is None or after == before:
            publish(stage(tmp_path, batch, bad))
        total, rejected = total + len(batch), rejected + bad
        manifest = read_manifest(str(tmp_path))
        assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (total + rejected, total, rejected)
        assert (len(manifest.spans), manifest.dataset_version) == (number + 1, number + 1)
        if number % 25 == 24:
            assert list(verify_dataset(str(tmp_path))) == []
    assert list(verify_dataset(str(tmp_path))) == []
    assert kills > spans // 5
    for split in SPLITS:
        assert ids_of(tmp_path, split) == expected(split, total)
    assert [one.number for one in read_versions(str(tmp_path))] == list(range(1, spans + 1))
    halfway = read_version(str(tmp_path), spans // 2)
    assert ids_of(tmp_path, "train", spans // 2) == expected("train", halfway.rows_out)


@pytest.mark.parametrize("index", [False, True])
def test_a_kill_at_each_step_leaves_the_old_or_the_new(tmp_path, killed_after, index):
    outcomes = set()
    for changes in range(0, 32, 6) if index else range(0, 16, 3):
        output = tmp_path / str(changes)
        publish(stage(output, rows(0, 30), 1, index=index))
        staged = stage(output, rows(30, 30), 2, "second", index=index)
        killed_after(changes)
        with contextlib.suppress(Killed):
            publish(staged)
        killed_after(None)
        manifest = read_manifest(str(output))
        outcomes.add(manifest.rows_out)
        assert list(verify_dataset(str(output))) == []
        outcome = publish(staged)  # as a runner tries a step again
        assert (outcome.manifest.rows_in, outcome.manifest.rows_out) == (32, 30)
        assert read_outcome(staged[0].staging) == outcome
        assert list(verify_dataset(str(output))) == []
        assert ids_of(output, "train") == expected("train", 60)
    assert outcomes == {30, 60}


def test_of_two_that_add_at_once_one_wins(tmp_path):
    publish(stage(tmp_path, rows(0, 10)))
    runs = [stage(tmp_path, rows(10, 10), 0, name) for name in ("a", "b")]
    failures = []

    def one(staged):
        try:
            publish(staged)
        except DataError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=one, args=(staged,)) for staged in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (failure,) = failures
    assert failure.endswith(
        "another run has published since this one began; nothing of this one is published: run it again"
    )
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_out, len(manifest.spans)) == (20, 2)
    assert list(verify_dataset(str(tmp_path))) == []


def test_a_folder_that_a_killed_publication_left_goes_with_the_next_one(tmp_path, monkeypatch):
    publish(stage(tmp_path, rows(0, 10)))
    staged = stage(tmp_path, rows(10, 10))
    with monkeypatch.context() as patched:
        patched.setattr(
            "penstock.io.dataset.spans.append.replace_manifest", lambda *args: (_ for _ in ()).throw(Killed)
        )
        with pytest.raises(Killed):
            publish(staged)
    left = SpanFolder(staged[0].staging).name
    assert any(path.startswith(f"{left}/") for path in list_files(str(tmp_path)))
    assert list(verify_dataset(str(tmp_path))) == []
    publish(stage(tmp_path, rows(10, 10)))
    assert not any(path.startswith(f"{left}/") for path in list_files(str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"compression": "none"}, "compression must be gzip, as in the dataset, got none", id="compression"
        ),
        pytest.param({"seed": 3}, "seed must be 0, as in the dataset, got 3", id="seed"),
        pytest.param(
            {"splits": ("train", "eval", "test")}, "splits must be train, eval, as in the dataset", id="splits"
        ),
        pytest.param(
            {"provenance": {"split": {"by": "hash", "hash_version": 2}}}, "splits rows in another way", id="split"
        ),
    ],
)
def test_what_is_not_like_the_dataset_is_refused(tmp_path, changes, message):
    publish(stage(tmp_path, rows(0, 10)))
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(DataError, match=message):
        publish(stage(tmp_path, rows(10, 10), **changes))
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_another_schema_is_refused(tmp_path):
    publish(stage(tmp_path, rows(0, 10)))
    run, *staged = stage(tmp_path, rows(10, 10))
    other = schema()
    other.feature.add(name="more", type=schema_pb2.FLOAT)
    with pytest.raises(DataError, match="has another schema; nothing is published"):
        run.publish(*staged, schema=other)


def test_a_name_that_is_taken_and_names_that_are_none(tmp_path):
    publish(stage(tmp_path, rows(0, 10), span="a"))
    with pytest.raises(ConfigError, match="--span a: the dataset has a span of this name"):
        publish(stage(tmp_path, rows(10, 10), span="a"))
    for name in ("a/b", "", "a\nb", "-a", "x" * 201):
        with pytest.raises(ConfigError, match="a span must be named with at most 200 letters"):
            Addition(name)
    with pytest.raises(ConfigError, match=r"a span must be named with at most 200 letters.*got 'a b'"):
        compact_spans(str(tmp_path), [], "a b", None, lambda parts, target: False)


def test_dropped_spans_stay_readable_as_a_version(tmp_path):
    for number in range(3):
        publish(stage(tmp_path, rows(10 * number, 10), 1, f"s{number}"))
    drop_spans(str(tmp_path), ["s0"], "drop-span s0")
    assert list(verify_dataset(str(tmp_path))) == []
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (22, 20, 2)
    assert (manifest.dataset_version, manifest.operation) == (4, "drop-span s0")
    found = ids_of(tmp_path, "train") + ids_of(tmp_path, "eval")
    assert sorted(found) == list(range(10, 30))
    assert ids_of(tmp_path, "train", version=3) == expected("train", 30)
    earlier = penstock.load(tmp_path, "train", version=3)
    assert (earlier.version, penstock.load(tmp_path, "train").version) == (3, 4)
    state = earlier.batches(4).state_dict()
    earlier.batches(2).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"is of version 3 .* loaded is version 4: to go on with it.* with version=3"):
        penstock.load(tmp_path, "train").batches(4).load_state_dict(state)
    with pytest.raises(ConfigError, match="no span would be left"):
        drop_spans(str(tmp_path), ["s1", "s2"], "")
    with pytest.raises(ConfigError, match="there is no span 's0'"):
        drop_spans(str(tmp_path), ["s0"], "")
    publish(stage(tmp_path, rows(0, 10), 0, "s0"))
    assert ids_of(tmp_path, "train") == expected("train", 30)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shuffle": "none"},
        {"format": "parquet", "columns": pa.schema({"id": pa.int64()})},
        {"format": "webdataset", "columns": pa.schema({"id": pa.int64()})},
    ],
)
def test_compaction_keeps_each_record(tmp_path, changes):
    for number in range(6):
        batch = rows(10 * number, 10)
        if "shuffle" in changes:
            batch = batch.append_column("_shuffle_key", pa.array(range(10), pa.uint64()))
        publish(stage(tmp_path, batch, number % 2, **changes))
    before = dataset_with_spans(str(tmp_path))
    order = [ids for batch in penstock.load(str(tmp_path), "train").batches(100) for ids in batch["id"].to_pylist()]
    compact_spans(str(tmp_path), ["2", "3", "4"], None, None, lambda parts, target: False)
    after = read_manifest(str(tmp_path))
    assert list(verify_dataset(str(tmp_path))) == []
    assert [span.name for span in after.spans] == ["1", "2..4", "5", "6"]
    assert (after.spans[1].parts, after.operation) == (("2", "3", "4"), "compact 2, 3, 4")
    assert (after.rows_in, after.rows_out, after.splits) == (before.rows_in, before.rows_out, before.splits)
    assert len(after.shards) == 8
    for split in SPLITS:
        assert ids_of(tmp_path, split) == expected(split, 60)
    if "shuffle" in changes:
        again = [ids for batch in penstock.load(str(tmp_path), "train").batches(100) for ids in batch["id"].to_pylist()]
        assert again == order
    publish(stage(tmp_path, rows(60, 1).append_column("_shuffle_key", pa.array([0], pa.uint64())), **changes))
    assert read_manifest(str(tmp_path)).spans[-1].name == "7"
    compact_spans(str(tmp_path), ["2..4", "5"], None, None, lambda parts, target: False)
    assert [span.name for span in read_manifest(str(tmp_path)).spans] == ["1", "2..5", "6", "7"]


def test_what_a_killed_compaction_left_goes_with_the_next_change(tmp_path):
    dataset, left = tmp_path / "out", tmp_path / "out" / ".tmp-20261127T213300Z-0a1b2c3d"
    for number in range(2):
        publish(stage(dataset, rows(10 * number, 10)))
    with owning(str(left)):
        shutil.copy(left / "owner.lock", tmp_path)
    (left / "runs").mkdir(parents=True)
    shutil.move(tmp_path / "owner.lock", left)
    drop_spans(str(dataset), ["1"], "drop-span 1")
    assert not left.exists()


def test_what_is_just_being_published_is_not_cleaned(tmp_path, monkeypatch):
    """A span whose folder is there, and whose manifest is not: cleaning waits for it."""
    for number in range(2):
        publish(stage(tmp_path, rows(10 * number, 10)))
    cleaners = []

    def clean_meanwhile(staging, *args):
        cleaners.append(threading.Thread(target=clean, args=(str(tmp_path), (), time.time() + 60)))
        cleaners[0].start()
        cleaners[0].join(0.2)
        replace_manifest(staging, *args)

    monkeypatch.setattr(append, "replace_manifest", clean_meanwhile)
    publish(stage(tmp_path, rows(20, 10)))
    cleaners[0].join()
    assert ids_of(tmp_path, "train") == expected("train", 30)


def test_compaction_of_a_damaged_shard_publishes_nothing(tmp_path):
    for number in range(2):
        publish(stage(tmp_path, rows(10 * number, 10)))
    manifest = read_manifest(str(tmp_path))
    shard = manifest.shards[0]
    wrong = dataclasses.replace(shard, sha256="0" * 64)
    text = manifest.to_json().replace(shard.sha256, wrong.sha256)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="is not as the manifest says"):
        compact_spans(str(tmp_path), [], None, None, lambda parts, target: False)
    assert (tmp_path / "manifest.json").read_text() == text
    assert not [path for path in list_files(str(tmp_path)) if path.startswith(".tmp-")]


def test_verify_finds_what_spans_and_sums_do_not_agree_on(tmp_path):
    for number in range(2):
        publish(stage(tmp_path, rows(10 * number, 10), 1))
    manifest = read_manifest(str(tmp_path))
    wrong = dataclasses.replace(manifest.spans[1], rows_in=12, rejected_by_stage={"read": 1})
    (tmp_path / "manifest.json").write_text(dataclasses.replace(manifest, spans=(manifest.spans[0], wrong)).to_json())
    found = [fault.detail for fault in verify_dataset(str(tmp_path)) if fault.code == "manifest.sum"]
    assert "rows_in, against its spans: 22 and 23" in found
    assert "rejected_by_stage, against its spans: {'validate': 2} and {'read': 1, 'validate': 1}" in found


def test_a_manifest_without_spans_reads_as_before(tmp_path):
    publish(stage(tmp_path, rows(0, 10)))
    text = (tmp_path / "manifest.json").read_text()
    fields = json.loads(text)
    for name in ("spans", "dataset_version", "operation"):
        del fields[name]
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    manifest = read_manifest(str(tmp_path))
    assert (manifest.spans, manifest.dataset_version) == ((), 1)
    publish(stage(tmp_path, rows(10, 10)))
    assert [span.name for span in read_manifest(str(tmp_path)).spans] == ["1", "2"]
    assert ids_of(tmp_path, "train", 1) == expected("train", 10)
