"""Operations on flat arrays of texts, as Arrow's binary arrays, with TensorFlow's values.

Patterns are those of RE2, which TensorFlow has, too. Texts need not be UTF-8; what an operation makes of other bytes is
what TensorFlow makes of them.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel import hashing
from penstock.io.kernel.shared.offsets import starts_of
from penstock.transforms.features.arrow.compute.columns import Column, Ints, check_values, keep_values

_SPACE = r"[ \t\n\v\f\r]*"
_WHOLE = rf"\A{_SPACE}[+-]?[0-9]+{_SPACE}\z"
_DECIMAL = rf"\A{_SPACE}[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?{_SPACE}\z"
# What few texts spell, and Arrow does not read.
_HEXADECIMAL = r"[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]+)?"
_SPECIAL = r"[+-]?(?:inf(?:inity)?|nan(?:\([0-9a-z_]*\))?)"
_RARE = rf"(?i)\A{_SPACE}(?:{_HEXADECIMAL}|{_SPECIAL}){_SPACE}\z"
# So many digits int64 holds, whichever they are.
_SURE_DIGITS = r"\A-?[0-9]{1,18}\z"


def hash_strings(column: Column, hash_buckets: int) -> Column:
    """Returns the Fingerprint64 of each text modulo the number of buckets, as `tf.strings.to_hash_bucket_fast`."""
    return column.with_values((fingerprints(column.values) % np.uint64(hash_buckets)).astype(np.int64))


def fingerprints(x: pa.Array) -> npt.NDArray[np.uint64]:
    """Returns the Fingerprint64 of each text, uint64[n]."""
    found: npt.NDArray[np.uint64] = hashing.fingerprints(pa.record_batch([x], ["x"]))
    return found


def join(*texts: pa.Array, separator: str = "") -> pa.Array:
    """Joins the texts."""
    return pc.binary_join_element_wise(*texts, pa.scalar(separator.encode(), pa.binary()))


def bytes_of(x: pa.Array) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Returns the bytes of texts, and where in them each begins, with the end of the last, int64[n + 1]."""
    if not len(x):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, data = x.buffers()
    starts = np.frombuffer(offsets, np.int32)[x.offset : x.offset + len(x) + 1]
    return np.frombuffer(data or b"", np.uint8), starts.astype(np.int64)


def _as_string(x: pa.Array) -> pa.Array:
    """Returns the texts as Arrow's strings, whether they are UTF-8 or not: its functions do not mind."""
    return x.view(pa.string())


def of_strings(function: Callable[..., pa.Array]) -> Callable[..., pa.Array]:
    """Makes an operation of a function of Arrow that takes strings and gives as many."""

    def call(x: pa.Array) -> pa.Array:
        return function(_as_string(x)).cast(pa.binary())

    return call


def cased(of_ascii: Callable[..., pa.Array], of_text: Callable[[str], str]) -> Callable[[pa.Array], pa.Array]:
    """Makes an operation that changes the case of letters, by the rules of Unicode; wrong bytes become U+FFFD.

    Letters that Unicode got in its version 14 change by the table of Python 3.11, and not by that of TensorFlow 2.21.
    That also drops what stands behind a zero byte, which stays here.
    """

    def call(x: pa.Array) -> pa.Array:
        strings = _as_string(x)
        is_ascii = pc.string_is_ascii(strings)
        changed = of_ascii(strings).cast(pa.binary())
        if pc.all(is_ascii).as_py() is not False:
            return changed
        others = pc.invert(is_ascii)
        encoded = x.filter(others).dictionary_encode()
        texts = [of_text(text.decode(errors="replace")).encode() for text in encoded.dictionary.to_pylist()]
        return pc.replace_with_mask(changed, others, pa.array(texts, pa.binary()).take(encoded.indices))

    return call


def length(x: pa.Array) -> Ints:
    """Counts the characters of UTF-8: bytes that do not go on with one."""
    return pc.utf8_length(_as_string(x)).to_numpy(zero_copy_only=False).astype(np.int64)


