"""Rejected rows as columns: their letters, and the rows themselves."""

import pyarrow as pa
import pytest

from penstock.io.batches import RecordBatchCoder, origin_array
from penstock.io.dead_letters.record import RejectedBatch, RejectedBatchCoder, raw_letter, row_letters
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN

WHY = [Reason("rule.fare", "fare > 0 is false")]


def batch():
    columns = {"fare": [1.0, None, -3.0], "tags": [["a"], [], None]}
    return pa.record_batch({**columns, ORIGIN: origin_array("a.csv", [0, 5, 9])})


def test_rows_of_letters_are_those_that_were_rejected_without_reserved_columns():
    rejected = row_letters(batch(), {2: WHY, 0: WHY}, "validate")
    assert rejected.rows.to_pylist() == [{"fare": 1.0, "tags": ["a"]}, {"fare": -3.0, "tags": None}]
    assert rejected.lists["position"] == [0, 9]


def test_rows_may_be_those_of_a_schema_beside_what_was_read():
    typed = pa.record_batch({"fare": [1, None, -3]})
    rejected = row_letters(batch(), {1: WHY}, "read", typed=typed)
    assert rejected.rows.to_pylist() == [{"fare": None}]
    assert '"tags": []' in rejected.lists["payload"][0]


def test_rows_of_view_types_can_be_taken():
    rows = pa.record_batch({"text": pa.array(["a", "b"], pa.string_view())})
    assert row_letters(rows, {1: WHY}, "validate").rows.to_pylist() == [{"text": "b"}]


@pytest.mark.parametrize(
    "rejected",
    [
        pytest.param(row_letters(batch(), {1: WHY, 2: WHY}, "validate"), id="rows"),
        pytest.param(RejectedBatch.of([raw_letter(WHY, "read", "a.csv", 7, b"x,y")]), id="a line that is no row"),
        pytest.param(RejectedBatch.of([]), id="empty"),
    ],
)
def test_a_coder_keeps_letters_and_rows(rejected):
    coder = RejectedBatchCoder()
    decoded = coder.decode(coder.encode(rejected))
    assert list(decoded) == list(rejected)
    assert (decoded.rows is None) == (rejected.rows is None)
    assert rejected.rows is None or decoded.rows.equals(rejected.rows)


def test_what_an_older_release_encoded_is_read():
    rejected = RejectedBatch.of([raw_letter(WHY, "read", "a.csv", 7, b"x,y")])
    assert list(RejectedBatchCoder().decode(RecordBatchCoder().encode(rejected.letters))) == list(rejected)


def test_a_filter_takes_letters_and_their_rows():
    rejected = row_letters(batch(), {0: WHY, 2: WHY}, "validate").filter(pa.array([False, True]))
    assert rejected.lists["position"] == [9]
    assert rejected.rows.column("fare").to_pylist() == [-3.0]
