"""Operations on numbers. What gives FLOAT works in float32; INT is int64."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.schema import Kind
from penstock.transforms.features.operations.operation import ANY, FLOAT, INT, NUMBER, Operation, Parameter, Shape


def _unary(name: str, doc: str, takes: frozenset[Kind] = NUMBER, gives: Kind | None = None) -> Operation:
    return Operation(name, doc, takes, gives)


def _curve(name: str, doc: str) -> Operation:
    return Operation(name, doc, NUMBER, Kind.FLOAT)


def _binary(
    name: str, doc: str, gives: Kind | None = None, nonzero: bool = False, takes: frozenset[Kind] = NUMBER
) -> Operation:
    """Makes an operation of two values; the second is an input or the argument."""
    value = {"value": Parameter("same", "the second, for all rows", nonzero=nonzero)}
    return Operation(
        name, doc, takes, gives, parameters=value, main="value", max_inputs=2, second="value", shape="items"
    )


def _comparison(name: str, sign: str, takes: frozenset[Kind] = NUMBER) -> Operation:
    return _binary(name, f"1 where x {sign} y, else 0", Kind.INT, takes=takes)


def _logical(name: str, doc: str, inputs: int) -> Operation:
    shape: Shape = "items" if inputs > 1 else "any"
    return Operation(name, doc, INT, Kind.INT, min_inputs=min(inputs, 2), max_inputs=inputs, shape=shape)


def _buckets(name: str, doc: str, gives: Kind) -> Operation:
    boundaries = {"boundaries": Parameter("numbers", "where a bucket ends and the next begins", required=True)}
    return Operation(name, doc, NUMBER, gives, on_values=False, parameters=boundaries, main="boundaries")


def _check_bounds(_: Sequence[Kind], arguments: Mapping[str, Any]) -> str | None:
    low, high = arguments.get("min"), arguments.get("max")
    if low is not None and high is not None and low > high:
        return f"min must not exceed max, got {low} and {high}"
    return None


_TO = {"to": Parameter("number type", "int or float", required=True)}

NUMBERS = (
    _unary("abs", "the absolute value"),
    _unary("negative", "-x"),
    _unary("sign", "-1, 0 or 1"),
    _unary("round", "the nearest whole number; of two, the even one", FLOAT),
    _unary("floor", "the greatest whole number that is not above x", FLOAT),
    _unary("ceil", "the least whole number that is not below x", FLOAT),
    _unary("trunc", "x without its fraction", FLOAT),
    _unary("square", "x * x"),
    _curve("log", "the natural logarithm"),
    _curve("log1p", "the natural logarithm of 1 + x"),
    _curve("exp", "e to the power of x"),
    _curve("sqrt", "the square root"),
    Operation(
        "pow",
        "x to the power of the exponent",
        NUMBER,
        Kind.FLOAT,
        parameters={"exponent": Parameter("number", "any number", required=True)},
        main="exponent",
    ),
    _binary("add", "x + y"),
    _binary("subtract", "x - y"),
    _binary("multiply", "x * y"),
    _binary("divide", "x / y", Kind.FLOAT, nonzero=True),
    _binary("floordiv", "x / y, rounded down", nonzero=True),
    _binary("floormod", "what floordiv leaves: 0, or of the sign of y", nonzero=True),
    _binary("maximum", "the greater one"),
    _binary("minimum", "the lesser one"),
    Operation(
        "clip_by_value",
        "x, or the bound that it exceeds",
        NUMBER,
        parameters={"min": Parameter("same", "the least value"), "max": Parameter("same", "the greatest value")},
        check=_check_bounds,
    ),
    Operation(
        "cast",
        "as the other kind; a FLOAT is cut towards 0, and NaN or one beyond int64 rejects its row",
        NUMBER,
        parameters=_TO,
        main="to",
    ),
    _buckets("apply_buckets", "the number of the bucket that x is in, 0 below all boundaries", Kind.INT),
    _buckets(
        "apply_buckets_with_interpolation",
        "the place of x among the boundaries, 0 to 1, linear between two of them",
        Kind.FLOAT,
    ),
    _comparison("equal", "=", ANY),
    _comparison("not_equal", "≠", ANY),
    _comparison("less", "<"),
    _comparison("less_equal", "≤"),
    _comparison("greater", ">"),
    _comparison("greater_equal", "≥"),
    _logical("logical_and", "1 where no input is 0, else 0", 16),
    _logical("logical_or", "1 where an input is not 0, else 0", 16),
    _logical("logical_not", "1 where x is 0, else 0", 1),
)
