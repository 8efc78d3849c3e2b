"""Operations on flat arrays of texts, as Arrow's binary arrays."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel import hashing
from penstock.transforms.features.arrow.compute.columns import Column, Ints, check_values, keep_values

_WHOLE = r"\A[+-]?[0-9]+\z"
_NUMBER = r"\A[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf(?:inity)?|nan))\z"
_HEX = r"\A[+-]?0[xX][0-9a-fA-F]+\z"
_INT64 = (-(2**63), 2**63 - 1)


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


def lower(x: pa.Array) -> pa.Array:
    """Returns the texts in small letters."""
    return _in_case(x, pc.ascii_lower, str.lower)


def upper(x: pa.Array) -> pa.Array:
    """Returns the texts in capital letters."""
    return _in_case(x, pc.ascii_upper, str.upper)


def _in_case(x: pa.Array, ascii_only: Callable[[Any], Any], function: Callable[[str], str]) -> pa.Array:
    if _is_ascii(x):
        return ascii_only(_as_text(x)).cast(pa.binary())
    # As TensorFlow does it: what is not UTF-8 becomes U+FFFD.
    return _of_each(x, lambda text: function(text.decode(errors="replace")).encode())


def strip(x: pa.Array) -> pa.Array:
    """Returns the texts without white space of ASCII at both ends."""
    return pc.ascii_trim(_as_text(x), characters=" \t\n\v\f\r").cast(pa.binary())


def length(x: pa.Array) -> Ints:
    """Counts the characters; bytes that begin none and continue none count one each."""
    return pc.utf8_length(_as_text(x)).to_numpy(zero_copy_only=False).astype(np.int64)


def substr(x: pa.Array, start: int = 0, length: int | None = None) -> pa.Array:
    """Returns a part of each text as Python's slices do."""
    return _of_each(x, lambda text: _part(text, start, length))


def _part(text: bytes, start: int, length: int | None) -> bytes:
    begins = [at for at, byte in enumerate(text) if byte & 0xC0 != 0x80]
    # TensorFlow counts bytes that continue a character without one before them to no character.
    first = min(start, len(begins)) if start >= 0 else max(len(begins) + start, 0)
    last = len(begins) if length is None else min(first + length, len(begins))
    begins.append(len(text))
    return text[begins[first] : begins[last]]


def as_string(x: Ints) -> pa.Array:
    """Returns the digits of each number."""
    return pa.array(x).cast(pa.string()).cast(pa.binary())


def to_number(x: pa.Array, to: str = "float") -> npt.NDArray[Any]:
    """Parses the number that a text spells, white space of ASCII around it; int64 or float32, the nearest one.

    Raises:
      ValueFaultsError: for any other text, and for an integer beyond int64.
    """
    encoded = x.dictionary_encode()
    texts, codes = _as_text(strip(encoded.dictionary)), encoded.indices.to_numpy()
    if to == "float" and pc.any(pc.match_substring_regex(texts, _HEX)).as_py():
        texts = _as_text(_of_each(texts.view(pa.binary()), _decimal))
    valid = pc.match_substring_regex(texts, _WHOLE if to == "int" else _NUMBER).to_numpy(zero_copy_only=False)
    if to == "int":
        spelled_out = zip(valid.tolist(), texts.view(pa.binary()).to_pylist(), strict=True)
        valid = np.array([ok and _INT64[0] <= int(text) <= _INT64[1] for ok, text in spelled_out], bool)
    wrong = ~valid[codes]
    if wrong.any():
        first = x[int(wrong.argmax())].as_py().decode(errors="replace")
        check_values(wrong, f"StringToNumberOp could not correctly convert string: {first}")
    kind = pa.int64() if to == "int" else pa.float32()
    # What occurs is valid: in the dictionary of a slice there may be other texts.
    spelled = pc.if_else(pa.array(valid), pc.replace_substring_regex(pc.ascii_lower(texts), "^\\+", ""), "0")
    return spelled.cast(kind).to_numpy(zero_copy_only=False)[codes]


