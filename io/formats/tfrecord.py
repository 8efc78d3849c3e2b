"""Reading TFRecord files of tf.Example or tf.SequenceExample.

A file is one part, since records can only be found by following their lengths from the beginning. The position of a row
is the byte offset of its record in the decompressed file.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.batches import MAX_BATCH_ROWS, MAX_ROW_BYTES, check_column_names, origin_array
from penstock.io.dead_letters.record import DeadLetter, raw_letter
from penstock.io.dead_letters.source import span_source
from penstock.io.examples.decode import DecodedExamples, RecordType, decode_examples, is_sequence
from penstock.io.examples.frames import Frames, LongRecord, read_frames
from penstock.io.files.inputs import InputFile, open_decompressed
from penstock.io.formats.base import Parsed, Part
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature


@dataclasses.dataclass(frozen=True)
class TFRecordFormat:
    """TFRecord files of tf.Example or tf.SequenceExample, plain or compressed.

    Compressions are .gz, .zlib, .bz2 and .zst. A record is rejected when it is not of that type, or its values are not
    of the schema's kind. A broken CRC or a cut-off record is a fault of the file. The columns are those of
    `decode_examples`.

    Attributes:
      record_type: `example` or `sequence_example`.
      max_row_bytes: a longer record becomes the dead letter `tfrecord.too_long`, whose payload is its beginning.
    """

    record_type: RecordType = "example"
    max_row_bytes: int = MAX_ROW_BYTES

    def __post_init__(self) -> None:
        is_sequence(self.record_type)

    def columns(self, file: InputFile) -> None:
        """Returns None: each record has its own features."""

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans one part, the whole file."""
        yield Part()

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the records in order, in batches of at most `MAX_BATCH_ROWS` rows and about 8 MiB of records.

        Raises:
          InputError: when the file is damaged or truncated, or a feature has a reserved name.
        """
        found: list[LongRecord] = []
        with open_decompressed(file) as stream:
            for frames in read_frames(stream, file.uri, max_record_bytes=self.max_row_bytes, too_long=found.append):
                for start in range(0, len(frames), MAX_BATCH_ROWS):
                    yield self._parse(file.uri, frames.select(slice(start, start + MAX_BATCH_ROWS)), features)
        if found:
            empty = self._parse(file.uri, Frames(b"", _NONE, _NONE, 0), features).batch
            yield Parsed(empty, [_letter(record, file.uri, self.max_row_bytes) for record in found])

    def tail(self, file: InputFile) -> None:
        """Returns None: the last records can only be found by following all records before them."""

    def _parse(self, uri: str, frames: Frames, features: Sequence[Feature] | None) -> Parsed:
        return _parsed(uri, frames, decode_examples(frames, features, is_sequence=is_sequence(self.record_type)))


_NONE = np.empty(0, np.int64)


def _letter(record: LongRecord, uri: str, limit: int) -> DeadLetter:
    detail = (
        f"the record has {record.length} bytes, over the limit of {limit}; the payload is its first "
        f"{len(record.head)} bytes"
    )
    return raw_letter([Reason("tfrecord.too_long", detail)], "read", uri, record.offset, record.head)


def _parsed(uri: str, frames: Frames, decoded: DecodedExamples) -> Parsed:
    check_column_names(decoded.batch.schema.names, uri)
    offsets = frames.offsets
    batch = decoded.batch.append_column(ORIGIN, origin_array(uri, offsets))
    if not decoded.rejects:
        return Parsed(batch, source=_source(frames))
    rejects = sorted(decoded.rejects.items())
    letters = [raw_letter(reasons, "read", uri, int(offsets[row]), frames.record(row)) for row, reasons in rejects]
    kept = np.setdiff1d(np.arange(len(frames)), list(decoded.rejects))
    return Parsed(batch.take(pa.array(kept)), letters, _source(frames.select(kept)))


def _source(frames: Frames) -> pa.StructArray:
    return span_source(frames.data, frames.starts, frames.starts + frames.lengths)
