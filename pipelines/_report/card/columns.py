"""The columns of a dataset in words, from its schema."""

from collections.abc import Iterable, Iterator

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.schema import Feature, schema_features

# So many values of a domain are named.
_MAX_VALUES = 8


def column_rows(schema: schema_pb2.Schema) -> Iterator[tuple[str, str, str, str]]:
    """Yields of each column its name, its kind, how many values a row has, and what it means."""
    about = dict(_leaves(schema.feature))
    texts = {domain.name: domain for domain in schema.string_domain}
    for feature in schema_features(schema):
        own = about.get(feature.name)
        meaning = "" if own is None else "; ".join(filter(None, (_domain(own, texts), *own.annotation.comment)))
        yield feature.name, feature.kind.value, _values(feature), meaning


def _leaves(features: Iterable[schema_pb2.Feature], above: str = "") -> Iterator[tuple[str, schema_pb2.Feature]]:
    for feature in features:
        yield above + feature.name, feature
        yield from _leaves(feature.struct_domain.feature, f"{above}{feature.name}.")


def _values(feature: Feature) -> str:
    if feature.length is not None:
        counted = f"{feature.length}"
    else:
        counted = "a list" if feature.multivalued else "1" if feature.multivalued is False else "any number"
    return counted if feature.complete else f"{counted}, may be missing"


def _domain(feature: schema_pb2.Feature, texts: dict[str, schema_pb2.StringDomain]) -> str:
    """What values may be."""
    match feature.WhichOneof("domain_info"):
        case "domain":
            return _one_of(texts[feature.domain].value) if feature.domain in texts else ""
        case "string_domain":
            return _one_of(feature.string_domain.value)
        case "int_domain":
            return _range(feature.int_domain)
        case "float_domain":
            return _range(feature.float_domain)
        case "bool_domain":
            return "true or false"
        case "image_domain":
            return "a picture"
        case _:
            return ""


def _one_of(values: Iterable[str]) -> str:
    named = list(values)
    more = f" and {len(named) - _MAX_VALUES} more" if len(named) > _MAX_VALUES else ""
    return f"one of {', '.join(named[:_MAX_VALUES])}{more}" if named else ""


def _range(domain: schema_pb2.IntDomain | schema_pb2.FloatDomain) -> str:
    bounds = [f"at {word} {getattr(domain, name)}" for word, name in (("least", "min"), ("most", "max"))
              if domain.HasField(name)]  # fmt: skip
    return ", ".join(bounds)
