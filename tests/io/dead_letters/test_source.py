"""What was read of rows: it survives every step, is not copied, and becomes the payload of dead letters."""

import json

import numpy as np
import pyarrow as pa
import pytest

from penstock.io.batches import RecordBatchCoder, data_bytes, drop_rows, feature_names, set_column, split_batch
from penstock.io.dead_letters.record import row_letters
from penstock.io.dead_letters.source import bytes_source, json_source, keep_source, payloads_of, span_source
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME, SOURCE

BLOCK = b"a,1.10\nx\r\n\n\xff,2\r\n"
STARTS, ENDS = np.array([0, 7, 11]), np.array([6, 8, 14])
PAYLOADS = [("a,1.10", "text"), ("x", "text"), ("/ywy", "base64")]


def payloads(source):
    found = payloads_of(source)
    return list(zip(found.texts, found.encodings, strict=True))


def test_bytes_in_a_block_are_its_bytes_without_what_lies_between():
    source = span_source(BLOCK, STARTS, ENDS, '["p"]')
    assert payloads(source) == PAYLOADS
    assert payloads_of(source).columns == ['["p"]'] * 3
    assert source.field("bytes").buffers()[2].address == pa.py_buffer(BLOCK).address
    assert payloads(span_source(b"", STARTS[:0], ENDS[:0])) == []


SOURCES = {
    "spans": (span_source(BLOCK, STARTS, ENDS, '["p"]'), PAYLOADS),
    "bytes": (
        bytes_source(pa.array([b"a\n", b"", b"\xff"], pa.large_binary())),
        [("a\n", "text"), ("", "text"), ("/w==", "base64")],
    ),
    "json": (
        json_source(pa.array(["{}", "7", "x"]), pa.array([None, "{}", "a"])),
        [("{}", "json"), ("7", "json"), ("x", "json")],
    ),
    "row": (
        keep_source(pa.record_batch({"n": ["1.10", None, "nan"]})).column(SOURCE),
        [('{"n": "1.10"}', "json"), ("{}", "json"), ('{"n": "nan"}', "json")],
    ),
}


@pytest.mark.parametrize(("source", "expected"), SOURCES.values(), ids=SOURCES)
def test_it_survives_what_steps_do_to_batches(source, expected):
    batch = pa.record_batch({"x": pa.array([1, 2, 3]), SOURCE: source})
    assert payloads(batch.column(SOURCE)) == expected
    changed = {
        "slice": (batch.slice(1), expected[1:]),
        "take": (batch.take(pa.array([2, 0])), [expected[2], expected[0]]),
        "drop": (drop_rows(batch, [1]), [expected[0], expected[2]]),
        "concat": (pa.concat_batches([batch.slice(2), batch.slice(0, 1)]), [expected[2], expected[0]]),
        "cross": (RecordBatchCoder().decode(RecordBatchCoder().encode(batch.slice(1, 1))), expected[1:2]),
    }
    assert {name: payloads(rows.column(SOURCE)) for name, (rows, _) in changed.items()} == {
        name: payload for name, (_, payload) in changed.items()
    }
    letters = row_letters(batch, {2: [Reason("a", "b")]}, "write")
    assert [(letter.payload, letter.payload_encoding) for letter in letters] == expected[2:]


def test_rows_of_a_typed_source_note_their_types():
    columns = {"i": pa.array([2**53 + 1]), "f": pa.array([0.1], pa.float32()), "t": ["x"], "l": [[1.5]]}
    (letter,) = row_letters(keep_source(pa.record_batch(columns)), {0: [Reason("a", "b")]}, "validate")
    assert letter.payload == '{"i": 9007199254740993, "f": 0.1, "t": "x", "l": [1.5]}'
    assert json.loads(letter.payload_columns) == {"i": "int64", "f": "float", "l": "double"}


def test_columns_are_kept_as_they_are_whatever_becomes_of_them():
    batch = pa.record_batch({"x": [1, None, 3], "s": ["a", "b", None], EVENT_TIME: [5, 6, 7]})
    kept = set_column(keep_source(batch), "x", pa.array([0.5] * 3))
    assert feature_names(kept) == ["x", "s"]
    assert [text for text, _ in payloads(kept.column(SOURCE))] == ['{"x": 1, "s": "a"}', '{"s": "b"}', '{"x": 3}']
    assert keep_source(kept).column(SOURCE).equals(kept.column(SOURCE))
    assert payloads(keep_source(batch.select([EVENT_TIME])).column(SOURCE)) == [("{}", "json")] * 3


def test_batches_are_as_large_with_it_as_without():
    batch = pa.record_batch({"x": np.arange(30_000)})
    block = b"x" * (8 << 20)
    bounds = np.linspace(0, len(block), 30_001).astype(np.int64)
    kept = set_column(batch, SOURCE, span_source(block, bounds[:-1], bounds[1:]))
    assert data_bytes(kept) == batch.nbytes < kept.nbytes
    assert len(list(split_batch(kept))) == len(list(split_batch(batch))) == 1
