"""The flags of `status`."""

import dataclasses
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, flag
from pipelines._cli.named import DATASET, OUTPUT_FILE
from pipelines._options.statistics import check_report_outside

_EXAMPLES = """examples:
  penstock status out
  penstock status out --report out.html
  penstock status out --json | jq '.quarantined[].window'

exit codes: 0 told, whatever it is; 1 a manifest cannot be read, or a file is missing; 2 wrong usage, no dataset"""


@dataclasses.dataclass(frozen=True)
class LookOptions(Options):
    """Which dataset is looked at, and how the result is printed."""

    title = "dataset"

    output: str | None = flag(
        "folder that a job writes, or has written", metavar="DATASET", names=DATASET, or_bare=True
    )
    report: str | None = flag(
        "write a report on what is published, one HTML file: windows, their anomalies and rejects, the newest one's "
        "statistics beside those before it, history",
        metavar="FILE.html",
        names=OUTPUT_FILE,
    )
    json: bool = flag("print what is found as one line of JSON (docs/jobs.md)", False, action="store_true")
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class StatusOptions(JobOptions):
    """All flags of the job."""

    name: ClassVar[str] = "status"
    description: ClassVar[str] = "Tells how far a dataset is: its windows, gaps, and what is no part of it."
    examples: ClassVar[str] = _EXAMPLES

    dataset: LookOptions

    def check(self) -> None:
        """Refuses a command line without a dataset.

        Raises:
          ConfigError: says what to give.
        """
        if not self.dataset.output:
            raise ConfigError("DATASET is required: the folder that a job writes")

    def check_apart(self) -> None:
        """Refuses a report in the dataset.

        Raises:
          ConfigError: names both.
        """
        check_report_outside(self.dataset.report, "output", str(self.dataset.output))
