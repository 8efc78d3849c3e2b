"""Large integers through what is fitted: against doubles, and against tensorflow-transform where float32 is enough."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fitted import fit_beside_tft, values

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.slow  # two fits with many statistics

FEATURES = """
features:
  z: {input: seconds, ops: [scale_to_z_score]}
  unit: {input: seconds, ops: [scale_to_0_1]}
  range: {input: seconds, ops: [{scale_by_min_max: {output_min: -1, output_max: 3}}]}
  gauss: {input: seconds, ops: [scale_to_gaussian]}
  bucket: {input: seconds, ops: [{bucketize: 4}]}
  z_key: {inputs: [seconds, key], default: [0, ""], ops: [scale_to_z_score_per_key]}
  unit_key: {inputs: [seconds, key], default: [0, ""], ops: [scale_to_0_1_per_key]}
  bucket_key: {inputs: [seconds, key], default: [0, ""], ops: [{bucketize_per_key: 4}]}
  fixed: {input: seconds, ops: [{apply_buckets: [1700000060, 1700000120.5, 1700004000]}]}
  between: {input: seconds, ops: [{apply_buckets_with_interpolation: [1700000000, 1700004800, 1700009600]}]}
  nanos: {ops: [scale_to_z_score]}
  wide: {ops: [scale_to_0_1]}
  list: {ops: [scale_to_z_score]}
  small_z: {input: small, ops: [scale_to_z_score]}
  small_range: {input: small, ops: [{scale_by_min_max: {output_min: -1, output_max: 3}}]}
  small_bucket: {input: small, ops: [{bucketize: 4}]}
  small_z_key: {inputs: [small, key], default: [0, ""], ops: [scale_to_z_score_per_key]}
  small_unit_key: {inputs: [small, key], default: [0, ""], ops: [scale_to_0_1_per_key]}
  small_bucket_key: {inputs: [small, key], default: [0, ""], ops: [{bucketize_per_key: 4}]}
