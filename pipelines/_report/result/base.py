"""What all jobs give back, and what becomes of an exception."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from penstock.io.errors import ConfigError, DataError
from penstock.io.files.system_errors import explained, out_of_memory
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
