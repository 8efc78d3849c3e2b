import numpy as np
import pyarrow as pa
import pytest

from penstock.io.batches import RecordBatchCoder, drop_rows, notes_of, with_notes
from penstock.io.columns.row_notes import NOTES_TYPE, row_notes, spread_notes, with_row_notes
from penstock.io.reasons import Note
from penstock.io.reserved import NOTES

A, B = Note("schema.presence", "é", 1, "no value"), Note("rule.x", "y, z", 1, 'say "no"')


def rows(*numbers):
    return np.array(numbers, np.int64)


def noted():
    batch = pa.record_batch({"x": [0, 1, 2, 3]})
    return with_row_notes(batch, [(A, rows(0, 2, 3)), (B, rows(2))])


def counts(batch):
    return [(note.code, note.subject, note.count, note.detail) for note in row_notes(batch)]


def test_notes_are_counted_by_row():
    assert counts(noted()) == [("rule.x", "y, z", 1, 'say "no"'), ("schema.presence", "é", 3, "no value")]
    assert noted().column(NOTES).type == NOTES_TYPE


@pytest.mark.parametrize(
    ("change", "of_b", "of_a"),
    [
        (lambda batch: batch.slice(1), 1, 2),
        (lambda batch: batch.slice(1, 1), 0, 0),
        (lambda batch: drop_rows(batch, [2]), 0, 2),
        (lambda batch: batch.take(pa.array([2, 2, 0])), 2, 3),
        (lambda batch: pa.concat_batches([batch, batch]), 2, 6),
        (lambda batch: RecordBatchCoder().decode(RecordBatchCoder().encode(batch.slice(2))), 1, 2),
        (lambda batch: pa.concat_batches([with_row_notes(batch, [])]).slice(4), 0, 0),
    ],
    ids=["slice", "none", "drop", "take", "concat", "coder", "empty"],
)
def test_notes_stay_with_their_rows(change, of_b, of_a):
    found = {code: count for code, _, count, _ in counts(change(noted()))}
    assert (found.get("rule.x", 0), found.get("schema.presence", 0)) == (of_b, of_a)


def test_more_notes_of_the_same_rows():
    assert counts(with_row_notes(noted(), [(B, rows(0, 3))]))[0] == ("rule.x", "y, z", 3, 'say "no"')


def test_batches_with_other_notes_are_joined():
    batch = pa.record_batch({"x": [1]})
    parts = [with_row_notes(batch, []), with_row_notes(batch, [(B, rows(0))]), with_row_notes(batch, [(A, rows(0))])]
    assert [count for _, _, count, _ in counts(pa.concat_batches(parts))] == [1, 1]


def test_without_the_column_there_are_none():
    assert row_notes(pa.record_batch({"x": [1]})) == ()


def test_notes_about_all_rows_of_a_batch_become_notes_of_the_rows():
    whole, dropped, part = (
        Note("column.renamed", name, count, "why") for name, count in [("a", 4), ("b", 6), ("c", 3)]
    )
    batch = spread_notes(with_notes(noted(), [whole, dropped, part]))
    assert notes_of(batch) == (part,)
    found = {subject: count for _, subject, count, _ in counts(drop_rows(batch, [0]))}
    assert found == {"a": 3, "b": 3, "y, z": 1, "é": 2}
    assert spread_notes(noted()).equals(noted(), check_metadata=True)
    assert counts(spread_notes(with_notes(pa.record_batch({"x": pa.array([], pa.int64())}), [whole]))) == []
