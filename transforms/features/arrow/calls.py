"""Says how each operation of a features file is computed without TensorFlow.

A function of flat values gets arrays, any other gets columns (`penstock.transforms.features.arrow.compute.columns`);
behind these what is fitted, of operations that are, and then the arguments by name.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute import (
    choices,
    documents,
    gaussian,
    moments,
    numbers,
    quantiles,
    texts,
    times,
)
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted
from penstock.transforms.features.arrow.vocabularies.lookup import apply_vocabulary
from penstock.transforms.features.arrow.vocabularies.terms import MostFrequent, Terms
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY

# The least and greatest number that an operation gives, of what is fitted and its arguments.
_Domain = Callable[[Fitted, Mapping[str, Any]], tuple[int, int]]

_Plain = Mapping[str, Callable[..., Any]]


@dataclasses.dataclass(frozen=True)
class Computation:
    """How an operation is computed.

    Attributes:
      apply: of flat values or of columns, as the operation says (`Operation.on_values`).
      analysis: makes what is fitted, of the kinds of the inputs and the arguments; None for an operation that is not.
      domain: of the categories that it gives, if it gives any.
      on_values: whether `apply` takes flat values though it is fitted.
    """

    apply: Callable[..., Any]
    analysis: Callable[..., Analysis] | None = None
    domain: _Domain | None = None
    on_values: bool = False


def _buckets_domain(fitted: Fitted, _: Mapping[str, Any]) -> tuple[int, int]:
    return 0, len(fitted["boundaries"])


def _vocabulary_domain(fitted: Fitted, arguments: Mapping[str, Any]) -> tuple[int, int]:
    others, default = arguments.get("num_oov_buckets", 0), arguments.get("default_value", -1)
    last = len(fitted["terms"]) + others - 1
    return (0, last) if others else (min(0, default), max(last, default))


def _keyed_domain(_: Fitted, arguments: Mapping[str, Any]) -> tuple[int, int]:
    return -1, arguments["num_buckets"] - 1  # -1 is of keys that the fit did not see


def _apply_domain(_: Fitted, arguments: Mapping[str, Any]) -> tuple[int, int]:
    return 0, len(arguments["boundaries"])


_FITTED = {
    "scale_to_0_1": Computation(moments.min_max, moments.Moments),
    "scale_by_min_max": Computation(moments.min_max, moments.Moments),
    "scale_to_z_score": Computation(moments.z_score, moments.Moments),
    "scale_to_0_1_per_key": Computation(moments.min_max_per_key, moments.KeyedMoments, on_values=True),
    "scale_by_min_max_per_key": Computation(moments.min_max_per_key, moments.KeyedMoments, on_values=True),
    "scale_to_z_score_per_key": Computation(moments.z_score_per_key, moments.KeyedMoments, on_values=True),
    "bucketize": Computation(quantiles.bucketize, quantiles.Boundaries, _buckets_domain),
    "bucketize_per_key": Computation(
        quantiles.bucketize_per_key, quantiles.KeyedBoundaries, _keyed_domain, on_values=True
    ),
    "quantile_rank": Computation(quantiles.quantile_rank, quantiles.Edges),
    "clip_by_quantile": Computation(quantiles.clip_by_quantile, quantiles.Bounds),
    "impute_mean": Computation(moments.impute, moments.Mean),
    "impute_median": Computation(moments.impute, quantiles.Median),
    "impute_most_frequent": Computation(moments.impute, MostFrequent),
    VOCABULARY: Computation(apply_vocabulary, Terms, _vocabulary_domain),
    "scale_to_gaussian": Computation(gaussian.scale_to_gaussian, gaussian.Gaussian),
    "tfidf": Computation(documents.tfidf, documents.Documents),
}

_NUMBERS: _Plain = {
    "abs": numbers.whole(np.abs),
    "negative": numbers.whole(np.negative),
    "sign": numbers.unary(np.sign),
    "round": numbers.unary(np.rint),
    "floor": numbers.unary(np.floor),
    "ceil": numbers.unary(np.ceil),
    "trunc": numbers.unary(np.trunc),
    "square": numbers.whole(np.square),
    "log": numbers.curve(np.log),
    "log1p": numbers.curve(np.log1p),
    "exp": numbers.curve(np.exp),
    "sqrt": numbers.curve(np.sqrt),
    "pow": numbers.power,
    "add": numbers.whole(np.add),
    "subtract": numbers.whole(np.subtract),
    "multiply": numbers.whole(np.multiply),
    "divide": numbers.binary(numbers.divide),
    "floordiv": numbers.floordiv,
    "floormod": numbers.floormod,
    "maximum": numbers.binary(numbers.maximum),
    "minimum": numbers.binary(numbers.minimum),
    "clip_by_value": numbers.clip,
    "cast": numbers.cast,
    "logical_and": numbers.logical_and,
    "logical_or": numbers.logical_or,
    "logical_not": numbers.logical_not,
    **{
        name: numbers.comparison(name)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
}

_TEXTS: _Plain = {
    "lower": texts.cased(pc.ascii_lower, str.lower),
    "upper": texts.cased(pc.ascii_upper, str.upper),
    "strip": texts.of_strings(pc.ascii_trim_whitespace),
    "length": texts.length,
    "substr": texts.substr,
    "as_string": texts.as_string,
    "to_number": texts.to_number,
    "regex_replace": texts.regex_replace,
    "regex_full_match": texts.regex_full_match,
    "regex_extract": texts.regex_extract,
    "join": texts.join,
    "split": texts.split,
    "ngrams": texts.ngrams,
    "bag_of_words": texts.bag_of_words,
    "hash_strings": texts.hash_strings,
}

_TIMES: _Plain = {
    "parse_time": times.parse_time,
    "time_part": times.time_part,
    "time_sin": times.wave(math.sin),
    "time_cos": times.wave(math.cos),
    "days_since": times.days_since,
}

_CHOICES: _Plain = {
    "is_missing": choices.is_missing,
    "coalesce": choices.coalesce,
    "where": choices.where,
    "is_in": choices.is_in,
    "index_in": choices.index_in,
    "lookup": choices.lookup,
    "one_hot": choices.one_hot,
    "count_hot": choices.count_hot,
    "list_min": choices.reducer(np.minimum),
    "list_max": choices.reducer(np.maximum),
    "list_sum": choices.list_sum,
    "list_mean": choices.list_mean,
    "list_count": choices.list_count,
    "tfidf_terms": documents.tfidf_terms,
}

_PLAIN: _Plain = {**_NUMBERS, **_TEXTS, **_TIMES, **_CHOICES}

CALLS: Mapping[str, Computation] = types.MappingProxyType(
    {
        **_FITTED,
        **{name: Computation(call) for name, call in _PLAIN.items()},
        "apply_buckets": Computation(numbers.apply_buckets, domain=_apply_domain, on_values=True),
        "apply_buckets_with_interpolation": Computation(numbers.apply_buckets_with_interpolation, on_values=True),
    }
)


def make_analysis(name: str, kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> Analysis:
    """Makes the analysis of a fitted operation."""
    analysis = CALLS[name].analysis
    if analysis is None:
        raise TypeError(f"{name} is not fitted")
    return analysis(kinds, **arguments)
