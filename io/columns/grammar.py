r"""The text grammar: which texts are integers, floats and booleans.

One grammar serves wherever texts stand for numbers: for the fields of CSV, which has no types, in inference and in
reading; and for the strings of other formats, where a schema says that they are numbers. It is stricter than Python's,
C's or Arrow's: a text that looks like a number but is a name (a zip code, a phone number, a version) is not silently
turned into a number.

=====  =================================================================  ==========================================
kind   accepted                                                           refused
=====  =================================================================  ==========================================
INT    whole numbers within int64: `0`, `-?[1-9][0-9]*`, and FLOAT texts  `007` `-0` `-0.0` `+5` `5.5` `1_000`
       of whole numbers: `5.0` `1e3` `9007199254740993.0`                 `1,000` `0x1F`
FLOAT  `-?` digits with an optional fraction and exponent: `5` `5.` `.5`  `+1.5` `00.5` `1e400` `1,5` `0x1p3`
       `1.50` `-2e-7` `1E+06`; the integer part without leading zeros     `-nan` `NAN` `+inf` `INF` `infinity`
\\      `NaN` `nan` `Infinity` `inf` `Inf`, the last three with `-?` too
BOOL   `true` `True` `TRUE` `false` `False` `FALSE`, and INT texts        `t` `yes` `on` `tRuE`
=====  =================================================================  ==========================================

Digits are the ASCII digits. Nothing is trimmed: a text with a space, tab, line break or NUL is refused, and so is the
empty text. An INT is exact: no text passes through a double. A FLOAT is the nearest double: one that would overflow to
infinity is refused, one that underflows is 0. BOOL is for INT features with a bool_domain; validation checks whether an
INT text is 0 or 1.
"""

import dataclasses
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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

# RE2 syntax, for texts that match FLOAT_PATTERN.
_PARTS = r"^-?(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?:[eE](?P<exponent>[+-]?[0-9]+))?$"

# No text has so many digits that a larger exponent could matter.
_MAX_EXPONENT_DIGITS = 10

_SHORT_TEXT = 16


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
        return _parse_whole(text)
    value = int(text) if len(text) <= INT64_DIGITS + 1 else 1 << 64
    return (value, False) if -(1 << 63) <= value < 1 << 63 else (None, True)


def _parse_whole(text: str) -> tuple[int | None, bool]:
    value = parse_whole(text) if _FLOAT.fullmatch(text) else None
    if value is None:
        return None, False
    return (value, False) if -(1 << 63) <= value < 1 << 63 else (None, True)


def parse_whole(text: str) -> int | None:
    """Returns the whole number that a FLOAT text is, exactly; None if it is none, and 2^64 for any that is too large.

    >>> parse_whole("1.50e2"), parse_whole("1.5"), parse_whole("-0.0")
    (150, None, None)
    """
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = whole + fraction
    kept = digits.rstrip("0")
    if not kept:
        return None if text.startswith("-") else 0
    # The number is `kept`, as an integer, times ten to the power of this.
    power = _exponent(exponent) + len(digits) - len(kept) - len(fraction)
    significant = kept.lstrip("0")
    if power < 0:
        return None
    if len(significant) + power > INT64_DIGITS:
        return 1 << 64
    return int(significant) * 10**power * (-1 if text.startswith("-") else 1)


def _exponent(text: str) -> int:
    digits = text.lstrip("+-0")
    size = int(digits or 0) if len(digits) <= _MAX_EXPONENT_DIGITS else 10**_MAX_EXPONENT_DIGITS
    return -size if text.startswith("-") else size


def _parse_float(text: str) -> tuple[float | None, bool]:
    if _SPECIAL.fullmatch(text):
        return float(text), False
    if not _FLOAT.fullmatch(text):
        return None, False
    value = float(text)
    return (value, False) if abs(value) < FLOAT32_LIMIT else (None, True)


@dataclasses.dataclass(frozen=True)
class WholeNumbers:
    """What whole numbers n texts are, exactly.

    Attributes:
      values: int64[n], 0 where a text is none, or beyond int64.
      fits: bool[n], whether a text is a whole number within int64. `-0` and `-0.0` are none: INT has no such zero.
      beyond: bool[n], whether it is one beyond int64.
    """

    values: npt.NDArray[np.int64]
    fits: Mask
    beyond: Mask


def whole_numbers(text: Text) -> WholeNumbers:
    """Reads texts as whole numbers, however FLOAT spells them.

    >>> whole_numbers(pa.array(["1.50e2", "1.5", "9007199254740993.0", "-0.0"])).values.tolist()
    [150, 0, 9007199254740993, 0]
    """
    rows = np.flatnonzero(match_text(text, FLOAT_PATTERN))
    spelled = text.take(pa.array(rows)).cast(pa.string())
    whole, fraction, exponent = pc.extract_regex(spelled, _PARTS).flatten()
    digits = pc.binary_join_element_wise(whole, fraction, "")
    kept = pc.utf8_rtrim(digits, "0")
    # The number is `kept`, as an integer, times ten to the power of this.
    power = _exponents(exponent) + _lengths(digits) - _lengths(kept) - _lengths(fraction)
    zero, negative = _lengths(kept) == 0, pc.starts_with(spelled, "-").to_numpy(zero_copy_only=False)
    power[zero] = 0
    is_whole = (power >= 0) & ~(zero & negative)
    significant = pc.utf8_ltrim(kept, "0")
    short = np.flatnonzero(is_whole & (_lengths(significant) + power <= INT64_DIGITS))
    integers, good = _short_integers(significant.take(pa.array(short)), power[short], negative[short])
    fits = np.zeros(len(text), bool)
    beyond, values = fits.copy(), np.zeros(len(text), np.int64)
    beyond[rows] = is_whole
    found = rows[short[good]]
    fits[found], beyond[found], values[found] = True, False, integers[good]
    return WholeNumbers(values, fits, beyond)


