"""Sums, buckets, hashes, counts and patterns: the kernel against Python."""

import collections
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import twins

from penstock.io.kernel.shared.statistics import INVALID_UTF8, NO_PATTERN, PATTERNS, TIMES_OF_TEXTS, least_repeated

compiled, pure = twins.both("statistics")

SPECIAL = [0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, float("nan")]
FLOATS = st.lists(st.one_of(st.floats(), st.sampled_from([*SPECIAL, float("inf"), float("-inf"), 1.0, -1.0])))
FINITE = st.lists(st.floats(allow_nan=False, allow_infinity=False))
INT64 = st.lists(st.integers(-(2**63), 2**63 - 1))
UINT64 = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**64 - 1])))
# Near the greatest integers that floats hold, and far beyond.
EDGES = [2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**62 + 1, 2**63 - 1, 2**63 - 512, 2**63 - 1024]
INTEGERS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([*EDGES, *(-edge for edge in EDGES)])).map(
        lambda values: np.array(values, np.int64)
    ),
    st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([*EDGES, 2**63, 2**64 - 1, 2**64 - 2048])).map(np.uint64),
)
COUNT = st.one_of(st.sampled_from([0, 1, 2]), st.integers(0, 2**62))


def text_batch(texts, item=None):
    return pa.record_batch([pa.array(texts, item or pa.binary())], ["text"])


def with_counts(draw, values, limit=2**62):
    count = st.one_of(st.just(0), st.just(1), st.integers(0, limit))
    return draw(st.none() | st.lists(count, min_size=len(values), max_size=len(values)).map(np.int64))


@given(st.data(), FLOATS)
def test_floats_are_described_the_same(data, values):
    counts = with_counts(data.draw, values, 2**40)
    ours, theirs = (module.describe_floats(np.array(values, np.float64), counts) for module in (compiled, pure))
    assert ours == theirs


@given(st.data(), st.one_of(INT64.map(lambda values: np.array(values, np.int64)), UINT64.map(np.uint64)))
def test_ints_are_described_the_same(data, values):
    counts = with_counts(data.draw, values)
    assert compiled.describe_ints(values, counts) == pure.describe_ints(values, counts)


def test_sums_are_those_of_all_blocks():
    values = np.random.default_rng(1).normal(size=3 * 2**20 + 5) * 1e300
    assert compiled.describe_floats(values) == pure.describe_floats(values)


@given(st.data(), FINITE)
def test_weighted_sums_are_the_same(data, values):
    weight = st.floats(0, 2.0**32)
    weights = np.array(data.draw(st.lists(weight, min_size=len(values), max_size=len(values))), np.float64)
    values = np.array(values, np.float64)
    assert compiled.weighted_sums(values, weights) == pure.weighted_sums(values, weights)
    assert compiled.weighted_sums(weights, values) == pure.weighted_sums(weights, values), "negative weights too"


def items(buckets):
    keys, counts = buckets.items()
    return buckets.bits(), keys.tolist(), counts.tolist()


@pytest.mark.parametrize("spread", [0, 1e-9, 1.0, 300.0], ids=["narrow", "close", "normal", "wide"])
@pytest.mark.parametrize("rows", [0, 1, 4096, 4097, 20_000])
def test_buckets_are_the_same_in_any_pieces(spread, rows):
    random = np.random.default_rng(rows)
    values = random.choice([-1.0, 1.0], rows) * np.exp(np.clip(spread * random.normal(size=rows), -740, 700))
    values[::7] = 0.0
    values[3::1000] = np.inf
    counts = random.integers(0, 3, rows)
    half = random.integers(0, 2, rows) == 0
    found = []
    for module in (compiled, pure):
        whole, first, second = (module.Buckets(4096) for _ in range(3))
        whole.add(values, counts)
        first.add(values[half], counts[half])
        second.add(np.repeat(values[~half], counts[~half]))
        first.merge(*second.items(), second.bits())
        assert items(first) == items(whole)
        found.append(items(whole))
    assert found[0] == found[1]
    assert len(found[0][1]) <= 4096


@given(st.lists(st.floats(allow_nan=False), max_size=50))
def test_few_numbers_have_a_bucket_each(values):
    for module in (compiled, pure):
        buckets = module.Buckets(4096)
        buckets.add(np.array(values, np.float64))
        assert buckets.bits() == 64
        assert len(buckets.items()[0]) == len({value + 0.0 for value in values})


