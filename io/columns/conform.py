"""Converts columns of any Arrow type to the three kinds of a schema: int64, float64, and string or binary.

One table holds for every source. A value without a faithful form rejects its row; a column type without one rejects
the schema (`ConfigError`).

==========================  =========================  ============================  =================================
Arrow type                  INT                        FLOAT                         BYTES
==========================  =========================  ============================  =================================
null                        null                       null                          null
bool                        0, 1                       0.0, 1.0                      `true`, `false`
int8..int64, uint8..uint32  the number                 nearest double                decimal digits
uint64                      up to 2^63-1               nearest double                decimal digits
float16, float32, float64   integral and up to 2^11,   the number, within float32    shortest text that reads back:
                            2^24, 2^53 either way                                    `1`, `0.1`, `1e+10`, `nan`, `inf`
decimal                     integral, within int64     nearest double, in float32    `1.50`; tiny ones as `1E-15`
string, binary              `penstock.io.columns.grammar`      `penstock.io.columns.grammar`,        as it is
                                                       within float32
date32                      days since 1970-01-01      refused                       `2013-01-31`, years 1 to 9999
date64                      milliseconds since then    refused                       the same
time32, time64              own unit, since midnight   refused                       `05:15:00`, digits by the unit
timestamp                   own unit, since 1970       refused                       `2013-01-31T05:15:00`, the same
                            (UTC where it has a zone)                                years; `Z` (UTC) if it has a zone
duration                    own unit                   refused                       number and unit: `1500ms`
list of one of these        each value                 each value                    each value
==========================  =========================  ============================  =================================

Fixed-size binary, large and view types, all flavours of list, dictionary, run-end encoded and extension types are
treated as the type they store. Struct columns are first flattened to dotted names. Map, union, interval, and lists of
lists or structs are refused by name.

An INT stays exact. A FLOAT is rounded to float32 when it is written (tf.Example has no other), so a float need only be
finite there: a finite number that float32 turns into infinity rejects its row, as does a null inside a list.

Reason codes: `schema.type`, `schema.int_overflow`, `schema.float_overflow`, `schema.null_in_list`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.batches import notes_of, with_notes
from penstock.io.columns.explode import explode_hint
from penstock.io.columns.flatten import flatten_batch
from penstock.io.columns.grammar import cast_text, parse_text, whole_numbers
from penstock.io.columns.lists import ListColumn, list_column
from penstock.io.columns.values import (
    as_text,
    decimal_text,
    is_mixed,
    is_readable,
    is_text,
    item_type,
    own_unit,
    split_mixed,
)
from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.numbers import (
    FLOAT_PATTERN,
    Mask,
    fits_float32,
    float32_overflow,
    match_text,
)
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.reasons import Reason
from penstock.io.reserved import RESERVED
from penstock.io.schema import Feature, Kind

# A float of this many bits holds every integer up to here, either way, exactly.
_EXACT_INTS = {16: 1 << 11, 32: 1 << 24, 64: 1 << 53}

# Outside these days since 1970, Arrow writes texts that are not dates, or dates of the wrong year.
_CALENDAR_DAYS = (-719_162, 2_932_896)
_CALENDAR = "the years 1 to 9999 or the 24 hours that ISO 8601 can write"

_UNITS_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}

_MAX_SHOWN_CHARS = 80

# Up to this many texts are cast one by one.
_FEW_TEXTS = 64

_HINTS = {
    Kind.INT: "not an INT: a whole number in decimal digits, without +, leading zeros or spaces",
    Kind.FLOAT: "not a FLOAT: a decimal number without +, leading zeros or spaces, or NaN, Infinity, -Infinity",
}


def conform_batch(batch: pa.RecordBatch, features: Sequence[Feature]) -> tuple[pa.RecordBatch, dict[int, list[Reason]]]:
    """Converts the columns that a schema names to the schema's types.

    Args:
      batch: rows as a reader yields them. Columns that the schema does not name are dropped.
      features: the schema's features. A feature without a column gets none.

    Returns:
      All rows, with the columns in the schema's order and then the reserved ones: int64, float64, string or binary
      (as in the source), or lists of those where the source has lists; with the notes of the batch. Also, by row
      index, the reasons for each row that has a value without a faithful form; such a value is null in the batch.

    Raises:
      ConfigError: when a column has a type that its feature cannot hold.
      InputError: when two columns have the same name after structs are flattened.
    """
    flat = flatten_batch(batch)
    columns: dict[str, pa.Array] = {}
    reasons: dict[int, list[Reason]] = {}
    for feature in features:
        index = flat.schema.get_field_index(feature.name)
        if index < 0:
            _check_absent(feature, batch.schema, flat.schema)
            continue
        columns[feature.name], faults = _conform_column(flat.column(index), feature)
        for row, reason in faults:
            reasons.setdefault(row, []).append(reason)
    reserved = {name: batch.column(name) for name in batch.schema.names if name in RESERVED}
    if not columns and not reserved:
        return batch.select([]), reasons
    columns |= reserved
    conformed = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return with_notes(conformed, notes_of(batch)), reasons


def check_type(arrow_type: pa.DataType, feature: Feature) -> None:
    """Checks that columns of this type can be read as the feature.

    Raises:
      ConfigError: when they cannot be.
    """
    item = item_type(arrow_type)
    if not is_readable(item):
        raise ConfigError(
            f"column {feature.name!r} has type {arrow_type}, which a tf.Example cannot hold; take the feature out of "
            f"the schema, or convert the column before it is read{explode_hint(feature.name, arrow_type)}"
        )
    if feature.kind is Kind.FLOAT and types.is_temporal(item):
        raise ConfigError(
            f"column {feature.name!r} has type {arrow_type}, which loses precision as FLOAT; make the feature INT (the "
            "column's own unit) or BYTES (ISO 8601)"
        )


def _check_absent(feature: Feature, nested: pa.Schema, flat: pa.Schema) -> None:
    """Rejects a feature that has no column because the rows hold it in a form that cannot be read."""
    if nested.get_field_index(feature.name) >= 0:
        fields = [name for name in flat.names if name.startswith(f"{feature.name}.")]
        raise ConfigError(
            f"column {feature.name!r} is a struct; name its fields in the schema instead: {', '.join(fields) or 'none'}"
        )
    parts = feature.name.split(".")
    for count in range(1, len(parts)):
        index = flat.get_field_index(".".join(parts[:count]))
        if index >= 0 and types.is_struct(item_type(flat.types[index])):
            raise ConfigError(
                f"feature {feature.name!r} lies inside column {flat.names[index]!r}, a list of structs, which a "
                "tf.Example cannot hold; take the feature out of the schema"
                f"{explode_hint(flat.names[index], flat.types[index])}"
            )


@dataclasses.dataclass(frozen=True)
class _Cast:
    """Values cast to a kind. `bad` marks values that have no form in it; `overflows`, those that are only too large."""

    values: pa.Array
    bad: Mask
    overflows: Mask


def _conform_column(column: pa.Array, feature: Feature) -> tuple[pa.Array, list[tuple[int, Reason]]]:
    if _is_conform(column, feature.kind):
        return column, []
    if is_mixed(column.type):
        return _conform_mixed(column, feature)
    check_type(column.type, feature)
    lists = list_column(column)
    cast = _CASTS[feature.kind](lists.values, feature)
    faulty = cast.bad | lists.null_values()
    if not faulty.any():
        return _assemble(column, lists, cast.values), []
    indices = np.flatnonzero(faulty)
    rows, positions = lists.positions_of(indices)
    # Keep one reason for each row: that of its first bad value.
    rows, firsts = np.unique(rows, return_index=True)
    reasons = _reasons(feature, lists, cast, indices[firsts], positions[firsts])
    faults = list(zip(rows.tolist(), reasons, strict=True))
    if lists.lengths is None:
        return cast.values, faults
    return _assemble_without(lists, lists.lengths, cast.values, rows), faults


def _conform_mixed(column: pa.UnionArray, feature: Feature) -> tuple[pa.Array, list[tuple[int, Reason]]]:
    """Converts a column of numbers and texts; only the texts are cast."""
    numbers, rows, texts = split_mixed(column)
    values, faults = _conform_column(numbers, feature)
    if len(rows) > _FEW_TEXTS:
        cast = _CASTS[feature.kind](texts, feature)
        good, bad = np.flatnonzero(~cast.bad), np.flatnonzero(cast.bad)
        reasons = _reasons(feature, list_column(texts), cast, bad, bad)
        faults += zip(rows[bad].tolist(), reasons, strict=True)
        return _replaced(values, rows[good], cast.values.take(pa.array(good))), faults
    found = {}
    for row, text in zip(rows.tolist(), texts.to_pylist(), strict=True):
        value, overflows = parse_text(text, feature.kind, feature.boolean)
        if value is None:
            faults.append((row, _reason(f"column {feature.name!r}", feature, texts.type, text, overflows)))
        else:
            found[row] = value
    return _replaced(values, np.array([*found], np.int64), pa.array([*found.values()], values.type)), faults


def _replaced(values: pa.Array, rows: npt.NDArray[np.int64], others: pa.Array) -> pa.Array:
    """Returns the values, with `others` at these rows."""
    if not len(rows):
        return values
    mask = np.zeros(len(values), bool)
    mask[rows] = True
    return pc.replace_with_mask(values, pa.array(mask), others)


def _is_conform(column: pa.Array, kind: Kind) -> bool:
    """Whether a column already has its final form, as most do. A quick check, which may miss some."""
    if column.type not in _CONFORM_TYPES[kind]:
        return False
    if kind is not Kind.FLOAT or not len(column):
        return True
    # The slot of a null may hold any number.
    return fits_float32(np.frombuffer(column.buffers()[1], np.float64)[column.offset :][: len(column)])


def _assemble(column: pa.Array, lists: ListColumn, values: pa.Array) -> pa.Array:
    if lists.lengths is None:
        return values
    if str(column.type) == str(pa.list_(values.type)):
        return column
    return _list_array(values, lists.lengths, ~lists.present)


def _assemble_without(
    lists: ListColumn, lengths: npt.NDArray[np.int64], values: pa.Array, rows: npt.NDArray[np.int64]
) -> pa.ListArray:
    """Makes lists that are null at these rows, without the values that those rows had.

    Row 1 of three is bad::

        lists    [1, 2]   ["x", 3]   [4]
        values    1  2      .  3      4      lengths 2 2 1     cast, with null for "x"
        kept      1  2                4      lengths 2 0 1     null in row 1
    """
    drop = np.zeros(len(lists.present), bool)
    drop[rows] = True
    kept = values.filter(pa.array(np.repeat(~drop, lengths)))
    return _list_array(kept, np.where(drop, 0, lengths), ~lists.present | drop)


def _list_array(values: pa.Array, lengths: npt.NDArray[np.int64], nulls: Mask) -> pa.ListArray:
    offsets = pa.array(starts_of(lengths).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(nulls) if nulls.any() else None)


def _reasons(
    feature: Feature,
    lists: ListColumn,
    cast: _Cast,
    indices: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
) -> Iterator[Reason]:
    """Yields why the values at these indices are refused; `positions` are their positions within their lists."""
    values = lists.values.take(pa.array(indices))
    kept = own_unit(values) if types.is_temporal(values.type) else values
    for value, overflows, position in zip(
        kept.to_pylist(), cast.overflows[indices].tolist(), positions.tolist(), strict=True
    ):
        index = "" if lists.lengths is None else f", index {position} of the list"
        yield _reason(f"column {feature.name!r}{index}", feature, values.type, value, overflows)


def _reason(column: str, feature: Feature, arrow_type: pa.DataType, value: object, overflows: bool) -> Reason:
    if value is None:
        return Reason("schema.null_in_list", f"{column}: null; a tf.Example list cannot hold nulls")
    if types.is_temporal(arrow_type):
        return Reason("schema.type", f"{column}: {value} as {arrow_type} is outside {_CALENDAR}")
    shown = _shown(value)
    if not overflows:
        hint = "not a whole number" if types.is_floating(arrow_type) else _HINTS[feature.kind]
        return Reason("schema.type", f"{column}: {shown} is {hint}")
    if feature.kind is Kind.FLOAT:
        return Reason("schema.float_overflow", f"{column}: {shown} is beyond float32, the FLOAT of tf.Example")
    limit = "int64"
    if types.is_floating(arrow_type):
        limit = f"{_EXACT_INTS[arrow_type.bit_width]}, up to which a {arrow_type} holds every integer"
    return Reason("schema.int_overflow", f"{column}: {shown} is beyond {limit}")


def _shown(value: object) -> str:
    cut = isinstance(value, str | bytes) and len(value) > _MAX_SHOWN_CHARS
    if isinstance(value, str | bytes):
        value = value[:_MAX_SHOWN_CHARS]
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    text = repr(value) if isinstance(value, str) else str(value)
    return f"{text}..." if cut else text


def _good(values: pa.Array) -> _Cast:
    none = np.zeros(len(values), bool)
    return _Cast(values, none, none)


def _nulled(values: pa.Array, bad: Mask, overflows: Mask) -> _Cast:
    if bad.any():
        values = pc.if_else(pa.array(bad), pa.scalar(None, values.type), values)
    return _Cast(values, bad, overflows)


def _to_int(array: pa.Array, feature: Feature) -> _Cast:
    if is_text(array.type):
        return _text_to_int(array, feature.boolean)
    if types.is_floating(array.type):
        return _float_to_int(array)
    if types.is_decimal(array.type):
        return _text_to_int(decimal_text(array), boolean=False)
    if types.is_temporal(array.type):
        return _good(own_unit(array))
    if types.is_uint64(array.type):
        over = pc.greater(array, pa.scalar((1 << 63) - 1, pa.uint64())).fill_null(False)
        return _nulled(array.cast(pa.int64(), safe=False), *[over.to_numpy(zero_copy_only=False)] * 2)
    return _good(array.cast(pa.int64()))


def _text_to_int(text: pa.Array, boolean: bool) -> _Cast:
    values, bad = cast_text(text, Kind.INT, boolean)
    beyond = np.zeros(len(text), bool)
    if bad.any():
        beyond[bad] = whole_numbers(text.filter(pa.array(bad))).beyond
    return _Cast(values, bad, beyond)


def _matching(text: pa.Array, among: Mask, pattern: str) -> Mask:
    found = np.zeros(len(text), bool)
    if among.any():
        found[among] = match_text(text.filter(pa.array(among)), pattern)
    return found


def _float_to_int(array: pa.Array) -> _Cast:
    numbers = array.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(numbers) & (np.floor(numbers) == numbers)
        over = whole & (np.abs(numbers) > _EXACT_INTS[array.type.bit_width])
    integers = np.where(whole & ~over, numbers, 0).astype(np.int64)
    return _nulled(pa.array(integers, mask=array.is_null().to_numpy(zero_copy_only=False)), ~whole | over, over)


def _to_float(array: pa.Array, feature: Feature) -> _Cast:
    if types.is_decimal(array.type):
        # Go through text, which Arrow rounds to the nearest double; its direct cast can be off by one unit.
        array = decimal_text(array)
    if is_text(array.type):
        values, bad = cast_text(array, Kind.FLOAT)
        overflows = _matching(array, bad, FLOAT_PATTERN)
    else:
        values = array.cast(pa.float64(), safe=False)
        bad = overflows = np.zeros(len(array), bool)
    beyond = _float32_overflows(values)
    return _nulled(values, bad | beyond, overflows | beyond)


def _float32_overflows(values: pa.Array) -> Mask:
    if values.null_count:
        values = values.fill_null(0)
    return float32_overflow(values.to_numpy(zero_copy_only=False))


def _to_bytes(array: pa.Array, feature: Feature) -> _Cast:
    if not types.is_temporal(array.type) or types.is_duration(array.type):
        return _good(as_text(array))
    return _nulled(as_text(array), _outside_calendar(array), np.zeros(len(array), bool))


def _outside_calendar(array: pa.Array) -> Mask:
    numbers = own_unit(array).fill_null(0).to_numpy(zero_copy_only=False)
    per_day = 1 if types.is_date32(array.type) else _UNITS_PER_DAY[getattr(array.type, "unit", "ms")]
    first, last = (0, 0) if types.is_time(array.type) else _CALENDAR_DAYS
    return (numbers < first * per_day) | (numbers >= (last + 1) * per_day)


_CONFORM_TYPES = {Kind.INT: (pa.int64(),), Kind.FLOAT: (pa.float64(),), Kind.BYTES: (pa.string(), pa.binary())}

_CASTS: dict[Kind, Callable[[pa.Array, Feature], _Cast]] = {
    Kind.INT: _to_int,
    Kind.FLOAT: _to_float,
    Kind.BYTES: _to_bytes,
}
