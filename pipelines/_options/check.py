"""The flags of `check`."""

import dataclasses
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, flag
from pipelines._cli.named import OUTPUT_FILE, STATISTICS_FILE
from pipelines._cli.options import InputOptions, RunOptions
from pipelines._cli.streams import StreamOptions, is_endless
from pipelines._options.statistics import AgainstOptions, ThresholdOptions, check_inputs_apart, check_new_file

_EXAMPLES = """examples:
  statistics against a schema: what of all rows is not as it says
    penstock check --statistics may.pb --schema schema.pbtxt

  rows that came today against those that a model was trained on
    penstock check --input 'today/*.csv' --schema schema.pbtxt --baseline dataset

  a column of ids that grow is none, and means may move by half a standard deviation
    penstock check --statistics may.pb --baseline april.pb --ignore id --threshold mean=0.5

  a step of a script: the message says why it ends
    penstock check --statistics may.pb --baseline april.pb --json | jq '.findings[0]'

exit codes: 0 no error; 1 an error was found, or the data failed; 2 wrong usage or configuration"""


@dataclasses.dataclass(frozen=True)
class CheckedOptions(Options):
    """What is checked, and where the findings go."""

    title = "statistics"

    statistics: str | None = flag(
        "statistics to check: a file, or a dataset, of which those of its rows are taken",
        metavar="FILE.pb|DATASET",
        names=STATISTICS_FILE,
    )
    anomalies_output: str | None = flag(
        "file for the findings as tensorflow_metadata Anomalies, in text format for a name that ends in .pbtxt",
        metavar="FILE.pb",
        names=OUTPUT_FILE,
    )
    report: str | None = flag("write a report, one HTML file", metavar="FILE.html", names=OUTPUT_FILE)
    overwrite: bool = flag("replace the files ANOMALIES_OUTPUT and REPORT", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class CheckStatisticsOptions(JobOptions):
    """All flags of the job, by family, and Beam's."""

    name: ClassVar[str] = "check"
    description: ClassVar[str] = "Holds statistics against a schema and against earlier ones, and names what is wrong."
    examples: ClassVar[str] = _EXAMPLES

    checked: CheckedOptions
    against: AgainstOptions
    limits: ThresholdOptions
    input: InputOptions
    run: RunOptions

    def check(self) -> None:
        """Refuses flags that are missing or do not go together.

        Raises:
          ConfigError: names them.
        """
        self.run.check_runs()
        if not self.checked.statistics and not self.input.input:
            raise ConfigError("--statistics is required, or --input: what is checked")
        if self.checked.statistics and self.input.input:
            raise ConfigError("--statistics and --input both say what is checked: pass one of them")
        if not (self.against.schema or self.against.baseline or self.against.serving):
            raise ConfigError("--schema is required, or --baseline, or --serving: what is expected")
        if self.against.environment and not self.against.schema:
            raise ConfigError("--environment is about a schema: pass --schema too")
        if self.limits != ThresholdOptions() and not (self.against.baseline or self.against.serving):
            raise ConfigError("--threshold and --ignore are about drift and skew: pass --baseline or --serving too")
        self.limits.thresholds()
        if self.input.input and is_endless(self.input, StreamOptions()):
            raise ConfigError("a check is of input with an end, and this has none: for Kafka, pass stop=latest")

    def check_apart(self) -> None:
        """Refuses files that are there, unless they may be replaced, and those among the inputs.

        Raises:
          ConfigError: names them.
        """
        for name in ("anomalies_output", "report"):
            if (path := getattr(self.checked, name)) is not None:
                check_new_file(name, path, self.checked.overwrite)
                check_inputs_apart(self.input.input, path)
