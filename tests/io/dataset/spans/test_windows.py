"""Windows that are put together: the same records, whatever is killed, while a stream goes on."""

import datetime
import os
import subprocess
import sys
import time

import forked
import pytest
from quick_windows import ids_of, write_windows

import penstock
from penstock.io.dataset.spans import windows as compaction
from penstock.io.dataset.spans.windows import compact_windows
from penstock.io.dataset.windowed.manifest import (
    is_compacted,
    read_stored,
    read_window_manifests,
    read_window_sets,
    window_manifest_path,
)
from penstock.io.errors import ConfigError, DataError
from penstock.io.files.folders import list_files
from penstock.io.sources.lists.manifests import read_folder
from penstock.transforms.dataset_status import dataset_status
from penstock.transforms.verify import verify_dataset
from pipelines._inspect.clean import clean

MINUTE = datetime.timedelta(minutes=1)


def loaded(output):
    batches = penstock.load(str(output), "train").batches(1000)
    return sorted(number for batch in batches for number in batch["id"].to_pylist())


def ids(numbers, late=()):
    return sorted([one for n in numbers for one in ids_of(n)] + [one for n in late for one in ids_of(n, late=True)])


def is_good(output):
    return list(verify_dataset(str(output))) == [] and dataset_status(str(output), time.time()).is_good


def test_windows_of_each_period_become_a_set(tmp_path):
    write_windows(tmp_path, range(100, 250), late=[130])
    before = loaded(tmp_path)
    found = compact_windows(str(tmp_path), MINUTE)
    assert [(one.window[0], len(one.parts)) for one in found.sets] == [
        ("1970-01-01T00:01:00.000000Z", 20),
        ("1970-01-01T00:02:00.000000Z", 60),
        ("1970-01-01T00:03:00.000000Z", 60),
        ("1970-01-01T00:04:00.000000Z", 10),
    ]
    assert (found.windows, found.open, found.quarantined) == (150, (), ())
    assert [len(one.shards) for one in found.sets] == [1, 1, 1, 1]
    assert loaded(tmp_path) == before == ids(range(100, 250), late=[130])
    assert is_good(tmp_path)
    assert len(list(read_stored(str(tmp_path)))) == 4
    assert len(read_folder(str(tmp_path)).files) == 4
    status = dataset_status(str(tmp_path), time.time())
    assert (status.compacted, status.earlier.files, status.unknown, status.staging) == ((150, 4), 151, (), ())
    assert compact_windows(str(tmp_path), MINUTE).sets == (), "there is nothing left"


def test_a_set_of_windows_with_indexes_has_them(tmp_path):
    write_windows(tmp_path, range(100, 130), late=[110], index=True)
    write_windows(tmp_path, range(130, 140))  # from before there were any
    assert is_good(tmp_path)
    compact_windows(str(tmp_path), MINUTE)
    sets = list(read_window_sets(str(tmp_path)))
    assert [shard.index.path.split("/")[1] for one in sets for shard in one.shards] == ["_index", "_index"]
    assert is_good(tmp_path)
    source = penstock.load(str(tmp_path), "train").source()
    assert sorted(int(source[number]["id"]) for number in range(len(source))) == loaded(tmp_path)
    gone = clean(str(tmp_path), verify_dataset(str(tmp_path)), time.time() + 60)
    assert len(gone) == 41 + 31
    assert is_good(tmp_path)
    assert not any(path.startswith("_index/") for path in list_files(str(tmp_path)))


def test_shards_are_those_of_a_compaction_at_once(tmp_path):
    write_windows(tmp_path / "a", range(40))
    write_windows(tmp_path / "b", range(20))
    (at_once,) = compact_windows(str(tmp_path / "a"), MINUTE, shard_bytes=500).sets
    compact_windows(str(tmp_path / "b"), MINUTE, shard_bytes=500)
    write_windows(tmp_path / "b", range(20, 40))
    (in_two,) = compact_windows(str(tmp_path / "b"), MINUTE, shard_bytes=500).sets
    assert at_once.dataset_id == in_two.dataset_id
    assert len(at_once.shards) > 3
    assert (at_once.replaces, len(in_two.replaces)) == ((), 1)
    assert is_good(tmp_path / "b")
    assert loaded(tmp_path / "b") == ids(range(40))


def test_windows_that_are_not_final_or_bad_stay_as_they_are(tmp_path):
    write_windows(tmp_path, range(10))
    write_windows(tmp_path, [3], final=False)
    write_windows(tmp_path, [4], status="quarantined")
    found = compact_windows(str(tmp_path), MINUTE)
    assert found.open == ("19700101T000003Z_19700101T000004Z",)
    assert found.quarantined == ("19700101T000004Z_19700101T000005Z",)
    assert (found.windows, is_good(tmp_path), loaded(tmp_path)) == (8, True, ids(range(10)))
    write_windows(tmp_path, [3], late=[3])
    assert compact_windows(str(tmp_path), MINUTE).windows == 1
    assert (is_good(tmp_path), loaded(tmp_path)) == (True, ids(range(10), late=[3]))


