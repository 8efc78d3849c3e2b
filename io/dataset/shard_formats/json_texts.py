"""Columns as texts of JSON, and back, without a loss.

Integers are whole numbers of any size. Floats are the shortest decimals that stand for their float64, always with a
point or an exponent. NaN and the infinities are `NaN`, `Infinity` and `-Infinity`, as Python and JavaScript write them;
RFC 8259 has no words for them. A missing value is `null`. Texts are UTF-8, escaped only where JSON demands it.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.columns.of_numpy import array_of, flags_of
from penstock.io.kernel import json as kernel_json
from penstock.io.kernel.shared.documents import BOOLEANS, FLOATS, INTS, TEXTS, UNSIGNED, Level
from penstock.io.kernel.shared.offsets import Ints, list_lengths, starts_of
from penstock.io.kernel.shared.pieces import Bytes

_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPES = {chr(code): _SHORT_ESCAPES.get(chr(code), f"\\u{code:04x}") for code in range(0x20)}

# Offsets of Arrow's lists and texts have 32 bits.
_MAX_OFFSET = (1 << 31) - 1

Leaf = Callable[[pa.Array], pa.Array]


def json_objects(names: Sequence[str], texts: Sequence[pa.Array], rows: int) -> pa.Array:
    """Returns large_string, an object for each row, with these members in this order; `texts` are their values."""
    pieces: list[Any] = []
    for name, text in zip(names, texts, strict=True):
        before = "," if pieces else "{"
        pieces += [_constant(f"{before}{_quoted_name(name)}:"), text.cast(pa.large_string())]
    if not pieces:
        return pa.array(["{}"] * rows, pa.large_string())
    return pc.binary_join_element_wise(*pieces, _constant("}"), _constant(""))


def _quoted_name(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _constant(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def json_texts(column: pa.Array, leaf: Leaf | None = None) -> pa.Array:
    """Returns string, the values of a column of numbers, booleans or texts, or of lists of them; none is null.

    Args:
      column: the values.
      leaf: makes the texts of what is in the innermost lists; None for those of this module.
    """
    if types.is_list(column.type):
        offsets = pa.array(starts_of(list_lengths(column)), pa.int32())
        items = pa.ListArray.from_arrays(offsets, json_texts(column.flatten(), leaf))
        texts = pc.binary_join_element_wise("[", pc.binary_join(items, ","), "]", "")
        if column.null_count:
            texts = pc.if_else(column.is_valid(), texts, pa.scalar("null"))
        return texts
    texts = (leaf or _leaf_texts)(column)
    return pc.fill_null(texts, "null") if texts.null_count else texts


def _leaf_texts(column: pa.Array) -> pa.Array:
    if types.is_floating(column.type):
        return _float_texts(column.cast(pa.float64()))
    if types.is_string(column.type):
        return quoted(column)
    return column.cast(pa.string())


def _float_texts(column: pa.Array) -> pa.Array:
    texts = column.cast(pa.string())
    is_whole = pc.match_substring_regex(texts, r"^-?[0-9]+$")
    texts = pc.if_else(is_whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
    if not pc.all(pc.is_finite(column)).as_py():
        for word, written in _WORDS.items():
            texts = pc.if_else(pc.equal(texts, word), written, texts)
    return texts


def quoted(texts: pa.Array) -> pa.Array:
    """Returns texts in quotes; null where one is missing."""
    if pc.any(pc.match_substring_regex(texts, r'["\\\x00-\x1f]')).as_py():
        texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
        if pc.any(pc.match_substring_regex(texts, r"[\x00-\x1f]")).as_py():
            for character, escape in _ESCAPES.items():
                texts = pc.replace_substring(texts, character, escape)
    return pc.binary_join_element_wise('"', texts, '"', "")


class _Misfit(Exception):
    """A value is not of the type of its column."""


def object_arrays(columns: pa.Schema, data: Bytes, starts: Ints, ends: Ints) -> list[pa.Array] | None:
    """Parses objects of `json_objects` into columns: what `parsed_objects` and `typed` give, or None.

    None says nothing of the objects; there is none for data of 2 GiB or more.

    Args:
      columns: names, all different, and types, of numbers, booleans, texts, and lists of them.
      data: where the objects are.
      starts: where each starts in the data.
      ends: where it ends.
    """
    before = [f"{',' if index else '{'}{_quoted_name(name)}:".encode() for index, name in enumerate(columns.names)]
    return _parsed(columns.types, data, starts, ends, before, b"}" if before else b"{}")


def text_array(arrow_type: pa.DataType, data: Bytes, starts: Ints, ends: Ints) -> pa.Array | None:
    """Parses texts of `json_texts` into a column, or returns None, as `object_arrays` does."""
    found = _parsed([arrow_type], data, starts, ends, [b""], b"")
    return None if found is None else found[0]


def _parsed(
    columns: Sequence[pa.DataType], data: Bytes, starts: Ints, ends: Ints, before: list[bytes], after: bytes
) -> list[pa.Array] | None:
    forms, lists = zip(*map(_form, columns), strict=True) if columns else ((), ())
    parsed = kernel_json.parse_columns(data, starts, ends, before, after, forms, lists)
    if parsed is None:
        return None
    try:
        return [_built(one, levels, values) for one, (levels, values) in zip(columns, parsed, strict=True)]
    except _Misfit:
        return None


def _form(arrow_type: pa.DataType) -> tuple[int, int]:
    """Returns the form of the values of a type, and in how many lists they are."""
    lists = 0
    while types.is_list(arrow_type):
        arrow_type, lists = arrow_type.value_type, lists + 1
    if types.is_integer(arrow_type):
        return UNSIGNED if types.is_uint64(arrow_type) else INTS, lists
    if types.is_floating(arrow_type):
        return FLOATS, lists
    return BOOLEANS if types.is_boolean(arrow_type) else TEXTS, lists


def _built(arrow_type: pa.DataType, levels: Sequence[Level], values: np.ndarray) -> pa.Array:
    (length, valid, starts), *inner = levels
    buffers = [None if valid is None else _bits(valid)] + ([] if starts is None else [pa.py_buffer(starts)])
    if types.is_list(arrow_type):
        items = _built(arrow_type.value_type, inner, values)
        return pa.Array.from_buffers(arrow_type, length, buffers, children=[items])
    if types.is_boolean(arrow_type):
        content = _bits(values)
    else:
        content = pa.py_buffer(values if types.is_string(arrow_type) else _narrowed(values, arrow_type))
    array = pa.Array.from_buffers(arrow_type, length, [*buffers, content])
    if types.is_string(arrow_type):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            raise _Misfit from error
    return array


def lengths_of(lists: pa.Array) -> Ints:
    """Returns the number of values of each list of an array of this module; Arrow's own way to it imports pandas."""
    starts: Ints = np.frombuffer(lists.buffers()[1], np.int32)[: len(lists) + 1].astype(np.int64)
    return starts[1:] - starts[:-1]


