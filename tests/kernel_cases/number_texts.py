"""Texts that are numbers, and texts that almost are, for tests of the text grammar."""

import math

import pyarrow as pa
from hypothesis import strategies as st

TYPES = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]

INTS = ["0", "7", "-7", "1234567890", "9223372036854775807", "-9223372036854775808", "10", "-10"]
NOT_INTS = [
    *[
        "",
        "-",
        "+5",
        "-0",
        "007",
        "00",
        "-07",
        "5.5",
        "5.e",
        "1e-3",
        "0x1F",
        "0X10",
        "1_000",
        "1,000",
        " 5",
        "5 ",
        "5\n",
    ],
    *["\t5", "5\0", "\0", "٣", "５", "²", "9223372036854775808", "-9223372036854775809", "9" * 40, "-" + "9" * 20],
    *["true", "nan", "--5", "5-", "0-", "1" + "0" * 19, "18446744073709551616", "०"],
]
# Whole numbers that are spelled as FLOATs.
WHOLES = {
    **{"5.0": 5, "5.": 5, "-5.00": -5, ".5e1": 5, "1e3": 1000, "1E+03": 1000, "2.50e1": 25, "100e-2": 1, "0.0": 0},
    **{
        ".0": 0,
        "0e9": 0,
        "0e-999999999999": 0,
        "9223372036854775807.0": 2**63 - 1,
        "922337203685477580.7e1": 2**63 - 1,
    },
    **{"-9223372036854775808.": -(2**63), "9007199254740993.0": 2**53 + 1, "1" + "0" * 30 + "e-30": 1},
}
NOT_WHOLES = [
    *["-0.0", "-0e5", "-.0", "1.5e0", "1e-1", "1e-400", "1e-999999999999", "4503599627370497.25"],
    *["1.00000000000000000001", "9007199254740993.5", "9223372036854775808.0", "1e19", "1e400", "1e999999999999"],
]
FLOATS = [
    *["0", "-0", "5", "-5", "5.", "5.0", ".5", "-.5", "0.5", "-0.5", "1e3", "1E3", "1e+3", "1E-03", "1.5e300", "-2e-7"],
    *["1e-400", "5e-324", "1.7976931348623157e308", "9" * 300, "0." + "0" * 400 + "1", "9007199254740993", "0e9"],
]
SPECIALS = ["NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", "Inf", "-Inf"]
NOT_FLOATS = [
    *[
        "",
        ".",
        "-",
        "-.",
        "+1.5",
        "+5",
        "00.5",
        "007",
        "-00",
        "-01.5",
        "1e",
        "e5",
        "1e+",
        "1.5.2",
        "1,5",
        "0x1p3",
        "0x10",
    ],
    *["1e400", "-1e400", "9" * 400, "-nan", "-NaN", "NAN", "Nan", "+inf", "+Infinity", "INF", "infinity", "INFINITY"],
    *[
        "nan(1)",
        "nan()",
        "inf ",
        " 1.5",
        "1.5 ",
        "1.5\n",
        "1_0.5",
        "1d5",
        "1.5f",
        "٣.٥",
        "1.5\0",
        "1.7976931348623159e308",
    ],
]
BOOLS = {"true": 1, "True": 1, "TRUE": 1, "1": 1, "false": 0, "False": 0, "FALSE": 0, "0": 0, "2": 2}
NOT_BOOLS = ["t", "f", "yes", "no", "on", "tRuE", "true ", "truefalse", "", "1.5", "01"]


def struct_bits(value):
    """Tells -0.0 from 0.0, takes all NaN as one."""
    if value is None:
        return None
    return "nan" if value != value else (type(value), value, math.copysign(1, value))


# Digits, signs and letters that numbers are made of: random texts hardly ever come near a number otherwise.
near_numbers = st.one_of(
    st.text("0123456789+-.eE", max_size=8),
    st.text("019-", max_size=21),
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(repr),
    st.floats().map(lambda value: f"{value:.3g}"),
    st.sampled_from([*INTS, *NOT_INTS, *WHOLES, *NOT_WHOLES, *FLOATS, *NOT_FLOATS, *SPECIALS]),
    st.builds("{}.{}e{}".format, st.integers(-(10**12), 10**12), st.integers(0, 99), st.integers(-3, 9)),
    st.builds("{}.{}".format, st.integers(-(2**64), 2**64), st.text("0", max_size=3)),
    st.text(max_size=4),
)

# Doubles as programs print them: many digits, which are rounded by more than one multiplication.
long_floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-1e6, 1e6).map(repr),
    st.builds("{}{}.{}".format, st.sampled_from(["", "-"]), st.integers(0, 10**12), st.integers(0, 10**19)),
    st.builds("{}e{}".format, st.integers(0, 10**19), st.integers(-30, 30)),
    # Half-way between two doubles, and next to that.
    st.builds(lambda odd, bump: str((2 * odd + 1) * 2**10 + bump), st.integers(2**52, 2**53 - 1), st.integers(-1, 1)),
    st.builds(lambda odd, power: f"{(2 * odd + 1) * 5**power}e-{power}", st.integers(2**52, 2**53), st.integers(0, 4)),
)


def sliced(texts, text_type, start):
    """A slice, since offsets into the buffers are easy to forget."""
    return pa.array(["12"] * start + texts + ["34"], text_type).slice(start, len(texts))
