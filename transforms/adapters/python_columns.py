"""Makes typed columns of rows that are Python values, and rows of columns again.

Every value keeps its type, or its row is rejected. Without a schema a column of a batch has values of one type:
Arrow would silently make floats of integers that stand among floats. Under a schema each type is read as the table in
docs/types.md says.

===================  =========================================================
Python               column
===================  =========================================================
bool, int, float     bool, int64, double
str, bytes           string, binary; also of bytearray and memoryview
Decimal              decimal, as wide as the batch needs
datetime             timestamp[us], with UTC if it has a zone
date, time           date32, time64[us]
timedelta            duration[us]
list, tuple          list of one of these; also of arrays of numpy
dict                 its members, under dotted names; also rows in rows
numpy, pandas        scalars as the Python value that is the same
None                 null; also NaT and pandas.NA, and a member that is missing
===================  =========================================================
"""

import dataclasses
import datetime
import decimal
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from penstock.io.batches import feature_names
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.values import is_list, shown
from penstock.io.errors import ConfigError, DataError
from penstock.io.reasons import Reason
from penstock.io.reserved import RESERVED
from penstock.io.schema import Feature
from penstock.transforms.adapters.plain_values import PLAIN_TYPES, StrangeValueError, plain_value

# What a column shall become: under a schema, under declared types, or as its values are.
Target: TypeAlias = Feature | pa.DataType | None

Faults: TypeAlias = dict[int, list[Reason]]

_TYPES = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime.date: pa.date32(),
    datetime.time: pa.time64("us"),
    datetime.timedelta: pa.duration("us"),
}
_NAIVE, _ZONED = pa.timestamp("us"), pa.timestamp("us", "UTC")


def columns_of_rows(rows: Sequence[Mapping[Any, Any]], targets: Mapping[str, Target] | None) -> "PythonRows":
    """Makes columns of rows.

    Args:
      rows: names and values; a missing name is a null.
      targets: the columns to make, by dotted name; None for all that the rows have, with the types of their values.

    Raises:
      DataError: without targets, for a column with values of several types.
    """
    found = _Members(len(rows), targets)
    found.add_rows(rows)
    columns: dict[str, pa.Array] = {}
    for name, target in found.wanted():
        columns[name], faults = _column(name, found.columns.get(name) or [None] * len(rows), target)
        for row, reason in faults.items():
            found.reject(row, reason)
    if not columns:
        return PythonRows(pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), pa.struct([]))), found.faults)
    return PythonRows(pa.RecordBatch.from_arrays(list(columns.values()), list(columns)), found.faults)


@dataclasses.dataclass(frozen=True)
class PythonRows:
    """Rows as columns.

    Attributes:
      batch: all rows.
      faults: why rows cannot be read, by index; a value that is at fault is null in the batch.
    """

    batch: pa.RecordBatch
    faults: Faults


