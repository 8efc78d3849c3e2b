"""What the contestants that go row by row have in common: a row is a dict of values, or None if it is bad."""

import csv
import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

Row = dict[str, int | float | bytes]

_CONVERTERS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "bytes": str.encode}


class RowParser:
    """Makes rows of the fields of a CSV line, and of the dicts of JSON and Parquet."""

    def __init__(self, columns: list[dict[str, Any]]) -> None:
        self._converters = [(column["name"], _CONVERTERS[column["kind"]]) for column in columns]
        self._minimums = [(column["name"], column["minimum"]) for column in columns if column["minimum"] is not None]

    def from_fields(self, fields: Iterable[str]) -> Row | None:
        """The row of a CSV line."""
        row: Row = {}
        try:
            for (name, convert), field in zip(self._converters, fields, strict=True):
                if not field:
                    return None
                row[name] = convert(field)
        except ValueError:
            return None
        return self._checked(row)

    def from_line(self, line: str) -> Row | None:
        """The same, of the line as it is."""
        return self.from_fields(next(csv.reader([line])))

    def from_json(self, line: str) -> Row | None:
        """The row of a JSON object."""
        return self.from_dict(json.loads(line))

    def from_dict(self, values: dict[str, Any]) -> Row | None:
        """The row of typed values, where a missing one is None."""
        row: Row = {}
        for name, convert in self._converters:
            value = values.get(name)
            if value is None:
                return None
            row[name] = convert(value)
        return self._checked(row)

    def _checked(self, row: Row) -> Row | None:
        for name, minimum in self._minimums:
            if row[name] < minimum:
                return None
        return row


def is_good(row: Row | None) -> bool:
    """Whether the row is to be kept."""
    return row is not None


class ExampleEncoder:
    """Makes serialized tf.train.Examples of rows."""

    def __init__(self, columns: list[dict[str, Any]]) -> None:
        self._kinds = [(column["name"], column["kind"]) for column in columns]

    @functools.cached_property
    def _features(self) -> list[tuple[str, Callable[[Any], tf.train.Feature]]]:
        return [(name, _FEATURES[kind]) for name, kind in self._kinds]

    def encode(self, row: dict) -> bytes:
        """The record."""
        feature = {name: make(row[name]) for name, make in self._features}
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _int(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _float(value: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


_FEATURES = {"int": _int, "float": _float, "bytes": _bytes}
