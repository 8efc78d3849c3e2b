"""The part of a `tensorflow_metadata` Schema that readers, validation and sink use.

Penstock reads schemas that TFDV, TFX, TFT and Penstock wrote, and treats them like this:

- Features that are `deprecated`, or whose `lifecycle_stage` keeps them out of training (PLANNED, ALPHA, DEBUG_ONLY,
  DEPRECATED, DISABLED, VALIDATION_DERIVED: the stages that TFT leaves out), are not read. The fields of
  such a struct are not read either.
- A STRUCT feature stands for its fields, by dotted names; `group_presence` of a field demands a value
  wherever the struct is.
- Sparse and weighted features are views of plain features. The plain features are read and written; the view itself
  is for whoever parses the tf.Examples, and for a `preprocessing_fn`, which gets a sparse feature by its name. A view
  of an undeclared feature is refused, since its data would be lost.
- Tensor representations, of the default group, and `represent_variable_length_as_ragged` say what tensors a
  `preprocessing_fn` gets (`penstock.transforms.features.tensors.inputs`).
- Comparators and annotations are kept in the file and have no effect here, but for the tag `binary`
  (`penstock.io.columns.of_schema`). Environments are seen to before (`penstock.transforms.checks.environment`).
"""

import dataclasses
import difflib
import enum
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import unreadable
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.reserved import RESERVED

Domain: TypeAlias = schema_pb2.StringDomain | schema_pb2.IntDomain | schema_pb2.FloatDomain | schema_pb2.BoolDomain

_UNREAD_STAGES = frozenset(
    {
        schema_pb2.PLANNED,
        schema_pb2.ALPHA,
        schema_pb2.DEBUG_ONLY,
        schema_pb2.DEPRECATED,
        schema_pb2.DISABLED,
        schema_pb2.VALIDATION_DERIVED,
    }
)


class Kind(enum.Enum):
    """The three kinds of value that a tf.Example holds."""

    INT = "INT"
    FLOAT = "FLOAT"
    BYTES = "BYTES"


_KINDS = {schema_pb2.INT: Kind.INT, schema_pb2.FLOAT: Kind.FLOAT, schema_pb2.BYTES: Kind.BYTES}


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a schema, as far as reading and writing need it.

    Attributes:
      name: the column; nested fields have dotted names.
      kind: the kind of its values.
      multivalued: whether a row may hold other than one value: True for a value_count or shape other than exactly
        one value; False for exactly one; None when the schema does not say.
      required: whether the schema demands presence (min_fraction or min_count above 0): the column must be there.
      complete: whether it demands a value in every row (min_fraction 1).
      boolean: an INT feature with a bool_domain; texts such as true and false stand for 1 and 0.
      length: how many values each row has that has any, if value_count or shape fix it to other than one.
    """

    name: str
    kind: Kind
    multivalued: bool | None = None
    required: bool = False
    complete: bool = False
    boolean: bool = False
    length: int | None = None


def load_schema(path: str) -> schema_pb2.Schema:
    """Reads a schema in protobuf text format, as TFDV, TFX and Penstock write it.

    Raises:
      ConfigError: when there is no such file, it does not parse (the message has path, line and column), or
        `schema_features` refuses it.
    """
    what = f"--schema {path}"
    check_filesystem(path, what)
    try:
        with stores.open_unpacked(path) as file:
            text = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(what, error) from error
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ConfigError(f"{what}:{error}") from error
    schema_features(schema, what)
    return schema


def write_schema(schema: schema_pb2.Schema, path: str) -> None:
    """Writes a schema in protobuf text format, UTF-8, as `load_schema`, TFDV and TFX read it."""
    with (
        writing(path, OUTPUT_REMEDY),
        stores.create_file(path, "text/plain") as file,
    ):
        file.write(text_format.MessageToString(schema, as_utf8=True).encode())


def schema_fingerprint(schema: schema_pb2.Schema) -> str:
    """Returns the SHA-256 (hex) of the schema's content, which does not depend on the layout of the file."""
    return hashlib.sha256(schema.SerializeToString(deterministic=True)).hexdigest()


def schema_features(schema: schema_pb2.Schema, source: str = "schema") -> tuple[Feature, ...]:
    """Lists the features that are read, in the schema's order.

    The fields of a struct have dotted names.

    Args:
      schema: the schema.
      source: what a message should call the schema, such as its path.

    Raises:
      ConfigError: for a feature without name or type, a name that appears twice or is reserved, nested value counts,
        a domain or view that names what the schema does not have.
    """
    try:
        features = tuple(_feature(nested) for nested in _nested_features(schema.feature))
        _check_names([feature.name for feature in features])
        _check_domains(schema)
        _check_views(schema, {feature.name for feature in features})
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return features


def named_features(schema: schema_pb2.Schema) -> dict[str, schema_pb2.Feature]:
    """Returns the messages behind `schema_features`, by the same names and in the same order."""
    return {nested.name: nested.message for nested in _nested_features(schema.feature)}


def feature_domain(schema: schema_pb2.Schema, feature: schema_pb2.Feature) -> Domain | None:
    """Returns the string, int, float or bool domain of a feature.

    A `domain: "name"` names one of the schema's domains.

    Raises:
      ConfigError: when the schema has no domain of that name.
    """
    match feature.WhichOneof("domain_info"):
        case "string_domain":
            return feature.string_domain
        case "int_domain":
            return feature.int_domain
        case "float_domain":
            return feature.float_domain
        case "bool_domain":
            return feature.bool_domain
        case "domain":
            return _named_domain(schema, feature)
        case _:
            return None


