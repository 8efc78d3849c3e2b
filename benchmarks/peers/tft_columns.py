"""tensorflow-transform alone, as fast as it goes: AnalyzeAndTransformDataset over record batches, written as TFRecord.

It reads typed columns from a Parquet file of the good rows, which is made before and does not count.
"""

import csv
import pathlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from _beam import pipeline_options
from _protocol import Task, main
from _rows import RowParser
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

_BATCH_ROWS = 10_000
_ARROW = {"int": pa.int64(), "float": pa.float32(), "bytes": pa.binary()}
_TENSORS = {"int": tf.int64, "float": tf.float32, "bytes": tf.string}


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The features of features.yaml."""
    route = tf.strings.join([inputs["pickup_zone"], inputs["dropoff_zone"]], "-")
    return {
        "fare_amount": tft.scale_to_z_score(inputs["fare_amount"]),
        "total_amount": tft.scale_to_z_score(tf.math.log1p(inputs["total_amount"])),
        "trip_distance": tft.scale_to_0_1(inputs["trip_distance"]),
        "fare_bucket": tft.bucketize(inputs["fare_amount"], 10),
        "distance_bucket": tft.bucketize(inputs["trip_distance"], 8),
        "payment_type": tft.compute_and_apply_vocabulary(inputs["payment_type"]),
        "store_and_fwd_flag": tft.compute_and_apply_vocabulary(inputs["store_and_fwd_flag"]),
        "pickup_zone": tft.compute_and_apply_vocabulary(inputs["pickup_zone"], top_k=30, num_oov_buckets=4),
        "route": tft.hash_strings(route, 256),
        **{name: inputs[name] for name in ("passenger_count", "rate_code", "vendor_id")},
    }


class _ReadFn(beam.DoFn):
    """The row groups of a Parquet file, each value a list of one, as tfx-bsl has them."""

    def process(self, part: tuple[str, int]) -> Iterator[pa.RecordBatch]:
        path, group = part
        for batch in pq.ParquetFile(path).iter_batches(_BATCH_ROWS, row_groups=[group]):
            offsets = pa.array(range(batch.num_rows + 1), pa.int64())
            lists = [pa.LargeListArray.from_arrays(offsets, column) for column in batch.columns]
            yield pa.record_batch(lists, batch.schema.names)


class _EncodeFn(beam.DoFn):
    """Record batches to records."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema

    def setup(self) -> None:
        self._encoder = RecordBatchToExamplesEncoder(self._schema)

    def process(self, element: tuple[pa.RecordBatch, Any]) -> list[bytes]:
        return self._encoder.encode(element[0])


def good_rows(task: Task) -> str:
    """Where the Parquet file of the good rows is."""
    return str(pathlib.Path(task.schema).parent / "good.parquet")


def prepare(task: Task) -> None:
    """Makes that file, once."""
    if pathlib.Path(good_rows(task)).exists():
        return
    parser = RowParser(task.columns)
    with open(task.input, newline="") as file:
        lines = csv.reader(file)
        next(lines)
        rows = [row for row in map(parser.from_fields, lines) if row is not None]
    schema = pa.schema([(column["name"], _ARROW[column["kind"]]) for column in task.columns])
    pq.write_table(pa.Table.from_pylist(rows, schema), good_rows(task), row_group_size=8 * _BATCH_ROWS)


def job(task: Task) -> None:
    """Setting: how Beam's workers run."""
    specs = {column["name"]: tf.io.FixedLenFeature([], _TENSORS[column["kind"]]) for column in task.columns}
    schema = schema_utils.schema_from_feature_spec(specs)
    arrow = pa.schema([(column["name"], pa.large_list(_ARROW[column["kind"]])) for column in task.columns])
    representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(schema)
    config = tensor_adapter.TensorAdapterConfig(arrow, representations)
    parts = [(good_rows(task), group) for group in range(pq.ParquetFile(good_rows(task)).num_row_groups)]
    with (
        beam.Pipeline(options=pipeline_options(task.setting)) as pipeline,
        tft_beam.Context(temp_dir=task.path("temp")),
    ):
        batches = (
            pipeline | beam.Create(parts) | beam.Reshuffle() | beam.ParDo(_ReadFn()).with_output_types(pa.RecordBatch)
        )
        transform = tft_beam.AnalyzeAndTransformDataset(preprocessing_fn, output_record_batches=True)
        (made, metadata), _ = (batches, config) | transform
        _ = (
            made
            | beam.ParDo(_EncodeFn(metadata.schema)).with_output_types(bytes)
            | beam.io.WriteToTFRecord(task.path("part"), file_name_suffix=task.suffix, num_shards=task.shards)
        )


if __name__ == "__main__":
    main(job, prepare)
