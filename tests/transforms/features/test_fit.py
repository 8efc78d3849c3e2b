import pickle
import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError, DataError
from penstock.io.reserved import SPLIT
from penstock.transforms.features.apply import apply_graph, load_graph, transform_fingerprint, transformed_schema
from penstock.transforms.features.code.function import FeatureFunction
from penstock.transforms.features.fit import FitTransform, check_preprocessing
from penstock.transforms.features.functions import parse_features

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

SCHEMA = """
feature { name: "n" type: INT value_count { min: 1 max: 1 } }
feature { name: "x" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "sure" type: FLOAT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "text" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "words" type: BYTES value_count { min: 0 } }
feature { name: "trip.größe" type: INT value_count { min: 1 max: 1 } }
"""


def make_schema(text: str = SCHEMA) -> schema_pb2.Schema:
    return text_format.Parse(text, schema_pb2.Schema())


class _GiveFn(beam.DoFn):
    """Batches made on the worker: `beam.Create` would pickle them."""

    def __init__(self, batches: list[pa.RecordBatch]):
        self._batches = batches

    def process(self, _: None):
        yield from self._batches


def fit(features, batches, output: Path, schema: schema_pb2.Schema | None = None, **options) -> str:
    transform = FitTransform(features, schema or make_schema(), str(output), **options)
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create([None]) | beam.ParDo(_GiveFn(batches)).with_output_types(pa.RecordBatch)
        _ = rows | transform
    return str(output)


def values(graph_dir: str, batch: pa.RecordBatch) -> dict[str, list]:
    features, reasons = apply_graph(load_graph(graph_dir), batch)
    assert not reasons
    return features.to_pydict()


def test_statistics_count_present_values_only(tmp_path) -> None:
    entries = "features: {z: {input: x, ops: [scale_to_z_score]}, unit: {input: n, ops: [scale_to_0_1]}}"
    batch = pa.record_batch({"x": [1.0, None, 3.0, None], "n": pa.array([None, 10, 20, 30])})
    got = values(fit(parse_features(entries), [batch], tmp_path / "g"), batch)
    assert got == {"unit": [None, 0.0, 0.5, 1.0], "z": [-1.0, None, 1.0, None]}


def test_a_default_is_a_value_like_any_other(tmp_path) -> None:
    entries = "features: {z: {input: x, default: 5, ops: [scale_to_z_score]}}"
    batch = pa.record_batch({"x": [1.0, None, 3.0, None]})
    x = np.array([1, 5, 3, 5], np.float32)
    got = values(fit(parse_features(entries), [batch], tmp_path / "g"), batch)
    np.testing.assert_allclose(got["z"], (x - x.mean()) / x.std(), rtol=1e-6)


def test_fit_sees_the_train_split_only(tmp_path) -> None:
    entries = """
features:
  text: {ops: [{compute_and_apply_vocabulary: {num_oov_buckets: 1}}]}
  x: {ops: [scale_to_0_1]}
"""
    splits = pa.array(["train", "train", "eval", "train", "test"]).dictionary_encode()
    batch = pa.record_batch(
        {"text": ["a", "b", "only_eval", "b", "only_test"], "x": [0.0, 1.0, 50.0, 2.0, -9.0], SPLIT: splits}
    )
    graph = fit(parse_features(entries), [batch.slice(0, 2), batch.slice(2)], tmp_path / "g", split="train")
    assert tft.TFTransformOutput(graph).vocabulary_by_name("text") == [b"b", b"a"]
    assert values(graph, batch.select(["text", "x"])) == {"text": [1, 0, 2, 0, 2], "x": [0.0, 0.5, 25.0, 1.0, -4.5]}


