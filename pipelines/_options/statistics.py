"""The flags about statistics that several jobs have."""

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from penstock.io.errors import ConfigError
from penstock.io.files.apart import check_apart, lies_in
from penstock.io.files.paths import is_local
from penstock.io.sources.lists.lines import named_by
from penstock.transforms.anomalies.measures.thresholds import Thresholds
from pipelines._cli.flags import Options, comma_list, flag
from pipelines._cli.named import AGAINST, FILE, OUTPUT_FILE, STATISTICS_FILE

if TYPE_CHECKING:
    from penstock.transforms.statistics.options import StatisticsOptions

# The file of statistics in a folder that names none.
DEFAULT_NAME = "statistics.pb"


@dataclasses.dataclass(frozen=True)
class StatisticsFlags(Options):
    """What statistics are of."""

    title = "statistics"

    slice_by: tuple[str, ...] = flag(
        "columns of which each value gets statistics of its rows, beside those of all rows; repeat it for more",
        (),
        type=comma_list,
        action="extend",
        metavar="COLUMN,COLUMN",
    )

    def options(
        self, columns: Iterable[str], weight: str | None = None, label: str | None = None
    ) -> "StatisticsOptions":
        """The options of statistics of rows that have these columns.

        Raises:
          ConfigError: for a column that they have not.
        """
        from penstock.transforms.statistics.options import StatisticsOptions

        known = list(columns)
        named = [("slice_by", name) for name in self.slice_by]
        named += [(name, value) for name, value in (("weight", weight), ("label", label)) if value]
        for name, value in named:
            if value not in known:
                raise ConfigError(f"--{name} {value}: no such column; there are {', '.join(known[:20]) or 'none'}")
        return StatisticsOptions(weight=weight, slice_by=self.slice_by, label=label)


@dataclasses.dataclass(frozen=True)
class DatasetStatisticsFlags(StatisticsFlags):
    """What statistics a dataset gets, and what is made of them."""

    statistics: Literal["columns", "all", "none"] = flag(
        "columns: write statistics of each column of the rows that came in, went out and were rejected, with the "
        "dataset; all: also of how columns go together (correlation, missing together, what tells of the label); none: "
        "no statistics",
        "columns",
        choices=("columns", "all", "none"),
    )
    check_against: str | None = flag(
        "statistics that the rows of the dataset shall be like, of an earlier dataset or file: with an error of "
        "penstock check nothing is published. `history` stands for the earlier runs into the same output: if a metric "
        "leaves their history nothing is published. With --window, each window is compared, and its manifest says "
        "what is unusual; there, `previous` stands for the window before it, `week` for the one a week before, and "
        "`history` for all of them",
        metavar="FILE.pb|DATASET|previous|week|history",
        names=AGAINST,
    )
    report: str | None = flag("write a report of the run, one HTML file", metavar="FILE.html", names=OUTPUT_FILE)

    def of_dataset(self, columns: Iterable[str], label: str | None) -> "StatisticsOptions":
        """The options of statistics of a dataset's rows, that have these columns.

        Raises:
          ConfigError: for a column that they have not.
        """
        if self.statistics == "all":
            return self.options(columns, label=label)
        return dataclasses.replace(self.options(columns), pair_columns=0)

    @property
    def is_on(self) -> bool:
        """Whether there are statistics."""
        return self.statistics != "none"

    def check(self, has_windows: bool, is_endless: bool) -> None:
        """Refuses flags that need statistics where there are none, and comparisons with what is not there.

        Raises:
          ConfigError: says what to leave out.
        """
        for name in ("slice_by", "check_against", "report"):
            if getattr(self, name) and not self.is_on:
                raise ConfigError(f"--{name} needs statistics: leave out --statistics none, or --{name}")
        if is_endless and self.report:
            raise ConfigError(
                "--report is of a run that ends, and a stream does not: leave it out; penstock status --output DIR "
                "--report FILE.html makes one of the windows that are published, at any time"
            )
        if self.is_against_history and has_windows and not is_endless:
            raise ConfigError(
                "--check_against history: windows of input that has an end are published in any order, so that none "
                "can be held against those before it; name a file or a dataset"
            )
        if self.before and not has_windows:
            raise ConfigError(
                f"--check_against {self.before} compares windows with each other: pass --window, or name a file or a "
                "dataset"
            )

    @property
    def is_against_history(self) -> bool:
        """Whether a metric that leaves the history is an error; else it is a warning."""
        return self.check_against == "history"

    @property
    def before(self) -> Literal["previous", "week"] | None:
        """The earlier window that each window is compared with; None for none."""
        match self.check_against:
            case "previous" | "week":
                return self.check_against
        return None


