"""Decodes serialized tf.Examples to columns: protobuf parses them one by one.

This costs 20 microseconds for a record of 12 features, most of it for accessing each value from Python. The messages
have their own descriptor in a separate pool, so TensorFlow's copies of the same messages may be in the process or not.
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

# The lists that a Feature can hold, in the order of their fields, with the types of their values.
KINDS = {"bytes_list": pa.binary(), "float_list": pa.float32(), "int64_list": pa.int64()}

_NUMBERS = {name: number for number, name in enumerate(KINDS)}

# Rows, offsets of their values, values, content of bytes, whether every row has one value.
Taken: TypeAlias = tuple[Any, Any, Any, Any, bool]


@dataclasses.dataclass
class _Collected:
    """Collects values in flat lists: one list for each row costs more than the parsing."""

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
    """Reads the values of the records `data[starts[i]:][:lengths[i]]`.

    Args:
      data: the bytes.
      starts: int64[n].
      lengths: int64[n].
      names: the keys to read; None for all.

    Returns:
      Three things. First, by key and by kind (0 bytes, 1 float, 2 int), for kinds that a record holds, buffers: the
      rows, int32; the ends of their values, int32 with a 0 in front; the values, or for bytes their ends, int32 with a
      0 in front; the content of bytes; whether every row has one value. Second, by key that is not in `names`, the rows
      that hold it, int32. Third, by row, why the record is not a tf.Example.
    """
    collector = _Collector(names)
    faults: dict[int, str] = {}
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        fault = collector.add(row, bytes(data[start : start + length]))
        if fault:
            faults[row] = fault
    return *collector.found(), faults


class _Collector:
    """Collects the values of records."""

    def __init__(self, names: Sequence[str] | None):
        self._parse = _example_class().FromString
        self._wants_all = names is None
        self._collected: dict[str, dict[str, _Collected]] = {name: {} for name in names or ()}
        self._unknown: dict[str, list[int]] = {}

    def add(self, row: int, record: bytes) -> str:
        """Adds a record; returns why it is not a tf.Example, or an empty text."""
        try:
            example = self._parse(record)
        except DecodeError as error:
            return UNPARSED.format(error)
        fault = _foreign(example, record)
        # If a key appears twice, the last one counts.
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
        """Returns the first two results of `read`."""
        by_name = {
            name: {_NUMBERS[kind]: found.taken(KINDS[kind]) for kind, found in by_kind.items()}
            for name, by_kind in self._collected.items()
            if by_kind
        }
        return by_name, {name: np.array(rows, np.int32) for name, rows in self._unknown.items()}


def _foreign(example: Any, record: bytes) -> str:
    """Returns why bytes that parse are still not a tf.Example; empty if they are one.

    Protobuf accepts unknown fields in any message, so many short texts parse.
    """
    if example.sequences:
        return SEQUENCES
    return NO_FEATURES if record and not example.HasField("features") else ""


@functools.cache
def _example_class() -> Any:
    """Makes the message class of tf.Example."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file_descriptor())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("penstock.io.Example"))


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """Describes the wire format of tensorflow/core/example/{example,feature}.proto.

    `sequences` is a field that only a tf.SequenceExample has, which otherwise parses as a tf.Example. The map of
    features is described as a repeated field, its form on the wire: in a map, protobuf's Python implementation drops
    entries with an unknown field, which the C++ one and TensorFlow read.
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
