"""What a graph loses while it is fitted is counted and told."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fitted import fit_all

from penstock.io.reasons import Note
from penstock.transforms.features.analyses.losses import NARROWED, UNHELD, Loss, notes_of
from penstock.transforms.features.fit import fit_notes
from penstock.transforms.features.functions import parse_features

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

SCHEMA = """
feature { name: "seconds" type: INT value_count { min: 1 max: 1 } }
feature { name: "ids" type: INT }
feature { name: "days" type: INT shape {} presence { min_fraction: 1 } }
feature { name: "small" type: INT value_count { min: 1 max: 1 } }
feature { name: "text" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "lines" type: BYTES }
"""
FEATURES = """
features:
  seconds: {ops: [scale_to_z_score]}
  text: {ops: [compute_and_apply_vocabulary]}
  lines: {ops: [strip, {compute_and_apply_vocabulary: {num_oov_buckets: 1}}]}
  all_lines: {input: lines, ops: [{compute_and_apply_vocabulary: {file_format: tfrecord_gzip}}]}
"""


def make_batch() -> pa.RecordBatch:
    return pa.record_batch(
        {
            "seconds": [1_700_000_001, 1_700_000_002, None, 1_700_000_032],
            "ids": [[2**24 + 1], [5, 2**30 + 7], None, [-(2**40) - 1]],
            "days": [1_700_000_001, 1_700_000_002, 1_700_000_003, 1_700_000_004],
            "small": [1, 2, 2**24, -(2**24)],
            "text": ["a\nb", "", "c", "a\nb"],
            "lines": [["x\r", "a\rb"], ["a\rb", ""], [], None],
        }
    )


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """Casts some large integers before a statistic, some after it, and some to days first."""
    seconds, ids = inputs["seconds"], inputs["ids"]
    days = inputs["days"] // 86_400
    return {
        "z": tft.scale_to_z_score(seconds),
        "unit": tft.scale_to_0_1(seconds),
        "bucket": tft.bucketize(ids, 2),
        "day": tft.scale_to_z_score(days),
        "as_it_is": tf.cast(inputs["days"], tf.float32),
        "since": inputs["days"] - tft.min(inputs["days"]),
        "small": tft.scale_to_z_score(inputs["small"]),
        "text": tft.compute_and_apply_vocabulary(inputs["text"]),
    }


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
    folder, batch = tmp_path_factory.mktemp("graphs"), make_batch()
    graphs = {folder / "function": preprocessing_fn, folder / "file": parse_features(FEATURES)}
    fit_all(graphs, [batch.slice(0, 1), batch.slice(1)], SCHEMA)
    return fit_notes(str(folder / "function")), fit_notes(str(folder / "file"))


def counts(notes: tuple[Note, ...]) -> list[tuple[str, str, int]]:
    return [(note.code, note.subject, note.count) for note in notes]


def test_integers_that_a_function_narrows_before_a_statistic_are_told(notes) -> None:
    assert counts(notes[0]) == [(NARROWED, "ids", 3), (NARROWED, "seconds", 3), (UNHELD, "text", 3)]


def test_features_of_a_file_narrow_nothing_and_tell_of_terms(notes) -> None:
    """`strip` takes one of the line breaks away; a TFRecord vocabulary holds them all."""
    assert counts(notes[1]) == [(UNHELD, "lines", 3), (UNHELD, "text", 3)]


def test_notes_say_what_is_lost_and_what_can_be_done(notes) -> None:
    narrowed, terms = notes[0][1], notes[0][2]
    assert narrowed.detail == (
        "1700000001 becomes 1700000000.0, as a statistic takes it; subtract a whole number before it, or describe the "
        "feature in a YAML file, whose operations centre integers exactly"
    )
    assert terms.detail == (
        "'' is out of vocabulary, since a text file holds no line breaks and no empty term; file_format: "
        "tfrecord_gzip holds both"
    )


def test_a_fit_that_loses_nothing_has_no_notes(tmp_path: Path) -> None:
    assert fit_notes(str(tmp_path)) == ()


def test_integers_that_float32_holds_are_not_lost() -> None:
    loss = Loss(NARROWED, ("x",))
    assert loss.note(np.array([2**24 + 2, 2**40, -(2**63)])) is None
    assert loss.note(np.array([2**24 + 2, 2**24 + 1])).count == 1


def test_of_places_that_lose_the_same_values_one_is_told() -> None:
    few, many, other = Note("c", "x", 2, "a"), Note("c", "x", 5, "b"), Note("c", "y", 1, "a")
    assert notes_of([(0, many), (1, few), (2, other)]) == (many, other)
