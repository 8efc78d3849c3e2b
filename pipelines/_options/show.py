"""The flags of `show`."""

import dataclasses
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, bare, flag, positive
from pipelines._cli.named import SHOWN

_EXAMPLES = """examples:
  penstock show dataset
  penstock show s3://bucket/dataset --split eval --rows 100
  penstock show dataset --json | jq -r '.load[]'

exit codes: 0 shown; 1 a manifest or a shard is damaged; 2 wrong usage, no dataset"""


@dataclasses.dataclass(frozen=True)
class ShownOptions(Options):
    """Which dataset is shown, and how much of it."""

    title = "dataset"

    dataset: tuple[str, ...] = bare("folder of the dataset", SHOWN, metavar="DATASET")
    split: str | None = flag("the split whose first records are shown (default: train, or the first)", metavar="NAME")
    rows: int = flag("how many records are shown", 5, type=positive, metavar="N")
    json: bool = flag("print what is shown as one line of JSON (docs/jobs.md)", False, action="store_true")
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class ShowOptions(JobOptions):
    """All flags of the job."""

    name: ClassVar[str] = "show"
    description: ClassVar[str] = "Shows the first records of a dataset, its columns and splits, and how to load it."
    examples: ClassVar[str] = _EXAMPLES

    shown: ShownOptions

    def check(self) -> None:
        """Refuses a command line without a dataset, or with several.

        Raises:
          ConfigError: says what to give.
        """
        if len(self.shown.dataset) != 1:
            raise ConfigError(f"DATASET is required, one folder that a job wrote: got {len(self.shown.dataset)}")
