"""Finds the doubles that lose digits as float32 (`penstock.io.columns.float32`), by arithmetic on whole columns."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.kernel.shared.numbers import Mask

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
