"""Tensors in and out of a `preprocessing_fn`, against what tensorflow-transform makes of the same rows by itself."""

import functools
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError, DataError
from penstock.io.examples.encode import encode_examples
from penstock.io.schema import Kind, schema_features
from penstock.transforms.checks.validate import record_checks
from penstock.transforms.features.apply import (
    apply_graph,
    check_features,
    check_transform,
    load_graph,
    transformed_schema,
)
from penstock.transforms.features.fit import FitTransform
from penstock.transforms.features.functions import load_features
from penstock.transforms.features.tensors.arrays import GraphColumn
from penstock.transforms.features.tensors.inputs import (
    DenseInput,
    ListInput,
    RaggedInput,
    SparseInput,
    flat_schema,
    input_tensors,
)

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

SCHEMA = """
feature { name: "x" type: FLOAT }
feature { name: "pair" type: INT }
feature { name: "words" type: BYTES value_count { min: 0 } }
feature { name: "tags" type: BYTES }
feature { name: "at" type: INT int_domain { min: 0 max: 9 } }
feature { name: "weight" type: FLOAT }
feature { name: "row" type: INT }
feature { name: "column" type: INT }
feature { name: "cell" type: INT }
feature { name: "steps" type: INT }
feature { name: "points" type: FLOAT }
feature { name: "sure" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } } }
represent_variable_length_as_ragged: true
sparse_feature { name: "weights" index_feature { name: "at" } value_feature { name: "weight" } }
tensor_representation_group {
  key: ""
  value {
    tensor_representation {
      key: "x" value { dense_tensor { column_name: "x" shape { } default_value { float_value: 7.5 } } }
    }
    tensor_representation {
      key: "pair" value {
        dense_tensor { column_name: "pair" shape { dim { size: 2 } } default_value { int_value: -1 } }
      }
    }
    tensor_representation { key: "words" value { varlen_sparse_tensor { column_name: "words" } } }
    tensor_representation {
      key: "grid" value {
        sparse_tensor {
          dense_shape { dim { size: 3 } dim { size: 4 } }
          index_column_names: "row" index_column_names: "column" value_column_name: "cell"
        }
      }
    }
    tensor_representation {
      key: "path" value {
        ragged_tensor {
          feature_path { step: "points" }
          partition { row_length: "steps" }
          partition { uniform_row_length: 2 }
        }
      }
    }
  }
}
"""


def make_schema(text: str = SCHEMA) -> schema_pb2.Schema:
    return text_format.Parse(text, schema_pb2.Schema())


def large(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.large_list(kind))


FLOATS, INTS, TEXTS = pa.float32(), pa.int64(), pa.large_binary()
ROWS = pa.record_batch(
    {
        "x": large([[1.0], None, [3.0], [0.25]], FLOATS),
        "pair": large([[1, 2], [3, 4], None, [5, 6]], INTS),
        "words": large([[b"a", b"b", b"a"], None, [b"c"], [b"b"]], TEXTS),
        "tags": large([[b"one", b""], None, [b"two"], [b"x", b"yz"]], TEXTS),
        "at": large([[1, 9], [0], None, [4]], INTS),
        "weight": large([[0.5, 2.0], [1.0], None, [4.0]], FLOATS),
        "row": large([[0, 2], None, [1], [2]], INTS),
        "column": large([[3, 0], None, [1], [2]], INTS),
        "cell": large([[7, 8], None, [9], [10]], INTS),
        "steps": large([[1, 0, 2], None, [1], [0]], INTS),
        "points": large([[0.0, 1, 2, 3, 4, 5], None, [6, 7], None], FLOATS),
        "sure": large([[0], [2], [3], [2]], INTS),
    }
)


def blocks_of(inputs: dict[str, Any]) -> Any:
    """A ragged tensor with a dimension that is uniform, between two that are not."""
    blocks = tf.RaggedTensor.from_uniform_row_length(tf.strings.bytes_split(inputs["tags"].values), 1)
    return tf.RaggedTensor.from_row_splits(blocks, inputs["tags"].row_splits)


