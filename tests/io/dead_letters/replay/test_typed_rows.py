"""Rows of typed sources in dead letters: whatever their types, a replay reads the values that the file had."""

import datetime
import decimal
import functools
import math

import numpy as np
import pyarrow as pa
import pytest
from helpers import write_avro, write_orc, write_parquet, write_text, write_tfrecord
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import drop_rows, feature_names, origin_array, set_column
from penstock.io.columns.conform import conform_batch
from penstock.io.dead_letters.column_types import column_types, noted_types
from penstock.io.dead_letters.record import row_letters
from penstock.io.dead_letters.replay.format import DeadLetterFormat
from penstock.io.dead_letters.replay.typed_rows import TypedRows
from penstock.io.dead_letters.source import keep_source
from penstock.io.errors import ConfigError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.registry import choose_format
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind

SECOND = datetime.datetime(2013, 1, 31, 5, 15, 1, 250_000)
COLUMNS = {
    "bool": pa.array([True, False, None]),
    "int64": pa.array([2**53 + 1, -(2**63), None]),
    "int8": pa.array([-128, 127], pa.int8()),
    "uint64": pa.array([2**64 - 1, 5], pa.uint64()),
    "float16": pa.array(np.array([0.1, 65504.0, math.inf], np.float16)),
    "float32": pa.array([0.1, 1e-8, 16777216.0, -0.0, math.inf, math.nan, 5.0, 3.4028235e38], pa.float32()),
    "float64": pa.array([0.1, 5.0, 1e300, 5e-324, -0.0, -math.inf, math.nan, 2.0**60]),
    "decimal": pa.array([decimal.Decimal("5.00"), decimal.Decimal("-0.10"), decimal.Decimal("1.55")]),
    "decimal_small": pa.array([decimal.Decimal("0E-10"), decimal.Decimal("1E-10")]),
    "decimal_large": pa.array([decimal.Decimal("12E+3")], pa.decimal128(5, -3)),
    "decimal256": pa.array([decimal.Decimal(10) ** 60], pa.decimal256(76, 2)),
    "string": pa.array(["1.10", "1e5", "nan", "", "\u00e9\n", None, '"', "00"]),
    "large_string": pa.array(["1.10", "7"], pa.large_string()),
    "string_view": pa.array(["1.10", "7"], pa.string_view()),
    "binary": pa.array([b"1.10", b"\xff", b"", None]),
    "fixed_binary": pa.array([b"1.10", b"\xff\xfe\xfd\xfc"], pa.binary(4)),
    "dictionary": pa.array(["7", "x", "7"]).dictionary_encode(),
    "date32": pa.array([0, -719_162, 2_932_896, 2**31 - 1], pa.int32()).view(pa.date32()),
    "date32_in_range": pa.array([datetime.date(2013, 1, 31), None]),
    "date64": pa.array([datetime.date(2013, 1, 31)], pa.date64()),
    "time32": pa.array([1, 86_399_999], pa.int32()).view(pa.time32("ms")),
    "time64": pa.array([1, None, 86_399_999_999_999]).view(pa.time64("ns")),
    "seconds": pa.array([SECOND.replace(microsecond=0)], pa.timestamp("s")),
    "micros": pa.array([SECOND, None], pa.timestamp("us")),
    "nanos": pa.array([10**18 + 1, -1]).view(pa.timestamp("ns")),
    "zone": pa.array([-3_786_825_600_000_001, 0, 1_700_000_000_000_000]).view(pa.timestamp("us", "Europe/Berlin")),
    "offset": pa.array([1]).view(pa.timestamp("ns", "+01:00")),
    "far": pa.array([10**15, 0]).view(pa.timestamp("s")),
    "duration": pa.array([1500, None, -1]).view(pa.duration("ms")),
    "list": pa.array([[1, 2], [], None, [2**53 + 1]]),
    "list_of_times": pa.array([[SECOND, SECOND], None], pa.list_(pa.timestamp("us", "UTC"))),
    "list_of_texts": pa.array([["1.10", "x"], [], [b"\xff".decode("latin1")]], pa.large_list(pa.string())),
    "list_with_null": pa.array([[1.5, None], [0.1]], pa.list_(pa.float32())),
    "fixed_list": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)),
    "nulls": pa.nulls(2),
}


def letters_of(batch):
    """A dead letter of each row, after they were on disk."""
    rows = set_column(batch, ORIGIN, origin_array("f.parquet", np.arange(batch.num_rows)))
    letters = row_letters(keep_source(rows), {row: [Reason("a", "b")] for row in range(batch.num_rows)}, "validate")
    return rows, letters


def replayed(path, letters, features, **options):
    """What a replay reads: batches, and the letters that it rejects."""
    file = path / "letters.jsonl"
    file.write_text("".join(f"{line}\n" for line in letters.json_lines()))
    reader = DeadLetterFormat(**options)
    found = stat_file(str(file))
    return list(reader.read(found, next(reader.plan(found)), features))


