"""What jobs give back that write a dataset."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from penstock.io.reasons import Note
from pipelines._report.result.base import Result


@dataclasses.dataclass(frozen=True)
class SplitResult:
    """What a split holds; bytes are those of its shards as stored, and `folder` is where they are."""

    rows: int
    shards: int
    bytes: int
    folder: str


@dataclasses.dataclass(frozen=True)
class WindowResult:
    """A window that is published: start and end as text, UTC, and the path of its manifest."""

    window: tuple[str, str]
    manifest: str
    dataset_id: str
    status: str
    final: bool


@dataclasses.dataclass(frozen=True)
class LettersResult:
    """How many dead letters a replay repaired, rejected and parked.

    Attributes:
      files: that were replayed.
      replayed_before: files that another replay had replayed.
      claimed: files that another replay has claimed: file to run id.
      repaired: letters whose rows are in the dataset.
      rejected: letters that were rejected again.
      parked: letters that have been rejected too often.
    """

    files: int
    replayed_before: int
    claimed: Mapping[str, str]
    repaired: int = 0
    rejected: int = 0
    parked: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetResult(Result):
    """What `prepare` and `replay` wrote; paths are absent (None) where there is nothing.

    Attributes:
      output: the folder.
      manifest: of a dataset that is one.
      windows: of a dataset with windows.
      rows_on_time, rows_late: only of windows.
      rejected_by_reason: a row with several reasons counts for each.
      notes: what became of values that are no reason to reject a row.
      dead_letters: the folder of the rejected rows.
      schema: of the rows that were read.
      transform: the folder of the fitted features.
      features_engine: what fitted and applies them: arrow or tft.
      saved_model: the folder of their SavedModel.
      read_twice: why the input was read twice, to fit features and to write; None where it was read once.
      statistics: the folder of the statistics of rows that came in, went out and were rejected.
      report: the file of the report.
      drift: why nothing is published, a sentence for each error of the check against earlier statistics.
      anomalies: what is unusual about the rows, the gravest first, as in the manifest: `feature`, `reason`, `severity`,
        `description`, what it was compared `against`, the `dataset` (a split or slice), and the `window`, null without
        windows.
      load: the lines of Python that load the split to train on; none of windows.
      letters: only of a replay.
      span: the name of what was added, whose numbers these are; None for a dataset that is new.
      version: of the dataset, as it is now; None where nothing was published, and with windows.
      whole: the numbers of the dataset as a whole, if the run added to it: `spans`, `rows_in`, `rows_out`,
        `rows_rejected`, and `splits`, rows by split.
      skipped: inputs that are in the dataset already, or were until `retain` dropped their span.
      openlineage: who was told of the run, by OpenLineage's events; None where nobody was, or not of all.
    """

    output: str
    run_id: str | None = None
    dataset_id: str | None = None
    manifest: str | None = None
    windows: tuple[WindowResult, ...] | None = None
    rows_in: int = 0
    rows_out: int = 0
    rows_rejected: int = 0
    rows_on_time: int | None = None
    rows_late: int | None = None
    splits: Mapping[str, SplitResult] = dataclasses.field(default_factory=dict)
    rejected_by_reason: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    dead_letters: str | None = None
    schema: str | None = None
    transform: str | None = None
    features_engine: str | None = None
    saved_model: str | None = None
    read_twice: str | None = None
    statistics: str | None = None
    report: str | None = None
    drift: tuple[str, ...] = ()
    anomalies: tuple[Mapping[str, Any], ...] = ()
    load: tuple[str, ...] = ()
    letters: LettersResult | None = None
    span: str | None = None
    version: int | None = None
    whole: Mapping[str, Any] | None = None
    skipped: tuple[str, ...] = ()
    openlineage: str | None = None
