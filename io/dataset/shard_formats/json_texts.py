"""Columns as texts of JSON, and back, without a loss.

Integers are whole numbers of any size. Floats are the shortest decimals that stand for their float64, always with a
point or an exponent. NaN and the infinities are `NaN`, `Infinity` and `-Infinity`, as Python and JavaScript write them;
RFC 8259 has no words for them. A missing value is `null`. Texts are UTF-8, escaped only where JSON demands it.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.kernel.shared.offsets import list_lengths, starts_of

_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPES = {chr(code): _SHORT_ESCAPES.get(chr(code), f"\\u{code:04x}") for code in range(0x20)}

Leaf = Callable[[pa.Array], pa.Array]


def json_objects(names: Sequence[str], texts: Sequence[pa.Array], rows: int) -> pa.Array:
    """Returns large_string, an object for each row, with these members in this order; `texts` are their values."""
    pieces: list[Any] = []
    for name, text in zip(names, texts, strict=True):
        before = "," if pieces else "{"
        pieces += [_constant(f"{before}{json.dumps(name, ensure_ascii=False)}:"), text.cast(pa.large_string())]
    if not pieces:
        return pa.array(["{}"] * rows, pa.large_string())
    return pc.binary_join_element_wise(*pieces, _constant("}"), _constant(""))


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
    """Returns values of JSON as a column of the type that they were written from.

    Raises:
      ArrowException: for a value that is not of the type, or would change in it.
    """
    if types.is_list(arrow_type):
        if any(value is not None and type(value) is not list for value in values):
            raise pa.ArrowInvalid("a value is no list")
        lengths = [0 if value is None else len(value) for value in values]
        items = typed([item for value in values if value for item in value], arrow_type.value_type)
        mask = pa.array([value is None for value in values], pa.bool_())
        offsets = pa.array(starts_of(_numpy(lengths)), pa.int32())
        return pa.ListArray.from_arrays(offsets, items, type=arrow_type, mask=mask if None in values else None)
    if types.is_integer(arrow_type):
        # Arrow would cut off fractions.
        for value in values:
            if value is not None and type(value) is not int:
                raise pa.ArrowInvalid(f"{value!r} is no integer")
    if types.is_floating(arrow_type):
        return pa.array(values, pa.float64()).cast(arrow_type)
    return pa.array(values, arrow_type)


def _numpy(numbers: list[int]) -> Any:
    return pa.array(numbers, pa.int64()).to_numpy()
