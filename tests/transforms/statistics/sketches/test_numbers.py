import fractions
import math
import pickle
import statistics

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sketch_pieces import merged, pieces

from penstock.io.errors import InputError
from penstock.transforms.statistics.sketches import NumberSketch, WeightedNumbers, count_values

NAN_WITH_PAYLOAD = np.array([0x7FF8_0000_0000_BEEF, 0xFFF0_0000_0000_0001], np.uint64).view(np.float64).tolist()
FLOATS = st.lists(st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 5e-324, 1e308, -1e308, *NAN_WITH_PAYLOAD])))
INTS = st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3)))
UINTS = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.just(2**64 - 1)))


def sketch_of(values, item=None, counts=None):
    sketch = NumberSketch()
    sketch.update(pa.array(values, item or pa.float64(), from_pandas=False), counts)
    return sketch


@pytest.mark.parametrize(
    ("item", "values"),
    [
        pytest.param(pa.float64(), FLOATS, id="floats"),
        pytest.param(pa.int64(), INTS, id="ints"),
        pytest.param(pa.uint64(), UINTS, id="uints"),
    ],
)
@given(st.data())
def test_no_order_and_no_tree_changes_a_byte(item, values, data):
    whole, parts = data.draw(pieces(values))
    sketch = merged([sketch_of(part, item) for part in parts], data.draw)
    assert sketch == sketch_of(whole, item)
    assert sketch.to_bytes() == sketch_of(whole, item).to_bytes()
    assert NumberSketch.from_bytes(sketch.to_bytes()).to_bytes() == sketch.to_bytes()
    assert pickle.loads(pickle.dumps(sketch)) == sketch


@given(st.data(), FLOATS)
def test_counts_are_values_again_and_again(data, values):
    counts = data.draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    repeated = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
    assert sketch_of(values, None, np.array(counts, np.int64)) == sketch_of(repeated)
    ints = [hash(value) % 7 - 3 for value in values]
    repeated = [value for value, count in zip(ints, counts, strict=True) for _ in range(count)]
    assert sketch_of(ints, pa.int64(), np.array(counts, np.int64)) == sketch_of(repeated, pa.int64())


@given(st.lists(st.integers(-(2**53), 2**53)))
def test_whole_floats_are_as_their_ints(values):
    assert sketch_of(values, pa.int64()) == sketch_of(values)
    counted = count_values(pa.array(values, pa.int64()))
    assert sketch_of(counted.values.to_pylist(), pa.int64(), counted.counts) == sketch_of(values)


@given(FLOATS)
def test_results_are_the_exact_ones(values):
    sketch = sketch_of(values)
    finite = [value for value in values if math.isfinite(value)]
    exact = [fractions.Fraction(value) for value in finite]
    assert sketch.count == len(values)
    assert (sketch.nan, sketch.finite) == (sum(map(math.isnan, values)), len(finite))
    assert sketch.positive_infinity == values.count(math.inf)
    assert sketch.negative_infinity == values.count(-math.inf)
    assert sketch.zeros == values.count(0)
    assert sketch.exact_sum == sum(exact)
    assert sketch.exact_sum_of_squares == sum(value**2 for value in exact)
    assert (sketch.finite_min, sketch.finite_max) == (min(finite, default=None), max(finite, default=None))
    ordered = [value for value in values if not math.isnan(value)]
    assert (sketch.min, sketch.max) == (min(ordered, default=None), max(ordered, default=None))


@given(INTS)
def test_ints_never_pass_through_a_float(values):
    sketch = sketch_of(values, pa.int64())
    assert sketch.exact_sum == sum(values)
    assert sketch.exact_sum_of_squares == sum(value**2 for value in values)
    assert (sketch.min, sketch.max) == (min(values, default=None), max(values, default=None))
    if values:
        assert sketch.mean == float(statistics.mean(map(fractions.Fraction, values)))
        assert sketch.variance == float(statistics.pvariance(map(fractions.Fraction, values)))


def test_huge_ints_are_exact():
    sketch = sketch_of([2**64 - 1] * 3 + [0], pa.uint64())
    assert sketch.exact_sum == 3 * (2**64 - 1)
    assert (sketch.min, sketch.max, sketch.zeros) == (0, 2**64 - 1, 1)
    assert sketch_of([-(2**63), 2**63 - 1], pa.int64()).sum == -1.0


def test_a_sum_that_no_float_holds_is_infinite_and_its_mean_is_right():
    sketch = sketch_of([1e308, 1e308, 1e308])
    assert sketch.sum == math.inf
    assert (sketch.mean, sketch.variance, sketch.std_dev) == (1e308, 0.0, 0.0)
    assert sketch_of([-1e308, -1e308]).sum == -math.inf
    wide = sketch_of([1e308, -1e308])
    assert (wide.sum, wide.mean, wide.variance, wide.std_dev) == (0.0, 0.0, math.inf, 1e308)


