"""What is fitted, against numpy and against tensorflow-transform's own mappers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("tensorflow_transform")
pytest.importorskip("tensorflow")

from fitted import fit_all, values

from penstock.transforms.features.apply import apply_graph, load_graph
from penstock.transforms.features.functions import parse_features

pytestmark = pytest.mark.slow  # a fit of tensorflow-transform takes ten seconds or more

SCHEMA = """
feature { name: "x" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "n" type: INT value_count { min: 1 max: 1 } }
feature { name: "text" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "empty" type: INT value_count { min: 1 max: 1 } }
feature { name: "day" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "pair" type: FLOAT value_count { min: 2 max: 2 } }
feature { name: "words" type: BYTES value_count { min: 0 } }
"""

ENTRIES = """
features:
  rank: {input: x, ops: [{quantile_rank: 4}]}
  clipped: {input: x, ops: [{clip_by_quantile: {lower: 0.1, upper: 0.9}}]}
  clipped_integers: {input: n, ops: [{clip_by_quantile: {lower: 0.25}}]}
  mean_integer: {input: n, ops: [impute_mean]}
  median: {input: x, ops: [impute_median]}
  median_integer: {input: n, ops: [impute_median]}
  frequent: {input: text, ops: [impute_most_frequent]}
  frequent_integer: {input: n, ops: [impute_most_frequent]}

  filled_and_scaled: {input: x, ops: [impute_mean, scale_to_0_1]}
  tfidf: {input: words, ops: [{index_in: [a, b, c]}, {tfidf: 3}]}
  tfidf_terms: {input: words, ops: [{index_in: [a, b, c]}, {tfidf_terms: 3}]}
  found: {input: text, ops: [{lookup: {map: {x: 1, "": 2}, default: 0}}]}
  hour_of_day: {input: day, ops: [{time_sin: hour}]}
  pair: {inputs: [pair, pair], ops: [add]}
  one: {input: n, default: 0, ops: [{floormod: 3}, {one_hot: 3}]}
  part: {input: text, ops: [{regex_extract: "[a-z]+"}]}

  filled: {input: empty, ops: [impute_mean]}
  filled_with_most: {input: empty, ops: [impute_most_frequent]}
  hour: {input: day, ops: [{time_part: hour}]}
