"""Checks statistics: against a schema, against those of another span, and against those of what is served."""

import dataclasses
from collections.abc import Iterable
from typing import TypeAlias

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.io.errors import ConfigError
from penstock.transforms.anomalies.against_baseline import baseline_faults
from penstock.transforms.anomalies.against_schema import schema_faults
from penstock.transforms.anomalies.comparators import DRIFT, SKEW
from penstock.transforms.anomalies.context import Context
from penstock.transforms.anomalies.findings import (
    CorrelationChange,
    Distances,
    Finding,
    Findings,
    Measured,
    Reason,
    in_order,
)
from penstock.transforms.anomalies.measures.thresholds import Thresholds
from penstock.transforms.anomalies.measures.views import DatasetView, Path
from penstock.transforms.checks.environment import in_environment

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList


def check_statistics(
    statistics: Statistics,
    schema: schema_pb2.Schema | None = None,
    baseline: Statistics | None = None,
    serving: Statistics | None = None,
    environment: str | None = None,
    thresholds: Thresholds = Thresholds(),  # noqa: B008  (frozen)
) -> Findings:
    """Returns what is wrong with datasets, the gravest first.

    Each dataset of the list is checked by itself: a split or slice is compared with that of the same name in the other
    list. Where each list has only one, they are compared whatever their names are.

    Args:
      statistics: of the datasets that are checked.
      schema: what is demanded of them, with the meaning that TFDV 1.16 gives it; None demands nothing.
      baseline: of the span before. Differences are limited by `drift_comparator` of the schema, and by `thresholds`.
      serving: of what a model gets where it serves, limited by `skew_comparator` and `thresholds`.
      environment: where the datasets come from; None expects all features of the schema.
      thresholds: which differences are too small to matter.

    Raises:
      ConfigError: for an environment that the schema does not name, or a list without any dataset.
    """
    if not statistics.datasets:
        raise ConfigError("the statistics have no dataset; nothing can be checked")
    schema = schema_pb2.Schema() if schema is None else schema
    in_environment(schema, environment)
    results = [
        _check(DatasetView(proto), schema, (baseline, serving), environment, thresholds)
        for proto in statistics.datasets
    ]
    return Findings(
        in_order(finding for result in results for finding in result.findings),
        schema,
        tuple(proto.name for proto in statistics.datasets),
        tuple(proto.name for proto in statistics.datasets if not proto.num_examples),
        tuple(found for result in results for found in result.measured),
        tuple(found for result in results for found in result.distances),
        tuple(found for result in results for found in result.correlations),
    )


@dataclasses.dataclass
class _Result:
    findings: list[Finding] = dataclasses.field(default_factory=list)
    measured: list[Measured] = dataclasses.field(default_factory=list)
    distances: list[Distances] = dataclasses.field(default_factory=list)
    correlations: list[CorrelationChange] = dataclasses.field(default_factory=list)

    def take(self, items: Iterable[Finding | Measured | Distances | CorrelationChange]) -> None:
        """Keeps each with its kind."""
        for item in items:
            match item:
                case Finding():
                    self.findings.append(item)
                case Measured():
                    self.measured.append(item)
                case Distances():
                    self.distances.append(item)
                case CorrelationChange():
                    self.correlations.append(item)

    def exceeded(self, against: str) -> frozenset[Path]:
        """Returns the features that are beyond a comparator of the schema."""
        return frozenset(found.path for found in self.findings if found.code == f"schema.{against}")


def _check(
    data: DatasetView,
    schema: schema_pb2.Schema,
    others: tuple[Statistics | None, Statistics | None],
    environment: str | None,
    thresholds: Thresholds,
) -> _Result:
    result = _Result()
    previous, served = (counterpart(data, other) for other in others)
    context = Context(schema, data, previous, served, environment)
    if not data.proto.num_examples:
        result.take([_empty(context)])
        return result
    if schema.ListFields():
        result.take(schema_faults(context))
    for against, other in ((DRIFT, previous), (SKEW, served)):
        if other is not None:
            result.take(baseline_faults(data, other, against, schema, result.exceeded(against), thresholds))
    return result


def _empty(context: Context) -> Finding:
    return context.finding((), "dataset.empty", Reason.Value("NO_DATA_IN_SPAN"), "No rows", "rows", "none")


def counterpart(data: DatasetView, others: Statistics | None) -> DatasetView | None:
    """Returns the dataset to compare with: that of the same name, or the only one there is."""
    if others is None:
        return None
    named = [proto for proto in others.datasets if proto.name == data.name]
    found = named or (list(others.datasets) if len(others.datasets) == 1 else [])
    return DatasetView(found[0], data.is_weighted) if found else None
