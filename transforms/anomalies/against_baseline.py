"""Holds a dataset against another one: the previous span, or what is served."""

from collections.abc import Iterator, Mapping

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.anomalies.comparators import DRIFT
from penstock.transforms.anomalies.drift.changes import TITLES, Change, Comparison
from penstock.transforms.anomalies.drift.find import find_changes
from penstock.transforms.anomalies.edits import find_feature_message
from penstock.transforms.anomalies.findings import CorrelationChange, Distances, Finding, Reason, Severity
from penstock.transforms.anomalies.measures.thresholds import Thresholds
from penstock.transforms.anomalies.measures.views import DatasetView, Path

# TFDV's types of reason, of those changes that it has a type for.
_REASONS: Mapping[str, str] = {
    "missing_column": "COMPARATOR_TREATMENT_DATA_MISSING",
    "new_column": "COMPARATOR_CONTROL_DATA_MISSING",
    "type": "UNEXPECTED_DATA_TYPE",
    "nulls": "FEATURE_TYPE_LOW_FRACTION_PRESENT",
    "new_values": "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
    "balance": "COMPARATOR_L_INFTY_HIGH",
}

# Changes of the values of a feature, which a comparator of the schema limits instead.
_OF_DISTRIBUTION = frozenset(
    {"mean", "scale", "sign", "clipped", "rotated", "flipped", "distribution", "stuck", "balance", "new_values"}
    | {"vanished_values", "psi"}
)

# Never errors by themselves: a column more, or fewer nulls, breaks nothing that was there before.
_ONLY_WARN = frozenset({"new_column", "vanished_values"})


def baseline_faults(
    data: DatasetView,
    other: DatasetView,
    against: str,
    schema: schema_pb2.Schema,
    exceeded: frozenset[Path],
    thresholds: Thresholds,
) -> Iterator[Finding | Distances | CorrelationChange]:
    """Yields what changed, and how far each feature, and each correlation, lies from the other dataset.

    Args:
      data, other: the datasets.
      against: `drift` or `skew`.
      schema: whose comparators go before the thresholds: within theirs, the values of a feature may change.
      exceeded: features that are beyond the comparator.
      thresholds: for all others.
    """
    now, before = DatasetView(data.proto, is_weighted=False), DatasetView(other.proto, is_weighted=False)
    found = find_changes(Comparison(now, before, thresholds))
    for change in found.changes:
        if (
            change.code in _OF_DISTRIBUTION
            and _is_limited(schema, change.path, against)
            and change.path not in exceeded
        ):
            continue
        if change.code == "new_column" and change.path in exceeded:
            continue  # the comparator has said that there is nothing to compare with
        yield _finding(change, data.name, against, thresholds)
    yield from (
        CorrelationChange(data.name, (one.first, one.second), against, one.before, one.now)
        for one in found.correlations
    )
    for gap in found.gaps:
        yield Distances(
            data.name, gap.path, against, gap.kolmogorov_smirnov, gap.wasserstein, gap.psi, gap.jensen_shannon,
            gap.l_infinity, gap.missing,
        )  # fmt: skip


def _is_limited(schema: schema_pb2.Schema, path: Path, against: str) -> bool:
    message = find_feature_message(schema.feature, path) if path else None
    comparator = getattr(message, f"{against}_comparator", None)
    return comparator is not None and bool(comparator.ListFields())


def _finding(change: Change, dataset: str, against: str, thresholds: Thresholds) -> Finding:
    is_error = change.code not in _ONLY_WARN and change.excess >= thresholds.error_factor
    other = "the previous span" if against == DRIFT else "what is served"
    return Finding(
        change.path,
        f"{against}.{change.code}",
        Reason.Value(_REASONS.get(change.code, "CUSTOM_VALIDATION")),
        TITLES[change.code],
        f"{change.before} (as in {other})",
        change.now,
        Severity.ERROR if is_error else Severity.WARNING,
        change.size,
        None if change.rows is None else round(change.rows),
        change.example,
        fix=_fix(change, thresholds),
        dataset=dataset,
    )


def _fix(change: Change, thresholds: Thresholds) -> str:
    """Names the threshold that would have to change, or the feature that would have to be ignored."""
    if not change.path:
        return "another baseline"
    ignored = f'ignore "{".".join(change.path)}"'
    if not change.threshold or change.excess == float("inf"):
        return ignored
    old = getattr(thresholds, change.threshold)
    return f"threshold {change.threshold}: {old:g} -> {old * change.excess:.3g}, or {ignored}"
