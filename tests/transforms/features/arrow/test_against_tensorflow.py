"""Operations that are not fitted, against TensorFlow on 10,000 rows of values that nobody likes."""

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from operation_columns import tensor

from penstock.io.schema import Feature, Kind
from penstock.transforms.features.arrow.program import Program
from penstock.transforms.features.functions import parse_features

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_transform")

ROWS = 10_000
_RNG = np.random.default_rng(17)

_FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.4028234e38, -3.4028234e38, 16777217.0,
           float("nan"), float("inf"), float("-inf"), 2.0**63, -(2.0**63), 88.7, -104.0]  # fmt: skip
_INTS = [0, 1, -1, 2, -2, 7, 2**24, 2**24 + 1, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), -(2**63) + 1,
         3_037_000_499, 1_700_000_000]  # fmt: skip
_TEXTS = [b"", b" ", b"a", b"A", b"ab", b" a b ", b"\t\n a\r", b"x" * 63, b"x" * 64, b"x" * 65, b"y" * 300, b"0",
          b"-12", b"1.5", b"a\nb", b"a,b,,c", b"aXbXc", *(text.encode() for text in (
              "Äß", "ςΣΣ", "İı", "日本語 x", "a\u0301", "\U0001f600!")), b"\xff\xc3A", b"\xe2\x82"]  # fmt: skip


# The least positive float32 that is not subnormal.
_LEAST = np.finfo(np.float32).tiny


def _floats(most: float = np.inf) -> np.ndarray:
    bits = _RNG.integers(0, 2**32, ROWS, dtype=np.uint32).view(np.float32)
    usual = _RNG.normal(0, 100, ROWS).astype(np.float32)
    special = np.array(_FLOATS, np.float32)[_RNG.integers(0, len(_FLOATS), ROWS)]
    which = _RNG.integers(0, 3, ROWS)
    found = np.choose(which, [bits, usual, special])
    # Neither these nor quotients of them are subnormal numbers, which TensorFlow takes as 0.
    usable = (np.abs(found) > 1e-18) & (np.abs(found) <= most) | ~np.isfinite(found)
    return np.where(usable, found, np.float32(0))


def _ints() -> np.ndarray:
    wide = _RNG.integers(-(2**63), 2**63 - 1, ROWS, dtype=np.int64)
    near = _RNG.integers(-50, 50, ROWS)
    special = np.array(_INTS, np.int64)[_RNG.integers(0, len(_INTS), ROWS)]
    return np.choose(_RNG.integers(0, 3, ROWS), [wide, near, special])


def _texts() -> list[bytes]:
    letters = np.frombuffer(b"abcXYZ 0129,.-_\t", np.uint8)
    sizes = _RNG.integers(0, 100, ROWS)
    made = [bytes(letters[_RNG.integers(0, len(letters), size)]) for size in sizes]
    chosen = _RNG.integers(0, 2 * len(_TEXTS), ROWS)
    return [_TEXTS[at] if at < len(_TEXTS) else text for at, text in zip(chosen, made, strict=True)]


def _missing(values: Any) -> list[Any]:
    drop = _RNG.random(ROWS) < 0.1
    return [None if lost else value for lost, value in zip(drop, values, strict=True)]


def _lists(values: list[Any]) -> list[Any]:
    sizes = _RNG.integers(0, 4, ROWS)
    return [None if not size else [values[(at + step) % ROWS] for step in range(size)] for at, size in enumerate(sizes)]