def test_the_graph_loads_as_tensorflow_transform_output(tmp_path) -> None:
    entries = (
        'features: {z: {input: sure, ops: [scale_to_z_score]}, words: {ops: [{hash_strings: 7}]}, "a b": {input: n}}'
    )
    batch = pa.record_batch({"sure": [1.0, 2.0], "words": [["a"], None], "n": pa.array([None, 3])})
    output = tft.TFTransformOutput(fit(parse_features(entries), [batch], tmp_path / "g"))
    assert output.raw_feature_spec() == {
        "n": tf.io.VarLenFeature(tf.int64),
        "sure": tf.io.FixedLenFeature([], tf.float32),
        "words": tf.io.VarLenFeature(tf.string),
    }
    assert output.transformed_feature_spec() == {
        "a b": tf.io.VarLenFeature(tf.int64),
        "words": tf.io.VarLenFeature(tf.int64),
        "z": tf.io.FixedLenFeature([], tf.float32),
    }
    counts = {feature.name: feature.value_count.max for feature in transformed_schema(str(tmp_path / "g")).feature}
    assert counts == {"a b": 1, "words": 0, "z": 0}


def test_only_graph_and_metadata_are_left_and_an_older_graph_is_replaced(tmp_path) -> None:
    batch = pa.record_batch({"x": [1.0, 3.0]})
    graph = fit(parse_features("features: {x: {ops: [scale_to_0_1]}}"), [batch], tmp_path / "g")
    before = transform_fingerprint(graph)
    fit(parse_features("features: {y: {input: x, ops: [scale_to_z_score]}}"), [batch], tmp_path / "g")
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == [
        "metadata",
        "transform_fn",
        "transformed_metadata",
    ]
    assert values(graph, batch) == {"y": [-1.0, 1.0]}
    assert transform_fingerprint(graph) != before


def test_fingerprint_depends_on_content_not_on_the_place(tmp_path) -> None:
    batch = pa.record_batch({"text": ["a"]})
    graph = fit(parse_features("features: {text: {ops: [compute_and_apply_vocabulary]}}"), [batch], tmp_path / "g")
    copy = shutil.copytree(graph, tmp_path / "elsewhere")
    assert transform_fingerprint(str(copy)) == transform_fingerprint(graph)
    vocabulary = copy / "transform_fn" / "assets" / "text"
    vocabulary.write_text(vocabulary.read_text().replace("a", "b"))
    assert transform_fingerprint(str(copy)) != transform_fingerprint(graph)


def test_two_fits_on_other_batches_agree(tmp_path) -> None:
    entries = """
features:
  x: {default: 0, ops: [scale_to_z_score]}
  text: {ops: [compute_and_apply_vocabulary]}
  b: {input: x, ops: [{bucketize: 4}]}
"""
    rng = np.random.default_rng(1)
    rows = 3000
    batch = pa.record_batch(
        {
            "x": pa.array(rng.normal(3, 9, rows), mask=rng.random(rows) < 0.1),
            "text": pa.array(rng.choice(["a", "b", "c", "d", "ü"], rows), mask=rng.random(rows) < 0.1),
        }
    )
    one = fit(parse_features(entries), [batch], tmp_path / "one")
    many = fit(parse_features(entries), [batch.slice(at, 211) for at in range(0, rows, 211)][::-1], tmp_path / "many")
    first, second = values(one, batch), values(many, batch)
    assert first["text"] == second["text"]
    np.testing.assert_allclose(first["x"], second["x"], rtol=1e-6, atol=1e-6)


def test_operations_that_were_called_eagerly_before_do_not_matter(tmp_path) -> None:
    tft.apply_buckets(tf.constant([1.0, 3.0]), tf.constant([[2.0]]))
    tft.experimental.annotate_true_sparse_output(tf.sparse.from_dense([[1.0]]))
    batch = pa.record_batch({"x": [0.0, 1.0]})
    graph = fit(parse_features("features: {x: {ops: [scale_to_0_1]}}"), [batch], tmp_path / "g")
    assert values(graph, batch) == {"x": [0.0, 1.0]}


