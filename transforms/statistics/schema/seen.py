"""What statistics say of a feature, taken together over the splits of a dataset, as schema and rules need it.

It reads any `DatasetFeatureStatisticsList`, TFDV's and Penstock's. What only Penstock's has (`custom_stats`) is None or
empty where TFDV wrote the file. Weighted statistics are not looked at: a schema is about rows.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.io.errors import ConfigError

# TFDV's name of a dataset that is no slice.
ALL_EXAMPLES = "All Examples"

_Stats: TypeAlias = statistics_pb2.FeatureNameStatistics
Type = _Stats.Type

NUMBERS = (_Stats.INT, _Stats.FLOAT)


@dataclasses.dataclass(frozen=True)
class Level:
    """How many values there are in one level of lists: those of rows first, then those of lists inside lists.

    Attributes:
      missing: how many have none, that is, are null.
      low: the fewest values of those that are there.
      high: the most.
    """

    missing: int
    low: int
    high: int


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Some of the values: `count` of them lie within [low, high]."""

    low: float
    high: float
    count: float


@dataclasses.dataclass(frozen=True)
class SeenFeature:
    """What all rows hold of one feature.

    Attributes:
      path: its name, after those of the structs around it.
      type: TFDV's: INT, FLOAT, STRING (UTF-8 as far as is known), BYTES or STRUCT.
      rows: how many rows the statistics are of.
      present: in how many of them there is a value, of all that the structs around it are in.
      missing: in how many there is none.
      lacking: the datasets that have no such column.
      levels: of lists, the outermost first; at least one.
      values: how many there are.
      low, high: the least and the greatest number, infinities included; None without numbers.
      deviation: the greatest standard deviation of a dataset; None without numbers.
      zeros: how many numbers are zero.
      nan: how many are NaN.
      infinite: how many are infinite; None where the statistics do not say.
      buckets: of the finite numbers, from the finest histogram of quantiles; of all datasets, in no order.
      bucket_error: by which share of itself a bound of a bucket may be wrong.
      counts: of the most frequent values, by what their texts are.
      complete: whether `counts` has all values.
      invalid_utf8: how many texts are not UTF-8.
      nulls: how many values are null, inside lists.
      distinct: how many different values there are; None where it is not known of all datasets together.
      distinct_error: the relative standard error of that; 0 if it is exact.
      lengths: the fewest and the most characters of a text; None where they are not known.
      patterns: how many texts have a pattern, by its name; None where nobody looked.
      missing_with: in how many rows another feature is missing too, by its name.
      domain: what a custom domain says (TFDV's `domain_info`), as text of a Feature.
    """

    path: tuple[str, ...]
    type: int
    rows: int
    present: int
    missing: int
    lacking: tuple[str, ...]
    levels: tuple[Level, ...]
    values: int
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    zeros: int = 0
    nan: int = 0
    infinite: int | None = None
    buckets: tuple[Bucket, ...] = ()
    bucket_error: float = 0.0
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    complete: bool = False
    invalid_utf8: int = 0
    nulls: int = 0
    distinct: float | None = None
    distinct_error: float = 0.0
    lengths: tuple[int, int] | None = None
    patterns: Mapping[str, int] | None = None
    missing_with: Mapping[str, int] = dataclasses.field(default_factory=dict)
    domain: str = ""

    @property
    def name(self) -> str:
        """The dotted name, which a column has."""
        return ".".join(self.path)

    @property
    def is_single(self) -> bool:
        """Whether each row that has a value has exactly one."""
        return all((level.low, level.high) == (1, 1) for level in self.levels)

    @property
    def absent(self) -> int:
        """In how many rows there is no value, whichever of the structs around it is missing."""
        return self.rows - self.present


def seen_features(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, datasets: Sequence[str] = ()
) -> tuple[SeenFeature, ...]:
    """Returns what the datasets of a list hold of each feature, in the order in which features first appear.

    Args:
      statistics: of TFDV or Penstock.
      datasets: the names of those that are taken together; by default those that are no slices: `All Examples`, or
        else the only dataset, or else the splits.

    Raises:
      ConfigError: for a name that no dataset has, a list without datasets, a feature that is described twice, or of
        different types in two datasets (of integers and floats, it is FLOAT).
    """
    chosen = chosen_datasets(statistics, datasets)
    features: dict[tuple[str, ...], dict[str, _Stats]] = {}
    for dataset in chosen:
        for path, stats in _by_path(dataset):
            named = features.setdefault(path, {})
            if dataset.name in named:
                raise ConfigError(f"the statistics of {_named(dataset.name)} describe {'.'.join(path)!r} twice")
            named[dataset.name] = stats
    rows = sum(dataset.num_examples for dataset in chosen)
    names = [dataset.name for dataset in chosen]
    return tuple(_seen(path, rows, names, found, features) for path, found in features.items())


