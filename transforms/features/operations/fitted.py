"""Operations that are fitted: they look at the values of the rows of the fit, which is the train split."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.schema import Kind
from penstock.transforms.features.operations.fixed_map import is_int_text
from penstock.transforms.features.operations.operation import INT, KEY, NUMBER, TEXT, Operation, Parameter

# Not many more numbers are told apart, and each boundary takes memory and time.
_MAX_BUCKETS = 1_000_000


def _scale(name: str, doc: str, **parameters: Parameter) -> Operation:
    return Operation(name, doc, NUMBER, Kind.FLOAT, on_values=False, parameters=parameters, fitted=True)


def _per_key(operation: Operation) -> Operation:
    """Makes the same operation with statistics for each value of a key, the second input."""
    return dataclasses.replace(
        operation,
        name=f"{operation.name}_per_key",
        doc=f"{operation.doc}, among the rows of the same key, the second input",
        min_inputs=2,
        max_inputs=2,
        key=TEXT,
        shape="single",
        complete=True,
    )


_SCALE_TO_0_1 = _scale("scale_to_0_1", "(x - least) / (greatest - least)")
_SCALE_TO_Z_SCORE = _scale("scale_to_z_score", "(x - mean) / standard deviation")
_SCALE_BY_MIN_MAX = _scale(
    "scale_by_min_max",
    "scaled so that the least becomes output_min, and the greatest output_max",
    output_min=Parameter("number", "0 by default"),
    output_max=Parameter("number", "1 by default"),
)
_BUCKETIZE = Operation(
    "bucketize",
    "the number of the bucket, among buckets that hold equally many rows",
    NUMBER,
    Kind.INT,
    on_values=False,
    parameters={"num_buckets": Parameter("int", "how many buckets", required=True, minimum=1, maximum=_MAX_BUCKETS)},
    main="num_buckets",
    fitted=True,
)
_SHARES = {
    "lower": Parameter("share", "the quantile below which values are raised to it"),
    "upper": Parameter("share", "the quantile above which values are lowered to it"),
}
_VOCAB_SIZE = {
    "vocab_size": Parameter(
        "int", "how many terms there are, with those out of vocabulary", required=True, minimum=1, maximum=2**31 - 1
    )
}
_SMOOTH = {"smooth": Parameter("bool", "one row more has each term (true by default)")}


def _impute(name: str, doc: str, takes: frozenset[Kind]) -> Operation:
    return Operation(name, doc, takes, on_values=False, shape="filled", fitted=True)


def _check_shares(_: object, arguments: object) -> str | None:
    shares = dict(arguments) if isinstance(arguments, dict) else {}
    if not shares:
        return "give lower, upper or both"
    if len(shares) == 2 and shares["lower"] >= shares["upper"]:
        return f"lower must be less than upper, got {shares['lower']} and {shares['upper']}"
    return None


def _check_reserved(kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> str | None:
    tokens: Sequence[str] = arguments.get("reserved_tokens", ())
    for place, token in enumerate(tokens):
        if token in tokens[:place]:
            return f"reserved_tokens has {token!r} twice: each value has one number"
        if arguments.get("file_format", "text") == "text" and (not token or "\n" in token or "\r" in token):
            return (
                f"reserved_tokens has {token!r}, and a text file holds no line breaks and no empty texts; "
                "file_format: tfrecord_gzip does"
            )
        if kinds[0] is Kind.INT and not is_int_text(token.encode()):
            return f"reserved_tokens has {token!r}, and the input is INT: give digits of an int64, such as '-1' or '10'"
    return None


FITTED = (
    _SCALE_TO_0_1,
    _SCALE_TO_Z_SCORE,
    _SCALE_BY_MIN_MAX,
    _scale("scale_to_gaussian", "scaled to a normal distribution, if it is one with heavy tails (Tukey's g and h)"),
    _BUCKETIZE,
    *map(_per_key, (_SCALE_TO_0_1, _SCALE_TO_Z_SCORE, _SCALE_BY_MIN_MAX, _BUCKETIZE)),
    Operation(
        "quantile_rank",
        "the share of rows below x: 0 for the least, 0.5 for the median, 1 for the greatest; linear between quantiles",
        NUMBER,
        Kind.FLOAT,
        on_values=False,
        parameters={"num_buckets": Parameter("int", "how many quantiles (100 by default)", minimum=1, maximum=10_000)},
        main="num_buckets",
        fitted=True,
    ),
    Operation(
        "clip_by_quantile",
        "x, or the quantile that it exceeds, such as lower: 0.01, upper: 0.99",
        NUMBER,
        on_values=False,
        parameters=_SHARES,
        fitted=True,
        check=_check_shares,
    ),
    _impute("impute_mean", "x, or the mean where it is missing; of INT, rounded to a whole number", NUMBER),
    _impute("impute_median", "x, or the median where it is missing: of two in the middle, one", NUMBER),
    _impute(
        "impute_most_frequent",
        "x, or the most frequent value where it is missing: of several, the last in the order of their texts",
        KEY,
    ),
    Operation(
        "compute_and_apply_vocabulary",
        "the position of x among all values, the most frequent first",
        KEY,
        Kind.INT,
        on_values=False,
        parameters={
            "top_k": Parameter("int", "how many values are kept", minimum=1),
            "frequency_threshold": Parameter(
                "number", "how often a value must occur, or what it must weigh", minimum=0
            ),
            "num_oov_buckets": Parameter(
                "int", "numbers behind those, for values that are not kept", minimum=0, maximum=2**31 - 1
            ),
            "default_value": Parameter("int", "the number of all values that are not kept (-1 by default)"),
            "reserved_tokens": Parameter("texts", "values that come first, whether they occur or not"),
            "fingerprint_shuffle": Parameter("bool", "in an order without meaning, to balance shards"),
            "weights": Parameter("column", "a column of numbers that count instead of 1"),
            "labels": Parameter("column", "a column of classes, 0, 1, ...: values are ordered by what they tell of it"),
            "use_adjusted_mutual_info": Parameter("bool", "with labels: corrected for chance"),
            "min_diff_from_avg": Parameter("number", "with labels: how far from it a value must be", minimum=0),
            "file_format": Parameter("file format", "text, or tfrecord_gzip, which holds line breaks and empty texts"),
            "vocab_filename": Parameter("text", "the name of its file, the entry's by default"),
            "vocabulary": Parameter("text", "the name of a vocabulary that entries share"),
        },
        main="top_k",
        fitted=True,
        check=_check_reserved,
    ),
    Operation(
        "tfidf",
        "for each distinct term of a row, in order: its share in the row, times 1 + log(rows / rows with the term)",
        INT,
        Kind.FLOAT,
        on_values=False,
        parameters=_VOCAB_SIZE | _SMOOTH,
        main="vocab_size",
        shape="list",
        fitted=True,
    ),
    Operation(
        "tfidf_terms",
        "the distinct terms of a row, in order: those that the weights of tfidf belong to",
        INT,
        on_values=False,
        parameters=_VOCAB_SIZE,
        main="vocab_size",
        shape="list",
    ),
)
