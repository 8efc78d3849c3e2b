"""Edits of a schema: what would make a finding go away, as one line that can be shown and applied."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.transforms.anomalies.measures.views import Path, path_text

Place: TypeAlias = str
Value: TypeAlias = "bool | int | float | str | Message | tuple[str, ...] | None"

FEATURE, SPARSE, WEIGHTED = "feature", "sparse_feature", "weighted_feature"
STRING_DOMAIN, DATASET = "string_domain", "dataset_constraints"

_MAX_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Edit:
    """One change of a schema.

    Attributes:
      place: `feature`, `sparse_feature`, `weighted_feature`, `string_domain` or `dataset_constraints`.
      path: of the feature; the name of a domain or view alone; empty for the dataset.
      field: inside, by dotted names, such as `presence.min_fraction`; empty for a whole feature.
      value: what it becomes; None removes it. Of a repeated field, a tuple of what is added.
      removed: of a repeated field, what is removed.
    """

    place: Place
    path: Path
    field: str
    value: Any = None
    removed: tuple[str, ...] = ()

    def text(self, schema: schema_pb2.Schema) -> str:
        """Says what changes, as a line of the schema: `feature "a": presence.min_fraction: 1 -> 0.9`."""
        where = f'{self.place} "{path_text(self.path)}"' if self.path else self.place
        if isinstance(self.value, Message):
            return f"add {where} {{ {text_format.MessageToString(self.value, as_one_line=True, as_utf8=True)} }}"
        if isinstance(self.value, tuple) or self.removed:
            added = self.value or ()
            return f"{where}: {self.field}: {_listed('add', added)}{_listed('remove', self.removed)}".rstrip()
        old = _shown(self._old(schema))
        return f"{where}: {self.field}: {old} -> {'nothing' if self.value is None else _shown(self.value, self.field)}"

    def _old(self, schema: schema_pb2.Schema) -> Any:
        message = find_message(schema, self.place, self.path)
        if message is None:
            return None
        *outer, last = self.field.split(".")
        for name in outer:
            message = getattr(message, name)
        if not message.HasField(last):
            return None
        value = getattr(message, last)
        return _enum_name(message, last, value)

    def apply(self, schema: schema_pb2.Schema) -> None:
        """Changes the schema. What it already says stays.

        Raises:
          ConfigError: if the schema lacks what is to be changed.
        """
        if isinstance(self.value, Message):
            _add_feature(schema, self.path, self.value)
            return
        if self.place == STRING_DOMAIN and self.value is None:
            _drop_domain(schema, self.path[0])
            return
        message = find_message(schema, self.place, self.path)
        if message is None:
            raise ConfigError(
                f"the schema has no {self.place} {path_text(self.path)!r}, which a finding wants to change"
            )
        self._set(message)

    def _set(self, message: Any) -> None:
        *outer, last = self.field.split(".")
        for name in outer:
            message = getattr(message, name)
        if isinstance(self.value, tuple) or self.removed:
            kept = [item for item in getattr(message, last) if item not in self.removed]
            kept += [item for item in self.value or () if item not in kept]
            message.ClearField(last)
            getattr(message, last).extend(kept)
        elif self.value is None:
            message.ClearField(last)
        else:
            setattr(message, last, self.value)


def find_message(schema: schema_pb2.Schema, place: Place, path: Path) -> Any:
    """Returns the feature, view, domain or constraints; None if the schema has none."""
    if place == DATASET:
        return schema.dataset_constraints
    if place == FEATURE:
        return find_feature_message(schema.feature, path)
    return next((message for message in getattr(schema, place) if (message.name,) == path), None)


def find_feature_message(messages: Iterable[schema_pb2.Feature], path: Path) -> schema_pb2.Feature | None:
    """Returns the feature of a path, through structs."""
    message = next((message for message in messages if message.name == path[0]), None)
    if message is None or len(path) == 1:
        return message
    return find_feature_message(message.struct_domain.feature, path[1:])


def _add_feature(schema: schema_pb2.Schema, path: Path, message: Message) -> None:
    if find_feature_message(schema.feature, path) is not None:
        return
    parent = find_feature_message(schema.feature, path[:-1]) if len(path) > 1 else None
    if len(path) > 1 and parent is None:
        raise ConfigError(f"the schema has no feature {path_text(path[:-1])!r} that {path_text(path)!r} could lie in")
    (schema if parent is None else parent.struct_domain).feature.add().CopyFrom(message)


def _drop_domain(schema: schema_pb2.Schema, name: str) -> None:
    """Removes a domain, and what names it."""
    for domains in (schema.string_domain, schema.int_domain, schema.float_domain):
        for index in reversed(range(len(domains))):
            if domains[index].name == name:
                del domains[index]
    _clear_domain(schema.feature, name)


def _clear_domain(messages: Iterable[schema_pb2.Feature], name: str) -> None:
    for message in messages:
        if message.WhichOneof("domain_info") == "domain" and message.domain == name:
            message.ClearField("domain")
        _clear_domain(message.struct_domain.feature, name)


def _shown(value: Any, field: str = "") -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Message):
        return f"{{ {text_format.MessageToString(value, as_one_line=True, as_utf8=True)} }}".replace("{  }", "{}")
    if isinstance(value, float):
        return f"{value:.6g}"
    if field == "lifecycle_stage" and isinstance(value, int):
        return schema_pb2.LifecycleStage.Name(value)
    if field == "type" and isinstance(value, int):
        return schema_pb2.FeatureType.Name(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _enum_name(message: Any, field: str, value: Any) -> Any:
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    return enum.values_by_number[value].name if enum is not None else value


def _listed(verb: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - _MAX_SHOWN} more" if len(items) > _MAX_SHOWN else ""
    return f"{verb} {', '.join(repr(item) for item in items[:_MAX_SHOWN])}{more} "
