"""Features of several datasets, as the page shows them: numbers, common histograms, frequent values."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from tensorflow_metadata.proto.v0 import path_pb2, statistics_pb2

from penstock.transforms.report.binning import Bins, Buckets, common_bins, quantiles
from penstock.transforms.report.definitions import METRICS
from penstock.transforms.report.text import visible

# More lines in one chart cannot be told apart.
MAX_DATASETS = 6

_BINS = 30
_TOP_VALUES = 20

# With more features than this, each shows fewer values: 2,000 features stay below 5 MB.
_MANY_FEATURES = 500
_TOP_VALUES_OF_MANY = 8

# 100 buckets bear the tails; the 10 of TFDV do not.
_FINE_SHARES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
_COARSE_SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
SHARES = (_FINE_SHARES, _COARSE_SHARES)

_KNOWN_CUSTOM = {
    "distinct": "distinct",
    "distinct_error": "distinct_error",
    "sum": "sum",
    "num_nan": "nan",
    "num_positive_infinity": "positive_infinity",
    "num_negative_infinity": "negative_infinity",
    "quantile_error": "quantile_error",
    "min_length": "least_length",
    "max_length": "greatest_length",
    "invalid_utf8": "invalid_utf8",
    "mutual_information": "mutual_information",
}
_CHARTED_CUSTOM = frozenset({"distribution", "length_histogram", "patterns", "missing_with", "state"})

_Statistics: TypeAlias = statistics_pb2.FeatureNameStatistics
_Type = statistics_pb2.FeatureNameStatistics.Type


class Dataset(NamedTuple):
    """One dataset that the page shows: its label, its number of rows, the sum of their weights if they have any."""

    label: str
    rows: int
    weight: float
    statistics: statistics_pb2.DatasetFeatureStatistics


class Ranks(NamedTuple):
    """Labels with their count in each dataset; None where it is not known."""

    key: str
    labels: list[str]
    counts: list[list[float | None] | None]


class Chart(NamedTuple):
    """A histogram of a feature, by its key in the definitions."""

    key: str
    bins: Bins


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature in all datasets.

    Attributes:
      id: its id in the page. Names cannot be ids: they may be equal once they can be seen.
      path: its name in the statistics.
      name: its name as it is shown.
      types: the type in each dataset that has it, each once.
      numbers: for each dataset its values of `METRICS`, or None if it lacks the feature.
      charts: histograms of values and lengths.
      quantiles: for each dataset an index into `SHARES`, followed by the values at those shares.
      ranks: frequent values, patterns, and features that are missing together.
      more: for each dataset what else stands in its custom statistics, as names and values.
    """

    id: str
    path: str
    name: str
    types: tuple[str, ...]
    numbers: tuple[list[float | None] | None, ...]
    charts: tuple[Chart, ...]
    quantiles: tuple[list[float] | None, ...]
    ranks: tuple[Ranks, ...]
    more: tuple[list[tuple[str, float | str]], ...]


def path_name(path: path_pb2.Path) -> str:
    """The name of a path as the statistics of flat data have it: its steps, joined by dots."""
    return ".".join(path.step)


def feature_name(feature: _Statistics) -> str:
    """The name of a feature: `name` or `path`, whichever the writer has set."""
    return path_name(feature.path) if feature.HasField("path") else feature.name


