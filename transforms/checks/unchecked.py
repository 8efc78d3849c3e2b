"""What a schema demands and no single row can break: it is said once, and not checked."""

import collections
from collections.abc import Iterable, Iterator, Sequence

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.reasons import Note
from penstock.io.schema import named_features

# The code of notes about constraints of the schema that are not checked.
UNCHECKED = "schema.unchecked"

_MAX_LISTED = 5

_WHOLE = "it is about the whole dataset, and no row alone can break it; statistics of the dataset (TFDV) check it"
_UNREAD = "Penstock does not know what its values may be"

# Constraints by name, and why each is not checked; what is not here is `_WHOLE`.
_WHY = {
    "min_domain_mass": "some values may be outside of the domain, so that no row alone can break it; TFDV checks it",
    "unique_constraints": f"{_WHOLE}; keys that must be unique go into the file of rules",
    "domain of another type": "a domain for values of another type says nothing about these",
    "presence of a struct": "a struct without values reads as no struct; demand one of its fields (group_presence)",
}

_DOMAINS_OF_KINDS = {
    schema_pb2.INT: ("int_domain", "bool_domain"),
    schema_pb2.FLOAT: ("float_domain",),
    schema_pb2.BYTES: ("string_domain", "bool_domain"),
}


def unchecked_constraints(schema: schema_pb2.Schema) -> tuple[Note, ...]:
    """Lists the constraints that are not checked: a note for each, with the number of features that have it."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for constraint, subject in _constraints(schema):
        found[constraint].append(subject)
    return tuple(_note(constraint, found[constraint]) for constraint in sorted(found))


def unchecked_text(notes: Iterable[Note]) -> str:
    """Says in one line what is not checked."""
    return "the schema demands what is not checked: " + "; ".join(f"{note.subject} of {note.detail}" for note in notes)


def _note(constraint: str, subjects: Sequence[str]) -> Note:
    listed = ", ".join(subjects[:_MAX_LISTED])
    more = f" and {len(subjects) - _MAX_LISTED} more" if len(subjects) > _MAX_LISTED else ""
    why = _UNREAD if constraint.endswith("_domain") else _WHY.get(constraint, _WHOLE)
    return Note(UNCHECKED, constraint, len(subjects), f"{listed}{more}: {why}")


def _constraints(schema: schema_pb2.Schema) -> Iterator[tuple[str, str]]:
    """Yields (constraint, what has it)."""
    for field, _ in schema.dataset_constraints.ListFields():
        yield f"dataset_constraints.{field.name}", "the dataset"
    for name, message in named_features(schema).items():
        for constraint in _of_feature(schema, message):
            yield constraint, name
    for name in _required_structs(schema.feature):
        yield "presence of a struct", name
    for view in schema.sparse_feature:
        yield from ((constraint, view.name) for constraint in _of_presence(view.presence))


def _of_feature(schema: schema_pb2.Schema, message: schema_pb2.Feature) -> Iterator[str]:
    yield from _of_presence(message.presence)
    for name in ("unique_constraints", "skew_comparator", "drift_comparator"):
        if message.HasField(name):
            yield name
    if message.distribution_constraints.min_domain_mass < 1:
        yield "min_domain_mass"
        return
    kind = _domain_kind(schema, message)
    if kind is None or (kind in _DOMAINS_OF_KINDS[message.type] and not _is_free(message, kind)):
        return
    known = any(kind in kinds for kinds in _DOMAINS_OF_KINDS.values())
    yield "domain of another type" if known else kind


def _of_presence(presence: schema_pb2.FeaturePresence) -> Iterator[str]:
    if 0 < presence.min_fraction < 1:
        yield "presence.min_fraction"
    if presence.min_count > (1 if presence.min_fraction >= 1 else 0):
        yield "presence.min_count"


def _domain_kind(schema: schema_pb2.Schema, message: schema_pb2.Feature) -> str | None:
    """Returns which domain a feature has; that of a name is looked up."""
    kind: str | None = message.WhichOneof("domain_info")
    if kind != "domain":
        return kind
    for name in ("string_domain", "int_domain", "float_domain"):
        if any(domain.name == message.domain for domain in getattr(schema, name)):
            return name
    return None


def _is_free(message: schema_pb2.Feature, kind: str) -> bool:
    """Whether a bool_domain of texts does not say which."""
    domain = message.bool_domain
    return kind == "bool_domain" and message.type == schema_pb2.BYTES and not (domain.true_value and domain.false_value)


def _required_structs(messages: Sequence[schema_pb2.Feature], prefix: str = "") -> Iterator[str]:
    """Yields the structs that must be there, though none of their fields must."""
    for message in messages:
        if message.HasField("struct_domain"):
            fields = message.struct_domain.feature
            demanded = any(field.presence.min_fraction >= 1 or field.group_presence.required for field in fields)
            if (message.presence.min_fraction >= 1 or message.group_presence.required) and not demanded:
                yield prefix + message.name
            yield from _required_structs(fields, f"{prefix}{message.name}.")
