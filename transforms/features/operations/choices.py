"""Operations that choose: between values, or by a value from a list or a map."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.schema import Kind
from penstock.transforms.features.operations.fixed_map import FixedMap, load_map
from penstock.transforms.features.operations.operation import (
    ANY,
    INT,
    KEY,
    Operation,
    Parameter,
    kind_of_values,
)

_VALUES = {"values": Parameter("values", "the list", required=True)}
_NAMES = {Kind.INT: "whole numbers", Kind.FLOAT: "numbers", Kind.BYTES: "texts"}


def _check_values(kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> str | None:
    if kind_of_values(arguments["values"]) is not kinds[0]:
        return f"values must be {_NAMES[kinds[0]]}, as its input is {kinds[0].value}"
    return None


def _branches(kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> tuple[list[Kind], str | None]:
    """The kinds of what `where` chooses from, and what is wrong with it."""
    given = [arguments[name] for name in ("then", "else") if name in arguments]
    if len(kinds) - 1 + len(given) != 2:
        count = len(kinds) - 1 + len(given)
        return [], f"needs two values to choose from, further inputs or arguments (then, else), got {count}"
    constants = kind_of_values(given)
    found = {*kinds[1:], *([constants] if given and constants else [])}
    if len(kinds) > 1 and found == {Kind.INT, Kind.FLOAT} and kinds[1] is Kind.FLOAT and constants is Kind.INT:
        found = {Kind.FLOAT}
    if constants is None or len(found) != 1:
        return [], "both values must be of one kind: whole numbers, numbers or texts"
    return list(found), None


def _where_kind(kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> Kind:
    return _branches(kinds, arguments)[0][0]


def _parse_lookup(arguments: dict[str, Any]) -> dict[str, Any]:
    """Replaces what names the map by the map."""
    if ("map" in arguments) == ("file" in arguments):
        raise ValueError("give map (in this file) or file (CSV or JSON), one of both")
    left = {name: value for name, value in arguments.items() if name not in ("map", "file", "to")}
    if "file" in arguments:
        return left | {"table": load_map(arguments["file"], arguments.get("to"))}
    if "to" in arguments:
        raise ValueError("to is for a file of CSV, whose values have no types")
    items = list(arguments["map"].items())
    return left | {"table": FixedMap("map", tuple(key for key, _ in items), tuple(value for _, value in items))}


def _check_lookup(kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> str | None:
    table, default = arguments["table"], arguments.get("default")
    if fault := table.fault(kinds[0]):
        return fault
    if default is not None and kind_of_values([*table.values, default]) is not table.kind:
        return f"default must be one of the {_NAMES[table.kind]}, as the values of {table.source} are"
    return None


def _lookup_kind(_: Sequence[Kind], arguments: Mapping[str, Any]) -> Kind:
    return arguments["table"].kind


CHOICES = (
    Operation("is_missing", "1 where x is missing, else 0", ANY, Kind.INT, on_values=False, shape="flag"),
    Operation(
        "coalesce",
        "the first input that is not missing",
        ANY,
        on_values=False,
        min_inputs=2,
        max_inputs=16,
        shape="either",
    ),
    Operation(
        "where",
        "then where the first input is not 0, else the other: further inputs, in this order, or arguments",
        INT,
        on_values=False,
        parameters={
            "then": Parameter("value", "a value instead of the second input"),
            "else": Parameter("value", "a value instead of the last input"),
        },
        max_inputs=3,
        key=ANY,
        shape="either",
        check=lambda kinds, arguments: _branches(kinds, arguments)[1],
        kind=_where_kind,
    ),
    Operation(
        "is_in",
        "1 where x is in the list, else 0",
        KEY,
        Kind.INT,
        parameters=_VALUES,
        main="values",
        check=_check_values,
    ),
    Operation(
        "index_in",
        "the position of x in the list, 0 for its first; -1 where it is not in it",
        KEY,
        Kind.INT,
        parameters=_VALUES,
        main="values",
        check=_check_values,
    ),
    Operation(
        "lookup",
        "what a fixed map has for x; missing where it has nothing and there is no default",
        KEY,
        on_values=False,
        parameters={
            "map": Parameter("map", "keys and their values"),
            "file": Parameter("file", "a CSV file with the header key,value, or a JSON file of one object"),
            "to": Parameter(
                "choice", "what the values of CSV are: int, float, text (by default)", choices=("int", "float", "text")
            ),
            "default": Parameter("value", "what other values become"),
        },
        main="map",
        drops=True,
        parse=_parse_lookup,
        check=_check_lookup,
        kind=_lookup_kind,
    ),
)
