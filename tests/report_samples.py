"""Protos and rows that reports are made of, by numpy alone: what a report shows must not depend on who has counted."""

import datetime
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, path_pb2, schema_pb2, statistics_pb2

from penstock.io.dataset.windowed.manifest import WindowManifest

# Each of these would be markup, a script, a request, or another order of what is beside it, if it were not text.
HOSTILE = (
    "<script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    '"><svg onload=window.hit=1>',
    "' onmouseover='window.hit=1",
    "<!--<script>",
    "]]>",
    "{{ 7*7 }}",
    "${window.hit=1}",
    "javascript:window.hit=1",
    "http://example.com/pixel.png",
    "&lt;b&gt;",
    "a\u2028b\u2029c",
    "\u202eevil\u202c",
    "\u2066x\u2069",
    "nul\x00bell\x07",
    "line\nbreak\ttab",
    "  spaces  ",
    "",
    "__proto__",
    "constructor",
    "💩👨‍👩‍👧é",
    "x" * 5_000,
)

Column = Sequence[float | str | None]


def statistics_of(columns: Mapping[str, Column], name: str = "train") -> statistics_pb2.DatasetFeatureStatisticsList:
    """Statistics of one dataset, with the custom statistics that Penstock adds."""
    result = statistics_pb2.DatasetFeatureStatisticsList()
    add_dataset(result, columns, name)
    return result


def add_dataset(
    result: statistics_pb2.DatasetFeatureStatisticsList, columns: Mapping[str, Column], name: str
) -> statistics_pb2.DatasetFeatureStatistics:
    """Adds a dataset; columns of numbers get a correlation with each other."""
    dataset = result.datasets.add(name=name, num_examples=max((len(column) for column in columns.values()), default=0))
    for path, column in columns.items():
        feature = dataset.features.add()
        feature.path.step.append(path)
        texts = [value for value in column if isinstance(value, str)]
        if texts:
            _fill_text(feature, column, texts)
        else:
            _fill_number(feature, column)
        _fill_together(feature, path, columns)
    _fill_correlations(dataset, columns)
    return dataset


def _fill_common(common: statistics_pb2.CommonStatistics, column: Column) -> None:
    present = sum(value is not None for value in column)
    common.num_non_missing, common.num_missing, common.tot_num_values = present, len(column) - present, present
    common.min_num_values = common.max_num_values = common.avg_num_values = min(1, present)


def _fill_number(feature: statistics_pb2.FeatureNameStatistics, column: Column) -> None:
    whole = all(value is None or isinstance(value, int | np.integer) for value in column)
    feature.type = feature.INT if whole else feature.FLOAT
    _fill_common(feature.num_stats.common_stats, column)
    values = np.array([value for value in column if value is not None and math.isfinite(value)], dtype=np.float64)
    if not values.size:
        return
    stats = feature.num_stats
    stats.mean, stats.std_dev, stats.median = float(values.mean()), float(values.std()), float(np.median(values))
    stats.min, stats.max, stats.num_zeros = float(values.min()), float(values.max()), int((values == 0).sum())
    counts, edges = np.histogram(values, bins=10)
    standard = stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
    fill_buckets(standard, edges, counts)
    edges = np.quantile(values, np.linspace(0, 1, 101))
    fill_buckets(feature.custom_stats.add(name="distribution").histogram, edges, np.full(100, values.size / 100))
    feature.custom_stats.add(name="distinct", num=len(set(values)))
    feature.custom_stats.add(name="distinct_error", num=0)
    feature.custom_stats.add(name="num_nan", num=sum(value is not None and math.isnan(value) for value in column))


def fill_buckets(histogram: statistics_pb2.Histogram, edges: Sequence[float], counts: Sequence[float]) -> None:
    """Buckets side by side."""
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)


