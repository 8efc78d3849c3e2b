"""Makes the datasets that are loaded: seeded rows, three shards each, written by `prepare`.

====================  ======================================================================
`flat`                12 columns: 4 integers, 4 floats, 4 texts
`lists`               100 columns of lists of 1 to 7 values, half integers, half floats
`texts`               an id, and a text of 2,048 bytes
====================  ======================================================================
"""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import prepare

ROWS = {"flat": 200_000, "lists": 10_000, "texts": 20_000}


def make(folder: pathlib.Path, kind: str, compression: str, shard_format: str = "tfrecord") -> pathlib.Path:
    """Returns the folder of a dataset, which is made where there is none.

    Raises:
      SystemExit: when it cannot be written.
    """
    dataset = folder / f"{kind}-{compression}-{shard_format}"
    if not (dataset / "manifest.json").exists():
        rows = folder / f"{kind}.parquet"
        rows.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_TABLES[kind](np.random.default_rng(1), ROWS[kind]), rows)
        flags = ["--input", str(rows), "--output", str(dataset), "--compression", compression, "--num_shards", "3"]
        flags += ["--output_format", shard_format]
        if prepare.run(flags):
            raise SystemExit(f"{dataset}: cannot be made")
    return dataset


def _flat(random: np.random.Generator, rows: int) -> pa.Table:
    words = pa.array([f"{'x' * (number % 17)}{number}" for number in range(5000)])
    columns = {f"i{place}": pa.array(random.integers(0, 10 ** (2 * place + 1), rows)) for place in range(4)}
    columns |= {f"f{place}": pa.array((random.random(rows) * 100).astype(np.float32)) for place in range(4)}
    columns |= {f"t{place}": words.take(pa.array(random.integers(0, len(words), rows))) for place in range(4)}
    return pa.table(columns)


def _lists(random: np.random.Generator, rows: int) -> pa.Table:
    columns = {}
    for place in range(100):
        offsets = np.append(0, np.cumsum(random.integers(1, 8, rows))).astype(np.int32)
        integers = random.integers(0, 5000, offsets[-1])
        values = pa.array(integers if place % 2 else (integers / 8).astype(np.float32))
        columns[f"list_{place:02}"] = pa.ListArray.from_arrays(pa.array(offsets), values)
    return pa.table(columns)


def _texts(random: np.random.Generator, rows: int) -> pa.Table:
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      ", np.uint8)
    data = letters[random.integers(0, len(letters), rows * 2048)].tobytes()
    offsets = pa.py_buffer(np.arange(0, len(data) + 1, 2048, dtype=np.int32))
    texts = pa.Array.from_buffers(pa.string(), rows, [None, offsets, pa.py_buffer(data)])
    return pa.table({"id": pa.array(np.arange(rows)), "text": texts})


_TABLES = {"flat": _flat, "lists": _lists, "texts": _texts}
