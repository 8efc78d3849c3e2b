"""The flags of `profile`."""

import dataclasses
import os
from typing import ClassVar

from penstock.io.errors import ConfigError
from penstock.io.files.paths import is_local
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import flag
from pipelines._cli.named import FILE, OUTPUT_FILE, STATISTICS_FILE
from pipelines._cli.options import InputOptions, RunOptions, SplitOptions
from pipelines._cli.streams import StreamOptions, is_endless
from pipelines._options.statistics import DEFAULT_NAME, StatisticsFlags, check_inputs_apart, check_new_file

_EXAMPLES = """examples:
  what is in some files, as a table, and nothing else
    penstock profile --input 'data/*.csv'

  a file of statistics, the same as JSON beside it, and a report for a browser
    penstock profile --input 'data/*.csv' --output may.pb --report may.html

  by the values of a column, and by the splits that a dataset will have
    penstock profile --input 'data/*.parquet' --slice_by country --split train=0.9,eval=0.1 --output may.pb

  statistics of parts are statistics of the whole
    penstock profile --merge april.pb may.pb june.pb --output quarter.pb

exit codes: 0 done; 1 the data failed (no rows, a truncated file); 2 wrong usage or configuration"""


@dataclasses.dataclass(frozen=True)
class ProfileFlags(StatisticsFlags):
    """What statistics are of, and where they go."""

    weight: str | None = flag("column with the weight of each row, for weighted statistics", metavar="COLUMN")
    label: str | None = flag("the column to learn: how much each column tells of it", metavar="COLUMN")
    schema: str | None = flag(
        "tensorflow_metadata Schema in text format, by which the columns are read (default: types are inferred, which "
        "takes a second pass if the beginning and the end of the input do not show them)",
        metavar="FILE",
        names=FILE,
    )
    merge: tuple[str, ...] = flag(
        "merge these files of statistics, or those of datasets, instead of reading rows",
        (),
        nargs="+",
        action="extend",
        metavar="FILE.pb",
        names=STATISTICS_FILE,
    )
    output: str | None = flag(
        f"file of the statistics, or a folder, where it is called {DEFAULT_NAME}; the same as JSON is beside it",
        metavar="FILE.pb|DIR",
        names=OUTPUT_FILE,
    )
    report: str | None = flag("write a report, one HTML file", metavar="FILE.html", names=OUTPUT_FILE)
    overwrite: bool = flag("replace the files OUTPUT and REPORT", False, action="store_true")

    @property
    def file(self) -> str | None:
        """The file of the statistics; None if nobody wants one."""
        if self.output is None or self.output.endswith(".pb"):
            return self.output
        return f"{self.output.rstrip('/')}/{DEFAULT_NAME}"


@dataclasses.dataclass(frozen=True)
class ProfileOptions(JobOptions):
    """All flags of the job, by family, and Beam's."""

    name: ClassVar[str] = "profile"
    description: ClassVar[str] = "Computes statistics of rows: each column's values, and how columns go together."
    examples: ClassVar[str] = _EXAMPLES

    input: InputOptions
    profile: ProfileFlags
    split: SplitOptions
    run: RunOptions

    def check(self) -> None:
        """Refuses flags that are missing or do not go together.

        Raises:
          ConfigError: names them.
        """
        self.run.check_runs()
        if not self.profile.merge:
            self.input.check_given()
            self.split.names()
            if is_endless(self.input, StreamOptions()):
                raise ConfigError(
                    "a profile is of input with an end, and this has none: for Kafka, pass stop=latest in the URI"
                )
            return
        for name in ("input", "schema", "slice_by", "weight", "label"):
            if name in self.given:
                raise ConfigError(f"--merge reads files of statistics, and no rows: leave out --{name}")

    def check_apart(self) -> None:
        """Refuses files that are there, unless they may be replaced, and those among the inputs.

        Raises:
          ConfigError: names them.
        """
        for name, path in (("output", self.profile.file), ("report", self.profile.report)):
            if path is not None:
                check_new_file(name, path, self.profile.overwrite)
                check_inputs_apart(self.input.input, path)
        output = self.profile.output
        if output and not output.endswith(".pb") and is_local(output) and os.path.isfile(output):
            raise ConfigError(f"--output {output}: is a file that is not called .pb; name a folder, or FILE.pb")
