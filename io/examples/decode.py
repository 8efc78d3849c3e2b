"""Decodes tf.Example records to Arrow columns, without TensorFlow.

The kernel extracts the values of the records by key and kind. This module turns them into columns.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.examples.frames import Frames
from penstock.io.kernel import decode
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, Kind

# Indexed by the kernel's numbers for kinds.
_KINDS = (Kind.BYTES, Kind.FLOAT, Kind.INT)
_TYPES = {Kind.BYTES: pa.binary(), Kind.FLOAT: pa.float32(), Kind.INT: pa.int64()}


@dataclasses.dataclass(frozen=True)
class DecodedExamples:
    """Records as columns.

    Attributes:
      batch: one row for each record, in order, feature columns only; a row in `rejects` has nulls where it could not be
        read.
      rejects: row index -> reasons, `tfrecord.parse` or `tfrecord.type`; with `strict`, also `schema.unknown`.
    """

    batch: pa.RecordBatch
    rejects: Mapping[int, Sequence[Reason]]


def decode_examples(frames: Frames, features: Sequence[Feature] | None = None, strict: bool = False) -> DecodedExamples:
    """Decodes the features of serialized tf.Examples.

    An absent key, or a Feature with no list in it, is null; an empty list is an empty list. If a record holds a key
    twice, the last value counts, as in protobuf.

    Without `features`, there is a list<int64 | float32 | binary> column for each key that any record has, sorted by
    name. If records disagree on the kind, a mix of integers and floats becomes list<double>, and numbers mixed with
    bytes become their text. These are the kinds that the whole input will have.

    With `features`, there is one column for each, in that order. It is a list, or plain values if the schema says that
    a row has exactly one value and all rows do. A FLOAT feature accepts integers. Any other kind than the feature's
    rejects the row.

    Args:
      frames: records of one tf.Example each, at most 2 GiB.
      features: the features to read; None for all.
      strict: also reject integers in a FLOAT feature, and keys that are not features (`schema.unknown`).
    """
    names = None if features is None else [feature.name for feature in features]
    content = _read(frames, names, decode)
    return _decoded(content, len(frames), features, strict)


def example_kinds(frames: Frames) -> dict[str, dict[Kind, int]]:
    """Returns, for each key that serialized tf.Examples have, its kinds, each with the first row of that kind.

    It takes as long as decoding all features.
    """
    values = _read(frames, None, decode).values
    return {name: {kind: int(found.rows[0]) for kind, found in by_kind.items()} for name, by_kind in values.items()}


@dataclasses.dataclass(frozen=True)
class _ValuesOfKind:
    """The values of one key that are of one kind.

    Unlike a `ListColumn` it covers only the rows that have such values: the kind may differ from row to row.

    Attributes:
      rows: int32[n], the rows that have such values, ascending.
      offsets: int32[n + 1], where in `values` the values of each of these rows start, and the end.
      values: the values, of the kind's type.
      one_each: whether each of these rows has exactly one value.
    """

    rows: np.ndarray
    offsets: np.ndarray
    values: pa.Array
    one_each: bool


_ByKind = dict[Kind, _ValuesOfKind]


@dataclasses.dataclass(frozen=True)
class _Content:
    """The content of some records.

    Attributes:
      values: the values by key and kind.
      unknown: for each key that was not asked for, int32, the rows that hold it, ascending.
      faults: row index -> why the row is not a tf.Example.
    """

    values: dict[str, _ByKind]
    unknown: dict[str, np.ndarray]
    faults: dict[int, str]


def _decoded(content: _Content, num_rows: int, features: Sequence[Feature] | None, strict: bool) -> DecodedExamples:
    rejects = {row: [Reason("tfrecord.parse", fault)] for row, fault in content.faults.items()}
    values = content.values
    if features is None:
        columns = {name: _inferred_column(values[name], num_rows) for name in sorted(values)}
    else:
        if strict:
            _reject_unknown(content.unknown, rejects)
        by_kind = [_of_feature(values.get(feature.name, {}), feature, strict, rejects) for feature in features]
        columns = {
            feature.name: _column(found, feature, num_rows) for feature, found in zip(features, by_kind, strict=True)
        }
    return DecodedExamples(_record_batch(columns, num_rows), rejects)


def _read(frames: Frames, names: Sequence[str] | None, kernel: ModuleType) -> _Content:
    found, unknown, faults = kernel.read(frames.data, frames.starts, frames.lengths, names)
    return _Content(
        {
            name: {_KINDS[kind]: _wrap(_KINDS[kind], *taken) for kind, taken in by_kind.items()}
            for name, by_kind in found.items()
        },
        {name: np.frombuffer(rows, np.int32) for name, rows in unknown.items()},
        faults,
    )


def _wrap(
    kind: Kind, rows: memoryview, offsets: memoryview, values: memoryview, data: memoryview, one_each: bool
) -> _ValuesOfKind:
    """Wraps the kernel's memory in numpy and Arrow arrays, without copying."""
    bounds = np.frombuffer(offsets, np.int32)
    buffers = [None, pa.py_buffer(values), *([pa.py_buffer(data)] if kind is Kind.BYTES else [])]
    array = pa.Array.from_buffers(_TYPES[kind], int(bounds[-1]), buffers, null_count=0)
    return _ValuesOfKind(np.frombuffer(rows, np.int32), bounds, array, one_each)


