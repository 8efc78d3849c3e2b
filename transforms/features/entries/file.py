"""Parses a features file: YAML to entries, checked as far as possible without a schema."""

import dataclasses
import datetime
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from penstock.io.errors import ConfigError
from penstock.io.files.yaml_files import Key, Location, pairs, refuse, shown_node, shown_text, top_entry, value_of
from penstock.io.reserved import RESERVED
from penstock.transforms.features.operations import OPERATIONS
from penstock.transforms.features.operations.operation import Operation, Parameter

_ENTRY_KEYS = ("input", "inputs", "default", "ops")
_VOCABULARY = "compute_and_apply_vocabulary"
_INT64 = (-(2**63), 2**63 - 1)
# What YAML 1.1 takes for a text where it has no point or its exponent no sign.
_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_OF_NUMBERS = ("int", "number", "numbers", "share")

_EXPECTED = {
    "int": "a whole number",
    "number": "a number",
    "text": "a text (in quotes)",
    "bool": "true or false",
    "numbers": "a list of ascending numbers",
    "texts": "a list of texts (in quotes)",
    "ngram range": "two whole numbers such as [1, 2], at least 1, ascending",
    "number type": "int or float",
    "same": "a number or a text",
    "value": "a number or a text",
    "values": "a list of numbers or texts (in quotes), each once",
    "pattern": "a regular expression (in quotes)",
    "time": "a time such as 2026-01-31 or 2026-01-31T17:05:09Z",
    "share": "a fraction between 0 and 1 of at most three digits, such as 0.01",
    "map": "a mapping of keys to values",
    "file": "the path of a file (in quotes)",
    "column": "the name of a column",
    "file format": "text or tfrecord_gzip",
}


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation with its arguments; texts to be compared with values are bytes."""

    name: str
    arguments: Mapping[str, Any]
    where: Location

    @property
    def operation(self) -> Operation:
        """The operation of this name; looked up each time, so that a step can be pickled."""
        return OPERATIONS[self.name]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of the file, which makes one output feature.

    Attributes:
      name: the output feature.
      inputs: the input columns.
      defaults: one for each input, None for no default; texts as bytes.
      steps: the operations, in order.
      where: file, line and entry, for messages.
    """

    name: str
    inputs: tuple[str, ...]
    defaults: tuple[Any, ...]
    steps: tuple[Step, ...]
    where: Location

    @property
    def columns(self) -> tuple[str, ...]:
        """The inputs, and the columns that arguments of operations name."""
        return self.inputs + tuple(
            step.arguments[name]
            for step in self.steps
            for name, rule in step.operation.parameters.items()
            if rule.type == "column" and name in step.arguments
        )


def parse_entries(text: str, source: str) -> tuple[Entry, ...]:
    """Parses the entries of a features file.

    Args:
      text: YAML.
      source: the name of the file in messages.

    Raises:
      ConfigError: for anything that `penstock.transforms.features.functions` does not allow, with line and entry.
    """
    key, features = top_entry(text, source, "features", "a mapping of output features")
    entries = tuple(_entry(key, node) for key, node in pairs(features, key.where.inside("features")))
    if not entries:
        raise ConfigError(f"{key.where}: features must name at least one output feature, got none")
    return entries


def _entry(key: Key, node: yaml.Node) -> Entry:
    where = dataclasses.replace(key.where, path=f"feature {key.text!r}")
    check_name(key.text, where)
    empty = isinstance(node, yaml.ScalarNode) and value_of(node) is None
    nodes = {} if empty else {inner.text: value for inner, value in pairs(node, where, _ENTRY_KEYS)}
    inputs = _inputs(key.text, nodes, where)
    steps = tuple(_steps(nodes["ops"], where)) if "ops" in nodes else ()
    if sum(step.name == _VOCABULARY for step in steps) > 1:
        raise ConfigError(f"{where}: {_VOCABULARY} may occur once in an entry")
    return Entry(key.text, inputs, _defaults(nodes, inputs, where), steps, where)


def check_name(name: str, where: Location) -> None:
    """Refuses the name of a feature that no column may have.

    Raises:
      ConfigError: says why.
    """
    if not name:
        raise ConfigError(f"{where}: the name is empty")
    if name in RESERVED:
        raise ConfigError(f"{where}: the name is reserved by Penstock; choose another")


