"""What tensorflow-transform itself makes of the same rows, in the columns of its own record batches."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import RecordBatchCoder
from penstock.transforms.features.apply import apply_graph, load_graph
from penstock.transforms.features.fit import FitTransform


class _GiveFn(beam.DoFn):
    """Batches made on the worker: `beam.Create` would pickle them."""

    def __init__(self, batches: Sequence[pa.RecordBatch]):
        self._batches = batches

    def process(self, _: None) -> Any:
        yield from self._batches


def _given(pipeline: beam.Pipeline, batches: Sequence[pa.RecordBatch]) -> Any:
    return pipeline | beam.Create([None]) | beam.ParDo(_GiveFn(batches)).with_output_types(pa.RecordBatch)


def tft_rows(function: Callable[..., Any], schema: schema_pb2.Schema, batch: pa.RecordBatch) -> dict[str, list[Any]]:
    """Each column of `AnalyzeAndTransformDataset`, a list of values for each row, in the order of the rows."""
    import tensorflow_transform.beam as tft_beam
    from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

    types = {schema_pb2.INT: pa.int64(), schema_pb2.FLOAT: pa.float32(), schema_pb2.BYTES: pa.binary()}
    arrow = pa.schema([(item.name, pa.large_list(types[item.type])) for item in schema.feature])
    lists = [_as_lists(batch.column(field.name), field.type) for field in arrow]
    representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(schema)
    config = tensor_adapter.TensorAdapterConfig(arrow, representations)
    with tempfile.TemporaryDirectory() as folder:
        with local_pipeline() as pipeline, tft_beam.Context(temp_dir=f"{folder}/temp"):
            rows = _given(pipeline, [pa.record_batch(lists, schema=arrow)])
            transform = tft_beam.AnalyzeAndTransformDataset(function, output_record_batches=True)
            (transformed, _), _ = (rows, config) | transform
            _ = transformed | beam.MapTuple(lambda found, _: Path(folder, "rows").write_bytes(_bytes(found)))
        found = RecordBatchCoder().decode(Path(folder, "rows").read_bytes())
    columns: dict[str, list[Any]] = {}
    for name in found.schema.names:
        columns |= _as_written(name, found.column(name))
    return columns


def _as_written(name: str, column: pa.Array) -> dict[str, list[Any]]:
    """A column as a tf.Example holds it: a ragged one has the names that tensorflow-transform encodes it by."""
    rows = column.to_pylist()
    if "$" in name or not pa.types.is_large_list(column.type):
        return {name: [_values(row) for row in rows]}
    if not pa.types.is_large_list(column.type.value_type):
        return {name: [_values(row) for row in rows]}
    values = [[value for inner in row for value in inner] for row in rows]
    return {f"{name}$ragged_values": values, f"{name}$row_lengths_1": [[len(inner) for inner in row] for row in rows]}


def _bytes(batch: pa.RecordBatch) -> bytes:
    return RecordBatchCoder().encode(batch)


def _as_lists(column: pa.Array, kind: pa.DataType) -> pa.Array:
    rows = column.to_pylist()
    return pa.array([row if isinstance(row, list) or row is None else [row] for row in rows], kind)


def _values(row: Any) -> list[Any]:
    if row is None:
        return []
    return list(np.ravel(np.array(row, dtype=object))) if isinstance(row, list) else [row]


def our_rows(
    features: Any,
    schema: schema_pb2.Schema,
    batch: pa.RecordBatch,
    folder: Path,
    fitted: Sequence[pa.RecordBatch] | None = None,
) -> dict[str, list[Any]]:
    """The same of `FitTransform`, on the batch or the batches of `fitted`, and `apply_graph`, in two unlike pieces."""
    with local_pipeline() as pipeline:
        _ = _given(pipeline, fitted or [batch]) | FitTransform(features, schema, str(folder))
    graph, at = load_graph(str(folder)), batch.num_rows // 3
    pieces = [apply_graph(graph, piece) for piece in (batch.slice(0, at), batch.slice(at))]
    assert not any(reasons for _, reasons in pieces)
    found = pa.Table.from_batches([piece for piece, _ in pieces])
    return {name: [_values(row) for row in found.column(name).to_pylist()] for name in found.schema.names}


def largest_difference(ours: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> float:
    """The largest difference of two numbers, over the larger of the two or 1; whatever else differs fails."""
    ragged = {name: f"{name}$ragged_values" for name in theirs if f"{name}$ragged_values" in ours}
    theirs = {ragged.get(name, name): rows for name, rows in theirs.items()}
    assert ours.keys() == theirs.keys()
    worst = 0.0
    for name, rows in theirs.items():
        assert [len(row) for row in ours[name]] == [len(row) for row in rows], name
        left, right = ([value for row in column for value in row] for column in (ours[name], rows))
        if right and isinstance(right[0], float):
            a, b = np.array(left, np.float64), np.array(right, np.float64)
            assert (np.isnan(a) == np.isnan(b)).all(), name
            a, b = np.nan_to_num(a), np.nan_to_num(b)
            worst = max(worst, float((np.abs(a - b) / np.maximum(1, np.maximum(np.abs(a), np.abs(b)))).max()))
        else:
            assert left == right, name
    return worst
