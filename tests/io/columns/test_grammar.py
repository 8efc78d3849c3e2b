import decimal
import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_cases.number_texts import (
    BOOLS,
    FLOATS,
    INTS,
    NOT_BOOLS,
    NOT_FLOATS,
    NOT_INTS,
    NOT_WHOLES,
    SPECIALS,
    TYPES,
    WHOLES,
    long_floats,
    near_numbers,
    sliced,
    struct_bits,
)

from penstock.io.columns.grammar import cast_text, parse_text, text_numbers, whole_numbers
from penstock.io.kernel.shared.numbers import FLOAT_PATTERN, fits_float32, float32_overflow
from penstock.io.schema import Kind

FLOAT = r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"


def python_whole(text):
    """The exact whole number that a FLOAT text is; None if it is none."""
    if not re.fullmatch(FLOAT, text, re.ASCII):
        return None
    sign, digits, exponent = decimal.Decimal(text).as_tuple()
    kept = "".join(map(str, digits)).rstrip("0")
    exponent += len(digits) - len(kept)
    if not kept.strip("0"):
        return None if sign else 0
    # 40 digits are enough to be beyond int64.
    return None if exponent < 0 else int((kept.lstrip("0") + "0" * min(exponent, 30))[:40]) * (-1 if sign else 1)


def python_int(text):
    """The grammar once more, in Python's terms."""
    value = python_whole(text)
    return value if value is not None and -(2**63) <= value < 2**63 else None


def python_float(text):
    if text in SPECIALS:
        return float(text)
    if not re.fullmatch(FLOAT, text, re.ASCII):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def same(value, expected):
    if expected is None or value is None:
        return value is expected
    return struct_bits(value) == struct_bits(expected)


@pytest.mark.parametrize("text_type", TYPES, ids=str)
def test_int_table(text_type):
    values, bad = cast_text(pa.array([*INTS, *NOT_INTS, None]).cast(text_type), Kind.INT)
    assert values.type == pa.int64()
    assert values.to_pylist() == [int(text) for text in INTS] + [None] * (len(NOT_INTS) + 1)
    assert bad.tolist() == [False] * len(INTS) + [True] * len(NOT_INTS) + [False]


@pytest.mark.parametrize("text_type", TYPES, ids=str)
def test_float_table(text_type):
    good = [*FLOATS, *SPECIALS]
    values, bad = cast_text(pa.array([*good, *NOT_FLOATS, None]).cast(text_type), Kind.FLOAT)
    assert values.type == pa.float64()
    for text, value in zip(good, values.to_pylist(), strict=False):
        assert same(value, float(text)), text
    assert values.to_pylist()[len(good) :] == [None] * (len(NOT_FLOATS) + 1)
    assert bad.tolist() == [False] * len(good) + [True] * len(NOT_FLOATS) + [False]


@pytest.mark.parametrize("text_type", TYPES, ids=str)
def test_whole_numbers_are_ints_however_they_are_spelled(text_type):
    texts = pa.array([*WHOLES, *NOT_WHOLES, None]).cast(text_type)
    values, bad = cast_text(texts, Kind.INT)
    assert values.to_pylist() == [*WHOLES.values(), *[None] * len(NOT_WHOLES), None]
    assert bad.tolist() == [False] * len(WHOLES) + [True] * len(NOT_WHOLES) + [False]
    assert [parse_text(text, Kind.INT)[0] for text in WHOLES] == [*WHOLES.values()]
    assert cast_text(pa.array(["1.0", "0.0"]), Kind.INT, boolean=True)[0].to_pylist() == [1, 0]


def test_whole_numbers_beyond_int64_are_told_from_fractions():
    texts = ["9223372036854775808.0", "-1e19", "9" * 40, "1e999999999999", "1e-999999999999", "0.5", "x", None]
    found = whole_numbers(pa.array(texts))
    assert found.beyond.tolist() == [True] * 4 + [False] * 4
    assert not found.fits.any()


# One bad text takes another path through the code than many of them.
@pytest.mark.parametrize("text", NOT_INTS)
def test_one_bad_int_among_good_ones(text):
    values, bad = cast_text(pa.array(["1"] * 99 + [text]), Kind.INT)
    assert np.flatnonzero(bad).tolist() == [99]
    assert values.to_pylist() == [1] * 99 + [None]


@pytest.mark.parametrize("text", NOT_FLOATS)
def test_one_bad_float_among_good_ones(text):
    values, bad = cast_text(pa.array(["1.5"] * 99 + [text]), Kind.FLOAT)
    assert np.flatnonzero(bad).tolist() == [99]
    assert values.to_pylist() == [1.5] * 99 + [None]


@pytest.mark.parametrize("text_type", TYPES, ids=str)
def test_boolean_table(text_type):
    values, bad = cast_text(pa.array([*BOOLS, *NOT_BOOLS, None]).cast(text_type), Kind.INT, boolean=True)
    assert values.to_pylist() == [*BOOLS.values(), *[None] * len(NOT_BOOLS), None]
    assert bad.tolist() == [False] * len(BOOLS) + [True] * len(NOT_BOOLS) + [False]


def test_true_is_no_int_without_a_bool_domain():
    assert cast_text(pa.array(["true"]), Kind.INT)[1].tolist() == [True]


def test_bytes_stay_as_they_are():
    text = pa.array([b"\xff", None, b""])
    values, bad = cast_text(text, Kind.BYTES)
    assert values is text
    assert not bad.any()


