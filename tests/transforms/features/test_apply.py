import collections
import contextlib
import itertools
import math
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that
from apache_beam.transforms.error_handling import CollectingErrorHandler
from depth import on_shared_path
from google.protobuf import text_format
from helpers import local_pipeline
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import origin_array
from penstock.io.dead_letters.handler import DiscardingHandler
from penstock.io.dead_letters.record import DeadLetter
from penstock.io.dead_letters.source import bytes_source
from penstock.io.errors import ConfigError, DataError, RejectedRecordError
from penstock.io.reserved import ORIGIN, SHUFFLE_KEY, SOURCE, SPLIT
from penstock.io.schema import Feature, Kind, schema_features
from penstock.transforms.checks.validate import record_checks, validate_batch
from penstock.transforms.features.apply import (
    ApplyTransform,
    apply_graph,
    check_features,
    check_transform,
    load_graph,
    transformed_schema,
)
from penstock.transforms.features.fit import FitTransform
from penstock.transforms.features.functions import parse_features

tf = pytest.importorskip("tensorflow")
tft = pytest.importorskip("tensorflow_transform")

SCHEMA = text_format.Parse(
    """
feature { name: "n" type: INT value_count { min: 1 max: 1 } }
feature { name: "x" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "sure" type: FLOAT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "text" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "words" type: BYTES value_count { min: 0 } }
feature { name: "ints" type: INT }
feature { name: "trip.größe" type: INT value_count { min: 1 max: 1 } }
""",
    schema_pb2.Schema(),
)

ENTRIES = """
features:
  log: {input: sure, ops: [log1p, scale_to_z_score]}
  gauss: {input: x, ops: [scale_to_gaussian]}
  gauss_default: {input: x, default: 0.5, ops: [scale_to_gaussian]}
  roots: {input: ints, ops: [abs, sqrt, log1p, exp, scale_to_0_1]}
  bucket: {input: x, ops: [{bucketize: 10}]}
  vocabulary: {input: text, ops: [{compute_and_apply_vocabulary: {num_oov_buckets: 2, top_k: 3}}]}
  per_key: {inputs: [x, text], default: [0, ""], ops: [scale_to_z_score_per_key]}
  word_ids: {input: words, ops: [upper, compute_and_apply_vocabulary]}
  n: {}
  text: {}
  words: {}
  trip.größe: {}
  none: {input: n, ops: [is_missing]}
"""


def make_rows(rows: int, seed: int = 7) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)

    def some(values, share: float = 0.2) -> pa.Array:
        return pa.array(values, mask=rng.random(rows) < share)

    words = [rng.choice(["a", "b", "ü", ""], rng.integers(0, 4)).tolist() or None for _ in range(rows)]
    ints = [rng.integers(-(2**40), 2**40, rng.integers(0, 3)).tolist() or None for _ in range(rows)]
    return pa.record_batch(
        {
            "n": some(rng.integers(-(2**63), 2**63 - 1, rows)),
            "x": some(rng.normal(3, 9, rows)),
            "sure": pa.array(rng.random(rows) * 1000),
            "text": some(rng.choice(["AA", "B6", "ü", "", "zz"], rows)),
            "words": pa.array(words, pa.list_(pa.string())),
            "ints": pa.array(ints, pa.list_(pa.int64())),
            "trip.größe": some(rng.integers(0, 9, rows)),
        }
    )


class _GiveFn(beam.DoFn):
    def __init__(self, *batches: pa.RecordBatch):
        self._batches = batches

    def process(self, _: None):
        yield from self._batches


@contextlib.contextmanager
def pipeline_of(*batches: pa.RecordBatch):
    with local_pipeline() as pipeline:
        yield pipeline | beam.Create([None]) | beam.ParDo(_GiveFn(*batches)).with_output_types(pa.RecordBatch)


def fit(features, directory: Path, *batches: pa.RecordBatch, schema: schema_pb2.Schema = SCHEMA) -> str:
    with pipeline_of(*batches) as rows:
        _ = rows | FitTransform(features, schema, str(directory))
    return str(directory)


ROWS = make_rows(1000)


@pytest.fixture(scope="module")
def graph_dir(tmp_path_factory) -> str:
    return fit(parse_features(ENTRIES), tmp_path_factory.mktemp("graph") / "g", ROWS)


