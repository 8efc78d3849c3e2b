"""tf.Example records to Arrow columns, without TensorFlow.

The kernel reads the bytes of a block of records in one pass. Its twin has protobuf parse them one by one, which costs
20 microseconds for a record of 12 features, most of it for reaching each value from Python. Its messages are built
from a descriptor of their own in a pool of their own, so that TensorFlow's copies of the same messages can be in the
process or not.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from penstock.io.examples.frames import Frames
from penstock.io.kernel import native
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, Kind

if native.ENABLED:
    from penstock.io.kernel.native import _decode

# The lists that a Feature can hold, in the order of their fields.
_KINDS = {"bytes_list": Kind.BYTES, "float_list": Kind.FLOAT, "int64_list": Kind.INT}
_TYPES = {Kind.BYTES: pa.binary(), Kind.FLOAT: pa.float32(), Kind.INT: pa.int64()}

_NO_EXAMPLE = "the record is not a tf.Example: "
_SEQUENCES = "the record is a tf.SequenceExample; only tf.Example is read"
_NO_FEATURES = _NO_EXAMPLE + "it holds no features, but other fields"

# What the kernel finds, by its number there.
_FAULTS = (
    _SEQUENCES,
    _NO_FEATURES,
    _NO_EXAMPLE + "what begins at byte {} is cut off",
    _NO_EXAMPLE + "no field begins at byte {}",
    _NO_EXAMPLE + "the number at byte {} has more than 10 bytes",
    _NO_EXAMPLE + "the floats at byte {} have a number of bytes that 4 does not divide",
    _NO_EXAMPLE + "the key at byte {} is not UTF-8",
    _NO_EXAMPLE + "the group at byte {} has no end, no start, or 100 groups around it",
)


@dataclasses.dataclass(frozen=True)
class DecodedExamples:
    """Records as columns.

    Attributes:
      batch: one row for each record, in order, feature columns only; a row named in `rejects` is null where it could
        not be read.
      rejects: row index to reasons, `tfrecord.parse` or `tfrecord.type`.
    """

    batch: pa.RecordBatch
    rejects: Mapping[int, Sequence[Reason]]


def decode_examples(frames: Frames, features: Sequence[Feature] | None = None, strict: bool = False) -> DecodedExamples:
    """The features of serialized tf.Examples.

    An absent key, or a Feature with no list in it, is null; an empty list is an empty list. Of a key that a record
    holds twice the last counts, as protobuf has it.

    Without `features` there is a list<int64 | float32 | binary> column for each key that any record has, sorted by
    name. Where records disagree on the kind, integers and floats together become list<double>, and numbers beside
    bytes their text: the kind that the whole input is going to have.

    With `features` there is one column for each, in that order: a list, or plain values where the schema says that a
    row has exactly one and all rows do. Integers are taken for a FLOAT feature; any other kind than the feature's
    rejects the row.

    Args:
      frames: records of one tf.Example each, at most 2 GiB.
      features: what to read; None for everything.
      strict: reject integers in a FLOAT feature too, and a key that is none of the features (`schema.unknown`).
    """
    names = None if features is None else [feature.name for feature in features]
    content = (_read_in_kernel if native.ENABLED else _read_in_python)(frames, names)
    return _decoded(content, len(frames), features, strict)


@dataclasses.dataclass(frozen=True)
class _Cells:
    """What the records hold of one kind under one key.

    Attributes:
      rows: int32[n], the rows that have it, ascending.
      offsets: int32[n + 1], where in `values` those of each of these rows start, and the end.
      values: of the kind's type.
      one_each: whether each of these rows has one value.
    """

    rows: np.ndarray
    offsets: np.ndarray
    values: pa.Array
    one_each: bool


_ByKind = dict[Kind, _Cells]


@dataclasses.dataclass(frozen=True)
class _Content:
    """What some records hold.

    Attributes:
      cells: by key and kind.
      unknown: int32, the rows that hold a key which was not asked for, ascending, by the key.
      faults: why a row is no tf.Example.
    """

    cells: dict[str, _ByKind]
    unknown: dict[str, np.ndarray]
    faults: dict[int, str]


def _decoded(content: _Content, num_rows: int, features: Sequence[Feature] | None, strict: bool) -> DecodedExamples:
    rejects = {row: [Reason("tfrecord.parse", fault)] for row, fault in content.faults.items()}
    cells = content.cells
    if features is None:
        columns = {name: _inferred_column(cells[name], num_rows) for name in sorted(cells)}
    else:
        if strict:
            _reject_unknown(content.unknown, rejects)
        by_kind = [_of_feature(cells.get(feature.name, {}), feature, strict, rejects) for feature in features]
        columns = {
            feature.name: _column(found, feature, num_rows) for feature, found in zip(features, by_kind, strict=True)
        }
    return DecodedExamples(_record_batch(columns, num_rows), rejects)


def _read_in_kernel(frames: Frames, names: Sequence[str] | None) -> _Content:
    cells, unknown, faults = _decode.read(frames.data, frames.starts, frames.lengths, names)
    kinds = tuple(_KINDS.values())
    return _Content(
        {name: {kinds[kind]: _wrap(kinds[kind], *taken) for kind, taken in of.items()} for name, of in cells.items()},
        {name: np.frombuffer(rows, np.int32) for name, rows in unknown.items()},
        {row: _FAULTS[fault].format(at) for row, fault, at in faults},
    )


def _wrap(
    kind: Kind, rows: memoryview, offsets: memoryview, values: memoryview, data: memoryview, one_each: bool
) -> _Cells:
    """The kernel's memory as it is, seen by numpy and Arrow."""
    bounds = np.frombuffer(offsets, np.int32)
    buffers = [None, pa.py_buffer(values), *([pa.py_buffer(data)] if kind is Kind.BYTES else [])]
    array = pa.Array.from_buffers(_TYPES[kind], int(bounds[-1]), buffers, null_count=0)
    return _Cells(np.frombuffer(rows, np.int32), bounds, array, one_each)


