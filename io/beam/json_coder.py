"""A coder for small frozen dataclasses: elements between stages and values in state are JSON, not pickles.

A release that adds a field with a default can still read the JSON, and its text does not depend on the process. A value
that is one of several things has a base class with a dataclass for each case (`OneOf`).
"""

import dataclasses
import functools
import json
import types
from collections import abc
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args, get_origin, get_type_hints

from apache_beam import coders

_T = TypeVar("_T")


class OneOf:
    """Base class of a value that is one of several things: its subclasses are the cases, each a frozen dataclass.

    Each case has a field that no other case has; `TAG` is its name. JSON with that field is of that case.
    """

    TAG: ClassVar[str]

    @classmethod
    def case_of(cls, fields: abc.Mapping[str, Any]) -> Any:
        """Returns the case that has these fields.

        Raises:
          ValueError: when no case has them.
        """
        for case in cls.__subclasses__():
            if case.TAG in fields:
                return case
        tags = ", ".join(case.TAG for case in cls.__subclasses__())
        raise ValueError(f"{cls.__name__} must have one of the fields {tags}, got {', '.join(fields) or 'none'}")


class JsonCoder(coders.Coder, Generic[_T]):
    """Encodes a dataclass as JSON; its fields are JSON values, tuples, mappings by text, and such dataclasses.

    Fields with their default value are left out.
    """

    def __init__(self, kind: type[_T]):
        self._kind = kind

    def encode(self, value: _T) -> bytes:
        """Encodes as UTF-8 JSON, in the order of the fields."""
        return json.dumps(to_fields(value), separators=(",", ":"), ensure_ascii=False).encode()

    def decode(self, encoded: bytes) -> _T:
        """Decodes the result of `encode`."""
        return from_fields(self._kind, json.loads(encoded))

    def is_deterministic(self) -> bool:
        """Returns True; mappings keep their order, so theirs must be deterministic."""
        return True

    def to_type_hint(self) -> type[_T]:
        """Returns the dataclass."""
        return self._kind

    @classmethod
    def from_type_hint(cls, typehint: Any, registry: Any) -> Self:  # type: ignore[override]
        """Makes the coder for a dataclass."""
        return cls(typehint)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._kind is other._kind

    def __hash__(self) -> int:
        return hash((type(self), self._kind))


def to_fields(value: Any) -> Any:
    """Converts a dataclass to JSON values, without the fields that have their default value."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [to_fields(item) for item in value]
    if isinstance(value, abc.Mapping):
        return {key: to_fields(item) for key, item in value.items()}
    kind: Any = type(value)
    defaults = _defaults(kind)
    if defaults is None:
        return value
    fields = ((name, getattr(value, name), default) for name, default in defaults)
    return {name: to_fields(item) for name, item, default in fields if item != default}


@functools.cache
def _defaults(kind: Any) -> tuple[tuple[str, Any], ...] | None:
    """Returns names and defaults of the fields of a dataclass; None for anything else."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(
        (field.name, field.default if field.default_factory is dataclasses.MISSING else field.default_factory())
        for field in dataclasses.fields(kind)
    )


def from_fields(hint: Any, value: Any) -> Any:
    """Converts the result of `to_fields` back to a value of type `hint`.

    Raises:
      KeyError: when a dataclass does not have a field.
      TypeError: when a value has another shape, or a field is missing.
    """
    return _reader(hint)(value)


@functools.cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    """Returns a function that makes a value of a type from JSON values; cached, since reading type hints is slow."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        some = _reader(next(part for part in parts if part is not type(None)))
        return lambda value: None if value is None else some(value)
    if origin is tuple and parts[1:] == (...,):
        each = _reader(parts[0])
        return lambda value: tuple(map(each, value))
    if origin is tuple:
        readers = tuple(map(_reader, parts))
        return lambda value: tuple(read(item) for read, item in zip(readers, value, strict=True))
    if origin in (abc.Mapping, dict):
        each = _reader(parts[1])
        return lambda value: {key: each(item) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(hint)
    if isinstance(hint, type) and issubclass(hint, OneOf):
        return lambda value: _reader(hint.case_of(value))(value)
    return lambda value: value


def _dataclass_reader(kind: Any) -> Callable[[Any], Any]:
    readers = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
    return lambda value: kind(**{name: readers[name](item) for name, item in value.items()})


def register_json(kind: type[_T]) -> type[_T]:
    """Class decorator: Beam encodes elements of this dataclass as JSON."""
    coders.registry.register_coder(kind, JsonCoder)
    return kind