def assumed_checks_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """Fails on some rows in several ways, and computes on the bare values of sparse tensors."""
    number = tf.strings.to_number(tf.sparse.to_dense(inputs["text"], "0")[:, 0], tf.int64)
    values = inputs["x"].values
    check = tf.debugging.assert_less(values, 100.0, message="x must be below 100")
    with tf.control_dependencies([check]):
        curves = tf.math.log(tf.math.abs(values) + 1) + tf.math.pow(tf.math.abs(values), 0.3) + tf.math.tanh(values)
    return {"number": number, "curves": inputs["x"].with_values(curves)}


CHECKED_SCHEMA = text_format.Parse(
    'feature { name: "x" type: FLOAT } feature { name: "text" type: BYTES } feature { name: "extra" type: BYTES }',
    schema_pb2.Schema(),
)


@pytest.fixture(scope="module")
def checked_dir(tmp_path_factory) -> str:
    batch = pa.record_batch({"x": [1.0, 2.0], "text": ["1", "2"]})
    return fit(assumed_checks_fn, tmp_path_factory.mktemp("checked") / "g", batch, schema=CHECKED_SCHEMA)


def transformed(directory: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    features, reasons = apply_graph(load_graph(directory), batch)
    assert not reasons
    return features


def bits(batch: pa.RecordBatch) -> dict[str, list[Any]]:
    """Values of each column that are equal only if all their bits are."""

    def exact(value: Any) -> Any:
        if isinstance(value, list):
            return [exact(item) for item in value]
        return value.hex() if isinstance(value, float) else value

    return {name: [exact(value) for value in batch.column(name).to_pylist()] for name in batch.schema.names}


def parsed_examples(batch: pa.RecordBatch, spec: dict[str, Any]) -> dict[str, Any]:
    """Tensors for a layer, by way of tf.Examples made by hand."""

    def feature(kind: pa.DataType, value: Any) -> Any:
        values = value if isinstance(value, list) else [value]
        if pa.types.is_string(kind):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[item.encode() for item in values]))
        if pa.types.is_integer(kind):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    examples = []
    for row in batch.to_pylist():
        fields = {}
        for name, value in row.items():
            kind = batch.schema.field(name).type
            if value is not None:
                fields[name] = feature(kind.value_type if pa.types.is_list(kind) else kind, value)
        examples.append(tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString())
    return tf.io.parse_example(examples, spec)


def rows_of(tensor: Any) -> list[Any]:
    if not isinstance(tensor, tf.SparseTensor):
        return tensor.numpy().tolist()
    rows = collections.defaultdict(list)
    for (row, _), value in zip(tensor.indices.numpy().tolist(), tensor.values.numpy().tolist(), strict=True):
        rows[row].append(value)
    return [rows.get(row) for row in range(int(tensor.dense_shape[0]))]


def unwrapped(batch: pa.RecordBatch, name: str, as_lists: bool) -> list[Any]:
    values = batch.column(name).to_pylist()
    is_list = pa.types.is_list(batch.schema.field(name).type)
    return values if is_list or not as_lists else [None if value is None else [value] for value in values]


def test_values_are_those_of_tensorflow_transforms_layer(graph_dir) -> None:
    """With the padding of its own: 1,000 rows are no multiple of 64, and 1,024 are."""
    output = tft.TFTransformOutput(graph_dir)
    rows = make_rows(1024, seed=3)
    tensors = output.transform_features_layer()(parsed_examples(rows, output.raw_feature_spec()))
    got = transformed(graph_dir, rows)
    assert set(got.schema.names) == set(tensors)
    for name, tensor in tensors.items():
        expected, values = rows_of(tensor), unwrapped(got, name, isinstance(tensor, tf.SparseTensor))
        if tensor.dtype == tf.float32:
            flat = [value for row in zip(expected, values, strict=True) for value in flat_pair(*row)]
            np.testing.assert_allclose(*zip(*flat, strict=True), rtol=1e-6, err_msg=name)
        else:
            assert values == expected, name


def flat_pair(expected: Any, got: Any) -> list[tuple[float, float]]:
    if not isinstance(expected, list):
        return [(math.nan if expected is None else expected, math.nan if got is None else got)]
    assert len(expected) == len(got)
    return list(zip(expected, got, strict=True))


