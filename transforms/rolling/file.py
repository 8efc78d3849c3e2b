"""Parses a file of rolling features: YAML to a spec, checked as far as possible without a schema."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

import yaml

from penstock.io.beam.durations import ZERO, parse_duration
from penstock.io.errors import ConfigError
from penstock.io.files.yaml_files import Key, Location, pairs, refuse, shown_text, top_entry, value_of
from penstock.io.reserved import RESERVED

_TOP_KEYS = ("key", "window", "features")
_FEATURE_KEYS = ("op", "column", "window")


@dataclasses.dataclass(frozen=True)
class RollingOperation:
    """Says what an operation takes.

    Attributes:
      takes: the kinds that its column may have, by name; none for an operation without a column.
      windowed: whether it looks back in time at all.
    """

    takes: tuple[str, ...] = ()
    windowed: bool = True


_NUMBERS = ("INT", "FLOAT")

OPERATIONS: Mapping[str, RollingOperation] = {
    "count": RollingOperation(),
    "sum": RollingOperation(_NUMBERS),
    "mean": RollingOperation(_NUMBERS),
    "min": RollingOperation(_NUMBERS),
    "max": RollingOperation(_NUMBERS),
    "distinct": RollingOperation(("INT", "FLOAT", "BYTES")),
    "time_since_last": RollingOperation(),
    "late": RollingOperation(windowed=False),
}


@dataclasses.dataclass(frozen=True)
class RollingFeature:
    """One feature of the file.

    Attributes:
      name: the name of the column that it becomes.
      op: a name in `OPERATIONS`.
      column: the column it is computed from; None for operations without one.
      window: how far it looks back; zero if it does not.
      where: file, line and feature, for messages.
    """

    name: str
    op: str
    column: str | None
    window: datetime.timedelta
    where: Location


@dataclasses.dataclass(frozen=True)
class RollingSpec:
    """The key and the features of a file.

    Attributes:
      key: the columns of the key; rows with equal values in all of them share one history.
      features: in the order of the file, which is also the order of the columns.
      where: the file, and the line of the key.
    """

    key: tuple[str, ...]
    features: tuple[RollingFeature, ...]
    where: Location


def parse_rolling(text: str, source: str = "rolling") -> RollingSpec:
    """Parses the spec of a YAML text.

    Raises:
      ConfigError: for anything that `penstock.transforms.rolling.transform` does not allow, with line and feature.
    """
    top, node = top_entry(text, source, "rolling", "a mapping of key and features")
    nodes = {key.text: (key, value) for key, value in pairs(node, top.where.inside("rolling"), _TOP_KEYS)}
    for name in ("key", "features"):
        if name not in nodes:
            raise ConfigError(f"{top.where}: rolling needs {name!r}")
    key = _key_columns(*nodes["key"])
    window = _window(*nodes["window"]) if "window" in nodes else None
    inner, features_node = nodes["features"]
    features = tuple(_feature(name, value, window) for name, value in pairs(features_node, inner.where))
    if not features:
        raise ConfigError(f"{inner.where}: features must name at least one feature, got none")
    return RollingSpec(key, features, nodes["key"][0].where)


def _key_columns(key: Key, node: yaml.Node) -> tuple[str, ...]:
    value = value_of(node)
    columns = value if isinstance(value, list) else [value]
    if not columns or not all(isinstance(column, str) and column for column in columns):
        raise ConfigError(f"{key.where}: key must be a column or a list of columns, got {shown_text(value)}")
    if len(set(columns)) < len(columns):
        raise ConfigError(f"{key.where}: key names a column twice, got {shown_text(value)}")
    return tuple(columns)


def _window(key: Key, node: yaml.Node) -> datetime.timedelta:
    value = value_of(node)
    try:
        window = parse_duration(value) if isinstance(value, str) else None
    except ConfigError as error:
        raise ConfigError(f"{key.where}: window: {error}") from error
    if not window:
        raise ConfigError(f"{key.where}: window must be a duration above 0, such as 10m or 1h, got {shown_text(value)}")
    return window


def _feature(key: Key, node: yaml.Node, window: datetime.timedelta | None) -> RollingFeature:
    where = dataclasses.replace(key.where, path=f"feature {key.text!r}")
    if key.text in RESERVED:
        raise ConfigError(f"{where}: the name is reserved by Penstock; choose another")
    nodes = {inner.text: (inner, value) for inner, value in pairs(node, where, _FEATURE_KEYS)}
    name = _operation(nodes, where)
    operation = OPERATIONS[name]
    if not operation.windowed and "window" in nodes:
        raise ConfigError(f"{where}: {name} does not look back; leave the window out")
    if "window" in nodes:
        window = _window(*nodes["window"])
    if operation.windowed and window is None:
        raise ConfigError(f"{where}: needs a window, such as 10m, of its own or beside 'key' for all features")
    window = window if operation.windowed and window else ZERO
    return RollingFeature(key.text, name, _column(nodes, name, where), window, where)


def _operation(nodes: Mapping[str, tuple[Key, yaml.Node]], where: Location) -> str:
    if "op" not in nodes:
        raise ConfigError(f"{where}: needs an op: {', '.join(OPERATIONS)}")
    key, node = nodes["op"]
    name = value_of(node)
    if not isinstance(name, str):
        raise ConfigError(f"{key.where}: op must be a name, got {shown_text(name)}")
    if name not in OPERATIONS:
        refuse(key.where, f"unknown operation {name!r}", name, OPERATIONS)
    return name


def _column(nodes: Mapping[str, tuple[Key, yaml.Node]], op: str, where: Location) -> str | None:
    column: Any = value_of(nodes["column"][1]) if "column" in nodes else None
    if not OPERATIONS[op].takes:
        if "column" in nodes:
            raise ConfigError(f"{where}: {op} takes no column; it is about rows")
        return None
    if not isinstance(column, str) or not column:
        raise ConfigError(f"{where}: {op} needs a column, got {shown_text(column)}")
    return column
