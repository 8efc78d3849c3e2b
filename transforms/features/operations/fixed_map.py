"""A fixed map of values, from the features file itself or from a file beside it."""

import csv
import dataclasses
import json
from typing import Any

from penstock.io.errors import ConfigError
from penstock.io.files.yaml_files import read_text, shown_text
from penstock.io.schema import Kind
from penstock.transforms.features.operations.operation import kind_of_values

_INT64 = (-(2**63), 2**63 - 1)
_HINT = "give a CSV file with the header key,value, or a JSON file of one object"


@dataclasses.dataclass(frozen=True)
class FixedMap:
    """Keys and their values; texts are bytes.

    Attributes:
      source: where it is from, for messages.
      keys: whole numbers or texts; from files, texts.
      values: all of one kind.
      lines: the line of each key, where it is from a file of lines.
    """

    source: str
    keys: tuple[Any, ...]
    values: tuple[Any, ...]
    lines: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
          ConfigError: when they are not of one kind.
        """
        if kind_of_values(self.values) is None:
            raise ConfigError(f"{self.source}: the values must be of one kind: whole numbers, numbers or texts")

    @property
    def kind(self) -> Kind:
        """The kind of the values."""
        return kind_of_values(self.values) or Kind.BYTES

    def fault(self, kind: Kind) -> str | None:
        """What is wrong with the keys for an input of a kind, if anything."""
        for index, key in enumerate(self.keys):
            if not (is_int_text(key) if self.lines or self._from_json else isinstance(key, int)) and kind is Kind.INT:
                return f"{self._at(index)}: the key must be a whole number, as its input is INT, got {_shown(key)}"
            if kind is Kind.BYTES and not isinstance(key, bytes):
                return (
                    f"{self._at(index)}: the key must be a text (in quotes), as its input is BYTES, got {_shown(key)}"
                )
        return None

    @property
    def _from_json(self) -> bool:
        return self.source != "map"

    def _at(self, index: int) -> str:
        return f"{self.source}, line {self.lines[index]}" if self.lines else self.source

    def keys_of(self, kind: Kind) -> list[Any]:
        """The keys, as values of the input's kind."""
        return [int(key) for key in self.keys] if kind is Kind.INT else list(self.keys)


def _shown(key: Any) -> str:
    return shown_text(key.decode() if isinstance(key, bytes) else key)


def is_int_text(key: bytes) -> bool:
    """Whether a text is a whole number within int64, spelled as INT is."""
    try:
        number = int(key)
    except ValueError:
        return False
    return str(number).encode() == key and _INT64[0] <= number <= _INT64[1]


def load_map(path: str, to: str | None) -> FixedMap:
    """Reads a map from a file of any filesystem that Beam knows: CSV, or JSON if its name ends in .json.

    Args:
      path: where it is.
      to: what the values of CSV are: int, float or text; None for text.

    Raises:
      ConfigError: when it cannot be read, or is not such a map; with file and line.
    """
    source = f"file {path}"
    text = read_text(path, source, _HINT)
    if path.endswith(".json"):
        if to is not None:
            raise ConfigError(f"{source}: to is for CSV, whose values have no types; those of JSON have")
        return _json_map(text, source)
    return _csv_map(text, source, to or "text")


def _csv_map(text: str, source: str, to: str) -> FixedMap:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    found: dict[str, tuple[Any, int]] = {}
    try:
        header = next(reader, None)
        if header != ["key", "value"]:
            raise ConfigError(f"{source}, line 1: the header must be key,value, got {shown_text(header)}")
        start = reader.line_num + 1
        for row in reader:
            where, start = f"{source}, line {start}", reader.line_num + 1
            if len(row) != 2:
                raise ConfigError(f"{where}: needs a key and a value, got {len(row)} fields")
            key, value = row
            if key in found:
                raise ConfigError(f"{where}: the key {shown_text(key)} is that of line {found[key][1]}")
            found[key] = (_csv_value(value, to, where), int(where.rpartition(" ")[2]))
    except csv.Error as error:
        raise ConfigError(f"{source}, line {reader.line_num}: is not CSV: {error}") from error
    return _filled(source, found)


def _csv_value(value: str, to: str, where: str) -> Any:
    if to == "text":
        return value.encode()
    if to == "int" and is_int_text(value.encode()):
        return int(value)
    try:
        if to == "float":
            return float(value)
    except ValueError:
        pass
    raise ConfigError(f"{where}: the value must be {'a whole number' if to == 'int' else 'a number'}, got {value!r}")


def _json_map(text: str, source: str) -> FixedMap:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ConfigError(f"{source}: the key {shown_text(key)} appears twice")
            seen.add(key)
        return dict(pairs)

    try:
        parsed = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}, line {error.lineno}: is not JSON: {error.msg}") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f"{source}: must be one object of keys and values, got {shown_text(parsed)}")
    for key, value in parsed.items():
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ConfigError(f"{source}: the value of {shown_text(key)} must be a number or a text, got {value!r}")
        if isinstance(value, int) and not _INT64[0] <= value <= _INT64[1]:
            raise ConfigError(f"{source}: the value of {shown_text(key)} is beyond int64: {shown_text(value)}")
    return _filled(source, {key: (v.encode() if isinstance(v, str) else v, 0) for key, v in parsed.items()})


def _filled(source: str, found: dict[str, tuple[Any, int]]) -> FixedMap:
    if not found:
        raise ConfigError(f"{source}: holds no keys")
    lines = tuple(line for _, line in found.values() if line)
    return FixedMap(source, tuple(key.encode() for key in found), tuple(value for value, _ in found.values()), lines)
