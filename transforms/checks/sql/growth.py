"""Limits how much a predicate may make of a row, through functions whose arguments determine the size of the result.

`repeat(name, n)` gives n times the text. The engine neither limits what an expression takes nor stops inside one: its
memory limit does not count the values of expressions, and an interrupt waits for the next 2,048 rows. So before
anything is computed, the text of the predicate must bound each such number (the natures of
`penstock.transforms.checks.sql.functions` say for which functions). Bounded are:

- a constant, or `least(n, constant)`; also `+`, `-`, `*`, `%`, CASE, coalesce and casts of bounded numbers;
- a length, such as `len(xs)`: the result is then as large as the row, once. `repeat(name, len(name))` is its square.

Bounds of nested functions multiply, also those of a lambda and the list it goes through. The product may be up to
`MAX_FACTOR`. An engine computes 2,048 rows at a time, so 10,000 numbers of 8 bytes for each are 164 MB.

This check cannot see how large the values of a row are, nor functions that multiply them: `replace`, or a lambda over
one list inside a lambda over another. For those, `penstock.transforms.checks.sql.queries` has limits of time and
memory.
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import duckdb

from penstock.transforms.checks.sql.functions import LIST_AGGREGATES, Nature, nature_of
from penstock.transforms.checks.sql.trees import (
    Node,
    PredicateError,
    arguments_of,
    connection,
    is_lambda,
    lambda_parameters,
    location,
    nodes,
    sql_of,
)

MAX_FACTOR = 10_000


@dataclasses.dataclass(frozen=True, order=True)
class Size:
    """At most `times` * (size of the row) ** `degree`; compares by size for large rows."""

    degree: float = 0
    times: float = 1

    def __mul__(self, other: "Size") -> "Size":
        return Size(self.degree + other.degree, self.times * other.times)

    def __add__(self, other: "Size") -> "Size":
        return Size(max(self.degree, other.degree), self.times + other.times)


_ONE = Size()
_UNBOUNDED = Size(math.inf, math.inf)


@dataclasses.dataclass(frozen=True)
class Range:
    """The bounds of a number."""

    low: float
    high: Size


_ANYTHING = Range(-math.inf, _UNBOUNDED)

_LENGTHS = frozenset(
    {
        "array_indexof",
        "array_length",
        "array_position",
        "array_unique",
        "cardinality",
        "char_length",
        "character_length",
        "instr",
        "json_array_length",
        "len",
        "length",
        "length_grapheme",
        "list_count",
        "list_indexof",
        "list_position",
        "list_unique",
        "octet_length",
        "position",
        "strlen",
        "strpos",
    }
)

# The index, from 0, of the argument that determines the size.
_COUNTS = {
    "array_resize": 1,
    "bitstring": 1,
    "equi_width_bins": 2,
    "list_resize": 1,
    "lpad": 1,
    "repeat": 1,
    "rpad": 1,
}

_SERIES = frozenset({"generate_series", "range"})
_TEMPLATES = frozenset({"format", "printf"})
_REDUCERS = frozenset({"array_reduce", "list_reduce", "reduce"})

# Functions that combine all pairs of their arguments' parts; functions that take a lambda do so too.
_MULTIPLIERS = LIST_AGGREGATES | {
    "array_resize",
    "array_to_string",
    "damerau_levenshtein",
    "editdist3",
    "jaccard",
    "levenshtein",
    "list_resize",
    "regexp_replace",
    "repeat",
    "replace",
}

# Functions that join all their arguments: a running value that occurs twice among them doubles with each item.
_JOINERS = frozenset(
    {
        "array_append",
        "array_cat",
        "array_concat",
        "array_prepend",
        "array_push_back",
        "array_push_front",
        "concat",
        "concat_ws",
        "format",
        "list_append",
        "list_cat",
        "list_concat",
        "list_pack",
        "list_prepend",
        "list_value",
        "list_zip",
        "map",
        "printf",
        "regexp_replace",
        "replace",
        "row",
        "struct_pack",
        "||",
    }
)

_NUMBER = re.compile(r"\d+")
_PRINTF_FIELD = re.compile(r"%[-+ #0']*(\d+|\*)?(?:\.(\d+|\*))?[a-zA-Z]")


def check_growth(sql: str, tree: Node) -> None:
    """Rejects a predicate that may make more than `MAX_FACTOR` times its row.

    Raises:
      PredicateError: naming the function, and saying what to write instead.
    """
    _factor(sql, tree)


def _factor(sql: str, node: Any) -> Size:
    """Returns how many times larger than the row anything below a node may become."""
    if isinstance(node, list):
        return max((_factor(sql, child) for child in node), default=_ONE)
    if not isinstance(node, dict):
        return _ONE
    if node.get("class") == "FUNCTION":
        return _function_factor(sql, node)
    inner = max((_factor(sql, child) for child in node.values()), default=_ONE)
    if node.get("class") == "TYPE" and node["type_name"].lower() == "array":
        return _limited(sql, node, "type ARRAY", inner * Size(0, _number(node["children"][1]) or math.inf))
    return inner


def _function_factor(sql: str, node: Node) -> Size:
    name = node["function_name"].lower()
    arguments = arguments_of(node)
    if name in _REDUCERS:
        _check_reducer(sql, node, arguments)
    factors = [_factor(sql, argument) for argument in arguments]
    multiplies = name in _MULTIPLIERS or any(map(is_lambda, arguments))
    inner = math.prod(factors, start=_ONE) if multiplies else max(factors, default=_ONE)
    own = _own_factor(sql, node, name, arguments)
    return _limited(sql, node, f"function {name}", inner * own)


def _limited(sql: str, node: Node, what: str, size: Size) -> Size:
    if size.degree > 1:
        raise PredicateError(
            f"{what}: its result grows with the square of the row; one of the numbers must be a constant",
            location(sql, node),
        )
    if size.times > MAX_FACTOR:
        raise PredicateError(
            f"{what}: makes up to {size.times:,.0f} values or characters of each that it is given, with what is inside "
            f"it; a rule may make {MAX_FACTOR:,}, since the engine takes what it needs for 2,048 rows at once; write "
            "smaller numbers",
            location(sql, node),
        )
    return size


def _own_factor(sql: str, node: Node, name: str, arguments: Sequence[Node]) -> Size:
    if name in LIST_AGGREGATES:
        # For the n of `max(xs, n)` or `approx_top_k(xs, n)`, the engine reserves memory.
        numbers = (_number(argument) for argument in arguments[2:])
        return Size(0, math.prod(max(1, number) for number in numbers if number is not None))
    if nature_of(name) is not Nature.GROWS:
        return _ONE
    if name in _TEMPLATES:
        return _template_factor(sql, node, name, arguments)
    if name in _SERIES:
        return _series_factor(sql, node, name, arguments)
    index = _COUNTS[name]
    if len(arguments) <= index:
        return _ONE  # the engine refuses it
    count = _range(arguments[index]).high
    if count.times == math.inf:
        raise _unbounded(sql, node, name, arguments[index], "least")
    # A text repeated as often as it is long grows to its square; the others only pad or fill to a length.
    is_square = name == "repeat" and count.degree > 0 and _text(arguments[0]) is None
    return Size(count.degree + is_square, max(1, count.times))


def _unbounded(sql: str, node: Node, name: str, argument: Node, bound: str) -> PredicateError:
    written = sql_of(argument)
    return PredicateError(
        f"function {name}: its result is as large as {written} says, without bound; "
        f"write a constant or {bound}({written}, {1000 if bound == 'least' else 0}) instead",
        location(sql, node),
    )


def _series_factor(sql: str, node: Node, name: str, arguments: Sequence[Node]) -> Size:
    """Returns the number of items of range(stop), range(start, stop) and range(start, stop, step)."""
    if not 1 <= len(arguments) <= 3:
        return _ONE  # the engine refuses it
    step = _number(arguments[2]) if len(arguments) == 3 else 1.0
    if step is None:
        return _span_factor(sql, node, name, arguments)
    ends = [_range(argument) for argument in arguments[:2]]
    if len(ends) == 1:
        ends.insert(0, _exactly(0))
    low, high = (ends[0].low, ends[1].high) if step >= 0 else (ends[1].low, ends[0].high)
    if high.times == math.inf or low == -math.inf:
        raise _unbounded(sql, node, name, *_open_end(arguments, ends, step))
    items = high + Size(0, -low)
    return Size(items.degree, max(1, items.times / max(1, abs(step))))


def _open_end(arguments: Sequence[Node], ends: Sequence[Range], step: float) -> tuple[Node, str]:
    """Returns the argument of a series that has no bound, and the function that gives it one."""
    upper = 1 if step >= 0 else 0
    if ends[upper].high.times == math.inf:
        return arguments[min(upper, len(arguments) - 1)], "least"
    return arguments[1 - upper], "greatest"


def _span_factor(sql: str, node: Node, name: str, arguments: Sequence[Node]) -> Size:
    """Returns the number of items of a series of times; times from columns may be any distance apart."""
    span = None
    if not any(kind["class"] == "COLUMN_REF" for argument in arguments for kind, _ in nodes(argument)):
        start, stop, step = (f"epoch({sql_of(argument)})" for argument in arguments)
        # Only times have an epoch. For anything else, the message below says what to write.
        with contextlib.suppress(duckdb.Error):
            span = connection().execute(f"SELECT ({stop} - {start}) / {step}").fetchall()[0][0]
    if span is None:
        raise PredicateError(
            f"function {name}: how long its result is depends on values; write its step as a number, or all its times "
            f"as constants, or count: {name}(0, least(date_diff('day', a, b), 366))",
            location(sql, node),
        )
    return Size(0, max(1, abs(span)))


def _template_factor(sql: str, node: Node, name: str, arguments: Sequence[Node]) -> Size:
    """Adds up the widths and precisions in a template of format or printf."""
    template = _text(arguments[0]) if arguments else None
    if template is None:
        raise PredicateError(f"function {name}: write its template as text, such as '{{:>10}}'", location(sql, node))
    if name == "format":
        fields = re.sub(r"\{\{|\}\}", "", template)
        is_open = re.search(r"\{[^{}]*\{", fields) is not None
        numbers = [number for field in re.findall(r"\{[^{}]*:([^{}]*)\}", fields) for number in _NUMBER.findall(field)]
    else:
        found = _PRINTF_FIELD.findall(template.replace("%%", ""))
        is_open = any("*" in field for field in found)
        numbers = [number for field in found for number in field if number.isdecimal()]
    if is_open:
        raise PredicateError(
            f"function {name}: a width that is an argument has no bound; write it into the template",
            location(sql, node),
        )
    return Size(0, max(1, sum(map(int, numbers))))


def _check_reducer(sql: str, node: Node, arguments: Sequence[Node]) -> None:
    """Rejects a step that doubles its running value."""
    step = next((argument for argument in arguments if is_lambda(argument)), None)
    parameters = lambda_parameters(step) if step is not None else []
    if step is not None and parameters and _uses(step["expr"], parameters[0]) > 1:
        raise PredicateError(
            f"function {node['function_name'].lower()}: {parameters[0]} stands in its result more than once, so that "
            "each item of the list may double it; join it once",
            location(sql, node),
        )


def _uses(node: Any, name: str) -> int:
    """Returns how many times a value occurs in what is made of it."""
    if isinstance(node, list):
        return max((_uses(child, name) for child in node), default=0)
    if not isinstance(node, dict):
        return 0
    match node.get("class"):
        case "COLUMN_REF":
            return int(node["column_names"][0].lower() == name)
        case "COMPARISON" | "BETWEEN" | "CONJUNCTION":
            return 0  # true or false
        case "FUNCTION" if node["function_name"].lower() in _JOINERS:
            return sum(_uses(argument, name) for argument in arguments_of(node))
        case _:
            return max((_uses(child, name) for child in node.values()), default=0)


def _literal(node: Node, kinds: Sequence[str]) -> str | None:
    literal = node.get("literal", {})
    return literal["text"] if node["class"] == "CONSTANT" and literal.get("kind") in kinds else None


def _text(node: Node) -> str | None:
    return _literal(node, ("STRING",))


def _number(node: Node) -> float | None:
    """Returns the constant number that an argument is, if it is one."""
    found = _range(node)
    return found.low if found == _exactly(found.low) else None


def _exactly(number: float) -> Range:
    return Range(number, Size(0, number))


def _range(node: Node) -> Range:
    """Returns the bounds of a number, as far as the text shows them."""
    literal = _literal(node, ("INTEGER", "NUMERIC"))
    if literal is not None:
        return _exactly(float(literal.replace("_", "")))
    match node["class"]:
        case "CAST":
            return _range(node["child"])
        case "CASE":
            branches = [check["then_expr"] for check in node["case_checks"]] + [node["else_expr"]]
            return _any_of([_range(branch) for branch in branches])
        case "OPERATOR" if node["type"] == "OPERATOR_COALESCE":
            return _any_of([_range(child) for child in node["children"]])
        case "FUNCTION":
            return _range_of_call(node["function_name"].lower(), arguments_of(node))
        case _:
            return _ANYTHING


def _range_of_call(name: str, arguments: Sequence[Node]) -> Range:
    if name in _LENGTHS:
        return Range(0, Size(1))
    ranges = [_range(argument) for argument in arguments]
    match name, ranges:
        case "least", [_, *_]:
            return Range(min(one.low for one in ranges), min(one.high for one in ranges))
        case "greatest", [_, *_]:
            return Range(max(one.low for one in ranges), max(one.high for one in ranges))
        case "-", [one] if one.high.degree == 0:
            return Range(-one.high.times, Size(0, -one.low))
        case "+", [left, right]:
            return Range(left.low + right.low, left.high + right.high)
        case "-", [left, right]:
            low = left.low - right.high.times if right.high.degree == 0 else -math.inf
            return Range(low, left.high + Size(0, -right.low))
        case "*", [left, right] if left.low >= 0 and right.low >= 0 and max(left.high, right.high) < _UNBOUNDED:
            return Range(left.low * right.low, left.high * right.high)
        case "%", [_, right] if right == _exactly(right.low):
            return Range(-abs(right.low), Size(0, abs(right.low)))
        case _:
            return _ANYTHING


def _any_of(ranges: Sequence[Range]) -> Range:
    return Range(min(one.low for one in ranges), max(one.high for one in ranges))
