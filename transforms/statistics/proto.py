"""Statistics as TFDV's proto: `DatasetFeatureStatistics`, each field with the meaning that TFDV 1.16 gives it.

What TFDV lacks is in `custom_stats`. docs/statistics.md says how each number is defined, and where TFDV's differ.
"""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.transforms.statistics.feature import FeatureStatistics
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.presence import Lengths, Presence, Valency
from penstock.transforms.statistics.sketches import (
    WEIGHT_UNIT,
    NumberSketch,
    QuantileSketch,
    TextSketch,
    WeightedNumbers,
)
from penstock.transforms.statistics.values import BYTES, FLOAT, INT, STRING, STRUCT

Floats = npt.NDArray[np.float64]
Histogram: TypeAlias = statistics_pb2.Histogram

# Buckets of the custom statistic `distribution`.
_DISTRIBUTION_BUCKETS = 100
# Features that are missing together with one are listed up to so many.
_MISSING_WITH = 20
# Values of a smaller weight in all are not listed.
_LEAST_FREQUENCY = 1


def dataset_proto(table: Any, name: str) -> statistics_pb2.DatasetFeatureStatistics:
    """Makes the proto of a `TableStatistics`, without its state; features are sorted by name."""
    proto = statistics_pb2.DatasetFeatureStatistics(
        name=name, num_examples=table.rows, weighted_num_examples=table.weight.value
    )
    for feature in sorted(table.features):
        message = proto.features.add()
        _fill_feature(message, table.features[feature], table)
        _add_relations(message, feature, table)
    numeric = [name for name, feature in table.features.items() if feature.type in (INT, FLOAT)]
    for pair in table.numeric.covariances(numeric):
        cross = proto.cross_features.add(count=pair.count)
        cross.path_x.step.append(pair.first)
        cross.path_y.step.append(pair.second)
        cross.num_cross_stats.covariance = pair.covariance
        if not math.isnan(pair.correlation):
            cross.num_cross_stats.correlation = pair.correlation
    return proto


def _fill_feature(message: statistics_pb2.FeatureNameStatistics, feature: FeatureStatistics, table: Any) -> None:
    options = table.options
    message.path.step.append(feature.name)
    message.type = feature.type
    weight = table.weight.value if options.weight is not None else None
    if feature.type == STRUCT:
        common = message.struct_stats.common_stats
    elif feature.type == BYTES:
        common = message.bytes_stats.common_stats
        _fill_bytes(message, feature)
    elif feature.is_named:
        common = message.string_stats.common_stats
        _fill_strings(message, feature, options)
    else:
        common = message.num_stats.common_stats
        _fill_numbers(message, feature, options)
    _fill_common(common, feature.presence, table.rows, weight, options.length_buckets)
    _add_levels(message, feature.presence.levels, options.length_buckets)
    if feature.type != STRUCT:
        _add_distinct(message, feature)
    if feature.nulls:
        _add_number(message, "num_null_in_list", feature.nulls)


def _fill_common(
    common: statistics_pb2.CommonStatistics, presence: Presence, rows: int, weight: float | None, buckets: int
) -> None:
    lengths = presence.rows.lengths
    common.num_non_missing = presence.rows.present
    common.num_missing = rows - presence.rows.present
    if lengths.least is not None and lengths.most is not None:
        common.min_num_values, common.max_num_values = lengths.least, lengths.most
        common.tot_num_values = lengths.total
        common.avg_num_values = lengths.total / presence.rows.present
        common.num_values_histogram.CopyFrom(_lengths_histogram(lengths, buckets))
    before = rows
    for level in presence.levels:
        common.presence_and_valency_stats.append(_level_proto(level, before))
        before = level.lengths.total
    if weight is not None:
        common.weighted_common_stats.CopyFrom(_weighted_proto(presence.rows, weight))
        before_weight = weight
        for level in presence.levels:
            common.weighted_presence_and_valency_stats.append(_weighted_proto(level, before_weight))
            before_weight = level.weighted_values.value


