import gzip
import hashlib
import pathlib
import zlib

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest

from penstock.io.dataset.manifest import ShardIndex
from penstock.io.dataset.shard import IndexPlace, write_shard
from penstock.io.dataset.shard_formats import load_format
from penstock.io.sort.merge import MergedRuns
from penstock.io.sort.records import records_batch
from penstock.io.sort.runs import RunWriter

RECORDS, SIZE = 9_000, 400


@pytest.fixture(scope="module")
def batch():
    """3.6 MB in no order, with all sorts of bytes."""
    random = np.random.default_rng(3)
    data = random.integers(0, 4 + np.arange(RECORDS * SIZE) // 20_000, dtype=np.uint8)
    keys = random.integers(0, 1 << 64, RECORDS, np.uint64)
    times = pa.array(range(RECORDS), pa.timestamp("us", "UTC"))
    return records_batch(np.zeros(RECORDS, np.uint16), keys, data, np.arange(RECORDS + 1) * SIZE, times)


def shard_of(directory, batch, compression, chunk, piece, index=None):
    writer = RunWriter(f"{directory}/runs", ("train",), 1 << 20)
    runs = [run for start in range(0, RECORDS, chunk) for run in writer.add(batch.slice(start, chunk))]
    merged = MergedRuns([*runs, *writer.flush()], piece)
    path, writer = f"train/part-0{compression}", load_format("tfrecord", compression)
    shard = write_shard(f"{directory}/shard", path, "train", writer, merged, index=index)
    with open(f"{directory}/shard", "rb") as file:
        return shard, file.read()


@pytest.mark.parametrize(
    ("compression", "plain"), [("gzip", gzip.decompress), ("zlib", zlib.decompress), ("none", bytes)]
)
def test_file_does_not_depend_on_how_the_records_came(tmp_path, batch, compression, plain):
    shard, stored = shard_of(tmp_path / "1", batch, compression, RECORDS, 64 << 20)
    order = np.argsort(batch.column("key").to_numpy())
    content = b"".join(batch.column("record").take(pa.array(order)).to_pylist())
    assert plain(stored) == content
    assert shard.sha256 == hashlib.sha256(content).hexdigest()
    assert shard.crc32c == f"{google_crc32c.value(stored):08x}"
    assert (shard.records, shard.bytes, shard.uncompressed_bytes) == (RECORDS, len(stored), len(content))
    assert shard.event_time == ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.008999Z")
    assert shard_of(tmp_path / "2", batch, compression, 700, 1_300_000) == (shard, stored)


@pytest.mark.parametrize(("chunk", "piece"), [(RECORDS, 64 << 20), (700, 1_300_000), (1, 64 << 20)])
def test_an_index_says_where_records_begin(tmp_path, batch, chunk, piece):
    """Records that are copied from a run, sorted, or in order already; of any length."""
    lengths = np.random.default_rng(5).integers(0, 90, RECORDS)
    offsets = np.append(0, np.cumsum(lengths))
    columns = [batch.column(name) for name in ("split", "key")]
    rows = records_batch(*(column.to_numpy() for column in columns), np.zeros(offsets[-1], np.uint8), offsets, None)
    rows = rows if chunk > 1 else rows.take(pa.array(np.argsort(columns[1].to_numpy())))
    place = IndexPlace(f"{tmp_path}/staged", "_index/train/part-0.index")
    shard, stored = shard_of(tmp_path, rows, "none", max(chunk, 700), piece, place)
    in_order = lengths[np.argsort(columns[1].to_numpy())]
    content = pathlib.Path(place.staged).read_bytes()
    assert np.frombuffer(content, "<u8").tolist() == np.append(0, np.cumsum(in_order)).tolist()
    assert shard.index == ShardIndex(place.path, len(content), f"{google_crc32c.value(content):08x}")
    assert len(content) == 8 * (RECORDS + 1)
    assert shard.stored() == {shard.path: (len(stored), shard.crc32c), place.path: (len(content), shard.index.crc32c)}
