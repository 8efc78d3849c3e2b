import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.testing.util import assert_that, equal_to
from helpers import local_pipeline

from penstock.io.columns.row_notes import row_notes
from penstock.transforms.splits.balance import Balance, TellBalance, merge_counts, note_null_keys
from penstock.transforms.splits.base import with_split

NAMES = ("train", "eval", "test")


def batch_of(codes, **columns):
    return with_split(pa.record_batch(columns), np.array(codes, np.int32), NAMES)


def notes(balance, *batches):
    """The notes, by code and split, as counts; the same for the batches in any pieces."""
    pieces = [batch.slice(start, 3) for batch in batches for start in range(0, batch.num_rows, 3)]
    found = list(balance.notes(merge_counts(map(balance.count, batches))))
    assert list(balance.notes(merge_counts(map(balance.count, pieces)))) == found
    return {(note.code, note.subject): note.count for note in found}


def test_a_key_that_is_mostly_null():
    balance = Balance(NAMES, key=["a", "b"])
    rows = {"a": [1, None, None, None], "b": [None, None, None, None]}
    assert notes(balance, batch_of([0, 1, 1, 1], **rows)) == {("split.null_key", "eval"): 3}
    assert notes(balance, batch_of([0, 1, 1, 0], **{**rows, "b": [None, None, None, 1]})) == {}, "half is not most"
    absent = list(balance.notes(balance.count(batch_of([1, 1], other=[1, 2]))))
    assert [(note.code, note.count) for note in absent] == [("split.null_key", 2)]
    assert "most rows have no value of the split key (a, b), and rows without one are all in the" in absent[0].detail


def test_rows_without_a_key_are_noted():
    batch = batch_of([0, 1, 1], a=[1, None, None], b=[None, None, None])
    (note,) = row_notes(note_null_keys(batch, ["a", "b"]))
    assert (note.code, note.subject, note.count) == ("split.null_key", "eval", 2)
    assert note.detail.startswith(
        "rows have no value of the split key (a, b), and rows without one are all in the same"
    )
    assert note_null_keys(batch.slice(0, 1), ["a"]).equals(batch.slice(0, 1))


def test_a_split_without_a_positive():
    balance = Balance(NAMES, label="y")
    codes = [0, 0, 1, 1, 2]
    missing = {("split.no_positive", "eval"): 2, ("split.no_positive", "test"): 1}
    for labels in (
        [1, 0, 0, 0, 0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
        ["true", "false", "False", "0", "0"],
        [True, *[False] * 4],
    ):
        assert notes(balance, batch_of(codes, y=labels)) == missing
    assert notes(balance, batch_of(codes, y=[1, 0, 1, 0, 1])) == {}
    assert notes(balance, batch_of(codes, y=[1, 2, 0, 0, 0])) == {}, "not a label of two classes"
    assert notes(balance, batch_of(codes, y=[b"\xff", b"a", b"b", b"c", b"d"])) == {}
    assert notes(balance, batch_of([0, 0], y=[0, 1])) == {
        ("split.no_positive", "eval"): 0,
        ("split.no_positive", "test"): 0,
    }


def test_strata_that_a_split_lacks_or_has_too_much_of():
    balance = Balance(NAMES, stratify="s", ratios=(0.8, 0.1, 0.1))
    codes = [0] * 80 + [1] * 10 + [2] * 10
    assert notes(balance, batch_of(codes, s=["a"] * 100)) == {}
    rare = batch_of([*codes, 0, 0], s=["a"] * 100 + ["b", None])
    assert notes(balance, rare) == {("split.stratum_missing", "eval"): 2, ("split.stratum_missing", "test"): 2}
    heavy = batch_of([0] * 40 + [1] * 50 + [2] * 10, s=["a"] * 100)
    assert notes(balance, heavy) == {("split.stratum_uneven", "train"): 1, ("split.stratum_uneven", "eval"): 1}
    (note, _) = balance.notes(balance.count(heavy))
    assert note.detail == "values of 's' are far from their part of 0.8, such as 'a' with 100 rows in all"


def test_columns_of_too_many_values_are_not_counted():
    balance = Balance(NAMES, label="y", stratify="y", ratios=(0.8, 0.1, 0.1))
    many = [batch_of([0] * 900, y=list(range(start, start + 900))) for start in (0, 900)]
    total = merge_counts(map(balance.count, many))
    assert (total.labels, total.strata) == (None, None)
    assert balance.count(batch_of([0] * 1001, y=list(range(1001)))).strata is None
    assert list(balance.notes(total)) == []


def test_what_there_is_to_tell():
    assert not Balance(NAMES).tells
    assert not Balance(("train",), key=["a"]).tells
    assert Balance(NAMES, label="y").tells


def test_pipeline():
    batches = [batch_of([0, 1], y=[1, 0]), batch_of([2, 0], y=[1, 1])]
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create([0, 1]) | beam.Map(batches.__getitem__).with_output_types(pa.RecordBatch)
        found = (
            rows | TellBalance(Balance(NAMES, label="y")) | beam.Map(lambda note: (note.code, note.subject, note.count))
        )
        assert_that(found, equal_to([("split.no_positive", "eval", 1)]))
