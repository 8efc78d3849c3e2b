"""What operations that are not fitted compute without TensorFlow, against TensorFlow's graphs on hostile rows."""

import math
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hostile_rows import ROWS, hostile_batch, hostile_rows

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.fitted_features import FittedFeatures
from penstock.transforms.features.arrow.fitted_file import write_fitted
from penstock.transforms.features.arrow.program import Program
from penstock.transforms.features.functions import parse_features
from penstock.transforms.features.operations import OPERATIONS
from penstock.transforms.features.tensors.arrays import graph_column

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_transform")
TFGraphContext = pytest.importorskip("tensorflow_transform.graph_context").TFGraphContext

# The least number that is not subnormal, and what a number may lack that is computed from one.
_TINY, _SMALL = np.float32(1.17549435e-38), np.float32(4e-38)

# An entry, and by how many units in the last place a FLOAT may differ.
CASES: dict[str, tuple[str, int]] = {
    **{f"{name}_int": (f"{{input: i, ops: [{name}]}}", 0) for name in ("abs", "negative", "square")},
    "sign_int": ("{input: wide, ops: [sign]}", 0),
    **{
        name: (f"{{input: x, ops: [{name}]}}", 0)
        for name in ("abs", "negative", "sign", "round", "floor", "ceil", "trunc", "square")
    },
    "abs_list": ("{input: list, ops: [abs]}", 0),
    **{f"{name}_int": (f"{{input: wide, ops: [{name}]}}", 4) for name in ("log", "log1p", "sqrt")},
    "exp_int": ("{input: i, ops: [exp]}", 4),
    **{f"{name}_abs": (f"{{input: x, ops: [abs, {name}]}}", 4) for name in ("log", "log1p", "sqrt")},
    "exp": ("{input: x, ops: [exp]}", 4),
    **{f"pow_{exponent}": (f"{{input: x, ops: [abs, {{pow: {exponent}}}]}}", 4) for exponent in (0.5, 2, -1, 1.7, 0)},
    "pow_3": ("{input: x, ops: [{pow: 3}]}", 4),
    "pow_int": ("{input: wide, ops: [{pow: 1.5}]}", 4),
    **{
        f"{name}_columns": (f"{{inputs: [x, y], ops: [{name}]}}", 0)
        for name in ("add", "subtract", "multiply", "divide", "floordiv", "floormod", "maximum", "minimum")
    },
    **{
        f"{name}_int_columns": (f"{{inputs: [wide, j], ops: [{name}]}}", 0)
        for name in ("divide", "floordiv", "floormod", "maximum", "minimum")
    },
    **{f"{name}_int_columns": (f"{{inputs: [i, i], ops: [{name}]}}", 0) for name in ("add", "subtract", "multiply")},
    **{
        f"{name}_value": (f"{{input: x, ops: [{{{name}: 2.5}}]}}", 0)
        for name in ("add", "subtract", "multiply", "floormod", "maximum", "minimum")
    },
    "divide_value": ("{input: x, ops: [{divide: 3}]}", 1),
    "divide_int_value": ("{input: wide, ops: [{divide: 7}]}", 1),
    **{
        f"{name}_int_value": (f"{{input: wide, ops: [{{{name}: -3}}]}}", 0)
        for name in ("floordiv", "floormod", "maximum", "minimum")
    },
    **{f"{name}_int_value": (f"{{input: i, ops: [{{{name}: -3}}]}}", 0) for name in ("add", "subtract", "multiply")},
    "maximum_dense": ("{inputs: [sure, wide], ops: [maximum]}", 0),
    "add_to_list": ("{inputs: [pair, y], ops: [add]}", 0),
    "subtract_lists": ("{inputs: [pair, pair], ops: [subtract]}", 0),
    "clip_by_value": ("{input: x, ops: [{clip_by_value: {min: -0.5, max: 2}}]}", 0),
    "clip_by_value_int": ("{input: wide, ops: [{clip_by_value: {max: 100}}]}", 0),
    "cast_to_int": ("{input: i, ops: [{cast: float}, {multiply: 1.37}, {cast: int}]}", 0),
    "cast_to_float": ("{input: wide, ops: [{cast: float}]}", 0),
    "apply_buckets": ("{input: x, ops: [{apply_buckets: [-1.5, 0, 0.1, 2.5]}]}", 0),
    "apply_buckets_int": (
        "{input: wide, ops: [{apply_buckets: [-9007199254740993, 0.5, 9007199254740993, 1.0e+19]}]}",
        0,
    ),
    "apply_buckets_with_interpolation": (
        "{input: x, ops: [{apply_buckets_with_interpolation: [-1.5, 0, 0.1, 2.5]}]}",
        2,
    ),
    "interpolation_far": ("{input: x, ops: [{apply_buckets_with_interpolation: [-3.0e+38, 3.0e+38]}]}", 2),
    "interpolation_one": ("{input: x, ops: [{apply_buckets_with_interpolation: [0.5]}]}", 0),
    "interpolation_int": ("{input: i, ops: [{apply_buckets_with_interpolation: [-9, 0.5, 7]}]}", 2),
    "interpolation_large": (
        "{input: wide, ops: [{apply_buckets_with_interpolation: [-9007199254740993, 0, 9007199254740993]}]}",
        2,
    ),
    **{
        f"{name}_columns": (f"{{inputs: [x, y], ops: [{name}]}}", 0)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
    **{
        f"{name}_int": (f"{{input: wide, ops: [{{{name}: 7}}]}}", 0)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
    "equal_texts": ("{inputs: [text, other], ops: [equal]}", 0),
    "not_equal_text": ("{input: text, ops: [{not_equal: 'Äö ß'}]}", 0),
    "logical_and": ("{inputs: [wide, j, sure], ops: [logical_and]}", 0),
    "logical_or": ("{inputs: [i, j], ops: [logical_or]}", 0),
    "logical_not": ("{input: list, ops: [logical_not]}", 0),
    **{name: (f"{{input: text, ops: [{name}]}}", 0) for name in ("lower", "upper", "strip", "length")},
    "upper_words": ("{input: words, ops: [upper]}", 0),
    **{
        f"substr_{start}_{length}": (f"{{input: text, ops: [{{substr: {{start: {start}, length: {length}}}}}]}}", 0)
        for start, length in ((0, 3), (2, 2), (-3, 2), (-1, 99), (1, 0), (5, 2**62))
    },
    "substr_to_the_end": ("{input: text, ops: [{substr: {start: 3}}]}", 0),
    "substr_far": ("{input: text, ops: [{substr: {start: -9223372036854775808}}]}", 0),
    "as_string": ("{input: wide, ops: [as_string]}", 0),
    "to_number_int": ("{input: whole, ops: [{to_number: int}]}", 0),
    "to_number_float": ("{input: numeral, ops: [{to_number: float}]}", 0),
    "regex_replace": (r"{input: text, ops: [{regex_replace: {pattern: '([a-c]*)\s', rewrite: '<\1\0>'}}]}", 0),
    "regex_replace_empty": ("{input: text, ops: [{regex_replace: {pattern: 'b*', rewrite: '-'}}]}", 0),
    "regex_full_match": (r"{input: text, ops: [{regex_full_match: '(?i)[a-zä]*|\pL.*|aa|a'}]}", 0),
    "regex_extract": ("{input: text, ops: [{regex_extract: '[a-cä]+'}]}", 0),
    "regex_extract_group": (r"{input: text, ops: [{regex_extract: {pattern: '(.)(\s|$)', group: 2}}]}", 0),
    "regex_extract_words": ("{input: words, ops: [{regex_extract: '[B-Z]|^$'}]}", 0),
    "join": ("{inputs: [text, other], ops: [{join: '|'}]}", 0),
    "split": ("{input: text, ops: [split]}", 0),
    "split_at": ("{input: text, ops: [{split: aa}]}", 0),
    "split_default": ("{input: text, default: 'p q', ops: [split]}", 0),
    "ngrams": ("{input: words, ops: [{ngrams: {ngram_range: [1, 3], separator: _}}]}", 0),
    "ngrams_long": ("{input: words, ops: [{ngrams: [4, 9]}]}", 0),
    "bag_of_words": ("{input: words, ops: [{bag_of_words: [1, 2]}]}", 0),
    "hash_strings": ("{input: text, ops: [{hash_strings: 1000}]}", 0),
    **{f"parse_time_{unit}": (f"{{input: time, ops: [{{parse_time: {unit}}}]}}", 0) for unit in ("ns", "us", "s", "d")},
    **{
        f"{part}_of_text": (f"{{input: time, ops: [{{time_part: {part}}}]}}", 0)
        for part in ("year", "quarter", "month", "week", "day", "weekday", "day_of_year", "hour", "minute", "second")
    },
    "week_of_int": ("{input: seconds, ops: [{time_part: {part: week, unit: s}}]}", 0),
    "hour_of_int": ("{input: i, ops: [{time_part: {part: hour, unit: ms}}]}", 0),
    "time_sin": ("{input: time, ops: [{time_sin: day_of_year}]}", 0),
    "time_cos": ("{input: seconds, ops: [{time_cos: {part: minute, unit: s}}]}", 0),
    "days_since": ("{input: time, ops: [{days_since: 2026-01-31T12:00+01:00}]}", 1),
    "days_since_int": ("{inputs: [seconds, seconds], ops: [{days_since: {unit: s}}]}", 1),
    **{
        f"{name}_{column}": (f"{{input: {column}, ops: [{name}]}}", 0)
        for name in ("is_missing", "list_count")
        for column in ("text", "x", "words", "pair")
    },
    "coalesce": ("{inputs: [x, y], ops: [coalesce]}", 0),
    "coalesce_texts": ("{inputs: [text, other], ops: [coalesce]}", 0),
    "where": ("{inputs: [i, x, y], ops: [where]}", 0),
    "where_text": ("{inputs: [wide, text], ops: [{where: {else: '-'}}]}", 0),
    "where_constants": ("{input: i, ops: [{where: {then: 1.5, else: -2}}]}", 0),
    **{
        f"{name}_{column}": (f"{{input: {column}, ops: [{{{name}: {values}}}]}}", 0)
        for name in ("is_in", "index_in")
        for column, values in (("text", "['', a, aa]"), ("words", "[' ', b]"), ("wide", "[7, -1, 9223372036854775807]"))
    },
    "lookup": ("{input: text, ops: [{lookup: {map: {a: 1, '': 2}, default: 0}}]}", 0),
    "lookup_or_missing": ("{input: wide, ops: [{lookup: {map: {7: x, -1: ''}}}]}", 0),
    "one_hot": ("{input: wide, ops: [{floormod: 9}, {one_hot: 5}]}", 0),
    "one_hot_list": ("{input: list, ops: [{one_hot: 8}]}", 0),
    "one_hot_dense": ("{input: sure, ops: [{one_hot: 3}]}", 0),
    "count_hot": ("{input: list, ops: [{floormod: 3}, {count_hot: 2}]}", 0),
    **{
        f"list_{name}_{column}": (f"{{input: {column}, ops: [list_{name}]}}", 0)
        for name, columns in (
            ("min", ["list"]),
            ("max", ["list"]),
            ("sum", ["pair"]),
            ("mean", ["pair"]),
        )
        for column in columns
    },
    **{
        f"list_{name}_list": (f"{{input: list, ops: [{{floormod: 1152921504606846883}}, list_{name}]}}", 0)
        for name in ("sum", "mean")
    },
    "tfidf_terms": ("{input: list, ops: [{tfidf_terms: 7}]}", 0),
    "days_since_ms": ("{inputs: [i, i], ops: [{days_since: {unit: ms}}]}", 1),
}


@pytest.fixture(scope="module")
def batch() -> pa.RecordBatch:
    return hostile_batch()


@pytest.mark.parametrize(("entry", "units"), CASES.values(), ids=CASES.keys())
def test_values_and_faults_are_those_of_tensorflow(
    entry: str, units: int, batch: pa.RecordBatch, tmp_path: Path
) -> None:
    bound = parse_features(f"features: {{y: {entry}}}").bind([feature for feature, _ in hostile_rows().values()])
    write_fitted(Program(bound.inputs, bound.outputs), str(tmp_path))
    features, faults = FittedFeatures(str(tmp_path)).apply(batch)
    theirs, failed = _tensorflow_rows(bound, batch, suspected=sorted(faults))
    assert sorted(faults) == sorted(failed)
    assert all(len(text) > 10 for text in faults.values())
    wrong = _different(features.column("y"), theirs, units)
    if wrong.any():
        # TensorFlow takes subnormal numbers for 0.
        flushed, _ = FittedFeatures(str(tmp_path)).apply(_flushed(batch))
        wrong &= _different(flushed.column("y"), theirs, units, any_zero=True)
    kept = np.delete(np.arange(ROWS), sorted(faults))
    wrong[wrong] = ~_lost_by_tensorflow(entry, bound, batch, features.column("y"), theirs, np.flatnonzero(wrong), kept)
    found = [
        (
            [batch.column(item.name)[int(kept[at])].as_py() for item in bound.inputs],
            features.column("y")[at],
            theirs[at],
        )
        for at in np.flatnonzero(wrong)[:5].tolist()
    ]
    assert not found, f"{wrong.sum()} rows"


# What Python's integers, which are of any size, make of INTs.
_EXACT: dict[str, tuple[str, Any]] = {
    "abs": ("{input: wide, ops: [abs]}", abs),
    "negative": ("{input: wide, ops: [negative]}", operator.neg),
    "square": ("{input: wide, ops: [square]}", lambda x: x * x),
    "add": ("{inputs: [wide, j], ops: [add]}", operator.add),
    "subtract": ("{inputs: [wide, j], ops: [subtract]}", operator.sub),
    "subtract_value": ("{input: wide, ops: [{subtract: 9223372036854775807}]}", lambda x: x - (2**63 - 1)),
    "multiply": ("{inputs: [wide, j], ops: [multiply]}", operator.mul),
    "multiply_value": ("{input: wide, ops: [{multiply: -3}]}", lambda x: -3 * x),
    "floordiv": ("{input: wide, ops: [{floordiv: -1}]}", operator.neg),
    "list_sum": ("{input: list, ops: [list_sum]}", lambda *values: sum(values)),
    "list_mean": ("{input: list, ops: [list_mean]}", lambda *values: sum(values)),
    "cast": ("{input: x, ops: [{cast: int}]}", lambda x: int(x) if math.isfinite(x) else 2**63),
}


@pytest.mark.parametrize("name", _EXACT)
def test_a_row_is_rejected_where_int64_cannot_hold_the_result(name: str, batch: pa.RecordBatch, tmp_path: Path) -> None:
    entry, exact = _EXACT[name]
    bound = parse_features(f"features: {{y: {entry}}}").bind([feature for feature, _ in hostile_rows().values()])
    write_fitted(Program(bound.inputs, bound.outputs), str(tmp_path))
    rows = list(zip(*(batch.column(name).to_pylist() for name in bound.outputs[0].entry.inputs), strict=True))
    operands = [row[0] if isinstance(row[0], list) else row for row in rows]
    results = [None if not row or None in row else exact(*row) for row in operands]
    beyond = {row for row, result in enumerate(results) if result is not None and not -(2**63) <= result < 2**63}
    assert 5 < len(beyond) < ROWS
    features, faults = FittedFeatures(str(tmp_path)).apply(batch)
    assert set(faults) == beyond
    assert set(faults.values()) <= {"y: the result of INTs is beyond int64", "y: a FLOAT is NaN or beyond int64"}
    if name != "list_mean":
        assert features.column("y").to_pylist() == [each for row, each in enumerate(results) if row not in beyond]
    some = [*sorted(beyond)[:20], *(row for row in range(50) if row not in beyond)]
    _, failed = _tensorflow_rows(bound, batch.take(pa.array(some)), suspected=range(min(len(beyond), 20)))
    assert set(failed) == set(range(min(len(beyond), 20)))


def test_every_operation_that_is_not_fitted_is_tested() -> None:
    names = {name for name, operation in OPERATIONS.items() if not operation.fitted}
    assert not {name for name in names if not any(name in case for case, _ in CASES.values())}


def _lost_by_tensorflow(
    entry: str, bound: Any, batch: pa.RecordBatch, mine: pa.Array, theirs: pa.Array, places: Any, kept: Any
) -> Any:
    """Which of these differences come of TensorFlow's digits: in tiny powers it loses some, a tiny quotient is 0."""
    if "pow" in entry:
        one, other = (np.array([_number(values[at]) for at in places.tolist()], float) for values in (mine, theirs))
        return (np.abs(one) < 1e-32) & (np.abs(one - other) < 1e-3 * np.abs(one))
    if "floordiv" in entry and len(bound.inputs) == 2:
        x, y = (
            np.array([_number(batch.column(item.name)[int(at)]) for at in kept[places]], float) for item in bound.inputs
        )
        return np.abs(x / y) < _TINY
    return np.zeros(len(places), bool)


def _number(scalar: pa.Scalar) -> float:
    found = scalar.as_py()
    return found[0] if isinstance(found, list) else found


def _flushed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same batch with 0 for subnormal numbers, as TensorFlow reads it."""
    arrays = []
    for name in batch.schema.names:
        column = batch.column(name)
        is_list = pa.types.is_list(column.type)
        values = column.values if is_list else column
        if pa.types.is_float32(values.type):
            numbers = values.to_numpy(zero_copy_only=False)
            zeroed = np.where(np.abs(numbers) < _TINY, np.copysign(np.float32(0), numbers), numbers)
            found = pa.array(zeroed, mask=values.is_null().to_numpy(zero_copy_only=False))
            column = pa.ListArray.from_arrays(column.offsets, found, mask=column.is_null()) if is_list else found
        arrays.append(column)
    return pa.record_batch(arrays, batch.schema.names)


def _different(mine: pa.Array, theirs: pa.Array, units: int, any_zero: bool = False) -> Any:
    """Which rows have another number of values, or a value that is not the same."""
    mine = mine if pa.types.is_list(mine.type) else _as_lists(mine)
    (counts, one), (others, other) = ((_counts(lists), lists.flatten()) for lists in (mine, theirs))
    assert len(counts) == len(others)
    if (counts != others).any():
        return counts != others
    same = _same(one, other, units, any_zero)
    return np.bincount(np.repeat(np.arange(len(counts)), counts)[~same], minlength=len(counts)) > 0


def _counts(lists: pa.Array) -> Any:
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)


def _as_lists(column: pa.Array) -> pa.Array:
    counts = column.is_valid().to_numpy(zero_copy_only=False).astype(np.int32)
    return pa.ListArray.from_arrays(np.append(np.int32(0), np.cumsum(counts, dtype=np.int32)), column.drop_null())


def _same(mine: pa.Array, theirs: pa.Array, units: int, any_zero: bool) -> Any:
    assert mine.type == theirs.type
    if not pa.types.is_float32(mine.type):
        return pc.equal(mine, theirs).to_numpy(zero_copy_only=False)
    one, other = mine.to_numpy(), theirs.to_numpy()
    tiny = (np.abs(one) < _SMALL) & (np.abs(other) < _SMALL) & (any_zero | (one != 0) | (other != 0))
    near = np.abs(_ordered(one) - _ordered(other)) <= units
    return near | tiny | (np.isnan(one) & np.isnan(other)) | ((units > 0) & (one == other))


def _ordered(numbers: Any) -> Any:
    """Numbers whose differences are units in the last place; -0.0 is 1 below 0.0."""
    bits = numbers.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - 1 - bits, bits)


def _tensorflow_rows(bound: Any, batch: pa.RecordBatch, suspected: Sequence[int]) -> tuple[pa.Array, dict[int, str]]:
    """The rows that TensorFlow's graph computes, as lists, and the others with what it says.

    Rows that are suspected are tried one by one; all others together, and halved where one of them fails too. A row
    that is suspected and does not fail is not among the lists.
    """
    columns = {item.name: graph_column(batch, item.name, item.kind)[0] for item in bound.inputs}
    specs = {
        item.name: tf.TensorSpec([None], _DTYPES[item.kind])
        if item.dense
        else tf.SparseTensorSpec([None, None], _DTYPES[item.kind])
        for item in bound.inputs
    }

    def function(inputs: dict[str, Any]) -> Any:
        return bound(inputs)["y"]

    # A graph's tables must be tracked, which tensorflow-transform does; without one they are made when they are called.
    if not {step.name for output in bound.outputs for step in output.entry.steps} & {"is_in", "index_in", "lookup"}:
        function = tf.function(function, input_signature=[specs], autograph=False)
    found: list[pa.Array] = []
    faults: dict[int, str] = {}
    others = np.delete(np.arange(batch.num_rows), suspected)
    # Without a context of its own, tensorflow-transform takes what a job before it left in this thread, which is None.
    with TFGraphContext(tf.Module()):
        for row in suspected:
            ((_, _, result),) = _pieces(function, bound, columns, row, row + 1)
            if isinstance(result, str):
                faults[row] = result
        columns = {item.name: graph_column(batch.take(others), item.name, item.kind)[0] for item in bound.inputs}
        for start, end, result in _pieces(function, bound, columns, 0, len(others)):
            if isinstance(result, str):
                faults[int(others[start])] = result
            else:
                found.append(_lists(result, end - start))
    return pa.concat_arrays(found), faults


_DTYPES = {Kind.INT: tf.int64, Kind.FLOAT: tf.float32, Kind.BYTES: tf.string}


def _pieces(function: Any, bound: Any, columns: Any, start: int, end: int) -> Iterator[tuple[int, int, Any]]:
    """Yields the results of halves and halves of these, until the rows that fail are alone."""
    parts = {item.name: columns[item.name].slice(start, end) for item in bound.inputs}
    try:
        yield start, end, function({item.name: _tensor(item, parts[item.name]) for item in bound.inputs})
        return
    except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
        if end - start == 1:
            yield start, end, str(error)
            return
    # Rows that fail are mostly among the first.
    middle = start + (end - start) // (16 if end - start > 1000 else 2)
    yield from _pieces(function, bound, columns, start, middle)
    yield from _pieces(function, bound, columns, middle, end)


def _tensor(item: Any, column: Any) -> Any:
    values = tf.constant(column.values, _DTYPES[item.kind])
    if item.dense:
        return values
    width = int(column.lengths.max(initial=0))
    return tf.SparseTensor(column.indices, values, [len(column), width])


def _lists(result: Any, rows: int) -> pa.Array:
    if not isinstance(result, tf.SparseTensor):
        if result.shape.rank == 2:
            ends = np.arange(rows + 1) * result.shape[1]
            return pa.ListArray.from_arrays(ends.astype(np.int32), _array(tf.reshape(result, [-1])))
        return _as_lists(_array(result))
    counts = np.bincount(result.indices.numpy()[:, 0], minlength=rows)
    offsets = np.append(0, np.cumsum(counts)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, _array(result.values))


def _array(values: Any) -> pa.Array:
    return pa.array(values.numpy(), pa.binary() if values.dtype == tf.string else None)
