"""What the jobs about statistics share: files of statistics, what is told of a column, the report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.paths import unreadable
from penstock.io.schema import named_features
from pipelines._cli.named import statistics_files

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList
Dataset: TypeAlias = statistics_pb2.DatasetFeatureStatistics
Feature: TypeAlias = statistics_pb2.FeatureNameStatistics

# What a kind of column can hold, beside itself: an INT can be read as a FLOAT.
_WIDER = {
    schema_pb2.INT: (schema_pb2.FLOAT, schema_pb2.BYTES),
    schema_pb2.FLOAT: (schema_pb2.BYTES,),
}


def read_statistics(value: str, flag: str = "") -> Statistics:
    """Reads the statistics that a flag names: a file, or those of all rows of a dataset; also of TFDV.

    Those of the spans of a dataset are merged, which gives what one run over all rows would have computed.

    Raises:
      ConfigError: if there is no such file; if those of spans were made with other options, or one has none.
      InputError: if those of a span cannot be read.
      DataError: if a file holds something else.
    """
    path, *others = statistics_files(value)
    if others:
        from penstock.transforms.statistics.statistics import merge_statistics  # loads Beam

        try:
            return merge_statistics([path, *others]).to_proto(state=False)
        except ConfigError as error:
            raise ConfigError(f"{value}: the statistics of its spans cannot be merged: {error}") from error
    try:
        with stores.open_file(path) as file:
            content = file.read()
    except OSError as error:
        raise unreadable(f"--{flag} {value}" if flag else value, error) from error
    return parse_statistics(content, path)


def parse_statistics(content: bytes, path: str) -> Statistics:
    """Returns what a file of statistics holds.

    Raises:
      DataError: if that is something else.
    """
    try:
        found = Statistics.FromString(content)
    except DecodeError as error:
        raise DataError(f"{path}: is no file of statistics (a DatasetFeatureStatisticsList): {error}") from error
    if not found.datasets:
        raise DataError(f"{path}: holds statistics of nothing; name a file that penstock profile or TFDV has written")
    return found


def reading_schema(inferred: schema_pb2.Schema, wanted: schema_pb2.Schema) -> schema_pb2.Schema:
    """The schema by which rows are read that are to be checked against another one.

    A column has the kind that the other schema says where it can hold all of its values, else its own, so that the
    check finds what is wrong with it, and not a reader.
    """
    kinds = {name: feature.type for name, feature in named_features(wanted).items()}
    schema = schema_pb2.Schema()
    schema.CopyFrom(inferred)
    for name, feature in named_features(schema).items():
        if kinds.get(name) in _WIDER.get(feature.type, ()):
            feature.type = kinds[name]
    return schema


def feature_path(feature: Feature) -> str:
    """The name of a column, as the rows have it."""
    return feature.name or ".".join(feature.path.step)


def custom(feature: Feature) -> Mapping[str, float]:
    """The numbers that tensorflow_metadata has no field for, by name."""
    return {stat.name: stat.num for stat in feature.custom_stats if stat.WhichOneof("val") == "num"}


def column_summary(feature: Feature) -> dict[str, Any]:
    """What is told of a column in a line; None where it has no such number.

    `missing` is the fraction of rows without a value; `avg_values` how many values a row has that has some, of lists;
    `top` the most frequent value and its rows.
    """
    kind = feature.WhichOneof("stats")
    stats = getattr(feature, kind) if kind else None
    missing, present = (stats.common_stats.num_missing, stats.common_stats.num_non_missing) if stats else (0, 0)
    numbers = feature.num_stats if kind == "num_stats" else None
    distinct = custom(feature).get("distinct")
    if distinct is None and stats is not None and kind in ("string_stats", "bytes_stats"):
        distinct = stats.unique
    return {
        "column": feature_path(feature),
        "type": Feature.Type.Name(feature.type),
        "rows": missing + present,
        "missing": missing / (missing + present) if missing + present else 0.0,
        "distinct": None if distinct is None else round(distinct),
        "min": numbers.min if numbers else None,
        "median": numbers.median if numbers else None,
        "mean": numbers.mean if numbers else None,
        "max": numbers.max if numbers else None,
        "std_dev": numbers.std_dev if numbers else None,
        "zeros": numbers.num_zeros if numbers else None,
        "avg_values": stats.common_stats.avg_num_values if stats and stats.common_stats.max_num_values > 1 else None,
        "avg_length": feature.string_stats.avg_length if kind == "string_stats" else None,
        "top": _top(feature),
    }


def _top(feature: Feature) -> list[Any] | None:
    if feature.WhichOneof("stats") != "string_stats" or not feature.string_stats.top_values:
        return None
    top = feature.string_stats.top_values[0]
    return [top.value, round(top.frequency)]


def dataset_summaries(statistics: Statistics) -> list[dict[str, Any]]:
    """Of each dataset its `name`, `rows`, and `columns` (`column_summary`)."""
    return [
        {"name": one.name, "rows": one.num_examples, "columns": [column_summary(found) for found in one.features]}
        for one in statistics.datasets
    ]


def by_name(statistics: Statistics) -> dict[str, Dataset]:
    """The statistics by the names of datasets."""
    return {one.name: one for one in statistics.datasets}


def pairs(before: Statistics, after: Statistics, names: str | None) -> Iterator[tuple[Dataset, Dataset]]:
    """The statistics that are compared: of the names that are given, of all that both have, or the only ones.

    Raises:
      ConfigError: if there are none; says which there are.
    """
    left, right = by_name(before), by_name(after)
    if names is not None:
        first, _, second = names.partition(",")
        yield _named(left, first, "A"), _named(right, second or first, "B")
        return
    common = [name for name in left if name in right]
    if common:
        yield from ((left[name], right[name]) for name in common)
    elif len(left) == len(right) == 1:
        yield next(iter(left.values())), next(iter(right.values()))
    else:
        raise ConfigError(
            f"A has statistics of {_listed(left)}, B of {_listed(right)}: say with --datasets which to compare"
        )


def _named(datasets: Mapping[str, Dataset], name: str, what: str) -> Dataset:
    if name not in datasets:
        raise ConfigError(f"--datasets {name}: {what} has statistics of {_listed(datasets)}")
    return datasets[name]


def _listed(names: Mapping[str, Any], limit: int = 10) -> str:
    shown = list(names)[:limit]
    return ", ".join([*shown, *(["..."] if len(names) > limit else [])])


def only(dataset: Dataset) -> Statistics:
    """A list of one dataset."""
    return Statistics(datasets=[dataset])


def write_report(path: str | None, **parts: Any) -> str | None:
    """Writes a report of these parts to a file, if there is one; returns its path."""
    if path is None:
        return None
    from penstock.transforms.report.report import Report

    Report(**parts).write(path)
    return path


def finding_fields(finding: Any) -> dict[str, Any]:
    """A finding as JSON has it."""
    return {
        "severity": finding.severity.name.lower(),
        "subject": finding.subject,
        "code": finding.code,
        "title": finding.title,
        "expected": finding.expected,
        "seen": finding.seen,
        "rows": finding.rows,
        "example": finding.example or None,
        "fix": finding.fix or None,
        "dataset": finding.dataset,
    }


def first_sentences(findings: Sequence[Any], limit: int = 3) -> str:
    """The first findings in words, and how many more there are."""
    told = [f"{finding.subject}: {finding.title} ({finding.text})" for finding in findings[:limit]]
    more = [f"and {len(findings) - limit} more"] if len(findings) > limit else []
    return "; ".join([*told, *more])
