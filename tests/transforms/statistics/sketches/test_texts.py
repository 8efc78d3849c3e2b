import collections
import pickle
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sketch_pieces import merged, pieces

from penstock.io.errors import InputError
from penstock.io.kernel.shared.statistics import PATTERNS
from penstock.transforms.statistics.sketches import PATTERN_NAMES, TextSketch, count_values

CASES = {
    "empty": [""],
    "whitespace": [" ", "\t \n", "\v\f\r"],
    "integer": ["0", "42", "-7", "+5", "007", "9" * 40, "20240229"],
    "number": ["1.5", ".5", "5.", "-2e-7", "+1E+06", "1e3", "0.0"],
    "date": ["2024-02-29", "2024/12/31", "29.02.2024", "2/29/2024", "29-2-2024", "2024-02-31", "1.1.0001"],
    "datetime": [
        *("2024-02-29T23:59", "2024-02-29 00:00:00", "2024/02/29 12:30:60", "2024-02-29T23:59:59.123456789Z"),
        *("2024-02-29T23:59:59,5+01:00", "2024-02-29 23:59-0500", "2024-02-29T23:59:59z"),
    ],
    "uuid": ["550e8400-e29b-41d4-a716-446655440000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"],
    "ip": [
        *("0.0.0.0", "255.255.255.255", "192.168.1.10", "::", "::1", "1::", "fe80::1:2", "1:2:3:4:5:6:7:8"),
        *("1:2:3:4:5:6:7::", "::1:2:3:4:5:6:7", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
    ],
    "email": ["a@b.de", "first.last+tag@sub.example.co", "x!#$%&'*+/=?^_`{|}~-@a-b.c1", "{a}@b.c", "1@2.3"],
    "url": ["http://x", "https://example.org/a?b=c#d", "s3://bucket/key", "a+b.c-d://ä", "git://[::1]:80"],
    "json": [
        "{}",
        "[]",
        '{"a": 1}',
        ' { "a@b": [] } ',
        "[1, 2]",
        '["x://y"]',
        "[null]",
        "[-1]",
        "[[1]]",
        "[{}]",
        "[ ]",
    ],
    None: [
        *("a", "Ünïcode", "1 2", "1_000", "1,5", "e5", ".", "+", "-", "1e", "1e+", "0x1F", "NaN", "true"),
        *(
            "2024-13-01",
            "2024-00-10",
            "2024-01-32",
            "2024-1-1",
            "2024-01/01",
            "32.1.2024",
            "0.1.2024",
            "1.1.24",
            "1.1/2024",
        ),
        *("2024-02-29T24:00", "2024-02-29T23:60", "2024-02-29T23:59:61", "2024-02-29T23:59:59.", "2024-02-29T23:59+1"),
        *("2024-02-29T23:59:59.1234567890", "2024-02-29T", "2024-02-29T1:00", "29.02.2024 12:00", "2024-02-29T23:59Zx"),
        *(
            "550e8400-e29b-41d4-a716-44665544000",
            "550e8400e29b41d4a716446655440000",
            "g50e8400-e29b-41d4-a716-446655440000",
        ),
        *("256.1.1.1", "1.1.1", "1.1.1.1.1", "01.1.1.1", "1.1.1.", ":::", "1::2::3", ":1", "1:", "1:2:3:4:5:6:7:8:9"),
        *("1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "12345::", "::1.2.3.4", "fe80::1%eth0", "1:2:3:4:5:6:7"),
        *(
            "a@b",
            "a@b.",
            "a@.b",
            "@b.de",
            "a@",
            "a..b@c.de",
            ".a@b.de",
            "a.@b.de",
            "a@-b.de",
            "a@b-.de",
            "a b@c.de",
            "a@b_c.de",
        ),
        *("ä@b.de", "a@b.de ", "http:/x", "http://", "://x", "1a://x", "http://a b", "http://a\x7f", "a_b://x", "x:y"),
        *("{", "}", "[", "]", "{]", "[}", "{a}", "[a]", "{1}", "[,]", "x{}", "{}x", "[abc]", "[]]"),
    ],
}


def sketch_of(texts, item=None):
    sketch = TextSketch()
    sketch.update(count_values(pa.array(texts, item)))
    return sketch


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in CASES.items() for text in texts])
def test_a_text_has_the_pattern_that_it_should(name, text):
    found = [pattern for pattern, count in sketch_of([text]).patterns.items() if count]
    assert found == ([] if name is None else [name])
    matching = [pattern for pattern in PATTERNS if re.fullmatch(PATTERNS[pattern], text)]
    assert found == matching[:1], "the expressions are the grammar"