def _narrowed(values: np.ndarray, arrow_type: pa.DataType) -> np.ndarray:
    kind = _numpy_type(arrow_type)
    if values.itemsize == kind.itemsize:
        return values
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            narrow = values.astype(kind)
        is_changed = (np.isinf(narrow) != np.isinf(values)).any()
    else:
        narrow = values.astype(kind)
        is_changed = (narrow != values).any()
    if is_changed:
        raise _Misfit
    return narrow


def parsed_objects(documents: Sequence[bytes]) -> list[dict[str, Any]]:
    """Returns the objects that documents hold.

    Raises:
      ValueError: with the index of the first document that is no object of JSON.
    """
    try:
        found = json.loads(b"[" + b",".join(documents) + b"]")
    except (ValueError, RecursionError):
        found = []
    if len(found) == len(documents) and all(type(one) is dict for one in found):
        return found
    for index, document in enumerate(documents):
        try:
            is_object = type(json.loads(document)) is dict
        except (ValueError, RecursionError):
            is_object = False
        if not is_object:
            raise ValueError(index)
    raise ValueError(0)


def typed(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    """Returns values of JSON, or bytes, as a column of the type that they were written from.

    Raises:
      TypeError: for a value that is not of the type.
      OverflowError: for an integer that is too large for it.
    """
    is_present = np.array([value is not None for value in values], bool)
    if types.is_list(arrow_type):
        _check(values, list)
        offsets = array_of(_starts([len(value or ()) for value in values]))
        items = typed([item for value in values if value for item in value], arrow_type.value_type)
        return pa.ListArray.from_arrays(offsets, items, type=arrow_type, mask=flags_of(~is_present))
    return pa.Array.from_buffers(arrow_type, len(values), [_bits(is_present), *_content(values, arrow_type)])


def _content(values: Sequence[Any], arrow_type: pa.DataType) -> list[pa.Buffer]:
    """Returns the buffers of values, without their validity."""
    if types.is_string(arrow_type) or types.is_binary(arrow_type):
        _check(values, str if types.is_string(arrow_type) else bytes)
        texts = [value.encode() if isinstance(value, str) else value or b"" for value in values]
        return [pa.py_buffer(_starts(list(map(len, texts)))), pa.py_buffer(b"".join(texts))]
    if types.is_boolean(arrow_type):
        _check(values, bool)
        return [_bits(np.array([bool(value) for value in values], bool))]
    kind = int if types.is_integer(arrow_type) else float
    _check(values, kind)
    return [pa.py_buffer(np.array([kind(0) if value is None else value for value in values], _numpy_type(arrow_type)))]


def _numpy_type(arrow_type: pa.DataType) -> np.dtype[Any]:
    """Returns numpy's type of a type of numbers; Arrow's own way to it would import pandas."""
    letter = "iu"[types.is_unsigned_integer(arrow_type)] if types.is_integer(arrow_type) else "f"
    return np.dtype(f"{letter}{arrow_type.bit_width // 8}")


def _check(values: Sequence[Any], kind: type) -> None:
    for value in values:
        if value is not None and type(value) is not kind:
            raise TypeError(f"{value!r} is no {kind.__name__}")


def _bits(flags: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _starts(lengths: list[int]) -> np.ndarray:
    starts = starts_of(np.array(lengths, np.int64))
    if starts[-1] > _MAX_OFFSET:
        raise OverflowError(f"all values together have {starts[-1]} bytes or items, and at most {_MAX_OFFSET} fit")
    return starts.astype(np.int32)