def test_values_are_those_of_transform_dataset(graph_dir, tmp_path) -> None:
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    output = tft.TFTransformOutput(graph_dir)
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(output.raw_feature_spec()))
    rows = make_rows(128, seed=5)
    dicts = [{key: value for key, value in row.items() if value is not None} for row in rows.to_pylist()]
    dicts = [{name: row.get(name) for name in output.raw_feature_spec()} for row in dicts]
    got = transformed(graph_dir, rows)

    def check(results: list[dict[str, Any]]) -> None:
        for index, result in enumerate(results):
            for name, value in result.items():
                mine = got.column(name)[index].as_py()
                if isinstance(value, list | np.ndarray):
                    mine = [] if mine is None else mine if isinstance(mine, list) else [mine]
                if np.asarray(value).dtype.kind == "f":
                    np.testing.assert_allclose(mine, value, rtol=1e-6, err_msg=name)
                else:
                    assert np.asarray(mine, object).tolist() == np.asarray(value, object).tolist(), name
        assert len(results) == len(dicts)

    with local_pipeline() as pipeline, tft_beam.Context(temp_dir=str(tmp_path)):
        graph = pipeline | tft_beam.ReadTransformFn(graph_dir)
        data = pipeline | "Rows" >> beam.Create(dicts, reshuffle=False)
        results, _ = ((data, metadata), graph) | tft_beam.TransformDataset()
        assert_that(results, check)


def test_output_columns_have_the_types_of_the_schema(graph_dir) -> None:
    types = {field.name: field.type for field in transformed(graph_dir, ROWS).schema}
    assert types == {
        "bucket": pa.int64(),
        "gauss": pa.float32(),
        "gauss_default": pa.float32(),
        "log": pa.float32(),
        "n": pa.int64(),
        "none": pa.int64(),
        "per_key": pa.float32(),
        "roots": pa.list_(pa.float32()),
        "text": pa.binary(),
        "trip.größe": pa.int64(),
        "vocabulary": pa.int64(),
        "word_ids": pa.list_(pa.int64()),
        "words": pa.list_(pa.binary()),
    }
    assert set(types) == {feature.name for feature in transformed_schema(graph_dir).feature}
    assert {feature.name for feature in schema_features(transformed_schema(graph_dir))} == set(types)


def test_values_pass_through_unharmed(graph_dir) -> None:
    batch = pa.record_batch(
        {
            "sure": pa.array([0.0] * 4),
            "n": pa.array([2**63 - 1, -(2**63), 2**53 + 1, None]),
            "text": pa.array(["", "日本", "a\0b\n", None]),
            "words": pa.array([["", "x"], [], None, ["ü"]]),
        }
    )
    got = transformed(graph_dir, batch)
    assert got.column("n").to_pylist() == [2**63 - 1, -(2**63), 2**53 + 1, None]
    assert got.column("text").to_pylist() == [b"", "日本".encode(), b"a\0b\n", None]
    assert got.column("words").to_pylist() == [[b"", b"x"], None, None, ["ü".encode()]]
    assert got.column("none").to_pylist() == [0, 0, 0, 1]


def test_arrow_types_of_one_kind_give_one_result(graph_dir) -> None:
    plain = ROWS.select(["sure", "text", "words", "n"])
    other = pa.record_batch(
        {
            "n": plain.column("n"),
            "text": plain.column("text").cast(pa.large_binary()),
            "sure": plain.column("sure").cast(pa.float32()),
            "words": plain.column("words").cast(pa.large_list(pa.binary())),
        }
    )
    encoded = plain.set_column(1, "text", plain.column("text").dictionary_encode())
    assert bits(transformed(graph_dir, plain)) == bits(transformed(graph_dir, other))
    assert bits(transformed(graph_dir, plain)) == bits(transformed(graph_dir, encoded))


def test_a_scalar_column_of_a_list_feature_is_a_list_of_one(graph_dir) -> None:
    batch = pa.record_batch({"sure": [1.0, 1.0], "words": pa.array(["x", None])})
    assert transformed(graph_dir, batch).column("words").to_pylist() == [[b"x"], None]


