"""JSON that is not one object a line: arrays of objects, and objects on any number of lines.

A document is a sequence of objects or of arrays of objects, with any white space between them. Each object is a row,
and its position is that of its `{`. An item of an array that is no object is a dead letter, as is an object that is not
JSON between its brackets. Where the document itself is broken, nothing says where the next object begins: this is an
`InputError`, which names the byte.

The first lines of a file decide whether it is a document or lines: see `is_document`.
"""

import re
from collections.abc import Iterator

import numpy as np

from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.lines import BLOCK_BYTES, Lines, PendingBytes, read_chunks
from penstock.io.kernel import json as kernel_json
from penstock.io.kernel.shared.documents import (
    BETWEEN,
    LINE_BREAK,
    NO_COMMA,
    NO_VALUE,
    OPEN_ARRAY,
    OPEN_VALUE,
    TRAILING_COMMA,
)

# How much of a file decides what it is: more than its first line nearly always has.
_HEAD_BYTES = 256 << 10

_SHOWN_BYTES = 20

_WHITE_SPACE = b" \t\r\n"
_VALUE_STARTS = b'{["-0123456789tfn'
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s]', re.DOTALL)
_CLOSED_BY = {ord("{"): ord("}"), ord("["): ord("]")}

_FAULTS = {
    NO_VALUE: "an object must come here, or the end of the document; correct the file",
    NO_COMMA: "a comma must stand between two items of an array; correct the file",
    TRAILING_COMMA: "no comma may stand behind the last item of an array; remove it",
    LINE_BREAK: "the text that begins here is not closed on its line; correct the quotes",
    OPEN_VALUE: "what begins here has no end; the file may be cut off: fetch it again",
    OPEN_ARRAY: "the file ends inside an array; it may be cut off: fetch it again",
}
_TOO_LONG = "a value has more than {} bytes; if it is an object around the rows, take them out (jq -c '.NAME[]' FILE)"


def reads_as_document(file: InputFile) -> bool:
    """Returns whether a file is a document, by its first lines.

    Raises:
      InputError: when the file is UTF-16, or a compressed stream is corrupt or ends too early.
    """
    for _, head in read_chunks(file, _HEAD_BYTES):
        return is_document(head)
    return False


def is_document(head: bytes) -> bool:
    """Returns whether text begins a document, and not lines of one object each.

    It does if its first line begins an array of objects, or a value that can go on with the next line, or if it is the
    only line and holds several objects. A line that is cut off can not go on, since the next one begins an object of
    its own.

    >>> [is_document(head) for head in (b'[{"a": 1},', b'{"a":1}{"a":2}', b'{\\n "a": 1', b'{"a": [\\n1, 2]')]
    [True, True, True, True]
    >>> [is_document(head) for head in (b'{"a": 1}\\n{"a": 2}', b'{"a": 1,\\n{"a": 2}', b'["x", "y"]\\n["z"]', b"x")]
    [False, False, False, False]
    """
    head = head.lstrip(_WHITE_SPACE)
    if head.startswith(b"[") and head[1:].lstrip(_WHITE_SPACE)[:1] in (b"", b"{", b"]"):
        return True
    if not head.startswith((b"{", b"[")):
        return False
    line, _, rest = head.partition(b"\n")
    if head.startswith(b"{"):
        _, ends, _, _ = kernel_json.cut_values(line, BETWEEN, False)
        if len(ends) > 1:
            return not rest.strip(_WHITE_SPACE)
        # What follows the first object; all of the line if that does not end on it.
        line = line[ends[0] if len(ends) else 0 :].strip(_WHITE_SPACE)
        if not line.startswith(b"{"):
            return False
    return _goes_on(line, rest.lstrip(_WHITE_SPACE)[:1])


def _goes_on(line: bytes, following: bytes) -> bool:
    """Returns whether a value that begins on a line can go on with the first byte of the next line."""
    inside: list[int] = []
    last = b""
    for match in _TOKENS.finditer(line):
        last = match[0]
        if last == b'"':  # a text that is not closed
            return False
        if last in (b"{", b"["):
            inside.append(last[0])
        elif last in (b"}", b"]") and inside:
            inside.pop()
    if not inside or not following:
        return False
    allowed = bytes([_CLOSED_BY[inside[-1]], ord(",")])
    if last == b":":
        allowed = _VALUE_STARTS
    elif last in (b"{", b"[", b","):
        allowed = b'"' if inside[-1] == ord("{") else _VALUE_STARTS
        allowed += b"" if last == b"," else bytes([_CLOSED_BY[inside[-1]]])
    return following in allowed


def read_document(file: InputFile, block_bytes: int = BLOCK_BYTES, max_value_bytes: int = 1 << 62) -> Iterator[Lines]:
    """Reads the values of a document, in order, as lines of about a block.

    Between the lines of a block is nothing but white space. Holds one block, or one longer value, in memory.

    Raises:
      InputError: when the document is broken, a value has more than `max_value_bytes` bytes, the file is UTF-16, or a
        compressed stream is corrupt or ends too early.
    """
    cutter = _ValueCutter(file.uri, max_value_bytes)
    for position, chunk in read_chunks(file, block_bytes):
        yield from cutter.feed(position, chunk)
    yield from cutter.finish()


class _ValueCutter:
    """Cuts consecutive chunks of a document into values; a value that is not complete waits for the next chunk."""

    def __init__(self, uri: str, max_value_bytes: int):
        self._uri = uri
        self._limit = max_value_bytes
        self._state = BETWEEN
        self._pending = PendingBytes()

    def feed(self, position: int, chunk: bytes) -> Iterator[Lines]:
        """Yields the values that end in the chunk."""
        if self._pending.add(position, chunk):
            yield from self._cut(final=False)

    def finish(self) -> Iterator[Lines]:
        """Yields the last values."""
        yield from self._cut(final=True)

    def _cut(self, final: bool) -> Iterator[Lines]:
        block = self._pending.joined()
        starts, ends, marks, cut = kernel_json.cut_values(block.data, self._state, final)
        rest = block.data[cut.consumed :]
        self._state = cut.state
        self._pending.keep(rest, block.offset + cut.consumed)
        if len(starts):
            yield Lines(_blanked(block.data, marks), block.offset, starts, ends, np.append(starts[1:], cut.consumed))
        if cut.fault:
            raise self._broken(block.offset + cut.place, _FAULTS[cut.fault], block.data[cut.place :])
        longest = max(self._pending.size, int((ends - starts).max(initial=0)))
        if longest > self._limit:
            raise self._broken(self._pending.offset, _TOO_LONG.format(self._limit), rest)

    def _broken(self, position: int, fault: str, text: bytes) -> InputError:
        shown = ascii(text[:_SHOWN_BYTES].decode(errors="replace")) if text else "its end"
        return InputError(f"{self._uri}: the JSON document is broken at byte {position}, at {shown}: {fault}")


def _blanked(data: bytes, marks: np.ndarray) -> bytes:
    """Replaces the brackets and commas between values by spaces."""
    if not len(marks):
        return data
    array = np.frombuffer(data, np.uint8).copy()
    array[marks] = ord(" ")
    return array.tobytes()
