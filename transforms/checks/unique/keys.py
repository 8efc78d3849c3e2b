"""Rows by the key that must be unique: their hashes, their canonical bytes, and their origins."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from penstock.io.beam.durations import micros
from penstock.io.beam.windows import Windows
from penstock.io.columns.hashing import canonical_rows, hash_rows, salted
from penstock.io.columns.lists import list_column
from penstock.io.columns.values import column_of, shown
from penstock.io.errors import ConfigError, DataError
from penstock.io.kernel.shared.offsets import Ints, starts_of
from penstock.io.kernel.shared.pieces import Bytes, put_fixed, put_slices
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.io.schema import Feature, find_feature
from penstock.io.sort.records import Keys
from penstock.transforms.checks.file import UniqueKey

_KEY_SEED = salted(0, "unique key")


# Spreads windows over the hashes: 2^64 divided by the golden ratio, an odd number.
_WINDOW_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class RowOrigin:
    """Where a row is in its source: URI, and `position` in the unit of the format; "" and -1 if unknown."""

    uri: str
    position: int

    def __str__(self) -> str:
        return f"the row of {self.uri} at {self.position}" if self.uri else "another row"


def check_unique(keys: Sequence[UniqueKey], features: Sequence[Feature], windows: Windows | None = None) -> None:
    """Checks keys against the columns of a schema, and the windows of the dataset.

    Raises:
      ConfigError: for an unknown column, two keys of the same name, or sliding windows.
    """
    seen: set[str] = set()
    for key in keys:
        if key.name in seen:
            raise ConfigError(f"{key.where}: the name is used twice; names tell rejected rows apart")
        seen.add(key.name)
        for column in key.columns:
            find_feature(column, features, f"{key.where}: column")
        if windows is not None and not windows.is_fixed:
            raise sliding_error(key, windows)


def sliding_error(key: UniqueKey, windows: Windows) -> ConfigError:
    """Returns the error that refuses sliding windows."""
    return ConfigError(
        f"{key.where}: a key is unique in a fixed window, and of sliding windows ({windows}) a row lies in several; "
        "use --window fixed:SIZE, or leave `unique` out"
    )


@dataclasses.dataclass(frozen=True)
class KeyedRows:
    """The rows of a batch that have a key.

    Attributes:
      rows: int64[n], the indices of these rows in the batch.
      hashes: uint64[n], the hashes of their keys.
      data: uint8, the bytes of the keys, one after the other.
      starts: int64[n + 1], where in `data` each key begins, and the end.
    """

    rows: Ints
    hashes: Keys
    data: Bytes
    starts: Ints


def keyed_rows(batch: pa.RecordBatch, key: UniqueKey, windows: Windows | None) -> KeyedRows:
    """Finds the rows of a batch that have a key; with windows, the start of the row's window is a part of the key.

    Raises:
      DataError: when a row has no event time, and there are windows.
    """
    columns = [column_of(batch, name) for name in key.columns]
    rows = _rows_with_key(batch.num_rows, columns)
    values = [_exact(column.take(pa.array(rows))) for column in columns if column is not None and len(rows)]
    keyed = pa.RecordBatch.from_arrays(values, key.columns[: len(values)])
    hashes = hash_rows(keyed, keyed.schema.names, _KEY_SEED)
    data, starts = canonical_rows(keyed, keyed.schema.names)
    if windows is not None:
        window = window_starts(batch, windows)[rows]
        hashes = hashes ^ (window.view(np.uint64) * _WINDOW_FACTOR)
        data, starts = _with_prefix(data, starts, window)
    return KeyedRows(rows, hashes, data, starts)


def _rows_with_key(rows: int, columns: Sequence[pa.Array | None]) -> Ints:
    """Returns the rows with a value in each column and no null inside a list; the others repeat nothing."""
    complete = np.ones(rows, bool)
    for column in columns:
        if column is None:
            return np.zeros(0, np.int64)
        lists = list_column(column)
        complete &= lists.present
        complete[lists.rows_with_null_values()] = False
    return np.flatnonzero(complete)


def _exact(column: pa.Array) -> pa.Array:
    """Returns floats as int64 with the same bits, since hashes and keys of rows would see floats as float32.

    All zeros become one, as do all NaNs. Other columns stay as they are. The column has no nulls.
    """
    lists = list_column(column)
    if not pa.types.is_floating(lists.values.type):
        return column
    values = lists.values.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0  # -0.0 + 0.0 is 0.0
    values[np.isnan(values)] = np.nan
    bits = pa.array(values.view(np.int64))
    return bits if lists.lengths is None else pa.LargeListArray.from_arrays(pa.array(starts_of(lists.lengths)), bits)


def window_starts(batch: pa.RecordBatch, windows: Windows) -> Ints:
    """Returns int64: where the window of each row begins, in microseconds since 1970.

    Raises:
      DataError: when a row has no event time.
    """
    times = column_of(batch, EVENT_TIME)
    if times is None or times.null_count:
        raise DataError(f"a key that is unique in windows needs {EVENT_TIME} in every row; put AssignEventTime before")
    time = times.cast(pa.int64()).to_numpy()
    return time - time % micros(windows.size)


def _with_prefix(data: Bytes, starts: Ints, prefix: Ints) -> tuple[Bytes, Ints]:
    """Puts eight bytes (`prefix`) before the bytes of each row."""
    lengths = np.diff(starts)
    longer = starts_of(lengths + 8)
    out = np.empty(longer[-1], np.uint8)
    put_fixed(out, longer[:-1], prefix)
    put_slices(out, longer[:-1] + 8, data, starts[:-1], lengths)
    return out, longer


def origins_of(batch: pa.RecordBatch) -> tuple[pa.Array, Ints]:
    """Returns the URI (dictionary-encoded) and the int64 position of each row; "" and -1 without an origin."""
    if ORIGIN not in batch.schema.names:
        uris = pa.DictionaryArray.from_arrays(pa.array(np.zeros(batch.num_rows, np.int32)), pa.array([""]))
        return uris, np.full(batch.num_rows, -1, np.int64)
    origin = batch.column(ORIGIN)
    return origin.field("uri"), origin.field("position").to_numpy(zero_copy_only=False)


# Maps a row index to the origin of the first row with the same key.
Repeated: TypeAlias = Mapping[int, RowOrigin]


def duplicate_reasons(batch: pa.RecordBatch, repeated: Repeated, key: UniqueKey) -> dict[int, list[Reason]]:
    """Returns why rows are rejected, with their key and the origin of its first row."""
    if not repeated:
        return {}
    rows = sorted(repeated)
    values = batch.select(list(key.columns)).take(pa.array(rows, pa.int64())).to_pylist()
    return {
        row: [Reason(key.code, f"{_shown(fields)}, as in {repeated[row]}, which stays")]
        for row, fields in zip(rows, values, strict=True)
    }


def _shown(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} is {shown(value)}" for name, value in fields.items())