class _Members:
    """Sorts the members of rows into columns by dotted names."""

    def __init__(self, num_rows: int, targets: Mapping[str, Target] | None):
        self.columns: dict[str, list[Any]] = {}
        self.faults: Faults = {}
        self._num_rows = num_rows
        self._targets = targets
        self._structs = {part for name in targets or () for part in _parents(name)}

    def reject(self, row: int, reason: Reason) -> None:
        self.faults.setdefault(row, []).append(reason)

    def wanted(self) -> Iterable[tuple[str, Target]]:
        """Yields names and targets of the columns to make."""
        return [(name, None) for name in self.columns] if self._targets is None else self._targets.items()

    def add_rows(self, rows: Sequence[Mapping[Any, Any]]) -> None:
        for name, values in _columns(rows):
            fault = _name_fault(name, RESERVED)
            if fault is not None:
                self._reject_all((row for row, members in enumerate(rows) if name in members), fault)
            elif self._is_wanted(name):
                self._add_column(name, values)

    def _reject_all(self, rows: Iterable[int], reason: Reason) -> None:
        for row in rows:
            self.reject(row, reason)

    def _is_wanted(self, name: str) -> bool:
        return self._targets is None or name in self._targets or name in self._structs

    def _add_column(self, name: str, values: list[Any]) -> None:
        nested = {}
        if not set(map(type, values)) - {type(None)} <= PLAIN_TYPES:
            values = self._plain(name, values)
            nested = {row: value for row, value in enumerate(values) if isinstance(value, Mapping)}
        for row in nested:
            values[row] = None
        self._keep(name, values, is_struct=bool(nested))
        self._add_members(name, nested)

    def _plain(self, name: str, values: list[Any]) -> list[Any]:
        plain = []
        for row, value in enumerate(values):
            try:
                plain.append(plain_value(value))
            except StrangeValueError as error:
                self.reject(row, _strange(name, error))
                plain.append(None)
        return plain

    def _keep(self, name: str, values: list[Any], is_struct: bool) -> None:
        if not is_struct and name not in self.columns and name not in self._structs:
            self.columns[name] = values
            return
        present = [row for row, value in enumerate(values) if value is not None]
        if self._targets is not None and name not in self._targets:
            others = ", ".join(other for other in self._targets if other.startswith(f"{name}."))
            for row in present:
                detail = f"column {name!r}: {shown(values[row])} is no record, and the schema has {others} in it"
                self.reject(row, Reason("read.type", detail))
        elif name not in self.columns:
            # A record has no column of its own.
            if present or not is_struct:
                self.columns[name] = values
        else:
            self._merge(name, {row: values[row] for row in present})

    def _merge(self, name: str, values: Mapping[int, Any]) -> None:
        column = self.columns.setdefault(name, [None] * self._num_rows)
        for row, value in values.items():
            if column[row] is not None:
                self.reject(row, Reason("read.name", f"column {name!r} is there twice, nested and with a dotted name"))
            column[row] = value

    def _add_members(self, name: str, nested: Mapping[int, Mapping[Any, Any]]) -> None:
        for member in dict.fromkeys(itertools.chain.from_iterable(nested.values())):
            own = [row for row, members in nested.items() if member in members]
            fault = _name_fault(member)
            if fault is not None:
                self._reject_all(own, fault)
            elif self._is_wanted(f"{name}.{member}"):
                values: list[Any] = [None] * self._num_rows
                for row in own:
                    values[row] = nested[row][member]
                self._add_column(f"{name}.{member}", values)


def _columns(rows: Sequence[Mapping[Any, Any]]) -> Iterable[tuple[Any, list[Any]]]:
    """Yields each name that any row has, with the values of all rows."""
    names = tuple(rows[0]) if rows else ()
    if all(map(names.__eq__, map(tuple, rows))):
        # Rows of the same names in the same order, as most are, are turned by a third of the time of looking each up.
        return zip(names, map(list, zip(*(row.values() for row in rows), strict=True)), strict=True)
    others = dict.fromkeys(itertools.chain.from_iterable(rows))
    return ((name, [row.get(name) for row in rows]) for name in others)


