import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sketch_pieces import merged, pieces

from penstock.io.errors import InputError
from penstock.transforms.statistics.sketches import DistinctSketch, count_values


def sketch_of(values):
    sketch = DistinctSketch()
    sketch.update(count_values(pa.array(values, pa.int64())).hashes)
    return sketch


@given(st.data())
def test_no_order_and_no_tree_changes_a_byte(data):
    whole, parts = data.draw(pieces(st.lists(st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1))))
    sketch = merged([sketch_of(part) for part in parts], data.draw)
    assert sketch.to_bytes() == sketch_of(whole).to_bytes()
    assert sketch.estimate == len(set(whole))
    assert sketch.is_exact
    assert sketch.error == 0.0


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 20_000, 300_000])
@pytest.mark.parametrize("name", ["ints", "texts", "floats"])
def test_many_values_are_estimated_within_four_errors(count, name):
    make = {"ints": pa.array, "texts": lambda v: pa.array(v).cast(pa.string()), "floats": lambda v: pa.array(v / 8)}
    hashes = count_values(make[name](np.arange(count))).hashes
    whole, first, second = DistinctSketch(), DistinctSketch(), DistinctSketch()
    whole.update(np.repeat(hashes, 2))
    first.update(hashes[: 2 * count // 3][::-1])
    second.update(hashes[count // 3 :])
    second.merge(first)
    assert second == whole
    assert pickle.loads(pickle.dumps(second)).to_bytes() == whole.to_bytes()
    assert whole.is_exact == (count < 4096)
    assert whole.error == pytest.approx(0.0156 if count >= 4096 else 0, abs=1e-4)
    assert abs(whole.estimate - count) <= 4 * whole.error * count


def test_zeros_are_one_value_and_nan_another():
    values = np.array([0.0, -0.0, np.nan, -np.nan, np.array(0x7FF8_0000_0000_BEEF, np.uint64).view(np.float64)])
    sketch = DistinctSketch()
    sketch.update(count_values(pa.array(values, from_pandas=False)).hashes)
    assert sketch.estimate == 2


def test_other_bytes_are_refused():
    data = sketch_of([1, 2]).to_bytes()
    for broken in (data[:-1], data[:-8], data + b"\0", data[:2] + b"\x03abc"):
        with pytest.raises(InputError, match="the state of a sketch is broken"):
            DistinctSketch.from_bytes(broken)