def test_reserved_columns_are_carried_along(checked_dir) -> None:
    batch = pa.record_batch(
        {
            "text": ["1", "bad", "3"],
            "unused": [1, 2, 3],
            ORIGIN: origin_array("a.csv", np.array([0, 9, 18])),
            SPLIT: pa.array(["train", "eval", "train"]).dictionary_encode(),
            SHUFFLE_KEY: pa.array([5, 6, 7], pa.uint64()),
        }
    )
    features, _ = apply_graph(load_graph(checked_dir), batch)
    assert features.to_pydict() == {
        "curves": [None, None],
        "number": [1, 3],
        ORIGIN: [{"uri": "a.csv", "position": 0}, {"uri": "a.csv", "position": 18}],
        SPLIT: ["train", "train"],
        SHUFFLE_KEY: [5, 7],
    }
    assert features.schema.field(ORIGIN).type == batch.schema.field(ORIGIN).type


@given(cuts=st.lists(st.integers(0, 1000), max_size=8))
@on_shared_path(10)
def test_batching_does_not_change_a_bit(graph_dir, cuts: list[int]) -> None:
    graph = load_graph(graph_dir)
    whole, _ = apply_graph(graph, ROWS)
    borders = [0, *sorted(cuts), 1000]
    pieces = [ROWS.slice(start, end - start) for start, end in itertools.pairwise(borders) if end > start]
    parts = [apply_graph(graph, piece)[0] for piece in pieces]
    table = pa.Table.from_batches(parts).combine_chunks()
    assert bits(table.to_batches()[0]) == bits(whole)


@pytest.mark.parametrize("rows", [1, 2, 7, 63, 64, 65, 129])
def test_batching_does_not_change_a_bit_of_computations_on_sparse_values(checked_dir, rows: int) -> None:
    rng = np.random.default_rng(0)
    x = pa.array(rng.normal(0, 20, 600).clip(-99, 99), mask=rng.random(600) < 0.3)
    batch = pa.record_batch({"x": x, "text": ["1"] * 600})
    graph = load_graph(checked_dir)
    whole = bits(apply_graph(graph, batch)[0])
    parts = [bits(apply_graph(graph, batch.slice(start, rows))[0]) for start in range(0, 600, rows)]
    assert [value for part in parts for value in part["curves"]] == whole["curves"]


