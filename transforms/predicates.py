"""What a rule may say: one SQL predicate over the columns of a row, in DuckDB's dialect.

A predicate is parsed by DuckDB and its syntax tree is checked before anything runs, so that a rule

- looks at one row: no subquery, aggregate, window function or `*`; one expression, no second statement;
- gives the same answer each time: no clock, no random numbers, no setting or sequence;
- reaches nothing outside the row: the engine has neither files nor network, and its settings are locked.

Names are matched as DuckDB does, without regard to case: `Fare` finds a column `fare`. A name that is not a plain
identifier goes in double quotes: `"user.id" > 0`, `"trip distance" < 100`. Text goes in single quotes.
"""

import difflib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from penstock.transforms.sql_functions import UNSTEADY, Nature, nature_of

_ALLOWED = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "LAMBDA",
        "OPERATOR",
        "TYPE",
    }
)

_REFUSED = {
    "SUBQUERY": "a subquery (for membership write x IN (1, 2) or list_contains(xs, x))",
    "WINDOW": "a window function",
    "STAR": "* or COLUMNS()",
    "PARAMETER": "a parameter",
}

# The parts of a SELECT that must be empty when it is nothing but an expression.
_CLAUSES = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "qualify", "sample")

_SELECT = "SELECT "
_NO_LOCATION = 2**64 - 1

_LOCAL = threading.local()


class PredicateError(ValueError):
    """A predicate that cannot be a rule.

    Attributes:
      offset: where in the SQL, in characters; None when the engine does not tell.
    """

    def __init__(self, message: str, offset: int | None = None):
        super().__init__(message)
        self.offset = offset


def connection() -> duckdb.DuckDBPyConnection:
    """This thread's own in-memory database: one thread, no files, no network, settings locked, UTC."""
    if not hasattr(_LOCAL, "connection"):
        settings: dict[str, str | bool | int | float | list[str]] = {
            "threads": 1,
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        opened = duckdb.connect(":memory:", config=settings)
        opened.execute("SET TimeZone = 'UTC'").fetchall()
        opened.execute("SET lock_configuration = true").fetchall()
        _LOCAL.connection = opened
    return _LOCAL.connection


def parse_predicate(sql: str, names: Sequence[str]) -> tuple[str, ...]:
    """The columns that a predicate uses, in the order of `names`.

    Raises:
      PredicateError: when it does not parse, holds what a rule may not, or names no column or an unknown one.
    """
    tree = _expression(sql)
    used: set[str] = set()
    for node, bound in _nodes(tree, frozenset()):
        offset = _offset(sql, node)
        kind = node["class"]
        if kind not in _ALLOWED or node.get("type") == "GROUPING_FUNCTION":
            what = _REFUSED.get(kind, kind.lower().replace("_", " "))
            raise PredicateError(f"holds {what}; a rule is one predicate over the columns of one row", offset)
        if kind == "FUNCTION":
            _check_function(node, offset)
        elif kind == "COLUMN_REF" and node["column_names"][0] not in bound:
            used.add(_column(node["column_names"], names, offset))
    if not used:
        raise PredicateError(f"names no column; {_choices(names)}", 0)
    return tuple(name for name in names if name in used)


def constant_offsets(sql: str) -> set[int]:
    """Where the constants of a predicate stand, in characters."""
    nodes = (node for node, _ in _nodes(_expression(sql), frozenset()) if node["class"] == "CONSTANT")
    return {offset for node in nodes if (offset := _offset(sql, node)) is not None}


def _expression(sql: str) -> dict[str, Any]:
    """The syntax tree of the only expression in `sql`."""
    if not sql.strip():
        raise PredicateError("is empty; a rule is one predicate, such as fare >= 0 AND fare < 1000")
    row = connection().execute("SELECT json_serialize_sql(?)", [_SELECT + sql]).fetchall()[0]
    parsed = json.loads(row[0])
    if parsed["error"]:
        position = parsed.get("position")
        offset = None if position is None else _characters(sql, int(position) - len(_SELECT))
        raise PredicateError(parsed["error_message"], offset)
    statements = parsed["statements"]
    if len(statements) != 1:
        raise PredicateError("holds more than one statement; a rule is one predicate, without ;")
    node = statements[0]["node"]
    is_plain = node["type"] == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY" and not node["cte_map"]["map"]
    if not is_plain or any(node.get(clause) for clause in _CLAUSES):
        raise PredicateError("is a query; a rule is one predicate, such as fare >= 0 AND fare < 1000")
    if len(node["select_list"]) != 1:
        raise PredicateError("holds several expressions; join them with AND, or write several rules")
    expression = node["select_list"][0]
    if expression.get("alias"):
        raise PredicateError(f"gives the predicate a name (AS {expression['alias']}); leave it out")
    return expression


def _nodes(tree: Any, bound: frozenset[str]) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """Every expression of a syntax tree, with the lambda parameters known there."""
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item, bound)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree, bound
        children = tree
        if tree.get("class") == "LAMBDA":
            parameters = (node for node, _ in _nodes(tree["lhs"], frozenset()) if node["class"] == "COLUMN_REF")
            bound = bound.union(*(node["column_names"] for node in parameters))
            children = {key: child for key, child in tree.items() if key != "lhs"}
        for child in children.values():
            yield from _nodes(child, bound)


