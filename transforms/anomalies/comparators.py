"""Comparators of the schema: how far a feature may be from the previous span (drift), and from what is served (skew).

Distances are those of TFDV: L-infinity and the normalized absolute difference are of values, and 0 for
features whose values are not listed; Jensen-Shannon is of values or of the histogram that the schema names.
"""

import math
from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.transforms.anomalies.context import FeatureContext
from penstock.transforms.anomalies.findings import Finding, Measured, Measurement, Reason
from penstock.transforms.anomalies.measures.distances import l_infinity, normalized_difference
from penstock.transforms.anomalies.measures.divergence import jensen_shannon_of_histograms, jensen_shannon_of_values
from penstock.transforms.anomalies.measures.views import DatasetView, FeatureView

DRIFT, SKEW = "drift", "skew"

_KINDS = {
    "infinity_norm": (Measurement.L_INFTY, "COMPARATOR_L_INFTY_HIGH", "L-infinity distance"),
    "normalized_abs_difference": (
        Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE,
        "COMPARATOR_NORMALIZED_ABSOLUTE_DIFFERENCE_HIGH",
        "normalized absolute difference",
    ),
    "jensen_shannon_divergence": (
        Measurement.JENSEN_SHANNON_DIVERGENCE,
        "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH",
        "Jensen-Shannon divergence",
    ),
}


def compare(feature: FeatureContext) -> Iterator[Finding | Measured]:
    """Yields each distance that a comparator limits, and what is above its threshold."""
    for against, other in ((DRIFT, feature.context.previous), (SKEW, feature.context.serving)):
        if feature.message.HasField(f"{against}_comparator") and other is not None:
            yield from _compare(feature, against, other)


def _compare(feature: FeatureContext, against: str, other: DatasetView) -> Iterator[Finding | Measured]:
    comparator = getattr(feature.message, f"{against}_comparator")
    asked = [name for name in _KINDS if getattr(comparator, name).HasField("threshold")]
    if not asked:
        return
    control = other.features.get(feature.view.path)
    if control is None:
        yield _missing(feature, against, asked)
        return
    for name in asked:
        value, most = _distance(feature.view, control, name, comparator)
        if math.isnan(value):
            continue
        threshold = getattr(comparator, name).threshold
        yield Measured(feature.context.data.name, feature.view.path, against, _KINDS[name][0], value, threshold)
        if value > threshold:
            yield _high(feature, against, name, value, threshold, most)


def _distance(
    view: FeatureView, control: FeatureView, name: str, comparator: schema_pb2.FeatureComparator
) -> tuple[float, str]:
    """Returns a distance, NaN if there is none, and the value that differs most."""
    if name == "infinity_norm":
        value, distance = l_infinity(view.values, control.values)
        return distance, value
    if name == "normalized_abs_difference":
        value, distance = normalized_difference(view.values, control.values)
        return distance, value
    if view.values and control.values:
        return jensen_shannon_of_values(view.values, control.values), ""
    source = comparator.jensen_shannon_divergence.source.type
    is_quantiles = source == schema_pb2.HistogramSelection.QUANTILES
    kind = statistics_pb2.Histogram.QUANTILES if is_quantiles else statistics_pb2.Histogram.STANDARD
    histograms = [side.histogram(kind) if side.is_numeric else None for side in (view, control)]
    if histograms[0] is None or histograms[1] is None:
        return math.nan, ""
    return jensen_shannon_of_histograms(histograms[0], histograms[1]), ""


def _high(feature: FeatureContext, against: str, name: str, value: float, threshold: float, most: str) -> Finding:
    _, reason, told = _KINDS[name]
    edit = feature.edit(f"{against}_comparator.{name}.threshold", value)
    other = "the previous span" if against == DRIFT else "what is served"
    found = feature.finding(
        f"schema.{against}", Reason.Value(reason), f"{told[0].upper()}{told[1:]} to {other}",
        f"a {told} of {threshold:g} or less to {other}", f"{value:.6g}", [edit], example=repr(most) if most else "",
    )  # fmt: skip
    return found


def _missing(feature: FeatureContext, against: str, asked: list[str]) -> Finding:
    edits = [feature.edit(f"{against}_comparator.{name}.threshold") for name in asked]
    other = "the previous span" if against == DRIFT else "what is served"
    reason = Reason.Value("COMPARATOR_CONTROL_DATA_MISSING")
    return feature.finding(
        f"schema.{against}", reason, "Nothing to compare with", f"the feature in {other}", "none", edits
    )