def _level_proto(level: Valency, before: int) -> statistics_pb2.PresenceAndValencyStatistics:
    """Makes the counts of one level of lists; `before` is how many values the level outside has."""
    proto = statistics_pb2.PresenceAndValencyStatistics(
        num_non_missing=level.present, num_missing=before - level.present
    )
    if level.lengths.least is not None and level.lengths.most is not None:
        proto.min_num_values, proto.max_num_values = level.lengths.least, level.lengths.most
        proto.tot_num_values = level.lengths.total
    return proto


def _weighted_proto(level: Valency, before: float) -> statistics_pb2.WeightedCommonStatistics:
    present, values = level.weight.value, level.weighted_values.value
    return statistics_pb2.WeightedCommonStatistics(
        num_non_missing=present,
        num_missing=before - present,
        tot_num_values=values,
        avg_num_values=values / present if present else 0,
    )


def _lengths_histogram(lengths: Lengths, buckets: int) -> Histogram:
    borders = np.array(lengths.quantiles(buckets))
    return _quantiles_histogram(borders, lengths.ranks(borders))


def _add_levels(message: statistics_pb2.FeatureNameStatistics, levels: list[Valency], buckets: int) -> None:
    """Adds how long the lists of the inner levels are; the outermost level is in the common statistics."""
    for number, level in enumerate(levels[1:], start=2):
        if level.lengths.count:
            custom = message.custom_stats.add(name=f"level_{number}_value_list_length_quantiles")
            custom.histogram.CopyFrom(_lengths_histogram(level.lengths, buckets))


def _fill_numbers(
    message: statistics_pb2.FeatureNameStatistics, feature: FeatureStatistics, options: StatisticsOptions
) -> None:
    stats, numbers = message.num_stats, feature.numbers
    if numbers is None or not numbers.count:
        return
    if numbers.count > numbers.nan:
        _fill_moments(stats, numbers)
        stats.histograms.append(_standard_histogram(numbers, numbers.quantiles, 1.0, options.histogram_buckets))
        _add_point(stats.histograms[0], -math.inf, numbers.negative_infinity)
        _add_point(stats.histograms[0], math.inf, numbers.positive_infinity)
        stats.histograms.append(_equal_masses(numbers.quantiles, 1.0, options.quantile_buckets))
        if feature.weighted is not None:
            _fill_weighted(stats, numbers, feature.weighted, options)
    else:
        stats.histograms.add(type=Histogram.STANDARD)
        stats.histograms.add(type=Histogram.QUANTILES)
    for histogram in (*stats.histograms, *stats.weighted_numeric_stats.histograms):
        histogram.num_nan = numbers.nan
    _add_number_details(message, numbers)


def _fill_moments(stats: statistics_pb2.NumericStatistics, numbers: NumberSketch) -> None:
    stats.mean, stats.std_dev, stats.num_zeros = numbers.mean, numbers.std_dev, numbers.zeros
    stats.min, stats.max = _as_float(numbers.min), _as_float(numbers.max)
    stats.median = numbers.quantiles.quantile(0.5)


def _as_float(bound: int | float | None) -> float:
    return math.nan if bound is None else float(bound)


def _fill_weighted(
    stats: statistics_pb2.NumericStatistics,
    numbers: NumberSketch,
    weighted: WeightedNumbers,
    options: StatisticsOptions,
) -> None:
    proto, quantiles = stats.weighted_numeric_stats, weighted.quantiles
    if not quantiles.count:
        return
    proto.mean, proto.std_dev, proto.median = weighted.mean, weighted.std_dev, quantiles.quantile(0.5)
    proto.histograms.append(_standard_histogram(numbers, quantiles, WEIGHT_UNIT, options.histogram_buckets))
    proto.histograms.append(_equal_masses(quantiles, WEIGHT_UNIT, options.quantile_buckets))


