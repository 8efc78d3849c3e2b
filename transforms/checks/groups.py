"""Checks of columns that belong together: the fields of a struct, the parts of a sparse or weighted feature."""

import dataclasses
import functools
import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.columns.lists import ListColumn, list_column
from penstock.io.columns.values import column_of
from penstock.io.schema import named_features, schema_features
from penstock.transforms.checks.faults import Fault, Rows

_Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class StructCheck:
    """What rows that have a struct must meet: those in which one of its fields has a value.

    Attributes:
      name: the struct, dotted.
      columns: of its fields, at any depth.
      required: the fields, each with its own columns, that must be there wherever the struct is.
      span: how many structs a row may hold, as text, where one is not among them; else None.
    """

    name: str
    columns: tuple[str, ...]
    required: tuple[tuple[str, tuple[str, ...]], ...] = ()
    span: str | None = None

    def faults(self, batch: pa.RecordBatch) -> Iterator[Fault]:
        """Yields the rows that have the struct, and lack a field or should have several structs."""
        present = _any_value(batch, self.columns)
        if self.span is not None and present.any():
            why = f"{self.name} is one value, the schema allows {self.span}"
            yield Fault("schema.value_count", self.name, np.flatnonzero(present), lambda _: why)
        for field, columns in self.required:
            missing = np.flatnonzero(present & ~_any_value(batch, columns))
            if len(missing):
                yield Fault("schema.presence", field, missing, functools.partial(self._missing, field))

    def _missing(self, field: str, _: int) -> str:
        return f"{field} is null, the schema demands a value wherever {self.name} has one"


def struct_checks(schema: schema_pb2.Schema, required: Collection[str]) -> tuple[StructCheck, ...]:
    """Returns the checks of structs that demand something; `required` names what each row must have anyway."""
    names = [feature.name for feature in schema_features(schema)]
    return tuple(
        check
        for name, message in _structs(schema.feature)
        if (check := _struct_check(name, message, names, required)).required or check.span is not None
    )


def _structs(messages: Sequence[schema_pb2.Feature], prefix: str = "") -> Iterator[tuple[str, schema_pb2.Feature]]:
    for message in messages:
        if message.HasField("struct_domain"):
            yield prefix + message.name, message
            yield from _structs(message.struct_domain.feature, f"{prefix}{message.name}.")


def _struct_check(
    name: str, message: schema_pb2.Feature, names: Sequence[str], required: Collection[str]
) -> StructCheck:
    low, high = value_counts(message)
    fields = (
        (f"{name}.{field.name}", _columns_of(f"{name}.{field.name}", names))
        for field in message.struct_domain.feature
        if field.presence.min_fraction >= 1 or field.group_presence.required
    )
    return StructCheck(
        name,
        _columns_of(name, names),
        tuple((field, columns) for field, columns in fields if columns and field not in required),
        None if low <= 1 and high != 0 else f"at least {low}" if high is None else f"{low} to {high}",
    )


