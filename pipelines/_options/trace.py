"""The flags of `trace`."""

import dataclasses
from typing import ClassVar

from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, bare, flag
from pipelines._cli.named import DATASET_BARE

_EXAMPLES = """examples:
  the row that a record at this byte was made of, as a message about it has the byte
    penstock trace dataset train/part-00000-of-00004.tfrecord.gz 81920

  the first record of a shard
    penstock trace dataset train/part-00000-of-00001.parquet --record 0

exit codes: 0 traced; 1 the shard is damaged; 2 wrong usage, or the dataset keeps no origins"""


@dataclasses.dataclass(frozen=True)
class TracedOptions(Options):
    """Which record is traced."""

    title = "record"

    place: tuple[str, ...] = bare(
        "folder of the dataset, the path of a shard in it, and the offset of a record: of TFRecord a byte of the "
        "shard before its compression, of other formats the number of the record from 0",
        DATASET_BARE,
        metavar="DATASET SHARD OFFSET",
    )
    record: int | None = flag("number of the record in the shard, from 0, in place of OFFSET", type=int, metavar="N")
    json: bool = flag("print what is found as one line of JSON (docs/jobs.md)", False, action="store_true")
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class TraceOptions(JobOptions):
    """All flags of the job."""

    name: ClassVar[str] = "trace"
    description: ClassVar[str] = "Shows which row of which input a record of a dataset was made of."
    examples: ClassVar[str] = _EXAMPLES

    traced: TracedOptions

    @property
    def dataset(self) -> str:
        """The folder of the dataset."""
        return self.traced.place[0].rstrip("/") or self.traced.place[0]

    @property
    def shard(self) -> str:
        """The path of the shard in it, which may have been given with that of the dataset, as messages have it."""
        return self.traced.place[1].removeprefix(f"{self.dataset}/")

    @property
    def offset(self) -> int | None:
        """Where the record is; None where it is known by its number."""
        return int(self.traced.place[2]) if len(self.traced.place) == 3 else None

    def check(self) -> None:
        """Refuses a command line that does not say which record.

        Raises:
          ConfigError: says what to give.
        """
        place, record = self.traced.place, self.traced.record
        if len(place) != (3 if record is None else 2):
            raise ConfigError(
                f"DATASET SHARD OFFSET are required, or DATASET SHARD --record N: got {len(place)} arguments"
                f"{'' if record is None else ' and --record'}"
            )
        if len(place) == 3 and not (place[2].isascii() and place[2].isdecimal()):
            raise ConfigError(f"OFFSET must be a whole number from 0, got {place[2]!r}")
        if record is not None and record < 0:
            raise ConfigError(f"--record must be a whole number from 0, got {record}")
