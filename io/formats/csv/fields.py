"""The fields of CSV lines as columns: by the kernel, which finds fields and types them in one go, or by Arrow.

Both give the same rows. Arrow gives text columns; the kernel gives a column in the type of its feature at once, which
`penstock.io.columns.conform` then need not look at again, but for the texts without a value of that type
(`mixed_column`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

from penstock.io.columns.grammar import Mask
from penstock.io.columns.values import mixed_column
from penstock.io.errors import InputError
from penstock.io.formats.csv.records import misquoted_lines
from penstock.io.formats.lines import Lines
from penstock.io.kernel import native
from penstock.io.schema import Feature, Kind

if native.ENABLED:
    from penstock.io.kernel.native import _csv

# Field positions in the kernel have 30 bits.
_MAX_KERNEL_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class CsvColumns:
    """What the lines of a file hold.

    Attributes:
      uri: the file, for messages.
      names: the columns of the file.
      selected: those that are wanted, with their features, None where there is no schema.
      delimiter: between fields.
      null_values: texts that, unquoted, mean null; the empty text always does.
      multiline: lines are records, whose quoted fields may hold line breaks.
    """

    uri: str
    names: Sequence[str]
    selected: dict[str, Feature | None]
    delimiter: str
    null_values: Sequence[str]
    multiline: bool


class Fields(Protocol):
    """Splits lines of a block, none of them blank, into fields, one block after the other."""

    def split(self, lines: Lines) -> Mask:
        """Mask of the lines that are not one record each: an odd number of quotes, or text around a quoted field.

        Not told with `multiline`, where the records were cut by their quotes.
        """

    def keep(self, good: Mask) -> dict[int, int]:
        """Leaves out all but these lines, which must be in UTF-8, well quoted, and without NUL or lone CR.

        Returns:
          Those of them, by index, that have more or fewer fields than the file has columns, with the number of their
          fields. These are left out too.
        """

    def columns(self, start: int, stop: int) -> list[pa.Array]:
        """A column for each name that is wanted, of this range of the lines that are left."""


def fields_of(layout: CsvColumns) -> Fields:
    """By the kernel where it is enabled."""
    return KernelFields(layout) if native.ENABLED else ArrowFields(layout)


class KernelFields:
    """By the kernel."""

    def __init__(self, layout: CsvColumns):
        self._layout = layout
        slots = {name: slot for slot, name in enumerate(layout.selected)}
        self._splitter = _csv.Splitter(
            ord(layout.delimiter),
            not layout.multiline,
            [slots.get(name, -1) for name in layout.names],
            [text.encode() for text in layout.null_values if text],
        )
        self._counts = np.empty(0, np.int64)
        self._arrow: ArrowFields | None = None

    def split(self, lines: Lines) -> Mask:
        """See `Fields`."""
        self._arrow = ArrowFields(self._layout) if len(lines.data) >= _MAX_KERNEL_BYTES else None
        if self._arrow:
            return self._arrow.split(lines)
        self._counts = self._splitter.split(lines.data, lines.starts, lines.ends)
        return self._counts < 0

    def keep(self, good: Mask) -> dict[int, int]:
        """See `Fields`."""
        if self._arrow:
            return self._arrow.keep(good)
        fit = self._counts == len(self._layout.names)
        ragged = np.flatnonzero(good & ~fit)
        if not (good & fit).all():
            self._splitter.keep(np.flatnonzero(good & fit))
        return dict(zip(ragged.tolist(), self._counts[ragged].tolist(), strict=True))

    def columns(self, start: int, stop: int) -> list[pa.Array]:
        """See `Fields`."""
        if self._arrow:
            return self._arrow.columns(start, stop)
        selected = self._layout.selected.values()
        return [self._column(feature, slot, start, stop) for slot, feature in enumerate(selected)]

    def _column(self, feature: Feature | None, slot: int, start: int, stop: int) -> pa.Array:
        if feature is None or feature.kind is Kind.BYTES:
            return _text_array(*self._splitter.texts(slot, start, stop))
        values, valid, odd = self._numbers(feature, slot, start, stop)
        buffers = [_bits(valid), pa.py_buffer(values)]
        numbers = pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), stop - start, buffers)
        if not len(odd):
            return numbers
        return mixed_column(numbers, odd, _text_array(*self._splitter.texts(slot, start, stop, odd)))

    def _numbers(
        self, feature: Feature, slot: int, start: int, stop: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None, npt.NDArray[np.int64]]:
        """The values, which of them there are, and the rows of texts without a value that is found at once."""
        if feature.kind is Kind.INT:
            return self._splitter.ints(slot, start, stop, feature.boolean)
        return self._splitter.floats(slot, start, stop)


def _text_array(
    offsets: npt.NDArray[np.int32], content: npt.NDArray[np.uint8], valid: npt.NDArray[np.uint8] | None
) -> pa.StringArray:
    buffers = [_bits(valid), pa.py_buffer(offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)


def _bits(valid: npt.NDArray[np.uint8] | None) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))


class ArrowFields:
    """By Arrow's parser, which makes something of any bytes, so that it is given only lines known to be good."""

    def __init__(self, layout: CsvColumns):
        self._layout = layout
        self._lines = Lines(b"", 0, *[np.empty(0, np.int64)] * 3)
        self._columns: list[pa.Array] = []

    def split(self, lines: Lines) -> Mask:
        """See `Fields`."""
        self._lines = lines
        if self._layout.multiline:
            return np.zeros(len(lines), bool)
        return misquoted_lines(lines, self._layout.delimiter)

    def keep(self, good: Mask) -> dict[int, int]:
        """See `Fields`."""
        self._columns = [pa.array([], pa.string()) for _ in self._layout.selected]
        rows = np.flatnonzero(good)
        ragged = self._read(self._lines.select(rows)) if len(rows) else {}
        return {int(rows[index]): columns for index, columns in ragged.items()}

    def columns(self, start: int, stop: int) -> list[pa.Array]:
        """See `Fields`."""
        return [column.slice(start, stop - start) for column in self._columns]

    def _read(self, lines: Lines) -> dict[int, int]:
        ragged: dict[int, int] = {}

        def skip(row: Any) -> str:
            ragged[row.number - 1] = row.actual_columns
            return "skip"

        data = lines.joined()
        if data.startswith(b"\xef\xbb\xbf"):
            data = b"\n" + data  # Arrow would take it for a byte order mark in the middle of the file
        if not data.endswith(b"\n"):
            data += b"\n"  # at the end of `"x",` Arrow takes an empty field for a quoted one
        table = self._read_table(data, skip)
        if table.num_rows + len(ragged) != len(lines):
            raise InputError(
                f"{self._layout.uri}: Arrow found {table.num_rows + len(ragged)} rows in the {len(lines)} lines from "
                f"byte {lines.position(0)} on; this is a fault of Penstock, please report it with the file"
            )
        self._columns = [table.column(name).combine_chunks() for name in self._layout.selected]
        return ragged

    def _read_table(self, data: bytes, skip: Callable[[Any], str]) -> pa.Table:
        names = list(self._layout.names)
        included = list(self._layout.selected) or names[:1]
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            # One block, or Arrow refuses a row that does not fit into two.
            arrow_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            arrow_csv.ParseOptions(
                delimiter=self._layout.delimiter,
                newlines_in_values=self._layout.multiline,
                invalid_row_handler=skip,
            ),
            arrow_csv.ConvertOptions(
                check_utf8=False,  # done for all lines
                column_types={name: pa.string() for name in included},
                include_columns=included,
                null_values=["", *self._layout.null_values],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
