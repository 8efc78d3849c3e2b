"""Statistics as checks read them: a dataset, its features by path, their counts.

Meaning and defaults are those of TFDV 1.16: where all features have weighted statistics, counts are weighted; numbers
of values are those of each level of nesting; texts and bytes are one type of the schema; a feature without statistics
is not there.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

Path: TypeAlias = tuple[str, ...]
Stats: TypeAlias = statistics_pb2.FeatureNameStatistics

# TFDV's name of a dataset without splits or slices.
ALL_EXAMPLES = "All Examples"

_KINDS = ("num_stats", "string_stats", "bytes_stats", "struct_stats")
_TYPES = {
    Stats.INT: schema_pb2.INT,
    Stats.FLOAT: schema_pb2.FLOAT,
    Stats.STRING: schema_pb2.BYTES,
    Stats.BYTES: schema_pb2.BYTES,
    Stats.STRUCT: schema_pb2.STRUCT,
}
_PLAIN_STEP = re.compile(r"\([^()]*\)|[^().']+")


def path_text(path: Path) -> str:
    """Spells a path as TFDV does: steps joined by dots, a step with dots, quotes or parentheses in quotes.

    >>> path_text(("a", "b.c"))
    "a.'b.c'"
    """
    return ".".join(step if _PLAIN_STEP.fullmatch(step) else "'" + step.replace("'", "''") + "'" for step in path)


class FeatureView:
    """The statistics of one feature.

    Attributes:
      proto: the message.
      path: its steps.
      dataset: the dataset that it belongs to.
    """

    def __init__(self, proto: Stats, dataset: "DatasetView"):
        """Keeps the message."""
        self.proto = proto
        self.dataset = dataset
        self.path: Path = tuple(proto.path.step) if proto.WhichOneof("field_id") == "path" else (proto.name,)

    @property
    def type(self) -> int:
        """The type in the statistics, such as `FeatureNameStatistics.STRING`."""
        return self.proto.type

    @property
    def schema_type(self) -> int:
        """The type in a schema, such as `schema_pb2.BYTES`."""
        return _TYPES.get(self.proto.type, schema_pb2.TYPE_UNKNOWN)

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers, and no categories."""
        return self.proto.HasField("num_stats")

    @property
    def common(self) -> statistics_pb2.CommonStatistics:
        """Counts that all types have."""
        kind = self.proto.WhichOneof("stats")
        return getattr(self.proto, kind).common_stats

    @property
    def present(self) -> float:
        """In how many rows there is a value, weighted where the dataset is."""
        common = self.common
        return common.weighted_common_stats.num_non_missing if self.dataset.is_weighted else common.num_non_missing

    @property
    def missing(self) -> float:
        """In how many rows there is none, weighted where the dataset is."""
        common = self.common
        return common.weighted_common_stats.num_missing if self.dataset.is_weighted else common.num_missing

    @property
    def fraction_present(self) -> float:
        """The part of the rows that have a value."""
        return 1.0 if self.missing == 0 else self.present / self.dataset.examples

    @property
    def missing_by_level(self) -> list[float]:
        """How many rows, or lists of the level above, have no list, for each level of nesting."""
        common = self.common
        levels = (
            common.weighted_presence_and_valency_stats
            if self.dataset.is_weighted
            else common.presence_and_valency_stats
        )
        return [level.num_missing for level in levels] or [self.missing]

    @property
    def value_counts(self) -> list[tuple[int, int]]:
        """The least and the greatest number of values, for each level of nesting."""
        common = self.common
        levels = common.presence_and_valency_stats or [common]
        return [(max(level.min_num_values, 0), level.max_num_values) for level in levels]

    @property
    def total_values(self) -> float:
        """How many values there are in all rows."""
        common = self.common
        if self.dataset.is_weighted:
            return common.weighted_common_stats.tot_num_values
        return common.tot_num_values or common.num_non_missing * common.avg_num_values

    @functools.cached_property
    def values(self) -> dict[str, float]:
        """Texts, or categories of integers, with their counts, as far as the statistics list them."""
        strings = self.proto.string_stats
        ranks = strings.weighted_string_stats.rank_histogram if self.dataset.is_weighted else strings.rank_histogram
        return {bucket.label: bucket.sample_count for bucket in ranks.buckets}

    @property
    def unique(self) -> int | None:
        """How many distinct values there are, where it was counted."""
        if "distinct" in self.custom:
            return int(self.custom["distinct"].num)
        return self.proto.string_stats.unique if self.proto.HasField("string_stats") else None

    @property
    def unique_error(self) -> float:
        """The relative standard error of `unique`; 0 if it is exact."""
        return self.custom["distinct_error"].num if "distinct_error" in self.custom else 0.0

    @functools.cached_property
    def custom(self) -> Mapping[str, statistics_pb2.CustomStatistic]:
        """What TFDV's statistics lack, by name."""
        return {statistic.name: statistic for statistic in self.proto.custom_stats}

    def histogram(self, kind: int) -> statistics_pb2.Histogram | None:
        """Returns the histogram of a type, such as `Histogram.QUANTILES`."""
        numbers = self.proto.num_stats
        histograms = numbers.weighted_numeric_stats.histograms if self.dataset.is_weighted else numbers.histograms
        return next((histogram for histogram in histograms if histogram.type == kind), None)


