"""Vocabularies of a features file, against tensorflow-transform's own functions and plain Python."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fitted import fit_all, values
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError, DataError
from penstock.io.schema import schema_features
from penstock.transforms.features.entries.vocabulary import check_classes
from penstock.transforms.features.functions import parse_features

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

FEATURES = """
features:
  lines: {input: text, ops: [{compute_and_apply_vocabulary: {file_format: tfrecord_gzip}}]}
  plain: {input: text, ops: [{compute_and_apply_vocabulary: {num_oov_buckets: 1}}]}
  weighted: {input: city, ops: [{compute_and_apply_vocabulary: {weights: weight, frequency_threshold: 2.5}}]}
  heavy: {input: words, ops: [{compute_and_apply_vocabulary: {weights: weight, vocab_filename: by-weight}}]}
  telling:
    input: words
    ops: [{compute_and_apply_vocabulary: {labels: label, top_k: 2}}]
  adjusted:
    input: city
    ops:
      - compute_and_apply_vocabulary:
          {labels: label, weights: weight, use_adjusted_mutual_info: true, min_diff_from_avg: 0.5, top_k: 3}
  from: {input: city, ops: [{compute_and_apply_vocabulary: {vocabulary: places, top_k: 4, num_oov_buckets: 2}}]}
  to: {input: other, ops: [lower, {compute_and_apply_vocabulary: {vocabulary: places}}]}
  via: {input: words, ops: [{compute_and_apply_vocabulary: {vocabulary: places, default_value: -7}}]}
