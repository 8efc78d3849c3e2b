"""The flags of `history`."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, flag
from pipelines._cli.named import DATASET, FILE

_EXAMPLES = """examples:
  penstock history out --add today.pb
  penstock history out --feature fare --metric mean
  penstock history out --json | jq '.left[].text'

exit codes: 0 told, whatever it is; 1 a file is damaged; 2 wrong usage, no history"""


@dataclasses.dataclass(frozen=True)
class WhichOptions(Options):
    """Which history is looked at, and how the result is printed."""

    title = "history"

    dataset: str | None = flag(
        "folder of the dataset, which holds _history/", metavar="DATASET", names=DATASET, or_bare=True
    )
    add: str | None = flag("first append the statistics in this file, as a run", metavar="FILE.pb", names=FILE)
    run: str | None = flag(
        "the run that --add appends; the same one again is replaced (default: the file's name and content)",
        metavar="ID",
    )
    feature: str | None = flag("show only this feature", metavar="NAME")
    metric: str | None = flag("show only this metric, such as mean (docs/history.md)", metavar="NAME")
    split: str | None = flag("show only this split or slice", metavar="NAME")
    json: bool = flag("print what is found as one line of JSON (docs/jobs.md)", False, action="store_true")
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class FindingOptions(Options):
    """When a metric has left its history."""

    title = "findings"

    false_alarms: float = flag(
        "findings to expect where nothing happens, over all metrics of a look", 0.05, type=float, metavar="NUMBER"
    )
    season: str = flag(
        "week: compare windows with the same hour of the week; none: with those before", "week",
        choices=("week", "none"),
    )  # fmt: skip
    time_zone: str = flag("in which hours of the week are counted, such as Europe/Oslo", "UTC", metavar="NAME")


@dataclasses.dataclass(frozen=True)
class HistoryOptions(JobOptions):
    """All flags of the job."""

    name: ClassVar[str] = "history"
    description: ClassVar[str] = "Shows the metrics of a dataset over time, and names those that left their history."
    examples: ClassVar[str] = _EXAMPLES
    elsewhere: ClassVar[Mapping[str, str]] = {"--report": "is of penstock status, which draws the history in it"}

    history: WhichOptions
    findings: FindingOptions

    def check(self) -> None:
        """Refuses a command line without a dataset, and a run of nothing.

        Raises:
          ConfigError: says what to give.
        """
        if not self.history.dataset:
            raise ConfigError("DATASET is required: the folder of the dataset")
        if self.history.run is not None and not self.history.add:
            raise ConfigError("--run names the run of --add: pass --add FILE.pb too")
