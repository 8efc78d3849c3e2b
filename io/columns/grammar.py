r"""The text grammar: which texts are integers, floats and booleans.

All texts of all formats follow this one grammar (CSV fields, strings in JSON Lines, Avro, Parquet and tf.Example), in
inference and in reading. It is stricter than Python's, C's or Arrow's: a text that looks like a number but is a name
(a zip code, a phone number, a version) is not silently turned into a number.

=====  =================================================================  ==========================================
kind   accepted                                                           refused
=====  =================================================================  ==========================================
INT    `0`, `-?[1-9][0-9]*` within int64: what the number is written as   `007` `-0` `+5` `5.0` `1_000` `1,000` `0x1F`
FLOAT  `-?` digits with an optional fraction and exponent: `5` `5.` `.5`  `+1.5` `00.5` `1e400` `1,5` `0x1p3`
       `1.50` `-2e-7` `1E+06`; the integer part without leading zeros     `-nan` `NAN` `+inf` `INF` `infinity`
\      `NaN` `nan` `Infinity` `inf` `Inf`, the last three with `-?` too
BOOL   `true` `True` `TRUE` `false` `False` `FALSE`, and INT texts        `t` `yes` `on` `tRuE`
=====  =================================================================  ==========================================

Digits are the ASCII digits. Nothing is trimmed: a text with a space, tab, line break or NUL is refused, and so is the
empty text. A FLOAT is the nearest double: one that would overflow to infinity is refused, one that underflows is 0.
BOOL is for INT features with a bool_domain; validation checks whether an INT text is 0 or 1.
"""

import dataclasses
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.kernel import grammar
from penstock.io.kernel.shared.numbers import (
    FALSE_PATTERN,
    FLOAT32_LIMIT,
    FLOAT_PATTERN,
    INT64_DIGITS,
    INT_PATTERN,
    SPECIAL_PATTERN,
    TRUE_PATTERN,
    Mask,
    Text,
    float32_overflow,
    match_text,
)
from penstock.io.schema import Kind

_INT, _FLOAT, _SPECIAL = map(re.compile, (INT_PATTERN, FLOAT_PATTERN, SPECIAL_PATTERN))
_BOOLEAN = re.compile(f"{TRUE_PATTERN}|{FALSE_PATTERN}")

# Every integer up to here is exact as a double.
MAX_EXACT_INT = 1 << 53


def cast_text(text: Text, kind: Kind, boolean: bool = False) -> tuple[pa.Array, Mask]:
    """Casts texts to a kind, and marks those that have no value in it.

    >>> values, bad = cast_text(pa.array(["12", "x", None]), Kind.INT)
    >>> values.to_pylist(), bad.tolist()
    ([12, None, None], [False, True, False])

    Args:
      text: string or binary, also large; nulls stay null.
      kind: INT gives int64, FLOAT float64, BYTES the array as it is.
      boolean: for INT features only: accept the spellings of BOOL.

    Returns:
      The values, null where the text is not of this kind; and bool[n], True at those texts.
    """
    if kind is Kind.BYTES:
        return text, np.zeros(len(text), bool)
    if kind is Kind.FLOAT:
        return _cast_float(text)
    return _cast_int(text, boolean)


def parse_text(text: str, kind: Kind, boolean: bool = False) -> tuple[int | float | None, bool]:
    """Casts one text as `cast_text` does; also returns whether it is a number of that kind that is too large.

    Use it for a few texts, where the Arrow call would cost more than the casts. A FLOAT must fit in float32 here.

    >>> parse_text("12", Kind.INT), parse_text("x", Kind.INT), parse_text("1e39", Kind.FLOAT)
    ((12, False), (None, False), (None, True))
    """
    if kind is Kind.FLOAT:
        return _parse_float(text)
    if boolean and _BOOLEAN.fullmatch(text):
        return int(text.lower() == "true"), False
    if not _INT.fullmatch(text):
        return None, False
    value = int(text) if len(text) <= INT64_DIGITS + 1 else 1 << 64
    return (value, False) if -(1 << 63) <= value < 1 << 63 else (None, True)


def _parse_float(text: str) -> tuple[float | None, bool]:
    if _SPECIAL.fullmatch(text):
        return float(text), False
    if not _FLOAT.fullmatch(text):
        return None, False
    value = float(text)
    return (value, False) if abs(value) < FLOAT32_LIMIT else (None, True)


@dataclasses.dataclass(frozen=True)
class TextCounts:
    """Counts the texts of a column by form, without nulls. Each is counted once, but `specials` are also in `floats`.

    Attributes:
      ints: INT texts that a double holds exactly.
      wide_ints: INT texts beyond 2^53 either way, which would lose digits as FLOAT.
      floats: FLOAT texts that are not integers.
      specials: floats that are NaN or infinite.
      others: all else, including integers beyond int64 and finite numbers beyond float32, which only BYTES can hold.
    """

    ints: int = 0
    wide_ints: int = 0
    floats: int = 0
    specials: int = 0
    others: int = 0


def classify_text(text: Text) -> TextCounts:
    """Counts the texts by form, without nulls.

    >>> classify_text(pa.array(["7", "007", "0.7", None, "9007199254740993"]))
    TextCounts(ints=1, wide_ints=1, floats=1, specials=0, others=1)
    """
    text = text.drop_null()
    integers, bad = _cast_int(text, boolean=False)
    wide = int(beyond_exact(_numbers(integers, np.int64)).sum())
    rest = text.filter(pa.array(bad)) if bad.any() else text.slice(0, 0)
    floats, not_float = _cast_float(rest)
    numbers = _numbers(floats, np.float64)
    not_float |= float32_overflow(numbers)
    # Integers beyond int64: FLOAT would accept them, and round them.
    huge = np.flatnonzero((np.abs(numbers) >= float(1 << 63)) & ~not_float)
    whole = int(match_text(rest.take(pa.array(huge)), INT_PATTERN).sum())
    others = int(not_float.sum()) + whole
    return TextCounts(
        ints=len(text) - len(rest) - wide,
        wide_ints=wide,
        floats=len(rest) - others,
        specials=int((~np.isfinite(numbers)).sum()),
        others=others,
    )


def beyond_exact(values: npt.NDArray[np.int64]) -> Mask:
    """Marks the integers that a double may not hold exactly."""
    return (values > MAX_EXACT_INT) | (values < -MAX_EXACT_INT)


def _cast_int(text: Text, boolean: bool) -> tuple[pa.Array, Mask]:
    return _by_states(*grammar.ints(text, boolean))


def _cast_float(text: Text) -> tuple[pa.Array, Mask]:
    return _by_states(*grammar.floats(text))


def _by_states(values: npt.NDArray[Any], states: npt.NDArray[np.uint8] | None) -> tuple[pa.Array, Mask]:
    if states is None:
        return pa.array(values), np.zeros(len(values), bool)
    return pa.array(values, mask=states != grammar.GOOD), states == grammar.BAD


def _numbers(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Returns the values as numpy without conversion; nulls are 0."""
    if array.null_count:
        array = array.fill_null(0)
    return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