def every_form_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    hot = tf.sparse.from_dense(tf.one_hot(tf.reshape(inputs["sure"], [-1]), 5))
    tft.experimental.annotate_true_sparse_output(hot)
    ids = tft.compute_and_apply_vocabulary(inputs["words"])
    scattered = tf.SparseTensor(ids.indices * [1, 3], ids.values, ids.dense_shape * [1, 3])
    tft.experimental.annotate_sparse_output_shape(scattered, [12])
    weights = inputs["weights"].with_values(inputs["weights"].values * 2)
    tft.experimental.annotate_sparse_output_shape(weights, [10])
    blocks = blocks_of(inputs)
    return {
        "number": tft.scale_to_z_score(inputs["x"]),
        "pair": inputs["pair"],
        "hot": hot,
        "ids": ids,
        "scattered": scattered,
        "weights": weights,
        "grid": inputs["grid"],
        "path": inputs["path"],
        "tags": inputs["tags"],
        "letters": tf.strings.bytes_split(inputs["tags"]),
        "blocks": tf.RaggedTensor.from_nested_row_splits(blocks.flat_values, blocks.nested_row_splits),
        "nothing": tf.strings.bytes_split(tf.strings.bytes_split(inputs["tags"])),
    }


class _GiveFn(beam.DoFn):
    """Gives a batch that is made on the worker, in pieces or whole: `beam.Create` would pickle it."""

    def __init__(self, batch: pa.RecordBatch):
        self._batch = batch

    def process(self, _: None):
        yield self._batch


def given(pipeline: beam.Pipeline, batch: pa.RecordBatch) -> beam.PCollection[pa.RecordBatch]:
    return pipeline | beam.Create([None]) | beam.ParDo(_GiveFn(batch)).with_output_types(pa.RecordBatch)


def _save(element: tuple[pa.RecordBatch, Any], path: str) -> None:
    with pa.ipc.new_file(path, element[0].schema) as file:
        file.write_batch(element[0])


def of_transform(function: Any, schema: schema_pb2.Schema, batch: pa.RecordBatch, directory: Path) -> dict[str, Any]:
    """What tensorflow-transform alone makes of the rows: written as tf.Examples, and parsed by its own spec."""
    import tensorflow_transform.beam as tft_beam
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
    from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

    representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(schema)
    config = tensor_adapter.TensorAdapterConfig(batch.schema, representations)
    with local_pipeline() as pipeline, tft_beam.Context(temp_dir=str(directory / "tmp")):
        rows = (given(pipeline, batch), config)
        (data, _), graph = rows | tft_beam.AnalyzeAndTransformDataset(function, output_record_batches=True)
        _ = data | beam.Map(_save, str(directory / "rows.arrow"))
        _ = graph | tft_beam.WriteTransformFn(str(directory / "g"))
    output = tft.TFTransformOutput(str(directory / "g"))
    with pa.ipc.open_file(str(directory / "rows.arrow")) as file:
        examples = RecordBatchToExamplesEncoder(output.transformed_metadata.schema).encode(file.get_batch(0))
    return parsed(examples, output)


def parsed(examples: list[bytes], output: Any) -> dict[str, Any]:
    return {
        name: plain(value) for name, value in tf.io.parse_example(examples, output.transformed_feature_spec()).items()
    }


def plain(tensor: Any) -> Any:
    """A tensor as lists that are equal only if its form, its shape and all bits of its values are."""
    match tensor:
        case tf.SparseTensor():
            return "sparse", plain(tensor.indices), plain(tensor.values), tensor.dense_shape.numpy().tolist()
        case tf.RaggedTensor():
            return "ragged", plain(tensor.flat_values), [splits.numpy().tolist() for splits in tensor.nested_row_splits]
        case _:
            values = tensor.numpy()
            return values.view(np.int32).tolist() if values.dtype == np.float32 else values.tolist()


def fit(function: Any, schema: schema_pb2.Schema, batch: pa.RecordBatch, directory: Path) -> str:
    with local_pipeline() as pipeline:
        _ = given(pipeline, batch) | FitTransform(function, schema, str(directory))
    return str(directory)


def example_list(batch: pa.RecordBatch) -> list[bytes]:
    """The rows as tf.Examples, out of their frames."""
    encoded = encode_examples(batch)
    edges = encoded.offsets.tolist()
    return [encoded.data[start + 12 : end - 4].tobytes() for start, end in itertools.pairwise(edges)]


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> str:
    return fit(every_form_fn, make_schema(), ROWS, tmp_path_factory.mktemp("forms") / "g")


