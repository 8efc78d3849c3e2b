"""Reads dead letters back as rows: `DeadLetterFormat`, a format whose records are the payloads of dead letters.

`ReadRecords(files, DeadLetterFormat(...))` returns the rejected rows with two reserved columns. `_origin` is unchanged,
so a step that rejects a row again names the same origin. `_attempt` counts the attempts. A payload that is a row as
JSON is read as JSON. The original bytes of a source are decoded as `penstock.io.messages.values` decodes messages: to
the decoder, a record of a file and the value of a message are the same.

Not all letters are tried. These are rejected again, unchanged:

- letters that have failed `max_attempts` times;
- letters whose payload is not a row: that of `file.*` stands for a file, that of `kafka.tombstone` has a key, that of
  `*.too_long` is the beginning of a line, and that of `csv.line_break` a piece of a record (both might pass if tried);
  they count as having failed `max_attempts` times;
- letters that have none of the wanted `reasons`; they keep their attempt.
"""

import base64
import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from penstock.io.batches import ORIGIN_TYPE
from penstock.io.columns.event_times import TIME_TYPE
from penstock.io.dataset.options import DEFAULT_MAX_ATTEMPTS
from penstock.io.dead_letters.record import (
    LETTERS,
    REASON_TYPE,
    DeadLetter,
    PayloadEncoding,
    RejectedBatch,
    row_letters,
)
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile, stat_file
from penstock.io.formats.base import Parsed, Part
from penstock.io.formats.lines import Lines, LongLine, blank_lines, index_lines, read_blocks, split_part
from penstock.io.formats.registry import COLUMNS, DELIMITER, find_format, format_names
from penstock.io.messages.base import Decoder
from penstock.io.messages.registry import DECODERS, DecoderEntry
from penstock.io.reasons import Reason
from penstock.io.reserved import ATTEMPT, EVENT_TIME, ORIGIN
from penstock.io.schema import Feature

# Letters with these reasons have a payload that is not a row.
_NO_ROW = ("file.*", "kafka.tombstone", "*.too_long", "csv.line_break")

_NO_TIME = Reason("event_time.missing", "the dead letter has no event time, every row needs one")

_ON_DISK = pa.schema(
    [
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("also", pa.list_(pa.struct([("reason", pa.string()), ("detail", pa.string())]))),
        *(field for field in LETTERS if field.name != "reasons"),
    ]
)
_REQUIRED = [name for name in _ON_DISK.names if name != "event_time"]


def parse_letters(lines: Lines, uri: str) -> RejectedBatch:
    """Parses some lines of a dead-letter file; drops `run_id`.

    Raises:
      InputError: if a line is not a dead letter.
    """
    if not len(lines):
        return RejectedBatch.of([])
    data = lines.joined()
    try:
        table = pa.json.read_json(
            pa.BufferReader(data),
            pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            pa.json.ParseOptions(explicit_schema=_ON_DISK, unexpected_field_behavior="ignore"),
        ).combine_chunks()
    except pa.ArrowInvalid as error:
        raise _not_a_letter(lines, uri) from error
    if table.num_rows != len(lines) or any(table.column(name).null_count for name in _REQUIRED):
        raise _not_a_letter(lines, uri)
    return RejectedBatch(_as_letters(table.to_batches()[0]))


def _not_a_letter(lines: Lines, uri: str) -> InputError:
    for row in range(len(lines)):
        try:
            DeadLetter.from_json(lines.line(row))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return InputError(f"{uri}: the line at byte {lines.position(row)} is not a dead letter: {error!r}")
    return InputError(f"{uri}: the lines from byte {lines.position(0)} on are not dead letters as jobs write them")


def _as_letters(found: pa.RecordBatch) -> pa.RecordBatch:
    """Converts the columns on disk to the columns of `LETTERS`."""
    also = found.column("also")
    counts = pc.list_value_length(also).to_numpy(zero_copy_only=False) + 1
    offsets = np.concatenate(([0], np.cumsum(counts)))
    # Each row's first reason goes before its others. With reasons 0 and 1 of two rows, and `also` of 2 and 1 reasons::
    #
    #     offsets   0     3   5
    #     is_first  1 0 0 1 0
    #     order     0 2 3 1 4     indices into: first reasons of all rows, then all others
    is_first = np.zeros(offsets[-1], bool)
    is_first[offsets[:-1]] = True
    order = np.empty(offsets[-1], np.int64)
    order[is_first] = np.arange(found.num_rows)
    order[~is_first] = np.arange(found.num_rows, offsets[-1])
    others = also.flatten()
    fields = []
    for name in ("reason", "detail"):
        texts = pa.concat_arrays([found.column(name), others.field(name)])
        fields.append(texts.take(pa.array(order)))
    reasons = pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(fields, fields=list(REASON_TYPE))
    )
    rest = [found.column(name) for name in LETTERS.names[1:]]
    return pa.RecordBatch.from_arrays([reasons, *rest], schema=LETTERS)


