"""What is found in a traced graph that makes a row's features depend on more than the row."""

import logging

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.features.tensorflow import import_tensorflow
from penstock.transforms.features.tensors.inputs import flat_schema, input_tensors
from penstock.transforms.features.trace import trace

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

SCHEMA = text_format.Parse(
    """
    feature { name: "x" type: FLOAT presence { min_fraction: 1 } shape {} }
    feature { name: "n" type: INT presence { min_fraction: 1 } shape {} }
    feature { name: "v" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 3 } } }
    feature { name: "s" type: FLOAT }
    feature { name: "t" type: BYTES }
    feature { name: "text" type: BYTES presence { min_fraction: 1 } shape {} }
    """,
    schema_pb2.Schema(),
)


def warned(function, caplog) -> list[str]:
    """What is told of a function that is traced."""
    with caplog.at_level(logging.WARNING, logger="penstock"):
        trace(import_tensorflow(), function, input_tensors(flat_schema(SCHEMA)), "the function")
    return [record.getMessage() for record in caplog.records if record.name.startswith("penstock")]


def python(call, x):
    return tf.ensure_shape(call(tf.ones_like, [x], tf.float32), x.shape)


def asserted(x):
    with tf.control_dependencies([tf.debugging.assert_positive(x)]):
        return tf.identity(x)


PYTHON, RANDOM, BATCH = "runs Python that is no part", "gives something else each time", "takes in the rows of a batch"
UNSTEADY = {
    "py_function": (
        lambda i: python(tf.py_function, i["x"]),
        "EagerPyFunc",
        PYTHON,
    ),
    "numpy_function": (
        lambda i: python(tf.numpy_function, i["x"]),
        "PyFunc",
        PYTHON,
    ),
    "in_an_analyzer": (
        lambda i: tft.scale_to_0_1(python(tf.py_function, i["x"])),
        "EagerPyFunc",
        PYTHON,
    ),
    "in_a_loop": (
        lambda i: tf.map_fn(lambda v: python(tf.numpy_function, v), i["x"]),
        "While",
        PYTHON,
    ),
    "random": (lambda i: i["x"] + tf.random.uniform(tf.shape(i["x"])), "RandomUniform", RANDOM),
    "random_seeded": (lambda i: i["x"] + tf.random.normal(tf.shape(i["x"]), seed=4), "RandomStandardNormal", RANDOM),
    "time": (lambda i: i["x"] + tf.cast(tf.timestamp(), tf.float32), "Timestamp", RANDOM),
    "shuffle": (lambda i: tf.random.shuffle(i["x"]), "RandomShuffle", RANDOM),
    "by_place": (lambda i: tf.random.stateless_uniform(tf.shape(i["x"]), [1, 2]) + i["x"], "StatelessRandom", BATCH),
    "mean": (lambda i: i["x"] - tf.reduce_mean(i["x"]), "Mean", BATCH),
    "mean_of_axis": (lambda i: i["v"] - tf.reduce_mean(i["v"], axis=0), "Mean", BATCH),
    "all_axes": (lambda i: i["v"] / tf.reduce_max(i["v"]), "Max", BATCH),
    "normalized": (lambda i: tf.math.l2_normalize(i["v"], axis=0), "Sum", BATCH),
    "transposed": (lambda i: i["x"] - tf.reduce_max(tf.transpose(i["v"]), axis=1)[0], "Max", BATCH),
    "stacked": (lambda i: i["x"] - tf.reduce_sum(tf.stack([i["x"], i["x"]]), axis=1)[0], "Sum", BATCH),
    "of_sparse_values": (lambda i: i["x"] - tf.reduce_mean(i["s"].values), "Mean", BATCH),
    "of_filled": (lambda i: i["x"] - tf.reduce_min(tf.sparse.to_dense(i["s"], default_value=0.0)), "Min", BATCH),
    "of_numbers": (lambda i: i["n"] - tf.reduce_min(i["n"]), "Min", BATCH),
    "lookups": (lambda i: i["x"] - tf.reduce_max(tf.gather([1.0, 2.0], i["n"])), "Max", BATCH),
    "sorted": (lambda i: tf.sort(i["x"]), "TopKV2", BATCH),
    "running": (lambda i: tf.cumsum(i["x"]), "Cumsum", BATCH),
    "softmax": (lambda i: tf.nn.softmax(i["x"]), "Softmax", BATCH),
    "first": (lambda i: i["x"] - i["x"][0], "StridedSlice", BATCH),
    "reversed": (lambda i: tf.reverse(i["x"], [0]), "ReverseV2", BATCH),
    "covariance": (lambda i: i["v"] @ tf.matmul(i["v"], i["v"], transpose_a=True), "MatMul", BATCH),
    "scaled_first": (lambda i: i["x"] - tf.reduce_mean(tft.scale_to_0_1(i["x"]) * 2 + 1), "Mean", BATCH),
}


@pytest.mark.parametrize(("compute", "kind", "text"), UNSTEADY.values(), ids=UNSTEADY.keys())
def test_what_depends_on_more_than_the_row_is_told_once(caplog, compute, kind, text) -> None:
    (message,) = warned(lambda inputs: {"y": compute(inputs)}, caplog)
    assert message.startswith("the function: test_steady.py, line ")
    assert f": {kind}" in message
    assert text in message


def test_each_line_is_told_with_its_place(caplog) -> None:
    def centred(x):
        return x - tf.reduce_mean(x)

    def preprocessing_fn(inputs):
        return {"y": centred(inputs["x"]), "z": centred(tf.cast(inputs["n"], tf.float32)) + tf.random.uniform([])}

    messages = warned(preprocessing_fn, caplog)
    assert ["in centred: Mean (" in messages[0], "in preprocessing_fn: RandomUniform (" in messages[1]] == [True, True]
    assert len(messages) == 2