@functools.cache
def applied(directory: str) -> pa.RecordBatch:
    features, reasons = apply_graph(load_graph(directory), ROWS)
    assert not reasons
    return features


@pytest.mark.slow
def test_what_is_written_reads_back_as_what_tensorflow_transform_writes(graph, tmp_path) -> None:
    theirs = of_transform(every_form_fn, make_schema(), ROWS, tmp_path)
    ours = parsed(example_list(applied(graph)), tft.TFTransformOutput(graph))
    assert ours == theirs
    assert {value[0] for value in ours.values() if isinstance(value, tuple)} == {"sparse", "ragged"}


def test_the_columns_have_tensorflow_transforms_names(graph) -> None:
    features = applied(graph).to_pydict()
    assert features["hot$sparse_indices_0"] == [[0], [2], [3], [2]]
    assert features["hot$sparse_values"] == [[1.0], [1.0], [1.0], [1.0]]
    assert features["path$row_lengths_1"] == [[1, 0, 2], None, [1], [0]]
    assert features["path$ragged_values"] == [[0.0, 1, 2, 3, 4, 5], None, [6, 7], None]
    assert features["grid$sparse_indices_1"] == [[3, 0], None, [1], [2]]


def test_the_features_conform_to_the_schema_of_the_graph(graph) -> None:
    features, reasons = check_features(applied(graph), {}, record_checks(transformed_schema(graph)))
    assert (features.num_rows, reasons) == (4, {})


def test_the_layer_and_the_raw_spec_of_tensorflow_transform_agree_with_what_is_written(graph) -> None:
    """As serving does: raw tf.Examples, parsed by the schema that the fit wrote, through the layer."""
    output = tft.TFTransformOutput(graph)
    raw = tf.io.parse_example(example_list(ROWS), output.raw_feature_spec())
    served = {name: plain(value) for name, value in output.transform_features_layer()(raw).items()}
    written = parsed(example_list(applied(graph)), output)
    assert served == written


def test_rows_do_not_depend_on_their_batch(graph) -> None:
    loaded, whole = load_graph(graph), applied(graph)
    for row in range(4):
        alone, reasons = apply_graph(loaded, ROWS.slice(row, 1))
        assert not reasons
        assert alone.to_pydict() == whole.slice(row, 1).to_pydict()
    assert apply_graph(loaded, ROWS.slice(0, 0))[0].num_rows == 0


BAD = {
    "fewer_indices": ({"at": [[1], [0], None, [4]]}, 0, "'weights' has 2 values in 'weight' and 1 indices in 'at'"),
    "outside": ({"at": [[1, 9], [10], None, [4]]}, 1, "an index in 'at' of the sparse feature 'weights' is 10"),
    "negative": ({"at": [[1, 9], [-1], None, [4]]}, 1, "an index in 'at' of the sparse feature 'weights' is -1"),
    "lengths": ({"steps": [[1, 0, 2], None, [2], [0]]}, 2, "'path' has 1 .*the lengths in 'steps' do not add up"),
    "negative_length": ({"steps": [[4, -1, 0], None, [1], [0]]}, 0, "the lengths in 'steps' do not add up"),
    "two_values": ({"pair": [[1], [3, 4], None, [5, 6]]}, 0, "'pair' has 1 values, the features need 2"),
}


@pytest.mark.parametrize(("columns", "row", "message"), BAD.values(), ids=BAD.keys())
def test_a_row_whose_parts_do_not_fit_is_rejected(graph, columns, row: int, message: str) -> None:
    batch = ROWS
    for name, values in columns.items():
        batch = batch.set_column(batch.schema.get_field_index(name), name, large(values, INTS))
    features, reasons = apply_graph(load_graph(graph), batch)
    assert list(reasons) == [row]
    assert reasons[row].code == "transform.error"
    assert re.search(message, reasons[row].detail)
    assert features.num_rows == 3


def test_a_row_whose_parts_do_not_fit_fails_the_fit(tmp_path) -> None:
    batch = ROWS.set_column(ROWS.schema.get_field_index("at"), "at", large([[1], [0], None, [4]], INTS))
    with pytest.raises(DataError, match="cannot fit: in a row, the sparse feature 'weights' has 2 values"):
        fit(lambda inputs: {"grid": inputs["weights"].values}, make_schema(), batch, tmp_path / "g")


