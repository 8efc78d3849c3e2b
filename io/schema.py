"""What the readers, the validator and the sink need of a `tensorflow_metadata` Schema."""

import dataclasses
import enum
from collections.abc import Sequence

from apache_beam.io.filesystems import FileSystems
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError


class Kind(enum.Enum):
    """The three kinds of value that a tf.Example holds."""

    INT = "INT"
    FLOAT = "FLOAT"
    BYTES = "BYTES"


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a schema.

    Attributes:
      name: the column; nested fields have dotted names.
      kind: the kind of its values.
      multivalued: whether a row may hold other than one value: True for a value_count or shape other than exactly
        one value; False for exactly one; None when the schema does not say.
      required: whether the schema demands presence (min_fraction or min_count above 0).
      boolean: an INT feature with a bool_domain; texts such as true and false stand for 1 and 0.
    """

    name: str
    kind: Kind
    multivalued: bool | None = None
    required: bool = False
    boolean: bool = False


def load_schema(path: str) -> schema_pb2.Schema:
    """Reads a schema in protobuf text format, as TFDV, TFX and Penstock write it.

    Raises:
      ConfigError: when there is no such file or it does not parse; the message has path, line and column.
    """
    try:
        with FileSystems.open(path) as file:
            text = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--schema {path}: cannot be read: {error}") from error
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ConfigError(f"--schema {path}:{error}") from error
    schema_features(schema)
    return schema


def schema_features(schema: schema_pb2.Schema) -> tuple[Feature, ...]:
    """The features of a schema, in its order, without deprecated ones; nested structs by dotted names.

    Raises:
      ConfigError: for a feature without a type, or the same name twice.
    """
    raise NotImplementedError  # built by the schema work


def feature_map(features: Sequence[Feature]) -> dict[str, Feature]:
    """Features by name."""
    return {feature.name: feature for feature in features}