@pytest.mark.parametrize("shift", [0, 20, 50], ids=["even", "small", "tiny"])
@pytest.mark.parametrize("count", [0, 1, 64, 5000, 200_000])
def test_the_least_hashes_are_those_of_a_set(count, shift):
    hashes = np.random.default_rng(count).integers(0, 2**64 - 1, count, np.uint64, endpoint=True) >> np.uint64(shift)
    hashes = np.concatenate([hashes, hashes[::3], np.array([0, 2**64 - 1, 1, 0], np.uint64)])
    wanted = sorted(set(hashes.tolist()))[:4096]
    for module in (compiled, pure):
        least = module.LeastHashes(4096)
        for start in range(0, len(hashes), 7000):
            least.add(hashes[start : start + 7000])
        assert least.items().tolist() == wanted


@given(UINT64.map(np.uint64))
def test_bits_hash_the_same_and_back(bits):
    hashes = compiled.hash_bits(bits)
    assert hashes.tolist() == pure.hash_bits(bits).tolist()
    assert compiled.unhash_bits(hashes).tolist() == pure.unhash_bits(hashes).tolist() == bits.tolist()


@given(INTEGERS)
def test_integers_hash_the_same_and_as_floats_that_are_equal(values):
    hashes = compiled.hash_numbers(values)
    assert hashes.tolist() == pure.hash_numbers(values).tolist()
    is_exact = [int(float(value)) == value for value in values.tolist()]
    floats = values.astype(np.float64)
    assert ((hashes == compiled.hash_numbers(floats)) | ~np.array(is_exact, bool)).all()
    assert (hashes[~np.array(is_exact, bool)] != compiled.hash_numbers(floats)[~np.array(is_exact, bool)]).all()


@given(FLOATS)
def test_floats_hash_the_same(values):
    values = np.array([*values, 0.0, -0.0, np.nan, -np.nan], np.float64)
    hashes = compiled.hash_numbers(values)
    assert hashes.tolist() == pure.hash_numbers(values).tolist()
    assert (hashes[-4] == hashes[-3], hashes[-2] == hashes[-1]) == (True, True)


@pytest.mark.parametrize("size", [*range(70), 1023, 5000])
def test_texts_hash_the_same(size):
    content = np.random.default_rng(size).bytes(2 * size)
    batch = text_batch([content[:size], b"", content[size:]])
    assert compiled.hash_texts(batch).tolist() == pure.hash_texts(batch).tolist()


TEXTS = st.lists(st.one_of(st.binary(max_size=3), st.sampled_from([b"", b"a", b"b", b"a" * 40])))


@pytest.mark.parametrize("item", [pa.binary(), pa.large_binary()], ids=str)
@given(st.data(), TEXTS)
def test_texts_are_counted_the_same(item, data, texts):
    batch, counts = text_batch(texts, item), with_counts(data.draw, texts, 1000)
    hashes = pure.hash_texts(batch)
    found = []
    for module in (compiled, pure):
        counter = module.Counter()
        counter.add(hashes[:2], None, batch[:2])
        counter.add(hashes, counts, batch)
        kept = np.arange(0, counter.size(), 2)
        found.append(contents(counter))
        counter.keep(kept, counter.counts()[kept] + 1)
        counter.add(hashes, counts, batch)
        found.append(contents(counter))
    assert found[:2] == found[2:]


def contents(counter):
    lists = [counter.hashes().tolist(), counter.counts().tolist(), counter.texts().to_pylist()]
    return [counter.size(), counter.text_bytes(), *lists]


def test_texts_of_one_hash_are_apart():
    batch, hashes = text_batch([b"a", b"b", b"a", b"", b"ab"]), np.full(5, 7, np.uint64)
    for module in (compiled, pure):
        counter = module.Counter()
        counter.add(hashes, None, batch)
        assert contents(counter)[3:] == [[2, 1, 1, 1], [b"a", b"b", b"", b"ab"]]


# Of one length, beginning and end.
MIDDLES = st.binary(min_size=12, max_size=12).map(lambda middle: b"first___" + middle + b"____last")


def as_counted(found, values):
    """Different values with their counts, and where each is, whatever their order."""
    if found is None:
        return None
    different, counts, places = found
    different = different if values is None else np.array(values, object)[different]
    pairs = sorted(zip(different.tolist(), counts.tolist(), strict=True), key=str)
    return pairs, None if places is None else different[places].tolist()


