"""The step that gives each row its split."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from penstock.io.batches import TakesBatches, check_different_names, drop_rows
from penstock.io.beam.row_counters import RowCounters
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError
from penstock.transforms.splits.balance import note_null_keys
from penstock.transforms.splits.base import FAULT, LEFT_OUT, SplitKind, with_split
from penstock.transforms.splits.by_hash import SplitByHash
from penstock.transforms.splits.spelling import HASH_VERSION, Ratio


@dataclasses.dataclass(eq=False)
class AssignSplit(TakesBatches, RejectingTransform):
    """Adds `_split`, the split that each row belongs to.

    With ratios, a hash of the key decides. Key values are equal whatever file they come from, 7 in CSV, Parquet or
    Avro, and whatever kind they have: 7, 7.0 and the text `7`. Rows whose key is null are equal to each other as well:
    they all go to one split, so a key that is often null unbalances the splits.

    With `by`, another kind decides (`SplitByTime`, `SplitByFile`, `SplitByColumn`). Rows that can have no split, and
    rows in a gap, are rejected (`with_error_handler`).

    Attributes:
      ratios: split name to ratio; they sum to 1. Their order matters: a row stays where it is when only splits after
        its own change.
      key: columns whose values decide. If empty, the whole row decides, so equal rows share a split.
      seed: another seed gives other splits.
      columns: the columns of the whole row, for an empty `key`: the schema's features. A row is then the same whether
        its source has a column of nulls or lacks it. None for all features of each batch.
      hash_version: 2; or 1 for the splits of older datasets, in which 7 and the text `7` are different keys.
      by: another kind of split, in place of all others.
      notes_null_keys: whether rows whose key is null get a note (`note_null_keys`).

    Raises:
      ConfigError: for ratios that `check_ratios` refuses, a reserved column as key, an unknown version of the hash, or
        unless there is one of `ratios` and `by`.
    """

    ratios: Mapping[str, Ratio] | None = None
    key: Sequence[str] = ()
    seed: int = 0
    columns: Sequence[str] | None = None
    hash_version: int = HASH_VERSION
    by: SplitKind | None = None
    notes_null_keys: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        if (self.ratios is None) == (self.by is None) or (self.by is not None and self.key):
            raise ConfigError("AssignSplit takes either ratios, with or without a key, or by")
        ratios = self.ratios or {}
        self.kind = self.by or SplitByHash(ratios, tuple(self.key), self.seed, self.columns, self.hash_version)

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which handles each row independently."""
        if not self.kind.may_reject:
            assign = beam.Map(_assign, self.kind, self._noted_key()).with_output_types(pa.RecordBatch)
            return batches | "AssignSplit" >> assign
        choose = beam.ParDo(_AssignSplitFn(self.kind)).with_output_types(pa.RecordBatch)
        good, rejected = split_rejected(batches | "AssignSplit" >> choose.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return good

    def _noted_key(self) -> Sequence[str]:
        if self.notes_null_keys and isinstance(self.kind, SplitByHash) and len(self.kind.names) > 1:
            return tuple(self.kind.key)
        return ()


def _assign(batch: pa.RecordBatch, kind: SplitKind, noted_key: Sequence[str]) -> pa.RecordBatch:
    check_different_names(batch)
    assigned = with_split(batch, kind.choose(batch).codes, kind.names)
    return note_null_keys(assigned, noted_key) if noted_key else assigned


class _AssignSplitFn(beam.DoFn):
    def __init__(self, kind: SplitKind):
        self._kind = kind
        self._counters = RowCounters("AssignSplit")

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        check_different_names(batch)
        chosen = self._kind.choose(batch)
        without = {**chosen.faults, **chosen.left_out}
        self._counters.add(in_rows=batch.num_rows, bad_rows=len(without))
        for stage, reasons in ((FAULT, chosen.faults), (LEFT_OUT, chosen.left_out)):
            if reasons:
                yield from reject(row_letters(batch, {row: [why] for row, why in reasons.items()}, stage))
        assigned = with_split(batch, chosen.codes.clip(0), self._kind.names)
        if len(without) < batch.num_rows:
            yield drop_rows(assigned, without) if without else assigned
