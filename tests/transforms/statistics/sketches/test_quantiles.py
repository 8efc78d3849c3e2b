import math
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sketch_pieces import merged, pieces

from penstock.io.errors import InputError
from penstock.transforms.statistics.sketches import WEIGHT_UNIT, QuantileSketch, fixed_point

RANDOM = np.random.default_rng(7)
MANY = {
    "normal": RANDOM.normal(size=50_000),
    "close": 1.7e9 + RANDOM.uniform(0, 86_400, 50_000),
    "wide": RANDOM.choice([-1.0, 1.0], 50_000) * np.exp(RANDOM.uniform(-700, 700, 50_000)),
    "any bits": RANDOM.integers(0, 2**64 - 1, 60_000, np.uint64).view(np.float64),
    "subnormal": RANDOM.integers(0, 2**20, 50_000).astype(np.uint64).view(np.float64),
    "all different": np.arange(50_000.0),
    "zipf": RANDOM.zipf(1.2, 50_000).astype(float),
    "with infinities": np.concatenate([RANDOM.normal(size=9_000), np.full(500, np.inf), np.full(500, -np.inf)]),
}
MANY["any bits"] = MANY["any bits"][~np.isnan(MANY["any bits"])]
LEAST_NORMAL = 2.0**-1022


def sketch_of(values, counts=None):
    sketch = QuantileSketch()
    sketch.update(np.array(values, np.float64), counts)
    return sketch


@given(st.data())
def test_no_order_and_no_tree_changes_a_byte(data):
    whole, parts = data.draw(pieces(st.lists(st.floats(allow_nan=False))))
    sketch = merged([sketch_of(part) for part in parts], data.draw)
    assert sketch.to_bytes() == sketch_of(whole).to_bytes()
    assert pickle.loads(pickle.dumps(sketch)) == sketch == sketch_of(whole)


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("order", ["as it is", "sorted", "reversed", "shuffled"])
def test_many_numbers_merge_to_the_same_bytes(name, order):
    values = MANY[name]
    whole = sketch_of(values).to_bytes()
    ordered = {"sorted": np.sort(values), "reversed": np.sort(values)[::-1], "shuffled": RANDOM.permutation(values)}
    parts = np.array_split(ordered.get(order, values), [1, 5_000, 5_003, 30_000])
    sketches = [sketch_of(part) for part in parts]
    sketches[3].merge(sketches[0])
    sketches[1].merge(sketches[2])
    sketches[1].merge(sketches[3])
    sketches[4].merge(sketches[1])
    assert sketches[4].to_bytes() == whole


@pytest.mark.parametrize("name", MANY)
def test_quantiles_are_within_the_error(name):
    values = np.sort(MANY[name])
    sketch = sketch_of(values)
    q = np.linspace(0, 1, 201)
    exact = values[np.maximum(np.ceil(q * len(values)).astype(int) - 1, 0)]
    found = sketch.quantiles_at(q)
    with np.errstate(invalid="ignore"):
        is_near = np.abs(found - exact) <= sketch.error * np.maximum(np.abs(exact), LEAST_NORMAL)
    assert ((found == exact) | is_near).all()
    assert (np.diff(found[np.isfinite(found)]) >= 0).all()
    assert (found[0], found[-1]) == (values[0], values[-1])
    assert len(sketch.buckets()[0]) <= 4096


@pytest.mark.parametrize(
    ("name", "error"), [("normal", 0.008), ("close", 3e-8), ("all different", 0.002), ("zipf", 0.0)]
)
def test_the_error_is_as_small_as_the_data_allow(name, error):
    values = MANY[name] if name != "zipf" else MANY[name][:3000]
    assert sketch_of(values).error <= error


@pytest.mark.parametrize("name", MANY)
def test_ranks_are_exact_at_borders_and_between_them_near(name):
    values = np.sort(MANY[name])
    sketch = sketch_of(values)
    lows, highs, counts = sketch.buckets()
    assert sketch.ranks(highs).tolist() == np.searchsorted(values, highs, side="right").tolist()
    assert sketch.count == counts.sum() == len(values)
    assert (lows[1:] > highs[:-1]).all()
    some = RANDOM.choice(values, 100)
    with np.errstate(invalid="ignore"):
        inside = np.searchsorted(lows, some, side="right") - 1
    assert (np.abs(sketch.ranks(some) - np.searchsorted(values, some, side="right")) <= counts[inside]).all()


