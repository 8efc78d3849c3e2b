"""Sparse outputs that lose positions are told before the fit, where made-up rows show it."""

import logging

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.features.made_up_rows import run_on_made_up_rows
from penstock.transforms.features.tensorflow import import_tensorflow
from penstock.transforms.features.tensors.inputs import flat_schema, input_tensors
from penstock.transforms.features.trace import trace

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

SCHEMA = text_format.Parse(
    """
    feature { name: "n" type: INT presence { min_fraction: 1 } shape {} }
    feature { name: "v" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 2 } } }
    feature { name: "list" type: FLOAT }
    feature { name: "text" type: BYTES }
    feature { name: "at" type: INT int_domain { min: 0 max: 4 } }
    feature { name: "cell" type: INT }
    feature { name: "lengths" type: INT }
    feature { name: "inner" type: INT }
    feature { name: "points" type: FLOAT }
    sparse_feature { name: "grid" index_feature { name: "at" } value_feature { name: "cell" } }
    tensor_representation_group { key: "" value { tensor_representation { key: "path" value { ragged_tensor {
      feature_path { step: "points" } partition { row_length: "lengths" } partition { row_length: "inner" }
      partition { uniform_row_length: 2 } } } } } }
    """,
    schema_pb2.Schema(),
)
TENSORS = input_tensors(flat_schema(SCHEMA))
MADE_UP = {
    "n": [[1, 2, 3]],
    "v": [[[1, 2], [3, 4], [5, 6]]],
    "list": [[[0, 0], [0, 1], [2, 0], [2, 1], [2, 2]], [1, 2, 3, 4, 5], [3, 3]],
    "text": [[[0, 0], [0, 1], [2, 0], [2, 1], [2, 2]], [b"1", b"2", b"3", b"4", b"5"], [3, 3]],
    "grid": [[[0, 4], [1, 4], [2, 4]], [1, 2, 3], [3, 5]],
    "path": [[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]], [0, 1, 2, 3], [0, 2, 2, 5]],
}


def test_each_kind_of_tensor_is_made_up() -> None:
    found = {}

    def preprocessing_fn(inputs):
        t = import_tensorflow()
        for name in MADE_UP:
            plain = tf.nest.flatten(inputs[name], expand_composites=True)
            found[name] = run_on_made_up_rows(t, plain, {tensor: inputs[tensor.name] for tensor in TENSORS})
        return {"n": inputs["n"]}

    trace(import_tensorflow(), preprocessing_fn, TENSORS, "the function")
    path = [array.tolist() for array in found.pop("path")]
    assert path[0] == MADE_UP["path"][0]
    assert path[-1] == MADE_UP["path"][-1]
    assert {name: [array.tolist() for array in arrays] for name, arrays in found.items()} == {
        name: [np.array(array).tolist() for array in arrays] for name, arrays in MADE_UP.items() if name != "path"
    }


def warned(function, caplog) -> list[str]:
    with caplog.at_level(logging.WARNING, logger="penstock"):
        trace(import_tensorflow(), lambda inputs: {"y": function(inputs)}, TENSORS, "--features a.py")
    return [record.getMessage() for record in caplog.records if record.name.startswith("penstock")]


def at(n):
    """A one-hot of hand-made indices."""
    rows = tf.cast(tf.shape(n)[0], tf.int64)
    return tf.SparseTensor(tf.stack([tf.range(rows), n], axis=1), tf.ones_like(n), tf.stack([rows, 9]))


LOSING = {
    "by_hand": lambda i: at(i["n"]),
    "of_a_bucket": lambda i: at(tft.apply_buckets(tf.cast(i["n"], tf.float32), tf.constant([[1.5, 2.5]]))),
    "not_in_order": lambda i: tf.SparseTensor(
        tf.reverse(i["list"].indices, [0]), i["list"].values, i["list"].dense_shape
    ),
    "behind_a_mean": lambda i: at(i["n"] + tf.cast(tft.mean(i["n"]), tf.int64)),
    "moved": lambda i: tf.sparse.concat(1, [i["grid"], i["grid"]]),
}


@pytest.mark.parametrize("function", LOSING.values(), ids=LOSING.keys())
def test_positions_that_are_lost_are_told_before_the_fit(caplog, function) -> None:
    (message,) = warned(function, caplog)
    assert message.startswith("--features a.py: on made-up rows, output 'y' is a SparseTensor with gaps")
    assert "call tft.experimental.annotate_true_sparse_output on it" in message
    assert "that fails when the graph is applied, after the fit" in message


def annotated(sparse):
    tft.experimental.annotate_true_sparse_output(sparse)
    return sparse


KEEPING = {
    "annotated": lambda i: annotated(at(i["n"])),
    "first": lambda i: at(0 * i["n"]),
    "aligned": lambda i: tft.sparse_tensor_left_align(at(i["n"])),
    "list": lambda i: tf.SparseTensor(i["list"].indices, i["list"].values * 2, i["list"].dense_shape),
    "ragged": lambda i: tf.RaggedTensor.from_sparse(i["text"]).to_sparse(),
    "words": lambda i: tf.strings.split(tf.sparse.to_dense(i["text"])[:, 0]).to_sparse(),
    "tfidf": lambda i: tft.tfidf(tft.compute_and_apply_vocabulary(i["text"]), 5)[0],
    # What it gives is not known without the vocabulary.
    "of_a_vocabulary": lambda i: at(tft.compute_and_apply_vocabulary(tf.strings.as_string(i["n"]))),
    "failing": lambda i: at(tf.ensure_shape(tf.numpy_function(lambda n: 1 // 0, [i["n"]], tf.int64), [None])),
}


@pytest.mark.parametrize("name", KEEPING)
def test_what_keeps_positions_or_cannot_be_run_is_not_told(caplog, name) -> None:
    told = [message for message in warned(KEEPING[name], caplog) if "made-up" in message]
    assert told == []
