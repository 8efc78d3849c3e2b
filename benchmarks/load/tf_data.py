"""`tf.data.TFRecordDataset` and `tf.io.parse_example`, one thread, with the features that the schema says."""

import glob
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from _clock import BATCH_ROWS, main
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(1)

_TYPES = {schema_pb2.INT: tf.int64, schema_pb2.FLOAT: tf.float32, schema_pb2.BYTES: tf.string}


def spec_of(folder: str) -> dict[str, Any]:
    """Returns what `tf.io.parse_example` must know of the records of a dataset."""
    with open(f"{folder}/schema.pbtxt") as file:
        schema = text_format.Parse(file.read(), schema_pb2.Schema())
    return {
        feature.name: tf.io.FixedLenFeature([], _TYPES[feature.type])
        if feature.value_count.min == feature.value_count.max == 1
        else tf.io.RaggedFeature(_TYPES[feature.type], row_splits_dtype=tf.int64)
        for feature in schema.feature
    }


def read(folder: str) -> Iterator[int]:
    """Yields the rows of each batch."""
    spec, options = spec_of(folder), tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    files = sorted(glob.glob(f"{folder}/train/*"))
    packed = "GZIP" if files[0].endswith(".gz") else ""
    dataset = tf.data.TFRecordDataset(files, packed).batch(BATCH_ROWS)
    dataset = dataset.map(lambda records: tf.io.parse_example(records, spec)).with_options(options)
    some = min(spec)
    for batch in dataset:
        column = batch[some]
        yield int(column.shape[0] if not isinstance(column, tf.RaggedTensor) else column.nrows())


if __name__ == "__main__":
    main(read)