EMPTY = {
    "no_batch": ([], None, "there are no rows"),
    "no_rows": ([pa.record_batch({"x": pa.array([], pa.float64())})], None, "there are no rows"),
    "no_train_rows": (
        [pa.record_batch({"x": [1.0], SPLIT: pa.array(["eval"]).dictionary_encode()})],
        "train",
        "the split 'train' has no rows",
    ),
}


@pytest.mark.parametrize(("batches", "split", "message"), EMPTY.values(), ids=EMPTY.keys())
def test_nothing_to_fit_on(tmp_path, batches, split, message: str) -> None:
    entries = "features: {x: {ops: [scale_to_z_score]}, v: {input: text, ops: [compute_and_apply_vocabulary]}}"
    with pytest.raises(DataError, match=f"cannot fit the features: {message}"):
        fit(parse_features(entries), batches, tmp_path / "g", split=split)
    assert not (tmp_path / "g" / "transform_fn").exists()


BAD_ROWS = {
    "missing": (
        pa.record_batch({"sure": pa.array([1.0, None])}),
        "cannot fit: in a row, 'sure' has 0 values, the features need 1; validate",
    ),
    "absent": (pa.record_batch({"n": pa.array([1])}), "'sure' has 0 values"),
    "two": (pa.record_batch({"sure": pa.array([[1.0], [1.0, 2.0]])}), "'sure' has 2 values"),
    "overflow": (pa.record_batch({"sure": pa.array([1e300])}), "a value of 'sure' is too large for float32"),
    "null_item": (pa.record_batch({"sure": pa.array([[None]], pa.list_(pa.float64()))}), "a value of the list 'sure'"),
    "kind": (pa.record_batch({"sure": pa.array(["1"])}), "column 'sure' holds string, where .* fitted on FLOAT"),
}


