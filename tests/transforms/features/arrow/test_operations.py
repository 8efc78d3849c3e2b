"""What Arrow makes of the operations, against values worked out by hand; nothing here needs TensorFlow."""

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from operation_cases import CASES, COLUMNS

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.calls import CALLS
from penstock.transforms.features.arrow.compute.columns import Column
from penstock.transforms.features.arrow.compute.quantiles import Boundaries
from penstock.transforms.features.arrow.program import Program
from penstock.transforms.features.arrow.vocabularies.lookup import Vocabulary
from penstock.transforms.features.arrow.vocabularies.terms import Terms
from penstock.transforms.features.functions import parse_features
from penstock.transforms.features.operations import OPERATIONS

_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}


def compute(entry: str, rows: slice = slice(None)) -> pa.Array:
    bound = parse_features(f"features: {{y: {entry}}}").bind([feature for feature, _ in COLUMNS.values()])
    arrays = {}
    for feature, values in COLUMNS.values():
        kind = pa.list_(_TYPES[feature.kind]) if feature.multivalued else _TYPES[feature.kind]
        arrays[feature.name] = pa.array(values[rows], kind)
    program = Program(bound.inputs, bound.outputs)
    columns, faults = program.read(pa.record_batch(arrays))
    assert not faults
    (found,), faults = program.compute(columns)
    assert not faults
    return found


def plain(row: Any) -> Any:
    if isinstance(row, list):
        return [plain(item) for item in row]
    return row.decode() if isinstance(row, bytes) else row


@pytest.mark.parametrize(("entry", "expected"), CASES.values(), ids=CASES.keys())
def test_operation(entry: str, expected: list[Any]) -> None:
    result = compute(entry)
    got = [plain(row) for row in result.to_pylist()]
    flat = [value for row in expected for value in (row if isinstance(row, list) else [row])]
    kind = result.type.value_type if pa.types.is_list(result.type) else result.type
    if any(isinstance(value, float) for value in flat):
        assert kind == pa.float32()
        assert got == [row if row is None else pytest.approx(row, rel=1e-6, abs=1e-7) for row in expected]
    else:
        assert got == expected
        assert kind in (pa.int64(), pa.binary())


@pytest.mark.parametrize("entry", [entry for entry, _ in CASES.values()], ids=CASES.keys())
def test_operation_on_a_batch_where_all_is_missing(entry: str) -> None:
    assert compute(entry, slice(1, 2)).to_pylist() == compute(entry).to_pylist()[1:2]


def test_vocabularies_of_many_terms() -> None:
    """More than are merged at once, and more than Arrow's hash table is made for."""
    parts = [Terms([Kind.BYTES]) for _ in range(2)]
    texts = [f"t{at}".encode() for at in range(150_000)]
    for start in range(0, 150_000, 25_000):
        for part in parts:
            part.add([Column(pa.array(texts[start : start + 25_000], pa.binary()))])
    parts[0].add([Column(pa.array([b"t7", b"t7", b"z", b"", b"a\nb"], pa.binary()))])
    merged = pickle.loads(pickle.dumps(parts[0]))
    merged.merge(parts[1])
    terms = merged.finish()["terms"]
    assert terms.to_pylist() == [b"t7", *sorted(set(texts) - {b"t7"}, reverse=True), b"z"]
    (note,) = merged.notes("text")
    assert (note.code, note.count) == ("fit.unheld", 2)
    found = Vocabulary(terms).find(pa.array([b"z", b"t7", b"t999999", b"t0"], pa.binary()))
    assert found.tolist() == [150_000, 0, -1, 149_999]


def test_quantiles_of_many_numbers_are_exact() -> None:
    parts = [Boundaries([Kind.FLOAT], num_buckets=4) for _ in range(2)]
    numbers = np.random.default_rng(1).permutation(100_000).astype(np.float32)
    for part, some in zip(parts, np.split(numbers, [30_000]), strict=True):
        part.add([Column(np.append(some, np.float32("nan")))])
    merged = pickle.loads(pickle.dumps(parts[1]))
    merged.merge(parts[0])
    assert merged.finish() == {"boundaries": [25_000, 50_000, 75_000], "rank_error": 0}
    assert list(merged.notes("x")) == []


def test_arrow_has_all_operations() -> None:
    assert OPERATIONS.keys() == CALLS.keys()
