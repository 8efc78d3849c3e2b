"""Where the values of a JSON document begin and end, and the columns of documents that Penstock wrote.

A document is a sequence of values; the items of an array at its top are values too. Only brackets and quotes are looked
at, so what lies between the brackets of a value may not be JSON.
"""

import re
from collections.abc import Sequence

import numpy as np

from penstock.io.kernel.shared.documents import (
    AFTER,
    BETWEEN,
    FIRST,
    LINE_BREAK,
    NEXT,
    NO_COMMA,
    NO_VALUE,
    OPEN_ARRAY,
    OPEN_VALUE,
    TRAILING_COMMA,
    Cut,
    Level,
)

_SPACE = re.compile(rb"[ \t\r\n]*+")
_WORD = re.compile(rb'[^ \t\r\n,:\[\]{}"]*+')
_TEXT = re.compile(rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+')
# Up to the next bracket, or a text that does not end: one match is several times as fast as one for each text.
_FLAT = re.compile(rb'[^"\[\]{}]*+(?:"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"[^"\[\]{}]*+)*+')

_OPENING = b"[{"

# The state after a bracket or a comma at the top of a document.
_MARKS = {(BETWEEN, "["): FIRST, (FIRST, "]"): BETWEEN, (AFTER, "]"): BETWEEN, (AFTER, ","): NEXT}


class _Fault(Exception):
    def __init__(self, fault: int, place: int):
        super().__init__(fault)
        self.fault = fault
        self.place = place


class _Open(Exception):
    """A value has no end yet."""


def cut_values(data: bytes, state: int, final: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, Cut]:
    """Finds the values of a piece of a document.

    Args:
      data: a piece that begins where the last one was consumed.
      state: where the document stood there (`penstock.io.kernel.shared.documents`).
      final: whether the document ends with the piece.

    Returns:
      The starts and ends of the complete values, and the indices of the brackets and commas around them: int64 each;
      and how far the piece was cut.
    """
    starts: list[int] = []
    ends: list[int] = []
    marks: list[int] = []
    at = fault = 0
    place = -1
    try:
        while (at := _SPACE.match(data, at).end()) < len(data):  # type: ignore[union-attr]
            follows = _after_mark(data[at], state, at)
            if follows is not None:
                state = follows
                marks.append(at)
                at += 1
                continue
            end = _value_end(data, at, final)
            starts.append(at)
            ends.append(end)
            at, state = end, state if state == BETWEEN else AFTER
        if final and state != BETWEEN:
            raise _Fault(OPEN_ARRAY, at)
    except _Open:
        if final:
            fault, place = OPEN_VALUE, at
    except _Fault as error:
        at = place = error.place
        fault = error.fault
    return _ints(starts), _ints(ends), _ints(marks), Cut(state, at, fault, place)


def parse_columns(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    before: list[bytes],
    after: bytes,
    forms: Sequence[int],
    lists: Sequence[int],
) -> list[tuple[list[Level], np.ndarray]] | None:
    """Parses documents that are known but for their values, without white space: what `json` of Python finds in them.

    The compiled one gives up where any document is another, or has a value of another form, or one that only Python's
    `json` takes; and for data of 2 GiB or more. This one always does: nothing in Python is faster than `json`.

    Args:
      data: uint8, where the documents are.
      starts: int64[n], where each starts in the data.
      ends: int64[n], where it ends.
      before: what comes before each value, `{"a":`, `,"b":`.
      after: what comes after the last value, `}`.
      forms: of the values (`penstock.io.kernel.shared.documents`).
      lists: in how many lists the values are.

    Returns:
      Of each column what is in no list, in one list, and so on, and the values themselves: zeros for nulls, and texts
      behind each other, which may not be UTF-8. Or None, to give up.
    """
    return None


def _ints(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int64)


def _after_mark(byte: int, state: int, at: int) -> int | None:
    """Returns the state after a bracket or comma at the top; None when a value begins.

    Raises:
      _Fault: for a byte that must not come here.
    """
    mark = chr(byte)
    if (state, mark) in _MARKS:
        return _MARKS[state, mark]
    if state == AFTER:
        raise _Fault(NO_COMMA, at)
    if mark in "]},:":
        raise _Fault(TRAILING_COMMA if (state, mark) == (NEXT, "]") else NO_VALUE, at)
    return None


def _value_end(data: bytes, at: int, final: bool) -> int:
    """Returns the end of the value at `at`.

    Raises:
      _Open: when it has none yet.
      _Fault: for a text with a line break.
    """
    if data[at] == ord('"'):
        return _text_end(data, at)
    if data[at] not in _OPENING:
        end: int = _WORD.match(data, at).end()  # type: ignore[union-attr]
        if end == len(data) and not final:
            raise _Open
        return end
    depth = 0
    while (at := _FLAT.match(data, at).end()) < len(data):  # type: ignore[union-attr]
        if data[at] == ord('"'):
            at = _text_end(data, at)
            continue
        depth += 1 if data[at] in _OPENING else -1
        at += 1
        if not depth:
            return at
    raise _Open


def _text_end(data: bytes, quote: int) -> int:
    end: int = _TEXT.match(data, quote).end()  # type: ignore[union-attr]
    if data.startswith(b'"', end):
        return end + 1
    if data.startswith((b"\n", b"\\\n"), end):
        raise _Fault(LINE_BREAK, quote)
    raise _Open
