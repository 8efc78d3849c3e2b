"""Decodes serialized tf.Examples and tf.SequenceExamples to columns: protobuf parses them one by one.

This costs 20 microseconds for a record of 12 features, most of it for accessing each value from Python. The messages
have their own descriptor in a separate pool, so TensorFlow's copies of the same messages may be in the process or not.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import google_crc32c
import numpy as np
import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from penstock.io.kernel.shared.faults import (
    BAD_CRC,
    IN_BOTH,
    MIXED_STEPS,
    NO_FEATURES,
    NO_PARTS,
    SEQUENCES,
    TYPES,
    UNPARSED,
)
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, mask_crcs

# The lists that a Feature can hold, in the order of their fields, with the types of their values.
KINDS = {"bytes_list": pa.binary(), "float_list": pa.float32(), "int64_list": pa.int64()}

_NUMBERS = {name: number for number, name in enumerate(KINDS)}

# Rows, offsets of their values, values, content of bytes, whether every row has one value.
Taken: TypeAlias = tuple[Any, Any, Any, Any, bool]

# Rows, offsets of their steps, number of values of each step.
TakenSteps: TypeAlias = tuple[Any, Any, Any]


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
        one_each = all(count == 1 for count in self.counts)
        return np.array(self.rows, np.int32), offsets, *_buffers(self.values, value_type), one_each


def _buffers(values: list[Any], value_type: pa.DataType) -> tuple[Any, Any]:
    """Returns the buffers of an array of values, the second one of texts alone; `pa.array` would import pandas."""
    if not pa.types.is_binary(value_type):
        return np.array(values, np.int64 if pa.types.is_integer(value_type) else np.float32), b""
    starts = starts_of(np.fromiter(map(len, values), np.int64, len(values)))
    if starts[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowCapacityError(f"a column of a batch holds at most 2 GiB of texts, got {starts[-1]} bytes")
    return starts.astype(np.int32), b"".join(values)


@dataclasses.dataclass
class _Steps:
    """Collects the feature lists of one key: how many values each step has."""

    rows: list[int] = dataclasses.field(default_factory=list)
    counts: list[int] = dataclasses.field(default_factory=list)
    lengths: list[int] = dataclasses.field(default_factory=list)

    def add(self, row: int, lengths: Sequence[int]) -> None:
        self.rows.append(row)
        self.counts.append(len(lengths))
        self.lengths += lengths

    def taken(self) -> TakenSteps:
        offsets = np.zeros(len(self.rows) + 1, np.int32)
        np.cumsum(self.counts, out=offsets[1:])
        return np.array(self.rows, np.int32), offsets, np.array(self.lengths, np.int32)


def read(
    data: bytes | memoryview,
    starts: np.ndarray,
    lengths: np.ndarray,
    names: Sequence[str] | None,
    is_sequence: bool = False,
    has_crcs: bool = False,
    block: memoryview | None = None,
) -> tuple[dict[str, dict[int, Taken]], dict[str, np.ndarray], dict[int, str], dict[str, TakenSteps]]:
    """Reads the values of the records `data[starts[i]:][:lengths[i]]`.

    Args:
      data: the bytes.
      starts: int64[n].
      lengths: int64[n].
      names: the keys to read; None for all.
      is_sequence: whether the records are tf.SequenceExamples. The values of all steps of a feature list are then one
        after the other, as if the row had them in one Feature.
      has_crcs: whether the masked CRC of each record is behind it, and must match.
      block: `data`, if it may be overwritten; records must then ascend. The kernel leaves the content of bytes in it.

    Returns:
      Four things. First, by key and by kind (0 bytes, 1 float, 2 int), for kinds that a record holds, buffers: the
      rows, int32; the ends of their values, int32 with a 0 in front; the values, or for bytes their ends, int32 with a
      0 in front; the content of bytes; whether every row has one value. Second, by key that is not in `names`, the rows
      that hold it, int32. Third, by row, why the record is none of its type. Fourth, by key that is a feature list: the
      rows where it is, int32; the ends of their steps, int32 with a 0 in front; the number of values of each step,
      int32.
    """
    collector = _SequenceCollector(names) if is_sequence else _Collector(names)
    faults: dict[int, str] = {}
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        record = bytes(data[start : start + length])
        is_damaged = has_crcs and _masked_crc(record) != bytes(data[start + length :][:FOOTER_BYTES])
        fault = BAD_CRC if is_damaged else collector.add(row, record)
        if fault:
            faults[row] = fault
    values, unknown = collector.found()
    return values, unknown, faults, {name: found.taken() for name, found in collector.steps.items()}


def _masked_crc(record: bytes) -> bytes:
    return mask_crcs(np.array([google_crc32c.value(record)], np.uint32)).astype("<u4").tobytes()


class _Collector:
    """Collects the values of tf.Examples."""

    _is_sequence = False

    def __init__(self, names: Sequence[str] | None):
        self._parse = _message_class(self._is_sequence).FromString
        self.steps: dict[str, _Steps] = {}
        self._wants_all = names is None
        self._collected: dict[str, dict[str, _Collected]] = {name: {} for name in names or ()}
        self._unknown: dict[str, list[int]] = {}

    def add(self, row: int, record: bytes) -> str:
        """Adds a record; returns why it is none of its type, or an empty text."""
        try:
            message = self._parse(record)
        except DecodeError as error:
            return UNPARSED.format(error, what=TYPES[self._is_sequence])
        fault = self._fault(message, record)
        if not fault:
            self._add_message(row, message)
        return fault

    def _fault(self, message: Any, record: bytes) -> str:
        """Returns why bytes that parse are still not of the type; empty if they are.

        Protobuf accepts unknown fields in any message, so many short texts parse.
        """
        if message.sequences:
            return SEQUENCES
        return NO_FEATURES.format(what=TYPES[0]) if record and not message.HasField("features") else ""

    def _add_message(self, row: int, message: Any) -> None:
        for name, feature in _by_key(message.features.feature).items():
            self._add_feature(row, name, feature)

    def _wants(self, name: str) -> bool:
        return self._wants_all or name in self._collected

    def _add_feature(self, row: int, name: str, feature: Any) -> None:
        kind = feature.WhichOneof("kind")
        if kind is not None:
            self._add_values(row, name, kind, getattr(feature, kind).value[:])

    def _add_values(self, row: int, name: str, kind: str, values: Sequence[Any]) -> None:
        if self._wants(name):
            by_kind = self._collected.setdefault(name, {})
            by_kind.setdefault(kind, _Collected()).add(row, values)
        else:
            self._unknown.setdefault(name, []).append(row)

    def found(self) -> tuple[dict[str, dict[int, Taken]], dict[str, np.ndarray]]:
        """Returns the first two results of `read`."""
        by_name = {
            name: {_NUMBERS[kind]: found.taken(KINDS[kind]) for kind, found in by_kind.items()}
            for name, by_kind in self._collected.items()
            if by_kind
        }
        return by_name, {name: np.array(rows, np.int32) for name, rows in self._unknown.items()}


class _SequenceCollector(_Collector):
    """Collects the values of tf.SequenceExamples."""

    _is_sequence = True

    def _fault(self, message: Any, record: bytes) -> str:
        if record and not (message.HasField("context") or message.HasField("feature_lists")):
            return NO_PARTS.format(what=TYPES[1])
        context, lists = self._parts(message)
        both = [name for name in context if name in lists and self._wants(name)]
        if both:
            return IN_BOTH.format(key=both[0])
        mixed = [name for name, found in lists.items() if self._wants(name) and len(_kinds(found)) > 1]
        return MIXED_STEPS.format(key=mixed[0]) if mixed else ""

    def _parts(self, message: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return _by_key(message.context.feature), _by_key(message.feature_lists.feature_list)

    def _add_message(self, row: int, message: Any) -> None:
        context, lists = self._parts(message)
        for name, feature in context.items():
            if name not in lists:
                self._add_feature(row, name, feature)
        for name, found in lists.items():
            if self._wants(name):
                self._add_list(row, name, found)
            else:
                self._unknown.setdefault(name, []).append(row)

    def _add_list(self, row: int, name: str, found: Any) -> None:
        kinds = [step.WhichOneof("kind") for step in found.feature]
        steps = [getattr(step, kind).value[:] if kind else [] for step, kind in zip(found.feature, kinds, strict=True)]
        self.steps.setdefault(name, _Steps()).add(row, [*map(len, steps)])
        for kind in _kinds(found):
            self._add_values(row, name, kind, [value for step in steps for value in step])


def _by_key(entries: Any) -> dict[str, Any]:
    """Returns the values of a map; if a key appears twice, the last one counts."""
    return {entry.key: entry.value for entry in entries}


def _kinds(found: Any) -> set[str]:
    """Returns the kinds of the steps of a feature list, but for steps of none."""
    return {step.WhichOneof("kind") for step in found.feature} - {None}


@functools.cache
def _message_class(is_sequence: bool) -> Any:
    """Makes the message class of tf.Example or tf.SequenceExample."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file_descriptor())
    name = "SequenceExample" if is_sequence else "Example"
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"penstock.io.{name}"))


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """Describes the wire format of tensorflow/core/example/{example,feature}.proto.

    `sequences` is a field that only a tf.SequenceExample has, which otherwise parses as a tf.Example. Maps are
    described as repeated fields, their form on the wire: in a map, protobuf's Python implementation drops entries with
    an unknown field, which the C++ one and TensorFlow read.
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
    steps = file.message_type.add(name="FeatureList")
    _add_message(steps, "feature", 1, "Feature").label = proto.LABEL_REPEATED
    _add_map(file, "Features", "feature", "Feature")
    _add_map(file, "FeatureLists", "feature_list", "FeatureList")
    example = file.message_type.add(name="Example")
    _add_message(example, "features", 1, "Features")
    example.field.add(name="sequences", number=2, type=proto.TYPE_BYTES, label=proto.LABEL_OPTIONAL)
    sequence = file.message_type.add(name="SequenceExample")
    _add_message(sequence, "context", 1, "Features")
    _add_message(sequence, "feature_lists", 2, "FeatureLists")
    return file


def _add_map(file: descriptor_pb2.FileDescriptorProto, name: str, field: str, value: str) -> None:
    """Adds a message that holds a map from texts to messages."""
    proto = descriptor_pb2.FieldDescriptorProto
    entry = file.message_type.add(name=f"{value}Entry")
    entry.field.add(name="key", number=1, type=proto.TYPE_STRING, label=proto.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, value)
    _add_message(file.message_type.add(name=name), field, 1, f"{value}Entry").label = proto.LABEL_REPEATED


def _add_message(owner: Any, name: str, number: int, type_name: str) -> Any:
    proto = descriptor_pb2.FieldDescriptorProto
    return owner.field.add(
        name=name,
        number=number,
        type=proto.TYPE_MESSAGE,
        label=proto.LABEL_OPTIONAL,
        type_name=f".penstock.io.{type_name}",
    )
