"""tfx-bsl: CsvTFXIO | drop bad rows of the RecordBatch | RecordBatchToExamplesEncoder | WriteToTFRecord.

Under a schema with numbers, CsvTFXIO fails at the first text in a number column. So it reads texts, and Arrow's
kernels turn them into numbers, a batch at once, which is the fastest way that leaves bad rows out.
"""

import functools
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from _beam import pipeline_options
from _protocol import Task, main
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.public.tfxio import CsvTFXIO, RecordBatchToExamplesEncoder
from tfx_bsl.tfxio.parquet_tfxio import ParquetTFXIO

# Of what CsvTFXIO may be asked for; left to itself it takes longer where rows are long.
_BATCH_ROWS = 1000

_NUMBERS = {"int": r"^-?\d+$", "float": r"^-?\d*\.?\d+(e[+-]?\d+)?$"}
_TYPES = {"int": pa.int64(), "float": pa.float32(), "bytes": pa.binary()}
_SCHEMA_TYPES = {"int": schema_pb2.INT, "float": schema_pb2.FLOAT, "bytes": schema_pb2.BYTES}


def source(task: Task) -> beam.PTransform:
    """RecordBatches; with text columns from CSV, with typed ones from Parquet."""
    if task.format == "parquet":
        types = {column["name"]: _SCHEMA_TYPES[column["kind"]] for column in task.columns}
        return ParquetTFXIO(task.input, schema=schema(types)).BeamSource(_BATCH_ROWS)
    types = {column["name"]: schema_pb2.BYTES for column in task.columns}
    return CsvTFXIO(task.input, column_names=list(types), schema=schema(types), skip_header_lines=1).BeamSource(
        _BATCH_ROWS
    )


def schema(types: dict[str, int]) -> schema_pb2.Schema:
    """One value in each row."""
    return schema_pb2.Schema(feature=[schema_pb2.Feature(name=name, type=type_) for name, type_ in types.items()])


def drop_bad_rows(batch: pa.RecordBatch, columns: list[dict[str, Any]]) -> pa.RecordBatch:
    """The good rows, with each column of its kind."""
    present = functools.reduce(pc.and_, (array.is_valid() for array in batch.columns))
    batch = batch.filter(present)
    values = {column["name"]: _flat(batch.column(column["name"]), column["kind"]) for column in columns}
    texts = [column for column in columns if column["kind"] != "bytes" and _is_text(values[column["name"]])]
    if texts:
        good = functools.reduce(pc.and_, (_is_number(values[column["name"]], column["kind"]) for column in texts))
        values = {name: array.filter(good) for name, array in values.items()}
    for column in texts:
        values[column["name"]] = values[column["name"]].cast(pa.large_string()).cast(_TYPES[column["kind"]])
    for column in columns:
        if column["minimum"] is not None:
            good = pc.greater_equal(values[column["name"]], column["minimum"])
            values = {name: array.filter(good) for name, array in values.items()}
    return pa.RecordBatch.from_arrays([_one_each(array) for array in values.values()], list(values))


def _flat(array: pa.Array, kind: str) -> pa.Array:
    """The values: in lists from CSV; from Parquet as they are, of types some of which the encoder does not take."""
    return array.flatten() if pa.types.is_large_list(array.type) else array.cast(_TYPES[kind], safe=False)


def _is_text(values: pa.Array) -> bool:
    return pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)


def _is_number(values: pa.Array, kind: str) -> pa.Array:
    return pc.match_substring_regex(values, _NUMBERS[kind])


def _one_each(values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(np.arange(len(values) + 1), values)


def job(task: Task) -> None:
    """Setting: how Beam's workers run."""
    with beam.Pipeline(options=pipeline_options(task.setting)) as pipeline:
        _ = (
            pipeline
            | source(task)
            | beam.Map(drop_bad_rows, task.columns)
            | beam.FlatMap(RecordBatchToExamplesEncoder().encode)
            | beam.io.WriteToTFRecord(task.path("part"), file_name_suffix=task.suffix, num_shards=task.shards)
        )


if __name__ == "__main__":
    main(job)
