"""Lists the operations that a features file may name: what each takes and gives.

Names and meanings are those of tensorflow-transform (`tft.*`) and TensorFlow (`tf.math.*`, `tf.strings.*`). Missing
values stay missing: an operation sees, and an analysis counts, only the values that are there.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal

from penstock.io.schema import Kind
from penstock.transforms.features import graph

_INT = frozenset({Kind.INT})
_FLOAT = frozenset({Kind.FLOAT})
_NUMBER = _INT | _FLOAT
_TEXT = frozenset({Kind.BYTES})
_ANY = frozenset(Kind)

ParameterType = Literal[
    "int", "number", "text", "bool", "same", "numbers", "texts", "ngram range", "number type", "column", "file format"
]
Shape = Literal["any", "single", "list", "split", "flag"]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One argument of an operation.

    Attributes:
      type: the type of the argument; "same" is the kind of the operation's input.
      required: whether it must be given.
      minimum: the smallest number allowed.
      nonzero: whether 0 is refused.
    """

    type: ParameterType
    required: bool = False
    minimum: int | None = None
    nonzero: bool = False


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a features file.

    Attributes:
      name: its name in a features file.
      takes: the kinds that its input may have; further inputs have the kind of the first, except for `key`.
      call: the function in the graph; it gets `Tensorflow`, the inputs, and the arguments by name.
      gives: the kind of the output; None for that of the input, unless the argument `to` names another.
      on_values: `call` maps flat tensors of values one to one; otherwise it maps columns.
      parameters: the arguments by name.
      main: the parameter that a bare argument sets, as in `floordiv: 100`.
      min_inputs: how many inputs it needs, if no `second` replaces one.
      max_inputs: how many it can combine.
      second: the parameter that can replace the second input.
      key: the kinds of the second input, if that is a key and not a value.
      shape: which inputs it takes and what it makes of them: "any" (as they are), "single" (single-valued only),
        "list" (multi-valued only), "split" (single-valued in, multi-valued out), "flag" (one value a row out).
      complete: whether it refuses inputs with missing values.
    """

    name: str
    takes: frozenset[Kind]
    call: Callable[..., Any]
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

    def output_kind(self, kind: Kind, arguments: Mapping[str, Any]) -> Kind:
        """Returns the kind of the output for an input of `kind`."""
        if "to" in self.parameters:
            return Kind.INT if arguments.get("to") == "int" else Kind.FLOAT
        return self.gives or kind


def _unary(name: str, takes: frozenset[Kind], call: Callable[..., Any], gives: Kind | None = None) -> Operation:
    return Operation(name, takes, call, gives)


def _binary(name: str, call: Callable[..., Any], gives: Kind | None = None, nonzero: bool = False) -> Operation:
    """Makes an operation of two numbers; the second is an input or the argument."""
    value = {"value": Parameter("same", nonzero=nonzero)}
    return Operation(name, _NUMBER, call, gives, parameters=value, main="value", max_inputs=2, second="value")


def _comparison(name: str, takes: frozenset[Kind] = _NUMBER) -> Operation:
    """Makes an operation that compares two values, and gives 1 or 0."""
    compared = _binary(name, graph.math(name, integer=True), Kind.INT)
    return dataclasses.replace(compared, takes=takes)


def _mapper(
    name: str, takes: frozenset[Kind], gives: Kind, main: str | None = None, **parameters: Parameter
) -> Operation:
    """Makes an operation of a mapper of tensorflow-transform."""
    return Operation(name, takes, graph.mapper(name), gives, on_values=False, parameters=parameters, main=main)


def _exact(name: str, gives: Kind, main: str | None = None, **parameters: Parameter) -> Operation:
    """Makes an operation of a mapper of tensorflow-transform that centres integers before it narrows them."""
    return dataclasses.replace(_mapper(name, _NUMBER, gives, main, **parameters), call=graph.exact(name))


def _per_key(mapper: Operation) -> Operation:
    """Makes the same operation with statistics for each value of a key, the second input."""
    name = f"{mapper.name}_per_key"
    return dataclasses.replace(
        mapper, name=name, call=graph.exact(name), min_inputs=2, max_inputs=2, key=_TEXT, shape="single", complete=True
    )


def _ngrams(name: str) -> Operation:
    parameters = {"ngram_range": Parameter("ngram range", required=True), "separator": Parameter("text")}
    call = graph.ngrams(name)
    return Operation(name, _TEXT, call, on_values=False, parameters=parameters, main="ngram_range", shape="list")


def _buckets(name: str, gives: Kind) -> Operation:
    boundaries = {"boundaries": Parameter("numbers", required=True)}
    return Operation(
        name, _NUMBER, graph.buckets(name), gives, on_values=False, parameters=boundaries, main="boundaries"
    )


_SCALE_TO_0_1 = _exact("scale_to_0_1", Kind.FLOAT)
_SCALE_TO_Z_SCORE = _exact("scale_to_z_score", Kind.FLOAT)
_SCALE_BY_MIN_MAX = _exact(
    "scale_by_min_max", Kind.FLOAT, output_min=Parameter("number"), output_max=Parameter("number")
)
_BUCKETIZE = _exact("bucketize", Kind.INT, "num_buckets", num_buckets=Parameter("int", required=True, minimum=1))
_TO = {"to": Parameter("number type", required=True)}

_ALL = (
    # Fitted to the data by tensorflow-transform
    _SCALE_TO_0_1,
    _SCALE_TO_Z_SCORE,
    _SCALE_BY_MIN_MAX,
    _exact("scale_to_gaussian", Kind.FLOAT),
    _BUCKETIZE,
    *map(_per_key, (_SCALE_TO_0_1, _SCALE_TO_Z_SCORE, _SCALE_BY_MIN_MAX, _BUCKETIZE)),
    _mapper(
        "compute_and_apply_vocabulary",
        _INT | _TEXT,
        Kind.INT,
        "top_k",
        top_k=Parameter("int", minimum=1),
        frequency_threshold=Parameter("number", minimum=0),
        num_oov_buckets=Parameter("int", minimum=0),
        default_value=Parameter("int"),
        reserved_tokens=Parameter("texts"),
        fingerprint_shuffle=Parameter("bool"),
        weights=Parameter("column"),
        labels=Parameter("column"),
        use_adjusted_mutual_info=Parameter("bool"),
        min_diff_from_avg=Parameter("number", minimum=0),
        file_format=Parameter("file format"),
        vocab_filename=Parameter("text"),
        vocabulary=Parameter("text"),
    ),
    # Of tensorflow-transform, not fitted
    _buckets("apply_buckets", Kind.INT),
    _buckets("apply_buckets_with_interpolation", Kind.FLOAT),
    _mapper("hash_strings", _TEXT, Kind.INT, "hash_buckets", hash_buckets=Parameter("int", required=True, minimum=1)),
    _ngrams("ngrams"),
    _ngrams("bag_of_words"),
    # Numbers
    _unary("abs", _NUMBER, graph.math("abs")),
    _unary("negative", _NUMBER, graph.math("negative")),
    _unary("round", _FLOAT, graph.math("round")),
    _unary("log", _NUMBER, graph.curve("log"), Kind.FLOAT),
    _unary("log1p", _NUMBER, graph.curve("log1p"), Kind.FLOAT),
    _unary("exp", _NUMBER, graph.curve("exp"), Kind.FLOAT),
    _unary("sqrt", _NUMBER, graph.curve("sqrt"), Kind.FLOAT),
    _binary("add", graph.math("add")),
    _binary("subtract", graph.math("subtract")),
    _binary("multiply", graph.math("multiply")),
    _binary("divide", graph.divide, Kind.FLOAT, nonzero=True),
    _binary("floordiv", graph.math("floordiv"), nonzero=True),
    _binary("floormod", graph.math("floormod"), nonzero=True),
    _binary("maximum", graph.math("maximum")),
    _binary("minimum", graph.math("minimum")),
    Operation("clip_by_value", _NUMBER, graph.clip, parameters={"min": Parameter("same"), "max": Parameter("same")}),
    Operation("cast", _NUMBER, graph.cast, parameters=_TO, main="to"),
    _comparison("equal", _ANY),
    _comparison("not_equal", _ANY),
    _comparison("less"),
    _comparison("less_equal"),
    _comparison("greater"),
    _comparison("greater_equal"),
    # Texts
    _unary("lower", _TEXT, graph.text("lower", encoding="utf-8")),
    _unary("upper", _TEXT, graph.text("upper", encoding="utf-8")),
    _unary("strip", _TEXT, graph.text("strip")),
    _unary("length", _TEXT, graph.length, Kind.INT),
    _unary("as_string", _INT, graph.text("as_string"), Kind.BYTES),
    Operation("to_number", _TEXT, graph.to_number, parameters=_TO, main="to"),
    Operation(
        "regex_replace",
        _TEXT,
        graph.text("regex_replace"),
        parameters={"pattern": Parameter("text", required=True), "rewrite": Parameter("text", required=True)},
    ),
    Operation(
        "join",
        _TEXT,
        graph.join,
        parameters={"separator": Parameter("text")},
        main="separator",
        min_inputs=2,
        max_inputs=16,
    ),
    Operation(
        "split",
        _TEXT,
        graph.split,
        on_values=False,
        parameters={"separator": Parameter("text")},
        main="separator",
        shape="split",
    ),
    # Any kind
    Operation("is_missing", _ANY, graph.is_missing, Kind.INT, on_values=False, shape="flag"),
)

OPERATIONS: Mapping[str, Operation] = types.MappingProxyType({operation.name: operation for operation in _ALL})
