"""`features.json` as it is read: what a fit wrote is taken, and what it cannot have written is refused by name."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, Kind
from penstock.transforms.features.arrow.calls import CALLS
from penstock.transforms.features.arrow.fit import Found, _finished, _Part, fitted_program
from penstock.transforms.features.arrow.fitted_file import read_fitted, write_fitted
from penstock.transforms.features.arrow.program import Program
from penstock.transforms.features.functions import parse_features

ENTRIES = """
features:
  gauss: {input: x, ops: [scale_to_gaussian]}
  unit: {input: x, ops: [scale_to_0_1]}
  unit_n: {input: n, ops: [scale_by_min_max]}
  score: {input: x, ops: [scale_to_z_score]}
  score_n: {input: n, ops: [scale_to_z_score]}
  mean: {input: x, ops: [impute_mean]}
  mean_n: {input: n, ops: [impute_mean]}
  median: {input: x, ops: [impute_median]}
  bucket: {input: n, ops: [{bucketize: 3}]}
  rank: {input: x, ops: [{quantile_rank: 4}]}
  clip: {input: n, ops: [{clip_by_quantile: {lower: 0.1, upper: 0.9}}]}
  key_unit: {inputs: [x, t], default: [0.5, ""], ops: [scale_to_0_1_per_key]}
  key_range: {inputs: [n, t], default: [1, ""], ops: [scale_by_min_max_per_key]}
  key_score: {inputs: [n, t], default: [1, ""], ops: [scale_to_z_score_per_key]}
  key_bucket: {inputs: [n, t], default: [1, ""], ops: [{bucketize_per_key: 3}]}
  most: {input: t, ops: [impute_most_frequent]}
  most_n: {input: n, ops: [impute_most_frequent]}
  text: {input: t, ops: [{compute_and_apply_vocabulary: {num_oov_buckets: 2}}]}
  packed: {input: t, ops: [{compute_and_apply_vocabulary: {file_format: tfrecord_gzip}}]}
  words: {input: l, ops: [{tfidf: 5}]}
  number: {input: n, ops: [{compute_and_apply_vocabulary: {reserved_tokens: ["9"]}}]}
  rewritten: {input: t, ops: [{regex_replace: {pattern: "(7)", rewrite: '\\1'}}]}
  even: {input: x, ops: [abs]}
  since: {input: n, ops: [{days_since: {time: 2026-01-01, unit: s}}]}