def _parents(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def _name_fault(name: Any, reserved: frozenset[str] = frozenset()) -> Reason | None:
    if not isinstance(name, str):
        return Reason("read.name", f"the name {shown(name)} is no text, as the name of a column must be")
    if not name:
        return Reason("read.name", "a member has no name; name it")
    if name in reserved:
        return Reason("read.name", f"the name {name!r} is reserved by Penstock; rename the member")
    try:
        name.encode()
    except UnicodeEncodeError:
        return Reason("read.name", f"the name {name!a} has a lone surrogate, which UTF-8 has not; rename the member")
    return None


def _strange(name: str, error: StrangeValueError) -> Reason:
    return Reason("read.type", f"column {name!r}: {error}")


def _column(name: str, values: list[Any], target: Target) -> tuple[pa.Array, dict[int, Reason]]:
    """Makes one column of plain values; returns it with the reason for each row that has no form in it."""
    groups = _groups(values)
    if not groups:
        return pa.nulls(len(values), target if isinstance(target, pa.DataType) else pa.null()), {}
    if len(groups) == 1:
        ((kind, _),) = groups.items()
        array, faults = _array(name, kind, values, target)
        array, more = _as_target(name, array, target)
        return array, {**more, **faults}
    if target is None:
        raise DataError(_mixed(name, {kind: values[rows[0]] for kind, rows in groups.items()}))
    return _mixed_column(name, values, groups, target)


def _mixed(name: str, examples: Mapping[str, Any]) -> str:
    kinds = " and ".join(f"{kind} (such as {shown(value)})" for kind, value in examples.items())
    return (
        f"column {name!r} has values of several types: {kinds}; none is made of the other without your say: give the "
        "adapter a schema, or make them one type"
    )


def _groups(values: Sequence[Any]) -> dict[str, list[int]]:
    """Sorts the rows with a value by its type: one group without rows' numbers if there is one type."""
    kinds = set(map(type, values)) - {type(None)}
    if len(kinds) <= 1 and not kinds & {datetime.datetime}:
        return {_kind(next(value for value in values if value is not None)): []} if kinds else {}
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if value is not None:
            groups.setdefault(_kind(value), []).append(row)
    return groups


def _kind(value: Any) -> str:
    """Names the type of a plain value; a time with a zone is of another type than one without."""
    if isinstance(value, datetime.datetime):
        return "datetime" if value.utcoffset() is None else "datetime with a zone"
    kind = next(kind for kind in (*_TYPES, decimal.Decimal, list) if isinstance(value, kind))
    return kind.__name__


def _array(name: str, kind: str, values: Sequence[Any], target: Target) -> tuple[pa.Array, dict[int, Reason]]:
    """Makes an array of values of one type, or null."""
    if kind == "list":
        return _list_array(name, values, target)
    arrow_type = _ARROW[kind]
    faults: dict[int, Reason] = {}
    if kind == "time":
        values, faults = _without_zones(name, values)
    try:
        return pa.array(values, arrow_type), faults
    except (pa.ArrowException, OverflowError, ValueError):
        pass
    good: list[Any] = []
    for row, value in enumerate(values):
        try:
            pa.array([value], arrow_type)
        except (pa.ArrowException, OverflowError, ValueError):
            faults[row] = _fault_of(name, value)
            value = None
        good.append(value)
    return _decimals(name, good) if kind == "Decimal" else pa.array(good, arrow_type), faults


_ARROW = {kind.__name__: arrow_type for kind, arrow_type in _TYPES.items()} | {
    "datetime": _NAIVE,
    "datetime with a zone": _ZONED,
    "Decimal": None,
}


def _decimals(name: str, values: Sequence[Any]) -> pa.Array:
    """Makes an array of decimals each of which Arrow can hold, though it may not hold all of them in one type."""
    try:
        return pa.array(values, None)
    except pa.ArrowException as error:
        raise DataError(
            f"column {name!r} has decimals that no one type of up to 76 digits can hold: make texts of them"
        ) from error


def _without_zones(name: str, values: Sequence[Any]) -> tuple[list[Any], dict[int, Reason]]:
    """Rejects times of the day with a zone, which Arrow would drop."""
    zoned = [row for row, value in enumerate(values) if value is not None and value.tzinfo is not None]
    reason = Reason("read.type", f"column {name!r}: a time of the day with a zone, which no column can hold")
    return [None if row in zoned else value for row, value in enumerate(values)], dict.fromkeys(zoned, reason)


def _fault_of(name: str, value: Any) -> Reason:
    match value:
        case int():
            return Reason("read.int_overflow", f"column {name!r}: {shown(value)} is beyond int64")
        case str():
            detail = f"column {name!r}: {value[:80]!a} has a lone surrogate, which UTF-8 has not"
            return Reason("read.encoding", detail)
    return Reason("read.type", f"column {name!r}: {shown(value)} has no form in Arrow")


def _list_array(name: str, lists: Sequence[Any], target: Target) -> tuple[pa.Array, dict[int, Reason]]:
    """Makes an array of lists: their items are a column of their own."""
    present = [value is not None for value in lists]
    lengths = [len(value) if value is not None else 0 for value in lists]
    items, faults = _items(name, [item for value in lists if value is not None for item in value])
    owners = np.repeat(np.arange(len(lists)), lengths)
    item_target = None
    if isinstance(target, pa.DataType) and is_list(target):
        item_target = target.value_type
    elif isinstance(target, Feature):
        item_target = target
    bad = {int(owners[index]): reason for index, reason in reversed(faults.items())}
    values, more = _column(name, items, item_target)
    for index, reason in more.items():
        bad.setdefault(int(owners[index]), reason)
    if is_list(values.type):
        values = values.flatten()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    mask = pa.array(np.logical_not(present)) if not all(present) else None
    return pa.ListArray.from_arrays(offsets, values, mask=mask), bad


def _items(name: str, items: list[Any]) -> tuple[list[Any], dict[int, Reason]]:
    """Makes the items of lists plain."""
    faults: dict[int, Reason] = {}
    if set(map(type, items)) - {type(None)} <= PLAIN_TYPES - {list}:
        return items, faults
    plain: list[Any] = []
    for index, item in enumerate(items):
        try:
            value = plain_value(item)
        except StrangeValueError as error:
            value, faults[index] = None, _strange(name, error)
        if isinstance(value, list | Mapping):
            what = "lists" if isinstance(value, list) else "records"
            detail = f"column {name!r} is a list of {what}, which a tf.Example cannot hold: flatten it, or leave it out"
            value, faults[index] = None, Reason("read.nested_list", detail)
        plain.append(value)
    return plain, faults


def _as_target(name: str, array: pa.Array, target: Target) -> tuple[pa.Array, dict[int, Reason]]:
    """Casts an array to what its column shall become, as far as that keeps each value."""
    if isinstance(target, Feature):
        return _conform(array, dataclasses.replace(target, name=name))
    if target is None or array.type == target:
        return array, {}
    try:
        return array.cast(target), {}
    except pa.ArrowException:
        pass
    faults: dict[int, Reason] = {}
    kept: list[Any] = []
    for row in range(len(array)):
        try:
            kept.append(array[row].cast(target))
        except pa.ArrowException:
            kept.append(pa.scalar(None, target))
            detail = f"column {name!r}: {shown(array[row].as_py())} is no {target}, as its field is declared"
            faults[row] = Reason("read.type", detail)
    return pa.array([value.as_py() for value in kept], target), faults


def _conform(array: pa.Array, feature: Feature) -> tuple[pa.Array, dict[int, Reason]]:
    try:
        batch, reasons = conform_batch(pa.RecordBatch.from_arrays([array], [feature.name]), [feature])
    except ConfigError as error:
        present = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False)).tolist()
        return pa.nulls(len(array)), dict.fromkeys(present, Reason("schema.type", str(error)))
    return batch.column(0), {row: found[0] for row, found in reasons.items()}


