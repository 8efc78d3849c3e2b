"""Turns texts into numbers by the grammar of `penstock.io.columns.grammar`; says which numbers float32 changes.

Texts are cast by Arrow, which accepts more of them as numbers than the grammar does. So either all texts are cast, and
then the ones that Arrow should not have accepted are rejected, or only texts that match a pattern are cast.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel.shared.numbers import (
    FALSE_PATTERN,
    FLOAT_PATTERN,
    INT64_DIGITS,
    INT_PATTERN,
    SPECIAL_PATTERN,
    TRUE_PATTERN,
    Mask,
    Text,
    match_text,
)

# The states of a text: it is a number, it is not one, it is null. The compiled module uses 2 internally.
GOOD, BAD, ABSENT = 0, 1, 3

States = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]

# float32 tells all decimals of 6 digits apart.
_CENTS = 1e6

# Doubles hold these powers of ten exactly, so that one product or quotient is the nearest double.
_MAX_POWER = 22

# Doubles from here on are whole numbers, but not every whole number is one; below the other, the power is not enough.
_MAX_DIGITS = float(1 << 53)
_MIN_SCALED = 1e-12

# So near to the middle between two decimals, rounding errors may decide.
_TIE = 1e-4

_PROBES = 32


def ints(text: Text, boolean: bool) -> tuple[npt.NDArray[np.int64], States | None]:
    """Parses texts as integers.

    Args:
      text: string or binary, also large.
      boolean: whether the spellings of true and false are accepted.

    Returns:
      int64[n], arbitrary for a text without integer, and uint8[n], the state of each text; None when all are GOOD.
    """
    return _with_states(text, *_cast_int(_spell_booleans(text) if boolean else text), np.int64)


def floats(text: Text) -> tuple[npt.NDArray[np.float64], States | None]:
    """Parses texts as float64[n]; returns states like `ints`."""
    return _with_states(text, *_cast_float(text), np.float64)


def _with_states(text: Text, values: pa.Array, bad: Mask, dtype: Any) -> tuple[npt.NDArray[Any], States | None]:
    numbers = _numbers(values, dtype)
    if not values.null_count:
        return numbers, None
    states = np.where(bad, np.uint8(BAD), np.uint8(GOOD))
    states[~_valid(text)] = ABSENT
    return numbers, states


def _cast_int(text: Text) -> tuple[pa.Array, Mask]:
    values = _cast_all(text, pa.int64(), INT_PATTERN)
    if values is None:
        fits = match_text(text, INT_PATTERN)
        fits[fits] = _fits_int64(text.filter(pa.array(fits)))
        return _cast_some(text, fits, pa.int64())
    # Arrow also accepts leading zeros, -0 and 0x1F: all have a zero first, after any minus, and are longer than "0".
    _, first, _, lengths = _leading_bytes(text)
    return _without(values, _valid(text) & (first == ord("0")) & (lengths > 1))


def _fits_int64(text: Text) -> Mask:
    """Masks the texts within int64; all match INT_PATTERN."""
    # Texts with fewer than 19 digits fit, those with more do not. With 19 digits the magnitude fits uint64 and decides:
    # that of a negative number may be larger by one.
    digits = pc.binary_length(text).to_numpy(zero_copy_only=False) - _leading_bytes(text)[0]
    fits = digits <= INT64_DIGITS
    edge = np.flatnonzero(digits == INT64_DIGITS)
    taken = pc.cast(text.take(pa.array(edge)), pa.string())
    magnitudes = pc.cast(pc.utf8_ltrim(taken, "-"), pa.uint64()).to_numpy(zero_copy_only=False)
    limits = np.uint64((1 << 63) - 1) + _leading_bytes(taken)[0].astype(np.uint64)
    fits[edge] = magnitudes <= limits
    return fits


def _cast_float(text: Text) -> tuple[pa.Array, Mask]:
    pattern = f"{FLOAT_PATTERN}|{SPECIAL_PATTERN}"
    values = _cast_all(text, pa.float64(), pattern)
    if values is None:
        values, bad = _cast_some(text, match_text(text, pattern), pa.float64())
    else:
        # Arrow also accepts a plus sign and leading zeros.
        negative, first, second, lengths = _leading_bytes(text)
        zeros = (first == ord("0")) & (second >= ord("0")) & (second <= ord("9")) & (lengths > negative + 1)
        bad = _valid(text) & (zeros | (first == ord("+")))
    return _without(values, bad | _unwritten_special(text, values))


def _unwritten_special(text: Text, values: pa.Array) -> Mask:
    """Masks values that are not finite although their text is not an allowed spelling of that: 1e400, NAN, nan(1)."""
    suspects = np.flatnonzero(~np.isfinite(_numbers(values, np.float64)))
    found = np.zeros(len(text), bool)
    found[suspects] = ~match_text(text.take(pa.array(suspects)), SPECIAL_PATTERN)
    return found


def _spell_booleans(text: Text) -> Text:
    """Replaces true and false by 1 and 0; does not change other texts."""
    for pattern, digit in ((TRUE_PATTERN, "1"), (FALSE_PATTERN, "0")):
        found = match_text(text, pattern)
        if found.any():
            text = pc.if_else(pa.array(found), pa.scalar(digit).cast(text.type), text)
    return text


def _cast_all(text: Text, target: pa.DataType, pattern: str) -> pa.Array | None:
    """Casts all texts with Arrow, about three times as fast as by pattern; returns None when one of them fails.

    Arrow spends 0.3 microseconds on each text that fails, so a sample of texts is tried by pattern first.
    """
    sample = text.take(pa.array(np.linspace(0, len(text) - 1, min(len(text), _PROBES), dtype=np.int64)))
    if not (match_text(sample, pattern) | ~_valid(sample)).all():
        return None
    try:
        return pc.cast(text, target)
    except pa.ArrowInvalid:
        return None


def _cast_some(text: Text, fits: Mask, target: pa.DataType) -> tuple[pa.Array, Mask]:
    """Casts the texts in the mask `fits`, all of which Arrow can cast; the others become null, and bad unless null."""
    casted = pc.cast(text.filter(pa.array(fits)), target).to_numpy(zero_copy_only=False)
    values = np.zeros(len(text), casted.dtype)
    values[fits] = casted
    return pa.array(values, target, mask=~fits), ~fits & _valid(text)


def _without(values: pa.Array, bad: Mask) -> tuple[pa.Array, Mask]:
    if bad.any():
        values = pc.if_else(pa.array(bad), pa.scalar(None, values.type), values)
    return values, bad


def _valid(array: pa.Array) -> Mask:
    return array.is_valid().to_numpy(zero_copy_only=False)


def _numbers(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Returns the values as numpy without conversion; 0 for nulls."""
    if array.null_count:
        array = array.fill_null(0)
    return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)


