"""Texts of messages as rows: JSON and CSV, by what reads files of them.

The texts are joined by line breaks, so that they are the lines of a block; unlike lines they may hold line breaks
themselves. In JSON these stand between tokens only, where Arrow's parser takes them for white space. In CSV they must
be quoted, which is looked at message by message.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from penstock.io.formats.base import select_names
from penstock.io.formats.csv.fields import CsvColumns, misquoted_lines
from penstock.io.formats.csv.format import CsvFormat, RecordReader, byte_faults
from penstock.io.formats.csv.records import cut_records
from penstock.io.formats.json.format import JsonRowReader
from penstock.io.formats.lines import Block, Lines, counts_per_line, invalid_utf8, lone_cr_lines
from penstock.io.kernel.shared.positions import CR, LF, occurrences
from penstock.io.messages.base import DecodedMessages
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, feature_map

_ENDS_IN_CR = Reason("csv.lone_cr", "the message ends in a CR without LF")
_WHITE_SPACE = b" \t\r\n"


def _texts(values: pa.Array) -> list[bytes]:
    return values.to_numpy(zero_copy_only=False).tolist()  # several times faster than to_pylist


def _as_lines(texts: Sequence[bytes]) -> Lines:
    """Texts as lines; a line break follows each."""
    nexts = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
    starts = np.concatenate((np.zeros(1, np.int64), nexts[:-1]))[: len(texts)]
    return Lines(b"\n".join([*texts, b""]), 0, starts, nexts - 1, nexts)


class JsonDecoder:
    """JSON objects; learns from the first ones what to tell Arrow."""

    def __init__(self, features: Sequence[Feature] | None):
        self._reader = JsonRowReader(features)

    def decode(self, values: pa.Array) -> DecodedMessages:
        """See `penstock.io.messages.values.Decoder`."""
        lines = _as_lines(_texts(values))
        blank, foreign = _blank(lines), invalid_utf8(lines)
        good = ~(blank | foreign)
        found = self._reader.read(lines.select(good))
        indices = np.flatnonzero(good)
        faults = {int(indices[row]): [reason] for row, reason in found.faults.items()}
        for row in np.flatnonzero(~good).tolist():
            faults[row] = [
                Reason("jsonl.encoding", "the message is not UTF-8")
                if foreign[row]
                else Reason("jsonl.parse", "the message is empty")
            ]
        return DecodedMessages(indices[found.indices], found.columns, faults)


def _blank(lines: Lines) -> np.ndarray:
    """Mask of the lines of nothing but white space."""
    mask: np.ndarray = lines.starts == lines.ends
    first = np.frombuffer(lines.data, np.uint8)[lines.starts]
    for row in np.flatnonzero(np.isin(first, np.frombuffer(_WHITE_SPACE, np.uint8)) & ~mask).tolist():
        mask[row] = not lines.line(row).strip(_WHITE_SPACE)
    return mask


class CsvDecoder:
    """CSV records.

    Raises:
      InputError: when the columns lack one that the schema requires.
    """

    def __init__(self, layout: CsvFormat, features: Sequence[Feature] | None):
        names = layout.column_names or ()
        by_name = {} if features is None else feature_map(features)
        self._delimiter = layout.delimiter
        self._names = {name: by_name.get(name) for name in select_names(names, features, "Kafka messages")}
        self._single, self._multiline = (
            RecordReader(
                CsvColumns("Kafka messages", names, self._names, layout.delimiter, layout.null_values, multiline)
            )
            for multiline in (False, True)
        )
        self._columns = len(names)

    def decode(self, values: pa.Array) -> DecodedMessages:
        """See `penstock.io.messages.values.Decoder`."""
        lines = _as_lines(_without_line_ends(_texts(values)))
        filled, cut = lines.starts < lines.ends, _ends_in_cr(lines)
        indices = np.flatnonzero(filled & ~cut)
        lines = lines.select(indices)
        faults = {**byte_faults(lines), "csv.lone_cr": lone_cr_lines(lines)}
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
        return DecodedMessages(rows, columns, reasons)

    def _record_faults(self, lines: Lines, broken: Sequence[int], lone_cr: np.ndarray) -> dict[str, np.ndarray]:
        """Faults of the quotes, where some messages hold line breaks."""
        misquoted = misquoted_lines(lines, self._delimiter)
        several = np.zeros(len(lines), bool)
        lone_cr = lone_cr.copy()
        for row in broken:
            text = lines.line(row)
            records = cut_records(Block(text, 0), self._delimiter, final=True)
            one = len(records.lines) == 1 and records.lines.ends[0] == len(text)
            several[row] = len(records.lines) > 0 and not one
            misquoted[row] = not several[row] and (not one or records.misquoted[0])
            lone_cr[row] = one and records.lone_cr[0]
        return {"csv.lone_cr": lone_cr, "csv.quote": misquoted, "csv.several_records": several}


def _without_line_ends(records: list[bytes]) -> list[bytes]:
    """The records without an LF or CRLF of their own."""
    return [record if record[-1:] != b"\n" else record[:-1].removesuffix(b"\r") for record in records]


def _ends_in_cr(lines: Lines) -> np.ndarray:
    """Mask of the lines that end in a CR, of which the line break behind it would make a CRLF."""
    if b"\r" not in lines.data:
        return np.zeros(len(lines), bool)
    return (lines.starts < lines.ends) & (np.frombuffer(lines.data, np.uint8)[lines.ends - 1] == CR)


def _has_break(lines: Lines) -> np.ndarray:
    if lines.data.count(b"\n") == len(lines):
        return np.zeros(len(lines), bool)
    return counts_per_line(lines, occurrences(lines.data, LF)) > 0
