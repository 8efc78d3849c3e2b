"""The SavedModel of features that Arrow fitted: it gives what Arrow gives, and is what tensorflow-transform loads."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fitted import exporting_here
from helpers import local_pipeline
from hostile_rows import hostile_batch, hostile_rows
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError, RunnerError, StorageError
from penstock.io.files.extras import TFT
from penstock.io.schema import Kind
from penstock.transforms.features.apply import apply_graph, load_graph, transform_fingerprint, transformed_schema
from penstock.transforms.features.arrow.calls import CALLS as COMPUTED
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY
from penstock.transforms.features.exported import export
from penstock.transforms.features.exported.export import check_exported, export_saved_model
from penstock.transforms.features.fit import FitTransform
from penstock.transforms.features.functions import parse_features
from penstock.transforms.features.operations import OPERATIONS
from penstock.transforms.features.saved_graph import SavedGraph

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.slow  # the process imports TensorFlow

_TINY, _SMALL = np.float32(1.17549435e-38), np.float32(4e-38)

# The columns with a value in each row.
ALWAYS = ("sure", "modest", "key", "same")

_UNARY = ("abs", "negative", "sign", "round", "floor", "ceil", "trunc", "square")
_BINARY = ("add", "subtract", "multiply", "divide", "floormod", "maximum", "minimum")
_COMPARED = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_PARTS = ("year", "quarter", "month", "week", "day", "weekday", "day_of_year", "hour", "minute", "second")

# An entry, and by how many units in the last place a FLOAT may differ; below 1, by how much of 1 or of the value.
CASES: dict[str, tuple[str, float]] = {
    "z": ("{input: near, ops: [scale_to_z_score]}", 0),
    "z_hostile": ("{input: x, ops: [scale_to_z_score]}", 0),
    "z_small": ("{input: small, ops: [scale_to_z_score]}", 0),
    "z_wide": ("{input: wide, ops: [scale_to_z_score]}", 0),
    "z_pair": ("{input: pair, ops: [abs, {minimum: 9}, scale_to_z_score]}", 0),
    "z_chain": ("{input: near, ops: [abs, log1p, scale_to_z_score, scale_to_0_1]}", 1e-6),
    "z_hot": ("{input: small, default: 0, ops: [{one_hot: 3}, scale_to_z_score]}", 0),
    "share": ("{input: near, ops: [scale_to_0_1]}", 0),
    "share_hostile": ("{input: x, ops: [scale_to_0_1]}", 0),
    "share_small": ("{input: small, ops: [{scale_by_min_max: {output_min: -1, output_max: 3}}]}", 0),
    "share_wide": ("{input: wide, ops: [{scale_by_min_max: {output_min: 0.5}}]}", 0),
    "share_same": ("{input: same, ops: [scale_to_0_1]}", 1),
    "z_key": ("{inputs: [sure, key], ops: [scale_to_z_score_per_key]}", 0),
    "z_key_small": ("{inputs: [small, key], default: [0, ''], ops: [scale_to_z_score_per_key]}", 0),
    "z_key_float": ("{inputs: [near, key], default: [0, ''], ops: [scale_to_z_score_per_key]}", 0),
    "share_key": ("{inputs: [sure, key], ops: [scale_to_0_1_per_key]}", 0),
    "share_key_float": (
        "{inputs: [x, key], default: [0, ''], ops: [{scale_by_min_max_per_key: {output_max: 7}}]}",
        0,
    ),
    "bucket": ("{input: x, ops: [{bucketize: 10}]}", 0),
    "bucket_int": ("{input: wide, ops: [{bucketize: 10}]}", 0),
    "bucket_list": ("{input: list, ops: [{bucketize: 4}]}", 0),
    "bucket_one": ("{input: x, ops: [{bucketize: 1}]}", 0),
    "bucket_key": ("{inputs: [x, key], default: [0, ''], ops: [{bucketize_per_key: 5}]}", 0),
    "bucket_key_one": ("{inputs: [sure, key], ops: [{bucketize_per_key: 1}]}", 0),
    "gaussian": ("{input: near, ops: [scale_to_gaussian]}", 2e-6),
    "tfidf": ("{input: list, ops: [{tfidf: 50}]}", 1),
    "tfidf_terms": ("{input: list, ops: [{tfidf_terms: 50}]}", 0),
    "rank": ("{input: x, ops: [quantile_rank]}", 1),
    "rank_int": ("{input: wide, ops: [{quantile_rank: 7}]}", 1),
    "clip": ("{input: x, ops: [{clip_by_quantile: {lower: 0.01, upper: 0.99}}]}", 0),
    "clip_int": ("{input: wide, ops: [{clip_by_quantile: {upper: 0.9}}]}", 0),
    "mean": ("{input: near, ops: [impute_mean]}", 0),
    "mean_int": ("{input: wide, ops: [impute_mean]}", 0),
    "mean_sure": ("{input: sure, ops: [impute_mean]}", 0),
    "median": ("{input: near, ops: [impute_median]}", 0),
    "most": ("{input: text, ops: [impute_most_frequent]}", 0),
    "most_int": ("{input: wide, ops: [impute_most_frequent]}", 0),
    "terms": ("{input: text, ops: [compute_and_apply_vocabulary]}", 0),
    "terms_top": ("{input: text, ops: [{compute_and_apply_vocabulary: {top_k: 20, num_oov_buckets: 7}}]}", 0),
    "terms.named": ("{input: words, ops: [{compute_and_apply_vocabulary: {default_value: -5, top_k: 50}}]}", 0),
    "terms_int": ("{input: wide, ops: [{compute_and_apply_vocabulary: {top_k: 30, num_oov_buckets: 3}}]}", 0),
    "terms_records": ("{input: text, ops: [{compute_and_apply_vocabulary: {file_format: tfrecord_gzip}}]}", 0),
    "terms never": ("{input: never, ops: [compute_and_apply_vocabulary]}", 0),
    "terms_hot": ("{input: text, default: '', ops: [{compute_and_apply_vocabulary: 5}, {one_hot: 5}]}", 0),
    "as_it_is": ("{input: wide}", 0),
    **{name: (f"{{input: x, ops: [{name}]}}", 0) for name in _UNARY},
    **{name: (f"{{input: x, ops: [abs, {name}]}}", 4) for name in ("log", "log1p", "sqrt")},
    "exp": ("{input: x, ops: [exp]}", 4),
    "pow": ("{input: near, ops: [abs, {pow: 1.7}]}", 4),
    **{name: (f"{{inputs: [x, y], ops: [{name}]}}", 0) for name in _BINARY},
    **{f"{name}_int": (f"{{inputs: [small, modest], ops: [{name}]}}", 0) for name in _BINARY if name != "floormod"},
    "floormod_int": ("{input: wide, ops: [{floormod: -7}]}", 0),
    "floordiv": ("{input: wide, ops: [{floordiv: -3}]}", 0),
    "divide_value": ("{input: x, ops: [{divide: 3}]}", 1),
    "add_to_list": ("{inputs: [pair, y], ops: [add]}", 0),
    "clip_by_value": ("{input: x, ops: [{clip_by_value: {min: -0.5, max: 2}}]}", 0),
    "cast": ("{input: near, ops: [{cast: int}]}", 0),
    "cast_float": ("{input: wide, ops: [{cast: float}]}", 0),
    "buckets": ("{input: x, ops: [{apply_buckets: [-1.5, 0, 0.1, 2.5]}]}", 0),
    "interpolated": ("{input: x, ops: [{apply_buckets_with_interpolation: [-1.5, 0, 0.1, 2.5]}]}", 2),
    **{name: (f"{{inputs: [x, y], ops: [{name}]}}", 0) for name in _COMPARED},
    "and": ("{inputs: [wide, sure], ops: [logical_and]}", 0),
    "or": ("{inputs: [wide, sure], ops: [logical_or]}", 0),
    "not": ("{input: list, ops: [logical_not]}", 0),
    **{name: (f"{{input: text, ops: [{name}]}}", 0) for name in ("lower", "upper", "strip", "length", "split")},
    "substr": ("{input: text, ops: [{substr: {start: -3, length: 2}}]}", 0),
    "as_string": ("{input: wide, ops: [as_string]}", 0),
    "to_number": ("{input: wide, ops: [as_string, {to_number: int}]}", 0),
    "replaced": (r"{input: text, ops: [{regex_replace: {pattern: '([a-c]*)\s', rewrite: '<\1>'}}]}", 0),
    "matched": (r"{input: text, ops: [{regex_full_match: '(?i)[a-zä]*|aa|a'}]}", 0),
    "extracted": ("{input: words, ops: [{regex_extract: '[a-cä]+'}]}", 0),
    "join": ("{inputs: [text, other], ops: [{join: '|'}]}", 0),
    "ngrams": ("{input: words, ops: [{ngrams: [1, 3]}]}", 0),
    "bag": ("{input: words, ops: [{bag_of_words: [1, 2]}]}", 0),
    "hash": ("{input: text, ops: [{hash_strings: 1000}]}", 0),
    "parsed": ("{input: moment, ops: [{parse_time: us}]}", 0),
    **{part: (f"{{input: moment, ops: [{{time_part: {part}}}]}}", 0) for part in _PARTS},
    "sine": ("{input: moment, ops: [{time_sin: day_of_year}]}", 0),
    "cosine": ("{input: moment, ops: [{time_cos: hour}]}", 0),
    "days": ("{input: moment, ops: [{days_since: 2026-01-31T12:00+01:00}]}", 1),
    "missing": ("{input: words, ops: [is_missing]}", 0),
    "first": ("{inputs: [x, y], ops: [coalesce]}", 0),
    "chosen": ("{inputs: [wide, x, y], ops: [where]}", 0),
    "is_in": ("{input: text, ops: [{is_in: ['', 'aa']}]}", 0),
    "index_in": ("{input: words, ops: [{index_in: [' ', 'a']}]}", 0),
    "looked_up": ("{input: text, ops: [{lookup: {map: {aa: 1.5, 'Äö ß': 2}, default: .inf}}]}", 0),
    "hot": ("{input: small, ops: [{one_hot: 5}]}", 0),
    "counted": ("{input: list, ops: [{count_hot: 5}]}", 0),
    **{f"list_{name}": (f"{{input: list, ops: [list_{name}]}}", 0) for name in ("min", "max", "count")},
    "list_sum": ("{input: list, ops: [{floormod: 1000000007}, list_sum]}", 0),
    "list_mean": ("{input: list, ops: [{floormod: 1000000007}, list_mean]}", 1),
}
# A name that no file can have, and one with a point, are quoted.
FEATURES = "features:" + "".join(f"\n  '{name}': {entry}" for name, (entry, _) in CASES.items()) + "\n"


def _batch() -> pa.RecordBatch:
    """The hostile rows without subnormal numbers, which TensorFlow takes for 0, and further columns."""
    batch, rng = hostile_batch(), np.random.default_rng(3)
    columns = {name: _flushed(batch.column(name)) for name in ("x", "y", "wide", "text", "other", "list", "sure")}
    columns |= {"words": batch.column("words"), "pair": batch.column("pair")}
    rows = batch.num_rows
    columns["near"] = pa.array(rng.normal(3, 50, rows).astype(np.float32), mask=rng.random(rows) < 0.1)
    columns["small"] = pa.array(rng.integers(-40, 60, rows), mask=rng.random(rows) < 0.1)
    columns["modest"] = pa.array(rng.integers(-(2**40), 2**40, rows))
    columns["same"] = pa.array(np.full(rows, 2.5, np.float32))
    columns["never"] = pa.array([None] * rows, pa.binary())
    columns["key"] = pa.array([f"k{at % 5}".encode() for at in range(rows)], pa.binary())
    moments = rng.integers(-62_000_000_000, 250_000_000_000, rows).astype("datetime64[s]")
    columns["moment"] = pa.array([f"{moment}Z".encode() for moment in moments], pa.binary())
    # Pairs are hostile numbers too.
    flat = _flushed(columns["pair"].flatten())
    pairs = columns["pair"]
    columns["pair"] = pa.ListArray.from_arrays(_offsets(pairs), flat, mask=pairs.is_null())
    return pa.record_batch(columns)


def _offsets(lists: pa.Array) -> pa.Array:
    counts = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    return pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))


def _flushed(column: pa.Array) -> pa.Array:
    if not pa.types.is_float32(column.type):
        return column
    numbers = column.to_numpy(zero_copy_only=False)
    zeroed = np.where(np.abs(numbers) < _TINY, np.copysign(np.float32(0), numbers), numbers)
    return pa.array(zeroed, mask=column.is_null().to_numpy(zero_copy_only=False))


def _schema() -> schema_pb2.Schema:
    schema = schema_pb2.Schema()
    kinds = {name: feature.kind for name, (feature, _) in hostile_rows().items()}
    kinds |= dict.fromkeys(("near", "same"), Kind.FLOAT) | dict.fromkeys(("small", "modest"), Kind.INT)
    kinds |= dict.fromkeys(("never", "key", "moment"), Kind.BYTES)
    for name in _batch().schema.names:
        feature = schema.feature.add(name=name, type=schema_pb2.FeatureType.Value(kinds[name].value))
        if name == "pair":
            feature.value_count.min = feature.value_count.max = 2
        elif name not in ("words", "list"):
            feature.value_count.min = feature.value_count.max = 1
        if name in ALWAYS:
            feature.presence.min_fraction = 1
    return schema


class _GiveFn(beam.DoFn):
    """Batches made on the worker: `beam.Create` would pickle them."""

    def process(self, _: None) -> Any:
        yield _batch()


def _fit(features: str, folder: Path) -> None:
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create([None]) | beam.ParDo(_GiveFn()).with_output_types(pa.RecordBatch)
        _ = rows | FitTransform(parse_features(features), _schema(), str(folder), engine="arrow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("fitted")
    _fit(FEATURES, found)
    before = transform_fingerprint(str(found))
    export_saved_model(str(found))
    # The SavedModel follows from features.json, and two of them never have the same bytes.
    assert transform_fingerprint(str(found)) == before
    return found


@pytest.fixture(scope="module")
def applied(folder: Path) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    batch, found = _batch(), []
    for graph in (load_graph(str(folder)), SavedGraph(str(folder), transformed_schema(str(folder)))):
        features, reasons = apply_graph(graph, batch)
        assert not reasons
        found.append(features)
    return found[0], found[1]


@pytest.mark.parametrize(("name", "units"), [(name, units) for name, (_, units) in CASES.items()], ids=CASES.keys())
def test_values_are_those_of_arrow(name: str, units: float, applied) -> None:
    ours, exported = (features.column(name) for features in applied)
    assert ours.type == exported.type
    if pa.types.is_list(ours.type):
        assert ours.value_lengths() == exported.value_lengths()
        ours, exported = ours.flatten(), exported.flatten()
    assert ours.is_valid() == exported.is_valid()
    if not pa.types.is_float32(ours.type):
        assert ours == exported
        return
    one, other = (item.drop_null().to_numpy() for item in (ours, exported))
    tiny = (np.abs(one) < _SMALL) & (np.abs(other) < _SMALL)
    near = (np.abs(_ordered(one) - _ordered(other)) <= units) | (one == other)
    if 0 < units < 1:
        near |= np.abs(one - other) <= units * np.maximum(1, np.abs(one))
    wrong = ~(near | tiny | (np.isnan(one) & np.isnan(other)))
    assert not wrong.any(), (wrong.sum(), one[wrong][:3], other[wrong][:3])


def _ordered(numbers: Any) -> Any:
    bits = numbers.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - bits, bits)


def test_every_operation_is_tested() -> None:
    used = {step.name for entry in parse_features(FEATURES).entries for step in entry.steps}
    exported = {*export.CALLS, VOCABULARY} | {name for name in COMPUTED if not OPERATIONS[name].fitted}
    assert used == exported & set(COMPUTED)


def test_tensorflow_transform_loads_it(folder: Path, applied) -> None:
    loaded = tft.TFTransformOutput(str(folder))
    batch = _batch().slice(0, 100)
    found = loaded.transform_raw_features({name: _tensor(name, batch.column(name)) for name in batch.schema.names})
    assert found["z"].values.numpy().tolist() == applied[0].column("z")[:100].drop_null().to_pylist()
    assert found["z_key"].numpy().tolist() == applied[0].column("z_key")[:100].to_pylist()
    for name, file in (("terms", "terms"), ("terms.named", "terms_named")):
        lines = (folder / "vocabularies" / name).read_bytes().split(b"\n")[:-1]
        assert loaded.vocabulary_size_by_name(name) == len(lines)
        assert (folder / "transform_fn/assets" / file).read_bytes() == b"".join(line + b"\n" for line in lines)
    assert loaded.transformed_feature_spec().keys() == CASES.keys()
    assert loaded.num_buckets_for_transformed_feature("bucket") == 10


def _tensor(name: str, column: pa.Array) -> Any:
    rows = column.to_pylist()
    if name in ALWAYS:
        return tf.constant(rows)
    lists = [row if isinstance(row, list) else [] if row is None else [row] for row in rows]
    flat = [value for values in lists for value in values]
    kind = {int: tf.int64, float: tf.float32}.get(type(flat[0]) if flat else bytes, tf.string)
    lengths = [len(values) for values in lists]
    return tf.RaggedTensor.from_row_lengths(tf.constant(flat, kind), lengths).to_sparse()


APART = """
features:
  near: {ops: [impute_mean]}
  moment: {ops: [{time_part: hour}]}
  text: {ops: [{compute_and_apply_vocabulary: {vocab_filename: names}}]}
