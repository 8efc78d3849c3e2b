"""A span of a dataset, as its manifest describes it."""

import dataclasses
import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.dataset.observer import Anomaly
from penstock.io.reasons import Note

_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


@dataclasses.dataclass(frozen=True)
class Span:
    """What was added to a dataset at one time, or was put together of several spans.

    `rows_in == rows_out + rows_rejected`. The shards and dead letters of the span are those of the manifest that lie in
    its folder; its inputs are those of `provenance.inputs` that name it.

    Attributes:
      name: unique in a version of the dataset.
      run_id: the run that wrote its files.
      created: when it was published, ISO 8601, UTC.
      date: what `retain` goes by, ISO 8601, UTC (`span_date`).
      folder: of its files, relative to the dataset; empty for those of a first run on a disk, which has none.
      dataset_id: `dataset_id` of its shards.
      splits: rows by split.
      rejected_by_reason, rejected_by_stage: as in the manifest.
      statistics: the folder of the statistics of its rows, relative to the dataset.
      notes, anomalies: of its rows, as in the manifest.
      parts: the names of the spans that it was put together of, as far as they are other ones.
      provenance: where its run differs from `provenance` of the manifest.
    """

    name: str
    run_id: str
    created: str
    date: str
    folder: str
    dataset_id: str
    rows_in: int
    rows_out: int
    rows_rejected: int
    splits: Mapping[str, int]
    rejected_by_reason: Mapping[str, int]
    rejected_by_stage: Mapping[str, int]
    statistics: str | None = None
    notes: tuple[Note, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    parts: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def span_date(name: str, newest: str | None, created: str) -> str:
    """Returns the date of a span: the last one in its name; else the newest event time of its rows; else `created`.

    A date in a name stands for the whole day, so its end counts.

    >>> span_date("2026-11-27", None, "2026-12-01T00:00:00Z"), span_date("3", None, "2026-12-01T00:00:00Z")
    ('2026-11-27T23:59:59Z', '2026-12-01T00:00:00Z')
    >>> span_date("week-20261101_20261107", None, "2026-12-01T00:00:00Z")
    '2026-11-07T23:59:59Z'
    """
    for parts in reversed(_DATE.findall(name)):
        try:
            return f"{datetime.date(*map(int, parts)).isoformat()}T23:59:59Z"
        except ValueError:
            continue
    return newest or created


def next_name(names: Sequence[str]) -> str:
    """Returns the name of a span that is given none: the number after the greatest one, or after how many there are.

    >>> next_name(["1", "2026-11-27", "2"]), next_name(["a"]), next_name([])
    ('3', '2', '1')
    """
    numbers = [int(name) for name in names if name.isdecimal() and len(name) < 8]
    return str(max(numbers, default=len(names)) + 1)
