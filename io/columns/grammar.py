r"""The text grammar: which texts are integers, floats and booleans.

One grammar for every text of every format (CSV fields, strings in JSON Lines, Avro, Parquet and tf.Example), for
inference and for reading. It is stricter than Python's, C's or Arrow's, so that a text that looks like a number but is
a name (a zip code, a phone number, a version) is not silently turned into one.

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
empty text. A FLOAT is the nearest double; one that would overflow to infinity is refused, one that underflows is 0.
BOOL is for INT features with a bool_domain; whether an INT text is 0 or 1 is for validation.
"""

import dataclasses
import re
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel import native
from penstock.io.schema import Kind

if native.ENABLED:
    from penstock.io.kernel.native import _grammar
    from penstock.io.kernel.native._columns import Columns

Mask = npt.NDArray[np.bool_]
Text: TypeAlias = pa.StringArray | pa.LargeStringArray | pa.BinaryArray | pa.LargeBinaryArray

# RE2 syntax, where $ is the end of the text only; also valid for Python's re.fullmatch.
INT_PATTERN = r"0|-?[1-9][0-9]*"
FLOAT_PATTERN = r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
SPECIAL_PATTERN = r"NaN|nan|-?(?:Infinity|inf|Inf)"
TRUE_PATTERN = r"true|True|TRUE"
FALSE_PATTERN = r"false|False|FALSE"

_INT, _FLOAT, _SPECIAL = map(re.compile, (INT_PATTERN, FLOAT_PATTERN, SPECIAL_PATTERN))
_BOOLEAN = re.compile(f"{TRUE_PATTERN}|{FALSE_PATTERN}")

# Every integer up to here has a double of its own.
MAX_EXACT_INT = 1 << 53

# The smallest double that float32 rounds to infinity: half a unit above its largest number.
_FLOAT32_LIMIT = float(2**128 - 2**103)

_INT64_DIGITS = 19

_PROBES = 32


def cast_text(text: Text, kind: Kind, boolean: bool = False) -> tuple[pa.Array, Mask]:
    """The values that texts stand for, and which of them stand for none.

    >>> values, bad = cast_text(pa.array(["12", "x", None]), Kind.INT)
    >>> values.to_pylist(), bad.tolist()
    ([12, None, None], [False, True, False])

    Args:
      text: string or binary, also large; nulls stay null.
      kind: INT gives int64, FLOAT float64, BYTES the array as it is.
      boolean: INT features only: take the spellings of BOOL.

    Returns:
      The values, null where the text is not of this kind, and bool[n], True there.
    """
    if kind is Kind.BYTES:
        return text, np.zeros(len(text), bool)
    if kind is Kind.FLOAT:
        return _cast_float(text)
    return _cast_int(text, boolean)


def parse_text(text: str, kind: Kind, boolean: bool = False) -> tuple[int | float | None, bool]:
    """What `cast_text` makes of one text, and whether it has the form of a number of that kind, but is too large.

    For a few texts, where Arrow would spend more on the call than on the texts. A FLOAT must be within float32 here.

    >>> parse_text("12", Kind.INT), parse_text("x", Kind.INT), parse_text("1e39", Kind.FLOAT)
    ((12, False), (None, False), (None, True))
    """
    if kind is Kind.FLOAT:
        return _parse_float(text)
    if boolean and _BOOLEAN.fullmatch(text):
        return int(text.lower() == "true"), False
    if not _INT.fullmatch(text):
        return None, False
    value = int(text) if len(text) <= _INT64_DIGITS + 1 else 1 << 64
    return (value, False) if -(1 << 63) <= value < 1 << 63 else (None, True)


def _parse_float(text: str) -> tuple[float | None, bool]:
    if _SPECIAL.fullmatch(text):
        return float(text), False
    if not _FLOAT.fullmatch(text):
        return None, False
    value = float(text)
    return (value, False) if abs(value) < _FLOAT32_LIMIT else (None, True)


@dataclasses.dataclass(frozen=True)
class TextCounts:
    """How many texts of a column have which form, nulls left out; each is counted once, but for `specials`.

    Attributes:
      ints: INT texts that a double holds exactly.
      wide_ints: INT texts beyond 2^53 either way: as FLOAT they would lose digits.
      floats: FLOAT texts that are not integers.
      specials: those of the floats that are NaN or infinite.
      others: all else; also integers beyond int64 and finite numbers beyond float32, which only BYTES holds.
    """

    ints: int = 0
    wide_ints: int = 0
    floats: int = 0
    specials: int = 0
    others: int = 0


