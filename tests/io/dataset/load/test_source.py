"""Records by their number, and reading ahead."""

import pickle
import random
import shutil
import threading
import time

import forked
import pyarrow as pa
import pytest
import shards

import penstock
from penstock.io.dataset.load.ahead import ahead
from penstock.io.dataset.shard_formats import SHARD_FORMATS
from penstock.io.errors import ConfigError, InputError

ROWS = 700

# The program ends just after the thread that reads, or before it; what Arrow reads in C++ must not be cut off.
ENDS = """
import sys, penstock
batches = penstock.load(sys.argv[1]).shuffle(1).prefetch(int(sys.argv[2])).batches(512)
print(len(list(batches)) + len(list(batches)))
one = iter(batches)
next(one)
"""

KINDS = [("tfrecord", "none"), ("sequence_example", "none"), ("arrayrecord", "zstd"), ("arrayrecord", "none")]


def write(folder, kind, compression):
    if kind == "arrayrecord":
        pytest.importorskip("array_record.python.array_record_module", reason="the extra arrayrecord")
    schema = pa.schema([("id", pa.int64()), ("name", pa.string()), ("clicks", pa.list_(pa.int64()))])
    rows = [{"id": number, "name": f"n{number}", "clicks": list(range(number % 4))} for number in range(ROWS)]
    columns = {"columns": schema} if SHARD_FORMATS[kind].needs_columns else {}
    batches = [pa.RecordBatch.from_pylist(rows, schema)]
    shards.write(folder, batches, format=kind, compression=compression, **columns)
    return str(folder)


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def dataset(request, tmp_path_factory):
    return write(tmp_path_factory.mktemp("-".join(request.param)) / "dataset", *request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write(tmp_path_factory.mktemp("plain") / "dataset", "tfrecord", "none")


def test_each_record_is_the_row_of_its_number(dataset):
    expected = next(iter(penstock.load(dataset).batches(ROWS))).to_pylist()
    source = penstock.load(dataset).source()
    assert len(source) == ROWS
    keys = random.Random(0).choices(range(ROWS), k=900)
    for key, found in zip(keys, source.__getitems__(keys), strict=True):
        row = {name: value if name == "id" else value.tolist() for name, value in found.items() if name != "name"}
        assert {**row, "name": found["name"]} == expected[key]
    assert source[ROWS - 1]["id"] == source[-1]["id"] == expected[-1]["id"]


@pytest.mark.parametrize("keys", [[1.5], [True, False], ["1"], [None]], ids=["float", "mask", "text", "none"])
def test_what_is_no_number_of_a_record_is_not_made_one(keys, plain):
    source = penstock.load(plain).source()
    with pytest.raises(TypeError, match="records are asked for by whole numbers, got"):
        source.__getitems__(keys)
    assert source.__getitems__([]) == []
    with pytest.raises(IndexError, match=f"there is no record {2**64 - 1}: the split has {ROWS}"):
        source[2**64 - 1]


def test_a_source_can_be_pickled(dataset):
    source = penstock.load(dataset).source()
    assert source[3]["id"] == pickle.loads(pickle.dumps(source))[3]["id"]


def test_a_record_that_is_damaged_is_an_error_with_its_place(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "copy")
    source = penstock.load(tmp_path / "copy").source()
    assert source[0]["id"] >= 0
    shard = tmp_path / "copy" / source.contents.shards[0].path
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"part-00000.*the record at byte 0 does not match its CRC"):
        source[0]


def test_what_has_no_single_records_is_said(plain, tmp_path):
    packed = write(tmp_path / "packed", "tfrecord", "gzip")
    with pytest.raises(ConfigError, match="shards with gzip can only be read from their beginning: write the dataset"):
        penstock.load(packed).source()
    tars = write(tmp_path / "tars", "webdataset", "none")
    with pytest.raises(ConfigError, match="shards of the format webdataset give no single rows: read their batches"):
        penstock.load(tars).source()
    with pytest.raises(ConfigError, match="leave out shard, shuffle"):
        penstock.load(plain).shard(0, 2).source()
    with pytest.raises(IndexError, match="there is no record 700: the split has 700"):
        penstock.load(plain).source()[ROWS]
    with pytest.raises(ConfigError, match="buffer_bytes must be >= 1, got 0"):
        penstock.load(plain).prefetch(0)


def test_rows_that_are_read_ahead_are_the_same(dataset):
    loaded = penstock.load(dataset).shard(1, 2).shuffle(3, 100)
    batches = loaded.prefetch(20_000).batches(32)
    for _ in range(2):
        expected = [batch.to_pylist() for batch in loaded.batches(32)]
        assert [batch.to_pylist() for batch in loaded.prefetch(20_000).batches(32)] == expected
    next(iter(batches))
    state, other = batches.state_dict(), loaded.batches(32)
    other.load_state_dict(state)
    assert [one.to_pylist() for one in batches] == [one.to_pylist() for one in other]


def test_reading_ahead_is_bounded_in_bytes_and_ends_with_its_reader():
    taken = []
    items = ahead((taken.append(number) or number for number in range(100)), lambda _: 10, 50)
    assert next(items) == 0
    deadline = time.monotonic() + 60
    while len(taken) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(taken) == 7, "one was taken, five are kept, and one waits for room"
    before = threading.active_count()
    items.close()
    while threading.active_count() == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before - 1


@pytest.mark.parametrize("buffer_bytes", [8 << 20, 8 << 10])
def test_a_program_may_end_while_a_thread_reads(buffer_bytes, tmp_path):
    rows = pa.record_batch({"id": list(range(3000)), "text": ["abc" * 5] * 3000})
    shards.write(tmp_path / "dataset", [rows], format="parquet", compression="none", columns=rows.schema)
    ended = [forked.run(["-c", ENDS, tmp_path / "dataset", buffer_bytes]) for _ in range(5)]
    assert [(one.returncode, one.stdout, one.stderr) for one in ended] == [(0, "12\n", "")] * 5


def test_an_error_comes_behind_what_was_read_before_it():
    def broken():
        yield 1
        raise InputError("the shard is damaged")

    items = ahead(broken(), lambda _: 1, 10)
    assert next(items) == 1
    with pytest.raises(InputError, match="the shard is damaged"):
        next(items)