COLUMNS: dict[str, tuple[Feature, list[Any]]] = {
    "x": (Feature("x", Kind.FLOAT, multivalued=False), _missing(_floats().tolist())),
    "y": (Feature("y", Kind.FLOAT, multivalued=False), _missing(_floats(1e9).tolist())),
    "n": (Feature("n", Kind.INT, multivalued=False), _missing(_ints().tolist())),
    "m": (Feature("m", Kind.INT, multivalued=False), _missing(np.where((k := _ints()) == 0, 1, k).tolist())),
    "few": (Feature("few", Kind.INT, multivalued=False), _missing(_RNG.integers(-2, 9, ROWS).tolist())),
    "seconds": (
        Feature("seconds", Kind.INT, multivalued=False),
        _missing(_RNG.integers(-62_135_596_800, 253_402_300_799, ROWS).tolist()),
    ),
    "text": (Feature("text", Kind.BYTES, multivalued=False), _missing(_texts())),
    "other": (Feature("other", Kind.BYTES, multivalued=False), _missing(_texts())),
    "floats": (Feature("floats", Kind.FLOAT, multivalued=True), _lists(_RNG.normal(0, 9, ROWS).astype("f4").tolist())),
    "ints": (Feature("ints", Kind.INT, multivalued=True), _lists(_ints().tolist())),
    "words": (Feature("words", Kind.BYTES, multivalued=True), _lists(_texts())),
}
_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}

# Of each operation that is no curve, TensorFlow's bits; of curves and what follows from them, units in the last place.
EXACT = [
    *(
        f"{{input: x, ops: [{name}]}}"
        for name in ("abs", "negative", "sign", "round", "floor", "ceil", "trunc", "square")
    ),
    *(f"{{input: n, ops: [{name}]}}" for name in ("abs", "negative", "sign", "logical_not", "as_string")),
    *(
        f"{{inputs: [{inputs}], ops: [{name}]}}"
        for name in ("add", "subtract", "multiply", "floordiv", "floormod", "maximum", "minimum", "divide", "equal",
                     "not_equal", "less", "less_equal", "greater", "greater_equal")
        for inputs in ("x, y", "n, m")
    ),
    *(
        f"{{input: {column}, ops: [{{{name}: 7}}]}}"
        for name in ("add", "subtract", "multiply", "floordiv", "floormod", "maximum", "minimum", "divide", "less")
        for column in ("x", "n", "floats", "ints")
    ),
    "{input: x, ops: [{floormod: -2.5}]}",
    "{input: n, ops: [{floormod: -3}]}",
    "{input: n, ops: [{floordiv: -1}]}",
    "{input: x, ops: [{clip_by_value: {min: -1.5, max: 1.0e+30}}]}",
    "{input: n, ops: [{clip_by_value: {min: -9, max: 9007199254740993}}]}",
    "{input: x, ops: [{cast: int}]}",
    "{input: n, ops: [{cast: float}]}",
    "{input: x, ops: [{apply_buckets: [-1.0e+30, -1, 0, 0.1, 1.0e+38]}]}",
    "{input: n, ops: [{apply_buckets: [-9.5, 0, 0.5, 16777217, 9.3e+18]}]}",
    "{inputs: [n, m, few], ops: [logical_and]}",
    "{inputs: [n, m, few], ops: [logical_or]}",
    "{inputs: [text, other], ops: [equal]}",
    "{input: text, ops: [{not_equal: ''}]}",
    *(f"{{input: {column}, ops: [{op}]}}" for column in ("text", "words") for op in (
        "lower", "upper", "strip", "length", "{substr: {start: 1, length: 3}}", "{substr: {start: -4, length: 2}}",
        "{hash_strings: 1000}", "{hash_strings: 9223372036854775807}", "{regex_full_match: '[a-z ]*'}",
        "{regex_replace: {pattern: '(.)b', rewrite: '<\\1>'}}", "{regex_replace: {pattern: '', rewrite: '-'}}",
        "{regex_extract: {pattern: '([a-z]+)(,|X)', group: 1}}", "{is_in: ['', 'a', 'ab']}", "{index_in: [' ', 'a']}",
    )),
    "{inputs: [text, other], ops: [{join: '-'}]}",
    "{input: text, ops: [split]}",
    "{input: text, ops: [{split: 'X'}]}",
    "{input: text, ops: [{split: ','}]}",
    "{input: words, ops: [{ngrams: [1, 3]}]}",
    "{input: text, ops: [is_missing]}",
    "{input: ints, ops: [list_count]}",
    "{inputs: [x, y], ops: [coalesce]}",
    "{inputs: [text, other], ops: [coalesce]}",
    "{inputs: [few, x, y], ops: [where]}",
    "{inputs: [few, text], ops: [{where: {else: '-'}}]}",
    "{input: few, ops: [{one_hot: 5}]}",
    "{input: ints, ops: [{count_hot: 5}]}",
    *(f"{{input: {column}, ops: [{name}]}}" for column in ("floats", "ints")
      for name in ("list_min", "list_max", "list_sum", "list_mean")),
    *(f"{{input: seconds, ops: [{{time_part: {{part: {part}, unit: s}}}}]}}" for part in (
        "year", "quarter", "month", "week", "day", "weekday", "day_of_year", "hour", "minute", "second")),
    "{input: seconds, ops: [{time_sin: {part: day_of_year, unit: s}}]}",
    "{input: seconds, ops: [{days_since: {time: 2026-01-01T00:00:01, unit: s}}]}",
]  # fmt: skip

