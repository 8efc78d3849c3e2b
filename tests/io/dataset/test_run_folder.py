"""Publication in an object store, on moto's S3."""

import os
import textwrap
import time

import forked
import pytest
from store_fixtures import bucket, emulator  # noqa: F401

from penstock.io.dataset import run_folder
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.manifest import Shard, read_manifest
from penstock.io.dataset.publish import Publisher, read_outcome
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.transforms.leftovers import leftovers
from pipelines._inspect.clean import clean
from pipelines._run.staging import remove_staged

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def output(bucket):  # noqa: F811
    return f"{bucket}/out"


def begin(output, run_id, **changes):
    """A run whose files are written: six rows out, one rejected."""
    options = {"splits": ("train", "eval"), "max_reject_fraction": 0.5, "overwrite": True, "compression": "none"}
    spec = DatasetSpec(output, **{**options, "extras": ("schema.pbtxt", "statistics"), **changes})
    publisher = Publisher(Staging(output, run_id), spec, run_folder.manifest_version(output))
    for path in ("schema.pbtxt", "statistics/out.pb", "dead_letters/a.jsonl", "_history/L0-1.parquet"):
        stores.write_file(publisher.staging.path(path), f"{run_id} {path}".encode())
    for path in SHARDS:
        stores.write_file(publisher.staging.path(path), f"{run_id} {path}".encode())
    return publisher


SHARDS = ("train/part-00000-of-00001.tfrecord", "eval/part-00000-of-00001.tfrecord")


def publish(publisher, rejected=1):
    run_id = publisher.staging.run_id
    shards = [
        Shard(path, path.split("/")[0], 3, len(f"{run_id} {path}"), 1, "00000000", f"sha of {path}") for path in SHARDS
    ]
    letters = DeadLetterFile(publisher.staging.path("dead_letters", "a.jsonl"), 1, {"x": rejected}, {"read": rejected})
    return publisher.publish(shards, [letters], 6 + 1 - rejected)


def files_of(run_id):
    names = (*SHARDS, "schema.pbtxt", "statistics/out.pb", "dead_letters/a.jsonl")
    return {"manifest.json", "_history/L0-1.parquet", *(f"run-{run_id}/{name}" for name in names)}


def is_whole(output, run_id):
    """Whether the dataset is of this run, with all files."""
    manifest, present = read_manifest(output), list_files(output)
    assert all(present[shard.path] == shard.bytes for shard in manifest.shards)
    assert all(file.path in present for file in manifest.dead_letters)
    assert {manifest.extra("schema.pbtxt"), f"{manifest.extra('statistics')}/out.pb"} <= present.keys()
    return manifest.run_id == run_id


def test_files_stay_where_they_were_written(output, monkeypatch):
    run = begin(output, "r1")
    moved = []
    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "move_files", moved.append)
        outcome = publish(run)
    assert outcome.status == "published"
    assert outcome.manifest == read_manifest(output) == read_outcome(run.staging).manifest
    assert outcome.dead_letters == f"{output}/run-r1/dead_letters"
    assert outcome.statistics == f"{output}/run-r1/statistics"
    assert set(outcome.manifest.files()) <= {*files_of("r1"), "run-r1/statistics"}
    # The point of the history is all that is copied.
    history = "_history/L0-1.parquet"
    assert moved == [{f"{output}/run-r1/{history}": f"{output}/{history}"}]


def test_an_old_dataset_is_whole_until_the_new_one_is(output, monkeypatch):
    publish(begin(output, "old"))
    run, real, seen = begin(output, "new"), stores.write_if, []

    def watched(*given):
        seen.append(is_whole(output, "old"))
        is_done = real(*given)
        seen.append(is_whole(output, "new"))
        return is_done

    monkeypatch.setattr(stores, "write_if", watched)
    assert publish(run).status == "published"
    assert seen == [True, True]
    assert set(list_files(output)) == files_of("new")


@pytest.mark.parametrize("step", ["write_if", "move_files", "delete_files"])
def test_a_publication_that_fails_at_any_step_is_repeated(output, monkeypatch, step):
    publish(begin(output, "old"))
    run = begin(output, "new")

    def fail(*_):
        raise OSError("the machine is gone")

    with monkeypatch.context() as patched:
        patched.setattr(stores if step == "write_if" else run_folder, step, fail)
        with pytest.raises(OSError, match="the machine is gone"):
            publish(run)
    assert is_whole(output, "old" if step == "write_if" else "new")
    assert publish(run).status == "published"
    assert is_whole(output, "new")
    assert {name for name in list_files(output) if not name.startswith("run-old/")} == files_of("new")
    # What the next run replaces, it removes.
    assert publish(begin(output, "next")).status == "published"
    monkeypatch.setattr(run_folder, "DEAD_RUN_SECONDS", -1)
    assert publish(begin(output, "last")).status == "published"
    assert set(list_files(output)) == files_of("last")


