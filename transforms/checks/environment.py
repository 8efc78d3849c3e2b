"""Environments: which features of a schema are expected of rows, such as no label where a model serves.

A feature is expected in an environment that its `in_environment` names, and not in one that its `not_in_environment`
names; else `default_environment` of the schema decides. TFDV reads them the same way, and accepts only the names of
`default_environment`. Where a struct is not expected, neither are its fields.

A value of a feature that is not expected is left out of the row, which is counted (`UNEXPECTED`); TFDV calls it an
anomaly.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, schema_features

# The code of what is told of values that the environment does not expect.
UNEXPECTED = "schema.environment"


def schema_environments(schema: schema_pb2.Schema) -> tuple[str, ...]:
    """Returns all environments that a schema names, sorted."""
    names = set(schema.default_environment)
    for message in _all_features(schema.feature):
        names.update(message.in_environment, message.not_in_environment)
    return tuple(sorted(names))


def in_environment(schema: schema_pb2.Schema, environment: str | None) -> schema_pb2.Schema:
    """Returns the schema without the features that an environment does not expect; the whole schema without one.

    Views and tensor representations of such a feature are left out with it.

    Raises:
      ConfigError: when the schema does not name the environment, or nothing is left.
    """
    if environment is None:
        return schema
    _check_named(schema, environment)
    seen = schema_pb2.Schema()
    seen.CopyFrom(schema)
    _keep(seen.feature, lambda message: _expects(message, environment, schema.default_environment))
    if not seen.feature:
        raise ConfigError(
            f"environment {environment!r}: the schema expects no feature there; add it to default_environment, or to "
            "in_environment of features"
        )
    lost = {feature.name for feature in unexpected_features(schema, seen)}
    _keep(seen.sparse_feature, lambda view: lost.isdisjoint(_sparse_parts(view)))
    _keep(seen.weighted_feature, lambda view: lost.isdisjoint(_weighted_parts(view)))
    for group in seen.tensor_representation_group.values():
        for name, representation in list(group.tensor_representation.items()):
            if not lost.isdisjoint(_columns_of(representation)):
                del group.tensor_representation[name]
    return seen


def unexpected_features(schema: schema_pb2.Schema, seen: schema_pb2.Schema) -> tuple[Feature, ...]:
    """Returns the features of a schema that an environment does not expect, in the schema's order.

    No value of them is required, and they may hold any number of values.

    Args:
      schema: the whole schema.
      seen: what `in_environment` makes of it.
    """
    expected = set(_names(seen.feature))
    return tuple(
        Feature(feature.name, feature.kind, boolean=feature.boolean)
        for feature in schema_features(schema)
        if feature.name not in expected
    )


def _check_named(schema: schema_pb2.Schema, environment: str) -> None:
    known = schema_environments(schema)
    if environment in known:
        return
    if not known:
        raise ConfigError(
            f"environment {environment!r}: the schema names no environments; name them in default_environment, and in "
            "not_in_environment of the features that one of them lacks"
        )
    nearest = difflib.get_close_matches(environment, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ConfigError(f"environment {environment!r} is not in the schema; {hint}it names {', '.join(known)}")


def _expects(message: schema_pb2.Feature, environment: str, default: Sequence[str]) -> bool:
    """Whether a feature is expected; drops those of its fields that are not."""
    if environment not in message.in_environment and (
        environment in message.not_in_environment or environment not in default
    ):
        return False
    if message.HasField("struct_domain"):
        _keep(message.struct_domain.feature, lambda field: _expects(field, environment, default))
    return True


def _keep(messages: Any, is_kept: Callable[[Any], bool]) -> None:
    """Removes messages of a repeated field."""
    for index in reversed(range(len(messages))):
        if not is_kept(messages[index]):
            del messages[index]


def _all_features(messages: Sequence[schema_pb2.Feature]) -> Iterator[schema_pb2.Feature]:
    for message in messages:
        yield message
        yield from _all_features(message.struct_domain.feature)


def _names(messages: Sequence[schema_pb2.Feature], prefix: str = "") -> Iterator[str]:
    for message in messages:
        yield prefix + message.name
        yield from _names(message.struct_domain.feature, f"{prefix}{message.name}.")


def _sparse_parts(view: schema_pb2.SparseFeature) -> set[str]:
    return {*(index.name for index in view.index_feature), view.value_feature.name}


def _weighted_parts(view: schema_pb2.WeightedFeature) -> set[str]:
    return {".".join(path.step) for path in (view.feature, view.weight_feature)}


def _columns_of(representation: schema_pb2.TensorRepresentation) -> set[str]:
    """Returns the columns that a tensor is made of."""
    match representation.WhichOneof("kind"):
        case "dense_tensor":
            return {representation.dense_tensor.column_name}
        case "varlen_sparse_tensor":
            return {representation.varlen_sparse_tensor.column_name}
        case "sparse_tensor":
            sparse = representation.sparse_tensor
            return {*sparse.index_column_names, sparse.value_column_name}
        case "ragged_tensor":
            ragged = representation.ragged_tensor
            lengths = {part.row_length for part in ragged.partition if part.HasField("row_length")}
            path = [".".join(ragged.feature_path.step[: end + 1]) for end in range(len(ragged.feature_path.step))]
            return {*path, *lengths}
        case _:
            return set()
