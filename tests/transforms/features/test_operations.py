"""What the operations compute, against values worked out by hand; test_fit and test_apply have the fitted ones."""

from typing import Any

import numpy as np
import pytest
from operation_cases import CASES
from operation_columns import compute, rows_of, tensor

from penstock.io.schema import Feature, Kind
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY
from penstock.transforms.features.functions import parse_features
from penstock.transforms.features.graph import CALLS
from penstock.transforms.features.operations import OPERATIONS
from penstock.transforms.features.operations.fitted import FITTED

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_transform")


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
