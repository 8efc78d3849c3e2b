"""Statistics as JSON, for people, jq and scripts: the values of TFDV's proto by the names of datasets and features."""

import itertools
import json
import math
from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format
from tensorflow_metadata.proto.v0 import statistics_pb2

_VERSION = 1
# Names of the oneof that holds what is particular to a type.
_STATS = ("num_stats", "string_stats", "bytes_stats", "struct_stats")
# The state is bytes, which nobody reads.
_LEFT_OUT = "state"

# Stands in no text of JSON as it is.
_SEPARATOR = "\0"
_encode = json.JSONEncoder(ensure_ascii=False).encode
_encode_apart = json.JSONEncoder(ensure_ascii=False, separators=(_SEPARATOR, ": ")).encode


def to_json(proto: statistics_pb2.DatasetFeatureStatisticsList) -> str:
    """Returns a list as JSON text; equal lists give equal texts.

    ``{"version": 1, "datasets": {NAME: {"num_examples": n, "features": {NAME: {"type": "INT", "mean": ...}}}}}``.
    Fields have the names of the proto, custom statistics theirs. A bucket of a histogram is ``[low, high, count]``,
    one of a rank histogram ``[label, count]``, a top value ``[value, count]``. NaN and infinities are the texts "NaN",
    "Infinity" and "-Infinity". What is not known of a column is not there.
    """
    datasets = {dataset.name: _dataset(dataset) for dataset in proto.datasets}
    return _text({"version": _VERSION, "datasets": datasets}, "\n") + "\n"


def _text(value: Any, line: str) -> str:
    """Writes a value, each member of an object and each item of a list of lists on a line of its own."""
    inner = f"{line} "
    if isinstance(value, dict) and value:
        members = (f"{_encode(key)}: {_text(item, inner)}" for key, item in value.items())
        return f"{{{inner}{f',{inner}'.join(members)}{line}}}"
    if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
        return f"[{inner}{f',{inner}'.join(_items(value, inner))}{line}]"
    return _encode(value)


def _items(values: list[Any], line: str) -> Iterable[str]:
    """Writes each item; buckets, which are many, with one call for all of their numbers and labels."""
    size = len(values[0])
    if all(isinstance(item, list) and len(item) == size for item in values):
        parts = _encode_apart(list(itertools.chain.from_iterable(values)))[1:-1].split(_SEPARATOR)
        if len(parts) == size * len(values):  # else a part is a list itself
            return (f"[{', '.join(item)}]" for item in zip(*[iter(parts)] * size, strict=True))
    return (_text(item, line) for item in values)


def _dataset(dataset: statistics_pb2.DatasetFeatureStatistics) -> dict[str, Any]:
    found: dict[str, Any] = {"num_examples": dataset.num_examples}
    if dataset.weighted_num_examples:
        found["weighted_num_examples"] = _number(dataset.weighted_num_examples)
    found["features"] = {".".join(feature.path.step) or feature.name: _feature(feature) for feature in dataset.features}
    if dataset.cross_features:
        found["cross_features"] = [_cross(cross) for cross in dataset.cross_features]
    return found


def _feature(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, Any]:
    found: dict[str, Any] = {"type": statistics_pb2.FeatureNameStatistics.Type.Name(feature.type)}
    for name in _STATS:
        if feature.HasField(name):
            stats = _plain(getattr(feature, name))
            found |= stats.pop("common_stats", {})
            found |= stats
    for custom in feature.custom_stats:
        if custom.name != _LEFT_OUT:
            found[custom.name] = _custom(custom)
    return found


def _custom(custom: statistics_pb2.CustomStatistic) -> Any:
    match custom.WhichOneof("val"):
        case "num":
            return _number(custom.num)
        case "str":
            return custom.str
        case "any":
            return custom.any.type_url
        case None:
            return None
        case field:
            return _plain(getattr(custom, field))


def _cross(cross: statistics_pb2.CrossFeatureStatistics) -> dict[str, Any]:
    paths = {name: ".".join(getattr(cross, name).step) for name in ("path_x", "path_y")}
    return {**paths, "count": cross.count, **_plain(cross.num_cross_stats)}


def _plain(message: Any) -> Any:
    """Returns a message as JSON has it: its numbers and texts, and those messages that it has."""
    match message:
        case statistics_pb2.Histogram.Bucket():
            return [_number(value) for value in (message.low_value, message.high_value, message.sample_count)]
        case statistics_pb2.RankHistogram.Bucket():
            return [message.label, _number(message.sample_count)]
        case statistics_pb2.StringStatistics.FreqAndValue():
            return [message.value, _number(message.frequency)]
        case statistics_pb2.Histogram():
            kind = statistics_pb2.Histogram.HistogramType.Name(message.type)
            return {"type": kind, "num_nan": message.num_nan, "buckets": [_plain(item) for item in message.buckets]}
        case statistics_pb2.RankHistogram():
            return [_plain(item) for item in message.buckets]
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is None and not field.is_repeated:
            found[field.name] = field.enum_type.values_by_number[value].name if field.enum_type else _number(value)
        elif field.is_repeated and len(value):
            found[field.name] = [_plain(item) for item in value]
        elif field.message_type is not None and not field.is_repeated and message.HasField(field.name):
            found[field.name] = _plain(value)
    return found


def _number(value: Any) -> Any:
    """Returns a value as JSON can hold it: whole numbers without a point."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return json_format.MessageToDict(statistics_pb2.CustomStatistic(num=value))["num"]
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value