def _inputs(name: str, nodes: Mapping[str, yaml.Node], where: Location) -> tuple[str, ...]:
    if "input" in nodes and "inputs" in nodes:
        raise ConfigError(f"{where}: give input (one column) or inputs (several), not both")
    if "inputs" not in nodes:
        names = [value_of(nodes["input"]) if "input" in nodes else name]
    else:
        names = value_of(nodes["inputs"])
        if not isinstance(names, list) or len(names) < 2:
            raise ConfigError(
                f"{where}: inputs must be a list of at least two columns, got {shown_text(names)}; for one, use input"
            )
    for column in names:
        if not isinstance(column, str) or not column:
            raise ConfigError(f"{where}: a column must be a name, got {shown_text(column)}; put it in quotes")
    return tuple(names)


def _defaults(nodes: Mapping[str, yaml.Node], inputs: tuple[str, ...], where: Location) -> tuple[Any, ...]:
    default = value_of(nodes["default"]) if "default" in nodes else None
    defaults = default if isinstance(default, list) else [default] * len(inputs)
    if len(defaults) != len(inputs):
        raise ConfigError(
            f"{where}: default must be one value, or a list of one for each of {len(inputs)} inputs, got "
            f"{shown_text(default)}"
        )
    return tuple(_as_bytes(value) for value in defaults)


def _steps(node: yaml.Node, where: Location) -> Iterator[Step]:
    if not isinstance(node, yaml.SequenceNode):
        raise ConfigError(f"{where}: ops must be a list of operations, got {shown_node(node)}")
    for item in node.value:
        if isinstance(item, yaml.MappingNode):
            found = list(pairs(item, where))
            if len(found) != 1:
                raise ConfigError(
                    f"{where.at(item)}: an operation is one name with its arguments, got {len(found)} names"
                )
            ((key, arguments),) = found
            yield _step(key.text, arguments, key.where)
        else:
            yield _step(value_of(item), None, where.at(item))


def _step(name: Any, node: yaml.Node | None, where: Location) -> Step:
    if not isinstance(name, str):
        raise ConfigError(f"{where}: an operation must be a name, or a name with arguments, got {shown_text(name)}")
    if name not in OPERATIONS:
        refuse(where, f"unknown operation {name!r}", name, OPERATIONS)
    where = where.inside(name)
    operation = OPERATIONS[name]
    arguments = _arguments(operation, node, where)
    check_required(operation, arguments, where)
    return Step(name, complete(operation, arguments, where), where)


def check_required(operation: Operation, arguments: Mapping[str, Any], where: Location) -> None:
    """Refuses an operation without an argument that it needs.

    Raises:
      ConfigError: names it.
    """
    for parameter, rule in operation.parameters.items():
        if rule.required and parameter not in arguments:
            raise ConfigError(f"{where}: needs the argument {parameter}, {_expected(rule)}")


def complete(operation: Operation, arguments: dict[str, Any], where: Location) -> dict[str, Any]:
    """Returns the arguments of an operation as it takes them.

    Raises:
      ConfigError: when they do not fit together.
    """
    try:
        return operation.parse(arguments) if operation.parse else arguments
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _expected(rule: Parameter) -> str:
    return f"one of {', '.join(rule.choices)}" if rule.type == "choice" else _EXPECTED[rule.type]


def _arguments(operation: Operation, node: yaml.Node | None, where: Location) -> dict[str, Any]:
    if node is None or (isinstance(node, yaml.ScalarNode) and value_of(node) is None):
        return {}
    if not isinstance(node, yaml.MappingNode):
        if operation.main is None:
            takes = ", ".join(operation.parameters)
            rule = f"name its arguments ({takes})" if takes else "takes no argument"
            raise ConfigError(f"{where}: {rule}, got {shown_text(value_of(node))}")
        return {operation.main: _checked(value_of(node), operation.main, operation.parameters[operation.main], where)}
    if not operation.parameters:
        raise ConfigError(f"{where}: takes no argument, got a mapping")
    return {
        key.text: _checked(value_of(value), key.text, operation.parameters[key.text], key.where)
        for key, value in pairs(node, where, operation.parameters)
    }


def _checked(value: Any, name: str, parameter: Parameter, where: Location) -> Any:
    check_argument(value, name, parameter, where)
    return _held(value, parameter)