def chosen_datasets(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, names: Sequence[str] = ()
) -> list[statistics_pb2.DatasetFeatureStatistics]:
    """Returns the datasets with these names; without names, those that are no slices.

    Raises:
      ConfigError: as `seen_features`.
    """
    by_name = {dataset.name: dataset for dataset in statistics.datasets}
    if len(by_name) < len(statistics.datasets):
        raise ConfigError("the statistics have two datasets of the same name; name each split and slice differently")
    if not by_name:
        raise ConfigError("the statistics have no dataset; they must be of at least one")
    for name in names:
        if name not in by_name:
            raise ConfigError(f"the statistics have no dataset {name!r}; they have {', '.join(map(repr, by_name))}")
    if names:
        return [by_name[name] for name in names]
    if ALL_EXAMPLES in by_name:
        return [by_name[ALL_EXAMPLES]]
    return [dataset for name, dataset in by_name.items() if not _is_slice(name, by_name)]


def _is_slice(name: str, names: Iterable[str]) -> bool:
    """Whether a dataset is a slice of another one, as `train/day_3` is of `train`."""
    return any(name != other and name.startswith(f"{other}/") for other in names)


def _named(dataset: str) -> str:
    return f"dataset {dataset!r}" if dataset else "the dataset"


def _by_path(dataset: statistics_pb2.DatasetFeatureStatistics) -> Iterator[tuple[tuple[str, ...], _Stats]]:
    """Yields plain features and structs; sparse and weighted features, which have no statistics of values, are not."""
    structs = [stats.name for stats in dataset.features if stats.type == _Stats.STRUCT and not stats.HasField("path")]
    for stats in dataset.features:
        if stats.WhichOneof("stats") is not None:
            yield tuple(stats.path.step) if stats.HasField("path") else _path(stats.name, structs), stats


def _path(name: str, structs: Sequence[str]) -> tuple[str, ...]:
    """Returns the steps of a name that has those of the structs around it before it, with a dot, as TFDV has it."""
    around = [struct for struct in structs if name.startswith(f"{struct}.")]
    if not around:
        return (name,)
    parent = max(around, key=len)
    return (*_path(parent, [struct for struct in structs if struct != parent]), name[len(parent) + 1 :])


def _seen(
    path: tuple[str, ...],
    rows: int,
    datasets: Sequence[str],
    found: Mapping[str, _Stats],
    features: Mapping[tuple[str, ...], Mapping[str, _Stats]],
) -> SeenFeature:
    stats = list(found.values())
    around = features.get(path[:-1], {})
    lacking = tuple(name for name in datasets if name not in found and (len(path) == 1 or name in around))
    common = [getattr(one, one.WhichOneof("stats")).common_stats for one in stats]
    present = sum(one.num_non_missing for one in common)
    levels = _levels(common)
    inside = len(path) > 1
    return SeenFeature(
        path=path,
        type=_type(path, found),
        rows=rows,
        present=present,
        # A split that has no such column has the rows all the same.
        missing=sum(one.num_missing for one in common) if inside else rows - present,
        lacking=lacking,
        levels=levels,
        values=sum(one.tot_num_values or round(one.num_non_missing * one.avg_num_values) for one in common),
        **_of_numbers(stats),
        **_of_texts(stats, common),
        **_of_custom(stats),
    )


def _type(path: tuple[str, ...], found: Mapping[str, _Stats]) -> int:
    """Returns the one type of all datasets; those in which all is missing have no say."""
    told = {
        name: one for name, one in found.items() if getattr(one, one.WhichOneof("stats")).common_stats.num_non_missing
    }
    types = {name: one.type for name, one in (told or found).items()}
    different = set(types.values())
    if len(different) == 1:
        return different.pop()
    if different <= set(NUMBERS):
        return _Stats.FLOAT
    if different == {_Stats.STRING, _Stats.BYTES}:
        return _Stats.BYTES
    named = ", ".join(f"{Type.Name(kind)} in {name or 'a dataset'}" for name, kind in types.items())
    raise ConfigError(
        f"feature {'.'.join(path)!r} is {named}; a schema gives it one type: take statistics of rows that were read "
        "under one schema, or name the datasets to look at"
    )


def _levels(common: Sequence[statistics_pb2.CommonStatistics]) -> tuple[Level, ...]:
    nested = [
        [(one.num_missing, one.num_non_missing, one.min_num_values, one.max_num_values) for one in stats]
        for stats in (one.presence_and_valency_stats or [one] for one in common)
    ]
    merged = []
    for level in itertools.zip_longest(*nested):
        there = [one for one in level if one and one[1]]
        merged.append(
            Level(
                missing=sum(one[0] for one in level if one),
                low=max(min((one[2] for one in there), default=0), 0),
                high=max((one[3] for one in there), default=0),
            )
        )
    return tuple(merged)


