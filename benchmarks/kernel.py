"""Compares the kernel with its twins in Python and with tfx-bsl, on the same rows of 12 columns::

    python -m benchmarks.kernel --rows 65536

All work in one thread of this process, batch by batch and in turns; the fastest of all rounds counts. Their results for
the first batch are compared before: these must be equal, or of the same size where a contest says so.
"""

import argparse
import dataclasses
import importlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.io.tfrecordio import _TFRecordUtil
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder

from benchmarks.data import TAXI, chunks
from penstock.io.batches import MAX_BATCH_ROWS, split_batch
from penstock.io.columns.lists import kernel_columns
from penstock.io.examples import decode as examples_decode
from penstock.io.examples import encode as examples
from penstock.io.examples import frames
from penstock.io.kernel import native
from penstock.io.kernel.pure import decode as pure_decode
from penstock.io.kernel.pure import examples as pure_examples
from penstock.io.kernel.pure import frames as pure_frames
from penstock.io.kernel.pure import hashing as pure_hashing
from penstock.io.schema import schema_features


@dataclasses.dataclass(frozen=True)
class Contest:
    """One task and those who do it.

    Attributes:
      name: the task.
      contestants: by name, what each does with a batch; the kernel first.
      inputs: by contestant's name, the batches in its own form; contestants not listed get the plain batches.
      result: what part of a result must be the same for all.
    """

    name: str
    contestants: dict[str, Callable[[Any], Any]]
    inputs: dict[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    result: Callable[[Any], object] = bytes


def native_module(name: str) -> ModuleType:
    """Returns one of the compiled modules."""
    return importlib.import_module(f"penstock.io.kernel.native._{name}")


def encode(batches: Sequence[pa.RecordBatch]) -> Contest:
    """Encodes columns to framed tf.Examples; tfx-bsl's encoder gets the frames of Beam's WriteToTFRecord."""
    names = sorted(batches[0].schema.names)
    encoder = RecordBatchToExamplesEncoder()

    def encode_by(kernel: ModuleType) -> Callable[[pa.RecordBatch], Any]:
        return lambda batch: examples.encode_columns(kernel_columns(batch, names), examples.allocate_bytes, kernel).data

    def tfx_bsl(batch: pa.RecordBatch) -> bytes:
        file = io.BytesIO()
        for record in encoder.encode(batch):
            _TFRecordUtil.write_record(file, record)
        return file.getvalue()

    return Contest(
        "tf.Examples, framed",
        {
            "kernel": encode_by(native_module("examples")),
            "Python": encode_by(pure_examples),
            "tfx-bsl": tfx_bsl,
        },
        {"tfx-bsl": [_with_lists(batch) for batch in batches]},
        len,  # tfx-bsl orders features in its own way
    )


def hash_rows(batches: Sequence[pa.RecordBatch]) -> Contest:
    """Hashes each row of some columns."""
    names = sorted(batches[0].schema.names)
    compiled = native_module("hashing")
    return Contest(
        "hash of a row",
        {
            "kernel": lambda batch: compiled.hash_rows(kernel_columns(batch, names), 0),
            "Python": lambda batch: pure_hashing.hash_rows(kernel_columns(batch, names), 0),
        },
    )


def find_frames(batches: Sequence[pa.RecordBatch]) -> Contest:
    """Finds the records in the bytes of a TFRecord file, and checks CRCs."""
    blocks = [examples.encode_examples(batch).data.tobytes() for batch in batches]

    def scan_by(kernel: ModuleType) -> Callable[[bytes], Any]:
        return lambda block: kernel.scan(block, frames._MAX_RECORD_BYTES)

    return Contest(
        "frames of TFRecord",
        {"kernel": scan_by(native_module("frames")), "Python": scan_by(pure_frames)},
        {"kernel": blocks, "Python": blocks},
        lambda found: found[0].tobytes() + found[1].tobytes(),
    )


def decode(batches: Sequence[pa.RecordBatch]) -> Contest:
    """Decodes tf.Examples to columns, whatever features they hold."""
    return _decode("tf.Examples to columns", batches, None)


def decode_with_schema(batches: Sequence[pa.RecordBatch]) -> Contest:
    """Decodes tf.Examples to the columns of a schema."""
    return _decode("tf.Examples to columns, by a schema", batches, _schema(batches[0].schema))


def _decode(name: str, batches: Sequence[pa.RecordBatch], schema: schema_pb2.Schema | None) -> Contest:
    features = None if schema is None else schema_features(schema)
    names = None if features is None else [feature.name for feature in features]
    decoder = ExamplesToRecordBatchDecoder(None if schema is None else schema.SerializeToString())
    parts = [_frames(batch) for batch in batches]

    def decode_by(kernel: ModuleType) -> Callable[[frames.Frames], pa.RecordBatch]:
        def run(part: frames.Frames) -> pa.RecordBatch:
            content = examples_decode._read(part, names, kernel)
            return examples_decode._decoded(content, len(part), features, strict=False).batch

        return run

    return Contest(
        name,
        {
            "kernel": decode_by(native_module("decode")),
            "Python": decode_by(pure_decode),
            "tfx-bsl": decoder.DecodeBatch,
        },
        {"kernel": parts, "Python": parts, "tfx-bsl": [part.records() for part in parts]},
        _as_lists,
    )


def _frames(batch: pa.RecordBatch) -> frames.Frames:
    (part,) = frames.read_frames(io.BytesIO(examples.encode_examples(batch).data.tobytes()), "", 1 << 30)
    return part


def _schema(columns: pa.Schema) -> schema_pb2.Schema:
    """Makes a schema with one value of each column in each row."""
    types = {pa.int64(): schema_pb2.INT, pa.float64(): schema_pb2.FLOAT, pa.string(): schema_pb2.BYTES}
    schema = schema_pb2.Schema()
    for column in columns:
        feature = schema.feature.add(name=column.name, type=types[column.type])
        feature.value_count.min = feature.value_count.max = 1
    return schema


def _as_lists(batch: pa.RecordBatch) -> str:
    """Returns the values as text, all as lists: some contestants write a scalar where others write a list of one."""
    columns = sorted(batch.to_pydict().items())
    return str([(name, [row if isinstance(row, list) else [row] for row in values]) for name, values in columns])


CONTESTS = (encode, hash_rows, find_frames, decode, decode_with_schema)


def good_batches(rows: int) -> list[pa.RecordBatch]:
    """Makes at least this many rows without faults."""
    batches = []
    while sum(batch.num_rows for batch in batches) < rows:
        for chunk in chunks(TAXI, 2 * rows, seed=len(batches)):
            batch = pa.record_batch(chunk.values, [column.name for column in TAXI])
            batches += split_batch(batch.filter(pa.array(~chunk.bad)).slice(0, rows), MAX_BATCH_ROWS)
    return batches


def _with_lists(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the columns as tfx-bsl needs them."""
    types = {pa.float64(): pa.float32(), pa.string(): pa.large_binary()}
    arrays = (array.cast(types.get(array.type, array.type)) for array in batch.columns)
    offsets = np.arange(batch.num_rows + 1)
    return pa.record_batch([pa.LargeListArray.from_arrays(offsets, array) for array in arrays], batch.schema.names)


def fastest(contest: Contest, batches: Sequence[pa.RecordBatch], rounds: int) -> Iterator[tuple[str, float]]:
    """Yields the name of each contestant and its seconds for all batches.

    Raises:
      AssertionError: when results differ.
    """
    inputs = {name: contest.inputs.get(name, batches) for name in contest.contestants}
    results = {name: contest.result(run(inputs[name][0])) for name, run in contest.contestants.items()}
    assert len(set(results.values())) == 1, f"{contest.name}: {', '.join(results)} make different results"
    seconds = dict.fromkeys(contest.contestants, float("inf"))
    for _ in range(rounds):
        for name, run in contest.contestants.items():
            start = time.perf_counter()
            for batch in inputs[name]:
                run(batch)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    yield from seconds.items()


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1 << 16)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    if not native.ENABLED:
        parser.error("the kernel is not compiled, or turned off")
    batches = good_batches(arguments.rows)
    rows = sum(batch.num_rows for batch in batches)
    print("| task | by | ns per row | x kernel |\n| --- | --- | ---: | ---: |")
    for contest in (make(batches) for make in CONTESTS):
        seconds = dict(fastest(contest, batches, arguments.rounds))
        for name, taken in seconds.items():
            print(f"| {contest.name} | {name} | {taken / rows * 1e9:,.0f} | {taken / seconds['kernel']:.1f} |")


if __name__ == "__main__":
    main()
