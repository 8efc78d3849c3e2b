"""Reads dead letters back as rows: `DeadLetterFormat`, a format whose records are the payloads of dead letters.

`ReadRecords(files, DeadLetterFormat(...))` returns the rejected rows with two reserved columns. `_origin` is unchanged,
so a step that rejects a row again names the same origin. `_attempt` counts the attempts. With `keep_source`, a letter
that is rejected again has the payload that it had. The original bytes of a source are decoded as
`penstock.io.messages.values` decodes messages: to the decoder, a record of a file and the value of a message are the
same. A payload that is a row as JSON is read with the types that the letter names, or as JSON if it names none.

A letter is data, and may come from anywhere: that it names a file is no reason to open it. What is needed to read a
payload is in the letter. Only the lines of CSV in letters without `payload_columns` need the header of their file. It
is read if the file is an input of the run that wrote the letters (`inputs`).

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
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from penstock.io.batches import ORIGIN_TYPE, set_column
from penstock.io.columns.event_times import TIME_TYPE
from penstock.io.columns.values import shown
from penstock.io.dataset.options import DEFAULT_MAX_ATTEMPTS
from penstock.io.dead_letters.column_types import noted_types
from penstock.io.dead_letters.record import (
    LETTERS,
    REASON_TYPE,
    DeadLetter,
    RejectedBatch,
    row_letters,
)
from penstock.io.dead_letters.replay.typed_rows import TypedRows
from penstock.io.dead_letters.source import bytes_source, json_source
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile, stat_file
from penstock.io.files.partitions import Partitioning, partition_values
from penstock.io.formats.base import Parsed, Part
from penstock.io.formats.lines import Lines, LongLine, blank_lines, index_lines, read_blocks, split_part
from penstock.io.formats.partitioned import add_partitions, without_demands
from penstock.io.formats.registry import COLUMNS, DELIMITER, find_format, format_names
from penstock.io.messages.base import Decoder
from penstock.io.messages.registry import DECODERS, DecoderEntry
from penstock.io.reasons import Reason
from penstock.io.reserved import ATTEMPT, EVENT_TIME, ORIGIN, SOURCE
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
_REQUIRED = [name for name in _ON_DISK.names if name not in ("event_time", "payload_columns")]


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
        except KeyError as error:
            return InputError(f"{uri}: the line at byte {lines.position(row)} is not a dead letter: it has no {error}")
        except (ValueError, TypeError, RecursionError) as error:
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
        letters.
      inputs: URIs of files whose header may be read for letters that do not name the columns of CSV.
      max_attempts: letters that have failed this often are not tried.
      reasons: try only letters with a reason that matches one of these (`rule.*`); empty for all.
      partitioning: `auto` gives rows the columns that the folders of their files stand for, as when they were read
        (`penstock.io.files.partitions`); `none` does not.
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
    inputs: frozenset[str] = frozenset()
    partitioning: Partitioning = "auto"
    part_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigError(f"--max_attempts must be >= 1, got {self.max_attempts}")
        if self.format is not None and find_format(self.format) is None and self.format not in DECODERS:
            known = ", ".join(dict.fromkeys([*DECODERS, *format_names()]))
            raise ConfigError(f"the format of dead letters must be one of {known}, got {self.format!r}")
        if self._takes_columns and not self.needs_headers:
            self.decoder("", None)

    @property
    def _entry(self) -> DecoderEntry | None:
        return payload_decoder(self.format)

    @property
    def _takes_columns(self) -> bool:
        """Whether the bytes of a row do not name its columns."""
        return self._entry is not None and COLUMNS in self._entry.options

    @property
    def needs_headers(self) -> bool:
        """Whether letters that do not name the columns of their bytes need the header of their file."""
        return self._takes_columns and not self.options.get(COLUMNS.keyword)

    def decoder(self, uri: str, features: Sequence[Feature] | None, names: Sequence[str] | None = None) -> Decoder:
        """Returns the decoder for the payload bytes of letters of one file or partition; `names` are those they name.

        Raises:
          ConfigError: if there is no format, the format lacks an option, or nothing names the columns of CSV.
        """
        if self._entry is None:
            raise ConfigError(f"{uri}: its dead letters hold the bytes of rows; name their format with --format")
        of_files = find_format(self.format or "")
        fixed = {} if of_files is None else of_files.payload_options
        of_headers = {option.keyword for option in self._entry.of_headers}
        options = {name: value for name, value in self.options.items() if name not in of_headers}
        if self.needs_headers:
            options[COLUMNS.keyword] = self._header(uri) if names is None else names
        return self._entry.make(features, **options, **fixed)()

    def _header(self, uri: str) -> Sequence[str]:
        if uri not in self.inputs:
            raise ConfigError(
                f"{uri!r}, which the dead letters name, is no input of the run that wrote them, so it is not opened "
                "for its header; name the columns of the dead letters with --columns"
            )
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
          InputError: for a line that is not a dead letter.
          ConfigError: for payloads that cannot be of the format, and CSV without columns.
        """
        payloads: dict[frozenset[str], _Payloads] = {}
        for block in read_blocks(file, part):
            if isinstance(block, LongLine):
                raise InputError(f"{file.uri}: the line at byte {block.offset} is too long for a dead letter")
            lines = index_lines(block)
            letters = parse_letters(lines.select(~blank_lines(lines, whitespace=True)), file.uri)
            tried, left = self._sort_out(letters)
            if len(left):
                yield Parsed(_no_rows(), left)
            names = self._folder_columns(tried)
            if names not in payloads:
                payloads[names] = _Payloads(self, without_demands(features, names), file.uri)
            for parsed in payloads[names].parse(tried):
                yield from add_partitions(parsed, features) if names else [parsed]

    def _folder_columns(self, letters: pa.RecordBatch) -> frozenset[str]:
        """Returns the columns that no payload needs to have, since the folders of its file stand for them."""
        if self.partitioning == "none":
            return frozenset()
        return frozenset(name for uri in pc.unique(letters.column("uri")).to_pylist() for name in partition_values(uri))

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


