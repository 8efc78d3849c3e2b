"""Errors of the system name the path, how much room there is, and what to do."""

import errno
import os
import re
import shutil
from types import SimpleNamespace

import pyarrow as pa
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.beam import progress
from penstock.io.beam.spill import SpillFile
from penstock.io.dataset.shard import write_shard
from penstock.io.dataset.shard_formats import load_format
from penstock.io.dead_letters.handler import write_letters
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.errors import StorageError, remedies_of
from penstock.io.files.system_errors import OUTPUT_REMEDY, SPILL_REMEDY, explained, out_of_memory, writing
from penstock.io.reasons import Reason
from penstock.io.schema import write_schema
from penstock.io.sort.merge import merge_batches
from penstock.io.sort.records import RECORDS
from penstock.io.sort.runs import RunWriter

FULL = "/dev/full"
NO_SPACE = r"No space left on device \(.* of .* are free\)"


def fails(code, filename="/data/x"):
    return OSError(code, os.strerror(code), filename)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            fails(errno.ENOSPC),
            rf"/data/x: {NO_SPACE}; make room there, or use another disk",
        ),
        (fails(errno.EDQUOT), r"/data/x: Disk quota exceeded \(.* are free\); make room"),
        (fails(errno.EFBIG), r"/data/x: File too large: the system lets no file grow so large \(ulimit -f"),
        (fails(errno.EROFS), r"/data/x: Read-only file system; name a folder that can be written"),
        (fails(errno.EACCES), r"/data/x: Permission denied; ask its owner"),
        (fails(errno.EIO), r"/data/x: Input/output error: the disk or the network behind it does not answer"),
        (fails(errno.ESTALE), r"/data/x: Stale file handle: .*run the job again when it does"),
        (fails(errno.EMFILE), r"/data/x: Too many open files: a process may have [\d,]+ at a time; raise .*ulimit -n"),
        (fails(errno.EMFILE, None), r"Too many open files: a process may have"),
        (fails(errno.ENOENT, b"/data/\xff"), "/data/\udcff: No such file or directory"),
        (fails(errno.ENOSPC, None), r"\[Errno 28\] No space left on device"),
        (fails(errno.ENOSPC, "s3://b/x"), r"s3://b/x: No space left on device; make room"),
        (OSError("of a library"), "of a library"),
    ],
    ids=lambda value: errno.errorcode.get(value.errno, "none") if isinstance(value, OSError) else "",
)
def test_an_error_is_explained_in_one_line(error, text):
    found = explained(error)
    assert re.match(text, found), found
    assert "\n" not in found


def test_what_is_free_is_that_of_the_disk_where_the_file_would_be(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=1 << 20, total=3 << 30)
    )
    found = explained(OSError(errno.ENOSPC, "x"), str(tmp_path / "no" / "where"), SPILL_REMEDY)
    assert asked == [str(tmp_path)]
    assert found == f"{tmp_path}/no/where: No space left on device (1.0 MiB of 3.0 GiB are free); {SPILL_REMEDY}"


def test_how_much_is_needed_follows_from_how_far_the_work_is(tmp_path):
    progress.reset()
    progress.plan(bytes=1000)
    progress.add(bytes=250)
    (tmp_path / "a.run").write_bytes(b"x" * 2048)
    path = str(tmp_path / "b.run")
    needed = pytest.raises(StorageError, match=r"; the run needs at least 8\.0 KiB there, and has 2\.0 KiB; make room")
    with needed, writing(path, SPILL_REMEDY, counter="bytes"):
        raise OSError(errno.ENOSPC, "x")
    progress.reset()
    with pytest.raises(StorageError, match=r"are free\); make room"), writing(path, "make room", "bytes"):
        raise OSError(errno.ENOSPC, "x")