def test_small_differences_of_large_numbers_are_kept():
    values = [1e16 + 2.0 * index for index in range(1000)]
    assert sketch_of(values).variance == float(statistics.pvariance(map(fractions.Fraction, values)))
    assert sketch_of([1e100, 1.0, -1e100]).sum == 1.0


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 5e-324, 2.0**-1022, 3.3e307, 7.0])
def test_of_one_number_all_is_known(value):
    sketch = sketch_of([value] * 3)
    assert (sketch.mean, sketch.std_dev, sketch.min, sketch.max) == (value, 0.0, value, value)


@given(st.lists(st.floats(-1e200, 1e200), min_size=1))
def test_the_deviation_is_the_root_of_the_exact_variance(values):
    variance = statistics.pvariance(map(fractions.Fraction, values))
    found = fractions.Fraction(sketch_of(values).std_dev)
    below, above = (fractions.Fraction(math.nextafter(float(found), to)) for to in (-math.inf, math.inf))
    assert ((below + found) / 2) ** 2 <= variance <= ((found + above) / 2) ** 2 or found == variance == 0


def test_without_numbers_nothing_is_known():
    sketch = sketch_of([math.nan])
    assert (sketch.min, sketch.max, sketch.finite_min, sketch.sum) == (None, None, None, 0.0)
    assert all(map(math.isnan, (sketch.mean, sketch.variance, sketch.std_dev, sketch.quantiles.quantile(0.5))))
    assert NumberSketch.from_bytes(NumberSketch().to_bytes()) == NumberSketch()


def test_narrow_numbers_and_booleans_are_numbers():
    assert sketch_of([1, 2], pa.int8()) == sketch_of([1, 2], pa.uint32()) == sketch_of([1, 2], pa.float32())
    assert sketch_of([True, False], pa.bool_()) == sketch_of([1, 0], pa.int64())


@pytest.mark.parametrize("kind", [NumberSketch, WeightedNumbers], ids=["numbers", "weighted"])
def test_what_are_no_numbers_is_refused(kind):
    weights = (np.ones(2),) if kind is WeightedNumbers else ()
    with pytest.raises(TypeError, match="numbers must be integers, floats or booleans, got string"):
        kind().update(pa.array(["a", "b"]), *weights)
    with pytest.raises(ValueError, match="numbers must have no nulls, got 1; drop and count them before"):
        kind().update(pa.array([1, None]), *weights)
    with pytest.raises(InputError, match="begins with b'x' instead of"):
        kind.from_bytes(b"x")
    with pytest.raises(InputError, match="it was cut"):
        kind.from_bytes(kind().to_bytes()[:-1])
    with pytest.raises(InputError, match="it was cut"):
        kind.from_bytes(kind().to_bytes() + b"\0")
    with pytest.raises(ValueError, match="as many"):
        kind().update(pa.array([1, 2]), np.ones(1, np.int64))


WEIGHTED = st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(0, 1000)))


def weighted_of(pairs):
    sketch = WeightedNumbers()
    sketch.update(pa.array([value for value, _ in pairs], pa.float64()), np.array([weight for _, weight in pairs]))
    return sketch


@given(st.data())
def test_weights_change_no_byte_either(data):
    whole, parts = data.draw(pieces(WEIGHTED))
    sketch = merged([weighted_of(part) for part in parts], data.draw)
    assert sketch.to_bytes() == weighted_of(whole).to_bytes()
    assert pickle.loads(pickle.dumps(sketch)) == sketch


@given(WEIGHTED)
def test_weighted_results_are_the_exact_ones(pairs):
    sketch = weighted_of(pairs)
    exact = [(fractions.Fraction(value), fractions.Fraction(weight)) for value, weight in pairs]
    weight = sum(weight for _, weight in exact)
    assert sketch.weight == float(weight)
    if not weight:
        assert math.isnan(sketch.mean)
        return
    mean = sum(value * weight for value, weight in exact) / weight
    assert sketch.mean == float(mean)
    variance = sum(weight * (value - mean) ** 2 for value, weight in exact) / weight
    assert sketch.variance == (float(variance) if variance < 2**1023 else pytest.approx(sketch.variance))


def test_weights_of_what_is_not_finite_are_left_out():
    assert weighted_of([(1.0, 2.0), (math.inf, 3.0), (math.nan, 4.0)]) == weighted_of([(1.0, 2.0)])
    assert weighted_of([(1.0, 0.5), (3.0, 1.5)]).quantiles.quantiles(2).tolist() == [1.0, 3.0, 3.0]