"""
SCHEMA = """
feature { name: "text" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "city" type: BYTES value_count { min: 1 max: 1 } presence { min_fraction: 1 } }
feature { name: "other" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "words" type: BYTES }
feature { name: "number" type: INT value_count { min: 1 max: 1 } }
feature { name: "weight" type: FLOAT value_count { min: 1 max: 1 } presence { min_fraction: 1 } }
feature { name: "label" type: INT value_count { min: 1 max: 1 } presence { min_fraction: 1 } }
"""
TEXTS = ["a\nb", "", "a\r", "plain", None, "a\nb", "plain", "a\nb"]
CITIES = ["oslo", "bern", "rome", "bern", "oslo", "kiew", "bern", "rome"]
OTHERS = ["OSLO", None, "LIMA", "Lima", "lima", "Rome", None, "Oslo"]
WORDS = [["bern", "x"], [], ["y", "y", "x"], None, ["x"], ["lima"], ["y"], ["x", "x"]]
WEIGHTS = [0.5, 1.0, 2.0, 0.25, 4.0, 3.0, 1.0, 0.125]
LABELS = [0, 1, 0, 1, 2, 1, 0, 2]


def make_batch() -> pa.RecordBatch:
    return pa.record_batch(
        {
            "text": TEXTS,
            "city": CITIES,
            "other": OTHERS,
            "words": WORDS,
            "number": pa.array([None] * 8, pa.int64()),
            "weight": WEIGHTS,
            "label": LABELS,
        }
    )


def by_tft(inputs: dict[str, Any]) -> dict[str, Any]:
    words, city = inputs["words"], tf.sparse.to_dense(inputs["city"])[:, 0]
    weight, label = (tf.sparse.to_dense(inputs[name])[:, 0] for name in ("weight", "label"))
    both = {"use_adjusted_mutual_info": True, "min_diff_from_avg": 0.5}
    return {
        "lines": tft.compute_and_apply_vocabulary(inputs["text"], file_format="tfrecord_gzip"),
        "weighted": tft.compute_and_apply_vocabulary(city, weights=weight, frequency_threshold=2.5),
        "telling": tft.compute_and_apply_vocabulary(words, labels=label, top_k=2),
        "adjusted": tft.compute_and_apply_vocabulary(city, labels=label, weights=weight, top_k=3, **both),
    }


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(parse_features(FEATURES), tmp_path_factory)


def fit(features: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, batch = tmp_path_factory.mktemp("graphs") / "graph", make_batch()
    fit_all({folder: features}, [batch.slice(0, 3), batch.slice(3)], SCHEMA)
    return folder


@pytest.fixture(scope="module")
def found(graph: Path) -> dict[str, list[Any]]:
    return values(graph, make_batch())


def terms(graph: Path, name: str) -> list[str]:
    return [term.decode() for term in tft.TFTransformOutput(str(graph)).vocabulary_by_name(name)]


def ids(column: list[Any], ranked: list[str]) -> list[Any]:
    return [None if term is None else ranked.index(term) if term in ranked else -1 for term in column]


EXPECTED = {
    "lines": [0, 3, 2, 1, None, 0, 1, 0],
    "weighted": [0, -1, -1, -1, 0, 1, -1, -1],
    "telling": [[-1, 1], None, [0, 0, 1], None, [1], [-1], [0], [1, 1]],
    "adjusted": [0, -1, 2, -1, 0, 1, -1, 2],
}


@pytest.mark.slow
def test_what_is_expected_is_what_tensorflow_transform_gives(tmp_path_factory) -> None:
    theirs = values(fit(by_tft, tmp_path_factory), make_batch())
    theirs["lines"] = [row and row[0] for row in theirs["lines"]]
    assert theirs == EXPECTED


def test_vocabularies_by_weight_and_by_what_they_tell_of_a_label(found) -> None:
    assert {name: found[name] for name in EXPECTED} == EXPECTED


def test_a_tfrecord_vocabulary_holds_line_breaks_and_the_empty_text(graph, found) -> None:
    ranked = sorted({text for text in TEXTS if text is not None}, key=lambda text: (TEXTS.count(text), text))[::-1]
    assert terms(graph, "lines") == ranked == ["a\nb", "plain", "a\r", ""]
    assert found["lines"] == ids(TEXTS, ranked)


def test_a_text_vocabulary_cannot_hold_them(graph, found) -> None:
    assert terms(graph, "plain") == ["plain"]
    assert found["plain"] == [1, 1, 1, 0, None, 1, 0, 1]


def test_weights_are_those_of_the_row_and_order_the_terms(graph, found) -> None:
    sums: Counter[str] = Counter()
    for weight, row in zip(WEIGHTS, WORDS, strict=True):
        for word in row or []:
            sums[word] += weight
    ranked = sorted(sums, key=lambda word: (sums[word], word), reverse=True)
    assert terms(graph, "by-weight") == ranked
    assert found["heavy"] == [ids(row, ranked) if row else None for row in WORDS]


def test_entries_that_share_a_vocabulary_are_all_counted(graph, found) -> None:
    """It has the terms of `city`, of `other` in lower case, and of `words`; the most frequent are kept."""
    lower = [other and other.lower() for other in OTHERS]
    counts = Counter([*CITIES, *filter(None, lower), *(word for row in WORDS for word in row or [])])
    ranked = sorted(counts, key=lambda term: (counts[term], term), reverse=True)[:4]
    assert terms(graph, "places") == ranked
    assert found["to"] == ids(lower, ranked)
    assert found["via"] == [[ranked.index(w) if w in ranked else -7 for w in row] if row else None for row in WORDS]
    known = [term in ranked for term in CITIES]
    assert [got for got, is_in in zip(found["from"], known, strict=True) if is_in] == [
        ranked.index(term) for term in CITIES if term in ranked
    ]
    assert {got for got, is_in in zip(found["from"], known, strict=True) if not is_in} <= {4, 5}


def test_the_graph_does_not_need_weights_and_labels(found, graph) -> None:
    batch = make_batch().select(["text", "city", "other", "words"])
    assert values(graph, batch) == found


def test_labels_that_are_no_classes_fail_the_fit(tmp_path) -> None:
    features = parse_features(
        "features: {a: {input: city, ops: [{compute_and_apply_vocabulary: {labels: label}}]}}",
    )
    batch = make_batch()
    labels = pa.array([*LABELS[1:], 10_000], pa.int64())
    bad = batch.set_column(batch.schema.names.index("label"), "label", labels)
    with pytest.raises(DataError, match="must be classes from 0 to 9999, 'label' has 10000; number the classes first"):
        fit_all({tmp_path / "g": features}, [bad], SCHEMA)


def test_negative_labels_are_no_classes() -> None:
    with pytest.raises(DataError, match="from 0 to 9999, 'x' has -1"):
        check_classes("x", np.array([0, -1, 3]))


MISTAKES = {
    "both_names": (
        "{vocabulary: a, vocab_filename: b}",
        "compute_and_apply_vocabulary: give vocabulary (shared by its name) or vocab_filename, not both",
    ),
    "file_name": ("{vocab_filename: a/b}", "vocab_filename must be a name for a file, of letters, digits, '_', '.'"),
    "adjusted": (
        "{use_adjusted_mutual_info: true}",
        "use_adjusted_mutual_info is about mutual information with labels",
    ),
    "average": ("{min_diff_from_avg: 1}", "min_diff_from_avg is about mutual information with labels"),
    "threshold": ("{frequency_threshold: 1.5}", "must be a whole number without weights or labels, got 1.5"),
    "format": ("{file_format: csv}", "file_format must be text or tfrecord_gzip, got 'csv'"),
    "column": ("{weights: 3}", "weights must be the name of a column, got 3"),
    "no_column": ("{weights: weigth}", "weights"),
    "kind_of_weights": ("{weights: other}", "weights must be INT or FLOAT, 'other' is BYTES"),
    "kind_of_labels": ("{labels: weight}", "labels must be INT, 'weight' is FLOAT"),
    "missing": ("{labels: number}", "labels must be one value in every row; if 'number' is, say so in the schema"),
    "integers": ("{file_format: tfrecord_gzip}", "file_format is for texts; a vocabulary of integers is a text file"),
}


def bind(text: str) -> None:
    parse_features(text, "f.yaml").bind(schema_features(text_format.Parse(SCHEMA, schema_pb2.Schema())))


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found_before_anything_runs(name: str) -> None:
    arguments, message = MISTAKES[name]
    column = "number" if name == "integers" else "city"
    with pytest.raises(ConfigError) as error:
        bind(f"features:\n  a:\n    input: {column}\n    ops:\n    - compute_and_apply_vocabulary: {arguments}\n")
    assert message in str(error.value)
    assert ", line " in str(error.value)


PAIRS = {
    "contradiction": (
        "{vocabulary: v, top_k: 3}",
        "city, ops: [{compute_and_apply_vocabulary: {vocabulary: v, top_k: 4}}]",
        "but the two share the vocabulary 'v'; say it once",
    ),
    "kinds": (
        "{vocabulary: v}",
        "number, ops: [{compute_and_apply_vocabulary: {vocabulary: v}}]",
        "where it has terms of BYTES, and gives it INT",
    ),
    "same_file": (
        "{vocab_filename: b.c}",
        "other, ops: [{compute_and_apply_vocabulary: {vocab_filename: b_c}}]",
        "its vocabulary would be stored as 'b_c', as that of",
    ),
    "name_of_another_entry": (
        "{vocab_filename: b}",
        "other, ops: [compute_and_apply_vocabulary]",
        "its vocabulary would be stored as 'b', as that of",
    ),
    "threshold": (
        "{vocabulary: v, frequency_threshold: 0.5}",
        "other, ops: [{compute_and_apply_vocabulary: {vocabulary: v}}]",
        "must be a whole number without weights or labels, got 0.5",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_vocabularies_that_contradict_each_other_are_refused(name: str) -> None:
    first, second, message = PAIRS[name]
    with pytest.raises(ConfigError) as error:
        bind(
            f"features:\n  a: {{input: city, ops: [{{compute_and_apply_vocabulary: {first}}}]}}\n"
            f"  b: {{input: {second}}}\n"
        )
    assert message in str(error.value)
    assert ", line " in str(error.value)
