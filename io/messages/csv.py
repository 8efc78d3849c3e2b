"""CSV records in messages, read by the code for CSV files.

A message has no header, so the user names the columns. It may end in a line break. Any other line break must be quoted;
messages with one are checked one by one.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.errors import ConfigError
from penstock.io.formats.base import select_names
from penstock.io.formats.csv.fields import CsvColumns, misquoted_lines
from penstock.io.formats.csv.format import CsvFormat, RecordReader, byte_faults
from penstock.io.formats.csv.records import cut_records
from penstock.io.formats.lines import Block, Lines, counts_per_line
from penstock.io.kernel.shared.positions import CR, LF, occurrences
from penstock.io.messages.base import DecodedMessages, Decoder
from penstock.io.messages.texts import as_lines, texts_of
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, feature_map

_ENDS_IN_CR = Reason("csv.lone_cr", "the message ends in a CR without LF")

# What error messages name in the place of a file.
_ORIGIN = "CSV messages"


def csv_decoder(
    features: Sequence[Feature] | None,
    column_names: Sequence[str] | None = None,
    delimiter: str = ",",
    null_values: Sequence[str] = (),
    quoting: str | None = None,
    trim: bool = False,
) -> Callable[[], Decoder]:
    """Returns a maker of `CsvDecoder`s.

    Raises:
      ConfigError: when no columns are named, or an option is wrong.
      InputError: when the columns lack one that the schema requires.
    """
    if column_names is None:
        raise ConfigError("CSV messages have no header: name their columns with --columns NAME,NAME")
    layout = CsvFormat(
        delimiter, column_names=tuple(column_names), null_values=tuple(null_values), quoting=quoting, trim=trim
    )
    make = functools.partial(CsvDecoder, layout, features)
    make()  # raises for a missing required column
    return make


class CsvDecoder:
    """Decodes CSV records.

    Raises:
      InputError: when the columns lack one that the schema requires.
    """

    def __init__(self, layout: CsvFormat, features: Sequence[Feature] | None):
        names = layout.column_names or ()
        by_name = {} if features is None else feature_map(features)
        self._dialect = layout.dialect
        self._is_typed = features is not None
        self._names = {name: by_name.get(name) for name in select_names(names, features, _ORIGIN)}
        self._single, self._multiline = (
            RecordReader(CsvColumns(_ORIGIN, names, self._names, layout.dialect, layout.null_values, multiline))
            for multiline in (False, True)
        )
        self._columns = len(names)

    def decode(self, values: pa.Array) -> DecodedMessages:
        """See `penstock.io.messages.base.Decoder`."""
        lines = as_lines(_without_line_ends(texts_of(values)))
        filled, cut = lines.starts < lines.ends, _ends_in_cr(lines)
        indices = np.flatnonzero(filled & ~cut)
        lines = lines.select(indices)
        faults = byte_faults(lines)
        reader = self._single
        broken = np.flatnonzero(_has_break(lines))
        if len(broken):
            reader = self._multiline
            faults |= self._record_faults(lines, broken.tolist(), faults["csv.lone_cr"])
        columns, faulty = reader.read(lines, faults)
        reasons = {int(indices[row]): found for row, found in faulty.items()}
        rows = np.setdiff1d(indices, list(reasons))
        empty = Reason("csv.column_count", f"expected {self._columns} columns, got an empty message")
        reasons |= {row: [empty] for row in np.flatnonzero(~filled).tolist()}
        reasons |= {row: [_ENDS_IN_CR] for row in np.flatnonzero(cut).tolist()}
        return DecodedMessages(rows, columns, reasons, self._is_typed)

    def _record_faults(self, lines: Lines, broken: Sequence[int], lone_cr: np.ndarray) -> dict[str, np.ndarray]:
        """Finds faults of quotes and line breaks when some messages hold line breaks."""
        misquoted = misquoted_lines(lines, self._dialect)
        several = np.zeros(len(lines), bool)
        lone_cr = lone_cr.copy()
        for row in broken:
            text = lines.line(row)
            records = cut_records(Block(text, 0), self._dialect.delimiter.decode(), final=True)
            one = self._dialect.quoting and len(records.lines) == 1 and records.lines.ends[0] == len(text)
            several[row] = len(records.lines) > 0 and not one
            misquoted[row] = not several[row] and (not one or records.misquoted[0])
            lone_cr[row] = one and records.lone_cr[0]
        return {"csv.lone_cr": lone_cr, "csv.quote": misquoted, "csv.several_records": several}


def _without_line_ends(records: list[bytes]) -> list[bytes]:
    """Removes the final LF or CRLF of each record."""
    return [record if record[-1:] != b"\n" else record[:-1].removesuffix(b"\r") for record in records]


def _ends_in_cr(lines: Lines) -> np.ndarray:
    """Masks the lines that end in a CR: with the line break that `as_lines` adds, it would become a CRLF."""
    if b"\r" not in lines.data:
        return np.zeros(len(lines), bool)
    return (lines.starts < lines.ends) & (np.frombuffer(lines.data, np.uint8)[lines.ends - 1] == CR)


def _has_break(lines: Lines) -> np.ndarray:
    if lines.data.count(b"\n") == len(lines):
        return np.zeros(len(lines), bool)
    return counts_per_line(lines, occurrences(lines.data, LF)) > 0