"""


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Features that cannot compute each row, and a folder of its own that they were exported to."""
    fitted, graph = (tmp_path_factory.mktemp("apart") / name for name in ("fitted", "graph"))
    _fit(APART, fitted)
    state = json.loads((fitted / "features.json").read_text())
    near = next(feature for feature in state["features"] if feature["name"] == "near")
    near["ops"][0]["fitted"]["count"] = 0
    (fitted / "features.json").write_text(json.dumps(state))
    with exporting_here():
        export_saved_model(str(fitted), str(graph))
    return fitted, graph


def test_rows_that_cannot_be_computed_fail_in_the_graph_too(apart: tuple[Path, Path]) -> None:
    batch = pa.record_batch({"near": pa.array([1, None], pa.float32()), "moment": pa.array([b"soon", b"2026-01-01"])})
    _, reasons = apply_graph(load_graph(str(apart[1])), batch)
    (soon, none) = (reasons[row].detail for row in (0, 1))
    assert "is no time in ISO 8601" in soon
    assert "no row of the fit has a value to fill in" in none


def test_a_folder_of_its_own_is_a_graph(apart: tuple[Path, Path]) -> None:
    assert sorted(path.name for path in apart[1].iterdir()) == ["metadata", "transform_fn", "transformed_metadata"]
    (ours, left), (exported, left_too) = (apply_graph(load_graph(str(folder)), _batch()) for folder in apart)
    assert ours == exported
    assert ours.num_rows > 1000
    assert left.keys() == left_too.keys()
    assert tft.TFTransformOutput(str(apart[1])).vocabulary_by_name("names")


