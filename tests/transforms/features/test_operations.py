"""What the operations compute, against values worked out by hand; test_fit and test_apply have the fitted ones."""

import math
from typing import Any

import numpy as np
import pytest
from operation_columns import compute, rows_of, tensor

from penstock.io.schema import Feature, Kind
from penstock.transforms.features.functions import parse_features
from penstock.transforms.features.graph import CALLS
from penstock.transforms.features.operations import OPERATIONS
from penstock.transforms.features.operations.fitted import FITTED
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_transform")

CASES: dict[str, tuple[str, list[Any]]] = {
    "identity": ("{input: n}", [7, None, -7, 0]),
    "identity_list": ("{input: list}", [[1, -2], None, [3], None]),
    "identity_extremes": ("{input: all}", [2**63 - 1, -(2**63), 1, 0]),
    "default": ("{input: n, default: 5}", [7, 5, -7, 0]),
    "default_text": ("{input: text, default: ''}", ["  Äb c", "", "", "x"]),
    "default_list": ("{input: list, default: 9}", [[1, -2], [9], [3], [9]]),
    "default_unused": ("{input: all, default: 9}", [2**63 - 1, -(2**63), 1, 0]),
    "abs": ("{input: n, ops: [abs]}", [7, None, 7, 0]),
    "abs_list": ("{input: list, ops: [abs]}", [[1, 2], None, [3], None]),
    "negative": ("{input: x, ops: [negative]}", [-0.25, None, 1.5, -4.0]),
    "round": ("{input: x, ops: [round]}", [0.0, None, -2.0, 4.0]),
    "log": ("{input: m, ops: [log]}", [math.log(2), math.log(2), None, math.log(3)]),
    "log1p": ("{input: x, ops: [abs, log1p]}", [math.log1p(0.25), None, math.log1p(1.5), math.log1p(4)]),
    "exp": ("{input: x, ops: [exp]}", [math.exp(0.25), None, math.exp(-1.5), math.exp(4)]),
    "sqrt": ("{input: x, ops: [abs, sqrt]}", [0.5, None, math.sqrt(1.5), 2.0]),
    "add": ("{input: n, ops: [{add: 3}]}", [10, None, -4, 3]),
    "add_extreme": (
        "{input: n, ops: [{multiply: 0}, {add: 9223372036854775807}]}",
        [2**63 - 1, None, 2**63 - 1, 2**63 - 1],
    ),
    "add_columns": ("{inputs: [n, m], ops: [add]}", [9, None, None, 3]),
    "add_with_default": ("{inputs: [n, m], default: [1, null], ops: [add]}", [9, 3, None, 3]),
    "add_dense": ("{inputs: [all, n], ops: [add]}", [-(2**63) + 6, None, -6, 0]),
    "subtract": ("{inputs: [n, m], ops: [subtract]}", [5, None, None, -3]),
    "multiply": ("{input: x, ops: [{multiply: 2}]}", [0.5, None, -3.0, 8.0]),
    "divide_integers": ("{inputs: [n, m], ops: [divide]}", [3.5, None, None, 0.0]),
    "divide": ("{input: n, ops: [{divide: 2}]}", [3.5, None, -3.5, 0.0]),
    "floordiv": ("{input: n, ops: [{floordiv: 2}]}", [3, None, -4, 0]),
    "floormod": ("{input: n, ops: [{floormod: 5}]}", [2, None, 3, 0]),
    "maximum": ("{inputs: [n, m], ops: [maximum]}", [7, None, None, 3]),
    "minimum": ("{input: x, ops: [{minimum: 1}]}", [0.25, None, -1.5, 1.0]),
    "clip_by_value": ("{input: n, ops: [{clip_by_value: {min: -1, max: 5}}]}", [5, None, -1, 0]),
    "clip_below": ("{input: n, ops: [{clip_by_value: {min: -1}}]}", [7, None, -1, 0]),
    "cast_int": ("{input: x, ops: [{cast: int}]}", [0, None, -1, 4]),
    "cast_float": ("{input: n, ops: [{cast: float}]}", [7.0, None, -7.0, 0.0]),
    "equal": ("{input: text, ops: [{equal: x}]}", [0, None, 0, 1]),
    "equal_columns": ("{inputs: [n, all], ops: [equal]}", [0, None, 0, 1]),
    "not_equal": ("{input: n, ops: [{not_equal: 0}]}", [1, None, 1, 0]),
    "less": ("{input: x, ops: [{less: 0.25}]}", [0, None, 1, 0]),
    "less_equal": ("{input: x, ops: [{less_equal: 0.25}]}", [1, None, 1, 0]),
    "greater": ("{inputs: [n, m], ops: [greater]}", [1, None, None, 0]),
    "greater_equal": ("{input: list, ops: [{greater_equal: 1}]}", [[1, 0], None, [1], None]),
    "lower": ("{input: text, ops: [lower]}", ["  äb c", None, "", "x"]),
    "upper": ("{input: words, ops: [upper]}", [["A", "B", "A"], None, None, ["Ü"]]),
    "strip": ("{input: text, ops: [strip]}", ["Äb c", None, "", "x"]),
    "length": ("{input: text, ops: [length]}", [6, None, 0, 1]),
    "as_string": ("{input: all, ops: [as_string]}", [str(2**63 - 1), str(-(2**63)), "1", "0"]),
    "to_number_int": ("{input: number, ops: [{to_number: int}]}", [7, None, -1, 0]),
    "to_number_float": ("{input: number, ops: [{to_number: float}]}", [7.0, None, -1.0, 0.0]),
    "regex_replace": (
        "{input: text, ops: [{regex_replace: {pattern: '^ +(.*) ', rewrite: '\\1-'}}]}",
        ["Äb-c", None, "", "x"],
    ),
    "join": ("{inputs: [text, number, text], ops: [{join: '|'}]}", ["  Äb c|7|  Äb c", None, "|-1|", "x|0|x"]),
    "join_without": ("{inputs: [text, number], default: ['?', '!'], ops: [join]}", ["  Äb c7", "?!", "-1", "x0"]),
    "split": ("{input: text, ops: [split]}", [["Äb", "c"], None, None, ["x"]]),
    "split_at": ("{input: text, ops: [{split: b}]}", [["  Ä", " c"], None, [""], ["x"]]),
    "split_dense": ("{input: text, default: 'p q', ops: [split]}", [["Äb", "c"], ["p", "q"], None, ["x"]]),
    "split_and_on": ("{input: text, ops: [split, upper]}", [["ÄB", "C"], None, None, ["X"]]),
    "is_missing": ("{input: n, ops: [is_missing]}", [0, 1, 0, 0]),
    "is_missing_list": ("{input: words, ops: [is_missing]}", [0, 1, 1, 0]),
    "is_missing_never": ("{input: all, ops: [is_missing]}", [0, 0, 0, 0]),
    "sign": ("{input: n, ops: [sign]}", [1, None, -1, 0]),
    "floor": ("{input: x, ops: [floor]}", [0.0, None, -2.0, 4.0]),
    "ceil": ("{input: x, ops: [ceil]}", [1.0, None, -1.0, 4.0]),
    "trunc": ("{input: x, ops: [trunc]}", [0.0, None, -1.0, 4.0]),
    "square": ("{input: n, ops: [square]}", [49, None, 49, 0]),
    "square_float": ("{input: x, ops: [square]}", [0.0625, None, 2.25, 16.0]),
    "pow": ("{input: x, ops: [abs, {pow: 0.5}]}", [0.5, None, math.sqrt(1.5), 2.0]),
    "pow_integer": ("{input: n, ops: [{pow: 2}]}", [49.0, None, 49.0, 0.0]),
    "logical_and": ("{inputs: [n, m], ops: [logical_and]}", [1, None, None, 0]),
    "logical_or": ("{inputs: [n, all, n], ops: [logical_or]}", [1, None, 1, 0]),
    "logical_not": ("{input: n, ops: [logical_not]}", [0, None, 0, 1]),
    "add_lists": ("{inputs: [pair, pair], ops: [add]}", [[2, 4], None, [-6, 8], [0, 0]]),
    "subtract_lists": ("{inputs: [pair, sure_pair], ops: [subtract]}", [[-9, -18], None, [-33, -36], [-50, -60]]),
    "compare_lists": ("{inputs: [sure_pair, pair], ops: [greater]}", [[1, 1], None, [1, 1], [1, 1]]),
    "list_with_one_value": ("{inputs: [pair, n], ops: [multiply]}", [[7, 14], None, [21, -28], [0, 0]]),
    "one_value_with_list": ("{inputs: [n, pair], ops: [subtract]}", [[6, 5], None, [-4, -11], [0, 0]]),
    "list_with_dense_value": ("{inputs: [pair, all], ops: [maximum]}", [[2**63 - 1] * 2, None, [1, 4], [0, 0]]),
    "list_and_on": ("{inputs: [pair, pair], ops: [multiply, {add: 1}, list_sum]}", [7, None, 27, 2]),
    "join_lists": ("{inputs: [names, names], ops: [{join: +}]}", [["a+a", "b+b"], None, ["c+c", "d+d"], None]),
    "substr": ("{input: text, ops: [{substr: {start: 2, length: 2}}]}", ["Äb", None, "", ""]),
    "substr_from_the_end": ("{input: text, ops: [{substr: {start: -3, length: 2}}]}", ["b ", None, "", "x"]),
    "substr_beyond": ("{input: text, ops: [{substr: {start: 9223372036854775807}}]}", ["", None, "", ""]),
    "substr_all": ("{input: text, ops: [{substr: {start: -9223372036854775808}}]}", ["  Äb c", None, "", "x"]),
    "substr_of_list": ("{input: words, ops: [{substr: {length: 0}}]}", [["", "", ""], None, None, [""]]),
    "regex_full_match": ("{input: text, ops: [{regex_full_match: '[a-z]*'}]}", [0, None, 1, 1]),
    "regex_extract": ("{input: text, ops: [{regex_extract: '[^ ]+'}]}", ["Äb", None, None, "x"]),
    "regex_extract_group": (
        "{input: text, ops: [{regex_extract: {pattern: '(.)( c)?$', group: 2}}]}",
        [" c", None, None, ""],
    ),
    "regex_extract_of_list": ("{input: words, ops: [{regex_extract: '(?i)[B-Z]'}]}", [["b"], None, None, None]),
    "regex_extract_dense": ("{input: text, default: 'q', ops: [{regex_extract: '[a-z]'}]}", ["b", "q", None, "x"]),
    "coalesce": ("{inputs: [m, n], ops: [coalesce]}", [2, 2, -7, 3]),
    "coalesce_missing": ("{inputs: [n, n], ops: [coalesce, {add: 1}]}", [8, None, -6, 1]),
    "coalesce_dense": ("{inputs: [n, all], ops: [coalesce]}", [7, -(2**63), -7, 0]),
    "where": ("{inputs: [n, m, all], ops: [where]}", [2, None, None, 0]),
    "where_chosen_is_there": ("{inputs: [all, all, n], ops: [where]}", [2**63 - 1, -(2**63), 1, 0]),
    "where_constants": (
        "{input: n, ops: [{greater: 0}, {where: {then: 'up', else: 'down'}}]}",
        ["up", None, "down", "down"],
    ),
    "where_numbers": ("{input: n, ops: [{where: {then: 1, else: 0.5}}]}", [1.0, None, 1.0, 0.5]),
    "where_else": ("{inputs: [n, text], ops: [{where: {else: '-'}}]}", ["  Äb c", None, "", "-"]),
    "where_then": ("{inputs: [all, x], ops: [{where: {then: 9}}]}", [9.0, 9.0, 9.0, 4.0]),
    "is_in": ("{input: n, ops: [{is_in: [7, 0]}]}", [1, None, 0, 1]),
    "is_in_texts": ("{input: words, ops: [{is_in: ['a', 'Ü']}]}", [[1, 0, 1], None, None, [1]]),
    "index_in": ("{input: text, ops: [{index_in: ['', 'x']}]}", [-1, None, 0, 1]),
    "lookup": ("{input: number, ops: [{lookup: {map: {'7': 'seven', '0': ''}}}]}", ["seven", None, None, ""]),
    "lookup_default": ("{input: n, ops: [{lookup: {map: {7: 1, 0: 2}, default: -1}}]}", [1, None, -1, 2]),
    "lookup_numbers": ("{input: n, ops: [{lookup: {map: {7: 1, -7: 0.5}, default: 0.25}}]}", [1.0, None, 0.5, 0.25]),
    "lookup_list": ("{input: words, ops: [{lookup: {map: {b: 2, Ü: 3}}}]}", [[2], None, None, [3]]),
    "lookup_dense": ("{input: all, ops: [{lookup: {map: {0: 5, -9223372036854775808: 6}}}]}", [None, 6, None, 5]),
    "one_hot": ("{input: m, ops: [{one_hot: 3}]}", [[0, 0, 1.0], [0, 0, 1.0], None, [0, 0, 0.0]]),
    "one_hot_dense": ("{input: n, default: 1, ops: [abs, {one_hot: 2}]}", [[0, 0.0], [0, 1.0], [0, 0.0], [1.0, 0]]),
    "one_hot_of_list": ("{input: list, ops: [{one_hot: 4}]}", [[0, 1.0, 0, 0], None, [0, 0, 0, 1.0], None]),
    "one_hot_of_filled_list": (
        "{input: list, default: 0, ops: [{one_hot: 2}]}",
        [[0, 1.0], [1.0, 0], [0, 0.0], [1.0, 0]],
    ),
    "count_hot": (
        "{input: words, default: '', ops: [{index_in: [a, b]}, {count_hot: 2}]}",
        [[2, 1], [0, 0], [0, 0], [0, 0]],
    ),
    "count_hot_and_on": ("{input: words, ops: [{index_in: [a, b]}, {count_hot: 2}, list_max]}", [2, None, None, 0]),
    "vectors": ("{input: n, default: 0, ops: [{one_hot: 2}, {multiply: 2}, list_sum]}", [0.0, 2.0, 0.0, 2.0]),
    "list_min": ("{input: list, ops: [list_min]}", [-2, None, 3, None]),
    "list_max": ("{input: list, ops: [list_max]}", [1, None, 3, None]),
    "list_sum": ("{input: list, default: 4, ops: [list_sum]}", [-1, 4, 3, 4]),
    "list_mean": ("{input: list, ops: [list_mean]}", [-0.5, None, 3.0, None]),
    "list_count": ("{input: words, ops: [list_count]}", [3, 0, 0, 1]),
    "parse_time": ("{input: time, ops: [{parse_time: ms}]}", [1330527599250, None, -1000, 253402300799999]),
    "parse_days": ("{input: time, ops: [{parse_time: d}]}", [15399, None, -1, 2932896]),
    "time_part": ("{input: time, ops: [{time_part: hour}]}", [14, None, 23, 23]),
    "time_sin": (
        "{input: n, ops: [{time_sin: {part: weekday, unit: d}}]}",
        [math.sin(6 * math.pi / 7), None, math.sin(6 * math.pi / 7), math.sin(6 * math.pi / 7)],
    ),
    "time_cos": ("{input: n, ops: [{time_cos: {part: hour, unit: s}}]}", [1.0, None, math.cos(math.pi / 12), 1.0]),
    "days_since": ("{input: n, ops: [{days_since: {time: 1970-01-02T12:00, unit: d}}]}", [5.5, None, -8.5, -1.5]),
    "days_between": ("{inputs: [n, m], ops: [{days_since: {unit: d}}]}", [5.0, None, None, -3.0]),
    "apply_buckets": ("{input: n, ops: [{apply_buckets: [-7, 0.5]}]}", [2, None, 1, 1]),
    "apply_buckets_with_interpolation": (
        "{input: x, ops: [{apply_buckets_with_interpolation: [0, 1, 2]}]}",
        [0.125, None, 0.0, 1.0],
    ),
    "ngrams": (
        "{input: words, ops: [{ngrams: {ngram_range: [1, 2], separator: _}}]}",
        [["a", "a_b", "b", "b_a", "a"], None, None, ["Ü"]],
    ),
    "bag_of_words": ("{input: words, ops: [{bag_of_words: [1, 1]}]}", [["a", "b"], None, None, ["Ü"]]),
}


