"""Samples of WebDataset by columns: what a look at each of their rows gives, or nothing."""

import io
import json
import math
import struct

import numpy as np
import pyarrow as pa
import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.dataset.shard_formats import samples, tar
from penstock.io.errors import InputError
from penstock.io.kernel import native

INTS = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = {pa.float16(): 16, pa.float32(): 32, pa.float64(): 64}
LEAVES = [*INTS, *FLOATS, pa.bool_(), pa.string(), pa.binary()]
NAMES = ["id", "view.png", 'ä"\\\n', ""]


def values(leaf):
    if leaf in FLOATS:
        return st.floats(width=FLOATS[leaf])
    if leaf in INTS:
        low = 0 if pa.types.is_unsigned_integer(leaf) else -(2 ** (leaf.bit_width - 1))
        return st.integers(low, low + 2**leaf.bit_width - 1)
    return {pa.bool_(): st.booleans(), pa.string(): st.text(max_size=9), pa.binary(): st.binary(max_size=9)}[leaf]


@st.composite
def batches(draw):
    rows = draw(st.integers(1, 5))
    columns = {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4)):
        kind = draw(st.sampled_from([leaf for leaf in LEAVES if leaf != pa.binary() or name in NAMES[:2]]))
        items = st.none() | values(kind)
        for _ in range(draw(st.integers(0, 2))):
            kind, items = pa.list_(kind), st.none() | st.lists(items, max_size=3)
        found = draw(st.lists(items, min_size=rows, max_size=rows))
        columns[name] = pa.array([_float16(one) if "halffloat" in str(kind) else one for one in found], kind)
    columns["last"] = pa.array(range(rows))
    return pa.record_batch(columns)


def _float16(value):
    if isinstance(value, list):
        return [_float16(one) for one in value]
    return None if value is None else np.float16(value)


def bits(value):
    """A value in which -0.0 is not 0.0, and NaN equals NaN."""
    if isinstance(value, list):
        return [bits(item) for item in value]
    if isinstance(value, float | np.floating):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return value


def same(found, expected):
    found.validate(full=True)
    return found.schema == expected.schema and all(
        bits(one.to_pylist()) == bits(other.to_pylist())
        for one, other in zip(found.columns, expected.columns, strict=True)
    )


def piece_of(data):
    return next(tar.TarReader(io.BytesIO(data + tar.END), "a.tar").samples())


@settings(max_examples=scaled(200))
@given(batches())
def test_columns_of_what_was_written(batch):
    codec = samples.SampleCodec(batch.schema)
    piece = piece_of(tar.numbered(*codec.encode(batch), 0).tobytes())
    assert same(codec._decode_rows(piece, "a.tar"), batch)
    found = codec._decode_columns(piece)
    assert (found is not None) == native.ENABLED
    assert found is None or same(found, batch)


def sample(document, members=()):
    """A piece with one row."""
    parts = [("json", document), *members]
    return piece_of(b"".join(tar.head_member(f"000000000.{name}".encode(), data) for name, data in parts))


def check_agreement(codec, piece):
    """Columns are what rows are, and nothing where these are wrong."""
    found = codec._decode_columns(piece)
    try:
        with np.errstate(over="ignore"):
            expected = codec._decode_rows(piece, "a.tar")
    except InputError:
        assert found is None
        return
    assert found is None or same(found, expected)


