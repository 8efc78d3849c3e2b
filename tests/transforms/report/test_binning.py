import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import fill_buckets
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.transforms.report.binning import Buckets, common_bins, quantiles


def buckets(edges, counts) -> Buckets | None:
    histogram = statistics_pb2.Histogram()
    fill_buckets(histogram, edges, counts)
    return Buckets.of(histogram)


@pytest.mark.parametrize(
    ("edges", "counts"),
    [
        pytest.param([], [], id="empty"),
        pytest.param([0, 1], [0], id="no mass"),
        pytest.param([float("nan")] * 2, [1], id="nan"),
        pytest.param([-np.inf, np.inf], [3], id="nothing finite"),
    ],
)
def test_a_histogram_without_a_place_is_none(edges, counts):
    assert buckets(edges, counts) is None
    assert common_bins([buckets(edges, counts)], 10) is None


def test_the_same_bins_come_back_as_they_are():
    counts = [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert common_bins([buckets(np.linspace(-1, 1, 11), counts)], 10).counts == [counts]


def test_datasets_of_different_ranges_share_their_bins():
    bins = common_bins([buckets([0, 10], [100]), None, buckets([5, 5], [7]), buckets([10, 20], [40])], 4)
    assert (bins.low, bins.high) == (0, 20)
    assert bins.counts == [[50, 50, 0, 0], None, [0, 7, 0, 0], [0, 0, 20, 20]]


def test_one_value_is_one_bin():
    assert common_bins([buckets([3, 3], [8])], 10) == (3, 3, [[8]])


def test_few_integers_have_a_bin_each():
    bins = common_bins([buckets([1, 1, 2, 3, 3], [4, 0, 0, 6])], 10, whole=True)
    assert (bins.low, bins.high, bins.counts) == (0.5, 3.5, [[4, 0, 6]])


def test_infinite_bounds_become_the_nearest_finite_ones():
    found = buckets([-np.inf, 0, 1, np.inf], [2, 3, 4])
    assert common_bins([found], 2).counts == [[3.5, 5.5]]


def test_the_greatest_range_of_doubles_has_bins():
    most = np.finfo(float).max
    assert common_bins([buckets([-most, 0, most], [1, 3])], 2).counts == [[1, 3]]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60), st.integers(1, 40))
def test_no_mass_is_lost(edges, bins):
    counts = np.arange(1, len(edges))
    found = common_bins([buckets(sorted(edges), counts)], bins)
    assert sum(found.counts[0]) == pytest.approx(counts.sum(), abs=0.05 * bins + 1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=100, max_size=300))
def test_quantiles_are_numpys_where_buckets_are_fine(values):
    edges = np.quantile(values, np.linspace(0, 1, 101))
    found = quantiles(buckets(edges, np.ones(100)), (0, 0.01, 0.5, 0.99, 1))
    assert found == pytest.approx(np.quantile(values, (0, 0.01, 0.5, 0.99, 1)).tolist(), rel=1e-9, abs=1e-6)
