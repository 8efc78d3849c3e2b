"""Turns the fields of CSV records into columns.

A column of numbers gets the type of its feature at once. `penstock.io.columns.conform` then checks only the texts that
have no value of that type (`mixed_column`). All other columns are texts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.columns.values import mixed_column
from penstock.io.errors import InputError
from penstock.io.formats.lines import Lines
from penstock.io.kernel import csv
from penstock.io.kernel.pure import csv as pure_csv
from penstock.io.kernel.shared.numbers import Mask
from penstock.io.kernel.shared.quoting import Dialect
from penstock.io.schema import Feature, Kind


@dataclasses.dataclass(frozen=True)
class CsvColumns:
    """The columns of a file, and how its lines hold them.

    Attributes:
      uri: the file, for messages.
      names: the columns of the file.
      selected: the wanted columns with their features; a feature is None without a schema.
      dialect: how a line holds its fields.
      null_values: texts that mean null if unquoted; the empty text always does.
      multiline: lines are records, whose quoted fields may hold line breaks.
    """

    uri: str
    names: Sequence[str]
    selected: dict[str, Feature | None]
    dialect: Dialect
    null_values: Sequence[str]
    multiline: bool


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of some lines.

    Attributes:
      columns: the wanted columns by name; their rows are the good lines with one field for each column of the file.
      counts: int64, the number of fields of each line; 0 for a line that is not good.
      misquoted: bool, True for a line that is not one record: it has an odd number of quotes, or text around a quoted
        field. Penstock does not detect this with `multiline`: there the quotes have cut the records already.
    """

    columns: dict[str, pa.Array]
    counts: npt.NDArray[np.int64]
    misquoted: Mask


class FieldReader:
    """Reads the fields of lines, none of them blank; reuses its memory for each block, so is for one thread."""

    def __init__(self, columns: CsvColumns):
        slots = {name: slot for slot, name in enumerate(columns.selected)}
        self._columns = columns
        self._parts = (
            ord(columns.dialect.delimiter),
            not columns.multiline,
            [slots.get(name, -1) for name in columns.names],
            [text.encode() for text in columns.null_values if text],
            columns.dialect.quoting,
            columns.dialect.spaces,
        )
        self._splitter = csv.Splitter(*self._parts)

    def read(self, lines: Lines, good: Mask) -> Fields:
        """Reads the fields of the `good` lines: those in UTF-8, without NUL or lone CR.

        Raises:
          InputError: when a parser finds other records than these lines, a fault of Penstock.
        """
        splitter = self._splitter if len(lines.data) < csv.MAX_BYTES else pure_csv.Splitter(*self._parts)
        try:
            counts = splitter.split(lines.data, lines.starts, lines.ends, good)
        except ValueError as error:
            raise InputError(
                f"{self._columns.uri}: {error}, from byte {lines.position(0)} on; this is a fault of Penstock, please "
                "report it with the file"
            ) from error
        selected = enumerate(self._columns.selected.items())
        columns = {name: _column(splitter, slot, feature) for slot, (name, feature) in selected}
        return Fields(columns, counts, counts == csv.MISQUOTED)


def misquoted_lines(lines: Lines, dialect: Dialect) -> Mask:
    """Masks the lines that are not one record: with an odd number of quotes, or text around a quoted field."""
    reader = FieldReader(CsvColumns("", (), {}, dialect, (), multiline=False))
    return reader.read(lines, np.zeros(len(lines), bool)).misquoted


def _column(splitter: pure_csv.Splitter, slot: int, feature: Feature | None) -> pa.Array:
    if feature is None or feature.kind is Kind.BYTES:
        return _text_array(*splitter.texts(slot))
    values, there, odd = splitter.ints(slot, feature.boolean) if feature.kind is Kind.INT else splitter.floats(slot)
    numbers = _number_array(values, there)
    return mixed_column(numbers, odd, _text_array(*splitter.texts(slot, odd))) if len(odd) else numbers


def _number_array(values: npt.NDArray[Any], there: npt.NDArray[np.uint8] | None) -> pa.Array:
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [_bits(there), pa.py_buffer(values)])


def _text_array(
    offsets: npt.NDArray[np.int32], content: npt.NDArray[np.uint8], there: npt.NDArray[np.uint8] | None
) -> pa.StringArray:
    buffers = [_bits(there), pa.py_buffer(offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)


def _bits(there: npt.NDArray[np.uint8] | None) -> pa.Buffer | None:
    return None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))