def payload_decoder(format_name: str | None) -> DecoderEntry | None:
    """Returns the decoder for payload bytes of a file or message format; None if its dead letters have no bytes."""
    of_files = find_format(format_name or "")
    name = format_name if of_files is None else of_files.payloads
    return DECODERS[name] if name else None


@dataclasses.dataclass(frozen=True)
class DeadLetterFormat:
    """The format of dead-letter files, in JSON Lines.

    Attributes:
      format: format of payloads that are bytes, a name from `penstock.io.formats.registry` or
        `penstock.io.messages.registry`; None refuses such payloads.
      options: options of the decoder, and those of headers, by keyword. CSV without `column_names` takes them from the
        header of the row's original file, which must still exist.
      max_attempts: letters that have failed this often are not tried.
      reasons: try only letters with a reason that matches one of these (`rule.*`); empty for all.
      event_times: give rows the event time of their letter, and reject letters without one (`event_time.missing`).
      part_bytes: size of the byte ranges into which a file is split; None derives it from the size of the file.

    Raises:
      ConfigError: for an unknown format, or a number of attempts below 1.
    """

    format: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    reasons: Sequence[str] = ()
    event_times: bool = False
    part_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigError(f"--max_attempts must be >= 1, got {self.max_attempts}")
        if self.format is not None and find_format(self.format) is None and self.format not in DECODERS:
            known = ", ".join(dict.fromkeys([*DECODERS, *format_names()]))
            raise ConfigError(f"the format of dead letters must be one of {known}, got {self.format!r}")
        if self._takes_columns and not self.has_headers:
            self.decoder("", None)

    @property
    def _entry(self) -> DecoderEntry | None:
        return payload_decoder(self.format)

    @property
    def _takes_columns(self) -> bool:
        """Whether the bytes of a row do not name its columns."""
        return self._entry is not None and COLUMNS in self._entry.options

    @property
    def has_headers(self) -> bool:
        """Whether the header of each original file names the columns of its rows."""
        return self._takes_columns and not self.options.get(COLUMNS.keyword)

    def decoder(self, uri: str, features: Sequence[Feature] | None) -> Decoder:
        """Returns the decoder for the payload bytes of one file or partition.

        Raises:
          ConfigError: if there is no format, the format lacks an option, or the header of a CSV file is gone.
        """
        if self._entry is None:
            raise ConfigError(f"{uri}: its dead letters hold the bytes of rows; name their format with --format")
        of_files = find_format(self.format or "")
        fixed = {} if of_files is None else of_files.payload_options
        header = {COLUMNS.keyword: self._header(uri)} if self.has_headers else {}
        of_headers = {option.keyword for option in self._entry.of_headers}
        options = {name: value for name, value in self.options.items() if name not in of_headers}
        return self._entry.make(features, **options, **header, **fixed)()

    def _header(self, uri: str) -> Sequence[str]:
        entry = find_format(self.format or "")
        names = None
        try:
            if entry is not None and self._entry is not None:
                known = {option.keyword for option in (DELIMITER, *self._entry.of_headers)}
                options = {name: value for name, value in self.options.items() if name in known}
                names = entry.make(**options).columns(stat_file(uri))
        except (InputError, ValueError) as error:
            raise ConfigError(f"{error}; name the columns of the dead letters with --columns") from error
        if names is None:
            raise ConfigError(f"{uri} has no header now; name the columns of the dead letters with --columns")
        return names

    def columns(self, file: InputFile) -> Sequence[str] | None:
        """None: each letter has its own row."""
        return None

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Splits a file into byte ranges."""
        return split_part(file, self.part_bytes)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of the letters in one part.

        Raises:
          InputError: for a line that is not a dead letter, and for CSV without columns whose file is gone.
          ConfigError: for payloads that cannot be of the format.
        """
        payloads = _Payloads(self, features)
        for block in read_blocks(file, part):
            if isinstance(block, LongLine):
                raise InputError(f"{file.uri}: the line at byte {block.offset} is too long for a dead letter")
            lines = index_lines(block)
            letters = parse_letters(lines.select(~blank_lines(lines, whitespace=True)), file.uri)
            tried, left = self._sort_out(letters)
            if len(left):
                yield Parsed(_no_rows(), left)
            yield from payloads.parse(tried)

    def tail(self, file: InputFile) -> None:
        """None: the event times of dead letters are late by nature."""

    def _sort_out(self, letters: RejectedBatch) -> tuple[pa.RecordBatch, RejectedBatch]:
        """Returns the letters to try, with the number of this attempt, and the letters to reject again."""
        rowless = _with_reason(letters, _NO_ROW)
        attempts = letters.letters.column("attempt").to_numpy()
        attempts = np.where(rowless, np.maximum(attempts, self.max_attempts), attempts)
        tried = attempts < self.max_attempts
        if self.reasons:
            tried &= _with_reason(letters, self.reasons)
        found = _set(letters.letters, "attempt", pa.array(attempts + tried))
        left = found.filter(pa.array(~tried))
        return found.filter(pa.array(tried)), RejectedBatch(_set(left, "stage", pa.repeat("read", left.num_rows)))


