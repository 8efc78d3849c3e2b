"""Checks what a rule may contain: one SQL predicate over the columns of a row, in DuckDB's dialect.

DuckDB parses a predicate, and its syntax tree is checked before anything runs. This ensures that a rule

- looks at one row: no subquery, aggregate, window function or `*`; one expression, no second statement;
- gives the same answer each time: no clock, no random numbers, no setting or sequence
  (`penstock.transforms.checks.sql.functions` classifies each function);
- reaches nothing outside the row: the engine has neither files nor network, and its settings are locked;
- makes no more of a row than its text allows (`penstock.transforms.checks.sql.growth`).

Names are matched as DuckDB does, without regard to case: `Fare` finds a column `fare`. A name that is not a plain
identifier goes in double quotes: `"user.id" > 0`, `"trip distance" < 100`. Text goes in single quotes.
"""

import difflib
from collections.abc import Sequence

from penstock.transforms.checks.sql.functions import LIST_AGGREGATES, RANDOM_AGGREGATES, UNSTEADY, Nature, nature_of
from penstock.transforms.checks.sql.growth import check_growth
from penstock.transforms.checks.sql.rewrites import spell_out
from penstock.transforms.checks.sql.trees import (
    ALLOWED,
    Node,
    PredicateError,
    arguments_of,
    is_lambda,
    location,
    nodes,
    parse_expression,
)

_REFUSED = {
    "SUBQUERY": "a subquery (for membership write x IN (1, 2) or list_contains(xs, x))",
    "WINDOW": "a window function",
    "STAR": "* or COLUMNS()",
    "PARAMETER": "a parameter",
}


def parse_predicate(sql: str, names: Sequence[str]) -> tuple[str, ...]:
    """Parses and checks a predicate; returns the columns that it uses, in the order of `names`.

    Raises:
      PredicateError: when it does not parse, contains what a rule may not, or names no column or an unknown one.
    """
    tree = spell_out(parse_expression(sql), sql)
    used: set[str] = set()
    for node, bound in nodes(tree):
        offset = location(sql, node)
        kind = node["class"]
        if kind not in ALLOWED or node.get("type") == "GROUPING_FUNCTION":
            what = _REFUSED.get(kind, kind.lower().replace("_", " "))
            raise PredicateError(f"holds {what}; a rule is one predicate over the columns of one row", offset)
        if kind == "FUNCTION":
            _check_function(node, offset)
        elif kind == "LAMBDA" and not is_lambda(node):
            _check_arrow(node, names, bound, offset)
        elif kind == "COLUMN_REF" and node["column_names"][0].lower() not in bound:
            used.add(_column(node["column_names"], names, offset))
    if not used:
        raise PredicateError(f"names no column; {_choices(names)}", 0)
    check_growth(sql, tree)
    return tuple(name for name in names if name in used)


def _check_arrow(node: Node, names: Sequence[str], bound: frozenset[str], offset: int | None) -> None:
    """Rejects `->` as a lambda, in the syntax that DuckDB gave up; the parser does not tell it from a JSON path."""
    left = node["lhs"]
    if left["class"] == "FUNCTION" and left["function_name"] == "row":
        name = "x, y"
    elif left["class"] == "COLUMN_REF" and left["column_names"][0].lower() not in bound.union(map(str.lower, names)):
        name = left["column_names"][0]
    else:
        return
    raise PredicateError(f"-> takes a part of a JSON document; a function of an item is lambda {name}: ...", offset)


def _column(parts: Sequence[str], names: Sequence[str], offset: int | None) -> str:
    """Returns the one name of `names` that a column reference means."""
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


def _check_function(node: Node, offset: int | None) -> None:
    name = node["function_name"].lower()
    if node.get("schema") not in ("", "main", None):
        raise PredicateError(f"{node['schema']}.{name}() is not known; write {name}({node['schema']})", offset)
    arguments = arguments_of(node)
    if name in LIST_AGGREGATES:
        _check_list_aggregate(name, arguments, offset)
    nature = nature_of(name, len(arguments))
    match nature:
        case Nature.AGGREGATE | Nature.WINDOW:
            raise PredicateError(f"function {name} looks at several rows; a rule looks at one row", offset)
        case Nature.TABLE | Nature.STATEMENT:
            raise PredicateError(f"function {name} gives {nature.value}; a rule needs one value", offset)
        case Nature.INTERNAL:
            raise PredicateError(f"function {name} is {nature.value}; a rule works on values", offset)
        case Nature.CLOCK | Nature.RANDOM | Nature.STATE | Nature.EFFECT:
            raise PredicateError(f"function {name}: {_unsteady(nature)}", offset)


def _check_list_aggregate(name: str, arguments: Sequence[Node], offset: int | None) -> None:
    aggregate = arguments[1].get("literal", {}).get("text") if len(arguments) > 1 else None
    if not isinstance(aggregate, str):
        raise PredicateError(f"function {name}: write the name of its aggregate as text, such as 'max'", offset)
    if aggregate.lower() in RANDOM_AGGREGATES:
        raise PredicateError(f"function {name}: {aggregate}: {_unsteady(Nature.RANDOM)}", offset)