def datasets_of(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    baseline: statistics_pb2.DatasetFeatureStatisticsList | None,
) -> list[Dataset]:
    """The datasets that can be shown: those of the statistics, then those of the baseline, labelled as such."""
    found = [Dataset(visible(d.name), d.num_examples, d.weighted_num_examples, d) for d in statistics.datasets]
    before = [
        Dataset(baseline_label(visible(d.name)), d.num_examples, d.weighted_num_examples, d)
        for d in (baseline.datasets if baseline else ())
    ]
    if len(found) + len(before) <= MAX_DATASETS:
        return found + before
    # The baseline must not be crowded out by slices.
    reserved = min(len(before), MAX_DATASETS // 2)
    shown = found[: MAX_DATASETS - reserved]
    return shown + before[: MAX_DATASETS - len(shown)]


def baseline_label(label: str) -> str:
    """The label of the dataset of a baseline, from that of the dataset of the same name."""
    return f"{label} (baseline)"


def features_of(datasets: Sequence[Dataset]) -> list[Feature]:
    """The features of all datasets, in the order of the first, then what others have beside."""
    by_dataset = [{feature_name(f): f for f in dataset.statistics.features} for dataset in datasets]
    names = list(dict.fromkeys(itertools.chain.from_iterable(by_dataset)))
    limit = _TOP_VALUES if len(names) <= _MANY_FEATURES else _TOP_VALUES_OF_MANY
    return [_feature(f"f{index}", name, [found.get(name) for found in by_dataset], limit)
            for index, name in enumerate(names)]  # fmt: skip


def _feature(identity: str, path: str, found: Sequence[_Statistics | None], limit: int) -> Feature:
    types = dict.fromkeys(_Type.Name(one.type) for one in found if one)
    customs = [{custom.name: custom for custom in one.custom_stats} if one else {} for one in found]
    return Feature(
        id=identity,
        path=path,
        name=visible(path),
        types=tuple(types),
        numbers=tuple(_numbers(one, custom) if one else None for one, custom in zip(found, customs, strict=True)),
        charts=tuple(_charts(found, customs)),
        quantiles=tuple(_quantiles(one, custom) for one, custom in zip(found, customs, strict=True)),
        ranks=tuple(_ranks(found, customs, limit)),
        more=tuple(_more(custom.values()) for custom in customs),
    )


def _numbers(one: _Statistics, custom: Mapping[str, Any]) -> list[float | None]:
    """The values of `METRICS`, in their order."""
    values: dict[str, float] = {**_common(one), **_of_kind(one)}
    values |= {key: custom[name].num for name, key in _KNOWN_CUSTOM.items() if name in custom}
    return [values.get(metric.key) for metric in METRICS]


def _common(one: _Statistics) -> dict[str, float]:
    kind = one.WhichOneof("stats")
    if kind is None:
        return {}
    common = getattr(one, kind).common_stats
    rows = common.num_non_missing + common.num_missing
    values: dict[str, float] = {"present": common.num_non_missing, "missing": common.num_missing}
    if rows:
        values["missing_share"] = common.num_missing / rows
    if common.max_num_values:
        values["values"] = common.tot_num_values or common.num_non_missing * common.avg_num_values
        values |= {"least_values": common.min_num_values, "most_values": common.max_num_values}
    if common.HasField("weighted_common_stats"):
        values["weighted_missing"] = common.weighted_common_stats.num_missing
    return values


def _of_kind(one: _Statistics) -> dict[str, float]:
    match one.WhichOneof("stats"):
        case "num_stats" if one.num_stats.common_stats.num_non_missing:
            return _of_number(one.num_stats)
        case "string_stats":
            text = one.string_stats
            lengths = {"mean_length": text.avg_length} if text.common_stats.num_non_missing else {}
            return {"distinct": text.unique, "invalid_utf8": text.invalid_utf8_count, **lengths}
        case "bytes_stats":
            blob = one.bytes_stats
            longest = blob.max_num_bytes_int or blob.max_num_bytes
            lengths = {"mean_length": blob.avg_num_bytes, "least_length": blob.min_num_bytes}
            return {"distinct": blob.unique, **lengths, "greatest_length": longest}
    return {}


def _of_number(found: statistics_pb2.NumericStatistics) -> dict[str, float]:
    values: dict[str, float] = {"mean": found.mean, "std": found.std_dev, "least": found.min, "median": found.median}
    values |= {"greatest": found.max, "zeros": found.num_zeros}
    total = found.common_stats.tot_num_values or found.common_stats.num_non_missing
    values["zero_share"] = found.num_zeros / total
    if undefined := max((histogram.num_nan for histogram in found.histograms), default=0):
        values["nan"] = undefined
    if found.HasField("weighted_numeric_stats"):
        weighted = found.weighted_numeric_stats
        values |= {"weighted_mean": weighted.mean, "weighted_std": weighted.std_dev, "weighted_median": weighted.median}
    return values


def _charts(found: Sequence[_Statistics | None], customs: Sequence[Mapping[str, Any]]) -> Iterable[Chart]:
    fine = [_distribution(custom) for custom in customs]
    plain = [_histogram(one, statistics_pb2.Histogram.STANDARD) if one else None for one in found]
    sources = [a or b for a, b in zip(fine, plain, strict=True)]
    whole = all(one is None or one.type == _Statistics.INT for one in found)
    if values := common_bins(sources, _BINS if any(fine) else 10, whole):
        yield Chart("histogram", values)
    lengths = [Buckets.of(c["length_histogram"].histogram) if "length_histogram" in c else None for c in customs]
    if bins := common_bins(lengths, _BINS, whole=True):
        yield Chart("lengths", bins)


def _distribution(custom: Mapping[str, Any]) -> Buckets | None:
    return Buckets.of(custom["distribution"].histogram) if "distribution" in custom else None


def _histogram(one: _Statistics, kind: int) -> Buckets | None:
    for histogram in one.num_stats.histograms:
        if histogram.type == kind:
            return Buckets.of(histogram)
    return None


def _quantiles(one: _Statistics | None, custom: Mapping[str, Any]) -> list[float] | None:
    if one is None:
        return None
    fine, coarse = _distribution(custom), _histogram(one, statistics_pb2.Histogram.QUANTILES)
    if fine:
        return [0, *quantiles(fine, _FINE_SHARES)]
    return [1, *quantiles(coarse, _COARSE_SHARES)] if coarse else None


def _ranks(found: Sequence[_Statistics | None], customs: Sequence[Mapping[str, Any]], limit: int) -> Iterable[Ranks]:
    values = [_frequent(one) if one else None for one in found]
    patterns = [_rank_counts(custom, "patterns") for custom in customs]
    together = [_rank_counts(custom, "missing_with") for custom in customs]
    for key, counts in (("top", values), ("patterns", patterns), ("together", together)):
        if ranks := _merged(key, counts, limit):
            yield ranks


def _frequent(one: _Statistics) -> dict[str, float] | None:
    """Counts of frequent values: the rank histogram, which has more of them, or the top values."""
    text = one.string_stats
    counts = {bucket.label: bucket.sample_count for bucket in text.rank_histogram.buckets}
    return counts or {top.value: top.frequency for top in text.top_values} or None


def _rank_counts(custom: Mapping[str, Any], name: str) -> dict[str, float] | None:
    if name not in custom:
        return None
    return {bucket.label: bucket.sample_count for bucket in custom[name].rank_histogram.buckets}


def _merged(key: str, counts: Sequence[dict[str, float] | None], limit: int) -> Ranks | None:
    """The most frequent labels, by their greatest share in any dataset, so that none hides behind a larger dataset."""
    shares: dict[str, float] = {}
    for one in counts:
        whole = sum(one.values()) if one else 0
        for label, count in (one or {}).items():
            shares[label] = max(shares.get(label, 0), count / whole if whole else 0)
    labels = sorted(shares, key=lambda label: (-shares[label], label))[:limit]
    if not labels:
        return None
    return Ranks(key, [visible(label) for label in labels],
                 [[one.get(label) for label in labels] if one is not None else None for one in counts])  # fmt: skip


def _more(customs: Iterable[statistics_pb2.CustomStatistic]) -> list[tuple[str, float | str]]:
    """Numbers and texts that others have put into the custom statistics."""
    found: list[tuple[str, float | str]] = []
    for custom in customs:
        if custom.name in _KNOWN_CUSTOM or custom.name in _CHARTED_CUSTOM:
            continue
        match custom.WhichOneof("val"):
            case "num":
                found.append((visible(custom.name), custom.num))
            case "str":
                found.append((visible(custom.name), visible(custom.str)))
    return found
