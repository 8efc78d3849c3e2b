"""Decodes records of tf.Example and tf.SequenceExample to Arrow columns, without TensorFlow.

The kernel extracts the values of the records by key and kind. This module turns them into columns.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.of_numpy import array_of, flags_of, indices_of
from penstock.io.errors import ConfigError
from penstock.io.examples.frames import Frames
from penstock.io.examples.steps import rows_with_other_steps, step_lengths_name
from penstock.io.kernel import decode
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, Kind, feature_map

# Indexed by the kernel's numbers for kinds.
_KINDS = (Kind.BYTES, Kind.FLOAT, Kind.INT)
_TYPES = {Kind.BYTES: pa.binary(), Kind.FLOAT: pa.float32(), Kind.INT: pa.int64()}


RecordType: TypeAlias = Literal["example", "sequence_example"]


def is_sequence(record_type: RecordType) -> bool:
    """Whether records of the type are tf.SequenceExamples.

    Raises:
      ConfigError: when there is no such type.
    """
    if record_type not in get_args(RecordType):
        raise ConfigError(f"record_type must be one of {', '.join(get_args(RecordType))}, got {record_type!r}")
    return record_type == "sequence_example"


@dataclasses.dataclass(frozen=True)
class DecodedExamples:
    """Records as columns.

    Attributes:
      batch: one row for each record, in order, feature columns only; a row in `rejects` has nulls where it could not be
        read.
      rejects: row index -> reasons, `tfrecord.parse`, `tfrecord.type` or `tfrecord.steps`; with `strict`, also
        `schema.unknown`.
    """

    batch: pa.RecordBatch
    rejects: Mapping[int, Sequence[Reason]]


def decode_examples(
    frames: Frames,
    features: Sequence[Feature] | None = None,
    strict: bool = False,
    is_sequence: bool = False,
    has_crcs: bool = False,
    in_place: bool = False,
) -> DecodedExamples:
    """Decodes the features of serialized tf.Examples, or of tf.SequenceExamples.

    An absent key, or a Feature with no list in it, is null; an empty list is an empty list. If a record holds a key
    twice, the last value counts, as in protobuf.

    Without `features`, there is a list<int64 | float32 | binary> column for each key that any record has, sorted by
    name. If records disagree on the kind, a mix of integers and floats becomes list<double>, and numbers mixed with
    bytes become their text. These are the kinds that the whole input will have.

    With `features`, there is one column for each, in that order. It is a list, or plain values if the schema says that
    a row has exactly one value and all rows do. A FLOAT feature accepts integers. Any other kind than the feature's
    rejects the row.

    The features of a context are those of a tf.Example. A feature list is a column of its values (`steps.py`). A record
    with steps of other than one value needs the feature `NAME$step_lengths`, INT, which is null in rows where each step
    has one value, unless the schema demands it in every row; without the feature it is rejected. Without `features`,
    there is such a column for each list with such steps. A record that has a name in both parts is rejected.

    Args:
      frames: records of one message each, at most 2 GiB.
      features: the features to read; None for all.
      strict: also reject integers in a FLOAT feature, and keys that are not features (`schema.unknown`).
      is_sequence: whether the records are tf.SequenceExamples.
      has_crcs: whether the CRC of each record is behind it, as in a frame, and nobody has checked it; a record that
        does not match it is rejected (`tfrecord.parse`).
      in_place: whether the bytes of the frames, which ascend, may be overwritten. A column of long texts may then lie
        there, which saves a copy, and keeps them.
    """
    names = None if features is None else [feature.name for feature in features]
    content = _read(frames, names, decode, is_sequence, has_crcs, in_place)
    return _decoded(content, len(frames), features, strict)


def example_kinds(frames: Frames, is_sequence: bool = False) -> dict[str, dict[Kind, int]]:
    """Returns, for each key that serialized messages have, its kinds, each with the first row of that kind.

    It takes as long as decoding all features.
    """
    values = _read(frames, None, decode, is_sequence).values
    return {name: {kind: int(found.rows[0]) for kind, found in by_kind.items()} for name, by_kind in values.items()}


class _ValuesOfKind(NamedTuple):
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

    def fills(self, num_rows: int) -> bool:
        """Whether each row has one value."""
        return self.one_each and len(self.rows) == num_rows


_ByKind = dict[Kind, _ValuesOfKind]


@dataclasses.dataclass(frozen=True)
class _Steps:
    """The steps of the feature lists of one key.

    Attributes:
      rows: int32[n], the rows that have the list, ascending.
      offsets: int32[n + 1], where in `lengths` the steps of each of these rows start, and the end.
      lengths: int32[m], the number of values of each step.
    """

    rows: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray

    def lengths_of(self, chosen: np.ndarray) -> _ValuesOfKind:
        """Returns the lengths as values of the rows that bool[n] chooses."""
        counts = np.diff(self.offsets)
        offsets = starts_of(counts[chosen]).astype(np.int32)
        lengths = self.lengths[np.repeat(chosen, counts)].astype(np.int64)
        return _ValuesOfKind(self.rows[chosen], offsets, array_of(lengths), bool((counts[chosen] == 1).all()))


class _Content(NamedTuple):
    """The content of some records.

    Attributes:
      values: the values by key and kind.
      unknown: for each key that was not asked for, int32, the rows that hold it, ascending.
      faults: row index -> why the row is not a record of its type.
      steps: the steps by key, for feature lists.
    """

    values: dict[str, _ByKind]
    unknown: dict[str, np.ndarray]
    faults: dict[int, str]
    steps: dict[str, _Steps]


def _decoded(content: _Content, num_rows: int, features: Sequence[Feature] | None, strict: bool) -> DecodedExamples:
    rejects = {row: [Reason("tfrecord.parse", fault)] for row, fault in content.faults.items()}
    derived = _derived_from_steps(content, features, rejects) if content.steps else {}
    values = content.values
    if features is None:
        names = sorted({*values, *derived})
        columns = {
            name: _inferred_column([*values.get(name, {}).values(), *derived.get(name, ())], num_rows) for name in names
        }
    else:
        if strict:
            _reject_unknown(content.unknown, rejects)
        columns = {}
        for feature in features:
            by_kind = values.get(feature.name, {})
            own = by_kind.get(feature.kind)
            if own is not None and len(by_kind) == 1 and feature.multivalued is False and own.fills(num_rows):
                columns[feature.name] = own.values
                continue
            found = _of_feature(by_kind, feature, strict, rejects)
            columns[feature.name] = _column([*found, *derived.get(feature.name, ())], feature, num_rows)
    return DecodedExamples(_record_batch(columns, num_rows), rejects)


def _derived_from_steps(
    content: _Content, features: Sequence[Feature] | None, rejects: dict[int, list[Reason]]
) -> dict[str, list[_ValuesOfKind]]:
    """Returns, by column, what the steps of lists say beside their values; rejects rows whose steps have no column."""
    known = None if features is None else feature_map(features)
    derived: dict[str, list[_ValuesOfKind]] = {}
    for name, steps in content.steps.items():
        kind = known[name].kind if known else None
        derived.setdefault(name, []).extend(_without_values(steps.rows, content.values.get(name, {}), kind))
        lengths_name = step_lengths_name(name)
        lengths = known.get(lengths_name) if known else Feature(lengths_name, Kind.INT)
        others = rows_with_other_steps(steps.lengths, steps.offsets)
        if lengths is None or lengths.kind is not Kind.INT:
            _reject_steps(name, steps, others, rejects)
            continue
        chosen = np.ones(len(others), bool) if lengths.complete else others
        if chosen.any():
            derived.setdefault(lengths_name, []).append(steps.lengths_of(chosen))
            _reject_twice(lengths_name, steps.rows[chosen], content.values.get(lengths_name, {}), rejects)
    return derived


def _without_values(rows: np.ndarray, by_kind: _ByKind, kind: Kind | None) -> list[_ValuesOfKind]:
    """Returns the feature lists of no kind, which have no values; as of one kind of the others without `kind`."""
    empty = np.setdiff1d(rows, [row for found in by_kind.values() for row in found.rows], assume_unique=True)
    if not len(empty):
        return []
    kind = kind or next(iter(by_kind), None)
    values = pa.nulls(0, pa.null() if kind is None else _TYPES[kind])
    return [_ValuesOfKind(empty, np.zeros(len(empty) + 1, np.int32), values, one_each=False)]


def _reject_steps(name: str, steps: _Steps, others: np.ndarray, rejects: dict[int, list[Reason]]) -> None:
    for index in np.flatnonzero(others).tolist():
        lengths = steps.lengths[steps.offsets[index] : steps.offsets[index + 1]]
        step = int(np.flatnonzero(lengths != 1)[0])
        detail = (
            f"column {name!r}: step {step} of the feature list has {lengths[step]} values, not 1; to read such lists, "
            f"give the schema the INT feature {step_lengths_name(name)!r}, the number of values of each step"
        )
        rejects.setdefault(int(steps.rows[index]), []).append(Reason("tfrecord.steps", detail))


def _reject_twice(name: str, rows: np.ndarray, own: _ByKind, rejects: dict[int, list[Reason]]) -> None:
    for found in own.values():
        for row in np.intersect1d(rows, found.rows).tolist():
            detail = f"column {name!r}: the record has it, but it stands for the steps of one of its feature lists"
            rejects.setdefault(row, []).append(Reason("tfrecord.steps", detail))


def _read(
    frames: Frames,
    names: Sequence[str] | None,
    kernel: ModuleType,
    is_sequence: bool = False,
    has_crcs: bool = False,
    in_place: bool = False,
) -> _Content:
    block = memoryview(frames.data) if in_place else None
    found, unknown, faults, steps = kernel.read(
        frames.data, frames.starts, frames.lengths, names, is_sequence, has_crcs, block
    )
    texts = [text for by_kind in found.values() for *_, text, _ in by_kind.values()]
    if block is not None and any(isinstance(text, memoryview) and text.obj is block.obj for text in texts):
        frames.keep()
    return _Content(
        {
            name: {_KINDS[kind]: _wrap(_KINDS[kind], *taken) for kind, taken in by_kind.items()}
            for name, by_kind in found.items()
        },
        {name: np.frombuffer(rows, np.int32) for name, rows in unknown.items()},
        faults,
        {name: _Steps(*(np.frombuffer(taken, np.int32) for taken in found)) for name, found in steps.items()},
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


def _of_feature(
    by_kind: _ByKind, feature: Feature, strict: bool, rejects: dict[int, list[Reason]]
) -> list[_ValuesOfKind]:
    """Returns the values that the feature can hold; rejects rows with values of other kinds."""
    accepted = []
    for kind, found in by_kind.items():
        if kind is feature.kind or (kind is Kind.INT and feature.kind is Kind.FLOAT and not strict):
            accepted.append(found)
            continue
        detail = f"column {feature.name!r}: the record holds {kind.value} values, not {feature.kind.value}"
        for row in found.rows.tolist():
            rejects.setdefault(row, []).append(Reason("tfrecord.type", detail))
    return accepted


def _column(found: Sequence[_ValuesOfKind], feature: Feature, num_rows: int) -> pa.Array:
    is_mixed = feature.kind is Kind.FLOAT and any(pa.types.is_integer(each.values.type) for each in found)
    value_type = pa.float64() if is_mixed else _TYPES[feature.kind]
    one_each = feature.multivalued is False and all(each.one_each for each in found)
    if not found:
        return pa.nulls(num_rows, value_type if one_each else pa.list_(value_type))
    return _merge([(_scalars if one_each else _lists)(each, value_type, num_rows) for each in found])


def _inferred_column(found: Sequence[_ValuesOfKind], num_rows: int) -> pa.Array:
    types = list(dict.fromkeys(each.values.type for each in found))
    value_type = types[0] if len(types) == 1 else pa.float64()
    if pa.binary() in types:
        value_type = pa.binary()
    return _merge([_lists(each, value_type, num_rows) for each in found])


def _merge(columns: Sequence[pa.Array]) -> pa.Array:
    """Merges the columns of several kinds into one: a row has at most one kind."""
    return columns[0] if len(columns) == 1 else pc.coalesce(*columns)


def _scalars(found: _ValuesOfKind, value_type: pa.DataType, num_rows: int) -> pa.Array:
    values = _values(found, value_type)
    if len(values) == num_rows:
        return values
    indices = np.zeros(num_rows, np.int64)
    indices[found.rows] = np.arange(len(values))
    return values.take(indices_of(indices, _absent(found, num_rows)))


def _lists(found: _ValuesOfKind, value_type: pa.DataType, num_rows: int) -> pa.ListArray:
    values = _values(found, value_type)
    if len(found.rows) == num_rows:
        buffers = [None, pa.py_buffer(found.offsets)]
        return pa.Array.from_buffers(pa.list_(value_type), num_rows, buffers, null_count=0, children=[values])
    offsets = np.zeros(num_rows + 1, np.int32)
    offsets[found.rows + 1] = np.diff(found.offsets)
    np.cumsum(offsets, out=offsets)
    return pa.ListArray.from_arrays(array_of(offsets), values, mask=flags_of(_absent(found, num_rows)))


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