@given(st.lists(st.integers(-20, 20), min_size=1), st.lists(st.integers(-25, 25), min_size=2, unique=True))
def test_few_numbers_are_exact(values, edges):
    sketch, edges = sketch_of(values), np.sort(np.array(edges, np.float64))
    assert sketch.error == 0.0
    assert sketch.histogram(edges).tolist() == np.histogram(values, edges)[0].tolist()
    assert [sketch.rank(edge) for edge in edges] == [sum(value <= edge for value in values) for edge in edges]
    assert sketch.cdf(edges).tolist() == [sum(value <= edge for value in values) / len(values) for edge in edges]
    assert sketch.quantile(0.5) == np.quantile(values, 0.5, method="inverted_cdf")


def test_a_histogram_of_many_numbers_is_near():
    values = MANY["normal"]
    sketch = sketch_of(values)
    edges = np.linspace(values.min(), values.max(), 11)
    found = sketch.histogram(edges)
    assert found.sum() == pytest.approx(len(values), abs=1e-6)
    assert found == pytest.approx(np.histogram(values, edges)[0], abs=30)


def test_edges_at_the_ends_lose_nothing():
    sketch = sketch_of([1.0, 2.0, 2.0, 3.0, math.inf, -math.inf])
    assert sketch.histogram(np.array([1.0, 2.0, 3.0])).tolist() == [1, 3]
    assert sketch.histogram(np.array([-math.inf, 2.0, math.inf])).tolist() == [2, 4]
    assert sketch.histogram(np.array([5.0, 6.0])).tolist() == [0]


def test_infinities_and_zeros_have_their_places():
    sketch = sketch_of([-0.0, 0.0, math.inf, -math.inf])
    assert sketch.quantiles(4).tolist() == [-math.inf, -math.inf, 0.0, 0.0, math.inf]
    assert math.copysign(1, sketch.quantile(0.5)) == 1
    assert sketch_of([math.inf]).quantiles(2).tolist() == [math.inf] * 3
    assert sketch_of([-math.inf]).quantiles(2).tolist() == [-math.inf] * 3
    assert len(sketch_of([0.0, -0.0]).buckets()[0]) == 1


def test_buckets_lie_within_the_numbers():
    lows, highs, _ = sketch_of(MANY["normal"]).buckets()
    assert (lows[0], highs[-1]) == (MANY["normal"].min(), MANY["normal"].max())


def test_counts_are_numbers_again_and_again():
    counts = np.array([3, 0, 2])
    assert sketch_of([1.5, 9.0, 2.5], counts) == sketch_of([1.5, 2.5, 1.5, 1.5, 2.5])
    with pytest.raises(ValueError, match="counts must be as many as the values, got 1 for 2"):
        sketch_of([1.0, 2.0], np.ones(1, np.int64))


def test_without_numbers_nothing_is_known():
    sketch = sketch_of([])
    assert np.isnan(sketch.quantiles(4)).all()
    assert np.isnan(sketch.cdf(np.array([1.0]))).all()
    assert (sketch.count, sketch.error, sketch.rank(1.0)) == (0, 0.0, 0.0)
    assert sketch.histogram(np.array([0.0, 1.0])).tolist() == [0.0]
    assert QuantileSketch.from_bytes(sketch.to_bytes()) == sketch


def test_any_array_of_numbers_is_read():
    assert sketch_of([1.0, 3.0]) == sketch_of(np.arange(5.0)[1::2])
    sketch = QuantileSketch()
    sketch.update(np.arange(5.0)[1::2])
    assert sketch == sketch_of([1.0, 3.0])
    sketch.update(pa.array([2.0]).to_numpy())
    assert sketch.count == 3


def test_weights_are_rounded_one_by_one():
    assert fixed_point(np.array([0.0, 1.0, 0.25, 1e-9])).tolist() == [0, 2**24, 2**22, 0]
    assert sketch_of([1.0, 2.0], fixed_point(np.array([0.5, 2.0]))).count * WEIGHT_UNIT == 2.5


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, 2.0**32])
def test_weights_that_are_none_are_refused(weight):
    with pytest.raises(ValueError, match=r"weights must be finite, not negative and below 2\^32, got "):
        fixed_point(np.array([1.0, weight]))


def test_other_bytes_are_refused():
    data = sketch_of([1.0, 2.0]).to_bytes()
    for broken in (data[:-1], data + b"\0", data[:5]):
        with pytest.raises(InputError, match="the state of a sketch is broken"):
            QuantileSketch.from_bytes(broken)
    with pytest.raises(InputError, match="begins with b'Q0' instead of b'Q1'"):
        QuantileSketch.from_bytes(b"Q0" + data[2:])
