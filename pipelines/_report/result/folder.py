"""What jobs give back that look at the folder of a dataset, its spans and its history."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipelines._report.result.base import Result


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyResult(Result):
    """What `verify` found.

    Attributes:
      dataset: the folder.
      faults: each with a code, a path and a sentence.
      leftovers: what unfinished runs left in the folder; it belongs to no dataset, and is no fault.
      cleaned: the files that `--clean` has deleted, relative to the folder.
      rows_out, shards, windows, bytes: what its manifests say, and the bytes of the folder; None for a dataset with
        faults, and the windows for one without windows.
      report: the file of the report.
    """

    dataset: str
    good: bool
    faults: tuple[Mapping[str, str], ...] = ()
    leftovers: tuple[str, ...] = ()
    cleaned: tuple[str, ...] = ()
    rows_out: int | None = None
    shards: int | None = None
    windows: int | None = None
    bytes: int | None = None
    report: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatusResult(Result):
    """What `status` found; times are ISO 8601, UTC.

    Attributes:
      output: the folder.
      state: `whole`, `windows`, or `unpublished` where no manifest is there.
      run_ids: of the runs that published.
      last_event_time: the greatest event time of a published row; None if rows have none.
      last_published: when a manifest was published last; None for never.
      window_count: how many windows are published; None for a dataset without windows, as for the next ones.
      first_window, last_window: start and end.
      gaps: each with the `start` and `end` of a time between two windows for which none is published.
      not_final: the windows that still take late rows.
      quarantined: the windows with too many rejects: `window`, `rows_in`, `rows_rejected`, `rejected_by_reason`.
      unusual: what has anomalies: `window` (null for the dataset as a whole), and `anomalies` with `feature`, `reason`,
        `severity`, `description` and what it was compared `against`.
      staging: folders in which runs work or have worked: `name`, `owner`, `files`, `bytes`, `age_seconds`, and of
        `chunks` and the `orphaned` ones of them, `files` and `bytes`.
      damaged: manifests that cannot be read: `path` and `detail`.
      missing: files that a manifest names, and that are not there.
      unknown: files that no manifest names, and `unknown_bytes`.
      earlier_files: how many only earlier versions have, and `earlier_bytes`.
      version: of the dataset; None with windows.
      spans: of a dataset that was added to, each with `name`, `date`, `created`, `rows_in`, `rows_out` and
        `rows_rejected`.
      stream: what `stream.json` says; None if there is none.
      report: the file of the report.
    """

    output: str
    state: str
    run_ids: tuple[str, ...] = ()
    last_event_time: str | None = None
    last_published: str | None = None
    rows_in: int = 0
    rows_out: int = 0
    rows_on_time: int = 0
    rows_late: int = 0
    rows_rejected: int = 0
    rejected_by_reason: Mapping[str, int] = dataclasses.field(default_factory=dict)
    window_count: int | None = None
    first_window: tuple[str, str] | None = None
    last_window: tuple[str, str] | None = None
    gaps: tuple[Mapping[str, str], ...] = ()
    not_final: tuple[tuple[str, str], ...] = ()
    quarantined: tuple[Mapping[str, Any], ...] = ()
    unusual: tuple[Mapping[str, Any], ...] = ()
    staging: tuple[Mapping[str, Any], ...] = ()
    damaged: tuple[Mapping[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unknown_bytes: int = 0
    earlier_files: int = 0
    earlier_bytes: int = 0
    version: int | None = None
    spans: tuple[Mapping[str, Any], ...] = ()
    stream: Mapping[str, Any] | None = None
    report: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryResult(Result):
    """What `history` found; times are ISO 8601, UTC.

    Attributes:
      dataset: its folder.
      run: of the newest point.
      window: start and end of the newest point; None for runs.
      points: how many there are.
      series: of each metric the `split`, `feature` and `metric`, its `values` and their `times`, oldest first.
      left: what has left its history, the least likely first: `split`, `feature`, `metric`, `test`, `value`,
        `expected`, `z`, `p`, `since`, `points`, and `text`, a sentence.
    """

    dataset: str
    run: str | None = None
    window: tuple[str, str] | None = None
    points: int = 0
    series: tuple[Mapping[str, Any], ...] = ()
    left: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpansResult(Result):
    """What the jobs about spans found and did.

    Attributes:
      dataset: its folder.
      version: its newest, which `drop-span`, `retain` and `compact` have published; None for a dataset with windows.
      spans: each with `name`, `date`, `created`, `run_id`, `rows_in`, `rows_out`, `rows_rejected`, `splits`, `parts`,
        `statistics`; of `diff` those that were added.
      removed: the same of those that are gone.
      versions: of `log`, the newest first: `version`, `created`, `run_id`, `operation`, `dataset_id`, `spans`, their
        number, `rows_out`, `rows_added`, `rows_removed`, and whether it is `readable`.
      compared, splits, schema: of `diff`: the versions, rows before and after by split, and lines with - and +.
      statistics, not_compared: of `diff`: what differs in the statistics of all rows, as `datasets` of `compare`; why
        they are not compared, None if they are.
      sets: of `compact` of windows: those that were published, each with its `window`, which is the period, `windows`,
        their number, `rows_out`, `splits`, `shards`, their number, and `bytes`.
      open, quarantined: of `compact` of windows: names of those that stay as they are, since they are not final, or had
        too many rejects.
    """

    dataset: str
    version: int | None
    spans: tuple[Mapping[str, Any], ...] = ()
    removed: tuple[Mapping[str, Any], ...] = ()
    versions: tuple[Mapping[str, Any], ...] = ()
    compared: tuple[int, int] | None = None
    splits: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    schema: tuple[str, ...] = ()
    statistics: tuple[Mapping[str, Any], ...] = ()
    not_compared: str | None = None
    sets: tuple[Mapping[str, Any], ...] = ()
    open: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowResult(Result):
    """What `show` found.

    Attributes:
      dataset: its folder.
      format, compression: of the shards.
      dataset_ids: one, or one for each window.
      splits: of each the `rows`, `shards` and `bytes`.
      columns: of each the `name` and the `type` of Arrow.
      split: of which `rows` are: the first records, values by column; bytes that are no text are `{"base64": ...}`.
      load: the lines of Python that load the split.
      statistics: of its columns, as `ProfileResult` has them of one dataset; none if the dataset has none.
    """

    dataset: str
    format: str
    compression: str
    dataset_ids: tuple[str, ...]
    splits: Mapping[str, Mapping[str, int]]
    columns: tuple[Mapping[str, str], ...]
    split: str
    rows: tuple[Mapping[str, Any], ...]
    load: tuple[str, ...]
    statistics: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TraceResult(Result):
    """What `trace` found.

    Attributes:
      dataset: its folder.
      shard: its path there.
      record: the number of the record in the shard, from 0.
      uri: what the row was read from; None where that is not known, as all that follows.
      position: where in it.
      unit: what that counts: `byte`, `row` or `offset`.
      line: its line, from 1, in a file of lines.
      text: the row as it was read; None where it cannot be read again.
      encoding: of `text`: `text`, `base64`, or `json` for the values of a source with types.
      why: why the row cannot be read again, or what is not certain about it.
    """

    dataset: str
    shard: str
    record: int
    uri: str | None = None
    position: int | None = None
    unit: str | None = None
    line: int | None = None
    text: str | None = None
    encoding: str | None = None
    why: str | None = None