def _short_integers(
    significant: Text, power: npt.NDArray[np.int64], negative: Mask
) -> tuple[npt.NDArray[np.int64], Mask]:
    """Returns int64[n] of at most 19 digits, and which are within int64."""
    signs = pa.array(np.where(negative, "-", ""), pa.string())
    digits = pc.binary_join_element_wise(signs, significant, pc.binary_repeat("0", pa.array(power)), "")
    digits = pc.if_else(pa.array(_lengths(digits) == 0), "0", digits)
    values, states = grammar.ints(digits, False)
    return values, np.ones(len(values), bool) if states is None else states == grammar.GOOD


def _exponents(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Returns exponents as int64[n], 0 for the empty text; those beyond any length of a text are cut."""
    negative = pc.starts_with(texts, "-").to_numpy(zero_copy_only=False)
    digits = pc.utf8_ltrim(texts, "+-0")
    huge = _lengths(digits) > _MAX_EXPONENT_DIGITS
    digits = pc.if_else(pa.array(huge), "9" * _MAX_EXPONENT_DIGITS, digits)
    sizes = pc.if_else(pa.array(_lengths(digits) == 0), "0", digits).cast(pa.int64()).to_numpy()
    return np.where(negative, -sizes, sizes)


def _lengths(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    return pc.binary_length(texts).to_numpy().astype(np.int64)


@dataclasses.dataclass(frozen=True)
class TextNumbers:
    """The numbers that n texts are spelled as, none of them null.

    Attributes:
      ints: int64[], those of INT without fraction or exponent.
      wholes: int64[], the other whole numbers within int64.
      beyond: float64[], whole numbers beyond int64 that are spelled with a fraction or an exponent.
      fractions: float64[], all other FLOATs, NaN, infinity and -0 among them.
      others: how many texts only BYTES can hold, such as integers beyond int64 that are spelled as digits, and finite
        numbers beyond float32.
    """

    ints: npt.NDArray[np.int64]
    wholes: npt.NDArray[np.int64]
    beyond: npt.NDArray[np.float64]
    fractions: npt.NDArray[np.float64]
    others: int


def text_numbers(text: Text) -> TextNumbers:
    """Sorts texts by what numbers they are; nulls are left out.

    >>> found = text_numbers(pa.array(["7", "007", "0.7", "7.0", None]))
    >>> found.ints.tolist(), found.wholes.tolist(), found.fractions.tolist(), found.others
    ([7], [7], [0.7], 1)
    """
    text = text.drop_null()
    ints, states = grammar.ints(text, False)
    if states is None:
        return TextNumbers(ints, ints[:0], np.zeros(0), np.zeros(0), 0)
    rest = text.filter(pa.array(states != grammar.GOOD))
    floats, not_float = _cast_float(rest)
    numbers = _numbers(floats, np.float64)
    good = ~(not_float | float32_overflow(numbers))
    whole = whole_where(rest, numbers, good)
    fits, beyond = whole.fits & good, whole.beyond & good
    # FLOAT would accept integers beyond int64 that are spelled as digits, and round them.
    digits = np.flatnonzero(beyond)
    digits = digits[match_text(rest.take(pa.array(digits)), INT_PATTERN)]
    good[digits] = beyond[digits] = False
    fractions = numbers[good & ~fits & ~beyond]
    others = int(len(good) - good.sum())
    return TextNumbers(ints[states == grammar.GOOD], whole.values[fits], numbers[beyond], fractions, others)


def whole_where(text: Text, numbers: npt.NDArray[np.float64], among: Mask) -> WholeNumbers:
    """As `whole_numbers`, of texts whose nearest doubles are known; `among` masks those that matter.

    A decimal of up to 15 digits is whole if its nearest double is, unless that is 0.
    """
    rounds = among & (np.floor(numbers) == numbers)
    # With at most 16 characters, one of which is not a digit, there are no more digits.
    short = (pc.binary_length(text).to_numpy() <= _SHORT_TEXT) & (numbers != 0) & (np.abs(numbers) < MAX_EXACT_INT)
    easy = rounds & short
    values = np.where(easy, numbers, 0).astype(np.int64)
    hard = np.flatnonzero(rounds & ~short)
    fits, beyond = easy.copy(), np.zeros(len(text), bool)
    if len(hard):
        found = whole_numbers(text.take(pa.array(hard)))
        values[hard], fits[hard], beyond[hard] = found.values, found.fits, found.beyond
    return WholeNumbers(values, fits, beyond)


def beyond_exact(values: npt.NDArray[np.int64]) -> Mask:
    """Marks the integers that a double may not hold exactly."""
    return (values > MAX_EXACT_INT) | (values < -MAX_EXACT_INT)


def _cast_int(text: Text, boolean: bool) -> tuple[pa.Array, Mask]:
    values, states = grammar.ints(text, boolean)
    if states is not None and (states == grammar.BAD).any():
        values, states = _with_wholes(text, values, states)
    return _by_states(values, states)


def _with_wholes(
    text: Text, values: npt.NDArray[np.int64], states: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Adds the whole numbers that are spelled with a fraction or an exponent, which the kernel leaves."""
    rows = np.flatnonzero(states == grammar.BAD)
    found = whole_numbers(text.take(pa.array(rows)))
    if not found.fits.any():
        return values, states
    values, states = values.copy(), states.copy()
    rows = rows[found.fits]
    values[rows], states[rows] = found.values[found.fits], grammar.GOOD
    return values, states


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