def _offset(sql: str, node: Mapping[str, Any]) -> int | None:
    location = node.get("query_location", _NO_LOCATION)
    return None if location == _NO_LOCATION else _characters(sql, location - len(_SELECT))


def _characters(sql: str, byte_offset: int) -> int | None:
    encoded = sql.encode()
    if not 0 <= byte_offset <= len(encoded):
        return None
    return len(encoded[:byte_offset].decode(errors="replace"))


def _column(parts: Sequence[str], names: Sequence[str], offset: int | None) -> str:
    """The one name of `names` that a column reference means."""
    matches = [name for name in names if name.lower() == parts[0].lower()]
    if len(parts) == 1 and len(matches) == 1:
        return matches[0]
    if len(parts) == 1 and matches:
        raise PredicateError(f"column {parts[0]!r} is not clear: {' and '.join(matches)} differ only in case", offset)
    dotted = ".".join(parts)
    if dotted.lower() in {name.lower() for name in names}:
        raise PredicateError(f'a name with dots needs double quotes: "{dotted}"', offset)
    nature = nature_of(dotted.lower())
    if nature in UNSTEADY:
        raise PredicateError(f"{dotted} is not a column but a function, and {_unsteady(nature)}", offset)
    near = difflib.get_close_matches(dotted.lower(), [name.lower() for name in names], n=3)
    candidates = [name for name in names if name.lower() in near]
    hint = f"did you mean {' or '.join(map(repr, candidates))}? " if candidates else ""
    raise PredicateError(f"no column {dotted!r}; {hint}{_choices(names)}", offset)


def _choices(names: Sequence[str]) -> str:
    return f"the columns are {', '.join(names)}"


def _unsteady(nature: Nature) -> str:
    return f"its value depends on more than the row ({nature.value}); a rule must give the same answer each time"


def _check_function(node: Mapping[str, Any], offset: int | None) -> None:
    name = node["function_name"].lower()
    if node.get("schema") not in ("", "main", None):
        raise PredicateError(f"{node['schema']}.{name}() is not known; write {name}({node['schema']})", offset)
    nature = nature_of(name, len(node.get("arguments", ())))
    match nature:
        case Nature.AGGREGATE | Nature.WINDOW:
            raise PredicateError(f"function {name} looks at several rows; a rule looks at one row", offset)
        case Nature.TABLE | Nature.STATEMENT:
            raise PredicateError(f"function {name} gives {nature.value}; a rule needs one value", offset)
        case Nature.INTERNAL:
            raise PredicateError(f"function {name} is {nature.value}; a rule works on values", offset)
        case Nature.CLOCK | Nature.RANDOM | Nature.STATE | Nature.EFFECT:
            raise PredicateError(f"function {name}: {_unsteady(nature)}", offset)
