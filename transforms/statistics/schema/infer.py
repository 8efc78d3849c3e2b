"""Infers a schema from statistics, with TFDV's meaning (`tfdv.infer_schema` of 1.16.1).

The result is what the statistics prove, so that all rows that they are of pass under it:

- **Type.** That of the statistics; STRING becomes BYTES. Numbers that no value of the type holds (integers beyond
  int64, finite numbers beyond float32) make BYTES.
- **Presence.** `min_count: 1` if any row has a value, else `min_count: 0`; `min_fraction: 1` if each has.
- **Values.** A `shape` if each row has the same number of values, at each level of lists, and none is missing. Else a
  `value_count` (`value_counts` of lists in lists): that number where it is the same in each row that has values, and
  at least one where it differs.
- **bool_domain.** Integers from 0 to exactly 1; texts of which at most one says true (`TRUE`, `true`, `SET`, `set`,
  `1`, or nothing) and at most one false (`FALSE`, `false`, `CLEAR`, `clear`, `0`).
- **int_domain** of texts, without bounds: each text is an integer.
- **string_domain.** At most `max_string_domain_size` distinct texts, by the name of the feature.
- **STRUCT.** Its fields, inferred alike, are in its `struct_domain`.

It differs from TFDV where TFDV's schema would reject rows of its own data here, or rests on a part of the values:

- Several datasets are taken together: the splits, where there is no `All Examples`. TFDV wants one. A feature that one
  of them lacks is not demanded.
- A domain needs all values: the ranks must count each of them. TFDV takes the most frequent ones for all.
- A FLOAT feature with NaN or infinities gets `disallow_nan: false`, `disallow_inf: false`, since Penstock rejects them
  unless they are allowed (`penstock.transforms.checks.validate`).
- A feature of which some lists are empty gets `value_count { min: 0 }`, which says that it is multi-valued.
- Integers that are counted as categories get an `int_domain` with `is_categorical`. TFDV names a string domain, which
  it then refuses for an integer.
- Comments (`annotation`) say what a reader should know: what is missing, where a domain is a guess, what is constant.

`penstock.transforms.infer` makes a schema of rows, not of statistics: it sees how numbers are spelled and which digits
float32 loses, and is what `prepare` uses without `--schema`.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.io.errors import ConfigError
from penstock.transforms.statistics.schema.seen import SeenFeature, seen_features

_Stats: TypeAlias = statistics_pb2.FeatureNameStatistics

_TRUE = ("", "1", "SET", "TRUE", "set", "true")
_FALSE = ("0", "CLEAR", "FALSE", "clear", "false")

_TYPES = {
    _Stats.INT: schema_pb2.INT,
    _Stats.FLOAT: schema_pb2.FLOAT,
    _Stats.STRING: schema_pb2.BYTES,
    _Stats.BYTES: schema_pb2.BYTES,
    _Stats.STRUCT: schema_pb2.STRUCT,
}

_FLOAT32_MAX = float(np.finfo(np.float32).max)

# An integer as int64 holds it, without the spellings that a reader might change.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")

# With fewer repetitions, values may well be names or identifiers, and new ones must be expected.
_MIN_REPETITION = 2


def infer_schema(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    max_string_domain_size: int = 100,
    infer_feature_shape: bool = True,
    infer_ranges: bool = False,
    datasets: Sequence[str] = (),
) -> schema_pb2.Schema:
    """Infers a schema from statistics, with TFDV's meaning.

    All rows that the statistics are of meet it; the module's docstring says how.

    Args:
      statistics: of TFDV or Penstock.
      max_string_domain_size: the most values of a string domain; 0 infers none.
      infer_feature_shape: whether a `shape` is inferred; where not, there is a `value_count` instead.
      infer_ranges: whether numbers get a domain with the least and the greatest of them. Those of FLOAT are rounded
        outward to float32. Beyond 2^53, where statistics (doubles) do not tell integers apart, there is none.
      datasets: the names of the datasets to look at; by default those that are no slices.

    Returns:
      Features in the order of the statistics.

    Raises:
      ConfigError: for a negative size, a dataset that is not there, a feature with different types in two datasets, or
        fields of what is no struct.
    """
    if max_string_domain_size < 0:
        raise ConfigError(f"max_string_domain_size must be at least 0, got {max_string_domain_size}")
    schema = schema_pb2.Schema()
    made: dict[tuple[str, ...], schema_pb2.Feature] = {}
    # A struct stands before its fields, wherever the statistics have it.
    for seen in sorted(seen_features(statistics, datasets), key=lambda one: len(one.path)):
        feature = _around(schema, made, seen).feature.add(name=seen.path[-1], type=_TYPES[seen.type])
        made[seen.path] = feature
        comments = list(_comments(seen, max_string_domain_size))
        _set_presence(feature, seen)
        _set_values(feature, seen, infer_feature_shape)
        if not _set_type(feature, seen):
            comments.append(_beyond(seen))
        elif seen.present:
            _set_domain(schema, feature, seen, max_string_domain_size)
            _set_specials(feature, seen)
        if infer_ranges and seen.present:
            _set_range(feature, seen)
        if comments:
            feature.annotation.comment.extend(comments)
    return schema


def _around(
    schema: schema_pb2.Schema, made: dict[tuple[str, ...], schema_pb2.Feature], seen: SeenFeature
) -> schema_pb2.Schema | schema_pb2.StructDomain:
    """Returns what a feature belongs into: the schema, or a struct."""
    if len(seen.path) == 1:
        return schema
    around = made.get(seen.path[:-1])
    if around is None or around.type != schema_pb2.STRUCT:
        raise ConfigError(
            f"feature {seen.name!r} is a field, and the statistics have no struct {'.'.join(seen.path[:-1])!r}; give "
            "the statistics of the struct too"
        )
    return around.struct_domain


def _set_presence(feature: schema_pb2.Feature, seen: SeenFeature) -> None:
    feature.presence.min_count = 1 if seen.present and not seen.lacking else 0
    if seen.present and not seen.missing:
        feature.presence.min_fraction = 1


def _set_values(feature: schema_pb2.Feature, seen: SeenFeature, with_shape: bool) -> None:
    if not seen.present:
        return
    is_fixed = all(level.low == level.high > 0 and not level.missing for level in seen.levels)
    if with_shape and is_fixed and not seen.missing and seen.type != _Stats.STRUCT:
        for level in seen.levels:
            feature.shape.dim.add(size=level.low)
    elif len(seen.levels) == 1:
        _set_count(feature.value_count, seen.levels[0].low, seen.levels[0].high)
    else:
        for level in seen.levels:
            _set_count(feature.value_counts.value_count.add(), level.low, level.high)


def _set_count(count: schema_pb2.ValueCount, low: int, high: int) -> None:
    count.min = min(low, 1) if low != high else low
    if low == high > 0:
        count.max = high


def _set_type(feature: schema_pb2.Feature, seen: SeenFeature) -> bool:
    """Makes numbers BYTES that their type does not hold; returns whether it holds them."""
    if holds(seen):
        return True
    feature.type = schema_pb2.BYTES
    return False


def holds(seen: SeenFeature) -> bool:
    """Whether values of the type hold all the numbers."""
    if seen.low is None or seen.high is None:
        return True
    if seen.type == _Stats.INT:
        # As a double, the greatest int64 is 2^63.
        return seen.low >= -(2.0**63) and seen.high <= 2.0**63
    # Of infinite bounds, statistics do not tell the finite numbers.
    return all(abs(bound) <= _FLOAT32_MAX or math.isinf(bound) for bound in (seen.low, seen.high))


def _beyond(seen: SeenFeature) -> str:
    kind, limit = ("integers", "int64") if seen.type == _Stats.INT else ("numbers", "float32")
    return f"from {seen.low:.17g} to {seen.high:.17g}: some {kind} are beyond {limit}, so that only BYTES holds them"


def _set_domain(schema: schema_pb2.Schema, feature: schema_pb2.Feature, seen: SeenFeature, max_size: int) -> None:
    if seen.domain:
        _set_custom(feature, seen)
    elif seen.type == _Stats.INT:
        if seen.counts:
            feature.int_domain.is_categorical = True
        elif seen.low is not None and seen.low >= 0 and seen.high == 1:
            feature.bool_domain.SetInParent()
    elif seen.type == _Stats.STRING and not seen.invalid_utf8:
        _set_text_domain(schema, feature, seen, max_size)


def _set_custom(feature: schema_pb2.Feature, seen: SeenFeature) -> None:
    """Sets the domain that a generator of statistics has found, if it is one."""
    try:
        given = text_format.Parse(seen.domain, schema_pb2.Feature())
    except text_format.ParseError as error:
        raise ConfigError(
            f"feature {seen.name!r}: the statistics have a domain_info that is no domain of a schema: {error}"
        ) from error
    fields = [field for field, _ in given.ListFields()]
    if len(fields) != 1 or given.WhichOneof("domain_info") != fields[0].name:
        raise ConfigError(
            f"feature {seen.name!r}: domain_info must be exactly one domain, such as `url_domain {{}}`, "
            f"got {seen.domain!r}"
        )
    feature.MergeFrom(given)


def _set_text_domain(schema: schema_pb2.Schema, feature: schema_pb2.Feature, seen: SeenFeature, max_size: int) -> None:
    if seen.complete and _is_bool(seen.counts):
        feature.bool_domain.SetInParent()
        for label in sorted(seen.counts):
            if label in _TRUE:
                feature.bool_domain.true_value = label
            else:
                feature.bool_domain.false_value = label
    elif are_integers(seen):
        feature.int_domain.SetInParent()
    elif seen.complete and len(seen.counts) <= max_size:
        name = _free_name(seen.name, (domain.name for domain in schema.string_domain))
        schema.string_domain.add(name=name, value=sorted(seen.counts))
        feature.domain = name


def _is_bool(labels: Iterable[str]) -> bool:
    """Whether texts are at most one that says true, and at most one that says false."""
    given = list(labels)
    true, false = sum(label in _TRUE for label in given), sum(label in _FALSE for label in given)
    return true <= 1 and false <= 1 and true + false == len(given)


def are_integers(seen: SeenFeature) -> bool:
    """Whether each text is an integer, as far as statistics prove it."""
    if seen.complete:
        return all(_INTEGER.fullmatch(label) for label in seen.counts)
    return seen.patterns is not None and 0 < seen.values <= seen.patterns.get("integer", 0)


def _free_name(name: str, taken: Iterable[str]) -> str:
    """Returns the name, with a number behind it if it is taken."""
    names = set(taken)
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name}{number}"
    return free


def _set_specials(feature: schema_pb2.Feature, seen: SeenFeature) -> None:
    if seen.type != _Stats.FLOAT or feature.WhichOneof("domain_info") not in (None, "float_domain"):
        return
    if seen.nan:
        feature.float_domain.disallow_nan = False
    if seen.infinite is None or seen.infinite:
        feature.float_domain.disallow_inf = False


def _set_range(feature: schema_pb2.Feature, seen: SeenFeature) -> None:
    if seen.low is None or seen.high is None or feature.WhichOneof("domain_info") not in (None, "float_domain"):
        return
    if feature.type == schema_pb2.INT and max(-seen.low, seen.high) < 2**53:
        feature.int_domain.min, feature.int_domain.max = int(seen.low), int(seen.high)
    elif feature.type == schema_pb2.FLOAT:
        if math.isfinite(seen.low):
            feature.float_domain.min = float32_outward(seen.low, -math.inf)
        if math.isfinite(seen.high):
            feature.float_domain.max = float32_outward(seen.high, math.inf)


def float32_outward(value: float, toward: float) -> float:
    """Returns the nearest float32 that does not lie on the inner side of a bound.

    >>> float32_outward(0.1, -math.inf) <= 0.1 < float32_outward(0.1, math.inf)
    True
    """
    near = np.float32(value)
    inside = float(near) > value if toward < 0 else float(near) < value
    return float(np.nextafter(near, np.float32(toward)) if inside else near)


def _comments(seen: SeenFeature, max_size: int) -> Iterator[str]:
    """Says what a reader of the schema should know."""
    if not seen.present:
        yield f"no value in {seen.rows:,} rows: the type is what the statistics call it"
        return
    if seen.lacking:
        yield f"not in the data of {', '.join(seen.lacking)}"
    if seen.missing:
        yield f"no value in {seen.missing:,} of {seen.missing + seen.present:,} rows"
    if seen.nulls:
        yield f"{seen.nulls:,} values are null inside lists: their rows are rejected whatever the schema says"
    if seen.nan:
        yield f"{seen.nan:,} values are NaN; without disallow_nan: false their rows are rejected"
    if seen.infinite:
        yield f"{seen.infinite:,} values are infinite; without disallow_inf: false their rows are rejected"
    yield from _comments_on_texts(seen, max_size)


def _comments_on_texts(seen: SeenFeature, max_size: int) -> Iterator[str]:
    if seen.invalid_utf8:
        yield f"{seen.invalid_utf8:,} values are not UTF-8"
    if seen.type != _Stats.STRING or seen.invalid_utf8:
        return
    if seen.complete and len(seen.counts) == 1:
        yield f"all {seen.values:,} values are the same"
    elif are_integers(seen):
        yield "all texts are integers; as type: INT they are read as numbers"
    elif seen.complete and len(seen.counts) <= max_size and seen.values < _MIN_REPETITION * len(seen.counts):
        yield "most of the texts occur once: they may be names, and new ones are outside of the domain"
    elif seen.distinct and seen.distinct > max_size and not math.isinf(seen.distinct_error):
        about = "" if seen.distinct_error == 0 else "about "
        yield f"{about}{seen.distinct:,.0f} distinct texts, too many for a domain"