# By how many units in the last place of float32.
CURVES = {
    "{input: x, ops: [log]}": 2,
    "{input: n, ops: [log]}": 2,
    "{input: x, ops: [log1p]}": 4,
    "{input: x, ops: [exp]}": 4,
    "{input: x, ops: [sqrt]}": 1,
    "{input: x, ops: [abs, {pow: 0.3}]}": 4,
    "{input: n, ops: [{pow: 2}]}": 4,
    "{input: x, ops: [{apply_buckets_with_interpolation: [-100, -1, 0.5, 200]}]}": 2,
    "{input: n, ops: [{apply_buckets_with_interpolation: [-100, 0, 5, 200]}]}": 2,
}


@functools.cache
def _batch() -> pa.RecordBatch:
    return pa.record_batch(
        {
            name: pa.array(rows, pa.list_(_TYPES[feature.kind]) if feature.multivalued else _TYPES[feature.kind])
            for name, (feature, rows) in COLUMNS.items()
        }
    )


@functools.cache
def _tensor(name: str) -> Any:
    return tensor(*COLUMNS[name])


def _ours(entry: str) -> pa.Array:
    bound = parse_features(f"features: {{y: {entry}}}").bind([feature for feature, _ in COLUMNS.values()])
    program = Program(bound.inputs, bound.outputs)
    columns, faults = program.read(_batch())
    assert not faults
    (found,), faults = program.compute(columns)
    assert not faults
    return found


def _theirs(entry: str) -> tuple[np.ndarray, np.ndarray]:
    """Values one after the other, and how many each row has."""
    preprocessing = parse_features(f"features: {{y: {entry}}}").bind([feature for feature, _ in COLUMNS.values()])
    given = preprocessing({item.name: _tensor(item.name) for item in preprocessing.inputs})["y"]
    if isinstance(given, tf.SparseTensor):
        return given.values.numpy(), np.bincount(given.indices.numpy()[:, 0], minlength=ROWS)
    values = given.numpy()
    return values.reshape(-1), np.full(ROWS, values[0].size)


def _flat(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    if pa.types.is_list(array.type):
        return array.flatten(), array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return array.drop_null(), array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How many float32 lie between two; 0 for two NaN, zeros of either sign, and subnormal numbers for zeros."""
    ours, theirs = (np.where(np.abs(item) < _LEAST, np.float32(0), item) for item in (ours, theirs))
    ordered = [np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) for bits in (
        values.view(np.int32).astype(np.int64) for values in (ours, theirs))]  # fmt: skip
    apart = np.abs(ordered[0] - ordered[1])
    return np.where(np.isnan(ours) & np.isnan(theirs), 0, apart)


@pytest.mark.parametrize("entry", [*EXACT, *CURVES])
def test_values_are_those_of_tensorflow(entry: str) -> None:
    (ours, counts), (theirs, their_counts) = _flat(_ours(entry)), _theirs(entry)
    np.testing.assert_array_equal(counts, their_counts)
    if ours.type == pa.float32():
        apart = _apart(ours.to_numpy(), theirs)
        worst = int(apart.argmax())
        assert apart.max() <= CURVES.get(entry, 0), (
            ours[worst],
            theirs[worst],
            int(apart.max()),
            int((apart > 0).sum()),
        )
    elif ours.type == pa.int64():
        np.testing.assert_array_equal(ours.to_numpy(), theirs)
    else:
        assert ours.to_pylist() == theirs.tolist()