def feature_map(features: Sequence[Feature]) -> dict[str, Feature]:
    """Returns the features by name."""
    return {feature.name: feature for feature in features}


def find_feature(name: str, features: Sequence[Feature], what: str) -> Feature:
    """Returns the feature of that name.

    Args:
      name: the feature.
      features: where it is looked for.
      what: what asks for it, such as a flag.

    Raises:
      ConfigError: when there is none. The message says what asked for it, and the nearest name.
    """
    names = [feature.name for feature in features]
    if name in names:
        return features[names.index(name)]
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ConfigError(f"{what} {name!r} is not a feature of the schema; {hint}the features are {', '.join(names)}")


@dataclasses.dataclass(frozen=True)
class _Nested:
    """A feature that is not a struct: its dotted name, and the structs around it."""

    name: str
    message: schema_pb2.Feature
    structs: tuple[schema_pb2.Feature, ...] = ()

    @property
    def required(self) -> bool:
        return all(_demands_presence(message) for message in (*self.structs, self.message))

    @property
    def complete(self) -> bool:
        return all(_demands_each_row(message) for message in (*self.structs, self.message))


def _nested_features(
    messages: Sequence[schema_pb2.Feature], prefix: str = "", structs: tuple[schema_pb2.Feature, ...] = ()
) -> Iterator[_Nested]:
    for index, message in enumerate(messages):
        if message.deprecated or message.lifecycle_stage in _UNREAD_STAGES:
            continue
        if not message.name:
            raise ConfigError(f"feature {index + 1}{f' of struct {prefix[:-1]!r}' if prefix else ''} has no name")
        name = prefix + message.name
        if message.type != schema_pb2.STRUCT:
            yield _Nested(name, message, structs)
        elif message.HasField("struct_domain"):
            yield from _nested_features(message.struct_domain.feature, f"{name}.", (*structs, message))
        else:
            raise ConfigError(f"feature {name!r} is a STRUCT without struct_domain; list its fields there")


def _feature(nested: _Nested) -> Feature:
    message = nested.message
    if message.type not in _KINDS:
        raise ConfigError(f"feature {nested.name!r} has no type; set type to INT, FLOAT or BYTES")
    kind = _KINDS[message.type]
    return Feature(
        name=nested.name,
        kind=kind,
        multivalued=_multivalued(nested),
        required=nested.required,
        complete=nested.complete,
        boolean=kind is Kind.INT and message.HasField("bool_domain"),
        length=_length(message),
    )


def _demands_presence(message: schema_pb2.Feature) -> bool:
    presence = message.presence
    return presence.min_fraction > 0 or presence.min_count > 0 or message.group_presence.required


def _demands_each_row(message: schema_pb2.Feature) -> bool:
    return message.presence.min_fraction >= 1 or message.group_presence.required


def _multivalued(nested: _Nested) -> bool | None:
    message = nested.message
    match message.WhichOneof("shape_type"):
        case "shape":
            return math.prod(dim.size for dim in message.shape.dim) != 1
        case "value_count":
            return (message.value_count.min, message.value_count.max) != (1, 1)
        case "value_counts" if len(message.value_counts.value_count) > 1:
            raise ConfigError(f"feature {nested.name!r} has nested value_counts; tf.Example has no lists of lists")
        case "value_counts":
            return any((count.min, count.max) != (1, 1) for count in message.value_counts.value_count)
        case _:
            return None


def _length(message: schema_pb2.Feature) -> int | None:
    match message.WhichOneof("shape_type"):
        case "shape":
            length = math.prod(dim.size for dim in message.shape.dim)
        case "value_count" if message.value_count.min == message.value_count.max:
            length = message.value_count.min
        case _:
            return None
    return length if length > 1 else None


def _check_names(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"feature {name!r} appears more than once")
        if name in RESERVED:
            raise ConfigError(f"feature name {name!r} is reserved by Penstock; rename the feature")
        seen.add(name)


def _check_domains(schema: schema_pb2.Schema) -> None:
    for name, message in named_features(schema).items():
        try:
            feature_domain(schema, message)
        except ConfigError as error:
            raise ConfigError(f"feature {name!r} {error}") from error


def _named_domain(schema: schema_pb2.Schema, feature: schema_pb2.Feature) -> Domain:
    for domains in (schema.string_domain, schema.int_domain, schema.float_domain):
        for domain in domains:
            if domain.name == feature.domain:
                return domain
    raise ConfigError(f"has domain {feature.domain!r}, which the schema does not define")


def _check_views(schema: schema_pb2.Schema, names: set[str]) -> None:
    for message in schema.sparse_feature:
        if message.deprecated or message.lifecycle_stage in _UNREAD_STAGES:
            continue
        parts = [index.name for index in message.index_feature] + [message.value_feature.name]
        _check_view("sparse", message.name, parts, names)
    for weighted in schema.weighted_feature:
        if weighted.lifecycle_stage not in _UNREAD_STAGES:
            parts = [".".join(path.step) for path in (weighted.feature, weighted.weight_feature)]
            _check_view("weighted", weighted.name, parts, names)


def _check_view(view: str, name: str, parts: Sequence[str], names: set[str]) -> None:
    missing = [part for part in parts if part not in names]
    if missing:
        raise ConfigError(
            f"{view}_feature {name!r} is made of {missing[0]!r}, which is not among the features that are read; "
            "declare it as a feature of its own, with its type, or remove the view"
        )
