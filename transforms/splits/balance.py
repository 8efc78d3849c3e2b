"""Tells what is wrong with splits that the rows alone cannot show: notes for the manifest.

=========================  ==========================================================================================
code                       what it says, for each split
=========================  ==========================================================================================
`split.null_key`           most rows have no value of the split key, and all of them are in this split
`split.no_positive`        no row of the split has the label 1, where labels are 0 and 1, or false and true
`split.stratum_missing`    values of the column of `--split_stratify` have no row in the split
`split.stratum_uneven`     such values have more or fewer rows in it than chance makes of its ratio
=========================  ==========================================================================================

A column with more than 1000 values is not counted. All that is of a dataset without windows. With them, each window has
a note `split.null_key` with the number of its rows without a key, be they most or few (`note_null_keys`).
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import TakesBatches, in_global_window
from penstock.io.columns.lists import list_column
from penstock.io.columns.row_notes import with_row_notes
from penstock.io.columns.values import is_text
from penstock.io.reasons import Note
from penstock.io.reserved import SPLIT

# Of a column whose values are counted; and of a label of two classes, whose names have 2 + 2 ** 4 + 2 ** 5 spellings.
_MAX_VALUES, _MAX_CLASSES = 1000, 64

# A share that lies further from its ratio is no chance.
_DEVIATIONS = 5

_NEGATIVE, _POSITIVE = {"0", "false"}, {"1", "true"}

# Rows by value, and by split.
Table = Mapping[tuple[str, str], int]


@dataclasses.dataclass(frozen=True)
class SplitCounts:
    """What is counted of some rows.

    Attributes:
      rows: by split.
      without_key: rows in whose key all columns are null, by split.
      labels, strata: rows by value and split; None for a column with too many values, and for a label of other classes
        than two.
    """

    rows: Counter[str] = dataclasses.field(default_factory=Counter)
    without_key: Counter[str] = dataclasses.field(default_factory=Counter)
    labels: Counter[tuple[str, str]] | None = dataclasses.field(default_factory=Counter)
    strata: Counter[tuple[str, str]] | None = dataclasses.field(default_factory=Counter)


def merge_counts(counts: Iterable[SplitCounts]) -> SplitCounts:
    """Adds counts up."""
    total = SplitCounts()
    for count in counts:
        total = SplitCounts(
            total.rows + count.rows,
            total.without_key + count.without_key,
            _merged(total.labels, count.labels),
            _merged(total.strata, count.strata),
        )
    return total


def _merged(
    left: Counter[tuple[str, str]] | None, right: Counter[tuple[str, str]] | None
) -> Counter[tuple[str, str]] | None:
    merged = None if left is None or right is None else left + right
    return None if merged is None or len({value for value, _ in merged}) > _MAX_VALUES else merged


@dataclasses.dataclass(frozen=True)
class Balance:
    """What is told of splits.

    Attributes:
      names: of the splits.
      key: columns of the split key; empty if there is none.
      label: the column to learn; None if there is none.
      stratify: the column whose values shall be in all splits; None if there is none.
      ratios: of the splits, for `stratify`.
    """

    names: Sequence[str]
    key: Sequence[str] = ()
    label: str | None = None
    stratify: str | None = None
    ratios: Sequence[float] = ()

    @property
    def tells(self) -> bool:
        """Whether there is anything to count."""
        return len(self.names) > 1 and bool(self.key or self.label or self.stratify)

    def count(self, batch: pa.RecordBatch) -> SplitCounts:
        """Counts the rows of a batch that has `_split`."""
        splits = batch.column(SPLIT).cast(pa.string())
        numbers = pc.index_in(splits, pa.array(self.names)).to_numpy(zero_copy_only=False)
        return SplitCounts(
            self._by_split(numbers),
            self._by_split(numbers[_without_key(batch, self.key)]) if self.key else Counter(),
            self._of_two_classes(self._by_value(batch, self.label, numbers, _MAX_CLASSES)),
            self._by_value(batch, self.stratify, numbers, _MAX_VALUES),
        )

    def _by_split(self, numbers: npt.NDArray[np.int32]) -> Counter[str]:
        counts = np.bincount(numbers, minlength=len(self.names)).tolist()
        return +Counter(dict(zip(self.names, counts, strict=True)))

    def _of_two_classes(self, labels: Counter[tuple[str, str]] | None) -> Counter[tuple[str, str]] | None:
        """None for other labels: nothing is told of them, and to add up those of a batch with 500 values takes 6 ms."""
        known = labels is not None and {value.lower() for value, _ in labels} <= _NEGATIVE | _POSITIVE
        return labels if known else None

    def _by_value(
        self, batch: pa.RecordBatch, column: str | None, numbers: npt.NDArray[np.int32], most: int
    ) -> Counter[tuple[str, str]] | None:
        if column is None or column not in batch.schema.names:
            return Counter()
        values = list_column(batch.column(column)).single_values()
        encoded = values.dictionary_encode(null_encoding="encode")
        if len(encoded.dictionary) > most:
            return None
        width = len(self.names)
        counts = np.bincount(encoded.indices.to_numpy(zero_copy_only=False) * width + numbers)
        cells = [(divmod(cell, width), int(counts[cell])) for cell in np.flatnonzero(counts).tolist()]
        texts = [_text(value) for value in encoded.dictionary]
        return Counter({(texts[value], self.names[split]): rows for (value, split), rows in cells})

    def notes(self, counts: SplitCounts) -> Iterator[Note]:
        """Yields what is wrong with the splits of all rows."""
        yield from self._null_keys(counts)
        yield from self._no_positives(counts)
        yield from self._strata(counts)

    def _null_keys(self, counts: SplitCounts) -> Iterator[Note]:
        without = counts.without_key.total()
        if 2 * without > counts.rows.total():
            key, where = ", ".join(self.key), ", ".join(sorted(counts.without_key))
            yield Note("split.null_key", where, without, f"most rows {_NULL_KEYS.format(key, where)}")

    def _no_positives(self, counts: SplitCounts) -> Iterator[Note]:
        if not counts.labels:
            return
        positive = {split for value, split in counts.labels if value.lower() in _POSITIVE}
        for name in self.names:
            if name not in positive:
                detail = f"no row of this split has the label {self.label!r} 1: nothing can be learned or judged by it"
                yield Note("split.no_positive", name, counts.rows[name], detail)

    def _strata(self, counts: SplitCounts) -> Iterator[Note]:
        totals: Counter[str] = Counter()
        strata: Table = counts.strata or {}
        for (value, _), rows in strata.items():
            totals[value] += rows
        for name, ratio in zip(self.names, self.ratios, strict=False):
            parts = {value: strata.get((value, name), 0) for value in sorted(totals)}
            missing = [value for value, part in parts.items() if not part]
            uneven = [value for value, part in parts.items() if part and _is_uneven(part, totals[value], ratio)]
            yield from self._stratum_note("missing", name, missing, "have no row in this split", totals)
            yield from self._stratum_note("uneven", name, uneven, f"are far from their part of {ratio:.4g}", totals)

    def _stratum_note(
        self, what: str, split: str, values: Sequence[str], fault: str, totals: Mapping[str, int]
    ) -> Iterator[Note]:
        if values:
            first = values[0]
            detail = f"values of {self.stratify!r} {fault}, such as {first!r} with {totals[first]:,} rows in all"
            yield Note(f"split.stratum_{what}", split, len(values), detail)


_NULL_KEYS = (
    "have no value of the split key ({}), and rows without one are all in the same split, {}: name another key, or "
    "reject such rows in the schema (presence)"
)


def _without_key(batch: pa.RecordBatch, key: Sequence[str]) -> npt.NDArray[np.bool_]:
    missing = np.ones(batch.num_rows, bool)
    for name in set(key) & set(batch.schema.names):
        missing &= batch.column(name).is_null().to_numpy(zero_copy_only=False)
    return missing


def note_null_keys(batch: pa.RecordBatch, key: Sequence[str]) -> pa.RecordBatch:
    """Attaches a note to each row whose key is null in all columns; the rows have `_split`."""
    rows = np.flatnonzero(_without_key(batch, key))
    if not len(rows):
        return batch
    where = batch.column(SPLIT)[int(rows[0])].as_py()
    note = Note("split.null_key", where, len(rows), f"rows {_NULL_KEYS.format(', '.join(key), where)}")
    return with_row_notes(batch, [(note, rows)])


def _is_uneven(rows: int, total: int, ratio: float) -> bool:
    return abs(rows - total * ratio) > _DEVIATIONS * math.sqrt(total * ratio * (1 - ratio))


def _text(value: pa.Scalar) -> str:
    if not value.is_valid:
        return "null"
    if is_text(value.type):
        content = value.as_py()
        return content if isinstance(content, str) else content.decode(errors="backslashreplace")
    number = value.as_py()
    return str(int(number) if isinstance(number, float) and number.is_integer() else number)


@dataclasses.dataclass(eq=False)
class TellBalance(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[Note]]):
    """Gives the notes on the splits of bounded rows that have `_split`.

    Attributes:
      balance: what is told.
    """

    balance: Balance

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Note]:
        """Counts, adds up, and tells."""
        counts = batches | "Count" >> beam.ParDo(_CountFn(self.balance)).with_output_types(SplitCounts)
        total = counts | "AddUp" >> beam.CombineGlobally(merge_counts)
        return total | "Tell" >> beam.FlatMap(self.balance.notes).with_output_types(Note)


class _CountFn(beam.DoFn):
    """One count for each bundle."""

    def __init__(self, balance: Balance):
        self._balance = balance

    def start_bundle(self) -> None:
        self._counts = SplitCounts()

    def process(self, batch: pa.RecordBatch) -> None:
        self._counts = merge_counts([self._counts, self._balance.count(batch)])

    def finish_bundle(self) -> Iterator[Any]:
        yield in_global_window(self._counts)
