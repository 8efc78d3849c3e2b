"""From a batch to numpy arrays, with a stated rule for values that are missing.

====================  =========================================================================================
a column of           becomes
====================  =========================================================================================
one value             an array [rows]; numbers of their own type, texts and bytes as objects
`length` values       an array [rows, length], where the schema says that each row has so many
lists                 a `Ragged`: all values, and where each row's begin
lists, padded         an array [rows, width], and `NAME$length`, int64 [rows]
texts, as bytes       a `Ragged` of uint8, with `texts="ragged"`: no object is made of a text
what may be missing   also `NAME$present`, bool [rows], with `missing="mask"`
====================  =========================================================================================
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.errors import ConfigError, DataError
from penstock.io.kernel.shared.offsets import starts_of

Array: TypeAlias = np.ndarray

_TEXTS = (pa.types.is_binary, pa.types.is_string, pa.types.is_large_binary, pa.types.is_large_string)

PRESENT, LENGTH = "$present", "$length"


class Ragged(NamedTuple):
    """Lists of each row.

    Attributes:
      values: the values of all rows, an array; of lists of texts that are ragged, a `Ragged`.
      row_splits: int64[rows + 1], where in `values` each row's begin, and the end, as in `tf.RaggedTensor`.
    """

    values: Any
    row_splits: Array


Texts: TypeAlias = Literal["objects", "ragged"]
Arrays: TypeAlias = dict[str, "Array | Ragged"]


def _is_changed(value: Any, held: pa.Scalar) -> bool:
    """Whether Arrow has cut a fraction off, or made an infinity of a number that a float32 cannot hold."""
    if pa.types.is_integer(held.type):
        return bool(held.as_py() != value)
    return pa.types.is_floating(held.type) and math.isinf(held.as_py()) and not math.isinf(value)


@dataclasses.dataclass(frozen=True)
class ToArrays:
    """How columns become arrays.

    Attributes:
      schema: the columns.
      missing: `error`, `mask`, or a value for each column that may miss some, which every other column must not.
      pad: the width of lists by column; longer ones are an error.
      lengths: the number of values that each row has, of columns for which the schema says one.
      texts: `objects`, bytes or str; or `ragged`, their bytes, in UTF-8 what is str, so that lists of texts are ragged
        twice, and cannot be padded.

    Raises:
      ConfigError: for another rule, a column that there is not, a value that a column cannot hold, or a width of
        what is no list.
    """

    schema: pa.Schema
    missing: str | Mapping[str, Any]
    pad: Mapping[str, int]
    lengths: Mapping[str, int]
    texts: Texts = "objects"

    def __post_init__(self) -> None:
        if self.texts not in get_args(Texts):
            raise ConfigError(f"texts must be one of {', '.join(get_args(Texts))}, got {self.texts!r}")
        if not isinstance(self.missing, Mapping) and self.missing not in ("error", "mask"):
            raise ConfigError(f"missing must be 'error', 'mask', or values by column, got {self.missing!r}")
        if not isinstance(self.pad, Mapping):
            raise ConfigError(f"pad must be widths by column, such as {{'clicks': 4}}, got {self.pad!r}")
        for name, value in self._values().items():
            field = self._field(name, "missing")
            if value is None or pa.types.is_list(field.type):
                raise ConfigError(
                    f"missing: column {name!r} is of {field.type}, so it cannot be {value!r} where it is missing"
                )
            cannot = ConfigError(f"missing: column {name!r} is of {field.type}, which cannot be {value!r}")
            try:
                held = pa.scalar(value, field.type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise cannot from error
            if _is_changed(value, held):
                raise cannot
        for name, width in self.pad.items():
            if not pa.types.is_list(self._field(name, "pad").type):
                raise ConfigError(f"pad: column {name!r} has one value in each row, so there is nothing to pad")
            if type(width) is not int or width < 1:
                raise ConfigError(f"pad: the width of column {name!r} must be an integer >= 1, got {width!r}")
            if self._is_ragged(self.schema.field(name).type.value_type):
                raise ConfigError(
                    f"pad: column {name!r} has lists of texts, which cannot be padded when they are ragged: leave out "
                    "pad for it, or texts='ragged'"
                )

    def _field(self, name: str, what: str) -> pa.Field:
        if name not in self.schema.names:
            raise ConfigError(f"{what}: {name!r} is not a column; the columns are {', '.join(self.schema.names)}")
        return self.schema.field(name)

    def _values(self) -> Mapping[str, Any]:
        return {} if isinstance(self.missing, str) else self.missing

    def __call__(self, batch: pa.RecordBatch) -> Arrays:
        """Returns the arrays by name.

        Raises:
          DataError: for a value that is missing where that is an error, or a list that is longer than its width.
        """
        return self.parts(batch)(0, batch.num_rows)

    def parts(self, columns: pa.RecordBatch) -> Callable[[int, int], Arrays]:
        """Returns what makes the arrays of some rows, by the first one and their number.

        What does not depend on these is done once. It raises what a call of the rule does.
        """
        plan = self._plan if columns.schema.equals(self.schema) else self._planned(columns.schema)
        found = []
        for one, column in zip(plan, columns.columns, strict=True):
            # A column that misses nothing is looked at as a whole.
            found.append((one, column, None if column.null_count else one.to_array(column)))
        return functools.partial(self._part, found)

    def _part(self, columns: "Sequence[tuple[_Planned, pa.Array, _ToPart | None]]", first: int, count: int) -> Arrays:
        arrays: Arrays = {}
        is_masked = self.missing == "mask"
        for (name, to_array, width, length), whole, to_part in columns:
            column = whole
            if to_part is None:
                column = whole.slice(first, count)
                if is_masked:
                    arrays[name + PRESENT] = _present(column)
                elif column.null_count:
                    column = self._filled(name, column)
                found = to_array(column)(0, count)
            else:
                if is_masked:
                    arrays[name + PRESENT] = np.ones(count, bool)
                found = to_part(first, count)
            if width is not None:
                arrays[name], arrays[name + LENGTH] = _padded(name, found, width)
            elif length is not None:
                arrays[name] = _even(name, found, length, column if to_part is None else column.slice(first, count))
            else:
                arrays[name] = found
        return arrays

    def _filled(self, name: str, column: pa.Array) -> pa.Array:
        """Returns a column that misses values with the one that the rule has for them.

        Raises:
          DataError: where it has none.
        """
        if name in self._values():
            return pc.fill_null(column, pa.scalar(self._values()[name], column.type))
        remedy = "missing='mask'"
        if not pa.types.is_list(column.type):  # no value stands for a list
            remedy += f", or missing={{{name!r}: VALUE}}"
        raise DataError(
            f"column {name!r}: {column.null_count} of {len(column)} rows of the batch have no value; say what "
            f"they become: {remedy}"
        )

    @functools.cached_property
    def _plan(self) -> "tuple[_Planned, ...]":
        return self._planned(self.schema)

    def _planned(self, schema: pa.Schema) -> "tuple[_Planned, ...]":
        """Returns what is done with each column: all that its type says, and no batch."""
        return tuple(self._planned_column(field.name, field.type) for field in schema)

    def _planned_column(self, name: str, found: pa.DataType) -> "_Planned":
        if not pa.types.is_list(found):
            return _Planned(name, self._flat(found), None, None)
        length = None if self._is_ragged(found.value_type) else self.lengths.get(name)
        return _Planned(name, functools.partial(_ragged, self._flat(found.value_type)), self.pad.get(name), length)

    def _is_ragged(self, found: pa.DataType) -> bool:
        return self.texts == "ragged" and any(is_text(found) for is_text in _TEXTS)

    def _flat(self, found: pa.DataType) -> "_ToArray":
        """Returns what makes an array of values of a type."""
        if self._is_ragged(found):
            is_large = pa.types.is_large_binary(found) or pa.types.is_large_string(found)
            return functools.partial(_text_bytes, np.dtype("i8" if is_large else "i4"))
        if pa.types.is_integer(found) or pa.types.is_floating(found):
            letter = "f" if pa.types.is_floating(found) else "u" if pa.types.is_unsigned_integer(found) else "i"
            return functools.partial(_numbers, np.dtype(f"{letter}{found.bit_width // 8}"))
        if pa.types.is_binary(found) or pa.types.is_string(found):
            return functools.partial(functools.partial, _texts, pa.types.is_string(found))
        return functools.partial(functools.partial, _others)


# From the first one of some rows and their number to an array of these; and from a column to that. `to_numpy` of Arrow
# would import pandas, which takes half a second, so the common types do without.
_ToPart: TypeAlias = Callable[[int, int], Any]
_ToArray: TypeAlias = Callable[[pa.Array], _ToPart]


class _Planned(NamedTuple):
    """What is done with a column.

    Attributes:
      name: of it.
      to_array: makes an array, of lists a `Ragged`; with zeros and empty texts in place of nulls, which a mask tells
        from values.
      width: to which lists are padded, if they are.
      length: of each list, where the schema says one.
    """

    name: str
    to_array: _ToArray
    width: int | None
    length: int | None


def _ragged(to_items: _ToArray, column: pa.ListArray) -> _ToPart:
    if column.null_count or not len(column):
        return functools.partial(_ragged_with_nulls, to_items, column)
    items, ends = column.values, _looked_at(_INT32, column.buffers()[1], column.offset, len(column) + 1)
    return functools.partial(_ragged_part, items if items.null_count else None, to_items(items), ends)


def _ragged_part(with_nulls: pa.Array | None, to_items: _ToPart, ends: Array, first: int, count: int) -> Ragged:
    low = int(ends[first])
    splits = np.subtract(ends[first : first + count + 1], low, dtype=np.int64)
    if with_nulls is not None:
        _check_items(with_nulls.slice(low, int(splits[-1])))
    return Ragged(to_items(low, int(splits[-1])), splits)


def _ragged_with_nulls(to_items: _ToArray, column: pa.ListArray, first: int, count: int) -> Ragged:
    column = column.slice(first, count)
    splits = starts_of(_numbers(_INT32, pc.list_value_length(column))(0, count).astype(np.int64))
    # What is missing may have values behind it.
    items = column.flatten()
    _check_items(items)
    return Ragged(to_items(items)(0, int(splits[-1])), splits)


def _check_items(items: pa.Array) -> None:
    if items.null_count:
        raise DataError("a list has nulls among its values, for which numpy has no form: read Arrow batches")


_INT32 = np.dtype("i4")


def _looked_at(kind: np.dtype, buffer: Any, first: int, count: int) -> Array:
    """Returns numbers of a buffer, which may have any bytes behind them."""
    return np.frombuffer(buffer, kind, count, first * kind.itemsize) if count else np.zeros(0, kind)


def _numbers(kind: np.dtype, column: pa.Array) -> _ToPart:
    values = _looked_at(kind, column.buffers()[1], column.offset, len(column))
    if column.null_count:
        values = np.where(_present(column), values, 0).astype(kind)
    return lambda first, count: values[first : first + count].copy()


def _others(column: pa.Array, first: int, count: int) -> Array:
    column = column.slice(first, count)
    if column.null_count:
        raise ConfigError(f"numpy has no form for {column.type} with missing values: read Arrow batches")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _texts(is_string: bool, column: pa.Array, first: int, count: int) -> Array:
    """Returns object[n], bytes or texts."""
    if not count:
        return np.empty(0, object)
    _, offsets, data = column.buffers()
    ends = _looked_at(_INT32, offsets, column.offset + first, count + 1)
    low = int(ends[0])
    content = b"" if data is None else bytes(memoryview(data)[low : int(ends[-1])])
    bounds = (ends - low).tolist()
    pieces: list[Any]
    if is_string and content.isascii():
        text = content.decode()
        pieces = [text[start:end] for start, end in itertools.pairwise(bounds)]
    else:
        pieces = [content[start:end] for start, end in itertools.pairwise(bounds)]
        pieces = [piece.decode() for piece in pieces] if is_string else pieces
    values = np.empty(count, object)
    values[:] = pieces
    if column.null_count:
        values[~_present(column.slice(first, count))] = "" if is_string else b""
    return values


# Texts that are a good part of their buffer are not copied: who keeps them keeps so many times their bytes at most.
_MOST_KEPT = 4


def _text_bytes(kind: np.dtype, column: pa.Array) -> _ToPart:
    """Returns what makes the bytes of some texts, uint8, and where each one's begin; nulls are empty."""
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(b"", column.type))
    if not len(column):
        return lambda first, count: Ragged(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    _, offsets, data = column.buffers()
    ends = _looked_at(kind, offsets, column.offset, len(column) + 1)
    return functools.partial(_text_bytes_part, np.frombuffer(data or b"", np.uint8), ends)


def _text_bytes_part(data: Array, ends: Array, first: int, count: int) -> Ragged:
    low = int(ends[first])
    splits = np.subtract(ends[first : first + count + 1], low, dtype=np.int64)
    content = data[low : low + int(splits[-1])]
    if not (content.flags.writeable and len(content) * _MOST_KEPT >= len(data)):
        content = content.copy()
    return Ragged(content, splits)


def _present(column: pa.Array) -> Array:
    """Returns bool[n], whether each row has a value."""
    bits = column.buffers()[0]
    if bits is None or not column.null_count:
        return np.ones(len(column), bool)
    flags = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return flags[column.offset : column.offset + len(column)].astype(bool)


def _padded(name: str, ragged: Ragged, width: int) -> tuple[Array, Array]:
    lengths = np.diff(ragged.row_splits)
    if len(lengths) and lengths.max() > width:
        raise DataError(
            f"column {name!r}: a list has {lengths.max()} values, and pad says {width}: give a greater width"
        )
    padded = np.full((len(lengths), width), _padding(ragged.values), ragged.values.dtype)
    padded[np.arange(width) < lengths[:, None]] = ragged.values
    return padded, lengths


def _padding(values: Array) -> Any:
    if values.dtype != object:
        return 0
    return "" if len(values) and isinstance(values[0], str) else b""


def _even(name: str, ragged: Ragged, length: int, column: pa.Array) -> Array:
    present = _present(column)
    lengths = np.diff(ragged.row_splits)
    wrong = present & (lengths != length)
    if wrong.any():
        raise DataError(f"column {name!r}: a row has {lengths[wrong][0]} values, and the schema says {length} in each")
    if not column.null_count:
        return np.asarray(ragged.values.reshape(-1, length))
    even = np.full((len(lengths), length), _padding(ragged.values), ragged.values.dtype)
    even[present] = ragged.values.reshape(-1, length)
    return even
