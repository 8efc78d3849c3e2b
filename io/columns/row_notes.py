"""Notes of single rows, which travel with them in the column `_notes` and are counted where the rows are written.

The column is a list of dictionary texts: a text for each note, whatever the number of its rows.
"""

import json
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.batches import notes_of, set_column, with_notes, without_notes
from penstock.io.kernel.shared.offsets import list_lengths, starts_of
from penstock.io.reasons import Note, merge_notes
from penstock.io.reserved import NOTES

NOTES_TYPE = pa.list_(pa.dictionary(pa.int32(), pa.string()))

Rows = npt.NDArray[np.int64]


def with_row_notes(batch: pa.RecordBatch, notes: Iterable[tuple[Note, Rows]]) -> pa.RecordBatch:
    """Attaches notes to rows, beside those that they have; adds the column though there are none.

    Args:
      batch: the rows.
      notes: each with the indices of its rows, ascending; its count does not matter.
    """
    texts, numbers, owners = _taken_apart(batch)
    for note, rows in notes:
        numbers.append(np.full(len(rows), len(texts), np.int32))
        owners.append(rows)
        texts.append(json.dumps([note.code, note.subject, note.detail], ensure_ascii=False))
    if not texts:
        return set_column(batch, NOTES, pa.nulls(batch.num_rows, NOTES_TYPE))
    rows = np.concatenate(owners)
    order = np.argsort(rows, kind="stable")
    items = pa.DictionaryArray.from_arrays(pa.array(np.concatenate(numbers)[order]), pa.array(texts, pa.string()))
    starts = starts_of(np.bincount(rows, minlength=batch.num_rows))
    return set_column(batch, NOTES, pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), items))


def spread_notes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turns those notes of a batch that are about all of its rows into notes of the rows.

    So they go with each row, wherever a later step cuts the batch or drops rows of it.
    """
    notes = notes_of(batch)
    of_all = [note for note in notes if note.count >= batch.num_rows]  # more, where rows are dropped by now
    if not of_all:
        return batch
    rows = np.arange(batch.num_rows)
    rest = with_notes(without_notes(batch), [note for note in notes if note not in of_all])
    return with_row_notes(rest, [(note, rows) for note in of_all])


def row_notes(batch: pa.RecordBatch) -> tuple[Note, ...]:
    """Returns the notes of the rows of a batch, with the number of rows that each is about."""
    texts, numbers, _ = _taken_apart(batch)
    if not texts:
        return ()
    counts = np.bincount(numbers[0], minlength=len(texts)).tolist()
    found = zip(map(json.loads, texts), counts, strict=True)
    return merge_notes(Note(code, subject, rows, detail) for (code, subject, detail), rows in found if rows)


def _taken_apart(batch: pa.RecordBatch) -> tuple[list[str], list[npt.NDArray[np.int32]], list[Rows]]:
    """Returns the texts of the column; for each item the number of its text, and its row. Empty without notes."""
    if NOTES not in batch.schema.names or batch.column(NOTES).null_count == batch.num_rows:
        return [], [], []
    column = batch.column(NOTES)
    items = column.flatten()
    return (
        items.dictionary.to_pylist(),
        [items.indices.to_numpy()],
        [np.repeat(np.arange(batch.num_rows), list_lengths(column))],
    )
