"""What a job gives back: one object, which a person reads as a summary and a program as one line of JSON.

The names of the fields are those of the JSON object, and stable: docs/jobs.md has them.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from penstock.io.errors import ConfigError, DataError
from penstock.io.files.system_errors import explained, out_of_memory
from penstock.io.reasons import Note
from pipelines._report.crash import in_one_line
from pipelines._report.printable import mapped, masked
from pipelines._report.signals import NotStopped, exit_code

DONE, DATA_FAILED, WRONG_USAGE = 0, 1, 2

JobStatus = Literal[
    "done",
    "nothing_to_do",
    "described",
    "translated",
    "faulty",
    "too_many_rejects",
    "too_much_drift",
    "failed",
    "wrong_usage",
    "interrupted",
    "crashed",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """How a job ended.

    Attributes:
      job: its name.
      exit_code: of the program.
      error: what went wrong, in one sentence; None when nothing did.
      seconds: that it took.
    """

    job: str
    status: JobStatus = "done"
    exit_code: int = DONE
    error: str | None = None
    seconds: float = 0.0

    def to_json(self) -> str:
        """One line, in ASCII, without passwords."""
        fields = mapped(dataclasses.asdict(self), masked)
        return json.dumps({**fields, "seconds": round(self.seconds, 3)})


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
      skipped: inputs that are in the dataset already.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult(Result):
    """What `fit` wrote.

    Attributes:
      output: the folder of the graph.
      features: what was fitted, as the flag has it.
      input: what it was fitted on, in words.
      rows_in: that were read; None, as for the others, where the runner does not count.
      rows_rejected: that were left out.
      rows_fitted: of the train split.
      schema: that was given, or inferred.
      transform: the folder of the graph.
      features_engine: what fitted the features: arrow or tft.
      saved_model: the folder of their SavedModel.
      notes: what a schema that was inferred does to values, what the fit loses, and which rows only warned.
      report: the file of the report.
    """

    output: str
    features: str
    input: str
    rows_in: int | None
    rows_rejected: int | None
    rows_fitted: int | None
    schema: str
    transform: str
    features_engine: str
    saved_model: str | None = None
    notes: tuple[Note, ...] = ()
    report: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportResult(Result):
    """What `export` wrote: the folder of the features, and that of the graph."""

    transform: str
    output: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileResult(Result):
    """What `profile` found.

    Attributes:
      input: what the statistics are of, in words.
      output: their file; None if none was asked for.
      report: the file of the report.
      rows_unread: that could not be read, and are in no statistics.
      unread_for: their reasons; a row may have several.
      datasets: all rows, splits and slices: of each the `name`, the `rows`, and its `columns`, each with `column`,
        `type`, `rows`, `missing` (a fraction), `distinct`, `min`, `median`, `mean`, `max`, `std_dev`, `zeros`,
        `avg_length`, and `top`, the most frequent value and its rows; None for what a kind of column has not.
    """

    input: str
    output: str | None = None
    report: str | None = None
    rows_unread: int = 0
    unread_for: Mapping[str, int] = dataclasses.field(default_factory=dict)
    datasets: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult(Result):
    """What `check` found.

    Attributes:
      checked: what was checked, in words.
      schema, baseline, serving: what it was held against.
      rows: by the name of the dataset.
      findings: the gravest first, each with `severity` (`error`, `warning`), `subject` (a column, or `dataset`),
        `code`, `title`, what was `expected` and `seen`, in about how many `rows`, an `example`, the `fix` that accepts
        it, and the `dataset` (a split or slice).
      anomalies: the file with the same as tensorflow_metadata's Anomalies.
      report: the file of the report.
    """

    checked: str
    schema: str | None = None
    baseline: str | None = None
    serving: str | None = None
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()
    anomalies: str | None = None
    report: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareResult(Result):
    """What `compare` found.

    Attributes:
      a, b: what was compared.
      datasets: of each pair the `names` and `rows` of both; of `columns` each `column`, the side that it is `only_in`
        (`a`, `b` or null), what `differs`, as the values of both by name, and its `distances`; of `correlations` the
        `columns` and the values `before` and `after`, those first that changed most; and `findings`, what a check of b
        against a says (as of `CheckResult`).
      report: the file of the report.
    """

    a: str
    b: str
    datasets: tuple[Mapping[str, Any], ...] = ()
    report: str | None = None

    def of_differences(self) -> "CompareResult":
        """The same without the columns that do not differ."""
        return dataclasses.replace(self, datasets=of_differences(self.datasets))


def of_differences(datasets: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Returns what `CompareResult.datasets` tells, without the columns that do not differ."""
    return tuple(
        {**one, "columns": [found for found in one["columns"] if found["only_in"] or found["differs"]]}
        for one in datasets
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelaxResult(Result):
    """What `relax` found and wrote.

    Attributes:
      schema: that was given.
      output: the file of the relaxed schema.
      rows_in: that were read.
      rows_unread: that no schema makes readable, such as lines that are no records.
      changes: each with `subject` (a feature, struct or view), `code` of the reason, `rows` that break it, an `example`
        in words, and the `change` of the schema.
      difference: of the schemas in text format: the name of each part, and its lines with - and +.
    """

    schema: str
    output: str
    rows_in: int
    rows_unread: int
    changes: tuple[Mapping[str, Any], ...] = ()
    difference: tuple[str, ...] = ()


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class DescribedResult(Result):
    """What a job would do."""

    status: JobStatus = "described"
    flags: Mapping[str, Any]
    stages: tuple[str, ...]


class UsageError(SystemExit):
    """A command line that cannot be parsed; argparse has printed why.

    Attributes:
      message: what is wrong with it.
    """

    def __init__(self, message: str):
        super().__init__(WRONG_USAGE)
        self.message = message


class RunFailedError(DataError):
    """A run that came to its end and failed because of its data; it carries what was counted."""

    def __init__(self, message: str, result: Result):
        super().__init__(message)
        self.result = result


def failure(job: str, error: BaseException, seconds: float) -> Result:
    """The result of a job that an exception ended."""
    found: tuple[JobStatus, int, str]
    match error:
        case RunFailedError():
            return dataclasses.replace(error.result, error=str(error))
        case UsageError():
            found = "wrong_usage", WRONG_USAGE, error.message
        case ConfigError() | ImportError():
            found = "wrong_usage", WRONG_USAGE, str(error)
        case DataError():
            found = "failed", DATA_FAILED, str(error)
        case OSError():
            found = "failed", DATA_FAILED, explained(error)
        case MemoryError():
            found = "failed", DATA_FAILED, out_of_memory(str(error))
        case NotStopped():
            found = "failed", DATA_FAILED, str(error)
        case KeyboardInterrupt():
            found = "interrupted", exit_code(), str(error) or "interrupted; nothing was published"
        case _:
            found = "crashed", DATA_FAILED, in_one_line(error)
    status, code, message = found
    return Result(job=job, status=status, exit_code=code, error=message, seconds=seconds)
