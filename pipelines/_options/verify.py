"""The flags of `verify`."""

import dataclasses
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, duration, flag
from pipelines._cli.named import DATASET, OUTPUT_FILE
from pipelines._options.statistics import check_report_outside

_EXAMPLES = """examples:
  penstock verify out
  penstock verify out --json | jq '.faults[].code'
  penstock verify out --report out.html
  penstock verify s3://bucket/out --clean --clean_age 7d

exit codes: 0 the dataset is good; 1 it has a fault; 2 wrong usage"""


@dataclasses.dataclass(frozen=True)
class DatasetOptions(Options):
    """Which dataset is verified, and how the result is printed."""

    title = "dataset"

    dataset: str | None = flag("folder of the dataset", metavar="DATASET", names=DATASET, or_bare=True)
    json: bool = flag("print how the job ended as one line of JSON (docs/jobs.md)", False, action="store_true")
    report: str | None = flag(
        "write a report on the dataset, with what is wrong first, one HTML file",
        metavar="FILE.html",
        names=OUTPUT_FILE,
    )
    clean: bool = flag(
        "delete what no manifest knows and what runs left that were killed, if it is as old as --clean_age",
        False,
        action="store_true",
    )
    clean_age: str = flag(
        "with --clean: the age from which on nobody can be writing it any more", "1d", metavar="DURATION", type=duration
    )
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class VerifyOptions(JobOptions):
    """All flags of the job."""

    name: ClassVar[str] = "verify"
    description: ClassVar[str] = "Reads a dataset again and names each fault."
    examples: ClassVar[str] = _EXAMPLES

    dataset: DatasetOptions

    def check(self) -> None:
        """Refuses a command line without a dataset.

        Raises:
          ConfigError: says what to give.
        """
        if not self.dataset.dataset:
            raise ConfigError("DATASET is required: the folder that a job wrote")
        if "clean_age" in self.given and not self.dataset.clean:
            raise ConfigError("--clean_age says what --clean deletes: give that too")

    def check_apart(self) -> None:
        """Refuses a report in the dataset.

        Raises:
          ConfigError: names both.
        """
        check_report_outside(self.dataset.report, "dataset", str(self.dataset.dataset))