def _of_numbers(stats: Sequence[_Stats]) -> dict[str, Any]:
    numbers = [one.num_stats for one in stats if one.HasField("num_stats")]
    valued = [one for one in numbers if one.common_stats.num_non_missing and one.common_stats.max_num_values]
    if not valued:
        return {}
    infinite = [_infinities(one) for one in stats if one.HasField("num_stats")]
    nan = sum(_nan(one) for one in stats)
    return {
        "low": min(one.min for one in valued),
        "high": max(one.max for one in valued),
        "deviation": max(one.std_dev for one in valued),
        "zeros": sum(one.num_zeros for one in valued),
        "nan": nan,
        "infinite": None if None in infinite else sum(count for count in infinite if count),
        "buckets": tuple(bucket for one in stats for bucket in _buckets(one)),
        "bucket_error": max(_number(one, "quantile_error") for one in stats),
    }


def _custom(stats: _Stats) -> Mapping[str, statistics_pb2.CustomStatistic]:
    return {one.name: one for one in stats.custom_stats}


def _number(stats: _Stats, name: str) -> float:
    custom = _custom(stats)
    return custom[name].num if name in custom else 0.0


def _infinities(stats: _Stats) -> int | None:
    custom = _custom(stats)
    if "num_positive_infinity" not in custom or "num_negative_infinity" not in custom:
        # Where the bounds are finite, TFDV has seen no infinity.
        return 0 if math.isfinite(stats.num_stats.min) and math.isfinite(stats.num_stats.max) else None
    return round(custom["num_positive_infinity"].num + custom["num_negative_infinity"].num)


def _nan(stats: _Stats) -> int:
    custom = _custom(stats)
    if "num_nan" in custom:
        return round(custom["num_nan"].num)
    return round(max((one.num_nan for one in stats.num_stats.histograms), default=0))


def _buckets(stats: _Stats) -> Iterator[Bucket]:
    """Yields the buckets of the finest histogram of quantiles."""
    histograms = [one for one in stats.num_stats.histograms if one.type == statistics_pb2.Histogram.QUANTILES]
    histograms += [one.histogram for one in stats.custom_stats if one.name == "distribution"]
    finest = max(histograms, key=lambda one: len(one.buckets), default=None)
    for bucket in finest.buckets if finest is not None else ():
        yield Bucket(bucket.low_value, bucket.high_value, bucket.sample_count)


def _of_texts(stats: Sequence[_Stats], common: Sequence[statistics_pb2.CommonStatistics]) -> dict[str, Any]:
    counts: collections.Counter[str] = collections.Counter()
    complete = True
    for one, about in zip(stats, common, strict=True):
        found = {bucket.label: round(bucket.sample_count) for bucket in one.string_stats.rank_histogram.buckets}
        counts.update(found)
        values = about.tot_num_values or round(about.num_non_missing * about.avg_num_values)
        complete &= one.HasField("string_stats") and sum(found.values()) == values
    distinct, error = _distinct(stats, common, len(counts) if complete else None)
    return {
        "counts": dict(sorted(counts.items())),
        "complete": complete and bool(counts),
        "invalid_utf8": sum(one.string_stats.invalid_utf8_count for one in stats),
        "distinct": distinct,
        "distinct_error": error,
    }


def _distinct(
    stats: Sequence[_Stats], common: Sequence[statistics_pb2.CommonStatistics], counted: int | None
) -> tuple[float | None, float]:
    """Returns the number of distinct values and its error; of several datasets, only where all values are counted."""
    if counted is not None:
        return counted, 0.0
    told = [one for one, about in zip(stats, common, strict=True) if about.num_non_missing]
    if len(told) != 1:
        return None, 0.0
    custom = _custom(told[0])
    if "distinct" in custom:
        return custom["distinct"].num, custom["distinct_error"].num if "distinct_error" in custom else math.inf
    if told[0].WhichOneof("stats") in ("string_stats", "bytes_stats"):
        # TFDV says nothing of the error of its sketch.
        return getattr(told[0], told[0].WhichOneof("stats")).unique, math.inf
    return None, 0.0


def _of_custom(stats: Sequence[_Stats]) -> dict[str, Any]:
    customs = [_custom(one) for one in stats]
    lengths = [
        (one["min_length"].num, one["max_length"].num) for one in customs if {"min_length", "max_length"} <= set(one)
    ]
    return {
        "lengths": (round(min(low for low, _ in lengths)), round(max(high for _, high in lengths)))
        if len(lengths) == len(customs)
        else None,
        "nulls": round(sum(_number(one, "num_null_in_list") for one in stats)),
        "patterns": _sum_ranks(customs, "patterns") if all("patterns" in one for one in customs) else None,
        "missing_with": _sum_ranks(customs, "missing_with"),
        "domain": next((one["domain_info"].str for one in customs if "domain_info" in one), ""),
    }


def _sum_ranks(customs: Sequence[Mapping[str, statistics_pb2.CustomStatistic]], name: str) -> dict[str, int]:
    counts: collections.Counter[str] = collections.Counter()
    for custom in customs:
        if name in custom:
            counts.update({one.label: round(one.sample_count) for one in custom[name].rank_histogram.buckets})
    return dict(sorted(counts.items()))