@dataclasses.dataclass
class _Collected:
    """Cells as the protobuf messages are gone through, flat: one list for each cell costs more than the parsing."""

    rows: list[int] = dataclasses.field(default_factory=list)
    counts: list[int] = dataclasses.field(default_factory=list)
    values: list[Any] = dataclasses.field(default_factory=list)

    def cells(self, kind: Kind) -> _Cells:
        offsets = np.zeros(len(self.rows) + 1, np.int32)
        np.cumsum(self.counts, out=offsets[1:])
        values = pa.array(self.values, _TYPES[kind])
        return _Cells(np.array(self.rows, np.int32), offsets, values, all(count == 1 for count in self.counts))


def _read_in_python(frames: Frames, names: Sequence[str] | None) -> _Content:
    parse = _example_class().FromString
    collected: dict[str, dict[str, _Collected]] = {name: {} for name in names or ()}
    unknown: dict[str, list[int]] = {}
    faults: dict[int, str] = {}
    for row, record in enumerate(frames.records()):
        try:
            example = parse(record)
        except DecodeError as error:
            faults[row] = f"{_NO_EXAMPLE}{error}"
            continue
        if fault := _foreign(example, record):
            faults[row] = fault
            continue
        for name, feature in {entry.key: entry.value for entry in example.features.feature}.items():
            kind = feature.WhichOneof("kind")
            if kind is None:
                continue
            if names is not None and name not in collected:
                unknown.setdefault(name, []).append(row)
                continue
            values = getattr(feature, kind).value[:]
            cells = collected.setdefault(name, {}).setdefault(kind, _Collected())
            cells.rows.append(row)
            cells.counts.append(len(values))
            cells.values += values
    return _Content(
        {
            name: {_KINDS[kind]: found.cells(_KINDS[kind]) for kind, found in of.items()}
            for name, of in collected.items()
        },
        {name: np.array(rows, np.int32) for name, rows in unknown.items()},
        faults,
    )


def _foreign(example: Any, record: bytes) -> str:
    """Why bytes that parse are no tf.Example all the same; empty for one that is.

    Protobuf takes fields that it does not know from any message, and many a short text parses.
    """
    if example.sequences:
        return _SEQUENCES
    return _NO_FEATURES if record and not example.HasField("features") else ""


def _reject_unknown(unknown: Mapping[str, np.ndarray], rejects: dict[int, list[Reason]]) -> None:
    for name in sorted(unknown):
        for row in unknown[name].tolist():
            rejects.setdefault(row, []).append(Reason("schema.unknown", f"the schema has no feature {name!r}"))


def _of_feature(cells: _ByKind, feature: Feature, strict: bool, rejects: dict[int, list[Reason]]) -> _ByKind:
    """The cells that are values of the feature; the rows of the others are rejected."""
    accepted = {Kind.FLOAT, Kind.INT} if feature.kind is Kind.FLOAT and not strict else {feature.kind}
    for kind in [kind for kind in cells if kind not in accepted]:
        detail = f"column {feature.name!r}: the record holds {kind.value} values, not {feature.kind.value}"
        for row in cells.pop(kind).rows.tolist():
            rejects.setdefault(row, []).append(Reason("tfrecord.type", detail))
    return cells