def test_what_is_no_file_of_fitted_features_is_named(tmp_path: Path) -> None:
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"features\.json: is not a file of fitted features"):
        export_saved_model(str(tmp_path))


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", RunnerError, "has ended .signal 9.*penstock export"),
        ("raise SystemError('broken')", RunnerError, "exit code 1: SystemError: broken"),
        ("import sys; print('disk: full', file=sys.stderr); sys.exit(1)", StorageError, "disk: full"),
    ],
    ids=["killed", "crashed", "full"],
)
def test_how_the_process_ended_is_told(script, error, message, tmp_path, monkeypatch) -> None:
    (tmp_path / "ending.py").write_text(script)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(export, "_PROCESS", "ending")
    with pytest.raises(error, match=message):
        export_saved_model(str(tmp_path))


def test_what_cannot_be_exported_is_named_before_a_row_is_read(monkeypatch) -> None:
    features = parse_features("features: {x: {ops: [scale_to_gaussian]}, y: {ops: [abs, scale_to_z_score]}}")
    monkeypatch.setattr(export, "CALLS", {})
    with pytest.raises(ConfigError, match=r"has no scale_to_gaussian, scale_to_z_score; take --features_engine tft"):
        check_exported(features)
    monkeypatch.setattr(type(TFT), "is_installed", property(lambda _: False))
    with pytest.raises(ImportError, match=r"a SavedModel \(--export_saved_model\) needs tensorflow-transform"):
        check_exported(features)