def test_a_column_that_no_tensor_is_made_of_is_not_read(tmp_path) -> None:
    graph = fit(lambda inputs: {"words": inputs["words"]}, make_schema(), ROWS, tmp_path / "g")
    assert [item.name for item in load_graph(graph).inputs] == ["words"]
    assert set(tft.TFTransformOutput(graph).raw_feature_spec()) == {"words"}


class TestInputTensors:
    """What a schema makes of its columns, by the rules of TFXIO."""

    def test_each_representation(self) -> None:
        assert {tensor.name: tensor for tensor in input_tensors(flat_schema(make_schema()))} == {
            "x": DenseInput("x", Kind.FLOAT, "x", (), 7.5),
            "pair": DenseInput("pair", Kind.INT, "pair", (2,), -1),
            "words": ListInput("words", Kind.BYTES, "words"),
            "tags": RaggedInput("tags", Kind.BYTES, "tags"),
            "weights": SparseInput("weights", Kind.FLOAT, "weight", ("at",), (10,)),
            "grid": SparseInput("grid", Kind.INT, "cell", ("row", "column"), (3, 4)),
            "path": RaggedInput("path", Kind.FLOAT, "points", ("steps", 2)),
            "sure": DenseInput("sure", Kind.INT, "sure", (1,)),
        }

    def test_the_specs_are_those_of_tfxio(self) -> None:
        from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

        schema = make_schema()
        representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(schema)
        theirs = tensor_adapter.TensorAdapter(tensor_adapter.TensorAdapterConfig(ROWS.schema, representations))
        ours = {tensor.name: tensor.spec(tf) for tensor in input_tensors(flat_schema(schema))}
        assert ours == theirs.TypeSpecs()

    def test_the_tensors_are_those_of_tfxio(self) -> None:
        from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

        schema = make_schema(
            SCHEMA.replace('key: "words" value', 'key: "tokens" value').replace('key: "x"', 'key: "y"')
        )
        representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(schema)
        adapter = tensor_adapter.TensorAdapter(tensor_adapter.TensorAdapterConfig(ROWS.schema, representations))
        theirs = adapter.ToBatchTensors(ROWS)
        parts = {feature.name: graph_column_of(feature) for feature in schema_features(make_schema())}
        for tensor in input_tensors(flat_schema(schema)):
            spec = tensor.spec(tf)
            kinds = [part.dtype for part in tf.nest.flatten(spec, expand_composites=True)]
            given = [tf.constant(part, kind) for part, kind in zip(tensor.components(parts, 4), kinds, strict=True)]
            ours = tf.nest.pack_sequence_as(spec, given, expand_composites=True)
            assert plain(ours) == plain(theirs[tensor.name]), tensor.name

    def test_fields_of_a_struct_have_dotted_names(self) -> None:
        schema = make_schema(
            """
            feature { name: "trip" type: STRUCT struct_domain {
              feature { name: "stops" type: INT } feature { name: "times" type: INT } } }
            tensor_representation_group { key: "" value { tensor_representation { key: "stops" value { ragged_tensor {
              feature_path { step: "trip" step: "times" } partition { row_length: "stops" } } } } } }
            """
        )
        assert input_tensors(flat_schema(schema)) == (RaggedInput("stops", Kind.INT, "trip.times", ("trip.stops",)),)

    def test_indices_are_put_in_order_within_their_row(self) -> None:
        parts = {
            "at": GraphColumn(np.array([9, 1, 4, 0, 2]), np.array([2, 0, 3])),
            "weight": GraphColumn(np.array([0.9, 0.1, 0.4, 0.0, 0.2], np.float32), np.array([2, 0, 3])),
        }
        tensor = SparseInput("weights", Kind.FLOAT, "weight", ("at",), (10,))
        indices, values, shape = tensor.components(parts, 3)
        assert indices.tolist() == [[0, 1], [0, 9], [2, 0], [2, 2], [2, 4]]
        assert values.tolist() == np.array([0.1, 0.9, 0.0, 0.2, 0.4], np.float32).tolist()
        assert shape.tolist() == [3, 10]
        assert tensor.arranged(parts)["at"].values.tolist() == [1, 9, 0, 2, 4]
        kept = SparseInput("weights", Kind.FLOAT, "weight", ("at",), (10,), is_sorted=True)
        assert kept.components(parts, 3)[0][:, 1].tolist() == [9, 1, 4, 0, 2]