def substr(x: pa.Array, start: int = 0, length: int | None = None) -> pa.Array:
    """Returns a part of each text as Python's slices do.

    Bytes that go on with no character belong to the one before them, or at the beginning to the first byte; as in
    TensorFlow, that one does not count for how long the text is.
    """
    data, starts = bytes_of(x)
    if not len(data):
        return x
    sizes = np.diff(starts)
    begins = (data & 0xC0) != 0x80
    counted = np.concatenate([[0], np.cumsum(begins)])
    total = counted[starts[1:]] - counted[starts[:-1]]
    begins = begins.copy()
    begins[starts[:-1][sizes > 0]] = True
    places = np.append(np.flatnonzero(begins), len(data))
    before = np.concatenate([[0], np.cumsum(begins)])[starts]

    first = np.minimum(start, total) if start >= 0 else np.maximum(total + max(start, -(2**31)), 0)
    last = first + np.minimum(2**31 if length is None else length, total - first)
    last, first = (np.minimum(before[:-1] + characters, before[1:]) for characters in (last, first))
    low, high = (np.clip(places[at], starts[:-1], starts[1:]) for at in (first, last))
    return _cut(data, low, high)


def _cut(data: npt.NDArray[np.uint8], low: Ints, high: Ints) -> pa.Array:
    """Returns the texts between some places of bytes."""
    sizes = high - low
    starts = starts_of(sizes)
    kept = data[np.arange(starts[-1]) + np.repeat(low - starts[:-1], sizes)]
    buffers = [None, pa.py_buffer(starts.astype(np.int32)), pa.py_buffer(kept)]
    return pa.Array.from_buffers(pa.binary(), len(sizes), buffers)


def as_string(x: Ints) -> pa.Array:
    """Returns the digits of each integer."""
    return pa.array(x).cast(pa.string()).cast(pa.binary())


def to_number(x: pa.Array, to: str = "float") -> npt.NDArray[Any]:
    """Returns the number that each text spells, int64 or float32; white space around it does not matter.

    A FLOAT may also be hexadecimal, infinite or not a number, in the words of C.

    Raises:
      ValueFaultsError: for any other text.
    """
    return _whole_numbers(x) if to == "int" else _floats(x)


def _whole_numbers(x: pa.Array) -> Ints:
    strings = _as_string(x)
    sure = pc.match_substring_regex(strings, _SURE_DIGITS)
    if pc.all(sure).as_py() is not False:
        return strings.cast(pa.int64()).to_numpy()
    digits = pc.replace_substring_regex(strings, rf"\A{_SPACE}(?:\+|(-))?0*([0-9]+){_SPACE}\z", r"\1\2")
    is_number = pc.match_substring_regex(strings, _WHOLE)
    number = pc.if_else(pc.and_(is_number, pc.match_substring_regex(digits, r"\A-?[0-9]{1,19}\z")), digits, "x")
    large = pc.match_substring_regex(number, r"\A-?[0-9]{19}\z").to_numpy(zero_copy_only=False)
    wrong = pc.equal(number, "x").to_numpy(zero_copy_only=False).copy()
    for at in np.flatnonzero(large).tolist():
        wrong[at] = not -(2**63) <= int(number[at].as_py()) < 2**63
    check_values(wrong, "is no whole number within int64", x)
    return number.cast(pa.int64()).to_numpy()


def _floats(x: pa.Array) -> npt.NDArray[np.float32]:
    strings = _as_string(x)
    is_decimal = pc.match_substring_regex(strings, _DECIMAL)
    is_rare = pc.match_substring_regex(strings, _RARE)
    check_values(pc.invert(pc.or_(is_decimal, is_rare)).to_numpy(zero_copy_only=False), "is no number", x)
    trimmed = pc.ascii_trim_whitespace(strings)
    numbers = pc.if_else(is_decimal, trimmed, "0").cast(pa.float32()).to_numpy()
    rare = np.flatnonzero(is_rare.to_numpy(zero_copy_only=False))
    if len(rare):
        numbers = numbers.copy()
        numbers[rare] = [_rare(trimmed[at].as_py()) for at in rare.tolist()]
    return numbers


