"""What a job gives back: one object, which a person reads as a summary and a program as one line of JSON.

The names of the fields are those of the JSON object, and stable: docs/jobs.md has them.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from penstock.io.errors import ConfigError, DataError
from penstock.io.files.system_errors import explained, out_of_memory
from penstock.io.reasons import Note
from pipelines._report.crash import in_one_line
from pipelines._report.printable import mapped, masked
from pipelines._report.signals import exit_code

DONE, DATA_FAILED, WRONG_USAGE = 0, 1, 2

JobStatus = Literal[
    "done",
    "nothing_to_do",
    "described",
    "translated",
    "faulty",
    "too_many_rejects",
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
    """What a split holds; bytes are those of its shards as stored."""

    rows: int
    shards: int
    bytes: int


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
      transform: the folder of the graph.
      letters: only of a replay.
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
    letters: LettersResult | None = None


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
      notes: what a schema that was inferred does to values.
    """

    output: str
    features: str
    input: str
    rows_in: int | None
    rows_rejected: int | None
    rows_fitted: int | None
    schema: str
    transform: str
    notes: tuple[Note, ...] = ()


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
      rows_out, shards, windows, bytes: what its manifests say, and the bytes of the folder; None for a dataset with
        faults, and the windows for one without windows.
    """

    dataset: str
    good: bool
    faults: tuple[Mapping[str, str], ...] = ()
    leftovers: tuple[str, ...] = ()
    rows_out: int | None = None
    shards: int | None = None
    windows: int | None = None
    bytes: int | None = None


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
        case KeyboardInterrupt():
            found = "interrupted", exit_code(), str(error) or "interrupted; nothing was published"
        case _:
            found = "crashed", DATA_FAILED, in_one_line(error)
    status, code, message = found
    return Result(job=job, status=status, exit_code=code, error=message, seconds=seconds)
