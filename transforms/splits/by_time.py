"""Splits by event time: what is learned from comes before what it is judged by.

::

    train<2026-06-01, eval<2026-07-01, test     --split_gap 1d

    ---- train ----|gap|---- eval ----|gap|---- test ---->
                      06-01              07-01

A gap lies before the end of a split. Its rows are in no split, so that what a label of train looks ahead to, or a
feature of eval looks back on, is not in both. They become dead letters (`split.gap`, stage `excluded`).
"""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.errors import ConfigError, DataError
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME
from penstock.transforms.splits.base import Chosen, SplitKind
from penstock.transforms.splits.spelling import gap_micros, parse_times

_EPOCH = datetime.datetime(1970, 1, 1)


@dataclasses.dataclass(frozen=True)
class SplitByTime(SplitKind):
    """Splits by `_event_time` (`AssignEventTime`).

    Attributes:
      ends: of each split, in the order of time: the first moment that is no longer in it, microseconds since 1970;
        None for the last.
      gap: how much before each end belongs to no split, as text such as `1d`; None for nothing.
    """

    ends: Mapping[str, int | None]
    gap: str | None = None

    needs_event_time = True

    @classmethod
    def parse(cls, text: str, gap: str | None = None) -> Self:
        """Parses `train<2026-06-01, eval<2026-07-01, test`.

        Raises:
          ConfigError: for anything else, times that do not ascend, or a gap that leaves no moment to a split.
        """
        return cls(parse_times(text, gap), gap)

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """In the order of time."""
        return tuple(self.ends)

    def choose(self, batch: pa.RecordBatch) -> Chosen:
        """By the time of each row; one without a time has a fault (`split.no_time`)."""
        if EVENT_TIME not in batch.schema.names:
            raise DataError("rows have no event time, by which they are split: put AssignEventTime before AssignSplit")
        times = batch.column(EVENT_TIME).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        missing = np.flatnonzero(pc.is_null(times).to_numpy(zero_copy_only=False)) if times.null_count else ()
        micros = times.fill_null(0).to_numpy(zero_copy_only=False)
        ends = np.array(list(self.ends.values())[:-1], np.int64)
        codes = np.searchsorted(ends, micros, side="right").astype(np.int32)
        faults = dict.fromkeys(map(int, missing), Reason("split.no_time", "the row has no event time to split it by"))
        left_out = {row: reason for row, reason in self._in_gap(micros, codes, ends).items() if row not in faults}
        return Chosen(codes, faults, left_out)

    def _in_gap(
        self, micros: npt.NDArray[np.int64], codes: npt.NDArray[np.int32], ends: npt.NDArray[np.int64]
    ) -> dict[int, Reason]:
        if self.gap is None:
            return {}
        before = np.append(ends, np.iinfo(np.int64).max)[codes] - gap_micros(self.gap)
        rows = np.flatnonzero((codes < len(ends)) & (micros >= before))
        reasons = [self._reason(name, end) for name, end in zip(self.names[1:], ends.tolist(), strict=True)]
        return {row: reasons[code] for row, code in zip(rows.tolist(), codes[rows].tolist(), strict=True)}

    def _reason(self, name: str, end: int) -> Reason:
        return Reason("split.gap", f"the event time lies within {self.gap} before {_iso(end)}, where {name!r} begins")

    def describe(self) -> dict[str, Any]:
        """The ends of the splits, and the gap."""
        ends = {name: None if end is None else _iso(end) for name, end in self.ends.items()}
        return {"by": "time", "ends": ends, "gap": self.gap}

    def __post_init__(self) -> None:
        ends = list(self.ends.values())
        inner = [end for end in ends[:-1] if end is not None]
        if len(ends) < 2 or ends[-1] is not None or len(inner) < len(ends) - 1 or inner != sorted(set(inner)):
            raise ConfigError(f"each split must end after the one before it, and the last one never, got {self.ends}")
        if self.gap is not None:
            gap_micros(self.gap)


def _iso(micros: int) -> str:
    return f"{(_EPOCH + datetime.timedelta(microseconds=micros)).isoformat()}Z"
