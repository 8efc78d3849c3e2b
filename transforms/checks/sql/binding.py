"""Binds a predicate to the types of its columns, without computing it for any row.

The engine binds the predicate to a table without rows: that resolves names, types and overloads, prepares patterns and
templates, and folds constants. A rule is not tried on made-up rows, which may fail where no row of the data would.

The resulting plan shows two things that no message does. First, a cast of a constant that is left after folding, as in
`dist > 'abc'`, is one that fails. Second, the plan names the overload that each function is bound to. It decides about
functions of a newer DuckDB, which `penstock.transforms.checks.sql.functions` does not know: a rule may use one whose
overload the engine calls consistent. A macro is judged by the functions in its definition.
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from penstock.io.schema import Feature, Kind
from penstock.transforms.checks.sql.functions import Nature, nature_of
from penstock.transforms.checks.sql.rewrites import runnable
from penstock.transforms.checks.sql.trees import (
    ALLOWED,
    NO_LOCATION,
    PredicateError,
    arguments_of,
    characters,
    connection,
    location,
    nodes,
    parse_expression,
    without_semicolon,
)

_TYPES = {Kind.INT: "BIGINT", Kind.FLOAT: "DOUBLE", Kind.BYTES: "VARCHAR"}

_CARET_LINE = re.compile(r"LINE (\d+): (.*)\n( *)\^")

# The expression has lines of its own, since it may end in a comment.
_TABLE = "columns_of_rule"
_HEAD, _TAIL = "SELECT (\n", f"\n) FROM {_TABLE}"

# How the engine writes a NaN in a plan, which is not JSON.
_NOT_JSON = re.compile(r'(?<!\\)":-?nan\b', re.IGNORECASE)


# Parts of a catalogue type that stand for any type.
_ANY_TYPE = re.compile(r"\b(?:ANY|[A-Z])\b")


@dataclasses.dataclass(frozen=True)
class Overload:
    """One overload of a function in the engine's catalogue."""

    kind: str
    parameters: tuple[str, ...]
    types: tuple[str, ...]
    varargs: str | None
    stability: str
    definition: str

    def takes(self, types: Sequence[str]) -> bool:
        """Whether the bound arguments fit; a parameter may stand for any type."""
        expected = list(self.types)
        if self.varargs:
            expected += [self.varargs] * (len(types) - len(expected))
        return len(expected) == len(types) and all(map(_fits, expected, types))


def _fits(expected: str, given: str) -> bool:
    pattern = _ANY_TYPE.sub(".*", re.escape(re.sub(r"\(.*\)", "", expected)))
    return re.fullmatch(pattern, given) is not None


def _overloads(name: str) -> list[Overload]:
    rows = connection().execute(
        "SELECT function_type, parameters, parameter_types, varargs, stability, macro_definition "
        "FROM duckdb_functions() WHERE lower(function_name) = ?",
        [name],
    )
    return [
        Overload(kind, tuple(names), tuple(map(str, types)), varargs, stability or "", definition or "")
        for kind, names, types, varargs, stability, definition in rows.fetchall()
    ]


def bind_predicate(sql: str, columns: Sequence[Feature]) -> None:
    """Checks the types and functions of a predicate that `parse_predicate` has accepted.

    Raises:
      PredicateError: when it cannot be bound to these columns, is not BOOLEAN, or contains a constant that cannot be
        cast or a function that is not known to be steady.
    """
    runs = runnable(sql)
    with _table(columns):
        try:
            kind = _described(runs)
            if kind != "BOOLEAN":
                raise PredicateError(f"is {kind}, not a predicate; compare it with something", 0)
            _check_unknown(sql, runs)
            # The engine reads patterns and templates when a query begins.
            connection().execute(f"{_HEAD}{runs}{_TAIL}").fetchall()
        except duckdb.Error as error:
            raise _located(sql, runs, error) from error
        _check_constants(sql, runs)


