"""The quoting of CSV (RFC 4180), one record at a time.

A field is quoted when its first byte is a quote. It then ends at the next quote that is not doubled, and a delimiter or
the end of the record must follow. Quotes later in an unquoted field stand for themselves, as in every CSV reader.
"""

import functools
import re
from collections.abc import Iterator

QUOTE = 34


@functools.cache
def _line_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    """Matches the fields of one line: each is quoted, or does not begin with a quote."""
    mark = re.escape(delimiter)
    field = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"%b][^%b]*+)?+' % (mark, mark)
    return re.compile(rb"%b(?:%b%b)*+" % (field, mark, field))


@functools.cache
def _record_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    """Matches one record from its start up to its line end; its quoted fields may hold line breaks."""
    mark = re.escape(delimiter)
    field = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"\n%b][^\n%b]*+)?+' % (mark, mark)
    return re.compile(rb"%b(?:%b%b)*+" % (field, mark, field))


@functools.cache
def _field_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    mark = re.escape(delimiter)
    return re.compile(rb'"([^"]*+(?:""[^"]*+)*+)"(%b|\Z)|([^%b]*+)(%b|\Z)' % (mark, mark, mark))


def fields(record: bytes, delimiter: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Yields each field of a well-quoted record as (the bytes in its quotes, b"") or (None, its text)."""
    for match in _field_pattern(delimiter).finditer(record):
        quoted, quoted_mark, plain, plain_mark = match.groups()
        yield quoted, plain or b""
        if not (quoted_mark or plain_mark):
            return


def is_well_quoted(record: bytes, delimiter: bytes) -> bool:
    """Returns whether each field is quoted as a whole or does not begin with a quote."""
    return _line_pattern(delimiter).fullmatch(record) is not None


def record_end(data: bytes, start: int, delimiter: bytes, final: bool) -> tuple[int | None, bool]:
    """Returns the index of the line end of the record at `start`, and whether the record is misquoted.

    The index is None when the data does not yet have the line end.
    """
    match = _record_pattern(delimiter).match(data, start)
    stop = match.end() if match else start
    if stop == len(data):
        return (stop, False) if final else (None, False)
    if data.startswith(b"\n", stop):
        return stop, False
    if data.startswith(b"\r\n", stop):
        return stop + 1, False
    if data[stop] == QUOTE:  # the pattern stops at a quote only if the field is not closed
        return None, False
    end = data.find(b"\n", stop)
    if end < 0:
        return (len(data), True) if final else (None, False)
    return end, True
