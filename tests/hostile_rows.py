"""Rows of hostile values, 12,000 of each kind, for tests that hold one engine against another."""

import functools

import numpy as np
import pyarrow as pa

from penstock.io.schema import Feature, Kind

ROWS = 12_000
_LEAST, _GREATEST = -(2**63), 2**63 - 1

_INTS = [0, 1, -1, 2, 7, -7, 2**24 + 1, 3_037_000_499, -3_037_000_499]
_FAULTY_INTS = [2**62, 2**53 + 1, -(2**53) - 1, _GREATEST, _LEAST, _LEAST + 1, 3_037_000_500, -3_037_000_500]
_FLOATS = [
    *(float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-40, -1e-40, 1e-45, 1.17549435e-38, 0.5, -0.5, 1.5, 2.5),
    *(-2.5, 1.0, -1.0, 3.4e38, -3.4e38, 9.2233720e18, -9.2233720e18, 9.3e18, 2.0**24, 8388609.0, 8388607.5),
]
_TEXTS = [
    *(b"", b" ", b"a", b"A b  C\t", b"\x80", b"\x80abc\x81\x82", b"\xff\xfe", b"\xe2\x82", b"x\xe2\x82Z", b"\xc0\x80"),
    *(b"\xf0\x9f\x98Z", b"\xed\xa0\x80Z", b"aa", b"aaa", b"aabaa", b"baab", b" \v\f\r\n\t ", b"\x1ca\x1cb", b"A\n\nb"),
    *(
        text.encode()
        for text in ("Äö ß", "ΑΣ ΣΑ Σ", "İıI", "ŉǆǅŐﬁ", "\u00a0a\u00a0", "\u2003x", "👩‍👩‍👧 Z", "e\u0301É", "٣7")
    ),
]
_NUMERALS = [
    *("", " ", "+", "-", "--1", "+-1", "- 1", "1_0", "1,5", "1 2", "1f", "0x", "1e", "1e+", ".", "e5", "1.5.5", "x"),
    *(
        "infinit",
        "infx",
        "nanx",
        "1\0",
        "\0001",
        "\u00a01",
        "١",
        "\x1c1",
        "9223372036854775808",
        "-9223372036854775809",
    ),
    *(
        "99999999999999999999",
        "1" * 50,
        "0x10",
        "-0X1f",
        "0x1p3",
        "0x1.8",
        "0x1.",
        "0x" + "f" * 40,
        "1.0",
        "1e3",
        "inf",
    ),
    *(
        "-INF",
        "+Infinity",
        "nan",
        "-NaN",
        "nan(1)",
        "1e400",
        "-1e400",
        "1e-400",
        "3.4028236e38",
        "3.4028235677973366e38",
    ),
    *("1e-45", "7e-46", "1.", ".5", "1.e3", "16777217", "16777219", "1e99999999999", "0." + "1" * 60, " 1e5\n"),
]
_WHOLE = [
    "9223372036854775807",
    "-9223372036854775808",
    "+12",
    " \v12\f ",
    "012",
    "-0",
    "0" * 40 + "7",
    "-000",
    "1" * 18,
]
_NO_TIMES = [
    *("", "2026-01", "2026-13-01", "2026-02-30", "2025-02-29", "2026-01-00", "0000-01-01", "2026-01-01T24:00"),
    *("2026-01-01T23:60", "2026-01-01T23:59:60", "2026-01-01T00:00+24:00", "2026-01-01Z", "2026-01-01 ", "01/31/2026"),
    *("2026-01-01\n", "2026-01-01T00:00:00.", "2026-01-01T00:00:00.5x", "2026-01-01T00:00:0", "2026-01-01T00:0000"),
    *(
        "2026-01-01T00:00+1:00",
        "2026-01-01T00:00+01:60",
        "2026-01-01T00:00-+01:00",
        "2026-01-01T00:00Z+01:00",
        "٢٠26-01-01",
    ),
    *("2026-01-01T00:00+01:00Z", "2026-01-01x00:00", "2026-01-01T00:00:00.12:34", "2026-01-01T00:00:00+01-00", "T"),
    *("2026-01-01T00:00:00.5+", "9999-12-31T23:00-02:00", "0001-01-01T01:00+02:00", "1677-01-01", "2263-01-01"),
]
_TIMES = ["2026-01-31", "1969-12-31T23:59:59.9999999Z", "2024-02-29 12:00+0000", "1677-09-22", "2262-04-11T23:47"]


def _mixed(rng: np.random.Generator, first: list, special: list, others: list) -> list:
    """What few operations take, what is special, and then others with the special among them; a tenth is missing."""
    begin = [*first, *special]
    found = [
        special[at] if rng.random() < 0.15 else value
        for at, value in zip(rng.integers(0, len(special), ROWS).tolist(), others, strict=True)
    ]
    return [*begin, *(None if rng.random() < 0.1 else value for value in found)][:ROWS]


