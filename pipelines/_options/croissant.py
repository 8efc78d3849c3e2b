"""The flags of `croissant`."""

import dataclasses
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, bare, flag
from pipelines._cli.named import OUTPUT_FILE, SHOWN

_EXAMPLES = """examples:
  beside the dataset, where others find it
    penstock croissant dataset --output dataset/croissant.json

  with what only you know of it
    penstock croissant dataset --dataset_name 'Flights of May' --license CC-BY-4.0 --creator 'Example Ltd'

exit codes: 0 done; 1 a shard is damaged; 2 wrong usage, no dataset"""


@dataclasses.dataclass(frozen=True)
class DescribedOptions(Options):
    """Which dataset is described, and what is said of it."""

    title = "dataset"

    dataset: tuple[str, ...] = bare("folder of the dataset", SHOWN, metavar="DATASET")
    output: str | None = flag(
        "write the metadata to this file (default: print it); its paths are relative to DATASET, so it belongs there, "
        "as DATASET/croissant.json",
        metavar="FILE",
        names=OUTPUT_FILE,
    )
    dataset_name: str | None = flag("name of the dataset (default: that of its folder)", metavar="NAME")
    dataset_description: str | None = flag("what it holds, in words (default: its rows and splits)", metavar="TEXT")
    license: str | None = flag("its license, a name of SPDX or an address", metavar="NAME|URL")
    url: str | None = flag("a page about it", metavar="URL")
    cite_as: str | None = flag("how to cite it, in words or as BibTeX", metavar="TEXT")
    creator: str | None = flag("who made it", metavar="NAME")
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class CroissantOptions(JobOptions):
    """All flags of the job."""

    name: ClassVar[str] = "croissant"
    description: ClassVar[str] = "Describes a dataset in Croissant, the metadata that tools of machine learning read."
    examples: ClassVar[str] = _EXAMPLES

    described: DescribedOptions

    def check(self) -> None:
        """Refuses a command line without a dataset, or with several.

        Raises:
          ConfigError: says what to give.
        """
        if len(self.described.dataset) != 1:
            raise ConfigError(f"DATASET is required, one folder that a job wrote: got {len(self.described.dataset)}")