def _with_reason(letters: RejectedBatch, patterns: Sequence[str]) -> np.ndarray:
    """Returns a mask of the letters with a reason that matches one of the patterns."""
    reasons = letters.letters.column("reasons")
    codes = reasons.flatten().field("code")
    matching = [code for code in pc.unique(codes).to_pylist() if any(fnmatch.fnmatchcase(code, p) for p in patterns)]
    hits = pc.is_in(codes, pa.array(matching, pa.string())).to_numpy(zero_copy_only=False)
    mask = np.zeros(len(letters), bool)
    mask[pc.list_parent_indices(reasons).to_numpy()[hits]] = True
    return mask


def _set(letters: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    return letters.set_column(letters.schema.get_field_index(name), letters.schema.field(name), values)


class _Payloads:
    """Decodes the payloads of one part; keeps its decoders, since they learn from what they decode."""

    def __init__(self, layout: DeadLetterFormat, features: Sequence[Feature] | None):
        self._layout = layout
        self._features = features
        self._decoders: dict[str, Decoder] = {}

    def parse(self, letters: pa.RecordBatch) -> Iterator[Parsed]:
        """Decodes some letters: first payloads of JSON, then payloads of bytes."""
        is_json = pc.equal(letters.column("payload_encoding"), "json")
        rows = letters.filter(is_json)
        if rows.num_rows:
            yield self._parse(rows, self._decoder("json"), rows.column("payload").cast(pa.binary()), "json")
        for key, part in self._by_decoder(letters.filter(pc.invert(is_json))):
            yield self._parse(part, self._decoder(key), _payload_bytes(part), None)

    def _by_decoder(self, letters: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Groups letters by decoder: for CSV with headers, each original file has its own."""
        if letters.num_rows and not self._layout.has_headers:
            yield "", letters
            return
        uris = letters.column("uri")
        for uri in pc.unique(uris).to_pylist():
            yield uri, letters.filter(pc.equal(uris, uri))

    def _decoder(self, key: str) -> Decoder:
        if key not in self._decoders:
            self._decoders[key] = (
                DECODERS["json"].make(self._features)() if key == "json" else self._layout.decoder(key, self._features)
            )
        return self._decoders[key]

    def _parse(
        self, letters: pa.RecordBatch, decoder: Decoder, values: pa.Array, encoding: PayloadEncoding | None
    ) -> Parsed:
        """Decodes some letters to rows, in order, and to dead letters for those that fail to decode again."""
        decoded = decoder.decode(values)
        places = _places(letters)
        faults: dict[int, Sequence[Reason]] = dict(decoded.faults)
        kept, columns = decoded.indices, decoded.columns
        if self._layout.event_times:
            timeless = places.column(EVENT_TIME).is_null().to_numpy(zero_copy_only=False)
            faults |= dict.fromkeys(kept[timeless[kept]].tolist(), (_NO_TIME,))
            has_time = pa.array(~timeless[kept])
            columns = {name: column.filter(has_time) for name, column in columns.items()}
            kept = kept[~timeless[kept]]
        taken = places.take(pa.array(kept))
        reserved = [ORIGIN, ATTEMPT, EVENT_TIME] if self._layout.event_times else [ORIGIN, ATTEMPT]
        batch = pa.RecordBatch.from_arrays(
            [*columns.values(), *(taken.column(name) for name in reserved)], names=[*columns, *reserved]
        )
        rejected = row_letters(places, faults, "read", lambda row: values[row].as_py())
        if encoding is not None:
            texts = pa.repeat(encoding, len(rejected))
            rejected = RejectedBatch(_set(rejected.letters, "payload_encoding", texts))
        # Without original bytes, a step that rejects the row writes it as JSON, which is what the payload was.
        payload = None if encoding is not None else lambda row: values[int(kept[row])].as_py()
        return Parsed(batch, rejected, payload)


def _places(letters: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the reserved columns that a row gets from its letter: `_origin`, `_attempt`, `_event_time`."""
    origin = pa.StructArray.from_arrays(
        [letters.column("uri").dictionary_encode(), letters.column("position")], fields=list(ORIGIN_TYPE)
    )
    times = letters.column("event_time").cast(TIME_TYPE)
    return pa.RecordBatch.from_arrays([origin, letters.column("attempt"), times], names=[ORIGIN, ATTEMPT, EVENT_TIME])


def _payload_bytes(letters: pa.RecordBatch) -> pa.Array:
    """Returns the original bytes, binary; decodes base64 one by one, since few payloads have it."""
    payloads = letters.column("payload").cast(pa.binary())
    mask = pc.equal(letters.column("payload_encoding"), "base64")
    if not mask.true_count:
        return payloads
    decoded = [base64.b64decode(text) for text in letters.column("payload").filter(mask).to_pylist()]
    return pc.replace_with_mask(payloads, mask, pa.array(decoded, pa.binary()))


def _no_rows() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], ORIGIN_TYPE)], names=[ORIGIN])
