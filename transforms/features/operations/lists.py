"""Operations that make a list of fixed length of a row, or one value of a list."""

from penstock.io.schema import Kind
from penstock.transforms.features.operations.operation import ANY, INT, NUMBER, Operation, Parameter

_DEPTH = {"depth": Parameter("int", "how long the list is", required=True, minimum=1, maximum=10_000)}


def _reduce(name: str, doc: str, gives: Kind | None = None) -> Operation:
    return Operation(name, doc, NUMBER, gives, on_values=False, shape="reduce")


LISTS = (
    Operation(
        "one_hot",
        "a list of depth numbers: 1 at position x, 0 elsewhere, also where x is outside of it; of a list, 1 for each x",
        INT,
        Kind.FLOAT,
        on_values=False,
        parameters=_DEPTH,
        main="depth",
        shape="vector",
        length_of="depth",
    ),
    Operation(
        "count_hot",
        "a list of depth numbers: how often each position occurs in the row; what is outside of it is not counted",
        INT,
        Kind.INT,
        on_values=False,
        parameters=_DEPTH,
        main="depth",
        shape="vector",
        length_of="depth",
    ),
    _reduce("list_min", "the least value of the list"),
    _reduce("list_max", "the greatest value of the list"),
    _reduce("list_sum", "the sum of the list"),
    _reduce("list_mean", "the mean of the list", Kind.FLOAT),
    Operation(
        "list_count",
        "how many values the list has; 0 where it is missing",
        ANY,
        Kind.INT,
        on_values=False,
        shape="flag",
    ),
)
