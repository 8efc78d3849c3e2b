"""What Arrow fits, against tensorflow-transform on the same 12,000 rows, value by value."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.checks.validate import record_checks
from penstock.transforms.features.apply import apply_graph, check_features, load_graph, transformed_schema
from penstock.transforms.features.fit import FitTransform
from penstock.transforms.features.functions import FeatureFile, parse_features
from penstock.transforms.features.operations import OPERATIONS

# tensorflow-transform says so of weights by label, whose sums it rounds.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' function is deprecated:DeprecationWarning")

pytest.importorskip("tensorflow_transform")

ROWS = 12_000
_ONE = "value_count { min: 1 max: 1 }"
_ALWAYS = f"presence {{ min_fraction: 1 }} {_ONE}"
SCHEMA = "".join(
    f'feature {{ name: "{name}" type: {kind} {rest} }}'
    for name, kind, rest in (
        ("x", "FLOAT", _ONE),
        ("n", "INT", _ONE),
        ("seconds", "INT", _ONE),
        ("text", "BYTES", _ONE),
        ("key", "BYTES", _ALWAYS),
        ("sure", "INT", _ALWAYS),
        ("floats", "FLOAT", ""),
        ("words", "BYTES", ""),
        ("same", "FLOAT", _ONE),
        ("never", "INT", _ONE),
        ("heavy", "FLOAT", _ONE),
        ("far", "INT", _ONE),
        ("weight", "FLOAT", _ALWAYS),
        ("label", "INT", _ALWAYS),
        ("city", "BYTES", _ALWAYS),
        ("bag", "BYTES", ""),
        ("ids", "INT", ""),
    )
)


def _vocabulary(column: str, arguments: str) -> str:
    return f"{{input: {column}, ops: [{{compute_and_apply_vocabulary: {arguments}}}]}}"


# By entry: the largest difference, over 1 or the value; of integers, the largest share of values that differ.
CASES: dict[str, tuple[str, float]] = {
    "z_float": ("{input: x, ops: [scale_to_z_score]}", 1e-6),
    "z_int": ("{input: n, ops: [scale_to_z_score]}", 1e-6),
    "z_seconds": ("{input: seconds, ops: [scale_to_z_score]}", 0),
    "z_list": ("{input: floats, ops: [scale_to_z_score]}", 1e-6),
    "z_same": ("{input: same, ops: [scale_to_z_score]}", 1e-6),
    "z_never": ("{input: never, ops: [scale_to_z_score]}", 0),
    "z_chain": ("{input: x, ops: [abs, log1p, scale_to_z_score, scale_to_0_1]}", 2e-6),
    "z_key": ("{inputs: [sure, key], ops: [scale_to_z_score_per_key]}", 1e-6),
    "share_float": ("{input: x, ops: [scale_to_0_1]}", 0),
    "share_int": ("{input: n, ops: [{scale_by_min_max: {output_min: -1, output_max: 3}}]}", 0),
    "share_seconds": ("{input: seconds, ops: [scale_to_0_1]}", 0),
    "share_same": ("{input: same, ops: [scale_to_0_1]}", 1e-7),
    "share_key": ("{inputs: [sure, key], ops: [scale_to_0_1_per_key]}", 0),
    "range_key": (
        "{inputs: [sure, key], ops: [{scale_by_min_max_per_key: {output_min: -1, output_max: 3}}]}",
        0,
    ),
    "bucket_int": ("{input: n, ops: [{bucketize: 7}]}", 0),
    "bucket_float": ("{input: x, ops: [{bucketize: 10}]}", 0.02),
    "bucket_seconds": ("{input: seconds, ops: [{bucketize: 10}]}", 0.02),
    "bucket_key": ("{inputs: [sure, key], ops: [{bucketize_per_key: 5}]}", 0.02),
    "bucket_key_float": ("{inputs: [x, key], default: [0, ''], ops: [{bucketize_per_key: 3}]}", 0.02),
    "bucket_never": ("{input: never, ops: [{bucketize: 4}]}", 0),
    "rank": ("{input: x, ops: [quantile_rank]}", 1e-3),
    "rank_int": ("{input: n, ops: [{quantile_rank: 10}]}", 1e-6),
    "clip": ("{input: x, ops: [{clip_by_quantile: {lower: 0.01, upper: 0.99}}]}", 1e-2),
    "clip_int": ("{input: n, ops: [{clip_by_quantile: {upper: 0.9}}]}", 0),
    "mean": ("{input: x, ops: [impute_mean]}", 1e-6),
    "mean_int": ("{input: n, ops: [impute_mean]}", 0),
    "median": ("{input: x, ops: [impute_median]}", 1e-3),
    "median_int": ("{input: n, ops: [impute_median]}", 0),
    "most": ("{input: text, ops: [impute_most_frequent]}", 0),
    "most_int": ("{input: n, ops: [impute_most_frequent]}", 0),
    "terms": ("{input: text, ops: [compute_and_apply_vocabulary]}", 0),
    "top": ("{input: text, ops: [{compute_and_apply_vocabulary: {top_k: 20, num_oov_buckets: 7}}]}", 0),
    "often": ("{input: words, ops: [{compute_and_apply_vocabulary: {frequency_threshold: 30, default_value: -5}}]}", 0),
    "terms_int": ("{input: n, ops: [{compute_and_apply_vocabulary: {top_k: 30, num_oov_buckets: 3}}]}", 0),
    "terms_never": ("{input: never, ops: [{compute_and_apply_vocabulary: {num_oov_buckets: 3}}]}", 0),
    "terms_reserved": (
        _vocabulary("words", "{reserved_tokens: ['[PAD]', w3], top_k: 40, num_oov_buckets: 1}"),
        0,
    ),
    "terms_shuffled": (_vocabulary("words", "{fingerprint_shuffle: true, top_k: 50}"), 0),
    "terms_records": (_vocabulary("text", "{file_format: tfrecord_gzip, num_oov_buckets: 2}"), 0),
    "terms_weighted": (_vocabulary("text", "{weights: weight, frequency_threshold: 2.5}"), 0),
    "terms_weighted_lists": (_vocabulary("words", "{weights: weight, top_k: 60}"), 0),
    "terms_weighted_int": (_vocabulary("n", "{weights: sure, vocab_filename: by-number}"), 0),
    "terms_label": (_vocabulary("city", "{labels: label}"), 0),
    "terms_label_some": (_vocabulary("city", "{labels: label, frequency_threshold: 0.5, min_diff_from_avg: 4}"), 0),
    "terms_label_lists": (_vocabulary("bag", "{labels: label, top_k: 30, num_oov_buckets: 3}"), 0),
    "terms_label_chance": (_vocabulary("city", "{labels: label, use_adjusted_mutual_info: true, top_k: 12}"), 0),
    "terms_label_weights": (_vocabulary("city", "{labels: label, weights: weight, top_k: 9}"), 0),
    "terms_label_all": (
        _vocabulary("city", "{labels: label, weights: weight, use_adjusted_mutual_info: true, min_diff_from_avg: 1}"),
        0,
    ),
    "terms_label_int": (_vocabulary("sure", "{labels: label, top_k: 20}"), 0),
    "shared_one": (_vocabulary("text", "{vocabulary: both, top_k: 99, num_oov_buckets: 4}"), 0),
    "shared_two": ("{input: words, ops: [upper, lower, {compute_and_apply_vocabulary: {vocabulary: both}}]}", 0),
    "shared_weights": (_vocabulary("city", "{vocabulary: told, weights: weight, reserved_tokens: [none]}"), 0),
    "shared_weights_too": (_vocabulary("bag", "{vocabulary: told, top_k: 25}"), 0),
    "weights_of_terms": ("{input: ids, ops: [{tfidf: 40}]}", 1e-6),
    "weights_not_smooth": ("{input: ids, ops: [{tfidf: {vocab_size: 40, smooth: false}}]}", 1e-6),
    "weights_of_vocabulary": (
        "{input: words, ops: [{compute_and_apply_vocabulary: {top_k: 30, num_oov_buckets: 2}}, {tfidf: 32}]}",
        1e-6,
    ),
    "terms_of_row": ("{input: ids, ops: [{tfidf_terms: 40}]}", 0),
    "normal": ("{input: x, ops: [scale_to_gaussian]}", 0.02),
    "normal_heavy": ("{input: heavy, ops: [scale_to_gaussian]}", 0.1),
    "normal_skewed": ("{input: x, ops: [abs, exp, {minimum: 1000000}, scale_to_gaussian]}", 0.1),
    "normal_int": ("{input: n, ops: [scale_to_gaussian]}", 0.02),
    "normal_far": ("{input: far, ops: [scale_to_gaussian]}", 0.1),
    "normal_list": ("{input: floats, ops: [scale_to_gaussian]}", 0.02),
    "normal_same": ("{input: same, ops: [scale_to_gaussian]}", 0),
    "normal_never": ("{input: never, ops: [scale_to_gaussian]}", 0),
    "terms_hot": ("{input: text, default: '', ops: [{compute_and_apply_vocabulary: 5}, {one_hot: 5}]}", 0),
}

# What others show in part: the same operation on another kind of values, or an argument that another entry has too.
RARE = {
    *("z_float", "z_int", "z_never", "share_float", "share_seconds", "bucket_int", "bucket_seconds", "rank_int"),
    *("clip", "mean_int", "median", "most_int", "normal", "normal_skewed", "normal_int", "normal_never"),
    *("terms_label", "terms_label_chance", "terms_label_weights", "terms_weighted_lists", "weights_of_terms"),
}


def _with_nulls(rng: Any, values: list[Any]) -> list[Any]:
    return [None if lost else value for lost, value in zip(rng.random(ROWS) < 0.1, values, strict=True)]


def _batch() -> pa.RecordBatch:
    rng = np.random.default_rng(4)
    words = [f"w{at}" for at in rng.zipf(1.3, ROWS).clip(max=500)]
    odd = ["", "a\nb", "c\r", "Ä", "日本", " ", "x" * 200]
    texts = [odd[at % 7] if at % 50 < 7 else word for at, word in enumerate(words)]
    lists = [words[at : at + at % 4] or None for at in range(ROWS)]
    numbers = rng.normal(3, 50, ROWS).astype(np.float32)
    floats = [numbers[at : at + at % 3].tolist() or None for at in range(ROWS)]
    heavy = np.sinh(rng.normal(0, 1.5, ROWS)).astype(np.float32)
    ids = [rng.integers(-3, 45, at % 6).tolist() or None for at in range(ROWS)]
    bags = [sorted({word.encode() for word in words[at : at + at % 5]}) or None for at in range(ROWS)]
    label = rng.integers(0, 3, ROWS)
    # What tells something of the label.
    cities = [f"c{at % 23 + 23 * (at % 7 < 4) * kind}".encode() for at, kind in enumerate(label.tolist())]
    seconds = (1_700_000_000 + rng.integers(0, 86_400, ROWS)).tolist()
    return pa.record_batch(
        {
            "x": pa.array(_with_nulls(rng, numbers.tolist()), pa.float32()),
            "n": pa.array(_with_nulls(rng, rng.integers(-40, 60, ROWS).tolist()), pa.int64()),
            "seconds": pa.array(_with_nulls(rng, seconds), pa.int64()),
            "text": pa.array([None if t is None else t.encode() for t in _with_nulls(rng, texts)], pa.binary()),
            "key": pa.array([f"k{at % 5}".encode() for at in range(ROWS)], pa.binary()),
            "sure": pa.array(rng.integers(-9, 99, ROWS), pa.int64()),
            "floats": pa.array(floats, pa.list_(pa.float32())),
            "words": pa.array([row and [word.encode() for word in row] for row in lists], pa.list_(pa.binary())),
            "same": pa.array(np.full(ROWS, 2.5, np.float32)),
            "never": pa.array([None] * ROWS, pa.int64()),
            "heavy": pa.array(_with_nulls(rng, heavy.tolist()), pa.float32()),
            "far": pa.array(_with_nulls(rng, (1_700_000_000 + 3600 * heavy).astype(np.int64).tolist()), pa.int64()),
            "weight": pa.array(rng.integers(0, 32, ROWS).astype(np.float32) / 8),
            "label": pa.array(label),
            "city": pa.array(cities, pa.binary()),
            "bag": pa.array(bags, pa.list_(pa.binary())),
            "ids": pa.array(ids, pa.list_(pa.int64())),
        }
    )


class _GiveFn(beam.DoFn):
    """Batches made on the worker: `beam.Create` would pickle them."""

    def process(self, _: None) -> Any:
        batch = _batch()
        yield from (batch.slice(at, 1000) for at in range(0, ROWS, 1000))


def _features(names: Iterable[str]) -> FeatureFile:
    entries = "".join(f"\n  {name}: {CASES[name][0]}" for name in names)
    return parse_features(f"features:{entries}\n")


@pytest.fixture(scope="module")
def names(request) -> list[str]:
    """The entries that are fitted; the rare ones with their tests, as tensorflow-transform takes seconds over each."""
    selected = (item for item in request.session.items if item.path == request.path)
    rare = any(item.get_closest_marker("soak") for item in selected)
    return [name for name in CASES if rare or name not in RARE]


@pytest.fixture(scope="module")
def fitted(names, tmp_path_factory) -> dict[str, tuple[Path, pa.RecordBatch]]:
    features = _features(names)
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    found = {}
    for engine in ("arrow", "tft"):
        folder = tmp_path_factory.mktemp(engine)
        with local_pipeline() as pipeline:
            rows = pipeline | beam.Create([None]) | beam.ParDo(_GiveFn()).with_output_types(pa.RecordBatch)
            _ = rows | FitTransform(features, schema, str(folder), engine=engine)
        applied, reasons = apply_graph(load_graph(str(folder)), _batch())
        assert not reasons
        found[engine] = folder, applied
    return found


def test_each_operation_has_an_entry_that_is_not_rare() -> None:
    entries = [entry for entry in _features(CASES).entries if entry.name not in RARE]
    used = {step.name for entry in entries for step in entry.steps}
    assert used >= {name for name, operation in OPERATIONS.items() if operation.fitted}


@pytest.mark.parametrize(
    ("name", "most"),
    [
        pytest.param(name, most, id=name, marks=pytest.mark.soak if name in RARE else pytest.mark.slow)
        for name, (_, most) in CASES.items()
    ],
)
def test_values_are_those_of_tft(name: str, most: float, fitted) -> None:
    ours, theirs = (fitted[engine][1].column(name) for engine in ("arrow", "tft"))
    assert ours.type == theirs.type
    if pa.types.is_list(ours.type):
        assert ours.value_lengths() == theirs.value_lengths()
        ours, theirs = ours.flatten(), theirs.flatten()
    assert ours.is_valid() == theirs.is_valid()
    if ours.type == pa.float32():
        a, b = (item.drop_null().to_numpy().astype(np.float64) for item in (ours, theirs))
        assert (np.abs(a - b) / np.maximum(1, np.abs(b))).max(initial=0) <= most
    elif ours.type == pa.int64():
        a, b = (item.drop_null().to_numpy() for item in (ours, theirs))
        assert np.mean(a != b) <= most if len(a) else True
    else:
        assert ours == theirs


@pytest.mark.slow
def test_schema_is_that_of_tft(fitted) -> None:
    ours, theirs = (transformed_schema(str(fitted[engine][0])) for engine in ("arrow", "tft"))
    theirs = {feature.name: feature for feature in theirs.feature}
    assert {feature.name: feature for feature in ours.feature} == theirs


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["arrow", "tft"])
def test_a_key_that_the_fit_did_not_see_is_no_fault(engine: str, fitted) -> None:
    folder, batch = str(fitted[engine][0]), _batch().slice(0, 9)
    unseen = batch.set_column(batch.schema.get_field_index("key"), "key", pa.array([b"unseen"] * 9))
    checks = record_checks(transformed_schema(folder))
    features, reasons = check_features(*apply_graph(load_graph(folder), unseen), checks)
    assert not reasons
    assert features["bucket_key"].unique() == features["bucket_key_float"].unique() == pa.array([-1])


@pytest.mark.slow
def test_vocabularies_are_those_of_tft(names, fitted) -> None:
    ours, theirs = fitted["arrow"][0] / "vocabularies", fitted["tft"][0] / "transform_fn" / "assets"
    files = [path.name for path in ours.iterdir()]
    # Each of two is shared by two entries.
    assert len(files) == sum("compute_and_apply_vocabulary" in CASES[name][0] for name in names) - 2
    assert {name: _content(ours / name) for name in files} == {name: _content(theirs / name) for name in files}


def _content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
