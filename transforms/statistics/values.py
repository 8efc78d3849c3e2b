"""A column of any Arrow type as statistics see it: how many values each row has, and the values by their kind.

What a type becomes is what `penstock.transforms.infer` makes of it, as far as the type alone can tell:

====================================  =======  ======================================================================
Arrow type                            kind     values
====================================  =======  ======================================================================
bool                                  INT      0, 1
integers                              INT      int64, or uint64
date, time, timestamp, duration       INT      int64 in the unit of the type
decimal                               INT      without digits after the point and within 18 digits; else FLOAT, the
                                               nearest double
float16, float32, float64             FLOAT    float64
string, binary, of any flavour        STRING   string or binary
null                                  none     none
list of one of these, at any depth             each value; a null inside a list is a value that is counted apart
list of structs, map                  STRUCT   only counted
numbers and texts of one column       both     as a reader yields texts that are no numbers under a schema
====================================  =======  ======================================================================

Dictionaries, run-end encodings and extensions are what they store. Structs are flattened before.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.io.columns.explode import explode_hint
from penstock.io.columns.values import decimal_text, is_list, is_mixed, is_text, own_unit, plain, split_mixed
from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.offsets import list_lengths

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

INT = statistics_pb2.FeatureNameStatistics.INT
FLOAT = statistics_pb2.FeatureNameStatistics.FLOAT
STRING = statistics_pb2.FeatureNameStatistics.STRING
BYTES = statistics_pb2.FeatureNameStatistics.BYTES
STRUCT = statistics_pb2.FeatureNameStatistics.STRUCT

# Decimals of so many digits are within int64.
_INT64_DIGITS = 18


@dataclasses.dataclass(frozen=True)
class Level:
    """One level of lists: the rows, or the lists within them.

    Attributes:
      array: the n lists, or scalars.
      lengths: int64[n], how many values each has, 0 where it is null; None for scalars, which have one.
    """

    array: pa.Array
    lengths: Ints | None

    def __len__(self) -> int:
        return len(self.array)

    @functools.cached_property
    def present(self) -> Flags:
        """bool[n], False where the list (or the scalar) is null."""
        return _present(self.array)

    @property
    def known(self) -> int:
        """How many are not null."""
        if is_mixed(self.array.type):
            return int(np.count_nonzero(self.present))
        return len(self.array) - int(self.array.null_count)

    @property
    def counts(self) -> Ints:
        """int64[n], the number of values; 0 where it is null."""
        return self.present.astype(np.int64) if self.lengths is None else self.lengths


@dataclasses.dataclass(frozen=True)
class Values:
    """Values of one kind.

    Attributes:
      kind: INT, FLOAT, STRING or STRUCT.
      array: without nulls: int64, uint64, float64, string or binary; of length 0 for STRUCT.
      places: int64[m], which of all values of the column these are; None for all of them.
    """

    kind: int
    array: pa.Array
    places: Ints | None


@dataclasses.dataclass(frozen=True)
class ColumnValues:
    """A column of n rows, taken apart.

    Attributes:
      levels: the rows first; then, for lists of lists, the lists within.
      count: how many values there are on the innermost level, nulls included.
      nulls: how many of these are null. A null of a scalar column is a null row instead, and no value.
      parts: the values by kind.
    """

    levels: tuple[Level, ...]
    count: int
    nulls: int
    parts: tuple[Values, ...]

    @property
    def rows(self) -> Level:
        """The level of the rows."""
        return self.levels[0]

    def values_of_rows(self) -> Ints:
        """Returns int64[n], how many innermost values each row has."""
        counts = self.levels[-1].counts
        for level in reversed(self.levels[:-1]):
            totals = np.concatenate([[0], np.cumsum(counts)])
            ends = np.cumsum(level.counts)
            counts = totals[ends] - totals[ends - level.counts]
        return counts

    def owners(self, part: Values) -> Ints:
        """Returns int64[m], the row of each value of a part."""
        all_owners = np.repeat(np.arange(len(self.rows)), self.values_of_rows())
        return all_owners if part.places is None else all_owners[part.places]

    def single(self, part: Values) -> tuple[Ints, Flags]:
        """Returns which rows have exactly one value, and it is of the part: their indices, and bool[m] of the part."""
        if self.rows.lengths is None:  # a scalar that is not null is one value
            return self._present_rows(part), np.ones(len(part.array), bool)
        owners = self.owners(part)
        alone = self.values_of_rows()[owners] == 1
        return owners[alone], alone

    def _present_rows(self, part: Values) -> Ints:
        rows = self.rows
        known = np.arange(len(rows)) if rows.known == len(rows) else np.flatnonzero(rows.present)
        return known if part.places is None else known[part.places]


def column_values(name: str, column: pa.Array) -> ColumnValues:
    """Takes a column apart.

    Raises:
      ConfigError: for a type that nothing can be told of: a union, an interval. The message names the column.
    """
    levels, leaf = _take_apart(column)
    is_scalar = levels[0].lengths is None
    if types.is_struct(leaf.type):
        return ColumnValues(levels, len(leaf), 0, (Values(STRUCT, pa.nulls(0), None),))
    parts = tuple(_parts(name, leaf, levels[0].present if is_scalar and is_mixed(leaf.type) else None, is_scalar))
    if is_scalar:
        return ColumnValues(levels, levels[0].known, 0, parts)
    return ColumnValues(levels, len(leaf), int(leaf.null_count), parts)


def _take_apart(column: pa.Array) -> tuple[tuple[Level, ...], pa.Array]:
    """Returns the levels of lists, and the values within the innermost."""
    array = _plain(column)
    if not is_list(array.type):
        return (Level(array, None),), array
    levels = []
    while is_list(array.type):
        levels.append(Level(array, list_lengths(array)))
        array = _plain(array.flatten())
    return tuple(levels), array


def _plain(array: pa.Array) -> pa.Array:
    """Returns an array as it is stored; a map is a list of structs."""
    array = plain(array)
    if not types.is_map(array.type):
        return array
    items = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
    offsets = pa.array(array.offsets.to_numpy().copy())  # Arrow takes no mask beside the offsets of a slice
    return pa.ListArray.from_arrays(offsets, items, mask=array.is_null())


def _present(array: pa.Array) -> Flags:
    if is_mixed(array.type):  # a union has no nulls of its own
        numbers, rows, _ = split_mixed(array)
        present = numbers.is_valid().to_numpy(zero_copy_only=False).copy()
        present[rows] = True
        return present
    return array.is_valid().to_numpy(zero_copy_only=False)


def _parts(name: str, leaf: pa.Array, valid: Flags | None, is_scalar: bool) -> Iterator[Values]:
    """Yields the values that are not null, by kind; `valid` says which are, in a scalar column of several kinds."""
    if valid is not None:
        numbers, rows, texts = split_mixed(leaf)
        present = numbers.is_valid().to_numpy(zero_copy_only=False)
        places = np.cumsum(valid) - 1
        yield _values(name, numbers.drop_null(), places[present])
        yield _values(name, texts, places[rows])
    elif not types.is_null(leaf.type):
        kept = None if is_scalar or not leaf.null_count else np.flatnonzero(leaf.is_valid())
        yield _values(name, leaf.drop_null() if leaf.null_count else leaf, kept)


def _values(name: str, array: pa.Array, places: Ints | None) -> Values:
    item = array.type
    if is_text(item):
        return Values(STRING, array, places)
    if types.is_floating(item):
        return Values(FLOAT, array.cast(pa.float64()), places)
    if types.is_uint64(item):
        return Values(INT, array, places)
    if types.is_integer(item) or types.is_boolean(item):
        return Values(INT, array.cast(pa.int64()), places)
    if types.is_temporal(item) and not types.is_interval(item):
        return Values(INT, own_unit(array), places)
    if types.is_decimal(item):
        return _decimals(array, places)
    raise ConfigError(
        f"column {name!r} has type {item}, of which no statistics can be computed; leave the column out, or convert it "
        f"before{explode_hint(name, item)}"
    )


def _decimals(array: pa.Array, places: Ints | None) -> Values:
    if array.type.scale == 0 and array.type.precision <= _INT64_DIGITS:
        return Values(INT, array.cast(pa.int64()), places)
    # Go through text, which Arrow rounds to the nearest double; its direct cast can be off by one unit.
    return Values(FLOAT, decimal_text(array).cast(pa.float64()), places)