def _columns_of(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of a field: itself, or those of its own fields."""
    return tuple(column for column in names if column == name or column.startswith(f"{name}."))


def _any_value(batch: pa.RecordBatch, columns: Sequence[str]) -> _Flags:
    """Returns bool[n]: in which rows one of the columns is not null."""
    flags = np.zeros(batch.num_rows, bool)
    for name in columns:
        column = column_of(batch, name)
        if column is not None:
            flags |= column.is_valid().to_numpy(zero_copy_only=False)
    return flags


def value_counts(message: schema_pb2.Feature) -> tuple[int, int | None]:
    """Returns the fewest and the most values that a feature may have in a row; None for any number."""
    match message.WhichOneof("shape_type"):
        case "shape":
            size = math.prod(dim.size for dim in message.shape.dim)
            return size, size
        case "value_count":
            return message.value_count.min, message.value_count.max or None
        case "value_counts" if message.value_counts.value_count:
            count = message.value_counts.value_count[0]
            return count.min, count.max or None
        case _:
            return 0, None


@dataclasses.dataclass(frozen=True)
class ViewCheck:
    """What the parts of a sparse or weighted feature must meet in each row.

    Attributes:
      name: the view.
      parts: its columns; of a sparse feature first the indices, and the values last.
      sizes: the dimensions of a sparse feature, for each index; empty if it does not say.
      is_sorted: whether the indices of a row must ascend, the first before the others.
      required: whether each row must have a value.
    """

    name: str
    parts: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    is_sorted: bool = False
    required: bool = False

    def faults(self, batch: pa.RecordBatch) -> Iterator[Fault]:
        """Yields the rows whose parts do not fit together, each once."""
        lists = [list_column(_column(batch, name)) for name in self.parts]
        if self.required and not lists[-1].present.all():
            why = f"{self.name} has no value ({self.parts[-1]} is null), the schema demands one in every row"
            yield Fault("schema.presence", self.name, np.flatnonzero(~lists[-1].present), lambda _: why)
        counts = np.stack([part.counts for part in lists])
        uneven = (counts != counts[0]).any(axis=0)
        if uneven.any():
            rows = np.flatnonzero(uneven)
            yield Fault("schema.parts", self.name, rows, lambda index: self._uneven(counts[:, rows[index]]))
        indices = [_Indices.of(name, part) for name, part in zip(self.parts[:-1], lists, strict=False)]
        for index, size in zip(indices, self.sizes, strict=False):
            rows = np.unique(index.rows[(index.values < 0) | (index.values >= size)])
            if len(rows):
                why = f"{index.name} is outside of {self.name}, whose dense_shape allows 0 to {size - 1}"
                yield Fault("schema.parts", self.name, rows, functools.partial(_says, why))
        if self.is_sorted and len(rows := _unsorted([index.only(~uneven) for index in indices])):
            why = f"the indices of {self.name} do not ascend, the schema says is_sorted"
            yield Fault("schema.parts", self.name, rows, functools.partial(_says, why))

    def _uneven(self, counts: Rows) -> str:
        found = ", ".join(f"{name} has {count}" for name, count in zip(self.parts, counts.tolist(), strict=True))
        return f"the parts of {self.name} must have equal numbers of values: {found}"


@dataclasses.dataclass(frozen=True)
class _Indices:
    """An index column of a sparse feature: int64[m] for all values, and their rows, ascending."""

    name: str
    values: Rows
    rows: Rows

    @classmethod
    def of(cls, name: str, column: ListColumn) -> "_Indices":
        """Takes the indices that are there; other checks reject what is null or no integer."""
        valid = column.values.is_valid().to_numpy(zero_copy_only=False)
        if not pa.types.is_integer(column.values.type):
            valid = np.zeros(len(valid), bool)
        values = column.values.drop_null().to_numpy() if valid.any() else np.zeros(0, np.int64)
        return cls(name, values, column.owners[valid])

    def only(self, rows: _Flags) -> "_Indices":
        """Those of some rows."""
        kept = rows[self.rows]
        return _Indices(self.name, self.values[kept], self.rows[kept])


def _unsorted(indices: Sequence[_Indices]) -> Rows:
    """Returns the rows whose indices do not ascend, the first index before the others."""
    if len({len(index.rows) for index in indices}) != 1:
        return np.zeros(0, np.int64)
    rows = indices[0].rows
    order = np.lexsort((*(index.values for index in reversed(indices)), rows))
    return np.unique(rows[order != np.arange(len(order))])


def _says(text: str, _: int) -> str:
    return text


def view_checks(schema: schema_pb2.Schema) -> tuple[ViewCheck, ...]:
    """Returns the checks of the sparse and weighted features whose parts are read."""
    known = named_features(schema).keys()
    checks = [*map(_sparse_check, schema.sparse_feature), *map(_weighted_check, schema.weighted_feature)]
    return tuple(check for check in checks if known >= set(check.parts))


def _sparse_check(view: schema_pb2.SparseFeature) -> ViewCheck:
    indices = tuple(index.name for index in view.index_feature)
    return ViewCheck(
        view.name,
        (*indices, view.value_feature.name),
        tuple(dim.size for dim in view.dense_shape.dim),
        view.is_sorted,
        view.presence.min_fraction >= 1,
    )


def _weighted_check(view: schema_pb2.WeightedFeature) -> ViewCheck:
    return ViewCheck(view.name, (".".join(view.weight_feature.step), ".".join(view.feature.step)))


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    column = column_of(batch, name)
    return pa.nulls(batch.num_rows) if column is None else column