UNDECIDED = {
    "looped": (lambda i: tf.map_fn(lambda v: v - tf.reduce_mean(v), i["v"]), "While"),
    "einsum": (lambda i: tf.einsum("bi,bj->i", i["v"], i["v"]) + i["v"], "Einsum"),
    "branched": (lambda i: tf.cond(tf.shape(i["x"])[0] > 1, lambda: i["x"] - i["x"][0], lambda: i["x"]), "If"),
    "called": (lambda i: tf.function(lambda x: x - tf.reduce_mean(x))(i["x"]), "PartitionedCall"),
    "places": (lambda i: tf.gather_nd(i["v"], tf.stack([0 * i["n"], i["n"]], axis=1)), "GatherNd"),
    "behind": (lambda i: i["x"] + tf.reduce_sum(tf.einsum("ab->a", tf.reshape(i["x"], [2, 2]))), "Einsum"),
}


@pytest.mark.parametrize(("compute", "kind"), UNDECIDED.values(), ids=UNDECIDED.keys())
def test_what_may_depend_on_other_rows_is_told(caplog, compute, kind) -> None:
    (message,) = warned(lambda inputs: {"y": tf.reshape(compute(inputs), [-1, 1])}, caplog)
    assert message.startswith("the function: test_steady.py, line ")
    assert kind in message
    assert "may take in the rows of a batch together, which a look at the graph cannot decide: make sure" in message


def test_what_is_not_decided_is_told_once_for_all_places(caplog) -> None:
    def preprocessing_fn(inputs):
        a = tf.map_fn(lambda v: v + 1, inputs["v"])
        b = tf.einsum("bi->b", inputs["v"])
        c = tf.einsum("bi->bi", a)
        return {"a": a - tf.reduce_mean(inputs["v"], axis=0), "b": b, "c": c}

    mixing, undecided = warned(preprocessing_fn, caplog)
    assert BATCH in mixing
    assert "While" in undecided
    assert "cannot decide, nor in 2 other places: make sure" in undecided


STEADY = {
    "of_a_row": lambda i: i["v"] - tf.reduce_mean(i["v"], axis=1, keepdims=True),
    "last_axis": lambda i: tf.nn.softmax(i["v"]),
    "sorted_row": lambda i: tf.sort(i["v"]),
    "stacked": lambda i: tf.reduce_max(tf.stack([i["x"], i["x"]]), axis=0),
    "transposed": lambda i: tf.reduce_max(tf.transpose(i["v"]), axis=0),
    "product": lambda i: i["v"] @ tf.ones([3, 2]),
    "one_of_each_row": lambda i: i["v"][:, 0],
    "filled": lambda i: tf.sparse.to_dense(
        tf.SparseTensor(i["s"].indices, i["s"].values, [i["s"].dense_shape[0], 1]), default_value=0.0
    ),
    "sum_of_a_list": lambda i: tf.ensure_shape(tf.sparse.reduce_sum(i["s"], axis=1), [None]),
    "words": lambda i: tf.strings.split(i["text"]).to_sparse(),
    "letters": lambda i: tf.strings.unicode_split(i["text"], "UTF-8").to_tensor("", shape=[None, 4]),
    "checked": lambda i: tf.debugging.check_numerics(i["x"], "x"),
    "asserted": lambda i: asserted(i["x"]),
    "constant_noise": lambda i: i["x"] + tf.random.stateless_uniform([], [1, 2]),
    "lookup": lambda i: tf.gather([1.0, 2.0], i["n"]),
    "one_hot": lambda i: tf.one_hot(i["n"], 3),
    "z": lambda i: tft.scale_to_z_score(i["v"], elementwise=True),
    "z_key": lambda i: tft.scale_to_z_score_per_key(i["x"], i["text"]),
    "range": lambda i: tft.scale_by_min_max(i["s"], 0, 1),
    "gaussian": lambda i: tft.scale_to_gaussian(i["x"]),
    "buckets": lambda i: tft.bucketize(i["x"], 3),
    "buckets_key": lambda i: tft.bucketize_per_key(i["x"], i["text"], 3),
    "pca": lambda i: i["v"] @ tft.pca(i["v"], 2, tf.float32),
    "vocabulary": lambda i: tft.compute_and_apply_vocabulary(i["t"], num_oov_buckets=2),
    "tfidf": lambda i: tft.tfidf(tft.compute_and_apply_vocabulary(i["t"]), 5)[1],
    "ngrams": lambda i: tft.ngrams(i["t"], (1, 2), " "),
    "bag": lambda i: tft.bag_of_words(i["t"], (1, 1), " "),
    "word_count": lambda i: tft.word_count(i["t"]),
    "deduplicated": lambda i: tft.deduplicate_tensor_per_row(i["t"]),
    "density": lambda i: tft.estimated_probability_density(i["x"], categorical=False),
    "hashed": lambda i: tft.hash_strings(i["text"], 7),
    "sparse_to_dense": lambda i: tft.sparse_tensor_to_dense_with_shape(i["s"], [None, 4], 0.0),
    "mean_of_all": lambda i: i["x"] - tft.mean(i["x"]),
}


@pytest.mark.parametrize("compute", STEADY.values(), ids=STEADY.keys())
def test_nothing_is_told_of_what_depends_on_the_row_alone(caplog, compute) -> None:
    assert warned(lambda inputs: {"y": compute(inputs)}, caplog) == []
