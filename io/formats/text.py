"""Reading text: each line is a row with one column, `text`, which holds its bytes unchanged, in any encoding.

A line ends with LF or CRLF, which are not part of it; the last line may lack its end. An empty line is a row with an
empty text. A CR that is not part of a CRLF is a byte like any other. A UTF-8 byte order mark at the beginning of a file
is dropped. A file that begins with a UTF-16 one is rejected, since its lines end differently. The rows are those of
`tf.data.TextLineDataset`, except that it keeps byte order marks and drops other CRs.

A line of over 256 MiB becomes the dead letter `text.too_long`, whose payload is the beginning of the line.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.batches import as_untyped, origin_array
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
      part_bytes: size of the byte ranges of a plain file; None derives it from the file's size (`text_part_bytes`).
      block_bytes: how many bytes are read at once.
      max_line_bytes: a longer line becomes a dead letter.
    """

    part_bytes: int | None = None
    block_bytes: int = BLOCK_BYTES
    max_line_bytes: int = MAX_LINE_BYTES

    def columns(self, file: InputFile) -> Sequence[str]:
        """Returns `text`, the only column."""
        return [TEXT]

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans byte ranges of a plain file; one part for a compressed file."""
        return split_part(file, self.part_bytes)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of one part; `text` is binary.

        Raises:
          InputError: when the schema has no `text`, the file is UTF-16, or a compressed file is corrupt.
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
            batch = _batch(kept, file.uri)
            yield from parsed_slices(as_untyped(batch, [TEXT]) if features is None else batch, letters, kept)

    def tail(self, file: InputFile) -> Part | None:
        """Returns the end of a plain file."""
        return text_tail(file)

    def _letter(self, line: LongLine, uri: str) -> DeadLetter:
        return long_line_letter(line, uri, "text.too_long", self.max_line_bytes)


def _check_schema(features: Sequence[Feature] | None, uri: str) -> None:
    """Rejects a schema without the column `text`: most likely it is for a CSV file."""
    if features is not None and all(feature.name != TEXT for feature in features):
        raise InputError(
            f"{uri}: text has the one column {TEXT!r}, and the schema has no feature of that name; add it, or pass "
            "--format csv if the lines are CSV"
        )


def _no_lines() -> Lines:
    none = np.empty(0, np.int64)
    return Lines(b"", 0, none, none, none)


def _batch(lines: Lines, uri: str) -> pa.RecordBatch:
    """Makes a batch of the lines, with their positions."""
    return pa.RecordBatch.from_arrays([_values(lines), origin_array(uri, lines.positions())], names=[TEXT, ORIGIN])


def _values(lines: Lines) -> pa.BinaryArray:
    """Returns the bytes of the lines, binary.

    An array over the bytes of the block alternates lines and the bytes between them, without a copy. Taking every
    other element then copies each line once::

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
