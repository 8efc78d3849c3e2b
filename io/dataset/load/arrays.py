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
import itertools
from collections.abc import Mapping
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
        if isinstance(self.missing, str) and self.missing not in ("error", "mask"):
            raise ConfigError(f"missing must be 'error', 'mask', or values by column, got {self.missing!r}")
        for name, value in self._values().items():
            field = self._field(name, "missing")
            if value is None or pa.types.is_list(field.type):
                raise ConfigError(
                    f"missing: column {name!r} is of {field.type}, so it cannot be {value!r} where it is missing"
                )
            try:
                pa.scalar(value, field.type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise ConfigError(f"missing: column {name!r} is of {field.type}, which cannot be {value!r}") from error
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
        arrays: Arrays = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if self.missing == "mask":
                arrays[name + PRESENT] = _present(column)
            elif column.null_count and name in self._values():
                column = pc.fill_null(column, pa.scalar(self._values()[name], column.type))
            elif column.null_count:
                raise DataError(
                    f"column {name!r}: {column.null_count} of {len(column)} rows of the batch have no value; say what "
                    f"they become: missing='mask', or missing={{{name!r}: VALUE}}"
                )
            if not pa.types.is_list(column.type):
                arrays[name] = self._flat(column)
                continue
            ragged = self._ragged(column)
            if name in self.pad:
                arrays[name], arrays[name + LENGTH] = _padded(name, ragged, self.pad[name])
            elif name in self.lengths and not isinstance(ragged.values, Ragged):
                arrays[name] = _even(name, ragged, self.lengths[name], _present(column))
            else:
                arrays[name] = ragged
        return arrays

    def _is_ragged(self, found: pa.DataType) -> bool:
        return self.texts == "ragged" and any(is_text(found) for is_text in _TEXTS)

    def _flat(self, column: pa.Array) -> "Array | Ragged":
        return _text_bytes(column) if self._is_ragged(column.type) else _flat(column)

    def _ragged(self, column: pa.ListArray) -> Ragged:
        if column.null_count or not len(column):
            # What is missing may have values behind it.
            splits = starts_of(_flat(pc.list_value_length(column)).astype(np.int64))
            items = column.flatten()
        else:
            ends = _numbers(column.buffers()[1], "i4", column.offset, len(column) + 1)
            splits = (ends - ends[0]).astype(np.int64)
            items = column.values.slice(int(ends[0]), int(splits[-1]))
        if items.null_count:
            raise DataError("a list has nulls among its values, for which numpy has no form: read Arrow batches")
        return Ragged(self._flat(items), splits)


def _flat(column: pa.Array) -> Array:
    """Returns the values, zeros and empty texts in place of nulls, which a mask tells from values.

    `to_numpy` would import pandas, which takes half a second, so the common types do without.
    """
    found = column.type
    if pa.types.is_integer(found) or pa.types.is_floating(found):
        letter = "f" if pa.types.is_floating(found) else "u" if pa.types.is_unsigned_integer(found) else "i"
        values = _numbers(column.buffers()[1], f"{letter}{found.bit_width // 8}", column.offset, len(column))
        return np.where(_present(column), values, 0).astype(values.dtype) if column.null_count else values.copy()
    if pa.types.is_binary(found) or pa.types.is_string(found):
        return _texts(column)
    if column.null_count:
        raise ConfigError(f"numpy has no form for {found} with missing values: read Arrow batches")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _numbers(buffer: Any, kind: str, first: int, count: int) -> Array:
    """Returns numbers of a buffer, which may have any bytes behind them."""
    if not count:
        return np.zeros(0, kind)
    return np.frombuffer(buffer, kind, count, first * int(kind[1:]))


def _texts(column: pa.Array) -> Array:
    """Returns object[n], bytes or texts."""
    _, offsets, data = column.buffers()
    if not len(column):
        return np.empty(0, object)
    ends = _numbers(offsets, "i4", column.offset, len(column) + 1)
    low = int(ends[0])
    content = b"" if data is None else bytes(memoryview(data)[low : int(ends[-1])])
    bounds = (ends - low).tolist()
    pieces = [content[start:end] for start, end in itertools.pairwise(bounds)]
    values = np.empty(len(column), object)
    values[:] = [piece.decode() for piece in pieces] if pa.types.is_string(column.type) else pieces
    if column.null_count:
        values[~_present(column)] = "" if pa.types.is_string(column.type) else b""
    return values


def _text_bytes(column: pa.Array) -> Ragged:
    """Returns the bytes of all texts, uint8, and where each one's begin; nulls are empty."""
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(b"", column.type))
    is_large = pa.types.is_large_binary(column.type) or pa.types.is_large_string(column.type)
    _, offsets, data = column.buffers()
    if not len(column):
        return Ragged(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    ends = _numbers(offsets, "i8" if is_large else "i4", column.offset, len(column) + 1)
    content = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    return Ragged(content.copy(), (ends - ends[0]).astype(np.int64))


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


def _even(name: str, ragged: Ragged, length: int, present: Array) -> Array:
    lengths = np.diff(ragged.row_splits)
    wrong = present & (lengths != length)
    if wrong.any():
        raise DataError(f"column {name!r}: a row has {lengths[wrong][0]} values, and the schema says {length} in each")
    even = np.full((len(lengths), length), _padding(ragged.values), ragged.values.dtype)
    even[present] = ragged.values.reshape(-1, length)
    return even