def _decimal(text: bytes) -> bytes:
    """Returns a hexadecimal number as a decimal one, and other texts as they are."""
    return str(int(text, 16)).encode() if re.match(_HEX.replace("z", "Z").encode(), text) else text


def regex_replace(x: pa.Array, pattern: str, rewrite: str) -> pa.Array:
    """Returns the texts with each match replaced."""
    return pc.replace_substring_regex(_as_text(x), pattern, rewrite).cast(pa.binary())


def regex_full_match(x: pa.Array, pattern: str) -> Ints:
    """Returns 1 where all of the text matches."""
    found = pc.match_substring_regex(_as_text(x), rf"\A(?:{pattern})\z")
    return found.to_numpy(zero_copy_only=False).astype(np.int64)


def regex_extract(column: Column, pattern: str, group: int = 0) -> Column:
    """Keeps of each text the first match, or a group of it; texts without a match are dropped."""
    texts = _as_text(column.values)
    # `\C` is any byte, also of what is no UTF-8.
    whole = rf"\A\C*?({pattern})\C*\z"
    found = pc.match_substring_regex(texts, whole).to_numpy(zero_copy_only=False)
    parts = pc.replace_substring_regex(texts, whole, rf"\{group + 1}").cast(pa.binary())
    return keep_values(column, parts, found)


def split(column: Column, separator: str | None = None) -> Column:
    """Splits each text into pieces; without a separator, at runs of white space."""
    if separator:
        pieces = pc.split_pattern(column.values, separator.encode())
    else:
        pieces = pc.split_pattern_regex(_as_text(strip(column.values)), "[ \t\n\v\f\r]+")
    flat = pieces.flatten().cast(pa.binary())
    counts = np.zeros(len(column), np.int64)
    counts[column.owners] = pc.list_value_length(pieces).to_numpy(zero_copy_only=False)
    split_column = Column(flat, counts)
    if separator:
        return split_column
    return keep_values(split_column, flat, pc.not_equal(flat, b"").to_numpy(zero_copy_only=False))


def ngrams(column: Column, ngram_range: list[int], separator: str = " ") -> Column:
    """Returns the n-grams of the tokens of each row, in the order of their first tokens."""
    return _of_rows(column, lambda tokens: _ngrams(tokens, ngram_range, separator.encode()))


def bag_of_words(column: Column, ngram_range: list[int], separator: str = " ") -> Column:
    """Returns the distinct n-grams of the tokens of each row, in order of the first of each."""
    return _of_rows(column, lambda tokens: list(dict.fromkeys(_ngrams(tokens, ngram_range, separator.encode()))))


def _ngrams(tokens: list[bytes], ngram_range: list[int], separator: bytes) -> list[bytes]:
    least, greatest = ngram_range
    return [
        separator.join(tokens[at : at + size])
        for at in range(len(tokens))
        for size in range(least, min(greatest, len(tokens) - at) + 1)
    ]


def _of_rows(column: Column, function: Callable[[list[bytes]], list[bytes]]) -> Column:
    values, starts = column.values.to_pylist(), column.starts.tolist()
    rows = [function(values[start:end]) for start, end in itertools.pairwise(starts)]
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    return Column(pa.array([value for row in rows for value in row], pa.binary()), counts)


def _of_each(x: pa.Array, function: Callable[[bytes], bytes]) -> pa.Array:
    """Applies a function of Python to each different text."""
    encoded = x.dictionary_encode()
    found = pa.array(map(function, encoded.dictionary.to_pylist()), pa.binary(), size=len(encoded.dictionary))
    return found.take(encoded.indices)


def _is_ascii(x: pa.Array) -> bool:
    return not pc.any(pc.match_substring_regex(x, "[^\\x00-\\x7F]")).as_py()


def _as_text(x: pa.Array) -> pa.Array:
    """Returns bytes as a string array, whether they are UTF-8 or not: patterns are those of UTF-8 then."""
    return x.view(pa.string())