def test_every_pattern_has_cases():
    assert {*CASES, None} == {*PATTERN_NAMES, None}


TEXTS = st.lists(
    st.one_of(st.text().map(str.encode), st.binary(), st.sampled_from([b"", b" ", b"1", b"\xff", b"a@b.de"]))
)


@given(st.data())
def test_no_order_and_no_tree_changes_a_byte(data):
    whole, parts = data.draw(pieces(TEXTS))
    sketch = merged([sketch_of(part, pa.binary()) for part in parts], data.draw)
    assert sketch.to_bytes() == sketch_of(whole, pa.binary()).to_bytes()
    assert pickle.loads(pickle.dumps(sketch)) == sketch == sketch_of(whole, pa.binary())


@given(st.lists(st.text(), min_size=1))
def test_lengths_are_those_of_python(texts):
    sketch = sketch_of(texts, pa.string())
    lengths, sizes = [len(text) for text in texts], [len(text.encode()) for text in texts]
    assert (sketch.count, sketch.characters, sketch.bytes) == (len(texts), sum(lengths), sum(sizes))
    assert (sketch.min_length, sketch.max_length) == (min(lengths), max(lengths))
    assert (sketch.min_bytes, sketch.max_bytes) == (min(sizes), max(sizes))
    assert (sketch.mean_length, sketch.mean_bytes) == (sum(lengths) / len(texts), sum(sizes) / len(texts))
    assert sketch.lengths.quantiles(1).tolist() == [min(lengths), max(lengths)]
    assert (sketch.empty, sketch.invalid_utf8) == (texts.count(""), 0)


def test_many_texts_are_as_few_of_them():
    texts = [f"{index} {'x' * (index % 5000)}" for index in range(3000)]
    whole = sketch_of(texts)
    parts = [sketch_of([text]) for text in texts[:50]] + [sketch_of(texts[50:]) for _ in range(1)]
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0] == whole
    counted = collections.Counter(len(text) for text in texts)
    assert dict(zip(whole.lengths.buckets()[0], whole.lengths.buckets()[2], strict=True)) == counted


def test_what_is_no_utf8_is_counted_and_has_no_pattern():
    sketch = sketch_of([b"\xff", "ä".encode()[:1], b"\xc0\x80", b"\xed\xa0\x80", b"1\xff", "ä".encode()], pa.binary())
    assert sketch.invalid_utf8 == 5
    assert sum(sketch.patterns.values()) == 0
    assert sketch.count == 6
    assert sketch.characters == 1 + 1 + 1 + 1 + 2 + 1


def test_without_texts_nothing_is_known():
    sketch = sketch_of([], pa.string())
    assert (sketch.min_length, sketch.max_length, sketch.min_bytes, sketch.max_bytes) == (None,) * 4
    assert np.isnan([sketch.mean_length, sketch.mean_bytes]).all()
    assert sketch == TextSketch() == TextSketch.from_bytes(sketch.to_bytes())


def test_numbers_and_other_bytes_are_refused():
    with pytest.raises(TypeError, match="a TextSketch takes texts, got int64"):
        sketch_of([1])
    data = sketch_of(["a"]).to_bytes()
    for broken in (data[:-1], data + b"\0"):
        with pytest.raises(InputError, match="the state of a sketch is broken"):
            TextSketch.from_bytes(broken)