def _texts(rng: np.random.Generator, most: int = 12) -> list[bytes]:
    alphabet = [*"abcABC xyz", *"\t\n-,.1234567890", "ä", "É", "ß", "Σ", "ς", "€", "👍", "\u0301"]
    pieces = [*(letter.encode() for letter in alphabet), b"aa", b"\x80", b"\xff", b"\xe2\x82"]
    weights = np.array([*[6] * 10, *[2] * 15, *[1] * 8, 3, 0.2, 0.2, 0.2])
    sizes = rng.integers(0, most, ROWS)
    return [b"".join(pieces[at] for at in rng.choice(len(pieces), size, p=weights / weights.sum())) for size in sizes]


def _times(rng: np.random.Generator) -> list[str]:
    found = []
    ends = ["", "Z", "+01:00", "-0830", "+2359", "-14:00"]
    for at, micros in enumerate(rng.integers(-9_000_000 * 10**12, 9_200_000 * 10**12, ROWS) // 1000):
        spelled = str(np.datetime64(int(micros), "us") + np.timedelta64(0, "us"))
        match at % 5:
            case 0:
                found.append(spelled[:10])
            case 1:
                found.append(spelled[:16].replace("T", " ") + ends[at % 6])
            case 2:
                found.append(spelled[:19] + ends[at % 6])
            case _:
                found.append(spelled + "789"[: at % 4] + ends[at % 6])
    return found


@functools.cache
def hostile_rows() -> dict[str, tuple[Feature, list]]:
    """Returns each column and its rows by its name."""
    rng = np.random.default_rng(17)
    ints = (rng.integers(_LEAST // 2, _GREATEST // 2, ROWS) >> rng.integers(32, 63, ROWS)).tolist()
    wide = (rng.integers(_LEAST, _GREATEST, ROWS) >> rng.integers(0, 63, ROWS)).tolist()
    bits = rng.integers(0, 2**32, ROWS, dtype=np.uint32).view(np.float32)
    near = rng.normal(0, 3, ROWS).astype(np.float32)
    floats = [np.where(np.arange(ROWS) % 3 == modulus, bits, near).tolist() for modulus in (0, 1)]
    seconds = rng.integers(-62_135_596_800, 253_402_300_799, ROWS).tolist()
    numerals = [f"{number:.7g}" for number in rng.normal(0, 1, ROWS) * 10.0 ** rng.integers(-30, 30, ROWS)]
    wholes = [str(number) for number in wide]
    order = rng.permutation(len(_FLOATS)).tolist()
    columns = {
        "i": (Kind.INT, _mixed(rng, _FAULTY_INTS, _INTS, ints)),
        "j": (Kind.INT, _mixed(rng, [3, -1, 0, 2], [*_FAULTY_INTS, *reversed(_INTS[1:])], wide[::-1])),
        "wide": (Kind.INT, _mixed(rng, [], [*_FAULTY_INTS, *_INTS], wide)),
        "x": (Kind.FLOAT, _mixed(rng, [], _FLOATS, floats[0])),
        "y": (Kind.FLOAT, _mixed(rng, [], [_FLOATS[at] for at in order], floats[1])),
        "text": (Kind.BYTES, _mixed(rng, [], _TEXTS, _texts(rng))),
        "other": (Kind.BYTES, _mixed(rng, [], _TEXTS[::-1], _texts(rng, 3))),
        "numeral": (Kind.BYTES, _mixed(rng, _NUMERALS, _WHOLE, numerals)),
        "whole": (Kind.BYTES, _mixed(rng, _NUMERALS, _WHOLE, wholes)),
        "time": (Kind.BYTES, _mixed(rng, _NO_TIMES, _TIMES, _times(rng))),
        "seconds": (Kind.INT, _mixed(rng, [*_FAULTY_INTS, 2**40, -(2**40)], [0, -1, 86_399, 86_400], seconds)),
    }
    found = {name: (Feature(name, kind, multivalued=False), values) for name, (kind, values) in columns.items()}
    tokens, sizes = [text for text in _texts(rng, 3)], rng.integers(0, 6, ROWS).tolist()
    words = [[tokens[(at * 7 + place * at) % 40 + at % 900] for place in range(size)] for at, size in enumerate(sizes)]
    found["words"] = (Feature("words", Kind.BYTES, multivalued=True), words)
    lists = [[wide[(at * 3 + place) % ROWS] for place in range(size)] for at, size in enumerate(sizes)]
    found["list"] = (Feature("list", Kind.INT, multivalued=True), lists)
    pairs = [None if at % 9 == 0 else [floats[1][at], floats[0][at - 1]] for at in range(ROWS)]
    found["pair"] = (Feature("pair", Kind.FLOAT, multivalued=True, length=2), pairs)
    dense = [value for value in wide]
    found["sure"] = (Feature("sure", Kind.INT, multivalued=False, required=True, complete=True), dense)
    return found


_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}


def hostile_batch() -> pa.RecordBatch:
    """Returns all columns, in Arrow's types; lists where a row may have several values."""
    arrays = []
    for feature, rows in hostile_rows().values():
        kind = _TYPES[feature.kind]
        arrays.append(pa.array([_plain(row) for row in rows], pa.list_(kind) if feature.multivalued else kind))
    return pa.record_batch(arrays, list(hostile_rows()))


def _plain(row: object) -> object:
    return row.encode() if isinstance(row, str) else row
