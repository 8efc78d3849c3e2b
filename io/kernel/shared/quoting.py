"""The quoting of CSV (RFC 4180), of one record at a time.

A field is quoted when its first byte is a quote; then it ends at the next quote that is not doubled, and a delimiter
or the end of the record must follow. Quotes elsewhere in an unquoted field stand for themselves, as every reader has
it.
"""

import functools
import re
from collections.abc import Iterator

QUOTE = 34


@functools.cache
def _line_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    """Fields of one line: quoted, or not beginning with a quote."""
    mark = re.escape(delimiter)
    field = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"%b][^%b]*+)?+' % (mark, mark)
    return re.compile(rb"%b(?:%b%b)*+" % (field, mark, field))


@functools.cache
def _record_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    """One record from its start up to its line end, which may follow line breaks in quotes."""
    mark = re.escape(delimiter)
    field = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"\n%b][^\n%b]*+)?+' % (mark, mark)
    return re.compile(rb"%b(?:%b%b)*+" % (field, mark, field))


@functools.cache
def _field_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    mark = re.escape(delimiter)
    return re.compile(rb'"([^"]*+(?:""[^"]*+)*+)"(%b|\Z)|([^%b]*+)(%b|\Z)' % (mark, mark, mark))


def fields(record: bytes, delimiter: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Each field of a well-quoted record as (what is in its quotes, b"") or (None, its text)."""
    for match in _field_pattern(delimiter).finditer(record):
        quoted, quoted_mark, plain, plain_mark = match.groups()
        yield quoted, plain or b""
        if not (quoted_mark or plain_mark):
            return


def is_well_quoted(record: bytes, delimiter: bytes) -> bool:
    """Whether each field is either quoted as a whole or does not begin with a quote."""
    return _line_pattern(delimiter).fullmatch(record) is not None


def record_end(data: bytes, start: int, delimiter: bytes, final: bool) -> tuple[int | None, bool]:
    """Index of the line end of the record at `start`, and whether it is misquoted; None when it is not there yet."""
    match = _record_pattern(delimiter).match(data, start)
    stop = match.end() if match else start
    if stop == len(data):
        return (stop, False) if final else (None, False)
    if data.startswith(b"\n", stop):
        return stop, False
    if data.startswith(b"\r\n", stop):
        return stop + 1, False
    if data[stop] == QUOTE:  # only a field that is not closed stops the pattern here
        return None, False
    end = data.find(b"\n", stop)
    if end < 0:
        return (len(data), True) if final else (None, False)
    return end, True