@pytest.mark.parametrize("kind", [Kind.INT, Kind.FLOAT])
@pytest.mark.parametrize("text_type", TYPES, ids=str)
def test_no_texts_and_only_nulls(kind, text_type):
    for texts in ([], [None], [None, None]):
        values, bad = cast_text(pa.array(texts, text_type), kind)
        assert values.to_pylist() == texts
        assert bad.tolist() == [False] * len(texts)


def test_bytes_that_are_not_utf8_are_no_numbers():
    for kind in (Kind.INT, Kind.FLOAT):
        assert cast_text(pa.array([b"\xff", b"1\xff", b"\xff1"]), kind)[1].all()


def test_nulls_with_bytes_behind_them_are_not_bad():
    hidden = pa.array(["007", "x", "1"])
    text = pa.StringArray.from_buffers(3, hidden.buffers()[1], hidden.buffers()[2], pa.py_buffer(b"\x04"))
    for kind in (Kind.INT, Kind.FLOAT):
        values, bad = cast_text(text, kind)
        assert values.to_pylist() == [None, None, 1]
        assert not bad.any()


columns = st.tuples(st.lists(st.none() | near_numbers, max_size=60), st.sampled_from(TYPES), st.integers(0, 3))


@given(columns)
@example((["1"] * 40 + ["9223372036854775808"], pa.string(), 1))
@example((["-9223372036854775808"] * 40 + ["-9223372036854775809"], pa.binary(), 0))
def test_int_is_what_python_says(column):
    texts, text_type, start = column
    values, bad = cast_text(sliced(texts, text_type, start), Kind.INT)
    expected = [None if text is None else python_int(text) for text in texts]
    assert values.to_pylist() == expected
    assert bad.tolist() == [text is not None and value is None for text, value in zip(texts, expected, strict=True)]


@given(columns)
@example((["1.5"] * 40 + ["1e400"], pa.string(), 1))
@example((["1.5"] * 40 + ["0", "-0", "00"], pa.string(), 1))
def test_float_is_what_python_says(column):
    texts, text_type, start = column
    values, bad = cast_text(sliced(texts, text_type, start), Kind.FLOAT)
    expected = [None if text is None else python_float(text) for text in texts]
    assert all(same(value, wanted) for value, wanted in zip(values.to_pylist(), expected, strict=True))
    assert bad.tolist() == [text is not None and value is None for text, value in zip(texts, expected, strict=True)]


@given(near_numbers | long_floats | st.sampled_from([*BOOLS]), st.booleans())
@example("9" * 5000, False)
def test_one_text_is_parsed_as_in_a_column(text, boolean):
    for kind in (Kind.INT, Kind.FLOAT):
        values, _ = cast_text(pa.array([text]), kind, boolean)
        value, is_large = parse_text(text, kind, boolean)
        expected = values[0].as_py()
        if expected is not None and kind is Kind.FLOAT and float32_overflow(np.array([expected]))[0]:
            expected = None
        assert struct_bits(value) == struct_bits(expected)
        too_large = re.fullmatch(FLOAT_PATTERN, text) if kind is Kind.FLOAT else python_whole(text) is not None
        assert is_large == (value is None and bool(too_large))


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_every_int64_is_read_from_what_it_is_written_as(numbers):
    values, bad = cast_text(pa.array([str(number) for number in numbers], pa.string()), Kind.INT)
    assert values.to_pylist() == numbers
    assert not bad.any()


def python_numbers(texts):
    ints, wholes, beyond, fractions, others = [], [], [], [], 0
    for text in texts:
        if text is None:
            continue
        whole, number = python_whole(text), python_float(text)
        with np.errstate(over="ignore"):
            too_large = number is not None and np.isinf(np.float32(number)) and text not in SPECIALS
        is_spelled_as_int = bool(re.fullmatch("0|-?[1-9][0-9]*", text, re.ASCII))
        if is_spelled_as_int and python_int(text) is not None:
            ints.append(whole)
        elif number is None or too_large or is_spelled_as_int:
            others += 1
        elif whole is None:
            fractions.append(struct_bits(number))
        elif python_int(text) is not None:
            wholes.append(whole)
        else:
            beyond.append(number)
    return ints, wholes, beyond, fractions, others


@given(columns)
@example((["9223372036854775808", "9223372036854775808.0", "1e19", "-9223372036854775809"], pa.string(), 0))
@example((["9007199254740992", "9007199254740993", "-9007199254740993.0", "4503599627370497.25"], pa.string(), 0))
@example((["3.4028235677973366e38", "3.4028235677973362e38", "-1e39", "NaN"], pa.binary(), 2))
@example((["1e-400", "0.0", "-0.0", "123456789012345.", "1234567890123456.", "12345678901234.5"], pa.binary(), 2))
def test_numbers_of_texts_are_what_python_says(column):
    texts, text_type, start = column
    found = text_numbers(sliced(texts, text_type, start))
    fractions = [struct_bits(number) for number in found.fractions.tolist()]
    got = (found.ints.tolist(), found.wholes.tolist(), found.beyond.tolist(), fractions, found.others)
    assert got == python_numbers(texts)


@given(st.lists(st.floats()))
@example([3.4028235677973366e38, 3.4028235677973362e38, -3.4028235677973366e38, math.inf, math.nan])
def test_float32_overflow_is_what_numpy_does(numbers):
    doubles = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        expected = np.isinf(doubles.astype(np.float32)) & np.isfinite(doubles)
    assert float32_overflow(doubles).tolist() == expected.tolist()
    assert fits_float32(doubles) == (not expected.any())
