import collections
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sketch_pieces import merged, pieces

from penstock.io.errors import InputError
from penstock.transforms.statistics.sketches import FrequentSketch, count_values, fixed_point

RANDOM = np.random.default_rng(11)


def sketch_of(values, item=None, batch_rows=32_768):
    sketch = FrequentSketch()
    array = values if isinstance(values, pa.Array) else pa.array(values, item)
    for start in range(0, len(array), batch_rows):
        sketch.update(count_values(array[start : start + batch_rows]))
    return sketch


def pairs(found):
    return list(zip(found.values.to_pylist(), found.counts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("item", "values"),
    [
        pytest.param(pa.int64(), st.lists(st.integers(-12, 12)), id="ints"),
        pytest.param(pa.uint64(), st.lists(st.integers(2**64 - 9, 2**64 - 1)), id="uints"),
        pytest.param(pa.binary(), st.lists(st.binary(max_size=2)), id="bytes"),
    ],
)
@given(st.data())
def test_few_values_are_counted_exactly_in_any_order(item, values, data):
    whole, parts = data.draw(pieces(values))
    sketch = merged([sketch_of(part, item) for part in parts], data.draw)
    assert sketch.to_bytes() == sketch_of(whole, item).to_bytes()
    assert pickle.loads(pickle.dumps(sketch)) == sketch == sketch_of(whole, item)
    counted = sorted(collections.Counter(whole).items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
    assert pairs(sketch.top()) == counted
    assert pairs(sketch.top(3)) == counted[:3]
    assert (sketch.is_exact, sketch.error, sketch.threshold, sketch.total) == (True, 0, 1, len(whole))


def zipf_texts(rows, exponent, distinct):
    return pa.array(RANDOM.zipf(exponent, rows) % distinct).cast(pa.string())


MANY = {
    "zipf": zipf_texts(200_000, 1.1, 10**7),
    "zipf of ints": pa.array(RANDOM.zipf(1.1, 200_000) % 10**7),
    "all different": pa.array(np.arange(90_000)),
    "a few among many": pa.array(RANDOM.permutation(np.concatenate([np.arange(90_000), np.repeat([-1, -2], 900)]))),
    "long texts": pa.array([f"{index % 9000:01000d}" for index in range(12_000)] + ["short"] * 500),
}


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled"])
def test_many_values_are_reported_in_any_order(name, order):
    values = MANY[name]
    whole = sketch_of(values)
    places = np.asarray(pa.compute.array_sort_indices(values))
    places = {"sorted": places, "reversed": places[::-1], "shuffled": RANDOM.permutation(len(values))}[order]
    ordered = values.take(pa.array(places))
    first, second = sketch_of(ordered[: len(values) // 3], batch_rows=9_999), sketch_of(ordered[len(values) // 3 :])
    second = pickle.loads(pickle.dumps(second))
    first.merge(second)
    assert not whole.is_exact
    assert first.to_bytes() == whole.to_bytes()
    assert FrequentSketch.from_bytes(whole.to_bytes()).to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("name", MANY)
def test_all_frequent_values_are_reported_within_the_error(name):
    sketch, values = sketch_of(MANY[name]), MANY[name].to_pylist()
    counted = collections.Counter(values)
    found = pairs(sketch.top())
    decoded = {value.decode() if isinstance(value, bytes) else value: count for value, count in found}
    assert all(value in decoded for value, count in counted.items() if count >= sketch.threshold)
    too_high = [count - counted[value] for value, count in decoded.items()]
    assert min(too_high, default=0) >= 0
    assert sum(high > sketch.error for high in too_high) <= len(too_high) / 256
    assert all(counted[value] > sketch.threshold / 4 for value in decoded)
    counts = [count for _, count in found]
    assert counts == sorted(counts, reverse=True)
    assert pairs(sketch.top(5)) == found[:5]


def test_states_that_were_written_merge_to_the_same_report():
    values = MANY["zipf"]
    parts = [values[start : start + 70_000] for start in range(0, len(values), 70_000)]
    read = [FrequentSketch.from_bytes(sketch_of(part).to_bytes()) for part in parts]
    read[2].merge(read[0])
    read[1].merge(read[2])
    assert pairs(read[1].top()) == pairs(sketch_of(values).top())


def test_exact_counts_end_where_the_data_say():
    few = sketch_of(np.arange(1 << 16))
    assert few.is_exact
    more = sketch_of([-1])
    more.merge(few)
    assert not more.is_exact
    few.merge(sketch_of([-1]))
    assert few.to_bytes() == more.to_bytes()
    assert few.top(5).counts.tolist() == []


def test_exact_and_inexact_sketches_merge_both_ways():
    values = np.concatenate([np.arange(100_000), np.full(3000, -5)])
    whole = sketch_of(values)
    for first, second in ((values[:90_000], values[90_000:]), (values[90_000:], values[:90_000])):
        sketch = sketch_of(first)
        sketch.merge(sketch_of(second))
        assert sketch.to_bytes() == whole.to_bytes()
    assert whole.top().values.to_pylist() == [-5]
    assert 3000 <= whole.top().counts[0] <= 3000 + whole.error


def test_long_texts_are_only_counted():
    sketch = sketch_of(["a" * 1024, "b" * 1025, "b" * 1025, "c"])
    assert (sketch.long, sketch.total) == (2, 4)
    assert pairs(sketch.top()) == [(b"c", 1), (b"a" * 1024, 1)]
    assert FrequentSketch.from_bytes(sketch.to_bytes()).long == 2


def test_texts_of_many_bytes_end_exact_counts():
    texts = pa.array([f"{index:01000d}" for index in range(4195)])
    assert not sketch_of(texts).is_exact
    assert sketch_of(texts[:4194]).is_exact


def test_weights_are_counts():
    sketch = FrequentSketch()
    weights = fixed_point(np.array([1.0, 0.5, 2.0, 0.0]))
    sketch.update(count_values(pa.array(["a", "b", "a", "c"]), with_places=True), weights)
    assert pairs(sketch.top()) == [(b"a", 3 << 24), (b"b", 1 << 23)]
    assert sketch.total == 7 << 23
    again = FrequentSketch()
    again.update(count_values(pa.array(["b", "a"]), with_places=True), fixed_point(np.array([0.5, 3.0])))
    assert again == sketch


def test_great_weights_are_counted_beyond_exact_counts_too():
    values = pa.array(np.concatenate([np.arange(70_000), np.full(2_000, -1)]))
    sketch = FrequentSketch()
    sketch.update(count_values(values, with_places=True), fixed_point(np.full(len(values), 2.0**20)))
    assert sketch.top().values.to_pylist() == [-1]
    assert sketch.threshold == -(-72_000 * 2**44 // 1024)


def test_booleans_and_dictionaries_are_values():
    assert pairs(sketch_of([True, False, True]).top()) == [(1, 2), (0, 1)]
    assert sketch_of(pa.array(["a", "b", "a"]).dictionary_encode()) == sketch_of(["a", "b", "a"])


def test_without_values_nothing_is_known():
    sketch = FrequentSketch()
    assert pairs(sketch.top()) == pairs(sketch.top(0)) == []
    assert FrequentSketch.from_bytes(sketch.to_bytes()) == sketch
    other = sketch_of(["a"])
    other.merge(sketch)
    sketch.merge(other)
    assert sketch == other


def test_other_kinds_and_bytes_are_refused():
    with pytest.raises(TypeError, match="a FrequentSketch takes texts or integers, got double"):
        sketch_of([1.5])
    with pytest.raises(TypeError, match="a FrequentSketch of text values takes no int64 values"):
        sketch_of(["a"]).merge(sketch_of([1]))
    for sketch in (sketch_of(["a", "b"]), sketch_of([1, 2]), sketch_of(MANY["all different"])):
        data = sketch.to_bytes()
        for broken in (data[:-1], data + b"\0", data[:4]):
            with pytest.raises(InputError, match="the state of a sketch"):
                FrequentSketch.from_bytes(broken)