"""
COLUMNS = {
    "x": (Feature("x", Kind.FLOAT, multivalued=False), pa.float32()),
    "n": (Feature("n", Kind.INT, multivalued=False), pa.int64()),
    "t": (Feature("t", Kind.BYTES, multivalued=False), pa.binary()),
    "l": (Feature("l", Kind.INT, multivalued=True), pa.list_(pa.int64())),
}
HOSTILE = {
    "x": [None, np.nan, np.inf, -np.inf, -0.0, 3e38, -1e-45, 1.5],
    "n": [None, 2**63 - 1, -(2**63), 0, 2**53 + 1, -1, 5, 5],
    "t": [None, b"", b"\xff", "naïve".encode(), b"a\nb", b"a\r", b"7", b"x" * 999],
    "l": [None, [], [4, 4], [-1, 9], [0], [2**63 - 1], [-(2**63)], [1, 2, 3]],
}
ROWS = {
    "hostile": HOSTILE,
    "one": {name: values[-1:] for name, values in HOSTILE.items()},
    "missing": {name: [None] * 3 for name in HOSTILE},
    "none": {name: [] for name in HOSTILE},
}


def batch_of(rows: dict[str, list[Any]]) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array(rows[name], kind) for name, (_, kind) in COLUMNS.items()})


def fit(batches: Sequence[pa.RecordBatch]) -> Program:
    bound = parse_features(ENTRIES).bind([feature for feature, _ in COLUMNS.values()])
    program = Program(bound.inputs, bound.outputs)
    for phase in range(len(program.phases)):
        part = _Part(program.analyses(phase))
        for batch in batches:
            columns, _ = program.read(batch)
            program.analyze(part.analyses, columns, phase)
        found: Found = _finished(part, program)
        program = fitted_program(program, [found])
    return program


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_what_was_fitted_is_read_and_computes_the_same(rows: dict[str, list[Any]], tmp_path: Path) -> None:
    program = fit([batch_of(rows)])
    write_fitted(program, str(tmp_path))
    again = read_fitted(str(tmp_path))
    assert {output.entry.name for output in again.outputs} == {output.entry.name for output in program.outputs}
    columns, _ = program.read(batch_of(HOSTILE))
    columns["n"] = columns["n"].take(np.array([0, 3, 5, 6, 6, 6, 6, 6]))  # others are no times
    (ours, faults), (read, read_faults) = program.compute(columns), again.compute(columns)
    assert read_faults == faults
    assert list(map(str, read)) == list(map(str, ours))


def test_all_fitted_operations_are_among_them() -> None:
    named = {step.name for output in fit([batch_of(HOSTILE)]).outputs for step in output.entry.steps}
    assert {name for name, call in CALLS.items() if call.analysis is not None} <= named


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    write_fitted(fit([batch_of(HOSTILE)]), str(folder))
    return folder


def change(folder: Path, copy: Path, feature: str, part: str, values: dict[str, Any] | None) -> str:
    """Copies fitted features with other values of the first operation of one, or with none; returns its name."""
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    state = json.loads((copy / "features.json").read_text())
    op: dict[str, Any] = next(item for item in state["features"] if item["name"] == feature)["ops"][0]
    op[part] = {**op[part], **values} if values else {}
    (copy / "features.json").write_text(json.dumps(state))
    return str(op["name"])


@pytest.mark.parametrize(
    ("feature", "changed", "told"),
    [
        ("bucket", {"boundaries": [3, 2]}, "no fit gives this boundaries: \\[3, 2\\]"),
        ("bucket", {"boundaries": [1]}, "no fit gives this boundaries"),
        ("bucket", {"boundaries": [1.5, 2]}, "no fit gives this boundaries"),
        ("bucket", {"boundaries": None}, "no fit gives this boundaries: None"),
        ("rank", {"edges": [0, 1, 2, 3, "4"]}, "no fit gives this edges"),
        ("unit", {"min": "0"}, "no fit gives this min: '0'"),
        ("unit", {"min": 2, "max": 1}, "min is above max"),
        ("clip", {"lower": 2, "upper": 1}, "lower is above upper"),
        ("gauss", {"variance": -1.0}, "no fit gives this variance: -1.0"),
        ("gauss", {"left": {"float": "nan"}}, "no fit gives this left: nan"),
        ("gauss", {}, "lacks"),
        ("key_score", {"mean": [1.0]}, "no fit gives this mean"),
        ("key_bucket", {"keys": ["b", "a"]}, "no fit gives this keys"),
        ("words", {"documents": [-1]}, "no fit gives this documents"),
        ("text", {"terms": True}, "no fit gives this terms: True"),
    ],
)
def test_what_no_fit_gives_is_refused(
    feature: str, changed: dict[str, Any], told: str, folder: Path, tmp_path: Path
) -> None:
    operation = change(folder, tmp_path, feature, "fitted", changed)
    with pytest.raises(ConfigError, match=rf"features\.json: feature '{feature}': {operation}: {told}"):
        read_fitted(str(tmp_path))


@pytest.mark.parametrize(
    ("feature", "arguments", "told"),
    [
        ("bucket", {}, "needs the argument num_buckets"),
        ("bucket", {"num_buckets": -1}, "num_buckets must be at least"),
        ("since", {"time": "soon", "unit": "s"}, "time must be microseconds"),
        ("since", {"time": 2**62, "unit": "s"}, "time must be microseconds"),
        ("bucket", {"num_bucket": 3}, "unknown argument 'num_bucket'; did you mean 'num_buckets'"),
        ("even", {"num_buckets": 3}, "takes no argument, got 'num_buckets'"),
        ("rewritten", {"rewrite": r"\2"}, "rewrite .* does not fit the pattern"),
        ("number", {"reserved_tokens": ["<pad>"]}, "reserved_tokens has '<pad>', and the input is INT"),
    ],
)
def test_arguments_that_an_operation_does_not_take_are_refused(
    feature: str, arguments: dict[str, Any], told: str, folder: Path, tmp_path: Path
) -> None:
    change(folder, tmp_path, feature, "arguments", arguments)
    with pytest.raises(ConfigError, match=rf"feature '{feature}': .*{told}"):
        read_fitted(str(tmp_path))


def test_a_file_without_features_is_refused(folder: Path, tmp_path: Path) -> None:
    state = json.loads((folder / "features.json").read_text())
    (tmp_path / "features.json").write_text(json.dumps({**state, "features": []}))
    with pytest.raises(ConfigError, match="features must be one at least"):
        read_fitted(str(tmp_path))


@pytest.mark.parametrize(("name", "told"), [("", "the name is empty"), ("_split", "the name is reserved")])
def test_a_name_that_no_feature_may_have_is_refused(name: str, told: str, folder: Path, tmp_path: Path) -> None:
    state = json.loads((folder / "features.json").read_text())
    state["features"] = [{**item, "name": name} for item in state["features"] if item["name"] == "even"]
    (tmp_path / "features.json").write_text(json.dumps(state))
    with pytest.raises(ConfigError, match=rf"feature '{name}': {told}"):
        read_fitted(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param("text", b"7\nx\n7\n", "'7' has the positions 0 and 2", id="twice"),
        pytest.param("text", b"7\n\nx\n", "the term of position 1 is empty", id="empty"),
        pytest.param("number", b"9\n-1\nx\n", "the term of position 2 is 'x', not an INT", id="text of INT"),
        pytest.param("number", b"9\n07\n", "the term of position 1 is '07', not an INT", id="zero before"),
        pytest.param("number", b"-0\n", "the term of position 0 is '-0', not an INT", id="zero below 0"),
        pytest.param("number", b"9223372036854775808\n", "position 0 is '9.*8', not an INT", id="beyond int64"),
        pytest.param("number", b"\xef\xbb\xbf9\n", "the term of position 0 is .*, not an INT", id="byte order mark"),
        pytest.param("number", b"9\n-1\n9\n", "'9' has the positions 0 and 2", id="INT twice"),
        pytest.param("text", None, "No such file", id="missing"),
        pytest.param("text", b"7\r\nx\r\n", "it holds carriage returns, .* its line ends were changed", id="line ends"),
        pytest.param("text", b"7\nx", "it ends within a line", id="torn"),
        pytest.param("packed.tfrecord.gz", b"7\n", "Not a gzipped file", id="no gzip"),
        pytest.param("packed.tfrecord.gz", b"\x1f\x8b\x08\0\0\0\0\0\x02\xff", "ended before", id="torn gzip"),
    ],
)
def test_a_damaged_vocabulary_is_named(
    name: str, content: bytes | None, told: str, folder: Path, tmp_path: Path
) -> None:
    state = json.loads((folder / "features.json").read_text())
    state["features"] = [item for item in state["features"] if item["name"] == name.partition(".")[0]]
    (tmp_path / "features.json").write_text(json.dumps(state))
    (tmp_path / "vocabularies").mkdir()
    path = state["features"][0]["ops"][0]["fitted"]["vocabulary"]
    if content is not None:
        (tmp_path / path).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{path}: is not the vocabulary that was fitted: .*{told}"):
        read_fitted(str(tmp_path))