class DatasetView:
    """The statistics of one dataset: of a split, a slice, or all rows.

    Attributes:
      proto: the message.
      is_weighted: whether counts are weighted.
      features: those that have statistics, by path, in their order.
    """

    def __init__(self, proto: statistics_pb2.DatasetFeatureStatistics, is_weighted: bool | None = None):
        """Looks into the features.

        Args:
          proto: the message.
          is_weighted: whether counts are weighted; None says so where all features have weights.
        """
        self.proto = proto
        self.is_weighted = _has_weights(proto) if is_weighted is None else is_weighted
        known = (feature for feature in proto.features if feature.WhichOneof("stats") or feature.custom_stats)
        views = (FeatureView(feature, self) for feature in known)
        self.features: dict[Path, FeatureView] = _nested({view.path: view for view in views})

    @property
    def name(self) -> str:
        """The name of the split or slice."""
        return self.proto.name

    @property
    def examples(self) -> float:
        """How many rows there are, weighted or not."""
        return self.proto.weighted_num_examples if self.is_weighted else self.proto.num_examples

    def leaves(self) -> Iterator[FeatureView]:
        """Yields the features that have values of their own: no structs, and no views of other features."""
        plain = (view for view in self.features.values() if view.type != Stats.STRUCT)
        return (view for view in plain if view.proto.WhichOneof("stats"))


def _has_weights(proto: statistics_pb2.DatasetFeatureStatistics) -> bool:
    """Whether weighted statistics are there, of each feature, as TFDV asks."""
    if proto.weighted_num_examples == 0:
        return False
    commons = [
        getattr(feature, kind).common_stats for feature in proto.features if (kind := feature.WhichOneof("stats"))
    ]
    return all(
        common.HasField("weighted_common_stats")
        and len(common.presence_and_valency_stats) == len(common.weighted_presence_and_valency_stats)
        for common in commons
    )


def _nested(views: dict[Path, FeatureView]) -> dict[Path, FeatureView]:
    """Gives features that only have names their paths: `a.b` lies in `a` where `a` is a struct."""
    if any(view.proto.WhichOneof("field_id") == "path" for view in views.values()):
        return views
    structs = {view.path[0]: view for view in views.values() if view.type == Stats.STRUCT}
    for view in sorted(views.values(), key=lambda view: len(view.path[0])):
        name = view.path[0]
        parents = [struct for struct in structs if name.startswith(f"{struct}.")]
        if parents:
            parent = max(parents, key=len)
            view.path = (*structs[parent].path, name[len(parent) + 1 :])
    return {view.path: view for view in views.values()}


def dataset_views(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> list[DatasetView]:
    """Returns all datasets of a list, in its order."""
    return [DatasetView(proto) for proto in statistics.datasets]
