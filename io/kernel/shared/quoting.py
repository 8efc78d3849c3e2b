"""The quoting of CSV (RFC 4180), one record at a time.

A field is quoted when its first byte is a quote. It then ends at the next quote that is not doubled, and a delimiter or
the end of the record must follow. Quotes later in an unquoted field stand for themselves, as in every CSV reader. A
dialect may differ (`Dialect`).
"""

import dataclasses
import functools
import re
from collections.abc import Iterator

QUOTE = 34


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a record holds its fields.

    Attributes:
      delimiter: the byte between fields.
      quoting: fields may be quoted; otherwise a quote is a byte like any other.
      spaces: spaces at both ends of a field, or beside its quotes, are no part of it.
    """

    delimiter: bytes
    quoting: bool = True
    spaces: bool = False


@functools.cache
def _line_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """Matches the fields of one line: each is quoted, or does not begin with a quote."""
    return _fields_pattern(dialect, b"")


@functools.cache
def _record_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """Matches one record from its start up to its line end; its quoted fields may hold line breaks."""
    return _fields_pattern(dialect, rb"\n")


def _fields_pattern(dialect: Dialect, ends: bytes) -> re.Pattern[bytes]:
    mark, gap = re.escape(dialect.delimiter), b" *+" if dialect.spaces else b""
    field = rb'(?:%b"[^"]*+(?:""[^"]*+)*+"%b|(?!%b")[^%b%b]++)?+' % (gap, gap, gap, ends, mark)
    return re.compile(rb"%b(?:%b%b)*+" % (field, mark, field))


@functools.cache
def _field_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    mark, gap = re.escape(dialect.delimiter), b" *+" if dialect.spaces else b""
    return re.compile(rb'%b"([^"]*+(?:""[^"]*+)*+)"%b(%b|\Z)|([^%b]*+)(%b|\Z)' % (gap, gap, mark, mark, mark))


def fields(record: bytes, dialect: Dialect) -> Iterator[tuple[bytes | None, bytes]]:
    """Yields each field of a well-quoted record as (the bytes in its quotes, b"") or (None, its text)."""
    if not dialect.quoting:
        for text in record.split(dialect.delimiter):
            yield None, text.strip(b" ") if dialect.spaces else text
        return
    for match in _field_pattern(dialect).finditer(record):
        quoted, quoted_mark, plain, plain_mark = match.groups()
        plain = plain or b""
        yield quoted, plain.strip(b" ") if dialect.spaces else plain
        if not (quoted_mark or plain_mark):
            return


def strip_fields(record: bytes, dialect: Dialect) -> bytes:
    """Removes the spaces beside the fields of a record, up to the first field that is misquoted."""
    if not dialect.quoting:
        return dialect.delimiter.join(text for _, text in fields(record, dialect))
    texts: list[bytes] = []
    for match in _field_pattern(dialect).finditer(record):
        quoted, quoted_mark, plain, plain_mark = match.groups()
        text = (plain or b"").strip(b" ") if quoted is None else b'"%b"' % quoted
        if quoted is None and text.startswith(b'"'):
            return dialect.delimiter.join([*texts, record[match.start() :].lstrip(b" ")])
        texts.append(text)
        if not (quoted_mark or plain_mark):
            break
    return dialect.delimiter.join(texts)


def is_well_quoted(record: bytes, dialect: Dialect) -> bool:
    """Returns whether each field is quoted as a whole or does not begin with a quote."""
    return not dialect.quoting or _line_pattern(dialect).fullmatch(record) is not None


def record_end(data: bytes, start: int, dialect: Dialect, final: bool) -> tuple[int | None, bool]:
    """Returns the index of the line end of the record at `start`, and whether the record is misquoted.

    The index is None when the data does not yet have the line end.
    """
    match = _record_pattern(dialect).match(data, start)
    stop = match.end() if match else start
    if stop == len(data):
        return (stop, False) if final else (None, False)
    if data.startswith(b"\n", stop):
        return stop, False
    if data.startswith(b"\r\n", stop):
        return stop + 1, False
    if _opens(data, start, stop, dialect):
        return None, False
    end = data.find(b"\n", stop)
    if end < 0:
        return (len(data), True) if final else (None, False)
    return end, True


def _opens(data: bytes, start: int, stop: int, dialect: Dialect) -> bool:
    """Whether a quoted field begins where the pattern of a record stops: then it is not closed."""
    if stop > start and data[stop - 1 : stop] != dialect.delimiter:
        return False
    quote = stop
    while dialect.spaces and data.startswith(b" ", quote):
        quote += 1
    return data.startswith(b'"', quote)
