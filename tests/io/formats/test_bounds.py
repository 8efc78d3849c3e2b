"""Small files that stand for gigabytes, read with little memory by a process of their own (`bounded.py`)."""

import json
import pathlib
import subprocess
import sys
import zlib

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MEBIBYTES = 1536


def write_parquet(path, columns, **options):
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False, **options)


def repeated(text, codes):
    """A text that a dictionary holds once."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(["", text]))


def bombs(folder):
    """Writes files; yields their names, what is read of them, the codes of dead letters, and a part of the error."""
    rows = np.ones(4000)
    write_parquet(folder / "dictionary.parquet", {"a": repeated("x" * (1 << 20), rows)})
    yield "dictionary.parquet", 4000, [], None

    ends = pa.array([0, 1, 4000], pa.int32())
    lists = pa.ListArray.from_arrays(ends, repeated("x" * (1 << 20), rows))
    write_parquet(folder / "lists.parquet", {"a": lists})
    yield "lists.parquet", 1, ["parquet.too_long"], None

    write_parquet(folder / "page.parquet", {"a": ["x" * (300 << 20)]}, use_dictionary=False)
    yield "page.parquet", 0, [], "one of its pages would have 3145"

    write_parquet(folder / "ints.parquet", {"a": pa.ListArray.from_arrays([0, 70 << 20], np.zeros(70 << 20, np.int8))})
    yield "ints.parquet", 0, [], "its rows, on average would have 293601280 bytes"

    write_avro(folder / "text.avro", "bytes", _long(300 << 20), 300 << 20)
    yield "text.avro", 0, ["avro.too_long"], None

    write_avro(folder / "nulls.avro", {"type": "array", "items": "null"}, _long(1 << 40) + b"\0", 0)
    yield "nulls.avro", 0, ["avro.too_long"], None


def write_avro(path, kind, head, zeros):
    """One row: some bytes, and then zeros, compressed."""
    schema = {"type": "record", "name": "row", "fields": [{"name": "x", "type": kind}]}
    sync = bytes(16)
    with path.open("wb") as out:
        fastavro.writer(out, schema, [], codec="deflate", sync_marker=sync)
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        block = packer.compress(head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20))
        block += packer.flush()
        out.write(_long(1) + _long(len(block)) + block + sync)


def _long(value):
    out, value = b"", value << 1
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to RLIMIT_AS")
def test_little_memory_is_enough(tmp_path):
    expected = list(bombs(tmp_path))
    script = pathlib.Path(__file__).parents[2] / "bounded.py"
    command = [sys.executable, str(script), str(MEBIBYTES), *(str(tmp_path / name) for name, *_ in expected)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (name, rows, letters, error), result in zip(expected, found, strict=True):
        assert (name, result["rows"], result["letters"]) == (name, rows, letters), result
        assert error in result["error"] if error else result["error"] is None, result
        assert result["bytes"] < MEBIBYTES << 20
