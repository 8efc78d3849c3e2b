"""Reading text: a line is a row of one column, `text`, which holds its bytes as they are, in any encoding.

A line ends with LF or CRLF, which are no part of it; the last one may lack its end. An empty line is a row with an
empty text, a CR elsewhere a byte like any other. A UTF-8 byte order mark at the beginning of a file is left out, and a
file that begins with one of UTF-16 is refused, since its lines end otherwise. So the rows are those of
`tf.data.TextLineDataset`, but for the marks, and for other CRs, which that leaves out.

A line of over 256 MiB is the dead letter `text.too_long`, whose payload is its beginning.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.batches import origin_array
from penstock.io.dead_letters.record import DeadLetter
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import Parsed, Part, text_tail
from penstock.io.formats.lines import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    Lines,
    LongLine,
    index_lines,
    long_line_letter,
    longer_than,
    parsed_slices,
    read_blocks,
    split_part,
)
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature

TEXT = "text"


@dataclasses.dataclass(frozen=True)
class TextFormat:
    """Text files: one row a line, in the column `text`.

    Attributes:
      part_bytes: size of the byte ranges of a plain file; None goes by its size (`text_part_bytes`).
      block_bytes: how much is read at once.
      max_line_bytes: a longer line is a dead letter.
    """

    part_bytes: int | None = None
    block_bytes: int = BLOCK_BYTES
    max_line_bytes: int = MAX_LINE_BYTES

    def columns(self, file: InputFile) -> Sequence[str]:
        """`text`."""
        return [TEXT]

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Byte ranges of a plain file; one part for a compressed one."""
        return split_part(file, self.part_bytes)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """The rows of one part; `text` is binary.

        Raises:
          InputError: when the schema has no `text`, for a file in UTF-16 and a corrupt compressed file.
        """
        _check_schema(features, file.uri)
        for block in read_blocks(file, part, self.block_bytes, self.max_line_bytes):
            if isinstance(block, LongLine):
                yield Parsed(_batch(_no_lines(), file.uri), [self._letter(block, file.uri)])
                continue
            lines = index_lines(block)
            too_long = longer_than(lines, self.max_line_bytes)
            letters = [
                self._letter(LongLine(lines.position(row), lines.line(row)), file.uri)
                for row in np.flatnonzero(too_long).tolist()
            ]
            kept = lines.select(~too_long)
            yield from parsed_slices(_batch(kept, file.uri), letters, kept)

    def tail(self, file: InputFile) -> Part | None:
        """The end of a plain file."""
        return text_tail(file)

    def _letter(self, line: LongLine, uri: str) -> DeadLetter:
        return long_line_letter(line, uri, "text.too_long", self.max_line_bytes)


def _check_schema(features: Sequence[Feature] | None, uri: str) -> None:
    """Refuses a schema that would leave nothing of the rows: that of a CSV file, most likely."""
    if features is not None and all(feature.name != TEXT for feature in features):
        raise InputError(
            f"{uri}: text has the one column {TEXT!r}, and the schema has no feature of that name; add it, or pass "
            "--format csv if the lines are CSV"
        )


def _no_lines() -> Lines:
    none = np.empty(0, np.int64)
    return Lines(b"", 0, none, none, none)


def _batch(lines: Lines, uri: str) -> pa.RecordBatch:
    """The lines with their positions."""
    return pa.RecordBatch.from_arrays([_values(lines), origin_array(uri, lines.positions())], names=[TEXT, ORIGIN])


def _values(lines: Lines) -> pa.BinaryArray:
    """The bytes of the lines, binary.

    Lines and what is between them are one array of neighbours on the bytes of the block, which are not copied; taking
    every other one copies each line once::

        block     a b \\n c d e \\r \\n f
        bounds   0   2  3     6     8 9
        taken     a b    c d e        f
    """
    bounds = np.empty(2 * len(lines) + 1, np.int32)  # a block is far below 2 GiB
    bounds[:-1:2], bounds[1::2] = lines.starts, lines.ends
    bounds[-1] = lines.ends[-1] if len(lines) else 0
    pieces = pa.BinaryArray.from_buffers(
        pa.binary(), 2 * len(lines), [None, pa.py_buffer(bounds), pa.py_buffer(lines.data)]
    )
    return pieces.take(pa.array(np.arange(0, 2 * len(lines), 2)))
