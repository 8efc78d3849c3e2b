"""A schema as the rows of a table."""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.report.text import number, visible

_VALUES = 12

_Feature: TypeAlias = schema_pb2.Feature

# Parts of a feature that say when two datasets are too far apart, and what the table calls them.
_COMPARATORS = ("drift_comparator", "skew_comparator", "unique_constraints", "distribution_constraints")


class SchemaRow(NamedTuple):
    """What a schema asks of one feature, in words."""

    path: str
    name: str
    type: str
    presence: str
    values: str
    domain: str
    more: str


def schema_rows(schema: schema_pb2.Schema) -> list[SchemaRow]:
    """A row for each feature, members of a struct below it, with its path in front of theirs."""
    domains = {domain.name: domain for domain in schema.string_domain}
    return list(_rows(schema.feature, domains, ""))


def _rows(
    features: Iterable[_Feature], domains: dict[str, schema_pb2.StringDomain], prefix: str
) -> Iterable[SchemaRow]:
    for feature in features:
        path = f"{prefix}{feature.name}"
        yield SchemaRow(
            path=path,
            name=visible(path),
            type=schema_pb2.FeatureType.Name(feature.type).removeprefix("TYPE_"),
            presence=_presence(feature),
            values=_count(feature),
            domain=_domain(feature, domains),
            more=_more(feature),
        )
        if feature.WhichOneof("domain_info") == "struct_domain":
            yield from _rows(feature.struct_domain.feature, domains, f"{path}.")


def _presence(feature: _Feature) -> str:
    asked = feature.presence
    least = [f"in {number(100 * asked.min_fraction)} % of rows"] if asked.min_fraction else []
    least += [f"in {asked.min_count:,} rows"] if asked.min_count > 1 or (asked.min_count and not least) else []
    return "at least " + " and ".join(least) if least else "may be missing"


def _count(feature: _Feature) -> str:
    match feature.WhichOneof("shape_type"):
        case "value_count":
            return _bounds(feature.value_count, "{:,}") or "any number"
        case "shape":
            return "shape " + " × ".join(str(dim.size) for dim in feature.shape.dim) if feature.shape.dim else "one"
        case "value_counts":
            return ", then ".join(_bounds(one, "{:,}") or "any number" for one in feature.value_counts.value_count)
    return "any number"


def _domain(feature: _Feature, domains: dict[str, schema_pb2.StringDomain]) -> str:
    match feature.WhichOneof("domain_info"):
        case None:
            return ""
        case "int_domain":
            kind = "category, " if feature.int_domain.is_categorical else ""
            return kind + (_bounds(feature.int_domain, "{:,}") or "any integer")
        case "float_domain":
            bans = [f"no {word}" for word in ("nan", "inf") if getattr(feature.float_domain, f"disallow_{word}")]
            return ", ".join([_bounds(feature.float_domain, "{:g}") or "any number", *bans])
        case "string_domain":
            return _texts(feature.string_domain)
        case "domain":
            return _texts(domains[feature.domain]) if feature.domain in domains else visible(feature.domain)
        case "bool_domain":
            words = (feature.bool_domain.true_value, feature.bool_domain.false_value)
            return "true or false" + (f" ({visible(words[0])}, {visible(words[1])})" if any(words) else "")
        case other:
            return other.replace("_", " ")


def _bounds(domain: Message, form: str) -> str:
    """`min` and `max` of a message, as far as it has them."""
    least = form.format(getattr(domain, "min")) if domain.HasField("min") else ""  # noqa: B009
    most = form.format(getattr(domain, "max")) if domain.HasField("max") else ""  # noqa: B009
    if least and most:
        return least if least == most else f"{least} to {most}"
    return f"at least {least}" if least else f"at most {most}" if most else ""


def _texts(domain: schema_pb2.StringDomain) -> str:
    shown = ", ".join(visible(value) for value in domain.value[:_VALUES])
    rest = len(domain.value) - _VALUES
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def _more(feature: _Feature) -> str:
    found = [_one_line(name, getattr(feature, name)) for name in _COMPARATORS if feature.HasField(name)]
    if feature.lifecycle_stage:
        found.insert(0, schema_pb2.LifecycleStage.Name(feature.lifecycle_stage).lower())
    found += [f"not in {visible(name)}" for name in feature.not_in_environment]
    return "; ".join(found)


def _one_line(name: str, message: Message) -> str:
    fields = " ".join(str(message).split())
    return f"{name.replace('_', ' ')}: {visible(fields)}" if fields else name.replace("_", " ")