@pytest.mark.parametrize(("entry", "expected"), CASES.values(), ids=CASES.keys())
def test_operation(entry: str, expected: list[Any]) -> None:
    result, single = compute(entry)
    got = rows_of(result, single)
    flat = [value for row in expected for value in (row if isinstance(row, list) else [row])]
    if any(isinstance(value, float) for value in flat):
        assert result.dtype == tf.float32
        assert got == [row if row is None else pytest.approx(row, rel=1e-6, abs=1e-7) for row in expected]
    else:
        assert got == expected
        assert result.dtype in (tf.int64, tf.string)


@pytest.mark.parametrize("entry", [entry for entry, _ in CASES.values()], ids=CASES.keys())
def test_operation_on_a_batch_where_all_is_missing(entry: str) -> None:
    """Row 1 alone: a sparse tensor of width 0."""
    (whole, single), (alone, _) = compute(entry), compute(entry, slice(1, 2))
    assert rows_of(alone, single) == rows_of(whole, single)[1:2]


def test_every_operation_that_is_not_fitted_has_a_case() -> None:
    fitted = {operation.name for operation in FITTED}
    untested = {name for name in OPERATIONS if not any(name in entry for entry, _ in CASES.values())}
    assert untested - {"hash_strings"} == fitted


def test_every_operation_has_its_function_and_no_other() -> None:
    assert CALLS.keys() == OPERATIONS.keys() - {VOCABULARY}