def _column(cells: _ByKind, feature: Feature, num_rows: int) -> pa.Array:
    value_type = pa.float64() if feature.kind is Kind.FLOAT and Kind.INT in cells else _TYPES[feature.kind]
    one_each = feature.multivalued is False and all(found.one_each for found in cells.values())
    if not cells:
        return pa.nulls(num_rows, value_type if one_each else pa.list_(value_type))
    return _merge([(_scalars if one_each else _lists)(found, value_type, num_rows) for found in cells.values()])


def _inferred_column(cells: _ByKind, num_rows: int) -> pa.Array:
    value_type = _TYPES[next(iter(cells))] if len(cells) == 1 else pa.float64()
    if Kind.BYTES in cells:
        value_type = pa.binary()
    return _merge([_lists(found, value_type, num_rows) for found in cells.values()])


def _merge(columns: Sequence[pa.Array]) -> pa.Array:
    """The columns of each kind as one: a row has at most one kind."""
    return columns[0] if len(columns) == 1 else pc.coalesce(*columns)


def _scalars(cells: _Cells, value_type: pa.DataType, num_rows: int) -> pa.Array:
    values = _values(cells, value_type)
    if len(values) == num_rows:
        return values
    places = np.zeros(num_rows, np.int64)
    places[cells.rows] = np.arange(len(values))
    return values.take(pa.array(places, mask=_absent(cells, num_rows)))


def _lists(cells: _Cells, value_type: pa.DataType, num_rows: int) -> pa.ListArray:
    values = _values(cells, value_type)
    if len(cells.rows) == num_rows:
        return pa.ListArray.from_arrays(pa.array(cells.offsets), values)
    offsets = np.zeros(num_rows + 1, np.int32)
    offsets[cells.rows + 1] = np.diff(cells.offsets)
    np.cumsum(offsets, out=offsets)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(_absent(cells, num_rows)))


def _values(cells: _Cells, value_type: pa.DataType) -> pa.Array:
    if cells.values.type == value_type:
        return cells.values
    if value_type == pa.binary():
        return pa.array([str(value).encode() for value in cells.values.to_pylist()], value_type)
    return cells.values.cast(value_type, safe=False)  # safe refuses integers that float64 rounds


def _absent(cells: _Cells, num_rows: int) -> np.ndarray:
    absent = np.ones(num_rows, bool)
    absent[cells.rows] = False
    return absent


def _record_batch(columns: Mapping[str, pa.Array], num_rows: int) -> pa.RecordBatch:
    if columns:
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return pa.RecordBatch.from_struct_array(pa.array([{}] * num_rows, pa.struct([])))


@functools.cache
def _example_class() -> Any:
    """The message class of tf.Example."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file_descriptor())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("penstock.io.Example"))


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """The wire format of tensorflow/core/example/{example,feature}.proto.

    `sequences` is the field that only a tf.SequenceExample has, which otherwise parses as a tf.Example. The map of
    features is the repeated field that it is on the wire: of a map, protobuf's implementation for Python leaves entries
    out that have an unknown field, which those for C++ and TensorFlow read.
    """
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="penstock/io/example.proto", package="penstock.io", syntax="proto3")
    for name, scalar in (("Bytes", proto.TYPE_BYTES), ("Float", proto.TYPE_FLOAT), ("Int64", proto.TYPE_INT64)):
        values = file.message_type.add(name=f"{name}List")
        values.field.add(name="value", number=1, type=scalar, label=proto.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("Bytes", "Float", "Int64"), start=1):
        field = _add_message(feature, f"{name.lower()}_list", number, f"{name}List")
        field.oneof_index = 0
    entry = file.message_type.add(name="FeatureEntry")
    entry.field.add(name="key", number=1, type=proto.TYPE_STRING, label=proto.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, "Feature")
    features = file.message_type.add(name="Features")
    _add_message(features, "feature", 1, "FeatureEntry").label = proto.LABEL_REPEATED
    example = file.message_type.add(name="Example")
    _add_message(example, "features", 1, "Features")
    example.field.add(name="sequences", number=2, type=proto.TYPE_BYTES, label=proto.LABEL_OPTIONAL)
    return file


def _add_message(owner: Any, name: str, number: int, type_name: str) -> Any:
    proto = descriptor_pb2.FieldDescriptorProto
    return owner.field.add(
        name=name,
        number=number,
        type=proto.TYPE_MESSAGE,
        label=proto.LABEL_OPTIONAL,
        type_name=f".penstock.io.{type_name}",
    )