def _standard_histogram(numbers: NumberSketch, quantiles: QuantileSketch, unit: float, buckets: int) -> Histogram:
    """Makes buckets of equal width from the least to the greatest finite number; one if they are the same."""
    histogram = Histogram(type=Histogram.STANDARD)
    if not numbers.finite:
        return histogram
    least, most = _as_float(numbers.finite_min), _as_float(numbers.finite_max)
    shares = np.linspace(0, 1, buckets + 1) if least < most else np.array([0.0, 1.0])
    # Their difference may be beyond floats.
    edges = least * (1 - shares) + most * shares
    edges[0], edges[-1] = least, most
    return _filled(histogram, edges[:-1], edges[1:], quantiles.histogram(edges) * unit)


def _filled(histogram: Histogram, lows: Floats, highs: Floats, masses: npt.NDArray[Any]) -> Histogram:
    """Adds buckets."""
    for low, high, mass in zip(lows.tolist(), highs.tolist(), masses.tolist(), strict=True):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=mass)
    return histogram


def _add_point(histogram: Histogram, value: float, count: int) -> None:
    """Adds the bucket of an infinity in its order, if there are any."""
    if not count:
        return
    buckets = list(histogram.buckets)
    point = Histogram.Bucket(low_value=value, high_value=value, sample_count=count)
    del histogram.buckets[:]
    histogram.buckets.extend([point, *buckets] if value < 0 else [*buckets, point])


def _equal_masses(quantiles: QuantileSketch, unit: float, buckets: int) -> Histogram:
    borders = quantiles.quantiles(buckets)
    return _quantiles_histogram(borders, quantiles.ranks(borders) * unit)


def _quantiles_histogram(borders: Floats, ranks: Floats) -> Histogram:
    """Makes buckets of about equal mass between quantiles.

    The masses are those up to and including each border, `ranks`. Where one number makes up several buckets, they share
    its mass evenly; those that begin at the least number have its mass, as in TFDV.
    """
    histogram = Histogram(type=Histogram.QUANTILES)
    lows, highs = borders[:-1], borders[1:]
    _, groups, sizes = np.unique(highs, return_inverse=True, return_counts=True)
    masses = (np.bincount(groups, np.diff(ranks)) / sizes)[groups]
    first = (lows == lows[0]) & (highs == highs[0])
    masses[first] += ranks[0] / np.count_nonzero(first)
    return _filled(histogram, lows, highs, masses)


def _add_number_details(message: statistics_pb2.FeatureNameStatistics, numbers: NumberSketch) -> None:
    _add_number(message, "num_nan", numbers.nan)
    _add_number(message, "num_positive_infinity", numbers.positive_infinity)
    _add_number(message, "num_negative_infinity", numbers.negative_infinity)
    if not numbers.finite:
        return
    _add_number(message, "sum", numbers.sum)
    message.custom_stats.add(name="distribution").histogram.CopyFrom(_distribution(numbers.quantiles))
    _add_number(message, "quantile_error", numbers.quantiles.error)


