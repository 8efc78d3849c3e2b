import report_samples as samples

from penstock.transforms.report.features import datasets_of
from penstock.transforms.report.relations import MAX_HEATED, correlation_changes, heat_map, missing_together


def datasets(columns):
    return datasets_of(samples.statistics_of(columns), None)


def test_no_correlation_is_no_heat_map():
    assert heat_map(datasets({"a": ["x"], "b": ["y"]})) is None
    assert heat_map([]) is None


def test_a_heat_map_has_each_pair_once_below_the_diagonal():
    columns = {"a": [1, 2, 3, 4], "b": [2, 4, 6, 8], "c": [4, 3, 2, 1.5]}
    found = heat_map(datasets(columns))
    assert found.names == ["a", "b", "c"]
    assert [(row, column) for row, column, _ in found.cells] == [(1, 0), (2, 0), (2, 1)]
    assert found.pairs[0].paths == ("b", "a")
    assert found.pairs[0].value == 1
    assert all(row > column for row, column, _ in found.cells)


def test_undefined_correlations_are_left_out():
    statistics = samples.statistics_of({"a": [1, 2], "b": [2, 1]})
    cross = statistics.datasets[0].cross_features.add()
    cross.path_x.step.append("a")
    cross.path_y.step.append("c")
    cross.num_cross_stats.correlation = float("nan")
    assert heat_map(datasets_of(statistics, None)).names == ["a", "b"]


def test_of_many_features_those_with_the_strongest_correlations_are_shown():
    columns = {f"c{index:02d}": [float((7 * index * row) % 11) for row in range(20)] for index in range(1, 50)}
    found = heat_map(datasets(columns))
    assert len(found.names) == MAX_HEATED
    assert found.features > MAX_HEATED
    strengths = [abs(pair.value) for pair in found.pairs]
    assert strengths == sorted(strengths, reverse=True)


def test_features_that_are_always_missing_together_come_first():
    columns = {"a": [None, None, 1, 1], "b": [None, None, 1, 1], "c": [None, 1, None, 1], "d": [1, 2, 3, 4]}
    found = missing_together(datasets(columns)[0])
    assert [(one.pair.paths, one.pair.value, one.either) for one in found] == [
        (("a", "b"), 2, 2),
        (("a", "c"), 1, 3),
        (("b", "c"), 1, 3),
    ]


def test_correlations_that_differ_most_from_the_baseline_come_first():
    now = samples.statistics_of({"a": [1, 2, 3, 4], "b": [4, 3, 2, 1], "c": [1, 2, 3, 5]})
    before = samples.statistics_of({"a": [1, 2, 3, 4], "b": [1, 2, 3, 4], "c": [1, 2, 3, 5]})
    found = correlation_changes(datasets_of(now, before))
    assert (found[0].pair.paths, found[0].before, found[0].now, found[0].pair.value) == (("b", "a"), 1, -1, -2)
    assert {one.pair.paths for one in found} == {("b", "a"), ("c", "b")}  # that of a and c is the same
    assert correlation_changes(datasets_of(now, None)) == []