KILLED = """
    import os, signal, sys
    sys.path[:0] = [{tests!r}, {here!r}]
    from penstock.io.dataset import run_folder
    from penstock.io.files import stores
    import test_run_folder
    run = test_run_folder.begin({output!r}, "new")
    setattr({module}, {step!r}, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    test_run_folder.publish(run)
"""


@pytest.mark.parametrize(
    ("module", "step", "left"), [("stores", "write_if", "old"), ("run_folder", "delete_files", "new")]
)
def test_a_run_that_is_killed_leaves_one_whole_dataset(output, module, step, left):
    publish(begin(output, "old"))
    here = os.path.dirname(__file__)
    tests = os.path.dirname(os.path.dirname(here))
    program = textwrap.dedent(KILLED).format(output=output, module=module, step=step, here=here, tests=tests)
    assert forked.run(["-c", program], timeout=60).returncode == -9
    assert is_whole(output, left)
    assert publish(begin(output, "next")).status == "published"
    assert is_whole(output, "next")


def test_of_two_runs_that_begin_at_once_one_wins_whole(output):
    publish(begin(output, "old"))
    first, second = begin(output, "r1"), begin(output, "r2")
    assert publish(first).status == "published"
    with pytest.raises(DataError, match=r"manifest.json: another run has published since this one began"):
        publish(second)
    assert is_whole(output, "r1")
    remove_staged(second.staging)
    assert set(list_files(output)) == files_of("r1")


def test_of_two_runs_into_a_new_folder_one_wins_whole(output):
    first, second = begin(output, "r1", overwrite=False), begin(output, "r2", overwrite=False)
    assert publish(first).status == "published"
    with pytest.raises(ConfigError, match=r"was filled while the job ran \(manifest.json\)"):
        publish(second)
    assert is_whole(output, "r1")


def test_what_is_published_is_not_removed_with_what_is_staged(output):
    run = begin(output, "r1")
    publish(run)
    remove_staged(run.staging)
    assert set(list_files(output)) == files_of("r1")


def test_a_run_whose_files_are_gone_leaves_the_old_dataset(output):
    publish(begin(output, "old"))
    run = begin(output, "new")
    stores.delete([run.staging.path(SHARDS[0])])
    with pytest.raises(DataError, match=rf"run-new/{SHARDS[0]} is not as this run wrote it"):
        publish(run)
    assert is_whole(output, "old")


def test_too_many_rejects_leave_their_dead_letters_and_the_old_dataset(output):
    publish(begin(output, "old"))
    outcome = publish(begin(output, "new", max_reject_fraction=0))
    assert (outcome.status, outcome.dead_letters) == ("too_many_rejects", f"{output}/run-new/dead_letters")
    assert is_whole(output, "old")
    left = {name for name in list_files(output) if name.startswith("run-new/")}
    assert left == {f"run-new/{name}" for name in ("dead_letters/a.jsonl", "statistics/out.pb", "outcome.json")}


def test_the_folder_of_a_run_that_may_be_at_work_stays(output, monkeypatch):
    other = begin(output, "other")
    publish(begin(output, "r1"))
    assert f"run-other/{SHARDS[0]}" in list_files(output)
    monkeypatch.setattr(run_folder, "DEAD_RUN_SECONDS", -1)
    publish(begin(output, "r2"))
    assert set(list_files(output)) == files_of("r2")
    with pytest.raises(DataError, match=r"run-other/.* is not as this run wrote it"):
        publish(other)


def test_letters_of_another_folder_are_copied(output, bucket):  # noqa: F811
    run = begin(output, "r1")
    path = f"{bucket}/letters/x.jsonl"
    stores.write_file(path, b"{}\n")
    shards = [Shard(p, p.split("/")[0], 3, len(f"r1 {p}"), 1, "00000000", p) for p in SHARDS]
    assert run.publish(shards, [DeadLetterFile(path, 1, {"x": 1}, {"read": 1})], 6).status == "published"
    (letters,) = read_manifest(output).dead_letters
    assert stores.read_file(f"{output}/{letters.path}") == b"{}\n"


def test_what_a_killed_run_left_is_named_and_cleaned_away(output):
    publish(begin(output, "r1"))
    begin(output, "killed")
    assert leftovers(output) == ["run-killed"]
    assert clean(output, (), time.time() - 60) == []
    assert len(clean(output, (), time.time() + 60)) == 6
    assert set(list_files(output)) == files_of("r1")
    assert leftovers(output) == []