@contextlib.contextmanager
def _table(columns: Sequence[Feature]) -> Iterator[None]:
    """Creates a table without rows."""
    declared = ", ".join(f"{_quoted(column.name)} {_column_type(column)}" for column in columns)
    connection().execute(f"CREATE OR REPLACE TEMP TABLE {_TABLE} ({declared})").fetchall()
    try:
        yield
    finally:
        connection().execute(f"DROP TABLE {_TABLE}").fetchall()


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _column_type(feature: Feature) -> str:
    return _TYPES[feature.kind] + ("[]" if feature.multivalued else "")


def _described(runs: str) -> str:
    return connection().execute(f"DESCRIBE {_HEAD}{runs}{_TAIL}").fetchall()[0][1]


def message_of(error: duckdb.Error) -> str:
    """Returns the engine's message without its picture of the query."""
    return str(error).partition("\n\nLINE ")[0].strip()


def _located(sql: str, runs: str, error: duckdb.Error) -> PredicateError:
    """Makes an error of the engine's, with its position in `sql`, which can differ from the text that runs."""
    written = without_semicolon(sql)
    if runs != written:
        try:
            _described(written)
        except duckdb.Error as plainer:
            error = plainer
        else:
            return PredicateError(message_of(error))
    return PredicateError(message_of(error), _error_offset(sql, error))


def _error_offset(sql: str, error: duckdb.Error) -> int | None:
    """Returns the offset in `sql`, in characters, that the engine's picture of `SELECT (\\n<sql>\\n)` points to."""
    found = _CARET_LINE.search(str(error))
    if not found:
        return None
    number, text = int(found[1]) - 2, found[2]
    lines = sql.split("\n")
    if not 0 <= number < len(lines):
        return None
    column = len(found[3]) - len(f"LINE {found[1]}: ")
    # The engine shortens a long line to "...part...", and ignores what follows a semicolon.
    part = text.removeprefix("...").removesuffix("...")
    start = lines[number].find(part)
    if start < 0 or not part:
        return None
    column += start - (len("...") if text.startswith("...") else 0)
    return sum(len(line) + 1 for line in lines[:number]) + column


def _plan(runs: str, optimize: bool) -> dict[str, Any]:
    """Returns the plan of a query as the engine serializes it."""
    query = f"SELECT json_serialize_plan(?, optimize := {optimize})"
    row = connection().execute(query, [f"{_HEAD}{runs}{_TAIL}"]).fetchall()[0]
    return json.loads(_NOT_JSON.sub('":"nan"', row[0]))


def _bound(plan: Any) -> Iterator[Mapping[str, Any]]:
    """Yields every bound expression of a plan, except what TRY protects."""
    if isinstance(plan, list):
        for item in plan:
            yield from _bound(item)
    elif isinstance(plan, dict) and plan.get("type") != "OPERATOR_TRY":
        if "expression_class" in plan:
            yield plan
        for child in plan.values():
            yield from _bound(child)


def _check_constants(sql: str, runs: str) -> None:
    """Finds constants that cannot be cast, whatever the rows. Outside lambdas, the optimizer folds those that can."""
    written = without_semicolon(sql)
    plan = _plan(written, optimize=True)
    if plan["error"]:
        # ANY inside a lambda has no plan as written, and the plan of what runs has no positions in `sql`.
        written, plan = "", _plan(runs, optimize=True)
    for cast in _bound(plan["plans"]):
        if cast.get("qname", {}).get("path") != ["__cast"] or cast["function_data"]["try_cast"]:
            continue
        constant = cast["children"][0]
        if constant["expression_class"] == "BOUND_CONSTANT" and not constant["value"]["is_null"]:
            why = _why_not_cast(constant["value"]["value"], _type_name(cast["return_type"]))
            if why is not None:
                raise PredicateError(why, _place(written, constant, cast))


