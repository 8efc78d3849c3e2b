"""What is wrong with the schema itself: a domain that does not fit the type, or that is not there, a fraction above 1.

What is found is removed from the message that the later checks read, as in TFDV.
"""

from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.anomalies.context import FeatureContext
from penstock.transforms.anomalies.edits import Edit
from penstock.transforms.anomalies.findings import Finding, Reason

INVALID = Reason.Value("INVALID_SCHEMA_SPECIFICATION")

INT, FLOAT, BYTES, STRUCT = schema_pb2.INT, schema_pb2.FLOAT, schema_pb2.BYTES, schema_pb2.STRUCT

# Which types may have a domain, as in TFDV; one by name also serves numbers here.
TYPES_OF_DOMAINS = {
    "domain": {BYTES, INT, FLOAT},
    "bool_domain": {INT, BYTES, FLOAT},
    "int_domain": {INT, BYTES},
    "float_domain": {FLOAT, BYTES},
    "string_domain": {BYTES},
    "struct_domain": {STRUCT},
    "natural_language_domain": {BYTES, INT},
    "image_domain": {BYTES},
    "mid_domain": {BYTES},
    "url_domain": {BYTES},
    "time_domain": {INT, BYTES},
}

_KINDS_OF_TYPES = {INT: "int_domain", FLOAT: "float_domain", BYTES: "string_domain"}


def named_domain(schema: schema_pb2.Schema, name: str, type_: int = BYTES) -> object | None:
    """Returns the domain of that name for features of a type; None if the schema has none."""
    kind = _KINDS_OF_TYPES.get(type_)
    return None if kind is None else next((one for one in getattr(schema, kind) if one.name == name), None)


def faults_of_specification(feature: FeatureContext) -> Iterator[Finding]:
    """Yields what is wrong with the message of a feature, and repairs the copy."""
    message = feature.message
    if message.type == schema_pb2.TYPE_UNKNOWN:
        yield _missing_type(feature)
    for check in (_presence, _counts, _shape, _domain, _constraints):
        yield from check(feature)


def _finding(feature: FeatureContext, reason: int, expected: str, seen: str, *edits: Edit) -> Finding:
    for edit in edits:
        if edit.field:
            _clear(feature.message, edit)
    return feature.finding("schema.specification", reason, "Invalid schema", expected, seen, edits)


def _clear(message: schema_pb2.Feature, edit: Edit) -> None:
    """Makes the edit on the copy of the message."""
    holder = schema_pb2.Schema(feature=[message])
    holder.feature[0].name = edit.path[-1]
    Edit(edit.place, edit.path[-1:], edit.field, edit.value, edit.removed).apply(holder)
    message.CopyFrom(holder.feature[0])


def _missing_type(feature: FeatureContext) -> Finding:
    edit = feature.edit("type", feature.view.schema_type)
    expected = "a type of the feature in the schema"
    return _finding(feature, Reason.Value("FEATURE_MISSING_TYPE"), expected, "none", edit)


def _presence(feature: FeatureContext) -> Iterator[Finding]:
    fraction = feature.message.presence.min_fraction
    if not 0 <= fraction <= 1:
        edit = feature.edit("presence.min_fraction", 1.0 if fraction > 1 else None)
        yield _finding(feature, INVALID, "presence.min_fraction from 0 to 1", f"{fraction:g}", edit)


def _counts(feature: FeatureContext) -> Iterator[Finding]:
    count = feature.message.value_count
    if count.min < 0:
        yield _finding(
            feature, INVALID, "value_count.min of 0 or more", str(count.min), feature.edit("value_count.min")
        )
    if count.HasField("max") and count.max < count.min:
        edit = feature.edit("value_count.max", count.min)
        yield _finding(feature, INVALID, f"value_count.max of {count.min} or more", str(count.max), edit)
    counts = feature.message.value_counts.value_count
    if any(level.min < 0 or (level.HasField("max") and level.max < max(level.min, 0)) for level in counts):
        seen = "; ".join(f"level {index}: {level.min} to {level.max}" for index, level in enumerate(counts))
        yield _finding(feature, INVALID, "value_counts from 0, to no less than min", seen, feature.edit("value_counts"))


def _shape(feature: FeatureContext) -> Iterator[Finding]:
    sizes = [dim.size for dim in feature.message.shape.dim]
    if any(size <= 0 for size in sizes):
        yield _finding(feature, INVALID, "a shape with sizes above 0", str(sizes), feature.edit("shape"))


def _domain(feature: FeatureContext) -> Iterator[Finding]:
    message = feature.message
    kind = message.WhichOneof("domain_info")
    if kind is None:
        return
    type_name = schema_pb2.FeatureType.Name(message.type)
    if message.type not in TYPES_OF_DOMAINS.get(kind, {INT, FLOAT, BYTES, STRUCT}):
        reason = Reason.Value("DOMAIN_INVALID_FOR_TYPE")
        yield _finding(feature, reason, f"a domain for {type_name} values", kind, feature.edit(kind))
    elif kind == "domain" and named_domain(feature.context.schema, message.domain, message.type) is None:
        expected = f"a domain {message.domain!r} for {type_name} values in the schema"
        reason = Reason.Value("INVALID_DOMAIN_SPECIFICATION")
        yield _finding(feature, reason, expected, "none", feature.edit("domain"))


def _constraints(feature: FeatureContext) -> Iterator[Finding]:
    message = feature.message
    kind = message.WhichOneof("domain_info")
    is_text = kind in ("domain", "string_domain") and message.type == BYTES
    if message.HasField("distribution_constraints") and not is_text:
        expected = "distribution_constraints of a domain of texts only"
        yield _finding(
            feature, INVALID, expected, f"of {kind or 'no domain'}", feature.edit("distribution_constraints")
        )
