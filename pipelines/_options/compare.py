"""The flags of `compare`."""

import dataclasses
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, bare, flag
from pipelines._cli.named import COMPARED, OUTPUT_FILE
from pipelines._options.statistics import ThresholdOptions, check_new_file

_EXAMPLES = """examples:
  what is other in May than it was in April
    penstock compare april.pb may.pb

  two datasets, and a report with both in each figure
    penstock compare dataset_v1 dataset_v2 --report difference.html

  the splits of one dataset
    penstock compare dataset dataset --datasets train,eval

exit codes: 0 compared, whatever differs; 1 a file is broken; 2 wrong usage. penstock check fails over what differs"""


@dataclasses.dataclass(frozen=True)
class ComparedOptions(Options):
    """What is compared, and how the result is printed."""

    title = "statistics"

    compared: tuple[str, ...] = bare(
        "two files of statistics, or datasets, of which those of their rows are taken: before and after",
        COMPARED,
        metavar="A B",
    )
    datasets: str | None = flag(
        "the names of the statistics in A and in B that are compared, such as train,eval (default: each name that both "
        "have, else all rows)",
        metavar="NAME[,NAME]",
    )
    all: bool = flag("show columns that do not differ, too", False, action="store_true")
    report: str | None = flag("write a report, one HTML file", metavar="FILE.html", names=OUTPUT_FILE)
    overwrite: bool = flag("replace the file REPORT", False, action="store_true")
    json: bool = flag("print what differs as one line of JSON (docs/jobs.md)", False, action="store_true")
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class CompareOptions(JobOptions):
    """All flags of the job."""

    name: ClassVar[str] = "compare"
    description: ClassVar[str] = "Shows what differs between the statistics of two datasets, column by column."
    examples: ClassVar[str] = _EXAMPLES

    compare: ComparedOptions
    limits: ThresholdOptions

    def check(self) -> None:
        """Refuses a command line that does not name two.

        Raises:
          ConfigError: says what to give.
        """
        given = self.compare.compared
        if len(given) != 2:
            what = f"got {len(given)}" if given else "such as april.pb may.pb"
            raise ConfigError(f"A B are required: two files of statistics, or datasets, {what}")
        self.limits.thresholds()

    def check_apart(self) -> None:
        """Refuses a report that is there, unless it may be replaced.

        Raises:
          ConfigError: names it.
        """
        if self.compare.report is not None:
            check_new_file("report", self.compare.report, self.compare.overwrite)