def _fill_text(feature: statistics_pb2.FeatureNameStatistics, column: Column, texts: Sequence[str]) -> None:
    feature.type = feature.STRING
    stats = feature.string_stats
    _fill_common(stats.common_stats, column)
    values, counts = np.unique(np.array(texts, dtype=object), return_counts=True)
    stats.unique, stats.avg_length = len(values), float(np.mean([len(text) for text in texts]))
    ranked = sorted(zip(values, counts, strict=True), key=lambda item: (-item[1], item[0]))
    for rank, (value, count) in enumerate(ranked[:1000]):
        # A text of a proto is UTF-8, as texts in Arrow are.
        stats.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=value, sample_count=count)
        if rank < 20:
            stats.top_values.add(value=value, frequency=count)
    lengths = [len(text) for text in texts]
    counts, edges = np.histogram(lengths, bins=10)
    fill_buckets(feature.custom_stats.add(name="length_histogram").histogram, edges, counts)
    patterns = feature.custom_stats.add(name="patterns").rank_histogram
    patterns.buckets.add(label="integer", sample_count=sum(text.isdigit() for text in texts))
    patterns.buckets.add(label="empty", sample_count=sum(text == "" for text in texts))


def _fill_together(feature: statistics_pb2.FeatureNameStatistics, path: str, columns: Mapping[str, Column]) -> None:
    missing = np.array([value is None for value in columns[path]])
    if not missing.any() or len(columns) > 50:
        return
    ranks = feature.custom_stats.add(name="missing_with").rank_histogram
    for other, column in columns.items():
        both = int((missing & np.array([value is None for value in column])).sum())
        if other != path and both:
            ranks.buckets.add(label=other, sample_count=both)


def _fill_correlations(dataset: statistics_pb2.DatasetFeatureStatistics, columns: Mapping[str, Column]) -> None:
    numbers = {
        path: np.array(column, dtype=np.float64)
        for path, column in columns.items()
        if not any(isinstance(value, str) or value is None for value in column)
    }
    paths = list(numbers)[:50]
    for place, one in enumerate(paths):
        for other in paths[:place]:
            if numbers[one].std() and numbers[other].std():
                cross = dataset.cross_features.add(count=len(numbers[one]))
                cross.path_x.step.append(one)
                cross.path_y.step.append(other)
                cross.num_cross_stats.correlation = float(np.corrcoef(numbers[one], numbers[other])[0, 1])


def small(rows: int = 500, seed: int = 7, shift: float = 0.0) -> dict[str, Column]:
    """A few columns of each kind."""
    random = np.random.default_rng(seed)
    delay = random.gamma(2, 20, rows) - 15 + shift
    missing = random.random(rows) < 0.1
    return {
        "delay": [None if gone else float(value) for gone, value in zip(missing, delay, strict=True)],
        "gain": [None if gone else float(value) for gone, value in zip(missing, delay * -0.4, strict=True)],
        "month": [int(value) for value in random.integers(1, 13, rows)],
        "day": [int(value) for value in random.integers(1, 29, rows)],
        "distance": [float(value) for value in random.lognormal(6, 0.7, rows)],
        "carrier": [str(value) for value in random.choice(["UA", "AA", "DL", "OO"], rows, p=[0.5, 0.3, 0.19, 0.01])],
        "constant": [1] * rows,
        "empty": [None] * rows,
    }


def wide(columns: int, rows: int = 200, seed: int = 1) -> dict[str, Column]:
    """As many columns as are asked for: numbers, and every fourth of texts."""
    random = np.random.default_rng(seed)
    words = [f"category {index}" for index in range(30)]
    return {
        f"feature_{index:04d}": [str(word) for word in random.choice(words, rows)]
        if index % 4 == 3
        else [float(value) for value in random.normal(index, 1 + index % 7, rows)]
        for index in range(columns)
    }


def hostile() -> dict[str, Column]:
    """Columns whose names and values are all of `HOSTILE`."""
    names = [name or "blank" for name in HOSTILE]
    return {
        name: list(HOSTILE) if index % 2 else [float(n) for n in range(len(HOSTILE))]
        for index, name in enumerate(names)
    }


def anomalies_of(**severities: str) -> anomalies_pb2.Anomalies:
    """An anomaly of each feature that is named, with its severity."""
    result = anomalies_pb2.Anomalies()
    for path, severity in severities.items():
        add_anomaly(result, path, severity)
    return result