def test_replaced_files_are_deleted_in_time_and_the_stream_finds_its_windows(tmp_path):
    write_windows(tmp_path, range(20))
    compact_windows(str(tmp_path), MINUTE)
    write_windows(tmp_path, range(20, 30))
    (found,) = compact_windows(str(tmp_path), MINUTE).sets
    assert clean(str(tmp_path), [], time.time() - 3600) == []
    assert is_good(tmp_path)
    os.utime(tmp_path / found.shards[0].path, (1, 1))
    gone = clean(str(tmp_path), verify_dataset(str(tmp_path)), time.time() + 1)
    assert len(gone) == 30 + 1
    assert not (tmp_path / found.replaces[0] / "train").exists() or not any((tmp_path / found.replaces[0]).rglob("*.*"))
    assert (is_good(tmp_path), loaded(tmp_path)) == (True, ids(range(30)))
    assert len(list(read_window_manifests(str(tmp_path)))) == 30, "a stream goes on by them"
    assert is_compacted(str(tmp_path), "19700101T000003Z_19700101T000004Z")
    assert not is_compacted(str(tmp_path), "19700101T000103Z_19700101T000104Z")


@pytest.mark.parametrize("step", ["write_anew", "_check_same", "replace_file", "remove_unpublished"])
def test_a_run_that_is_killed_changes_nothing(tmp_path, step):
    write_windows(tmp_path, range(30))
    script = (
        "import datetime, os, sys\n"
        "from penstock.io.dataset.spans import windows\n"
        f"windows.{step} = lambda *args: os._exit(7)\n"
        "windows.compact_windows(sys.argv[1], datetime.timedelta(minutes=1))\n"
    )
    assert forked.run(["-c", script, tmp_path]).returncode == 7
    assert (is_good(tmp_path), loaded(tmp_path), list(read_window_sets(str(tmp_path)))) == (True, ids(range(30)), [])
    compact_windows(str(tmp_path), MINUTE)
    assert (is_good(tmp_path), loaded(tmp_path)) == (True, ids(range(30)))
    runs = {path.partition("/")[0] for path in list_files(str(tmp_path)) if path.startswith("run-")}
    assert len(runs) == 1, "what was killed is removed"


def test_a_run_that_is_killed_behind_its_manifest_has_published(tmp_path):
    write_windows(tmp_path, range(30))
    script = (
        "import datetime, os, sys\n"
        "from penstock.io.dataset.spans import windows\n"
        "windows.SpanFolder.finish = lambda self: os._exit(7)\n"
        "windows.compact_windows(sys.argv[1], datetime.timedelta(minutes=1))\n"
    )
    assert forked.run(["-c", script, tmp_path]).returncode == 7
    assert len(list(read_window_sets(str(tmp_path)))) == 1
    assert (is_good(tmp_path), loaded(tmp_path)) == (True, ids(range(30)))
    write_windows(tmp_path, range(30, 40))
    compact_windows(str(tmp_path), MINUTE)
    assert (is_good(tmp_path), loaded(tmp_path)) == (True, ids(range(40)))
    assert not any(path.endswith("/unpublished") for path in list_files(str(tmp_path)))


def test_what_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    write_windows(tmp_path, range(10))
    real = compaction.write_anew

    def write_slowly(*args):
        write_windows(tmp_path, [5], created="2026-01-01T00:00:00Z")
        return real(*args)

    monkeypatch.setattr(compaction, "write_anew", write_slowly)
    with pytest.raises(DataError, match="window 19700101T000005Z_19700101T000006Z has changed since it was read"):
        compact_windows(str(tmp_path), MINUTE)
    assert (is_good(tmp_path), loaded(tmp_path)) == (True, ids(range(10)))

    def meanwhile(*args):
        monkeypatch.setattr(compaction, "write_anew", real)
        compact_windows(str(tmp_path), MINUTE)
        return real(*args)

    monkeypatch.setattr(compaction, "write_anew", meanwhile)
    with pytest.raises(DataError, match="another run has put windows of this period together meanwhile"):
        compact_windows(str(tmp_path), MINUTE)
    assert (is_good(tmp_path), loaded(tmp_path)) == (True, ids(range(10)))


def test_damage_and_what_is_published_again_are_found(tmp_path):
    write_windows(tmp_path, range(10))
    shard = tmp_path / "train" / "19700101T000003Z" / "part-00000-of-00001.tfrecord"
    kept = shard.read_bytes()
    shard.write_bytes(kept[:20] + b"!" + kept[21:])
    with pytest.raises(DataError, match="nothing is published"):
        compact_windows(str(tmp_path), MINUTE)
    shard.write_bytes(kept)
    compact_windows(str(tmp_path), MINUTE)
    write_windows(tmp_path, [3], late=[3])
    assert {fault.code for fault in verify_dataset(str(tmp_path))} == {"manifest.window", "manifest.sum"}
    os.remove(window_manifest_path(str(tmp_path), "19700101T000003Z_19700101T000004Z"))
    assert {fault.code for fault in verify_dataset(str(tmp_path))} >= {"file.missing"}


def test_a_dataset_without_windows_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no dataset with windows"):
        compact_windows(str(tmp_path), MINUTE)


@pytest.mark.parametrize(
    "count", [pytest.param(1000, marks=pytest.mark.slow), pytest.param(10_000, marks=pytest.mark.soak)]
)
def test_many_windows_in_bounded_memory(tmp_path, count):
    """In a process of its own, with few open files, and memory that would not hold all manifests as objects."""
    write_windows(tmp_path, range(count))
    script = (
        "import datetime, resource, sys\n"
        "from penstock.io.dataset.spans.windows import compact_windows\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = compact_windows(sys.argv[1], datetime.timedelta(days=1))\n"
        "print(found.windows, len(found.sets), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True)
    windows, sets, kibibytes = map(int, ended.stdout.split())
    assert (windows, sets) == (count, 1)
    assert kibibytes < 200 << 10
    assert loaded(tmp_path) == ids(range(count))
