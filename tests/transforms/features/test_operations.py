"""What the operations compute, against values worked out by hand; test_fit and test_apply have the fitted ones."""

import math
from typing import Any

import numpy as np
import pytest

from penstock.io.schema import Feature, Kind
from penstock.transforms.features.functions import parse_features
from penstock.transforms.features.operations import OPERATIONS

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_transform")

COLUMNS: dict[str, tuple[Feature, list[Any]]] = {
    "n": (Feature("n", Kind.INT, multivalued=False), [7, None, -7, 0]),
    "m": (Feature("m", Kind.INT, multivalued=False), [2, 2, None, 3]),
    "x": (Feature("x", Kind.FLOAT, multivalued=False), [0.25, None, -1.5, 4.0]),
    "all": (Feature("all", Kind.INT, multivalued=False, required=True, complete=True), [2**63 - 1, -(2**63), 1, 0]),
    "text": (Feature("text", Kind.BYTES, multivalued=False), ["  Äb c", None, "", "x"]),
    "number": (Feature("number", Kind.BYTES, multivalued=False), ["7", None, "-1", "0"]),
    "words": (Feature("words", Kind.BYTES, multivalued=True), [["a", "b", "a"], [], None, ["Ü"]]),
    "list": (Feature("list", Kind.INT, multivalued=True), [[1, -2], None, [3], []]),
}

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


def tensor(feature: Feature, rows: list[Any]) -> Any:
    lists = [row if isinstance(row, list) else [] if row is None else [row] for row in rows]
    dtype = {Kind.INT: tf.int64, Kind.FLOAT: tf.float32, Kind.BYTES: tf.string}[feature.kind]
    if feature.complete and not feature.multivalued:
        return tf.constant([values[0] for values in lists], dtype)
    return tf.RaggedTensor.from_row_lengths(
        tf.constant([value for values in lists for value in values], dtype), [len(values) for values in lists]
    ).to_sparse()


def rows_of(result: Any, single: bool) -> list[Any]:
    if not isinstance(result, tf.SparseTensor):
        return [plain(value) for value in result.numpy()]
    rows: list[list[Any]] = [[] for _ in range(int(result.dense_shape[0]))]
    for (row, _), value in zip(result.indices.numpy(), result.values.numpy(), strict=True):
        rows[row].append(plain(value))
    return [None if not row else row[0] if single else row for row in rows]


def plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item()


def compute(entry: str, rows: slice = slice(None)) -> tuple[Any, bool]:
    preprocessing = parse_features(f"features: {{y: {entry}}}").bind([feature for feature, _ in COLUMNS.values()])
    inputs = {item.name: tensor(COLUMNS[item.name][0], COLUMNS[item.name][1][rows]) for item in preprocessing.inputs}
    return preprocessing(inputs)["y"], "y" in preprocessing.single


@pytest.mark.parametrize(("entry", "expected"), CASES.values(), ids=CASES.keys())
def test_operation(entry: str, expected: list[Any]) -> None:
    result, single = compute(entry)
    got = rows_of(result, single)
    if any(isinstance(value, float) for value in expected):
        assert result.dtype == tf.float32
        filled, wanted = ([math.nan if value is None else value for value in row] for row in (got, expected))
        np.testing.assert_allclose(filled, wanted, rtol=1e-6)
    else:
        assert got == expected
        assert result.dtype in (tf.int64, tf.string)


@pytest.mark.parametrize("entry", [entry for entry, _ in CASES.values()], ids=CASES.keys())
def test_operation_on_a_batch_where_all_is_missing(entry: str) -> None:
    """Row 1 alone: a sparse tensor of width 0."""
    (whole, single), (alone, _) = compute(entry), compute(entry, slice(1, 2))
    assert rows_of(alone, single) == rows_of(whole, single)[1:2]


def test_every_operation_that_is_not_fitted_has_a_case() -> None:
    fitted = {name for name in OPERATIONS if name.startswith(("scale", "bucketize", "compute_and_apply"))}
    untested = {name for name in OPERATIONS if not any(name in entry for entry, _ in CASES.values())}
    assert untested - {"hash_strings"} == fitted


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