def graph_column_of(feature: Any) -> GraphColumn:
    from penstock.transforms.features.tensors.arrays import graph_column

    column, faults = graph_column(ROWS, feature.name, feature.kind)
    assert not faults
    return column


FEATURES = """
feature { name: 'n' type: INT } feature { name: 'text' type: BYTES } feature { name: 'old' deprecated: true type: INT }
"""
GROUP = "tensor_representation_group { key: '' value { tensor_representation { key: 't' value { %s } } } }"
WRONG = {
    "no_column": (
        "dense_tensor { column_name: 'm' shape { } }",
        "'t': is made of 'm', which is not among the features",
    ),
    "unread": ("varlen_sparse_tensor { column_name: 'old' }", "'t': is made of 'old', which is not among the features"),
    "default": (
        "dense_tensor { column_name: 'n' shape { } default_value { float_value: 1 } }",
        "'t': default_value of INT must be int_value, got float_value",
    ),
    "large_default": (
        "dense_tensor { column_name: 'n' shape { } default_value { uint_value: 9223372036854775808 } }",
        "'t': default_value of INT must be int_value, got uint_value",
    ),
    "no_size": (
        "dense_tensor { column_name: 'n' shape { dim { size: -1 } } }",
        r"'t': each dimension of a dense tensor must have a size, got \[-1\]",
    ),
    "text_index": (
        "sparse_tensor { dense_shape { dim { size: 2 } } index_column_names: 'text' value_column_name: 'n' }",
        "'t': 'text' holds indices or lengths; it must be INT, got BYTES",
    ),
    "dimensions": (
        "sparse_tensor { index_column_names: 'n' value_column_name: 'n' }",
        "'t': needs an index column for each dimension of dense_shape, got 1 columns and 0 dimensions",
    ),
    "partition": (
        "ragged_tensor { feature_path { step: 'n' } partition { uniform_row_length: 0 } }",
        "'t': a partition must have a row_length, or a uniform_row_length above 0",
    ),
    "kind": ("", "'t': must be dense, varlen_sparse, sparse or ragged, got None"),
}