def _rare(text: str) -> np.float32:
    """Returns the number that a text of `_RARE` spells."""
    if "x" not in text.lower():
        return np.float32(text.partition("(")[0])
    try:
        with np.errstate(over="ignore"):
            return np.float32(float.fromhex(text))
    except OverflowError:
        return np.float32("-inf" if text.startswith("-") else "inf")


def regex_replace(x: pa.Array, pattern: str, rewrite: str) -> pa.Array:
    """Replaces each match; `\\1` to `\\9` in what comes instead are groups of the match."""
    return pc.replace_substring_regex(_as_string(x), pattern, rewrite).cast(pa.binary())


def regex_full_match(x: pa.Array, pattern: str) -> Ints:
    """Returns 1 where all of the text matches."""
    return _matches(x, rf"(?:{_closed(pattern)})").astype(np.int64)


def regex_extract(column: Column, pattern: str, group: int = 0) -> Column:
    """Keeps of each text the first match, or a group of it; texts without a match are dropped."""
    # `\C` is any byte, also of what is no UTF-8.
    whole = rf"\C*?({_closed(pattern)})\C*"
    found = _matches(column.values, whole)
    return keep_values(column, regex_replace(column.values, rf"\A{whole}\z", rf"\{group + 1}"), found)


def _matches(x: pa.Array, pattern: str) -> npt.NDArray[np.bool_]:
    return pc.match_substring_regex(_as_string(x), rf"\A{pattern}\z").to_numpy(zero_copy_only=False)


def _closed(pattern: str) -> str:
    r"""Returns the pattern so that something can stand behind it: it may end within `\Q...\E`."""
    for part in re.finditer(r"\\Q.*?(\\E|\Z)|\\[^Q]", pattern, re.DOTALL):
        if part[0].startswith(r"\Q") and not part[1]:
            return rf"{pattern}\E"
    return pattern


def split(column: Column, separator: str | None = None) -> Column:
    """Splits each text into pieces; without a separator, at runs of white space."""
    if separator:
        lists = pc.split_pattern(column.values, separator)
        counts, pieces = lists.value_lengths().to_numpy(zero_copy_only=False), lists.flatten()
    else:
        trimmed = pc.ascii_trim_whitespace(_as_string(column.values))
        lists = pc.ascii_split_whitespace(trimmed)
        # An empty text has one empty piece.
        counts = np.where(pc.equal(trimmed, "").to_numpy(zero_copy_only=False), 0, lists.value_lengths().to_numpy())
        pieces = lists.flatten().cast(pa.binary())
        pieces = pieces.filter(pc.not_equal(pieces, b""))
    rows = np.repeat(column.owners, counts)
    return Column(pieces, np.bincount(rows, minlength=len(column)).astype(np.int64))


def ngrams(column: Column, ngram_range: list[int], separator: str = " ") -> Column:
    """Returns the n-grams of the tokens of each row, in the order of their first tokens, the shortest first."""
    left = column.starts[1:][column.owners] - np.arange(len(column.values))
    texts, places = [], []
    for size in range(ngram_range[0], ngram_range[1] + 1):
        first = np.flatnonzero(left >= size)
        if not len(first):
            break
        parts = [column.values.take(pa.array(first + offset)) for offset in range(size)]
        texts.append(join(*parts, separator=separator) if size > 1 else parts[0])
        places.append(first)
    if not texts:
        return Column(column.values[:0], np.zeros(len(column), np.int64))
    first = np.concatenate(places)
    order = np.argsort(first, kind="stable")
    counts = np.bincount(column.owners[first], minlength=len(column))
    return Column(pa.concat_arrays(texts).take(pa.array(order)), counts.astype(np.int64))


def bag_of_words(column: Column, ngram_range: list[int], separator: str = " ") -> Column:
    """Returns the distinct n-grams of each row, in the order in which they come first."""
    found = ngrams(column, ngram_range, separator)
    encoded = found.values.dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    _, first = np.unique(found.owners * max(len(encoded.dictionary), 1) + codes, return_index=True)
    kept = np.zeros(len(found.values), np.bool_)
    kept[first] = True
    return keep_values(found, found.values, kept)