HOSTILE = [
    *("null", "nul", "true", "false", "True", "0", "-0", "00", "01", "1", "-1", "+1", "1.0", "-0.0", "1.", ".5", "-"),
    *("1e5", "1E+05", "1e", "1e+", "1e5.", "-1.5e-30", "1e400", "-1e400", "1e-400", "5e-324", "01.5", "-01.5", "0x1"),
    *("9007199254740993.0", "123456789012345678901234567890.5", "2.2250738585072011e-308", "1_0", "1_0.5", "1 ", " 1"),
    *map(str, (127, 128, -128, -129, 255, 256, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1)),
    *map(str, (2**64 - 1, 2**64, 10**30)),
    *("65504.0", "65520.0", "3.4028235677973362e38", "3.4028235677973366e38", "1e39"),
    *("NaN", "nan", "-NaN", "Infinity", "-Infinity", "inf", "Inf", "Infinit"),
    *('""', '"a"', '"a', 'a"', '"', '"\\', '"\\"', r'"\u0041\u00e9\u20AC\n\t\r\b\f\/\\\""', r'"\ud83d\ude00"'),
    *(r'"\ud800"', r'"\x"', r'"\u12"', r'"\u12g4"', r'"\u0000"', r'"\N"', '"\\\0"', '"a\tb"', '"\n"', '"\0"', '"\x7f"'),
    *("é", '"é\u2028"', '"1"', "'a'"),
    *(b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf5\x80\x80\x80"', b'"\xe2\x82"', b"\xff", b"\0"),
    *("", "[]", "[1]", "[1,2]", "[1.5,null]", '["a",null]', "[[]]", "[[1.5],null]", "[[true]]", "[1,]", "[,1]", "[,]"),
    *("[1", "1]", "[", "]", "[]]", "[1 ,2]", "[1, 2]", "{}", '{"x":1}', '1,"x":2', '1,"y":2', "1}", "1}{", "[null]"),
]


@pytest.mark.parametrize("leaf", [pa.int8(), pa.int64(), pa.uint32(), *LEAVES[7:]], ids=str)
def test_hostile_values_are_what_they_are_by_rows(leaf):
    texts = [text if isinstance(text, bytes) else text.encode() for text in HOSTILE]
    for kind, around in ((leaf, b"%s"), (pa.list_(leaf), b"[%s]")):
        codec = samples.SampleCodec(pa.schema([("x", kind), ("id", pa.int64())]))
        for text in texts:
            check_agreement(codec, sample(b'{"x":%s,"id":5}' % (around % text)))


CHANGING = pa.record_batch(
    {
        "a": pa.array([[1, None], None, []], pa.list_(pa.int8())),
        "b": pa.array([0.1, 1e-30, None]),
        "c": pa.array(['é"\n', None, ""]),
        "d": pa.array([True, False, None]),
    }
)


@settings(max_examples=scaled(600))
@given(st.integers(0, 2), st.integers(0, 60), st.integers(0, 3), st.binary(max_size=2) | st.sampled_from([b" ", b","]))
def test_changed_documents_are_what_they_are_by_rows(row, place, left_out, put_in):
    codec = samples.SampleCodec(CHANGING.schema)
    document = codec.encode(CHANGING.slice(row, 1))[0][tar.BLOCK :].tobytes().rstrip(b"\0")
    check_agreement(codec, sample(document[:place] + put_in + document[place + left_out :]))


MEMBERS = pa.schema([("jpg", pa.binary()), ("view.png", pa.list_(pa.list_(pa.binary())))])


@pytest.mark.parametrize(
    ("value", "members", "is_taken"),
    [
        ([], ["jpg"], True),
        (None, [], True),
        ([["view.0.png", None], None, ["view.7.png"]], ["view.7.png", "jpg", "view.0.png"], True),
        ([["other", "näme"]], ["näme", "other"], True),
        ([["view.0.png"]], [], False),
        ([["view.0.png"]] * 2, ["view.0.png"], False),
        ([["jpg"]], ["jpg"], False),
        ([], ["view.0.png"], False),
        ([[]], ["jpg", "jpg"], False),
        ([["a"]], ["a", "a"], False),
        ([[5]], [], False),
        (["a"], ["a"], False),
    ],
)
def test_each_member_is_taken_once(value, members, is_taken):
    codec = samples.SampleCodec(MEMBERS)
    document = json.dumps({"view.png": value}, ensure_ascii=False, separators=(",", ":")).encode()
    piece = sample(document, [(name, name.encode() * 200) for name in members])
    check_agreement(codec, piece)
    assert (codec._decode_columns(piece) is not None) == (is_taken and native.ENABLED)


def test_columns_of_one_name_are_left_to_rows():
    codec = samples.SampleCodec(pa.schema([("x", pa.int64()), ("x", pa.int64())]))
    check_agreement(codec, sample(b'{"x":1,"x":2}'))
    assert codec._decode_columns(sample(b'{"x":1,"x":2}')) is None


def test_rows_without_a_fault_may_be_none():
    batch = pa.record_batch({"x": pa.array([[1.5]]), "jpg": pa.array([b"a"])})
    codec = samples.SampleCodec(batch.schema)
    data = bytearray(tar.numbered(*codec.encode(batch), 0).tobytes())
    data[tar.BLOCK] ^= 1
    piece = piece_of(bytes(data)).good()
    assert len(piece) == 0
    assert codec.decode(piece, "a.tar") == batch.slice(0, 0)
