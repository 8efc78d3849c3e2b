"""The numbers of statistics that are followed over time, one row each.

===============  =======================================================================================  ======
metric           what it is                                                                               judged
===============  =======================================================================================  ======
`rows`           the rows of the dataset; its feature is empty                                            yes
`missing`        the share of rows without a value, 0 to 1                                                yes
`num_values`     the mean number of values of rows that have any                                          yes
`mean`           of finite numbers                                                                        yes
`std_dev`        their standard deviation                                                                 yes
`median`         their median                                                                             yes
`min` `max`      the least and the greatest number                                                        no
`zeros`          the share of zeros among the numbers                                                     yes
`nan`            the share of NaN among the values                                                        yes
`infinite`       the share of infinities among the values                                                 yes
`distinct`       the number of distinct values, as estimated                                              yes
`top_share`      the share of the most frequent value                                                     yes
`avg_length`     the mean length of texts, characters, or of bytes                                        yes
`invalid_utf8`   the share of values that are not UTF-8                                                   yes
===============  =======================================================================================  ======

The least and the greatest value of many rows have no scale of their own: one row moves them. They are kept and drawn,
and nothing is said of them. A metric that the statistics do not have (`mean` of texts, or of no value) has no row.
"""

import dataclasses
import datetime
import math
from collections.abc import Iterator, Mapping

import pyarrow as pa
from tensorflow_metadata.proto.v0 import statistics_pb2

# The metrics, in the order in which they are shown: whether one is a share, and whether it is judged.
METRICS: Mapping[str, "Metric"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """What is known of a metric beforehand.

    Attributes:
      share: whether it is a share of rows or values, from 0 to 1.
      judged: whether `penstock.transforms.history.leaving` looks at it.
    """

    share: bool = False
    judged: bool = True


METRICS = {
    "rows": Metric(),
    "missing": Metric(share=True),
    "num_values": Metric(),
    "mean": Metric(),
    "std_dev": Metric(),
    "median": Metric(),
    "min": Metric(judged=False),
    "max": Metric(judged=False),
    "zeros": Metric(share=True),
    "nan": Metric(share=True),
    "infinite": Metric(share=True),
    "distinct": Metric(),
    "top_share": Metric(share=True),
    "avg_length": Metric(),
    "invalid_utf8": Metric(share=True),
}

_TIME = pa.timestamp("us", "UTC")

# A row is the value of one metric at one point.
SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("window_start", _TIME),
        pa.field("window_end", _TIME),
        pa.field("created", _TIME, nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("feature", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)

Window = tuple[datetime.datetime, datetime.datetime]


def metrics_table(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    run: str,
    created: datetime.datetime,
    window: Window | None = None,
) -> pa.Table:
    """Returns the metrics of statistics as rows of `SCHEMA`.

    Args:
      statistics: of one run, or of one window; its datasets are the splits and slices.
      run: the id of the run.
      created: when the statistics were made; with a time zone.
      window: start and end of the window that they are of, with a time zone; None for a whole run.
    """
    rows = [
        (dataset.name, feature, metric, value)
        for dataset in statistics.datasets
        for feature, metric, value in _of_dataset(dataset)
    ]
    start, end = window or (None, None)
    columns = [
        pa.array([constant] * len(rows), SCHEMA.field(name).type)
        for name, constant in (("run", run), ("window_start", start), ("window_end", end), ("created", created))
    ]
    columns += [pa.array([row[i] for row in rows], SCHEMA.field(4 + i).type) for i in range(4)]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _of_dataset(dataset: statistics_pb2.DatasetFeatureStatistics) -> Iterator[tuple[str, str, float]]:
    yield "", "rows", float(dataset.num_examples)
    for stats in dataset.features:
        name = ".".join(stats.path.step) if stats.HasField("path") else stats.name
        for metric, value in _of_feature(stats):
            if math.isfinite(value):
                yield name, metric, value


def _of_feature(stats: statistics_pb2.FeatureNameStatistics) -> Iterator[tuple[str, float]]:
    kind = stats.WhichOneof("stats")
    if kind is None:
        return
    common = getattr(stats, kind).common_stats
    rows = common.num_non_missing + common.num_missing
    if rows:
        yield "missing", common.num_missing / rows
    values = common.tot_num_values or common.num_non_missing * common.avg_num_values
    if common.num_non_missing:
        yield "num_values", values / common.num_non_missing
    if not values:
        return
    custom = {one.name: one for one in stats.custom_stats}
    if kind == "num_stats":
        yield from _of_numbers(stats.num_stats, custom, values)
    elif kind == "string_stats":
        yield from _of_texts(stats.string_stats, values)
    elif kind == "bytes_stats":
        yield "avg_length", stats.bytes_stats.avg_num_bytes
    yield from _of_distinct(stats, custom)


def _of_numbers(
    numbers: statistics_pb2.NumericStatistics,
    custom: Mapping[str, statistics_pb2.CustomStatistic],
    values: float,
) -> Iterator[tuple[str, float]]:
    nan = custom["num_nan"].num if "num_nan" in custom else max((one.num_nan for one in numbers.histograms), default=0)
    infinite = [custom[name].num for name in ("num_positive_infinity", "num_negative_infinity") if name in custom]
    yield "nan", nan / values
    if infinite:
        yield "infinite", sum(infinite) / values
    yield "zeros", numbers.num_zeros / values
    if values > nan + sum(infinite):
        for name in ("mean", "std_dev", "median", "min", "max"):
            yield name, getattr(numbers, name)


def _of_texts(texts: statistics_pb2.StringStatistics, values: float) -> Iterator[tuple[str, float]]:
    yield "avg_length", texts.avg_length
    yield "invalid_utf8", texts.invalid_utf8_count / values
    top = max((bucket.sample_count for bucket in texts.rank_histogram.buckets), default=0)
    if top:
        yield "top_share", top / values


def _of_distinct(
    stats: statistics_pb2.FeatureNameStatistics, custom: Mapping[str, statistics_pb2.CustomStatistic]
) -> Iterator[tuple[str, float]]:
    if "distinct" in custom:
        yield "distinct", custom["distinct"].num
    elif stats.WhichOneof("stats") in ("string_stats", "bytes_stats"):
        yield "distinct", float(getattr(stats, stats.WhichOneof("stats")).unique)
