"""tf.Example records to Arrow columns, without TensorFlow.

The messages are built from a descriptor of their own in a pool of their own, so that TensorFlow's copies of the same
messages can be in the process or not.

Parsing goes record by record: about 40,000 records a second on one core where 20 features are read, 120,000 where 5
are, which is the cost of reaching each value of a Python protobuf.
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from penstock.io.dead_letters import Reason
from penstock.io.schema import Feature, Kind

_KINDS = {"bytes_list": Kind.BYTES, "float_list": Kind.FLOAT, "int64_list": Kind.INT}
_TYPES = {Kind.BYTES: pa.binary(), Kind.FLOAT: pa.float32(), Kind.INT: pa.int64()}


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Records as columns.

    Attributes:
      batch: one row for each record, in order, feature columns only; a row named in `rejects` is null where it could
        not be read.
      rejects: row index to reasons, `tfrecord.parse` or `tfrecord.type`.
    """

    batch: pa.RecordBatch
    rejects: Mapping[int, Sequence[Reason]]


def decode_examples(
    records: Sequence[bytes], features: Sequence[Feature] | None = None, strict: bool = False
) -> Decoded:
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
      records: bytes of one tf.Example each.
      features: what to read; None for everything.
      strict: reject integers in a FLOAT feature too, and a key that is none of the features (`schema.unknown`).
    """
    if features is None:
        cells, rejects = _read_cells(records, None)
        columns = {name: _inferred_column(cells[name], len(records)) for name in sorted(cells)}
    else:
        names = [feature.name for feature in features]
        cells, rejects = _read_cells(records, None if strict else names)
        if strict:
            _reject_unknown(cells, names, rejects)
        for feature in features:
            _reject_kinds(cells[feature.name], feature, strict, rejects)
        columns = {feature.name: _column(cells[feature.name], feature, len(records)) for feature in features}
    return Decoded(_record_batch(columns, len(records)), rejects)


@dataclasses.dataclass
class _Cells:
    """What the records hold of one kind under one key: the rows that have it, in order, and the values of each."""

    rows: list[int] = dataclasses.field(default_factory=list)
    counts: list[int] = dataclasses.field(default_factory=list)
    values: list[Any] = dataclasses.field(default_factory=list)


# Cells by key and by the name of the list in a Feature. Kept flat and apart by kind: keeping the messages, or one list
# for each cell, costs the garbage collector more than the parsing.
_ByKind = collections.defaultdict[str, _Cells]


def _read_cells(
    records: Sequence[bytes], wanted: Sequence[str] | None
) -> tuple[collections.defaultdict[str, _ByKind], dict[int, list[Reason]]]:
    parse = _example_class().FromString
    cells: collections.defaultdict[str, _ByKind] = collections.defaultdict(lambda: collections.defaultdict(_Cells))
    rejects: dict[int, list[Reason]] = {}
    for row, record in enumerate(records):
        try:
            example = parse(record)
        except DecodeError as error:
            rejects[row] = [Reason("tfrecord.parse", f"the record is not a tf.Example: {error}")]
            continue
        if fault := _foreign(example, record):
            rejects[row] = [Reason("tfrecord.parse", fault)]
            continue
        found = example.features.feature
        for name in found if wanted is None else [name for name in wanted if name in found]:
            feature = found[name]
            kind = feature.WhichOneof("kind")
            if kind is not None:
                values = getattr(feature, kind).value[:]
                cell = cells[name][kind]
                cell.rows.append(row)
                cell.counts.append(len(values))
                cell.values += values
    return cells, rejects


def _foreign(example: Any, record: bytes) -> str:
    """Why bytes that parse are no tf.Example all the same; empty for one that is.

    Protobuf takes fields that it does not know from any message, and many a short text parses.
    """
    if example.sequences:
        return "the record is a tf.SequenceExample; only tf.Example is read"
    if record and not example.HasField("features"):
        return "the record is not a tf.Example: it holds no features, but other fields"
    return ""


def _reject_unknown(cells: Mapping[str, _ByKind], names: Sequence[str], rejects: dict[int, list[Reason]]) -> None:
    for name in sorted(cells.keys() - set(names)):
        for row in sorted(row for cell in cells[name].values() for row in cell.rows):
            rejects.setdefault(row, []).append(Reason("schema.unknown", f"the schema has no feature {name!r}"))


def _reject_kinds(cells: _ByKind, feature: Feature, strict: bool, rejects: dict[int, list[Reason]]) -> None:
    """Takes the cells out of `cells` that are no values of the feature."""
    accepted = {Kind.FLOAT, Kind.INT} if feature.kind is Kind.FLOAT and not strict else {feature.kind}
    for kind in [kind for kind in cells if _KINDS[kind] not in accepted]:
        detail = f"column {feature.name!r}: the record holds {_KINDS[kind].value} values, not {feature.kind.value}"
        for row in cells.pop(kind).rows:
            rejects.setdefault(row, []).append(Reason("tfrecord.type", detail))


def _column(cells: _ByKind, feature: Feature, num_rows: int) -> pa.Array:
    is_widened = feature.kind is Kind.FLOAT and "int64_list" in cells
    value_type = pa.float64() if is_widened else _TYPES[feature.kind]
    one_each = all(count == 1 for cell in cells.values() for count in cell.counts)
    build = _scalars if feature.multivalued is False and one_each else _lists
    columns = [build(cell, value_type, num_rows) for cell in cells.values()]
    return _merge(columns or [build(_Cells(), value_type, num_rows)])


def _inferred_column(cells: _ByKind, num_rows: int) -> pa.Array:
    kinds = {_KINDS[kind] for kind in cells}
    if Kind.BYTES in kinds and len(kinds) > 1:
        value_type = pa.binary()
        for kind in cells:
            if kind != "bytes_list":
                cells[kind].values = [str(value).encode() for value in cells[kind].values]
    else:
        value_type = _TYPES[kinds.pop()] if len(kinds) == 1 else pa.float64()
    return _merge([_lists(cell, value_type, num_rows) for cell in cells.values()])


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
    offsets = np.zeros(num_rows + 1, np.int32)
    offsets[np.array(cells.rows, np.int64) + 1] = cells.counts
    np.cumsum(offsets, out=offsets)
    mask = pa.array(_absent(cells, num_rows))
    return pa.ListArray.from_arrays(pa.array(offsets), _values(cells, value_type), mask=mask)


def _values(cells: _Cells, value_type: pa.DataType) -> pa.Array:
    if value_type == pa.float64():  # pa.array refuses integers that float64 rounds
        return pa.array(np.array(cells.values, np.float64))
    return pa.array(cells.values, value_type)


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

    `sequences` is the field that only a tf.SequenceExample has, which otherwise parses as a tf.Example.
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
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=proto.TYPE_STRING, label=proto.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, "Feature")
    _add_message(features, "feature", 1, "Features.FeatureEntry").label = proto.LABEL_REPEATED
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