@pytest.mark.parametrize(("batch", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_rows_that_the_features_cannot_take_fail_the_fit(tmp_path, batch: pa.RecordBatch, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit(parse_features("features: {sure: {ops: [scale_to_z_score]}}"), [batch], tmp_path / "g")


def test_a_split_needs_split_rows(tmp_path) -> None:
    with pytest.raises(DataError, match="cannot fit on split 'train': the rows have no split"):
        fit(parse_features("features: {x: }"), [pa.record_batch({"x": [1.0]})], tmp_path / "g", split="train")


def preprocessing_fn(inputs):
    """Takes `fixed` dense and `x` sparse, as TFX would give them."""
    assert isinstance(inputs["fixed"], tf.Tensor)
    assert inputs["fixed"].shape.as_list() == [None, 2]
    assert isinstance(inputs["x"], tf.SparseTensor)
    return {
        "pair": inputs["fixed"],
        "x": tft.scale_to_z_score(inputs["x"]),
        "trip": inputs["trip.inner"],
        "ragged": tf.RaggedTensor.from_sparse(inputs["x"]),
    }


NESTED_SCHEMA = """
feature { name: "fixed" type: INT presence { min_fraction: 1 } shape { dim { size: 2 } } }
feature { name: "x" type: FLOAT }
feature { name: "unused" type: BYTES presence { min_fraction: 1 } shape { } }
feature { name: "trip" type: STRUCT struct_domain { feature { name: "inner" type: INT } } }
"""


def test_a_function_gets_tensors_by_the_schema_and_reads_only_its_columns(tmp_path) -> None:
    batch = pa.record_batch({"fixed": [[1, 2], [3, 4]], "x": [1.0, 3.0], "trip.inner": pa.array([None, 7])})
    graph = fit(preprocessing_fn, [batch], tmp_path / "g", make_schema(NESTED_SCHEMA))
    assert [item.name for item in load_graph(graph).inputs] == ["fixed", "trip.inner", "x"]
    assert values(graph, batch) == {
        "pair": [[1, 2], [3, 4]],
        "ragged$ragged_values": [[1.0], [3.0]],
        "trip": [None, [7]],
        "x": [[-1.0], [1.0]],
    }
    assert set(tft.TFTransformOutput(graph).transformed_feature_spec()) == {"pair", "ragged", "trip", "x"}


def test_a_function_may_go_over_all_its_inputs(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "all_inputs_fn.py").write_text("def f(inputs):\n    outputs = inputs.copy()\n    return outputs\n")
    schema = make_schema('feature { name: "n" type: INT } feature { name: "text" type: BYTES }')
    batch = pa.record_batch({"n": pa.array([2**63 - 1, None]), "text": ["ü", ""]})
    graph = fit(FeatureFunction("all_inputs_fn", "f"), [batch], tmp_path / "g", schema)
    assert values(graph, batch) == {"n": [[2**63 - 1], None], "text": [["ü".encode()], [b""]]}


def unknown_column_fn(inputs):
    return {"y": inputs["no_such_column"]}


def broken_fn(inputs):
    return {"y": tft.scale_to_z_score(inputs["text"])}


FUNCTIONS = {
    "unknown_column": (
        unknown_column_fn,
        "unknown_column_fn fails: KeyError: 'no_such_column'.*columns that the schema",
    ),
    "broken": (broken_fn, "broken_fn fails: TypeError: Tensor type .*string.* is not supported"),
}


@pytest.mark.parametrize(("function", "message"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_a_function_that_fails_is_found_before_the_pipeline_runs(tmp_path, function, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = local_pipeline() | beam.Create([]) | FitTransform(function, make_schema(), str(tmp_path))


def test_features_that_do_not_fit_the_schema_are_found_before_the_pipeline_runs(tmp_path) -> None:
    transform = FitTransform(parse_features("features: {text: {ops: [log]}}"), make_schema(), str(tmp_path))
    with pytest.raises(ConfigError, match="log: takes FLOAT or INT, got BYTES"):
        _ = local_pipeline() | beam.Create([]) | transform


def test_the_bound_features_pickle_with_their_function() -> None:
    assert pickle.loads(pickle.dumps(preprocessing_fn)) is preprocessing_fn


DEMANDING = """
feature { name: "dense" type: INT presence { min_fraction: 1 } shape { } }
feature { name: "unused" type: INT presence { min_fraction: 1 } shape { } }
feature { name: "sure" type: FLOAT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "filled" type: INT presence { min_fraction: 1 } }
feature { name: "at" type: INT }
feature { name: "weight" type: FLOAT }
sparse_feature { name: "parts" index_feature { name: "at" } value_feature { name: "weight" } }
tensor_representation_group { key: "" value { tensor_representation { key: "filled" value {
  dense_tensor { column_name: "filled" shape { } default_value { int_value: 7 } } } } } }
"""


def test_a_fit_demands_of_rows_what_its_tensors_cannot_do_without():
    schema = text_format.Parse(DEMANDING, schema_pb2.Schema())

    def preprocessing_fn(inputs):
        return {name: inputs[name] for name in ("dense", "sure", "filled")} | {
            "sum": tf.sparse.to_dense(inputs["parts"])
        }

    with pytest.raises(ConfigError, match="'sum' cannot be written"):
        check_preprocessing(preprocessing_fn, schema)
    of_function = check_preprocessing(
        lambda inputs: {"y": inputs["dense"], "z": inputs["sure"], "f": inputs["filled"], "v": first(inputs["parts"])},
        schema,
    )
    assert of_function == ("dense.presence", "dense.value_count", "parts.parts")
    of_file = check_preprocessing(parse_features("features: {sure: {}, filled: {}}"), schema)
    assert of_file == ("sure.presence", "sure.value_count")


def first(sparse):
    return tf.sparse.to_dense(tf.sparse.slice(sparse, [0, 0], [sparse.dense_shape[0], 1]), 0.0)[:, 0]
