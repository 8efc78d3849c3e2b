"""What a schema demands of a feature beside its domain: environment, numbers of values, shape, presence, type."""

import math
from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.transforms.anomalies.context import FeatureContext
from penstock.transforms.anomalies.edits import Edit
from penstock.transforms.anomalies.findings import Finding, Reason
from penstock.transforms.anomalies.specification import TYPES_OF_DOMAINS

# A number of distinct values that was estimated may lie so many standard errors off.
_SIGMAS = 4.0


def faults_of_environment(feature: FeatureContext) -> Iterator[Finding]:
    """Yields a feature that has values where its environment does not expect it."""
    name, message = feature.context.environment, feature.message
    if name is None or feature.context.expects(message):
        return
    edits = []
    if name in message.not_in_environment:
        edits.append(feature.edit("not_in_environment", (), removed=(name,)))
    if name not in feature.context.schema.default_environment:
        edits.append(feature.edit("in_environment", (name,)))
    yield feature.finding(
        "schema.environment", Reason.Value("SCHEMA_NEW_COLUMN"), "Not expected in this environment",
        f"no values in environment {name!r}", f"values in {feature.view.present:,.0f} rows", edits,
        feature.view.present,
    )  # fmt: skip


def faults_of_counts(feature: FeatureContext) -> Iterator[Finding]:
    """Yields rows with too few or too many values."""
    message, seen = feature.message, feature.view.value_counts
    kind = message.WhichOneof("shape_type")
    if kind == "value_count":
        limits = [message.value_count]
    elif kind == "value_counts":
        limits = list(message.value_counts.value_count)
    else:
        return
    if len(limits) != len(seen):
        reason = Reason.Value("VALUE_NESTEDNESS_MISMATCH")
        expected, told = f"{len(limits)} levels of lists", f"{len(seen)}"
        yield feature.finding("schema.value_count", reason, "Nested otherwise", expected, told, [feature.edit(kind)])
        return
    for level, (limit, (least, most)) in enumerate(zip(limits, seen, strict=True)):
        where = f" at level {level}" if kind == "value_counts" else ""
        yield from _counts_at(feature, limit, least, most, where)


def _counts_at(
    feature: FeatureContext, limit: schema_pb2.ValueCount, least: int, most: int, where: str
) -> Iterator[Finding]:
    nested = bool(where)
    if limit.HasField("min") and least < limit.min:
        edit = feature.edit("value_counts") if nested else feature.edit("value_count.min", least or None)
        expected, seen = f"{limit.min} or more values in a row{where}", f"as few as {least}"
        reason = Reason.Value("FEATURE_TYPE_LOW_NUMBER_VALUES")
        yield feature.finding("schema.value_count", reason, "Too few values", expected, seen, [edit])
    if limit.HasField("max") and most > limit.max:
        edit = feature.edit("value_counts") if nested else feature.edit("value_count.max", most)
        expected, seen = f"{limit.max} or fewer values in a row{where}", f"as many as {most}"
        reason = Reason.Value("FEATURE_TYPE_HIGH_NUMBER_VALUES")
        yield feature.finding("schema.value_count", reason, "Too many values", expected, seen, [edit])


def faults_of_shape(feature: FeatureContext) -> Iterator[Finding]:
    """Yields rows that do not have the shape that all must have."""
    if not feature.message.HasField("shape"):
        return
    size = math.prod(dim.size for dim in feature.message.shape.dim)
    missing = max(feature.view.missing_by_level)
    lengths = feature.view.value_counts
    is_fixed = all(least == most != 0 for least, most in lengths)
    if not missing and is_fixed and math.prod(most for _, most in lengths) == size:
        return
    told = ", ".join(f"{least} to {most}" if least != most else f"{least}" for least, most in lengths)
    seen = f"{told} values" + (f", and {missing:,.0f} rows without" if missing else "")
    yield feature.finding(
        "schema.shape", Reason.Value("INVALID_FEATURE_SHAPE"), "Another shape",
        f"{size} {'value' if size == 1 else 'values'} in each row", seen, [feature.edit("shape")],
    )  # fmt: skip


def faults_of_presence(feature: FeatureContext) -> Iterator[Finding]:
    """Yields that too few rows have a value."""
    if not feature.message.HasField("presence"):
        return
    presence, view = feature.message.presence, feature.view
    if view.present < presence.min_count:
        edit = feature.edit("presence.min_count", int(view.present))
        yield feature.finding(
            "schema.presence", Reason.Value("FEATURE_TYPE_LOW_NUMBER_PRESENT"), "In too few rows",
            f"a value in {presence.min_count:,} rows or more", f"in {view.present:,.0f}", [edit], view.missing,
        )  # fmt: skip
    if view.fraction_present < presence.min_fraction:
        least = math.floor(view.fraction_present * 1e6) / 1e6
        edit = feature.edit("presence.min_fraction", least)
        share = f"{presence.min_fraction:.4%} of the rows or more" if presence.min_fraction < 1 else "each row"
        yield feature.finding(
            "schema.presence", Reason.Value("FEATURE_TYPE_LOW_FRACTION_PRESENT"), "Missing too often",
            f"a value in {share}", f"in {view.fraction_present:.4%}", [edit], view.missing,
        )  # fmt: skip


def faults_of_type(feature: FeatureContext) -> Iterator[Finding]:
    """Yields that values have another type."""
    view, message = feature.view, feature.message
    if view.schema_type == message.type:
        return
    edits = [feature.edit("type", view.schema_type)]
    domain = message.WhichOneof("domain_info")
    if domain is not None and view.schema_type not in TYPES_OF_DOMAINS.get(domain, ()):
        edits.append(feature.edit(domain))
    expected = f"{schema_pb2.FeatureType.Name(message.type)} values"
    seen = statistics_pb2.FeatureNameStatistics.Type.Name(view.type)
    reason = Reason.Value("UNEXPECTED_DATA_TYPE")
    yield feature.finding("schema.type", reason, "Another type", expected, seen, edits, view.present)


def faults_of_uniqueness(feature: FeatureContext) -> Iterator[Finding]:
    """Yields too few or too many distinct values; an estimate counts once it is further off than it may err."""
    if not feature.message.HasField("unique_constraints"):
        return
    limits, unique = feature.message.unique_constraints, feature.view.unique
    if unique is None:
        yield feature.finding(
            "schema.unique", Reason.Value("FEATURE_TYPE_NO_UNIQUE"), "Distinct values not counted",
            "a number of distinct values", "none: it was not counted", [feature.edit("unique_constraints")],
        )  # fmt: skip
        return
    slack = _SIGMAS * feature.view.unique_error * unique
    if limits.HasField("min") and unique + slack < limits.min:
        yield _uniqueness(
            feature, "FEATURE_TYPE_LOW_UNIQUE", "Too few distinct values", f"{limits.min:,} or more", "min"
        )
    if limits.HasField("max") and unique - slack > limits.max:
        yield _uniqueness(
            feature, "FEATURE_TYPE_HIGH_UNIQUE", "Too many distinct values", f"{limits.max:,} or fewer", "max"
        )


def _uniqueness(feature: FeatureContext, reason: str, title: str, expected: str, side: str) -> Finding:
    unique = feature.view.unique or 0
    edit: Edit = feature.edit(f"unique_constraints.{side}", unique)
    told = "about " if feature.view.unique_error else ""
    seen = f"{told}{unique:,}"
    return feature.finding("schema.unique", Reason.Value(reason), title, f"{expected} distinct values", seen, [edit])