def _names(columns: str) -> Sequence[str]:
    """Returns the names that `payload_columns` has.

    Raises:
      ValueError: when it is no list of names.
    """
    names = json.loads(columns)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{shown(columns)} is no JSON list of names")
    return names


# What the letters that share a decoder have in common: whether they are JSON, their `payload_columns`, and their uri if
# a file must be asked for its header.
_Key = tuple[bool, str | None, str]

# What `payload_columns` says, parsed.
_Columns = TypeVar("_Columns")


class _Payloads:
    """Decodes the payloads of one part; keeps its decoders, since they learn from what they decode."""

    def __init__(self, layout: DeadLetterFormat, features: Sequence[Feature] | None, uri: str):
        self._layout = layout
        self._features = features
        self._uri = uri
        self._decoders: dict[_Key, Decoder] = {}

    def parse(self, letters: pa.RecordBatch) -> Iterator[Parsed]:
        """Decodes some letters: first payloads of JSON, then payloads of bytes."""
        is_json = pc.equal(letters.column("payload_encoding"), "json")
        for chosen, rows in ((True, letters.filter(is_json)), (False, letters.filter(pc.invert(is_json)))):
            for key, part in self._by_decoder(rows, chosen):
                payload = _json_payload(part) if chosen else _bytes_payload(part, self._uri)
                yield self._parse(part, self._decoder(key), *payload)

    def _by_decoder(self, letters: pa.RecordBatch, is_json: bool) -> Iterator[tuple[_Key, pa.RecordBatch]]:
        """Groups letters by decoder: those that name no columns of CSV, by their file."""
        columns, uris = letters.column("payload_columns"), letters.column("uri")
        for named in pc.unique(columns).to_pylist():
            mask = columns.is_null() if named is None else pc.equal(columns, named).fill_null(False)
            part = letters.filter(mask)
            if named is not None or is_json or not self._layout.needs_headers:
                yield (is_json, named, ""), part
                continue
            for uri in pc.unique(uris.filter(mask)).to_pylist():
                yield (is_json, named, uri), part.filter(pc.equal(part.column("uri"), uri))

    def _decoder(self, key: _Key) -> Decoder:
        if key not in self._decoders:
            self._decoders[key] = self._make(*key)
        return self._decoders[key]

    def _make(self, is_json: bool, columns: str | None, uri: str) -> Decoder:
        if not is_json:
            return self._layout.decoder(uri, self._features, None if columns is None else self._read(columns, _names))
        if columns is None or self._features is None:
            return DECODERS["json"].make(self._features)()
        return TypedRows(self._read(columns, noted_types), self._features)

    def _read(self, columns: str, parse: Callable[[str], _Columns]) -> _Columns:
        try:
            return parse(columns)
        except ValueError as error:
            raise InputError(f"{self._uri}: the payload_columns of a dead letter are wrong: {error}") from error

    def _parse(self, letters: pa.RecordBatch, decoder: Decoder, values: pa.Array, source: pa.StructArray) -> Parsed:
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
        rejected = row_letters(set_column(places, SOURCE, source), faults, "read")
        return Parsed(batch, rejected, None if decoded.explodes else source.take(pa.array(kept)))


def _places(letters: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the reserved columns that a row gets from its letter: `_origin`, `_attempt`, `_event_time`."""
    origin = pa.StructArray.from_arrays(
        [letters.column("uri").dictionary_encode(), letters.column("position")], fields=list(ORIGIN_TYPE)
    )
    times = letters.column("event_time").cast(TIME_TYPE)
    return pa.RecordBatch.from_arrays([origin, letters.column("attempt"), times], names=[ORIGIN, ATTEMPT, EVENT_TIME])


def _json_payload(letters: pa.RecordBatch) -> tuple[pa.Array, pa.StructArray]:
    """Returns payloads that are JSON, binary, and `_source` of their rows."""
    texts = letters.column("payload")
    return texts.cast(pa.binary()), json_source(texts, letters.column("payload_columns"))


def _bytes_payload(letters: pa.RecordBatch, uri: str) -> tuple[pa.Array, pa.StructArray]:
    """Returns the original bytes, binary, and `_source` of their rows; base64 is rare, and decoded one by one.

    Raises:
      InputError: when a payload is not the base64 that its encoding says.
    """
    values = letters.column("payload").cast(pa.binary())
    mask = pc.equal(letters.column("payload_encoding"), "base64")
    if mask.true_count:
        try:
            decoded = [base64.b64decode(text) for text in letters.column("payload").filter(mask).to_pylist()]
        except ValueError as error:
            raise InputError(f"{uri}: the payload of a dead letter is not base64: {error}; correct it") from error
        values = pc.replace_with_mask(values, mask, pa.array(decoded, pa.binary()))
    return values, bytes_source(values, letters.column("payload_columns"))


def _no_rows() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], ORIGIN_TYPE)], names=[ORIGIN])