def bits_of(values):
    return values.view(np.uint64) if values.dtype == np.float64 else values


NEAR = st.integers(-(2**63), 2**63 - 4000).flatmap(lambda least: st.lists(st.integers(least, least + 3000)))


@pytest.mark.parametrize("with_places", [False, True], ids=["counts", "places"])
@given(st.one_of(INTEGERS, NEAR.map(lambda values: np.array(values, np.int64)), FLOATS.map(np.float64)))
def test_different_numbers_are_found_the_same(with_places, values):
    values = np.asarray(values)
    found = []
    for module in (compiled, pure):
        different, counts, places = module.different_numbers(values, with_places)
        assert different.dtype == values.dtype
        found.append(as_counted((bits_of(different), counts, places), None))
    assert found[0] == found[1]
    assert sum(count for _, count in found[0][0]) == len(values)


@pytest.mark.parametrize("with_places", [False, True], ids=["counts", "places"])
@pytest.mark.parametrize("item", [pa.binary(), pa.large_binary()], ids=str)
@given(st.lists(st.one_of(MIDDLES, st.binary(max_size=40))))
def test_different_texts_are_found_the_same(with_places, item, texts):
    batch = text_batch([b"skipped", *texts], item).slice(1)
    ours, theirs = (as_counted(module.different_texts(batch, with_places), texts) for module in (compiled, pure))
    assert ours == theirs
    assert ours[0] == sorted(collections.Counter(texts).items(), key=str)


@pytest.mark.parametrize("rows", [1, 1024, 1025, 3000, 40_000])
@pytest.mark.parametrize("different", [1, 900, 1500, 20_000, 10**9])
def test_most_values_differ_for_both(rows, different):
    numbers = np.random.default_rng(rows).integers(0, different, rows)
    for values in (numbers * 2.0**40, numbers << 30):
        ours, theirs = (as_counted(module.different_numbers(values), None) for module in (compiled, pure))
        assert ours == theirs
    texts = [b"a text of some length, number %d" % number for number in numbers]
    ours, theirs = (as_counted(module.different_texts(text_batch(texts), True), texts) for module in (compiled, pure))
    assert ours == theirs
    assert (ours is None) == (min(rows, 1024) - len(set(texts[:1024])) < least_repeated(rows, TIMES_OF_TEXTS))


@given(UINT64.map(np.uint64), st.binary(max_size=3))
def test_uints_are_packed_the_same(values, end):
    packed = compiled.pack_uints(values)
    assert packed == pure.pack_uints(values)
    for module in (compiled, pure):
        assert module.unpack_uints(packed).tolist() == values.tolist()
    results = []
    for module in (compiled, pure):
        try:
            results.append(module.unpack_uints(packed + end).tolist())
        except ValueError:
            results.append("broken")
    assert results[0] == results[1]


@pytest.mark.parametrize("module", [compiled, pure], ids=["kernel", "Python"])
@pytest.mark.parametrize("data", [b"\x80", b"\x01\xff", b"\x80" * 10 + b"\x01"], ids=["cut", "cut later", "too long"])
def test_broken_uints_are_refused(module, data):
    with pytest.raises(ValueError, match="the bytes are no varints"):
        module.unpack_uints(data)


@given(st.data(), UINT64.map(np.uint64))
def test_count_min_is_the_same(data, hashes):
    counts = with_counts(data.draw, hashes, 1000)
    tables = [np.zeros((4, 64), np.int64) for _ in range(2)]
    for module, table in zip((compiled, pure), tables, strict=True):
        module.add_counts(table, hashes, counts)
    assert tables[0].tolist() == tables[1].tolist()
    ours, theirs = (module.estimate_counts(tables[0], hashes).tolist() for module in (compiled, pure))
    assert ours == theirs


# What comes close to each pattern.
PIECES = st.lists(
    st.sampled_from(
        [
            *"0123456789abcfxTZez+-.:/@,;{}[]\"'_ \t\n\v\r\f\0\x7fäÿ€😀",
            *("://", "::", "2024-02-29", "T23:59", ":60", "29.2.2024", "+01:00", "255.", "256", "c0ffee00", "-4a4a"),
            *("a@b.de", "true"),
        ]
    ),
    max_size=12,
).map("".join)
PATTERN_TEXTS = st.one_of(PIECES, *(st.from_regex(f"(?:{pattern})\\Z") for pattern in PATTERNS.values()))
ANY_BYTES = st.one_of(
    PATTERN_TEXTS.map(str.encode), st.text().map(str.encode), st.binary(), st.text().map(lambda s: s.encode()[:-1])
)