def _distribution(quantiles: QuantileSketch) -> Histogram:
    """Makes up to 100 buckets of about equal mass.

    A number that makes up more has a bucket of its own, and all masses are exact: that is what distances need.
    """
    histogram = Histogram(type=Histogram.QUANTILES)
    lows, highs, counts = quantiles.buckets()
    ends = np.cumsum(counts)
    middles = ends - counts / 2
    groups = np.minimum(middles * _DISTRIBUTION_BUCKETS // ends[-1], _DISTRIBUTION_BUCKETS - 1)
    firsts = np.flatnonzero(np.diff(groups, prepend=-1))
    lasts = np.append(firsts[1:], len(groups)) - 1
    return _filled(histogram, lows[firsts], highs[lasts], np.add.reduceat(counts, firsts))


def _fill_strings(
    message: statistics_pb2.FeatureNameStatistics, feature: FeatureStatistics, options: StatisticsOptions
) -> None:
    stats = message.string_stats
    if feature.named_count:
        stats.avg_length = feature.named_bytes / feature.named_count
    stats.unique = feature.distinct.estimate
    limit = max(options.top_values, options.rank_values)
    _fill_top(stats, feature.ranked(limit), options)
    if options.weight is not None:
        _fill_top(stats.weighted_string_stats, feature.weighted_ranked(limit), options)
    if feature.texts is not None and feature.texts.count:
        stats.invalid_utf8_count = feature.texts.invalid_utf8
        _add_text_details(message, feature.texts, options)
        _add_number(message, "long_texts", feature.long_texts)
        _add_number(message, "frequency_error", feature.frequency_error)
    if feature.type == STRING and feature.numbers is not None:
        _add_number(message, "num_numbers", feature.numbers.count)


def _fill_top(
    stats: statistics_pb2.StringStatistics | statistics_pb2.WeightedStringStatistics,
    ranked: list[tuple[str, float]],
    options: StatisticsOptions,
) -> None:
    ranked = [(value, count) for value, count in ranked if count >= _LEAST_FREQUENCY]
    for value, count in ranked[: options.top_values]:
        stats.top_values.add(value=value, frequency=count)
    for rank, (value, count) in enumerate(ranked[: options.rank_values]):
        stats.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=value, sample_count=count)


def _add_text_details(
    message: statistics_pb2.FeatureNameStatistics, texts: TextSketch, options: StatisticsOptions
) -> None:
    _add_number(message, "min_length", texts.min_length or 0)
    _add_number(message, "max_length", texts.max_length or 0)
    histogram = _equal_masses(texts.lengths, 1.0, options.length_buckets)
    message.custom_stats.add(name="length_histogram").histogram.CopyFrom(histogram)
    _add_number(message, "invalid_utf8", texts.invalid_utf8)
    patterns = sorted(((count, name) for name, count in texts.patterns.items() if count), key=lambda item: -item[0])
    if patterns:
        ranks = message.custom_stats.add(name="patterns").rank_histogram
        for rank, (count, name) in enumerate(patterns):
            ranks.buckets.add(low_rank=rank, high_rank=rank, label=name, sample_count=count)


def _fill_bytes(message: statistics_pb2.FeatureNameStatistics, feature: FeatureStatistics) -> None:
    stats, texts = message.bytes_stats, feature.texts
    stats.unique = feature.distinct.estimate
    if texts is not None and texts.count:
        stats.avg_num_bytes = texts.bytes / texts.count
        stats.min_num_bytes = texts.min_bytes
        stats.max_num_bytes = stats.max_num_bytes_int = texts.max_bytes


def _add_distinct(message: statistics_pb2.FeatureNameStatistics, feature: FeatureStatistics) -> None:
    _add_number(message, "distinct", feature.distinct.estimate)
    _add_number(message, "distinct_error", feature.distinct.error)


def _add_relations(message: statistics_pb2.FeatureNameStatistics, name: str, table: Any) -> None:
    """Adds what a column has to do with others."""
    missing = table.present.missing_with(name, table.rows)
    ranked = sorted(missing.items(), key=lambda item: (-item[1], item[0]))[:_MISSING_WITH]
    if ranked:
        histogram = message.custom_stats.add(name="missing_with").rank_histogram
        for rank, (other, count) in enumerate(ranked):
            histogram.buckets.add(low_rank=rank, high_rank=rank, label=other, sample_count=count)
    if name in table.joints and table.options.label is not None:
        label = table.features[table.options.label]
        information = table.joints[name].mutual_information(table.features[name].is_ordered, label.is_ordered)
        if not math.isnan(information):
            _add_number(message, "mutual_information", information)


def _add_number(message: statistics_pb2.FeatureNameStatistics, name: str, value: float) -> None:
    message.custom_stats.add(name=name, num=value)