@dataclasses.dataclass(frozen=True)
class AgainstOptions(Options):
    """What statistics are held against."""

    title = "what is expected"

    schema: str | None = flag("tensorflow_metadata Schema in text format", metavar="FILE", names=FILE)
    environment: str | None = flag(
        "where the rows come from, such as SERVING, where the schema may expect no label (default: it expects all)",
        metavar="NAME",
    )
    baseline: str | None = flag(
        "statistics of earlier rows, which the new ones shall be like: drift",
        metavar="FILE.pb|DATASET",
        names=STATISTICS_FILE,
    )
    serving: str | None = flag(
        "statistics of the rows that a model serves, which those it is trained on shall be like: skew",
        metavar="FILE.pb|DATASET",
        names=STATISTICS_FILE,
    )


_NUMBERS = {field.name: field.default for field in dataclasses.fields(Thresholds) if field.name != "ignore"}


@dataclasses.dataclass(frozen=True)
class ThresholdOptions(Options):
    """How much datasets may differ."""

    title = "thresholds of drift and skew"

    threshold: tuple[str, ...] = flag(
        "how much may differ before it is said (docs/anomalies.md); repeat it for more. Names, with their defaults: "
        + ", ".join(f"{name}={'none' if number is None else f'{number:g}'}" for name, number in _NUMBERS.items()),
        (),
        action="append",
        metavar="NAME=NUMBER",
    )
    ignore: tuple[str, ...] = flag(
        "columns that may differ in any way; repeat it for more",
        (),
        type=comma_list,
        action="extend",
        metavar="COLUMN,COLUMN",
    )

    def thresholds(self) -> Thresholds:
        """The thresholds of the flags.

        Raises:
          ConfigError: for a name that there is not, or that comes twice, what is no number, or one out of its range.
        """
        numbers: dict[str, float] = {}
        for text in self.threshold:
            name, _, value = text.partition("=")
            if name not in _NUMBERS:
                raise ConfigError(f"--threshold {text}: no such threshold; there are {', '.join(_NUMBERS)}")
            if name in numbers:
                raise ConfigError(f"--threshold {text}: {name} was given before")
            try:
                numbers[name] = float(value)
            except ValueError:
                raise ConfigError(f"--threshold {text}: must be NAME=NUMBER, such as {name}=0.2") from None
        try:
            return Thresholds(**numbers, ignore=self.ignore)
        except ConfigError as error:
            raise ConfigError(f"--threshold: {error}") from error


def check_new_file(name: str, path: str, overwrite: bool) -> None:
    """Refuses a file to be written that is a folder, or there already.

    Raises:
      ConfigError: says what to pass.
    """
    if is_local(path) and os.path.isdir(path):
        raise ConfigError(f"--{name} {path}: is a folder; name a file")
    if is_local(path) and os.path.exists(path) and not overwrite:
        raise ConfigError(f"--{name} {path} is there already; pass --overwrite to replace it")


def check_report_outside(report: str | None, flag: str, folder: str) -> None:
    """Refuses a report in the folder of what a job writes or looks at.

    Raises:
      ConfigError: names both.
    """
    if report and lies_in(report, folder):
        raise ConfigError(
            f"--report {report}: lies in --{flag} {folder}, where it would be no part of what the folder holds: write "
            "it beside that"
        )


def check_inputs_apart(inputs: Iterable[str], output: str) -> None:
    """Refuses an output among the inputs.

    Raises:
      ConfigError: names both.
    """
    for value in inputs:
        for path, what in named_by(value):
            check_apart(path, what, output)