def check_argument(value: Any, name: str, parameter: Parameter, where: Location) -> None:
    """Refuses a value, as a features file has it, that is none for an argument.

    Raises:
      ConfigError: names both, and says what is expected.
    """
    if parameter.type == "choice" and isinstance(value, str) and value not in parameter.choices:
        refuse(where, f"{name} is unknown: {value!r}", value, parameter.choices)
    if not _fits(value, parameter):
        hint = number_hint(value) if parameter.type in _OF_NUMBERS else ""
        raise ConfigError(f"{where}: {name} must be {_expected(parameter)}, got {shown_text(value)}{hint}")
    if parameter.minimum is not None and value < parameter.minimum:
        raise ConfigError(f"{where}: {name} must be at least {parameter.minimum}, got {shown_text(value)}")
    if parameter.maximum is not None and value > parameter.maximum:
        raise ConfigError(f"{where}: {name} must be at most {parameter.maximum}, got {shown_text(value)}")
    if parameter.nonzero and value == 0:
        raise ConfigError(f"{where}: {name} must not be 0")
    if parameter.type == "pattern":
        _check_pattern(value, where)


def number_hint(value: Any) -> str:
    """Says how to write a number that YAML 1.1 takes for a text, or one of a list; nothing for any other value.

    >>> number_hint("1e-3"), number_hint([0, "2e40"]), number_hint("ten")
    ('; YAML takes 1e-3 for a text, write 0.001', '; YAML takes 2e40 for a text, write 2.0e+40', '')
    """
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and _EXPONENT.fullmatch(item) and math.isfinite(float(item)):
            number = repr(float(item))
            written = number if "." in number else number.replace("e", ".0e")
            return f"; YAML takes {item} for a text, write {written}"
    return ""


def _held(value: Any, parameter: Parameter) -> Any:
    """An argument as operations take it: what is compared with values, or becomes one, is bytes."""
    match parameter.type:
        case "same" | "value":
            return _as_bytes(value)
        case "values":
            return [_as_bytes(item) for item in value]
        case "map":
            return {_as_bytes(key): _as_bytes(item) for key, item in value.items()}
        case "time":
            return _microseconds(value)
    return value


def _check_pattern(pattern: str, where: Location) -> None:
    try:
        pc.match_substring_regex(pa.array([""]), pattern)  # RE2, as in TensorFlow
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{where}: pattern {pattern!r} is not a regular expression: {error}") from error


def _fits(value: Any, parameter: Parameter) -> bool:
    match parameter.type:
        case "int":
            return is_int(value)
        case "number":
            return _is_ordered(value)
        case "text" | "pattern":
            return isinstance(value, str)
        case "file":
            return isinstance(value, str) and value != ""
        case "bool":
            return isinstance(value, bool)
        case "numbers":
            return isinstance(value, list) and all(map(_is_ordered, value)) and value == sorted(set(value)) != []
        case "texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "ngram range":
            return isinstance(value, list) and len(value) == 2 and all(map(is_int, value)) and 1 <= value[0] <= value[1]
        case "number type":
            return value in ("int", "float")
        case "column":
            return isinstance(value, str) and value != ""
        case "file format":
            return value in ("text", "tfrecord_gzip")
        case "same" | "value":
            return _is_value(value)
        case "values":
            return isinstance(value, list) and all(map(_is_key, value)) and len(set(value)) == len(value) > 0
        case "choice":
            return value in parameter.choices
        case "time":
            return _microseconds(value) is not None
        case "share":
            return (
                is_number(value)
                and 0 < value < 1
                and math.isclose(value * 1000, round(value * 1000))
                and value >= 0.001
            )
        case "map":
            return (
                isinstance(value, dict)
                and value != {}
                and all(map(_is_key, value))
                and all(map(_is_value, value.values()))
            )


def _is_value(value: Any) -> bool:
    return is_number(value) or isinstance(value, str)


def _is_key(value: Any) -> bool:
    return is_int(value) or isinstance(value, str)


def _microseconds(value: Any) -> int | None:
    """Microseconds from 1970 to a time in UTC: a text in ISO 8601, or what YAML makes of one; None if it is none."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime.date):
        return None
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    return (aware - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)


def is_int(value: Any) -> bool:
    """Whether the value is an integer that an INT feature can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and _INT64[0] <= value <= _INT64[1]


def is_number(value: Any) -> bool:
    """Whether the value is a number that a FLOAT feature can hold."""
    return is_int(value) or isinstance(value, float)


def _is_ordered(value: Any) -> bool:
    """Whether the value is a number that others are below or above: any but NaN."""
    return is_number(value) and value == value


def _as_bytes(value: Any) -> Any:
    """Converts texts to bytes, as features hold them."""
    return value.encode() if isinstance(value, str) else value
