"""Parses SQL with DuckDB: the engine, and the syntax tree of one expression.

A node of a tree is a mapping with a `class` (COLUMN_REF, FUNCTION, ...) and its children, as made by
`json_serialize_sql`.
"""

import functools
import json
import os
import re
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

Node = Mapping[str, Any]

# The kinds of expression that may make up a function of one row.
ALLOWED = frozenset(
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

# The parts of a SELECT that must be empty when it is only an expression.
_CLAUSES = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "qualify", "sample")

SELECT = "SELECT "
NO_LOCATION = 2**64 - 1

_LOCAL = threading.local()

# The engines of all threads. An engine has threads, for which it waits when it is closed: for ever in a fork, which has
# none of them. So a fork neither closes nor uses them.
_OPEN: "weakref.WeakSet[duckdb.DuckDBPyConnection]" = weakref.WeakSet()
_KEPT: list[duckdb.DuckDBPyConnection] = []


def _keep() -> None:
    _KEPT.extend(_OPEN)


def _start_anew() -> None:
    global _LOCAL
    _LOCAL = threading.local()


os.register_at_fork(before=_keep, after_in_parent=_KEPT.clear, after_in_child=_start_anew)


class PredicateError(ValueError):
    """A predicate that cannot be a rule.

    Attributes:
      offset: the position in the SQL, in characters; None when the engine does not report it.
    """

    def __init__(self, message: str, offset: int | None = None):
        super().__init__(message)
        self.offset = offset


def connection() -> duckdb.DuckDBPyConnection:
    """Opens this thread's own in-memory database: one thread, no files, no network, settings locked, UTC."""
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
        _OPEN.add(opened)
        _LOCAL.connection = opened
    return _LOCAL.connection


def parse_expression(sql: str) -> dict[str, Any]:
    """Returns the syntax tree of the only expression in `sql`.

    Raises:
      PredicateError: when it does not parse, or is more than an expression.
    """
    if not sql.strip(" \t\n\r;"):
        raise PredicateError("is empty; a rule is one predicate, such as fare >= 0 AND fare < 1000")
    parsed = parse(sql)
    if parsed["error"]:
        position = parsed.get("position")
        offset = None if position is None else characters(sql, int(position) - len(SELECT))
        raise PredicateError(parsed["error_message"], offset)
    statements = parsed["statements"]
    if len(statements) != 1:
        raise PredicateError("holds more than one statement; a rule is one predicate")
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


@functools.lru_cache(maxsize=64)
def parse(sql: str) -> dict[str, Any]:
    """Returns the parser's result for `SELECT <sql>`: statements, or an error and its position.

    The result is cached: do not change it.
    """
    row = connection().execute("SELECT json_serialize_sql(?)", [SELECT + sql]).fetchall()[0]
    return json.loads(row[0])


def sql_of(tree: Node) -> str:
    """Writes a syntax tree as SQL."""
    (statement,) = parse("1")["statements"]
    query = {"error": False, "statements": [{**statement, "node": {**statement["node"], "select_list": [tree]}}]}
    row = connection().execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(query)]).fetchall()[0]
    return row[0].removeprefix(SELECT)


def without_semicolon(sql: str) -> str:
    """Returns the SQL of one statement without the semicolon at its end and the comments that follow it.

    >>> without_semicolon("name = ';' ; -- ends; here"), without_semicolon("name = ';'")
    ("name = ';' ", "name = ';'")
    """
    # A cut at a semicolon inside a text or a comment would not parse, or would lose part of the tree.
    cuts = (sql[: found.start()] for found in re.finditer(";", sql))
    return next((cut for cut in cuts if parse(cut) == parse(sql)), sql)


def nodes(tree: Any, bound: frozenset[str] = frozenset()) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """Yields every expression of a syntax tree, with the lambda parameters known there, in lower case."""
    if isinstance(tree, list):
        for item in tree:
            yield from nodes(item, bound)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree, bound
        children = tree
        if is_lambda(tree):
            bound = bound.union(lambda_parameters(tree))
            children = {key: child for key, child in tree.items() if key != "lhs"}
        for child in children.values():
            yield from nodes(child, bound)


def is_lambda(node: Node) -> bool:
    """Whether a node is a lambda, not `document -> path`, which looks like one but extracts a part of JSON."""
    return node.get("class") == "LAMBDA" and node["syntax_type"] == "LAMBDA_KEYWORD"


def lambda_parameters(node: Node) -> list[str]:
    """Returns the names of a lambda's parameters, in lower case and in order."""
    references = (child for child, _ in nodes(node["lhs"]) if child["class"] == "COLUMN_REF")
    return [name.lower() for reference in references for name in reference["column_names"]]


def arguments_of(node: Node) -> list[Node]:
    """Returns the arguments of a FUNCTION node."""
    return [argument["expression"] for argument in node.get("arguments", ())]


def location(sql: str, node: Node) -> int | None:
    """Returns where a node of the tree of `sql` begins, in characters."""
    place = node.get("query_location", NO_LOCATION)
    return None if place == NO_LOCATION else characters(sql, place - len(SELECT))


def characters(sql: str, byte_offset: int) -> int | None:
    """Converts an offset in bytes, as the engine counts, to characters."""
    encoded = sql.encode()
    if not 0 <= byte_offset <= len(encoded):
        return None
    return len(encoded[:byte_offset].decode(errors="replace"))