def _mixed_column(
    name: str, values: list[Any], groups: Mapping[str, Sequence[int]], target: Feature | pa.DataType
) -> tuple[pa.Array, dict[int, Reason]]:
    """Makes one column of values of several types, each of which is cast by itself."""
    faults: dict[int, Reason] = {}
    parts: list[pa.Array] = []
    order: list[int] = []
    for kind, rows in groups.items():
        array, bad = _array(name, kind, [values[row] for row in rows], target)
        array, more = _as_target(name, array, target)
        faults |= {rows[index]: reason for index, reason in {**more, **bad}.items()}
        parts.append(array)
        order.extend(rows)
    indices = np.full(len(values), -1)
    indices[order] = np.arange(len(order))
    joined = pa.concat_arrays(_alike(parts))
    return joined.take(pa.array(indices, mask=indices < 0)), faults


def _alike(parts: Sequence[pa.Array]) -> list[pa.Array]:
    """Makes parts of one kind one type: lists if any is, bytes if any is."""
    lists = any(is_list(part.type) for part in parts)
    items = {part.type.value_type if is_list(part.type) else part.type for part in parts} - {pa.null()}
    item = pa.binary() if pa.binary() in items else next(iter(items), pa.null())
    return [_listed(part, item) if lists else part.cast(item) for part in parts]


def _listed(part: pa.Array, item: pa.DataType) -> pa.Array:
    if is_list(part.type):
        return part.cast(pa.list_(item))
    counts = part.is_valid().to_numpy(zero_copy_only=False).astype(np.int32)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    mask = pa.array(counts == 0) if part.null_count else None
    return pa.ListArray.from_arrays(offsets, part.drop_null().cast(item), mask=mask)


def rows_of_columns(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Returns rows as plain Python values: no numpy, None for a null, dotted names as they are.

    Raises:
      DataError: for a time or duration that Python cannot hold, with its column.
    """
    names = feature_names(batch)
    if not names:
        return [{} for _ in range(batch.num_rows)]
    columns = [_python_column(name, batch.column(name)) for name in names]
    try:
        return pa.RecordBatch.from_arrays(columns, names).to_pylist()
    except (OverflowError, ValueError) as error:
        raise DataError(f"a row has a time that Python cannot hold: {error}") from error


def _python_column(name: str, column: pa.Array) -> pa.Array:
    wanted = _python_type(column.type)
    if wanted == column.type:
        return column
    try:
        return column.cast(wanted)
    except pa.ArrowException as error:
        raise DataError(
            f"column {name!r} of type {column.type} has a value that Python cannot hold: {error}; cast the column "
            "before ToDicts"
        ) from error


def _python_type(arrow_type: pa.DataType) -> pa.DataType:
    """Returns the type in which Arrow gives Python's own times: those finer than microseconds are pandas' otherwise,
    and half floats numpy's."""
    if is_list(arrow_type):
        return pa.list_(_python_type(arrow_type.value_type))
    if pa.types.is_timestamp(arrow_type) and arrow_type.unit == "ns":
        return pa.timestamp("us", arrow_type.tz)
    if pa.types.is_duration(arrow_type) and arrow_type.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(arrow_type) and arrow_type.unit == "ns":
        return pa.time64("us")
    if pa.types.is_dictionary(arrow_type):
        return _python_type(arrow_type.value_type)
    return pa.float32() if pa.types.is_float16(arrow_type) else arrow_type