"""

# Beyond what float32, and sums in int64, can hold.
BASE = 1_800_000_000_000_000_000
X = [float(value) if value is not None else None for value in (4, 1, None, 3, 2, 5, 8, 7, 6, 10, 9)]
N = [BASE + 1, BASE + 2, None, BASE + 7, BASE + 2, BASE + 5, BASE + 9, None, BASE + 7, BASE + 4, BASE + 7]
TEXT = ["x", "y\n", None, "y\n", "", "\t", "x", "", "", "y\n", None]
WORDS = [["a", "b", "a"], ["b"], None, ["c"], ["b", "c"], [], ["a"], ["b"], ["b"], ["b"], ["b"]]
DAY = ["2026-01-31T06:00", None, *["2026-01-31"] * 9]
PAIR = [[1.0, 2.0], None, *[[3.0, 4.0]] * 9]
BATCH = pa.record_batch(
    {
        "x": X,
        "n": pa.array(N, pa.int64()),
        "text": TEXT,
        "words": WORDS,
        "day": DAY,
        "pair": PAIR,
        # No row of the fit has a value, and without one no row could be computed.
        "empty": pa.array([3] * 11),
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("fitted") / "g"
    fitted = BATCH.set_column(BATCH.schema.names.index("empty"), "empty", pa.nulls(BATCH.num_rows, pa.int64()))
    fit_all({place: parse_features(ENTRIES)}, [fitted.slice(0, 4), fitted.slice(4)], SCHEMA)
    return place


@pytest.fixture(scope="module")
def got(folder: Path) -> dict[str, list[Any]]:
    return values(folder, BATCH)


def test_rank_is_linear_between_quantiles(got) -> None:
    x = np.array([value for value in X if value is not None])
    edges = np.quantile(x, [0, 0.25, 0.5, 0.75, 1], method="inverted_cdf")
    expected = [None if v is None else np.interp(v, edges, [0, 0.25, 0.5, 0.75, 1]) for v in X]
    assert got["rank"] == [None if value is None else pytest.approx(value, abs=0.1) for value in expected]
    assert (got["rank"][1], got["rank"][9]) == (0.0, 1.0)
    assert sorted(value for value in got["rank"] if value is not None) == [
        value for _, value in sorted((x, rank) for x, rank in zip(X, got["rank"], strict=True) if x is not None)
    ]


def test_values_beyond_the_quantiles_become_these(got) -> None:
    low, high = (v for v in (min(v for v in got["clipped"] if v), max(v for v in got["clipped"] if v)))
    assert (low, high) in {(1.0, 9.0), (2.0, 9.0), (1.0, 10.0), (2.0, 10.0)}
    assert got["clipped"] == [None if v is None else min(max(v, low), high) for v in X]
    assert got["clipped_integers"][2] is None


def test_mean(got) -> None:
    whole = [n for n in N if n is not None]
    assert got["mean_integer"] == [(2 * sum(whole) + len(whole)) // (2 * len(whole)) if n is None else n for n in N]


def test_median_is_a_value_that_is_there(got) -> None:
    (median,) = {got["median"][row] for row, value in enumerate(X) if value is None}
    assert median in (5.0, 6.0)
    assert got["median"] == [median if value is None else value for value in X]
    # float64 tells apart multiples of 256 only.
    assert [n for n in got["median_integer"] if n not in N] == [pytest.approx(BASE + 5, abs=256)] * 2


def test_most_frequent(got) -> None:
    assert got["frequent"] == [b"y\n" if text is None else text.encode() for text in TEXT]
    assert got["frequent_integer"] == [BASE + 7 if n is None else n for n in N]


def test_what_is_most_frequent_is_read_when_the_graph_is_loaded_and_not_with_each_batch(folder: Path) -> None:
    graph = load_graph(str(folder))._function.graph
    ops = {node.op for function in graph.as_graph_def().library.function for node in function.node_def}
    assert "LookupTableFindV2" in ops | {op.type for op in graph.get_operations()}
    assert "ReadFile" not in ops | {op.type for op in graph.get_operations()}


def test_what_is_filled_goes_into_the_next_fit(got) -> None:
    filled = np.array([5.5 if value is None else value for value in X])
    np.testing.assert_allclose(got["filled_and_scaled"], (filled - 1) / 9, rtol=1e-6)


def reference_tfidf(rows: list[Any], size: int) -> list[Any]:
    """Of rows of terms: the weights of the distinct terms of each row, in order; None for no terms."""
    found = [sum(term in (row or []) for row in rows) for term in range(size)]
    idf = [1 + math.log((len(rows) + 1) / (count + 1)) for count in found]
    return [[row.count(term) / len(row) * idf[term] for term in sorted(set(row))] if row else None for row in rows]


def test_tfidf(got) -> None:
    rows = [row and ["abc".index(word) for word in row] for row in WORDS]
    assert got["tfidf_terms"] == [sorted(set(row)) if row else None for row in rows]
    weights = reference_tfidf(rows, 3)
    assert got["tfidf"] == [row if row is None else pytest.approx(row, rel=1e-6) for row in weights]


def test_operations_that_are_not_fitted_are_the_same_in_a_saved_graph(got) -> None:
    assert got["found"] == [{"x": 1, "": 2, None: None}.get(text, 0) for text in TEXT]
    assert got["hour_of_day"] == [1.0, None, *[0.0] * 9]
    assert got["pair"] == [[2.0, 4.0], None, *[[6.0, 8.0]] * 9]
    assert got["one"] == [[float((n or 0) % 3 == place) for place in range(3)] for n in N]
    assert got["part"] == [b"x", b"y", None, b"y", None, None, b"x", None, None, b"y", None]


def test_no_value_depends_on_the_batch(folder: Path, got) -> None:
    for size in (1, 3):
        parts = [values(folder, BATCH.slice(at, size)) for at in range(0, BATCH.num_rows, size)]
        assert {name: [value for part in parts for value in part[name]] for name in got} == got


def test_rows_that_cannot_be_computed_are_rejected_with_the_reason(folder: Path) -> None:
    rows = pa.record_batch({"empty": pa.array([None, 3, 4]), "day": ["2026-02-28", "2026-02-28T07:00", "2026-02-29"]})
    features, reasons = apply_graph(load_graph(str(folder)), rows)
    computed = features.select(["filled", "filled_with_most", "hour"])
    assert computed.to_pydict() == {"filled": [3], "filled_with_most": [3], "hour": [7]}
    assert reasons.keys() == {0, 2}
    assert "no row of the fit has a value to fill in" in reasons[0].detail
    assert "a text is no time in ISO 8601" in reasons[2].detail