def classify_text(text: Text) -> TextCounts:
    """Counts the forms of the texts that are not null.

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
    # Integers beyond int64: FLOAT would take them, and round them.
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


def float32_overflow(values: npt.NDArray[np.float64]) -> Mask:
    """Which finite doubles float32 would turn into infinity."""
    return (np.abs(values) >= _FLOAT32_LIMIT) & np.isfinite(values)


def fits_float32(values: npt.NDArray[np.float64]) -> bool:
    """Whether none is of `float32_overflow`."""
    return bool(np.abs(values).max(initial=0) < _FLOAT32_LIMIT) or not float32_overflow(values).any()


def beyond_exact(values: npt.NDArray[np.int64]) -> Mask:
    """Which integers may have no double of their own."""
    return (values > MAX_EXACT_INT) | (values < -MAX_EXACT_INT)


def _cast_int(text: Text, boolean: bool) -> tuple[pa.Array, Mask]:
    return (_native_int if native.ENABLED else _arrow_int)(text, boolean)


def _cast_float(text: Text) -> tuple[pa.Array, Mask]:
    return (_native_float if native.ENABLED else _arrow_float)(text)


def _native_int(text: Text, boolean: bool) -> tuple[pa.Array, Mask]:
    return _by_states(*_grammar.ints(_column(text), boolean))


def _native_float(text: Text) -> tuple[pa.Array, Mask]:
    values, states = _grammar.floats(_column(text))
    hard = np.empty(0, np.int64) if states is None else np.flatnonzero(states == _grammar.HARD)
    if states is not None and len(hard):
        found, bad = _arrow_float(text.take(pa.array(hard)))
        values[hard] = _numbers(found, np.float64)
        states[hard] = np.where(bad, _grammar.BAD, _grammar.GOOD)
    return _by_states(values, states)


def _column(text: Text) -> "Columns":
    return Columns(pa.record_batch([text], names=["text"]))


def _by_states(values: npt.NDArray[Any], states: npt.NDArray[np.uint8] | None) -> tuple[pa.Array, Mask]:
    if states is None:
        return pa.array(values), np.zeros(len(values), bool)
    return pa.array(values, mask=states != _grammar.GOOD), states == _grammar.BAD


def _arrow_int(text: Text, boolean: bool) -> tuple[pa.Array, Mask]:
    if boolean:
        text = _spell_booleans(text)
    values = _cast_all(text, pa.int64(), INT_PATTERN)
    if values is None:
        fits = match_text(text, INT_PATTERN)
        fits[fits] = _fits_int64(text.filter(pa.array(fits)))
        return _cast_some(text, fits, pa.int64())
    # Arrow also takes leading zeros, -0 and 0x1F, which begin with a zero and go on.
    _, first, _, lengths = _leading_bytes(text)
    return _without(values, _valid(text) & (first == ord("0")) & (lengths > 1))


def _fits_int64(text: Text) -> Mask:
    """Of texts that match INT_PATTERN, which are within int64."""
    digits = pc.binary_length(text).to_numpy(zero_copy_only=False) - _leading_bytes(text)[0]
    fits = digits <= _INT64_DIGITS
    edge = np.flatnonzero(digits == _INT64_DIGITS)
    taken = pc.cast(text.take(pa.array(edge)), pa.string())
    magnitudes = pc.cast(pc.utf8_ltrim(taken, "-"), pa.uint64()).to_numpy(zero_copy_only=False)
    limits = np.uint64((1 << 63) - 1) + _leading_bytes(taken)[0].astype(np.uint64)
    fits[edge] = magnitudes <= limits
    return fits


def _arrow_float(text: Text) -> tuple[pa.Array, Mask]:
    pattern = f"{FLOAT_PATTERN}|{SPECIAL_PATTERN}"
    values = _cast_all(text, pa.float64(), pattern)
    if values is None:
        values, bad = _cast_some(text, match_text(text, pattern), pa.float64())
    else:
        # Arrow also takes a plus sign and leading zeros.
        negative, first, second, lengths = _leading_bytes(text)
        zeros = (first == ord("0")) & (second >= ord("0")) & (second <= ord("9")) & (lengths > negative + 1)
        bad = _valid(text) & (zeros | (first == ord("+")))
    return _without(values, bad | _unwritten_special(text, values))


def _unwritten_special(text: Text, values: pa.Array) -> Mask:
    """Where a value is not finite, but its text is none of the pinned spellings: 1e400, NAN, nan(1)."""
    suspects = np.flatnonzero(~np.isfinite(_numbers(values, np.float64)))
    found = np.zeros(len(text), bool)
    found[suspects] = ~match_text(text.take(pa.array(suspects)), SPECIAL_PATTERN)
    return found


def _spell_booleans(text: Text) -> Text:
    """true and false as 1 and 0, all other texts as they are."""
    for pattern, digit in ((TRUE_PATTERN, "1"), (FALSE_PATTERN, "0")):
        found = match_text(text, pattern)
        if found.any():
            text = pc.if_else(pa.array(found), pa.scalar(digit).cast(text.type), text)
    return text


def _cast_all(text: Text, target: pa.DataType, pattern: str) -> pa.Array | None:
    """All texts as Arrow casts them, about three times as fast as by pattern; None when one of them fails.

    Arrow spends 0.3 microseconds on each text that fails, so a few texts are tried by pattern first.
    """
    sample = text.take(pa.array(np.linspace(0, len(text) - 1, min(len(text), _PROBES), dtype=np.int64)))
    if not (match_text(sample, pattern) | ~_valid(sample)).all():
        return None
    try:
        return pc.cast(text, target)
    except pa.ArrowInvalid:
        return None


def _cast_some(text: Text, fits: Mask, target: pa.DataType) -> tuple[pa.Array, Mask]:
    """Casts the texts where `fits` is True, all of which Arrow can cast; the others are null, and bad unless null."""
    casted = pc.cast(text.filter(pa.array(fits)), target).to_numpy(zero_copy_only=False)
    values = np.zeros(len(text), casted.dtype)
    values[fits] = casted
    return pa.array(values, target, mask=~fits), ~fits & _valid(text)


def _without(values: pa.Array, bad: Mask) -> tuple[pa.Array, Mask]:
    if bad.any():
        values = pc.if_else(pa.array(bad), pa.scalar(None, values.type), values)
    return values, bad


def match_text(text: Text, pattern: str) -> Mask:
    """Which texts match as a whole; False for nulls."""
    found = pc.match_substring_regex(text, f"^(?:{pattern})$")
    return found.fill_null(False).to_numpy(zero_copy_only=False)


def _valid(array: pa.Array) -> Mask:
    return array.is_valid().to_numpy(zero_copy_only=False)


def _numbers(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The values as numpy without conversion; 0 for nulls."""
    if array.null_count:
        array = array.fill_null(0)
    return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)


def _leading_bytes(text: Text) -> tuple[Mask, npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Whether a text begins with a minus; the first and second byte after it (arbitrary past its end); its length."""
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