def values(typed):
    """The values of conformed rows by position, and the reasons of the others; NaN equals itself."""
    batch, reasons = typed
    positions = batch.column(ORIGIN).field("position").to_pylist()
    faults = {positions[row]: [reason.code for reason in found] for row, found in reasons.items()}
    good = drop_rows(batch, reasons)
    names = feature_names(good)
    rows = good.select(names).to_pylist() if names else [{}] * good.num_rows
    kept = zip(good.column(ORIGIN).field("position").to_pylist(), rows, strict=True)
    return {position: repr(row) for position, row in kept}, faults


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_values_of_any_type_go_through_a_schema_as_they_did_at_first(column, tmp_path):
    rows, letters = letters_of(pa.record_batch({"x": column}))
    for kind in Kind:
        features = [Feature("x", kind)]
        try:
            expected = values(conform_batch(rows, features))
        except ConfigError:  # no feature of this kind can hold it, at first and in the replay
            with pytest.raises(ConfigError, match="column 'x' has type"):
                conform_batch(replayed(tmp_path, letters, features)[0].batch, features)
            continue
        (parsed,) = replayed(tmp_path, letters, features)
        assert not len(parsed.rejected)
        assert values(conform_batch(parsed.batch, features)) == expected
        again = row_letters(parsed.with_source(), {row: [Reason("a", "b")] for row in range(len(column))}, "validate")
        assert [(item.payload, item.payload_columns) for item in again] == [
            (item.payload, item.payload_columns) for item in letters
        ]


@given(
    st.lists(
        st.tuples(st.none() | st.floats(width=32), st.none() | st.floats(), st.integers(-(2**63), 2**63 - 1)),
        min_size=1,
    )
)
def test_numbers_are_exact(rows):
    types = {"f": pa.float32(), "d": pa.float64(), "i": pa.int64()}
    columns = zip(types.items(), zip(*rows, strict=True), strict=True)
    batch = pa.record_batch({name: pa.array(found, kind) for (name, kind), found in columns})
    _, letters = letters_of(batch)
    (note,) = set(letters.lists["payload_columns"])
    decoder = TypedRows(noted_types(note), [Feature(name, Kind.FLOAT) for name in types])
    decoded = decoder.decode(pa.array([text.encode() for text in letters.lists["payload"]]))
    assert not decoded.faults
    for name in types:
        assert decoded.columns[name].type == batch.column(name).type
        assert repr(decoded.columns[name].to_pylist()) == repr(batch.column(name).to_pylist())


def test_types_are_noted_by_name():
    note = column_types(pa.schema([(name, column.type) for name, column in COLUMNS.items()]))
    assert noted_types(note)["zone"] == pa.timestamp("us", "Europe/Berlin")
    assert noted_types(note)["decimal_large"] == pa.decimal128(5, -3)
    assert {"string", "dictionary", "list_of_texts"}.isdisjoint(noted_types(note))
    assert noted_types(column_types(pa.schema([("m", pa.map_(pa.string(), pa.int64()))]))) == {}


@pytest.mark.parametrize(
    ("payload", "code", "detail"),
    [
        ('{"i": "x", "t": 1}', "jsonl.type", "column 'i': 'x' is no int64, the type that the letter names"),
        ('{"i": 1.5}', "jsonl.type", "column 'i': '1.5' is no int64"),
        ('{"t": "tomorrow"}', "jsonl.type", "column 't': 'tomorrow' is no timestamp"),
        ('{"s": {"base64": "/w=="}}', "jsonl.type", "column 's': b'\\xff' is no string"),
        ('{"s": {"base64": "?"}}', "jsonl.type", "column 's': '?' is not base64"),
        ('{"s": {"a": 1}}', "jsonl.type", "column 's': {'a': '1'} is neither a value nor a list of values"),
        ('{"s": [["a"]]}', "jsonl.type", "column 's': [['a']] is neither"),
        ("[1]", "jsonl.not_object", "not an object"),
        ('{"i":', "jsonl.parse", "the payload is not JSON"),
    ],
)
def test_payloads_that_do_not_fit_their_types_are_rejected_by_name(payload, code, detail):
    noted = {"i": pa.int64(), "t": pa.timestamp("us")}
    decoder = TypedRows(noted, [Feature(name, Kind.BYTES) for name in ("i", "t", "s")])
    decoded = decoder.decode(pa.array([b'{"i": 7}', payload.encode(), b'{"s": "a", "other": {}}']))
    assert decoded.indices.tolist() == [0, 2]
    assert decoded.columns["i"].to_pylist() == [7, None]
    assert decoded.columns["s"].to_pylist() == [None, "a"]
    (reason,) = decoded.faults[1]
    assert reason.code == code
    assert detail in reason.detail


ROWS = [{"text": "1.10"}, {"text": 'a "b",\u00e9'}, {"text": ""}]
WRITERS = {
    "avro": functools.partial(write_avro, types={"text": "string"}),
    "parquet": lambda path, rows: write_parquet(path, pa.Table.from_pylist(rows), 7),
    "orc": lambda path, rows: write_orc(path, pa.Table.from_pylist(rows), 7),
    "tfrecord": write_tfrecord,
    "txt": write_text,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_of_each_format_come_back_from_what_was_kept_of_them(suffix, tmp_path):
    file = stat_file(str(WRITERS[suffix](tmp_path / f"in.{suffix}", ROWS)))
    entry = choose_format(None, [file.uri])
    features = [Feature("text", Kind.BYTES, multivalued=False)]
    reader = entry.make()
    batches = [parsed for part in reader.plan(file) for parsed in reader.read(file, part, features)]
    rows = pa.concat_batches([conform_batch(parsed.with_source(), features)[0] for parsed in batches])
    letters = row_letters(rows, {row: [Reason("a", "b")] for row in range(rows.num_rows)}, "write")
    is_typed = suffix in ("avro", "parquet", "orc")
    assert is_typed == (set(letters.lists["payload_encoding"]) == {"json"})
    again = replayed(tmp_path, letters, features, format=entry.name)
    typed = [conform_batch(parsed.batch, features)[0] for parsed in again]
    assert [row for batch in typed for row in batch.select(["text"]).to_pylist()] == rows.select(["text"]).to_pylist()
