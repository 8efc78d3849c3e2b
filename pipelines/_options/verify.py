"""The flags of `verify`."""

import dataclasses
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, flag
from pipelines._cli.named import DATASET

_EXAMPLES = """examples:
  penstock verify --dataset out
  penstock verify --dataset out --json | jq '.faults[].code'

exit codes: 0 the dataset is good; 1 it has a fault; 2 wrong usage"""


@dataclasses.dataclass(frozen=True)
class DatasetOptions(Options):
    """Which dataset is verified, and how the result is printed."""

    title = "dataset"

    dataset: str | None = flag("folder of the dataset", metavar="DIR", names=DATASET)
    json: bool = flag("print how the job ended as one line of JSON (docs/jobs.md)", False, action="store_true")
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
            raise ConfigError("--dataset is required: the folder that a job wrote")
