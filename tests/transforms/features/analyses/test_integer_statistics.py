import itertools

import numpy as np
import pytest

from penstock.transforms.features.analyses.integer_statistics import MomentsCombiner, QuantilesCombiner, integer_sums

CASES = {
    "one": [7],
    "negative": [-5, 3, -(2**40)],
    "seconds": range(1_700_000_000, 1_700_000_160),
    "extremes": [2**63 - 1, -(2**63), -(2**63), 0, 2**63 - 1],
    "equal": [2**62 + 1] * 5,
}


@pytest.mark.parametrize("name", CASES)
def test_sums_are_those_of_python(name: str) -> None:
    values = list(CASES[name])
    sums = integer_sums(np.array(values, np.int64))
    assert sums == (len(values), min(values), max(values), sum(values), sum(value * value for value in values))
    assert sums.center == sum(values) // len(values)
    mean = sums.center + sums.rest
    assert sums.deviation == pytest.approx(np.sqrt(sum((value - mean) ** 2 for value in values) / len(values)))


def test_sums_of_many_values_do_not_overflow() -> None:
    values = np.full(600_000, -(2**63))
    sums = integer_sums(values)
    assert (sums.total, sums.squares) == (-(2**63) * 600_000, 2**126 * 600_000)
    assert (sums.center, sums.rest, sums.deviation) == (-(2**63), 0, 0)


def test_moments_follow_from_the_values_whatever_the_batches() -> None:
    values = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 1000, endpoint=True)
    keys = np.array([b"b", b"a", b"c"], object)
    indices = np.random.default_rng(4).integers(0, 3, 1000)

    def found(*cuts: int) -> list[list[object]]:
        combiner, ends = MomentsCombiner(), [0, *cuts, 1000]
        parts = [
            combiner.add_input(combiner.create_accumulator(), [keys, indices[start:end], values[start:end]])
            for start, end in itertools.pairwise(ends)
        ]
        return [item.tolist() for item in combiner.extract_output(combiner.merge_accumulators(reversed(parts)))]

    names, whole, parts = found()
    assert names == [b"a", b"b", b"c"]
    group = values[indices == 1].tolist()
    assert whole[0] == [min(group), max(group), sum(group) // len(group)]
    assert parts[0][1] == pytest.approx(np.std(values[indices == 1].astype(float)))
    assert found(1, 2, 500) == found(999) == [names, whole, parts]


def test_statistics_without_values_have_no_key() -> None:
    moments, quantiles = MomentsCombiner(), QuantilesCombiner(4)
    empty = moments.add_input(moments.create_accumulator(), [np.zeros(0, np.int64)])
    assert [item.shape for item in moments.extract_output(empty)] == [(0,), (0, 3), (0, 2)]
    assert [item.shape for item in quantiles.extract_output(quantiles.create_accumulator())] == [(0,), (0, 5)]


def test_quantiles_are_values_of_their_key() -> None:
    pytest.importorskip("tfx_bsl")
    combiner = QuantilesCombiner(4)
    keys, values = np.array([b"x", b"y"], object), np.arange(1_700_000_000, 1_700_000_200)
    parts = [combiner.add_input({}, [keys, values[rows] % 2, values[rows]]) for rows in (slice(90), slice(90, None))]
    names, edges = combiner.extract_output(combiner.merge_accumulators(parts))
    assert names.tolist() == [b"x", b"y"]
    assert np.abs(edges - [[0, 50, 100, 150, 198], [1, 51, 101, 151, 199]] - 1_700_000_000).max() <= 2


def test_the_greatest_integers_stay_integers() -> None:
    pytest.importorskip("tfx_bsl")
    combiner = QuantilesCombiner(2)
    _, edges = combiner.extract_output(combiner.add_input({}, [np.array([2**63 - 1, -(2**63)])]))
    assert edges[0, [0, -1]].tolist() == [-(2**63), 2**63 - 1024]