BAD = {
    "none": [],
    "first": [0],
    "last": [199],
    "some": [3, 4, 64, 130],
    "all": list(range(200)),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_rows_are_found_and_the_others_kept(checked_dir, bad: list[int]) -> None:
    text = ["oops" if row in bad else str(row) for row in range(200)]
    x = [100.0 if row in bad[::2] else 1.0 for row in range(200)]
    features, reasons = apply_graph(load_graph(checked_dir), pa.record_batch({"text": text, "x": x}))
    assert sorted(reasons) == bad
    assert features.num_rows == 200 - len(bad)
    if features.num_rows:
        assert features.column("number").to_pylist() == [row for row in range(200) if row not in bad]
    assert {reason.code for reason in reasons.values()} <= {"transform.error"}


def test_a_reason_is_the_error_of_tensorflow_in_one_line(checked_dir) -> None:
    batch = pa.record_batch({"text": ["1", "1\n2x", "3", "both"], "x": [1.0, 2.0, 1000.0, 1000.0]})
    _, reasons = apply_graph(load_graph(checked_dir), batch)
    assert reasons[1].detail == "StringToNumberOp could not correctly convert string: 1 2x"
    assert reasons[2].detail.startswith("assertion failed: [x must be below 100]")
    assert reasons[3].detail.startswith(("assertion failed", "StringToNumberOp"))


FAULTS = {
    "missing": ({"sure": pa.array([None], pa.float64())}, "'sure' has 0 values, the features need 1"),
    "absent": ({"n": pa.array([1])}, "'sure' has 0 values, the features need 1"),
    "two": ({"sure": pa.array([[1.0, 2.0]])}, "'sure' has 2 values, the features need 1"),
    "two_of_sparse": (
        {"sure": [1.0], "trip.größe": pa.array([[1, 2]])},
        "feature 'trip.größe' has several values, where its schema says one",
    ),
    "overflow": ({"sure": [-1e39]}, "a value of 'sure' is too large for float32"),
    "null_item": (
        {"sure": [1.0], "words": pa.array([["a", None]])},
        "a value of the list 'words' is missing",
    ),
}


@pytest.mark.parametrize(("columns", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_rows_that_the_graph_cannot_take(graph_dir, columns: dict[str, Any], message: str) -> None:
    bad = pa.record_batch(columns)
    good = pa.record_batch({"sure": pa.array([2.0], pa.float64())})
    graph = load_graph(graph_dir)
    features, reasons = apply_graph(graph, bad)
    assert features.num_rows == 0
    assert {row: reason.detail for row, reason in reasons.items()} == {0: message}
    assert apply_graph(graph, good)[0].num_rows == 1


def test_infinity_and_the_largest_float_are_no_overflow(graph_dir) -> None:
    largest = float(np.finfo(np.float32).max)
    features, reasons = apply_graph(load_graph(graph_dir), pa.record_batch({"sure": [math.inf, math.nan, largest]}))
    assert features.num_rows == 3
    assert not reasons


def test_a_column_of_another_kind_fails_the_job(graph_dir) -> None:
    with pytest.raises(DataError, match="column 'n' holds string, where the features were fitted on INT"):
        apply_graph(load_graph(graph_dir), pa.record_batch({"sure": [1.0], "n": ["1"]}))


def test_a_batch_without_rows(graph_dir) -> None:
    features, reasons = apply_graph(load_graph(graph_dir), ROWS.slice(0, 0))
    assert features.num_rows == 0
    assert not reasons


def test_transform_sends_bad_rows_to_the_handler(checked_dir, tmp_path) -> None:
    lines = bytes_source(pa.array([b"1", b' "bad" ', b"3"]))
    origins = origin_array("a.csv", np.array([0, 9, 18]))
    batch = pa.record_batch({"text": ["1", "bad", "3"], ORIGIN: origins, SOURCE: lines})

    def collect(rejected: list[DeadLetter]) -> None:
        (letter,) = rejected
        assert (letter.stage, letter.uri, letter.position) == ("transform", "a.csv", 9)
        assert (letter.payload, letter.payload_encoding) == (' "bad" ', "text")
        assert [reason.code for reason in letter.reasons] == ["transform.error"]

    def numbers(batches: list[pa.RecordBatch]) -> None:
        assert [batch.column("number").to_pylist() for batch in batches] == [[1, 3]]

    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create([None]) | beam.ParDo(_GiveFn(batch)).with_output_types(pa.RecordBatch)
        with CollectingErrorHandler() as handler:
            features = rows | ApplyTransform(checked_dir).with_error_handler(handler)
        assert_that(features, numbers, label="Features")
        assert_that(handler.output(), collect, label="Rejected")


def test_transform_counts_rows(checked_dir) -> None:
    pipeline = local_pipeline()
    batch = pa.record_batch({"text": ["1", "bad", "3"]})
    rows = pipeline | beam.Create([None]) | beam.ParDo(_GiveFn(batch, batch)).with_output_types(pa.RecordBatch)
    _ = rows | ApplyTransform(checked_dir).with_error_handler(DiscardingHandler())
    result = pipeline.run()
    counters = {
        counter.key.metric.name: counter.committed
        for counter in result.metrics().query(beam.metrics.MetricsFilter().with_namespace("ApplyTransform"))["counters"]
    }
    assert counters == {"in-rows": 6, "out-rows": 4, "bad-rows": 2}


def test_without_a_handler_a_bad_row_fails_the_job(checked_dir) -> None:
    with (
        pytest.raises(RejectedRecordError, match=r"transform.error: .*could not correctly convert string: bad"),
        pipeline_of(pa.record_batch({"text": ["bad"]})) as rows,
    ):
        _ = rows | ApplyTransform(checked_dir)


def test_check_transform_accepts_the_schema_of_the_fit(graph_dir) -> None:
    check_transform(graph_dir, schema_features(SCHEMA))
    check_transform(graph_dir)


def test_check_transform_names_missing_columns(graph_dir) -> None:
    columns = [feature for feature in schema_features(SCHEMA) if feature.name not in ("n", "words")]
    with pytest.raises(
        ConfigError, match=r"the graph needs 'n', 'words', which the schema does not have; it has 'ints'"
    ):
        check_transform(graph_dir, columns)


def test_check_transform_names_a_column_of_another_kind(graph_dir) -> None:
    columns = [Feature("n", Kind.BYTES) if feature.name == "n" else feature for feature in schema_features(SCHEMA)]
    with pytest.raises(ConfigError, match="the graph takes 'n' as INT, the schema has BYTES"):
        check_transform(graph_dir, columns)


def test_apply_transform_checks_before_the_pipeline_runs(graph_dir) -> None:
    with pytest.raises(ConfigError, match=r"the graph needs"):
        _ = local_pipeline() | beam.Create([]) | ApplyTransform(graph_dir, [Feature("z", Kind.INT)])


def test_a_folder_without_a_graph(tmp_path) -> None:
    with pytest.raises(ConfigError, match=f"--transform {tmp_path}/none: is not a folder with a fitted graph"):
        check_transform(str(tmp_path / "none"))


def test_a_folder_with_a_broken_graph(tmp_path) -> None:
    (tmp_path / "transformed_metadata").mkdir()
    (tmp_path / "transformed_metadata" / "schema.pbtxt").write_text("")
    with pytest.raises(ConfigError, match="the graph cannot be loaded"):
        check_transform(str(tmp_path))


def analyzed_elsewhere(
    directory: Path, function: Any, specs: dict[str, Any], rows: list[dict[str, Any]], **context
) -> str:
    """A graph written by tensorflow-transform alone."""
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(specs))
    with (
        local_pipeline() as pipeline,
        tft_beam.Context(temp_dir=str(directory / "tmp"), **context),
    ):
        data = pipeline | beam.Create(rows)
        _ = (data, metadata) | tft_beam.AnalyzeDataset(function) | tft_beam.WriteTransformFn(str(directory / "g"))
    return str(directory / "g")


def matrix_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    one = inputs["one"]
    return {
        "matrix": tf.stack([inputs["pair"], inputs["pair"] * 2], axis=1),
        "one": one,
        "rag": tf.RaggedTensor.from_sparse(inputs["list"]),
    }


def test_a_graph_of_tensorflow_transform_with_unused_inputs_and_dense_vectors(tmp_path) -> None:
    specs = {
        "pair": tf.io.FixedLenFeature([2], tf.int64),
        "one": tf.io.FixedLenFeature([1], tf.float32),
        "list": tf.io.VarLenFeature(tf.string),
        "unused": tf.io.FixedLenFeature([3], tf.float32),
        "unused_list": tf.io.VarLenFeature(tf.int64),
    }
    rows = [{"pair": [1, 2], "one": [0.5], "list": ["a"], "unused": [1.0, 2.0, 3.0], "unused_list": None}]
    directory = analyzed_elsewhere(tmp_path, matrix_fn, specs, rows)
    graph = load_graph(directory)
    assert {item.name for item in graph.inputs if item.needed} == {"pair", "one", "list"}
    features, reasons = apply_graph(
        graph, pa.record_batch({"pair": [[1, 2], [3, 4]], "one": [0.5, 1.5], "list": [["a", "b"], None]})
    )
    assert not reasons
    assert features.to_pydict() == {
        "matrix": [[1, 2, 2, 4], [3, 4, 6, 8]],
        "one": [0.5, 1.5],
        "rag$ragged_values": [[b"a", b"b"], None],
    }


def test_a_graph_of_tensorflow_1_mode_is_refused(tmp_path) -> None:
    specs = {"x": tf.io.FixedLenFeature([], tf.float32)}
    directory = analyzed_elsewhere(tmp_path, lambda inputs: dict(inputs), specs, [{"x": 1.0}], force_tf_compat_v1=True)
    with pytest.raises(ConfigError, match="the graph was written in TensorFlow 1 mode; fit it again"):
        check_transform(directory)


def nested_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    rows = tf.RaggedTensor.from_sparse(inputs["list"])
    return {"nested": tf.strings.bytes_split(rows)}


def test_nested_lists_have_a_column_of_lengths(tmp_path) -> None:
    directory = analyzed_elsewhere(tmp_path, nested_fn, {"list": tf.io.VarLenFeature(tf.string)}, [{"list": ["ab"]}])
    features = transformed(directory, pa.record_batch({"list": [["ab", "", "c"], None, [""]]}))
    assert features.to_pydict() == {
        "nested$row_lengths_1": [[2, 0, 1], None, [0]],
        "nested$ragged_values": [[b"a", b"b", b"c"], None, None],
    }


def gaps_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    column = inputs["list"]
    return {"gaps": tf.SparseTensor(column.indices * [1, 2], column.values, column.dense_shape * [1, 2])}


def test_sparse_outputs_with_gaps_are_refused(tmp_path) -> None:
    directory = analyzed_elsewhere(tmp_path, gaps_fn, {"list": tf.io.VarLenFeature(tf.int64)}, [{"list": [1, 2]}])
    with pytest.raises(DataError, match=r"output 'gaps' is a SparseTensor with gaps.*annotate_true_sparse"):
        apply_graph(load_graph(directory), pa.record_batch({"list": [[1, 2]]}))


def repeated_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    values = tf.sparse.to_dense(inputs["list"])[:, 0]
    twice = tf.sparse.concat(0, [inputs["list"]] * 2)
    return {"dense": tf.repeat(values, 2), "list": twice, "ragged": tf.RaggedTensor.from_sparse(twice)}


@pytest.mark.parametrize("name", ["dense", "list", "ragged"])
def test_an_output_with_other_rows_than_the_input_is_refused(tmp_path, name: str) -> None:
    spec = {"list": tf.io.VarLenFeature(tf.int64)}
    directory = analyzed_elsewhere(tmp_path, lambda inputs: {name: repeated_fn(inputs)[name]}, spec, [{"list": [1]}])
    with pytest.raises(DataError, match=f"output '{name}' of the graph has 256 rows, its input has 128"):
        apply_graph(load_graph(directory), pa.record_batch({"list": [[1], [2]]}))


def crowd_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    with tf.control_dependencies([tf.debugging.assert_less(tf.size(inputs["n"]), 200, message="too many")]):
        return {"n": tf.identity(inputs["n"])}


def test_a_failure_that_no_row_is_at_fault_for_fails_the_job(tmp_path) -> None:
    directory = analyzed_elsewhere(tmp_path, crowd_fn, {"n": tf.io.FixedLenFeature([], tf.int64)}, [{"n": 1}])
    graph = load_graph(directory)
    assert apply_graph(graph, pa.record_batch({"n": [1, 2]}))[0].column("n").to_pylist() == [1, 2]
    with pytest.raises(DataError, match=r"fails on 300 rows together and on none of them alone: .*too many"):
        apply_graph(graph, pa.record_batch({"n": list(range(300))}))


def test_many_rows_with_several_values_are_found_at_once(graph_dir) -> None:
    days = [[1, 2] if row % 3 else [row] for row in range(3000)]
    features, reasons = apply_graph(
        load_graph(graph_dir), pa.record_batch({"sure": [1.0] * 3000, "trip.größe": pa.array(days)})
    )
    assert list(reasons) == [row for row in range(3000) if row % 3]
    assert features.column("trip.größe").to_pylist() == list(range(0, 3000, 3))


def needy_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    check = tf.debugging.assert_positive(inputs["checked"], message="checked must be positive")
    with tf.control_dependencies([check]):
        junk = tf.strings.to_number(tf.sparse.to_dense(inputs["junk"], "0")[:, 0])
    ragged = tf.RaggedTensor.from_sparse(inputs["list"])
    return {"junk": junk, "list": ragged, "double": inputs["vector"] * 2}


def test_bad_rows_are_found_in_graphs_with_inputs_of_every_form(tmp_path) -> None:
    specs = {
        "checked": tf.io.FixedLenFeature([], tf.int64),
        "junk": tf.io.VarLenFeature(tf.string),
        "list": tf.io.VarLenFeature(tf.int64),
        "vector": tf.io.FixedLenFeature([2], tf.float32),
        "unused": tf.io.FixedLenFeature([], tf.string),
    }
    row = {"checked": 1, "junk": ["1"], "list": [1], "vector": [1.0, 2.0], "unused": "u"}
    graph = load_graph(analyzed_elsewhere(tmp_path, needy_fn, specs, [row]))
    batch = pa.record_batch(
        {
            "checked": [1, 0, 2, 3],
            "junk": ["1", "2", "x", None],
            "list": [[1], None, [2], [3, 4]],
            "vector": [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]],
        }
    )
    features, reasons = apply_graph(graph, batch)
    assert features.to_pydict() == {
        "double": [[0.0, 2.0], [6.0, 8.0]],
        "junk": [1.0, 0.0],
        "list$ragged_values": [[1], [3, 4]],
    }
    assert "checked must be positive" in reasons[1].detail
    assert "could not correctly convert string: x" in reasons[2].detail


SPECIALS = text_format.Parse(
    """
feature { name: "nan" type: FLOAT value_count { min: 1 max: 1 } float_domain { disallow_nan: false } }
feature { name: "inf" type: FLOAT value_count { min: 1 max: 1 } float_domain { disallow_inf: false } }
feature { name: "plain" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "text" type: BYTES value_count { min: 1 max: 1 } }
""",
    schema_pb2.Schema(),
)

SPECIAL_ENTRIES = """
features:
  z: {input: nan, ops: [scale_to_z_score]}
  unit: {input: inf, ops: [scale_to_0_1]}
  both: {inputs: [plain, nan], ops: [add]}
  log: {input: plain, ops: [log]}
  bucket: {input: nan, ops: [{bucketize: 2}]}
  word: {input: text, ops: [compute_and_apply_vocabulary]}
  number: {input: text, ops: [{to_number: float}]}
"""


@pytest.fixture(scope="module")
def specials_dir(tmp_path_factory) -> str:
    output = str(tmp_path_factory.mktemp("specials") / "g")
    batch = pa.record_batch({"nan": [1.0, 3.0], "inf": [1.0, 3.0], "plain": [1.0, 2.0], "text": [b"1", b"2"]})
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create([batch])
        _ = rows | FitTransform(parse_features(SPECIAL_ENTRIES), SPECIALS, output)
    return output


class TestSpecialValues:
    """What a feature may be follows from its inputs; a row with anything else is rejected, and not published."""

    def test_a_feature_allows_what_its_inputs_allow(self, specials_dir) -> None:
        domains = {feature.name: feature.float_domain for feature in transformed_schema(specials_dir).feature}
        found = {name: (d.HasField("disallow_nan"), d.HasField("disallow_inf")) for name, d in domains.items()}
        assert {name: found[name] for name in ("z", "unit", "both", "log", "bucket", "number")} == {
            "z": (True, False),
            "unit": (True, True),
            "both": (True, False),
            "log": (False, False),
            "bucket": (False, False),
            "number": (False, False),
        }
        assert not any(domain.disallow_nan or domain.disallow_inf for domain in domains.values())

    @pytest.mark.parametrize(
        ("row", "fault"),
        [
            pytest.param({"nan": math.nan}, None, id="nan is allowed"),
            pytest.param({"inf": math.inf}, None, id="infinity is allowed"),
            pytest.param({"text": b"7"}, None, id="a word out of the vocabulary"),
            pytest.param({"plain": -1.0}, "log is nan", id="a logarithm that is none"),
            pytest.param({"plain": 0.0}, "log is -inf", id="a logarithm without end"),
            pytest.param({"text": b"nan"}, "number is nan", id="a text that is no number"),
        ],
    )
    def test_rows_are_as_the_schema_says_or_rejected(self, specials_dir, row, fault) -> None:
        values = {"nan": 2.0, "inf": 2.0, "plain": 1.0, "text": b"1", **row}
        good = {"nan": 1.0, "inf": 3.0, "plain": 2.0, "text": b"2"}
        batch = pa.RecordBatch.from_pylist([good, values, good])
        checks = record_checks(transformed_schema(specials_dir))
        features, reasons = check_features(*apply_graph(load_graph(specials_dir), batch), checks)
        assert not validate_batch(features, checks).reasons
        if fault is None:
            assert (features.num_rows, reasons) == (3, {})
            return
        assert features.num_rows == 2
        (found,) = reasons.items()
        assert (found[0], found[1].code) == (1, "transform.error")
        assert found[1].detail.startswith(f"a computed feature breaks the schema of the features: {fault}")
