"""A fit gives what docs/tfx.md promises of each operation, for any order of the rows and any batches.

The rows are fitted by `AnalyzeAndTransformDataset` as one batch, and by `FitTransform` in many of them and another
order; in `make soaks` as one batch too. The table of the page is the one that is held here.
"""

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tft_reference import largest_difference, our_rows, tft_rows

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

PAGE = Path(__file__).parents[3] / "docs" / "tfx.md"
ROWS = 6000
SCHEMA = """
feature { name: "x" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "n" type: INT presence { min_fraction: 1 } shape {} }
feature { name: "v" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 4 } } }
feature { name: "key" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "maybe" type: FLOAT }
feature { name: "words" type: BYTES }
"""


def everywhere(inputs, value):
    """A statistic, which has no rows, in each of them."""
    flat = tf.reshape(tf.cast(value, tf.float32), [1, -1])
    return tf.zeros_like(inputs["x"])[:, tf.newaxis] + flat


# Each operation by the name that the page has, and what of it is compared.
OPERATIONS = {
    "mean": lambda i: everywhere(i, tft.mean(i["x"])),
    "var": lambda i: everywhere(i, tft.var(i["x"])),
    "sum": lambda i: everywhere(i, tft.sum(i["n"])),
    "min": lambda i: everywhere(i, tft.min(i["x"])),
    "max": lambda i: everywhere(i, tft.max(i["x"])),
    "size": lambda i: everywhere(i, tft.size(i["x"])),
    "covariance": lambda i: everywhere(i, tft.covariance(i["v"], tf.float32)),
    "pca": lambda i: tf.abs(i["v"] @ tft.pca(i["v"], 2, tf.float32)),
    "quantiles": lambda i: everywhere(i, tft.quantiles(i["x"], 5, 0.01)),
    "histogram": lambda i: tf.ensure_shape(everywhere(i, tft.histogram(i["x"], [0.0, 500.0])[0])[:, :1], [None, 1]),
    "scale_to_0_1": lambda i: tft.scale_to_0_1(i["x"]),
    "scale_by_min_max": lambda i: tft.scale_by_min_max(i["maybe"], -1, 1),
    "scale_to_z_score": lambda i: tft.scale_to_z_score(i["x"]),
    "scale_to_gaussian": lambda i: tft.scale_to_gaussian(i["x"]),
    "scale_to_0_1_per_key": lambda i: tft.scale_to_0_1_per_key(i["x"], i["key"]),
    "scale_to_z_score_per_key": lambda i: tft.scale_to_z_score_per_key(i["x"], i["key"]),
    "bucketize": lambda i: tft.bucketize(i["x"], 10),
    "bucketize_per_key": lambda i: tft.bucketize_per_key(i["x"], i["key"], 4),
    "compute_and_apply_vocabulary": lambda i: tft.compute_and_apply_vocabulary(i["words"], num_oov_buckets=2),
    "tfidf": lambda i: tft.tfidf(tft.compute_and_apply_vocabulary(i["words"]), 20)[1],
    "bag_of_words": lambda i: tft.compute_and_apply_vocabulary(tft.bag_of_words(i["words"], (1, 2), " ")),
    "estimated_probability_density": lambda i: tft.estimated_probability_density(i["x"], boundaries=7),
    "hash_strings": lambda i: tft.hash_strings(i["key"], 100),
}


def preprocessing_fn(inputs):
    return {name: operation(inputs) for name, operation in OPERATIONS.items()}


def promises() -> dict[str, float]:
    """The table of the page: of each operation the largest difference; 0 where it is exact."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (exact|[\d.e-]+) \|", PAGE.read_text(), re.MULTILINE)
    return {
        name: 0.0 if bound == "exact" else float(bound) for names, bound in rows for name in re.findall(r"\w+", names)
    }


def rows() -> pa.RecordBatch:
    draw = np.random.default_rng(7)
    x = draw.gamma(2, 500, ROWS).astype(np.float32)
    v = draw.normal(40, [30, 10, 3, 1], (ROWS, 4)).astype(np.float32)
    words = [[f"w{int(place)}".encode() for place in draw.zipf(1.6, draw.integers(0, 6)) % 15] for _ in range(ROWS)]
    maybe = [[float(value)] if value < 90 else None for value in draw.uniform(0, 100, ROWS)]
    return pa.record_batch(
        {
            "x": x,
            "n": draw.integers(0, 1000, ROWS),
            "v": pa.array(list(v), pa.list_(pa.float32())),
            "key": pa.array([b"abcde"[at : at + 1] for at in draw.integers(0, 5, ROWS)]),
            "maybe": pa.array(maybe, pa.list_(pa.float32())),
            "words": pa.array(words, pa.list_(pa.binary())),
        }
    )


def test_each_operation_has_a_promise() -> None:
    assert promises().keys() == OPERATIONS.keys()


@pytest.fixture(scope="module")
def theirs() -> dict[str, np.ndarray]:
    """What tensorflow-transform makes of the rows by itself."""
    return tft_rows(preprocessing_fn, text_format.Parse(SCHEMA, schema_pb2.Schema()), rows())


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(ROWS, id="one_batch", marks=pytest.mark.soak),
        pytest.param(97, id="many_batches_in_another_order", marks=pytest.mark.slow),
    ],
)
def test_each_operation_keeps_its_promise(tmp_path, theirs, size) -> None:
    schema, batch = text_format.Parse(SCHEMA, schema_pb2.Schema()), rows()
    order = np.arange(ROWS) if size == ROWS else np.random.default_rng(1).permutation(ROWS)
    fitted = batch.take(pa.array(order))
    batches = [fitted.slice(start, size) for start in range(0, ROWS, size)]
    ours = our_rows(preprocessing_fn, schema, batch, tmp_path / "graph", batches)
    found = {name: largest_difference({name: ours[name]}, {name: theirs[name]}) for name in theirs}
    print({name: value for name, value in found.items() if value})
    assert {name: value for name, value in found.items() if not value <= promises().get(name, math.inf)} == {}
