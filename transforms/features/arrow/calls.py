"""Says how each operation of a features file is computed without TensorFlow, and which are not yet.

A function of flat values gets arrays, any other gets columns (`penstock.transforms.features.arrow.columns`); behind
these what is fitted, of operations that are, and then the arguments by name.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from penstock.io.schema import Kind
from penstock.transforms.features.arrow import moments, numbers, quantiles, terms, texts, times
from penstock.transforms.features.arrow.analysis import Analysis, Fitted
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY

# The least and greatest number that an operation gives, of what is fitted and its arguments.
_Domain = Callable[[Fitted, Mapping[str, Any]], tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Computation:
    """How an operation is computed.

    Attributes:
      apply: of flat values or of columns, as the operation says (`Operation.on_values`).
      analysis: makes what is fitted, of the kinds of the inputs and the arguments; None for an operation that is not.
      domain: of the categories that it gives, if it gives any.
      arguments: those that are computed here; None for all.
      on_values: whether `apply` takes flat values though it is fitted.
    """

    apply: Callable[..., Any]
    analysis: Callable[..., Analysis] | None = None
    domain: _Domain | None = None
    arguments: frozenset[str] | None = None
    on_values: bool = False

    def takes(self, arguments: Mapping[str, Any]) -> bool:
        """Whether it can be computed here with these arguments."""
        return self.arguments is None or self.arguments.issuperset(arguments)


def _buckets_domain(fitted: Fitted, _: Mapping[str, Any]) -> tuple[int, int]:
    return 0, len(fitted["boundaries"])


def _boundaries_domain(_: Fitted, arguments: Mapping[str, Any]) -> tuple[int, int]:
    return 0, len(arguments["boundaries"])


def _vocabulary_domain(fitted: Fitted, arguments: Mapping[str, Any]) -> tuple[int, int]:
    others, default = arguments.get("num_oov_buckets", 0), arguments.get("default_value", -1)
    last = len(fitted["terms"]) + others - 1
    return (0, last) if others else (min(0, default), max(last, default))


def _hash_strings(column: Any, hash_buckets: int) -> Any:
    return column.with_values(texts.hash_strings(column.values, hash_buckets))


_UNARY = ("abs", "negative", "sign", "floor", "ceil", "trunc")
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")

CALLS: Mapping[str, Computation] = types.MappingProxyType(
    {
        "scale_to_z_score": Computation(moments.z_score, moments.Moments),
        "scale_to_z_score_per_key": Computation(moments.z_score_per_key, moments.KeyedMoments, on_values=True),
        "bucketize": Computation(quantiles.bucketize, quantiles.Quantiles, _buckets_domain),
        VOCABULARY: Computation(
            terms.apply_vocabulary,
            terms.Terms,
            _vocabulary_domain,
            frozenset({"top_k", "frequency_threshold", "num_oov_buckets", "default_value", "vocab_filename"}),
        ),
        "log": Computation(numbers.curve(np.log)),
        "log1p": Computation(numbers.curve(np.log1p)),
        "exp": Computation(numbers.curve(np.exp)),
        "sqrt": Computation(numbers.curve(np.sqrt)),
        "pow": Computation(numbers.power),
        **{name: Computation(numbers.unary(getattr(np, name))) for name in _UNARY},
        "round": Computation(numbers.unary(np.rint)),
        "square": Computation(numbers.square),
        **{name: Computation(numbers.binary(getattr(np, name))) for name in ("add", "subtract", "multiply")},
        "divide": Computation(numbers.binary(numbers.divide)),
        "floordiv": Computation(numbers.floordiv),
        "floormod": Computation(numbers.floormod),
        "maximum": Computation(numbers.binary(numbers.maximum)),
        "minimum": Computation(numbers.binary(numbers.minimum)),
        "clip_by_value": Computation(numbers.clip),
        "cast": Computation(numbers.cast),
        "apply_buckets": Computation(numbers.apply_buckets, domain=_boundaries_domain, on_values=True),
        "apply_buckets_with_interpolation": Computation(numbers.apply_buckets_with_interpolation, on_values=True),
        **{name: Computation(numbers.comparison(name)) for name in _COMPARISONS},
        "logical_and": Computation(numbers.logical_and),
        "logical_or": Computation(numbers.logical_or),
        "logical_not": Computation(numbers.logical_not),
        "lower": Computation(texts.cased(pc.ascii_lower, str.lower)),
        "upper": Computation(texts.cased(pc.ascii_upper, str.upper)),
        "strip": Computation(texts.of_strings(pc.ascii_trim_whitespace)),
        "length": Computation(texts.length),
        "substr": Computation(texts.substr),
        "as_string": Computation(texts.as_string),
        "to_number": Computation(texts.to_number),
        "regex_replace": Computation(texts.regex_replace),
        "regex_full_match": Computation(texts.regex_full_match),
        "regex_extract": Computation(texts.regex_extract),
        "join": Computation(texts.join),
        "split": Computation(texts.split),
        "ngrams": Computation(texts.ngrams),
        "bag_of_words": Computation(texts.bag_of_words),
        "hash_strings": Computation(_hash_strings),
        "parse_time": Computation(times.parse_time),
        "time_part": Computation(times.time_part),
        "time_sin": Computation(times.wave(math.sin)),
        "time_cos": Computation(times.wave(math.cos)),
        "days_since": Computation(times.days_since),
    }
)


def is_computed(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether an operation with these arguments is computed without TensorFlow."""
    return name in CALLS and CALLS[name].takes(arguments)


def make_analysis(name: str, kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> Analysis:
    """Makes the analysis of a fitted operation."""
    analysis = CALLS[name].analysis
    if analysis is None:
        raise TypeError(f"{name} is not fitted")
    return analysis(kinds, **arguments)