def described(module, batch, counts=None):
    arrays, ends = (module.describe_texts(batch, counts)[part] for part in (slice(4), slice(4, None)))
    return [array.tolist() for array in arrays], ends


@given(st.data(), st.lists(ANY_BYTES, max_size=20))
def test_texts_are_described_the_same(data, texts):
    batch, counts = text_batch(texts), with_counts(data.draw, texts, 1000)
    assert described(compiled, batch, counts) == described(pure, batch, counts)
    for row in range(len(texts)):
        assert described(compiled, batch[row : row + 1]) == described(pure, batch[row : row + 1])


@pytest.mark.parametrize("size", [*range(20), 1023, 1024, 1025, 5000])
def test_texts_of_any_length_are_described_the_same(size):
    texts = [
        b"x" * size,
        "ä".encode() * size,
        b"1" * size,
        b"a@" + b"b" * size + b".c",
        b"x" * size + b"\xff",
        b"a:" * size,
    ]
    for text in texts:
        assert described(compiled, text_batch([text])) == described(pure, text_batch([text]))
    assert described(compiled, text_batch(texts)) == described(pure, text_batch(texts))


@pytest.mark.parametrize("lead", [0x7F, 0x80, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEE, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF])
def test_utf8_is_told_the_same(lead):
    ends = [b"", b"\x80", b"\x8f", b"\x90", b"\x9f", b"\xa0", b"\xbf", b"\xc0", b"a"]
    texts = [bytes([lead]) + one + other + third for one in ends for other in ends for third in ends]
    # Counts whose sums tell which texts they are of.
    counts = np.random.default_rng(lead).integers(1, 2**40, len(texts))
    assert described(compiled, text_batch(texts), counts) == described(pure, text_batch(texts), counts)


@pytest.mark.parametrize("name", PATTERNS)
def test_python_reads_the_expressions_as_arrow_does(name):
    texts = [b"", b"1", b"\n", b"1\n", b"2024-01-01\n", b"a@b.de\n", b"{}\n", b"::\n", "http://\u00e4".encode()]
    code = 1 + list(PATTERNS).index(name)
    for text in texts:
        has_pattern = pure.describe_texts(text_batch([text]))[0][code] == 1
        assert has_pattern <= bool(re.fullmatch(PATTERNS[name], text.decode()))


def test_codes_are_apart():
    assert len({NO_PATTERN, INVALID_UTF8, *range(1, len(PATTERNS) + 1)}) == len(PATTERNS) + 2


@pytest.mark.parametrize("module", [compiled, pure], ids=["kernel", "Python"])
def test_what_belongs_to_values_must_be_as_many(module):
    one, two = np.ones(1, np.int64), np.ones(2)
    with pytest.raises(ValueError, match="counts, weights and texts must be as many as the values, got 1 for 2"):
        module.describe_floats(two, one)
    with pytest.raises(ValueError, match="got 1 for 2"):
        module.describe_ints(np.ones(2, np.int64), one)
    with pytest.raises(ValueError, match="got 1 for 2"):
        module.weighted_sums(two, two[:1])
    with pytest.raises(ValueError, match="got 1 for 2"):
        module.Buckets(4096).add(two, one)
    with pytest.raises(ValueError, match="got 1 for 2"):
        module.Buckets(4096).merge(two.view(np.uint64), one, 64)
    with pytest.raises(ValueError, match="got 1 for 2"):
        module.Counter().add(two.view(np.uint64), one)
    with pytest.raises(ValueError, match="got 1 for 2"):
        module.Counter().add(two.view(np.uint64), None, text_batch([b""]))
    with pytest.raises(ValueError, match="got 1 for 2"):
        module.add_counts(np.zeros((4, 8), np.int64), two.view(np.uint64), one)


@pytest.mark.parametrize("module", [compiled, pure], ids=["kernel", "Python"])
def test_only_texts_are_texts(module):
    with pytest.raises(TypeError, match="texts must be one column of strings or bytes"):
        module.hash_texts(pa.record_batch([pa.array([1])], ["text"]))
    with pytest.raises(TypeError, match="texts must be one column of strings or bytes"):
        module.describe_texts(pa.record_batch([pa.array(["a"]), pa.array(["a"])], ["a", "b"]))