def test_hash_strings_is_tensorflows() -> None:
    result, _ = compute("{input: words, ops: [{hash_strings: 11}]}")
    expected = tf.strings.to_hash_bucket_fast(["a", "b", "a", "Ü"], 11).numpy().tolist()
    assert rows_of(result, single=False) == [expected[:3], None, None, expected[3:]]


@pytest.mark.parametrize("name", ["log", "log1p", "exp", "sqrt"])
def test_curves_are_the_same_to_the_last_bit_for_any_number_of_values(name: str) -> None:
    """Also without the padding of `ApplyTransform`, such as in a server that gets row by row."""
    feature = Feature("n", Kind.FLOAT, multivalued=False, required=True, complete=True)
    preprocessing = parse_features(f"features: {{y: {{input: n, ops: [{name}]}}}}").bind([feature])
    rows = np.random.default_rng(2).random(500).astype(np.float32) * 9
    whole = preprocessing({"n": tf.constant(rows)})["y"].numpy()
    for size in (1, 3, 17, 65):
        parts = [preprocessing({"n": tf.constant(rows[at : at + size])})["y"].numpy() for at in range(0, 500, size)]
        np.testing.assert_array_equal(np.concatenate(parts).view(np.int32), whole.view(np.int32))


def test_joining_a_row_of_two_values_fails_the_graph() -> None:
    feature = Feature("n", Kind.INT, multivalued=False)
    preprocessing = parse_features("features: {y: {input: n, default: 0}}").bind([feature])
    with pytest.raises(tf.errors.InvalidArgumentError):
        preprocessing({"n": tensor(feature, [1, [2, 3]])})
