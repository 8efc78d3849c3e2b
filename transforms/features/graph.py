"""Says which function of TensorFlow computes each operation of a features file.

Every function takes `Tensorflow` first, so this module can be imported without it. An operation on values gets flat
tensors, others get columns (`penstock.transforms.features.compute.columns`), and then the arguments by name.
"""

import math as python_math
import types
from collections.abc import Callable, Mapping
from typing import Any

from penstock.transforms.features.analyses import exact_integers
from penstock.transforms.features.compute import choices, fitted, lists, numbers, texts, times
from penstock.transforms.features.compute.columns import Column
from penstock.transforms.features.compute.modules import Tensorflow


def mapper(function: str) -> Callable[..., Column]:
    """Makes an operation of a mapper of tensorflow-transform, unchanged."""

    def call(t: Tensorflow, *columns: Column, **arguments: Any) -> Column:
        return getattr(t.tft, function)(*columns, **arguments)

    return call


def exact(function: str) -> Callable[..., Column]:
    """Makes an operation of a mapper of tensorflow-transform; of integers, it is what `exact_integers` says."""

    def call(t: Tensorflow, *columns: Column, **arguments: Any) -> Column:
        if columns[0].dtype != t.tf.int64:
            return getattr(t.tft, function)(*columns, **arguments)
        return getattr(exact_integers, function)(t, *columns, **arguments)

    return call


def bucketize_per_key(t: Tensorflow, x: Column, key: Column, num_buckets: int) -> Column:
    """Returns what `tft.bucketize_per_key` does, whose schema leaves out the -1 of keys that the fit did not see."""
    from tensorflow_transform import schema_inference

    found = exact("bucketize_per_key")(t, x, key, num_buckets=num_buckets)
    least, greatest = (t.tf.constant(bound, t.tf.int64) for bound in (-1, num_buckets - 1))
    schema_inference.set_tensor_schema_override(found, least, greatest)  # of several, the last one counts
    return found


def buckets(function: str) -> Callable[..., Column]:
    """Makes an operation of a mapper of tensorflow-transform that takes boundaries."""

    def call(t: Tensorflow, column: Column, boundaries: list[float]) -> Column:
        if column.dtype == t.tf.int64:
            return getattr(exact_integers, function)(t, column, boundaries)
        return getattr(t.tft, function)(column, t.tf.constant([boundaries], t.tf.float32))

    return call


def ngrams(function: str) -> Callable[..., Column]:
    """Makes an operation of a mapper of tensorflow-transform that makes n-grams of tokens."""

    def call(t: Tensorflow, column: Column, ngram_range: list[int], separator: str = " ") -> Column:
        return getattr(t.tft, function)(column, tuple(ngram_range), separator)

    return call


def _same(module: types.ModuleType, *names: str) -> dict[str, Callable[..., Any]]:
    """The functions of a module that are called as the operations are."""
    return {name: getattr(module, name) for name in names}


def _made(make: Callable[[str], Callable[..., Any]], *names: str) -> dict[str, Callable[..., Any]]:
    """The functions that are made for these names."""
    return {name: make(name) for name in names}


_SCALED = ("scale_to_0_1", "scale_to_z_score", "scale_by_min_max")
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_WHOLE = ("abs", "negative", "square", "add", "subtract", "multiply", "floordiv")

CALLS: Mapping[str, Callable[..., Any]] = types.MappingProxyType(
    {
        **_made(exact, *_SCALED, "bucketize", *(f"{name}_per_key" for name in _SCALED), "scale_to_gaussian"),
        "bucketize_per_key": bucketize_per_key,
        **_made(mapper, "hash_strings"),
        **_made(buckets, "apply_buckets", "apply_buckets_with_interpolation"),
        **_made(ngrams, "ngrams", "bag_of_words"),
        **_same(fitted, "quantile_rank", "clip_by_quantile", "tfidf", "tfidf_terms"),
        **_same(fitted, "impute_mean", "impute_median", "impute_most_frequent"),
        **_made(numbers.math, "sign", "round", "floor", "ceil", "floormod", "maximum", "minimum"),
        **_made(numbers.whole, *_WHOLE),
        **_made(lambda name: numbers.math(name, integer=True), *_COMPARISONS),
        **_made(numbers.curve, "log", "log1p", "exp", "sqrt"),
        **_same(numbers, "trunc", "divide", "cast", "logical_and", "logical_or", "logical_not"),
        "pow": numbers.power,
        "clip_by_value": numbers.clip,
        **_made(lambda name: texts.text(name, encoding="utf-8"), "lower", "upper"),
        **_made(texts.text, "strip", "as_string", "regex_replace"),
        **_same(texts, "length", "substr", "to_number", "regex_full_match", "regex_extract", "join", "split"),
        **_same(times, "parse_time", "time_part", "days_since"),
        "time_sin": times.wave(python_math.sin),
        "time_cos": times.wave(python_math.cos),
        **_same(choices, "is_missing", "coalesce", "where", "is_in", "index_in", "lookup"),
        **_same(lists, "one_hot", "count_hot", "list_sum", "list_mean", "list_count"),
        **{f"list_{name}": lists.reducer(name) for name in ("min", "max")},
    }
)