@pytest.mark.parametrize(("kind", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_representation_that_cannot_be_is_named(kind: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"schema: tensor_representation {message}"):
        input_tensors(flat_schema(make_schema(FEATURES + GROUP % kind)))


def test_a_shape_without_presence_is_named() -> None:
    with pytest.raises(ConfigError, match="schema: cannot be given to a preprocessing function: Feature n had shape"):
        input_tensors(flat_schema(make_schema("feature { name: 'n' type: INT shape { } }")))


def test_a_graph_whose_parts_nothing_names_is_refused(graph, tmp_path) -> None:
    copy = shutil.copytree(graph, tmp_path / "g", ignore=shutil.ignore_patterns("metadata"))
    with pytest.raises(ConfigError, match=r"input 'grid' .*several columns, metadata/schema.pbtxt there must be"):
        check_transform(str(copy))


def sized_by_vocabulary_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """As TFX's taxi example does: the width is that of the vocabulary, which only the fit knows."""
    ids = tft.compute_and_apply_vocabulary(inputs["sure"], vocab_filename="sure", num_oov_buckets=1)
    depth = tft.experimental.get_vocabulary_size_by_name("sure") + 1
    hot = tf.one_hot(tf.reshape(ids, [-1]), tf.cast(depth, tf.int32))
    return {"hot": tf.reshape(hot, [-1, tf.cast(depth, tf.int32)])}


UNWRITABLE = {
    "one_hot": (
        lambda inputs: tf.sparse.from_dense(tf.one_hot(tf.reshape(inputs["sure"], [-1]), 5)),
        r"SparseTensor with gaps.*annotate_true_sparse_output.*'y\$sparse_indices_0' and 'y\$sparse_values'",
    ),
    "one_hot_of_a_vocabulary": (
        lambda inputs: tf.sparse.from_dense(sized_by_vocabulary_fn(inputs)["hot"]),
        "SparseTensor with gaps.*annotate_true_sparse_output",
    ),
    "sparse_feature": (lambda inputs: inputs["weights"], "SparseTensor with gaps.*annotate_true_sparse_output"),
    "no_width": (
        lambda inputs: tf.sparse.to_dense(tft.compute_and_apply_vocabulary(inputs["words"])),
        r"as many values in each row, got the shape \(None, None\); give it a width",
    ),
    "double": (lambda inputs: tf.cast(inputs["x"], tf.float64), r"got float64; use tf.cast\('y', tf.float32\)"),
    "flag": (lambda inputs: inputs["x"] > 0, r"got bool; use tf.cast\('y', tf.int64\)"),
    "one_number": (lambda inputs: tft.mean(inputs["x"]), r"first dimension must be that of the rows.*\(\)"),
    "constant": (lambda inputs: tf.constant([1, 2], tf.int64), "first dimension must be that of the rows"),
    "no_rank": (
        lambda inputs: tf.raw_ops.PlaceholderWithDefault(input=tf.ones([4], tf.int64), shape=None),
        "the number of its dimensions is not known",
    ),
    "uniform": (blocks_of, "a dimension of the RaggedTensor is uniform; make it ragged, as with"),
    "list": (lambda inputs: [inputs["x"]], "must be a Tensor, SparseTensor or RaggedTensor, got list"),
}


@pytest.mark.parametrize(("make", "message"), UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_what_cannot_be_written_is_found_before_a_row_is_read(tmp_path, make, message: str) -> None:
    transform = FitTransform(lambda inputs: {"y": make(inputs)}, make_schema(), str(tmp_path / "g"))
    with pytest.raises(ConfigError, match=f"output 'y'.*{message}"):
        _ = local_pipeline() | beam.Create([]) | transform
    assert not (tmp_path / "g").exists()


def twins_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"path": inputs["path"], "path$ragged_values": inputs["x"]}


OUTPUTS = {
    "twins": (twins_fn, r"output 'path\$ragged_values': becomes the column .*as output 'path' does; rename it"),
    "reserved": (lambda inputs: {"_split": inputs["x"]}, "output '_split': the name is reserved"),
    "none": (lambda inputs: None, "must return a dict of tensors by name, got NoneType"),
    "empty": (lambda inputs: {}, "must return a dict of tensors by name, got dict {}"),
}


@pytest.mark.parametrize(("function", "message"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_outputs_that_clash_are_found_before_a_row_is_read(tmp_path, function, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = local_pipeline() | beam.Create([]) | FitTransform(function, make_schema(), str(tmp_path / "g"))


def test_a_message_names_the_flag_and_no_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "flagged_fn.py").write_text("def f(inputs):\n    return {'y': inputs['weights']}\n")
    transform = FitTransform(load_features("flagged_fn:f"), make_schema(), str(tmp_path / "g"))
    with pytest.raises(ConfigError, match=r"^--features flagged_fn:f: output 'y' cannot be written: ") as raised:
        _ = local_pipeline() | beam.Create([]) | transform
    assert str(tmp_path) not in str(raised.value)


def test_a_width_that_the_fit_will_know_is_no_fault(tmp_path) -> None:
    graph = fit(sized_by_vocabulary_fn, make_schema(), ROWS, tmp_path / "g")
    assert applied(graph).to_pydict() == {
        "hot": [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]],
    }


def lists_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """Lists of values that are sparse tensors of a fixed width, as in TFT's example of sentiments."""
    ids, weights = tft.tfidf(tft.compute_and_apply_vocabulary(inputs["words"], top_k=20), 20)
    words = inputs["words"]
    return {
        "ids": ids,
        "weights": weights,
        "wide": tf.SparseTensor(words.indices, words.values, [words.dense_shape[0], 9]),
        "flat": inputs["tags"].to_sparse(),
    }


def test_lists_of_a_fixed_width_are_no_fault(tmp_path) -> None:
    features = applied(fit(lists_fn, make_schema(), ROWS, tmp_path / "g")).to_pydict()
    assert features["wide"] == [[b"a", b"b", b"a"], None, [b"c"], [b"b"]]
    assert features["ids"] == [[0, 1], None, [2], [0]]
    assert features["flat"] == ROWS.column("tags").to_pylist()
    assert [len(weights or []) for weights in features["weights"]] == [2, 0, 1, 1]
