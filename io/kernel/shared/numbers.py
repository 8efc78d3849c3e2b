"""The patterns of numbers in the text grammar (`penstock.io.columns.grammar`), and the limits of numbers."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]
Text: TypeAlias = pa.StringArray | pa.LargeStringArray | pa.BinaryArray | pa.LargeBinaryArray

# RE2 syntax, where $ matches only the end of the text; also valid for Python's re.fullmatch.
INT_PATTERN = r"0|-?[1-9][0-9]*"
FLOAT_PATTERN = r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
SPECIAL_PATTERN = r"NaN|nan|-?(?:Infinity|inf|Inf)"
TRUE_PATTERN = r"true|True|TRUE"
FALSE_PATTERN = r"false|False|FALSE"

# The number of digits of the largest int64.
INT64_DIGITS = 19

# The smallest double that float32 rounds to infinity: half a unit above its largest number.
FLOAT32_LIMIT = float(2**128 - 2**103)


def match_text(text: Text, pattern: str) -> Mask:
    """Masks the texts that match as a whole; False for nulls."""
    found = pc.match_substring_regex(text, f"^(?:{pattern})$")
    return found.fill_null(False).to_numpy(zero_copy_only=False)


def float32_overflow(values: npt.NDArray[np.float64]) -> Mask:
    """Masks the finite doubles that float32 would round to infinity."""
    return (np.abs(values) >= FLOAT32_LIMIT) & np.isfinite(values)


def fits_float32(values: npt.NDArray[np.float64]) -> bool:
    """Returns whether no value overflows (`float32_overflow`)."""
    return bool(np.abs(values).max(initial=0) < FLOAT32_LIMIT) or not float32_overflow(values).any()
