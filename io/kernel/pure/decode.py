"""Serialized tf.Examples to columns: protobuf parses them one by one.

This costs 20 microseconds for a record of 12 features, most of it for reaching each value from Python. The messages
are built from a descriptor of their own in a pool of their own, so that TensorFlow's copies of the same messages can
be in the process or not.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from penstock.io.kernel.shared.faults import NO_FEATURES, SEQUENCES, UNPARSED

# The lists that a Feature can hold, in the order of their fields, and the types of their values.
KINDS = {"bytes_list": pa.binary(), "float_list": pa.float32(), "int64_list": pa.int64()}

_NUMBERS = {name: number for number, name in enumerate(KINDS)}

# Rows, offsets of their values, values, content of bytes, whether each row has one value.
Taken: TypeAlias = tuple[Any, Any, Any, Any, bool]


@dataclasses.dataclass
class _Collected:
    """Values as the messages are gone through, flat: one list for each row costs more than the parsing."""

    rows: list[int] = dataclasses.field(default_factory=list)
    counts: list[int] = dataclasses.field(default_factory=list)
    values: list[Any] = dataclasses.field(default_factory=list)

    def add(self, row: int, values: Sequence[Any]) -> None:
        self.rows.append(row)
        self.counts.append(len(values))
        self.values += values

    def taken(self, value_type: pa.DataType) -> Taken:
        offsets = np.zeros(len(self.rows) + 1, np.int32)
        np.cumsum(self.counts, out=offsets[1:])
        _, values, *data = pa.array(self.values, value_type).buffers()
        one_each = all(count == 1 for count in self.counts)
        return np.array(self.rows, np.int32), offsets, values or b"", (data and data[0]) or b"", one_each


def read(
    data: bytes | memoryview, starts: np.ndarray, lengths: np.ndarray, names: Sequence[str] | None
) -> tuple[dict[str, dict[int, Taken]], dict[str, np.ndarray], dict[int, str]]:
    """The values of the records `data[starts[i]:][:lengths[i]]`.

    Args:
      data: the bytes.
      starts: int64[n].
      lengths: int64[n].
      names: the keys to read; None for all.

    Returns:
      Three things. By key and by kind (0 bytes, 1 float, 2 int) what at least one record holds, as buffers: the rows,
      int32; the ends of their values, int32 with a 0 in front; the values, of bytes their ends, int32 with a 0 in
      front; the content of bytes; whether each of the rows has one value. By key that is not among the names, the rows
      that hold it, int32. And by row why a record is no tf.Example.
    """
    collector = _Collector(names)
    faults: dict[int, str] = {}
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        fault = collector.add(row, bytes(data[start : start + length]))
        if fault:
            faults[row] = fault
    return *collector.found(), faults


class _Collector:
    """What the records so far hold."""

    def __init__(self, names: Sequence[str] | None):
        self._parse = _example_class().FromString
        self._wants_all = names is None
        self._collected: dict[str, dict[str, _Collected]] = {name: {} for name in names or ()}
        self._unknown: dict[str, list[int]] = {}

    def add(self, row: int, record: bytes) -> str:
        """Adds a record; why it is none, or nothing."""
        try:
            example = self._parse(record)
        except DecodeError as error:
            return UNPARSED.format(error)
        fault = _foreign(example, record)
        # Of a key that is there twice, the last counts.
        entries = {} if fault else {entry.key: entry.value for entry in example.features.feature}
        for name, feature in entries.items():
            kind = feature.WhichOneof("kind")
            if kind is None:
                continue
            if self._wants_all or name in self._collected:
                by_kind = self._collected.setdefault(name, {})
                by_kind.setdefault(kind, _Collected()).add(row, getattr(feature, kind).value[:])
            else:
                self._unknown.setdefault(name, []).append(row)
        return fault

    def found(self) -> tuple[dict[str, dict[int, Taken]], dict[str, np.ndarray]]:
        """As `read` has it."""
        by_name = {
            name: {_NUMBERS[kind]: found.taken(KINDS[kind]) for kind, found in by_kind.items()}
            for name, by_kind in self._collected.items()
            if by_kind
        }
        return by_name, {name: np.array(rows, np.int32) for name, rows in self._unknown.items()}


def _foreign(example: Any, record: bytes) -> str:
    """Why bytes that parse are no tf.Example all the same; empty for one that is.

    Protobuf takes fields that it does not know from any message, and many a short text parses.
    """
    if example.sequences:
        return SEQUENCES
    return NO_FEATURES if record and not example.HasField("features") else ""


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