@pytest.mark.parametrize(
    ("flags", "spill", "output", "named"),
    [
        pytest.param(None, "--spill_dir", "--output", "--direct_num_workers", id="no_command"),
        pytest.param(["--dataset"], "TMPDIR", None, None, id="none"),
        pytest.param(["--spill_dir", "--dry_run"], "--spill_dir", None, None, id="spill"),
        pytest.param(["--output", "--direct_num_workers"], "TMPDIR", "--output", "--direct_num_workers", id="output"),
    ],
)
def test_remedies_name_flags_of_the_command_alone(flags, spill, output, named):
    remedies_of(flags)
    try:
        full = [explained(fails(errno.ENOSPC), remedy=remedy) for remedy in (SPILL_REMEDY, OUTPUT_REMEDY)]
        texts = [*full, explained(fails(errno.ENOSPC)), explained(fails(errno.EMFILE)), out_of_memory()]
    finally:
        remedies_of(None)
    assert spill in texts[0]
    for text, flag in zip(texts[1:], (output, output, named, named), strict=True):
        assert flag in text if flag else "--" not in text


def test_the_innermost_name_stays():
    outer, inner = writing("/outer", OUTPUT_REMEDY), writing("/inner", OUTPUT_REMEDY)
    with pytest.raises(StorageError, match=r"^/inner: "), outer, inner:
        raise OSError(errno.EIO, "x")


def test_memory_that_ran_out():
    assert out_of_memory("malloc of\nsize 9", "the read of a.parquet").startswith(
        "memory ran out in the read of a.parquet (malloc of size 9): each worker holds rows of its own"
    )
    assert out_of_memory().startswith("memory ran out: ")


@pytest.fixture
def full(tmp_path, monkeypatch):
    """A folder in which every new file is on a full disk."""
    if not os.path.exists(FULL):
        pytest.skip("there is no /dev/full")
    real = open

    def opened(path, mode="r", *args, **kwargs):
        return real(FULL if "w" in mode and str(path).startswith(str(tmp_path)) else path, mode, *args, **kwargs)

    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr("apache_beam.io.localfilesystem.io.open", opened)
    return tmp_path


def records(size: int) -> pa.RecordBatch:
    """A batch with one record."""
    row = {"split": 0, "key": 1, "record": b"x" * size, "event_time": None}
    return pa.RecordBatch.from_pylist([row], RECORDS)


# The files that cannot be written stay open until the process of the job ends.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestFullDisk:
    """Each file that a run writes is named when its disk is full."""

    def test_rows_by_key(self, full):
        batch = pa.record_batch({"a": ["x" * 100_000]})
        named = pytest.raises(OSError, match=rf"No space left on device: '{full}/.*\.batches'")
        with named, SpillFile(str(full)) as file:
            file.add(batch)

    def test_runs(self, full):
        writer = RunWriter(str(full), ["train"])
        list(writer.add(records(100_000)))
        with pytest.raises(StorageError, match=rf"{full}/.*\.run: {NO_SPACE}; {re.escape(str(SPILL_REMEDY))}"):
            list(writer.flush())

    def test_shards(self, full, tmp_path_factory):
        merged = merge_batches([records(100_000)], str(tmp_path_factory.mktemp("runs")))
        with pytest.raises(StorageError, match=rf"{full}/part: {NO_SPACE}; {re.escape(str(OUTPUT_REMEDY))}"):
            write_shard(str(full / "part"), "part", "train", load_format("tfrecord", "none"), merged)

    def test_dead_letters(self, full):
        letter = DeadLetter((Reason("a.b", "x" * 100_000),), "read", "a.csv", 1, "x", "text")
        with pytest.raises(StorageError, match=rf"{full}/.*\.jsonl: {NO_SPACE}; {re.escape(str(OUTPUT_REMEDY))}"):
            write_letters(str(full), "r1", [RejectedBatch.of([letter])])

    def test_a_schema(self, full):
        with pytest.raises(StorageError, match=rf"{full}/schema.pbtxt: {NO_SPACE}"):
            write_schema(schema_pb2.Schema(feature=[schema_pb2.Feature(name="x")]), str(full / "schema.pbtxt"))