def add_anomaly(result: anomalies_pb2.Anomalies, path: str, severity: str, text: str = "Value 13 is above 12.") -> None:
    """Adds one finding of a feature."""
    info = result.anomaly_info[path]
    info.path.CopyFrom(path_pb2.Path(step=[path]))
    info.severity = anomalies_pb2.AnomalyInfo.Severity.Value(severity)
    info.short_description, info.description = "Out of range", text
    info.reason.add(type=anomalies_pb2.AnomalyInfo.INT_TYPE_BIG_INT, short_description="Out of range", description=text)


def add_distance(result: anomalies_pb2.Anomalies, path: str, value: float, threshold: float | None) -> None:
    """Adds a Jensen-Shannon divergence from an earlier dataset."""
    info = result.drift_skew_info.add(path=path_pb2.Path(step=[path]))
    measured = info.drift_measurements.add(type=2, value=value)
    if threshold is not None:
        measured.threshold = threshold


def schema() -> schema_pb2.Schema:
    """A schema of the small columns."""
    return text_format.Parse(
        """
        feature { name: "month" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 }
                  int_domain { min: 1 max: 12 is_categorical: true } }
        feature { name: "carrier" type: BYTES domain: "carriers"
                  drift_comparator { infinity_norm { threshold: 0.01 } } }
        feature { name: "delay" type: FLOAT float_domain { min: -60 disallow_nan: true } not_in_environment: "serving" }
        string_domain { name: "carriers" value: "UA" value: "AA" value: "DL" }
        """,
        schema_pb2.Schema(),
    )


MANIFEST = {
    "version": 1,
    "dataset_id": "ab12",
    "created": "2026-01-01T00:00:00+00:00",
    "rows_in": 1000,
    "rows_out": 990,
    "rows_rejected": 10,
    "splits": {"train": 800, "eval": 190},
    "rejected_by_reason": {"schema.range": 7, "rule.fare": 4},
    "rejected_by_stage": {"schema": 6, "rule": 4},
    "notes": [{"code": "float32.rounded", "subject": "fare", "count": 12, "detail": "16777217 becomes 16777216"}],
    "provenance": {"inputs": ["flights.csv"], "options": {"seed": 0}},
}


def letter(reason: str = "schema.range", payload: str = "1,2,3", **other: object) -> dict[str, object]:
    """One line of a file of dead letters."""
    fields = {"reason": reason, "detail": "month must be at most 12, got 13", "also": [], "stage": "schema",
              "uri": "flights.csv", "position": 17, "payload": payload, "payload_encoding": "text"}  # fmt: skip
    return {**fields, **other}


def history(runs: int = 12) -> pa.Table:
    """Metrics of some runs, a day apart."""
    first = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    rows = [
        {"created": first + datetime.timedelta(days=run), "split": "train", "feature": feature, "metric": metric,
         "value": value + run}
        for run in range(runs)
        for feature, metric, value in ((None, "num_examples", 1000.0), ("delay", "mean", 12.5))
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def window(minute: int, rejected: dict[str, int], **other: object) -> WindowManifest:
    """The manifest of a window of a minute, with the rows that it rejected by reason."""
    rows = sum(rejected.values())
    fields = {
        "run_id": "run", "dataset_id": "id", "created": "2026-01-01T00:00:00Z", "windows": "fixed:1m", "final": True,
        "window": (f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00Z", f"2026-01-01T{minute // 60:02}:59:59Z"),
        "sequence": 1, "status": "published", "rows_in": 100, "rows_out": 100 - rows, "rows_rejected": rows,
        "rows_on_time": 90 - rows, "rows_late": 10, "splits": {"train": 100 - rows}, "shards": (), "dead_letters": (),
        "rejected_by_reason": rejected, "rejected_by_stage": {"schema": rows}, "inputs": (), "compression": "none",
        "shuffle": "global", "seed": 0, "num_shards": 1,
    }  # fmt: skip
    return WindowManifest(**{**fields, **other})
