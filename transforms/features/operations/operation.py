"""What an operation of a features file is: its name, what it means, takes and gives.

Nothing here or in its neighbours knows how an operation is computed: `penstock.transforms.features.graph` does.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from penstock.io.schema import Kind

INT = frozenset({Kind.INT})
FLOAT = frozenset({Kind.FLOAT})
NUMBER = INT | FLOAT
TEXT = frozenset({Kind.BYTES})
KEY = INT | TEXT
ANY = frozenset(Kind)

ParameterType = Literal[
    "int", "number", "text", "bool", "same", "value", "numbers", "texts", "values", "ngram range", "number type",
    "pattern", "choice", "time", "share", "map", "file", "column", "file format",
]  # fmt: skip
Shape = Literal["any", "single", "list", "split", "flag", "items", "reduce", "vector", "either", "filled"]

# How each shape is told in the documentation.
SHAPES: Mapping[Shape, str] = {
    "any": "one value, or each of a list",
    "items": "one value, or each of a list; lists item by item",
    "single": "one value",
    "list": "a list",
    "split": "one value, to a list",
    "flag": "one value or a list, to one value that is never missing",
    "reduce": "a list, to one value",
    "vector": "one value or a list, to a list of fixed length",
    "either": "one value",
    "filled": "one value, to one that is never missing",
}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One argument of an operation.

    Attributes:
      type: the type of the argument; "same" is the kind of the operation's input.
      doc: what it means, in some words.
      required: whether it must be given.
      minimum: the smallest number allowed.
      maximum: the largest number allowed.
      nonzero: whether 0 is refused.
      choices: the names allowed, for "choice".
    """

    type: ParameterType
    doc: str = ""
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None
    nonzero: bool = False
    choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a features file.

    Attributes:
      name: its name in a features file.
      doc: what it means, in one line.
      takes: the kinds that its input may have; further inputs have the kind of the first, except for `key`.
      gives: the kind of the output; None for that of the input, unless the argument `to` names another.
      on_values: it maps values one to one, so it can be computed on flat arrays; otherwise it maps columns.
      parameters: the arguments by name.
      main: the parameter that a bare argument sets, as in `floordiv: 100`.
      min_inputs: how many inputs it needs, if no `second` replaces one.
      max_inputs: how many it can combine.
      second: the parameter that can replace the second input.
      key: the kinds of the second input, if that is a key and not a value.
      shape: which inputs it takes and what it makes of them: "any" (as they are), "items" (lists of a fixed length item
        by item), "single" (single-valued only), "list" (multi-valued only), "split" (single-valued in, multi-valued
        out), "flag" (one value a row out), "reduce" (a list in, one value out), "vector" (a list of the length
        `length_of` out), "either" (single-valued, missing where all it looks at is), "filled" (single-valued, nothing
        missing).
      complete: whether it refuses inputs with missing values.
      fitted: whether it looks at the rows of the fit.
      drops: whether it may make a value missing.
      length_of: the parameter that says how long the output's lists are.
      check: says what is wrong with these kinds of inputs and these arguments, if anything.
      kind: the kind of the output, where `gives` cannot say it.
      parse: completes the arguments when the file is read; `penstock.io.errors.ConfigError` is what it may raise, a
        ValueError becomes one.
    """

    name: str
    doc: str
    takes: frozenset[Kind]
    gives: Kind | None = None
    on_values: bool = True
    parameters: Mapping[str, Parameter] = dataclasses.field(default_factory=dict)
    main: str | None = None
    min_inputs: int = 1
    max_inputs: int = 1
    second: str | None = None
    key: frozenset[Kind] | None = None
    shape: Shape = "any"
    complete: bool = False
    fitted: bool = False
    drops: bool = False
    length_of: str | None = None
    check: Callable[[Sequence[Kind], Mapping[str, Any]], str | None] | None = None
    kind: Callable[[Sequence[Kind], Mapping[str, Any]], Kind] | None = None
    parse: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def output_kind(self, kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> Kind:
        """Returns the kind of the output for inputs of these kinds."""
        if self.kind is not None:
            return self.kind(kinds, arguments)
        if "to" in self.parameters:
            return Kind.INT if arguments.get("to") == "int" else Kind.FLOAT
        return self.gives or kinds[0]


def kind_of_values(values: Sequence[Any]) -> Kind | None:
    """The kind that holds all these arguments; None where there is none.

    >>> kind_of_values([1, 2.5]), kind_of_values([b"a"]), kind_of_values([1, b"a"])
    (<Kind.FLOAT: 'FLOAT'>, <Kind.BYTES: 'BYTES'>, None)
    """
    texts = [isinstance(value, bytes) for value in values]
    if any(texts):
        return Kind.BYTES if all(texts) else None
    return Kind.FLOAT if any(isinstance(value, float) for value in values) else Kind.INT