def _why_not_cast(value: Any, target: str) -> str | None:
    try:
        connection().execute(f"SELECT CAST(CAST(? AS VARCHAR) AS {target})", [str(value)]).fetchall()
    except duckdb.ConversionException as error:
        return message_of(error)
    except duckdb.Error:
        # The name does not define the type, as with an ENUM: the rule then rejects each row with this reason.
        pass
    return None


def _place(written: str, *candidates: Mapping[str, Any]) -> int | None:
    places = [node["query_location"] for node in candidates if node["query_location"] != NO_LOCATION]
    return characters(written, places[0] - len(_HEAD)) if places and written else None


def _type_name(bound: Mapping[str, Any]) -> str:
    """Returns a type of a plan as the catalogue writes it, without the parts of a STRUCT, a MAP or a DECIMAL."""
    info = bound["type_info"] or {}
    match bound["id"]:
        case "LIST":
            return f"{_type_name(info['child_type'])}[]"
        case "ARRAY":
            return f"{_type_name(info['child_type'])}[{info['size']}]"
        case name:
            return info.get("alias") or name


def _check_unknown(sql: str, runs: str) -> None:
    """Checks the functions that the table of this project does not have."""
    for node, _ in nodes(parse_expression(sql)):
        if node["class"] == "FUNCTION" and nature_of(node["function_name"].lower(), len(arguments_of(node))) is None:
            name = node["function_name"].lower()
            why = _why_not(name, runs)
            if why is not None:
                raise PredicateError(f"function {name}: {why}", location(sql, node))


def _why_not(name: str, runs: str) -> str | None:
    """Returns why a rule may not use an unknown function; None if it may."""
    overloads = _overloads(name)
    kinds = {overload.kind for overload in overloads}
    if kinds & {"aggregate", "window"}:
        return "looks at several rows; a rule looks at one row"
    if kinds <= {"macro"}:
        reasons = (_why_not_macro(overload, runs) for overload in overloads)
        return next((why for why in reasons if why is not None), None)
    return _why_not_scalar(name, overloads, runs)


def _why_not_macro(macro: "Overload", runs: str) -> str | None:
    known = {parameter.lower() for parameter in macro.parameters}
    for node, bound in nodes(parse_expression(macro.definition)):
        if node["class"] not in ALLOWED:
            return f"is a macro that holds {node['class'].lower()}, which is more than a function of the row"
        if node["class"] == "COLUMN_REF" and node["column_names"][0].lower() not in known | bound:
            outer = ".".join(node["column_names"])
            nature = nature_of(outer.lower())
            return f"is a macro over {outer}, which is {nature.value if nature else 'not its argument'}"
        if node["class"] == "FUNCTION":
            inner = node["function_name"].lower()
            nature = nature_of(inner, len(arguments_of(node)))
            if nature not in (None, Nature.ROW, Nature.ZONED):
                return f"is a macro over {inner}, which is {nature.value}"
            why = _why_not(inner, runs) if nature is None else None
            if why is not None:
                return f"is a macro over {inner}: {why}"
    return None


def _why_not_scalar(name: str, overloads: Sequence["Overload"], runs: str) -> str | None:
    plan = _plan(runs, optimize=False)
    calls = [node for node in _bound(plan) if node.get("qname", {}).get("path", [""])[-1].lower() == name]
    stabilities: set[str] = set()
    for call in calls:
        types = [_type_name(argument) for argument in call["arguments"]]
        exact = [overload for overload in overloads if list(overload.types) == types]
        stabilities.update(overload.stability for overload in exact or [o for o in overloads if o.takes(types)])
    told = f"DuckDB {duckdb.__version__} has it, and no release that was reviewed"
    if not stabilities:
        return f"{told}; which of its forms is called cannot be determined, so neither whether its answers are steady"
    if stabilities != {"CONSISTENT"}:
        return f"{told}; the engine calls the form that is called {' and '.join(sorted(stabilities))}, not CONSISTENT"
    return None