def _leading_bytes(text: Text) -> tuple[Mask, npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Returns whether each text begins with a minus, the two bytes after that (arbitrary past its end), its length."""
    wide = pa.types.is_large_string(text.type) or pa.types.is_large_binary(text.type)
    _, offset_buffer, data_buffer = text.buffers()
    offsets = np.frombuffer(offset_buffer or b"", np.int64 if wide else np.int32)[text.offset :][: len(text) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    if not len(text) or not len(data):
        empty = np.zeros(len(text), np.uint8)
        return empty.astype(bool), empty, empty, np.zeros(len(text), np.int64)
    starts, last = offsets[:-1], len(data) - 1
    negative = data[np.minimum(starts, last)] == ord("-")
    digits = starts + negative
    return negative, data[np.minimum(digits, last)], data[np.minimum(digits + 1, last)], np.diff(offsets)


def losing(values: Doubles) -> Mask:
    """Marks the doubles that lose digits as float32; NaN, infinity and what is beyond float32 are not marked.

    Args:
      values: float64[n].
    """
    found = np.zeros(len(values), bool)
    with np.errstate(over="ignore", invalid="ignore"):
        cents = np.rint(values * 100)
        rest = np.flatnonzero((np.abs(cents) >= _CENTS) | (cents / 100 != values))  # other than prices
        images = values[rest].astype(np.float32)
        inexact = np.flatnonzero((images != values[rest]) & np.isfinite(images))
    if len(inexact):
        rest = rest[inexact]
        found[rest] = _losing_long(np.abs(values[rest]), np.abs(images[inexact]))
    return found


def _losing_long(values: Doubles, images: Images) -> Mask:
    """Decides by arithmetic where that is enough; the values are positive, and no one is equal to its image."""
    power: Doubles = np.float64(10) ** _power(values)
    digits = np.rint(values * power)
    # What is no decimal of up to 9 digits, nor a whole number, has more digits than any float32 needs.
    found = digits / power != values
    extreme = (values < _MIN_SCALED) | (values >= _MAX_DIGITS)
    rows = np.flatnonzero(~(found | extreme))
    found[rows], unsure = _losing_decimals(digits[rows], images[rows], power[rows])
    hard = np.concatenate([rows[unsure], np.flatnonzero(extreme)])
    shortest = pa.array(images[hard]).cast(pa.string()).cast(pa.float64()).to_numpy()
    found[hard] = shortest != values[hard]
    return found


def _power(values: Doubles) -> npt.NDArray[np.int64]:
    """Returns the power of ten that makes doubles whole numbers if they are decimals of up to 9 digits."""
    # The logarithm may be off by one.
    power = 9 - np.floor(np.log10(values)).astype(np.int64)
    return np.clip(power, 0, _MAX_POWER)


def _losing_decimals(digits: Doubles, images: Images, power: Doubles) -> tuple[Mask, Mask]:
    """Compares decimals, `digits / power`, with the shortest ones of their images.

    The shortest decimal is the one nearest to the image with as few digits as still have this image. A decimal is that
    one if it is the nearest with so many digits, and the nearest with a digit less has another image.

    Returns:
      bool[n], which are another one; and bool[n], for which that cannot be said.
    """
    unit = _last_digit(digits)
    image = images.astype(np.float64) * power / unit
    nearest = np.rint(image)
    shorter = 10 * np.rint(image / 10) * unit / power
    losing = (nearest * unit != digits) | (shorter.astype(np.float32) == images)
    halfway = np.abs(np.abs(image - digits / unit) - 0.5) < _TIE
    # Below a power of two, float32 is closer spaced than above.
    return losing, halfway | (np.frexp(images)[0] == 0.5)


def _last_digit(digits: Doubles) -> Doubles:
    """Returns the power of ten of the last digit that is not 0, of whole numbers above 0.

    >>> _last_digit(np.array([1230.0, 7.0, 500.0])).tolist()
    [10.0, 1.0, 100.0]
    """
    unit = np.ones(len(digits))
    rows, left = np.arange(len(digits)), digits
    while True:
        tens = np.rint(left / 10)
        zeros = tens * 10 == left
        if not zeros.any():
            return unit
        rows, left = rows[zeros], tens[zeros]
        unit[rows] *= 10