"""
SCHEMA = """
feature { name: "seconds" type: INT value_count { min: 1 max: 1 } }
feature { name: "nanos" type: INT value_count { min: 1 max: 1 } }
feature { name: "wide" type: INT value_count { min: 1 max: 1 } }
feature { name: "small" type: INT value_count { min: 1 max: 1 } }
feature { name: "list" type: INT }
feature { name: "key" type: BYTES value_count { min: 1 max: 1 } }
"""
ROWS = 160
STEPS = 60 * np.arange(ROWS)
SECONDS = 1_700_000_000 + STEPS
ODD = np.arange(ROWS) % 2 == 1


def make_batch() -> pa.RecordBatch:
    small = np.random.default_rng(7).integers(-(2**24), 2**24, ROWS, endpoint=True)
    small[:2] = -(2**24), 2**24
    lists = [[1_700_000_000 + row] * (row % 3) for row in range(ROWS)]
    return pa.record_batch(
        {
            "seconds": SECONDS,
            "nanos": 1_700_000_000_000_000_000 + STEPS,
            "wide": np.where(ODD, 2**63 - 1 - STEPS, -(2**63) + STEPS),
            "small": small,
            "list": pa.array(lists, pa.list_(pa.int64())),
            "key": np.where(ODD, "a", "b"),
        }
    )


def by_tft(inputs: dict[str, Any]) -> dict[str, Any]:
    """The features of the small integers, as tensorflow-transform has them."""
    x, key = (tf.sparse.to_dense(inputs[name])[:, 0] for name in ("small", "key"))
    return {
        "small_z": tft.scale_to_z_score(x),
        "small_range": tft.scale_by_min_max(x, -1, 3),
        "small_bucket": tft.bucketize(x, 4),
        "small_z_key": tft.scale_to_z_score_per_key(x, key),
        "small_unit_key": tft.scale_to_0_1_per_key(x, key),
        "small_bucket_key": tft.bucketize_per_key(x, key, 4),
    }


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return fit_beside_tft(tmp_path_factory.mktemp("graphs"), FEATURES, by_tft, make_batch(), SCHEMA, at=50)


@pytest.fixture(scope="module")
def found(graphs: tuple[Path, Path]) -> dict[str, list[Any]]:
    return values(graphs[0], make_batch())


def z_scores(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean()) / x.std()).astype(np.float32)


def by_key(function: Any) -> np.ndarray:
    """What a function makes of the steps of each key, in the order of the rows."""
    result = np.zeros(ROWS, np.float32)
    for rows in (ODD, ~ODD):
        result[rows] = function(STEPS[rows].astype(float))
    return result


def units(x: np.ndarray) -> np.ndarray:
    return ((x - x.min()) / (x.max() - x.min())).astype(np.float32)


REFERENCE = {
    "z": z_scores(STEPS.astype(float)),
    "nanos": z_scores(STEPS.astype(float)),
    "unit": units(STEPS),
    "range": (STEPS / STEPS.max() * 4 - 1).astype(np.float32),
    "z_key": by_key(z_scores),
    "unit_key": by_key(units),
    "fixed": np.searchsorted([60, 120.5, 4000], STEPS, side="right"),
    "wide": np.where(ODD, 2.0**64 - 1 - STEPS, STEPS) / (2.0**64 - 1 - 60),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_large_integers_are_as_exact_as_the_result_can_be(found, name: str) -> None:
    np.testing.assert_array_max_ulp(np.array(found[name], np.float32), REFERENCE[name].astype(np.float32), 1)


def test_large_integers_fall_into_buckets_of_equal_size(found) -> None:
    assert np.bincount(found["bucket"]).tolist() == [40] * 4
    assert found["bucket"] == sorted(found["bucket"])
    assert [np.bincount(np.array(found["bucket_key"])[rows]).tolist() for rows in (ODD, ~ODD)] == [[20] * 4] * 2


def test_large_integers_are_interpolated_between_boundaries(found) -> None:
    np.testing.assert_allclose(found["between"], np.minimum(STEPS / 9600, 1), rtol=1e-6)


def test_a_gaussian_of_large_integers_is_that_of_their_distances(found) -> None:
    """These have no long tails, and then it is the z-score."""
    np.testing.assert_allclose(found["gauss"], REFERENCE["z"], rtol=1e-5)


def test_large_integers_in_lists_are_centred_one_by_one(found) -> None:
    flat = np.array([row for row in range(ROWS) for _ in range(row % 3)], float)
    got = [value for row in found["list"] for value in row or []]
    np.testing.assert_array_max_ulp(np.array(got, np.float32), z_scores(flat), 1)


def test_integers_within_float32_are_what_tensorflow_transform_makes_of_them(graphs, found) -> None:
    theirs = values(graphs[1], make_batch())
    assert theirs
    for name, wanted in theirs.items():
        assert found[name] == np.ravel(wanted).tolist(), name


def test_what_the_fit_did_not_see_is_as_in_tensorflow_transform(graphs) -> None:
    """A key without statistics gives the value itself, its sigmoid, and the bucket -1; other values go on beyond."""
    row = pa.record_batch({name: pa.array([value]) for name, value in UNSEEN.items()})
    got = {name: items[0] for name, items in values(graphs[0], row).items()}
    assert (got["z_key"], got["unit_key"]) == (np.float32(1_800_000_001), 1)
    assert (got["bucket"], got["unit"]) == (3, np.float32(100_000_001 / STEPS.max()))
    assert (got["small_z_key"], got["list"]) == (5, None)


UNSEEN = {"seconds": 1_800_000_001, "nanos": 0, "wide": 0, "small": 5, "list": None, "key": "c"}


def test_tensorflow_transform_serves_the_graph(graphs, found) -> None:
    output, batch = tft.TFTransformOutput(str(graphs[0])), make_batch()
    raw = {}
    for name in UNSEEN:
        rows = [row if isinstance(row, list) else [row] for row in batch.column(name)[1:3].to_pylist()]
        raw[name] = tf.ragged.constant(rows, tf.string if name == "key" else tf.int64).to_sparse()
    served = output.transform_features_layer()(raw)
    assert served["z"].values.numpy().tolist() == found["z"][1:3]
    assert served["z_key"].numpy().tolist() == found["z_key"][1:3]