def _reject_unknown(unknown: Mapping[str, np.ndarray], rejects: dict[int, list[Reason]]) -> None:
    for name in sorted(unknown):
        for row in unknown[name].tolist():
            rejects.setdefault(row, []).append(Reason("schema.unknown", f"the schema has no feature {name!r}"))


def _of_feature(by_kind: _ByKind, feature: Feature, strict: bool, rejects: dict[int, list[Reason]]) -> _ByKind:
    """Returns the values that the feature can hold; rejects rows with values of other kinds."""
    accepted = {Kind.FLOAT, Kind.INT} if feature.kind is Kind.FLOAT and not strict else {feature.kind}
    for kind in [kind for kind in by_kind if kind not in accepted]:
        detail = f"column {feature.name!r}: the record holds {kind.value} values, not {feature.kind.value}"
        for row in by_kind.pop(kind).rows.tolist():
            rejects.setdefault(row, []).append(Reason("tfrecord.type", detail))
    return by_kind


def _column(by_kind: _ByKind, feature: Feature, num_rows: int) -> pa.Array:
    value_type = pa.float64() if feature.kind is Kind.FLOAT and Kind.INT in by_kind else _TYPES[feature.kind]
    one_each = feature.multivalued is False and all(found.one_each for found in by_kind.values())
    if not by_kind:
        return pa.nulls(num_rows, value_type if one_each else pa.list_(value_type))
    return _merge([(_scalars if one_each else _lists)(found, value_type, num_rows) for found in by_kind.values()])


def _inferred_column(by_kind: _ByKind, num_rows: int) -> pa.Array:
    value_type = _TYPES[next(iter(by_kind))] if len(by_kind) == 1 else pa.float64()
    if Kind.BYTES in by_kind:
        value_type = pa.binary()
    return _merge([_lists(found, value_type, num_rows) for found in by_kind.values()])


def _merge(columns: Sequence[pa.Array]) -> pa.Array:
    """Merges the columns of several kinds into one: a row has at most one kind."""
    return columns[0] if len(columns) == 1 else pc.coalesce(*columns)


def _scalars(found: _ValuesOfKind, value_type: pa.DataType, num_rows: int) -> pa.Array:
    values = _values(found, value_type)
    if len(values) == num_rows:
        return values
    indices = np.zeros(num_rows, np.int64)
    indices[found.rows] = np.arange(len(values))
    return values.take(pa.array(indices, mask=_absent(found, num_rows)))


def _lists(found: _ValuesOfKind, value_type: pa.DataType, num_rows: int) -> pa.ListArray:
    values = _values(found, value_type)
    if len(found.rows) == num_rows:
        return pa.ListArray.from_arrays(pa.array(found.offsets), values)
    offsets = np.zeros(num_rows + 1, np.int32)
    offsets[found.rows + 1] = np.diff(found.offsets)
    np.cumsum(offsets, out=offsets)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(_absent(found, num_rows)))


def _values(found: _ValuesOfKind, value_type: pa.DataType) -> pa.Array:
    if found.values.type == value_type:
        return found.values
    if value_type == pa.binary():
        return pa.array([str(value).encode() for value in found.values.to_pylist()], value_type)
    return found.values.cast(value_type, safe=False)  # a safe cast rejects integers that float64 rounds


def _absent(found: _ValuesOfKind, num_rows: int) -> np.ndarray:
    absent = np.ones(num_rows, bool)
    absent[found.rows] = False
    return absent


def _record_batch(columns: Mapping[str, pa.Array], num_rows: int) -> pa.RecordBatch:
    if columns:
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return pa.RecordBatch.from_struct_array(pa.array([{}] * num_rows, pa.struct([])))
