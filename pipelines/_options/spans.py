"""The flags of the jobs about spans and versions: `spans`, `log`, `diff`, `drop-span`, `retain` and `compact`."""

import abc
import dataclasses
from typing import ClassVar

from penstock.io.beam.durations import MILLISECOND, as_duration, parse_duration
from penstock.io.dataset.options import check_span_name
from penstock.io.errors import ConfigError
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, bare, byte_size, duration, flag
from pipelines._cli.named import DATASET_BARE, SPILL

_CODES = "exit codes: 0 done; 1 the data failed; 2 wrong usage"
_JSON = "print the result as one line of JSON (docs/jobs.md)"
_VERBOSE = "show the traceback of a failure, and all that is logged of it"


@dataclasses.dataclass(frozen=True)
class _Arguments(Options, abc.ABC):
    """What a job is told without flags."""

    title = "dataset"

    @property
    @abc.abstractmethod
    def given(self) -> tuple[str, ...]:
        """The arguments, that of the dataset first."""


@dataclasses.dataclass(frozen=True)
class DatasetArgument(_Arguments):
    """A dataset."""

    dataset: tuple[str, ...] = bare("folder of the dataset", DATASET_BARE, metavar="DATASET")
    json: bool = flag(_JSON, False, action="store_true")
    verbose: bool = flag(_VERBOSE, False, action="store_true")

    @property
    def given(self) -> tuple[str, ...]:
        """The dataset."""
        return self.dataset


@dataclasses.dataclass(frozen=True)
class VersionArguments(_Arguments):
    """A dataset, and two of its versions."""

    versions: tuple[str, ...] = bare(
        "folder of the dataset, and the numbers of two versions, before and after (default: the newest and the one "
        "before)",
        DATASET_BARE,
        metavar="DATASET A B",
    )
    json: bool = flag(_JSON, False, action="store_true")
    verbose: bool = flag(_VERBOSE, False, action="store_true")

    @property
    def given(self) -> tuple[str, ...]:
        """The dataset and the versions."""
        return self.versions


@dataclasses.dataclass(frozen=True)
class SpanArguments(_Arguments):
    """A dataset, and some of its spans."""

    spans: tuple[str, ...] = bare("folder of the dataset, and the names of spans", DATASET_BARE, metavar="DATASET SPAN")
    json: bool = flag(_JSON, False, action="store_true")
    verbose: bool = flag(_VERBOSE, False, action="store_true")

    @property
    def given(self) -> tuple[str, ...]:
        """The dataset and the spans."""
        return self.spans


@dataclasses.dataclass(frozen=True)
class AgeArguments(_Arguments):
    """A dataset, and how old its spans may be."""

    age: tuple[str, ...] = bare(
        "folder of the dataset, and the age beyond which spans are dropped, such as 90d",
        DATASET_BARE,
        metavar="DATASET AGE",
    )
    dry_run: bool = flag("say which spans would be dropped, and drop none", False, action="store_true")
    json: bool = flag(_JSON, False, action="store_true")
    verbose: bool = flag(_VERBOSE, False, action="store_true")

    @property
    def given(self) -> tuple[str, ...]:
        """The dataset and the age."""
        return self.age


@dataclasses.dataclass(frozen=True)
class CompactArguments(_Arguments):
    """A dataset, the spans or windows that are put together, and how."""

    spans: tuple[str, ...] = bare(
        "folder of the dataset, and the names of the spans that are put together (default: all; windows have no names)",
        DATASET_BARE,
        metavar="DATASET SPAN",
    )
    name: str | None = flag("of the span that comes of them (default: FIRST..LAST)", metavar="NAME")
    shard_bytes: int | None = flag(
        "aimed size of a shard, uncompressed (default: 128MiB)", type=byte_size, metavar="SIZE"
    )
    period: str | None = flag(
        "of windows: those that begin in the same period are put together; periods count from 1970, UTC (default: 1d)",
        type=duration,
        metavar="DURATION",
    )
    spill_dir: str | None = flag(
        "folder on this machine for the records while they are sorted (default: in DATASET; where that is in a store, "
        "TMPDIR)",
        metavar="DIR",
        names=SPILL,
    )
    json: bool = flag(_JSON, False, action="store_true")
    verbose: bool = flag(_VERBOSE, False, action="store_true")

    @property
    def given(self) -> tuple[str, ...]:
        """The dataset and the spans."""
        return self.spans


class _SpansJobOptions(JobOptions):
    """Of a job that is told a dataset first, and then more."""

    # How many arguments there must be at least, and may be at most.
    counts: ClassVar[tuple[int, int]] = (1, 1)
    # Of the arguments, for messages.
    usage: ClassVar[str] = "DATASET"

    @property
    @abc.abstractmethod
    def _given(self) -> tuple[str, ...]: ...

    @property
    def dataset(self) -> str:
        """The folder of the dataset."""
        return self._given[0].rstrip("/") or self._given[0]

    @property
    def others(self) -> tuple[str, ...]:
        """The arguments behind that of the dataset."""
        return self._given[1:]

    def check(self) -> None:
        """Refuses another number of arguments.

        Raises:
          ConfigError: says what to give.
        """
        least, most = self.counts
        if not least <= len(self._given) <= most:
            verb = "are" if " " in self.usage else "is"
            raise ConfigError(f"{self.usage} {verb} required, got {len(self._given)} arguments; see --help")


@dataclasses.dataclass(frozen=True)
class SpansOptions(_SpansJobOptions):
    """All flags of `spans`."""

    name: ClassVar[str] = "spans"
    description: ClassVar[str] = "Lists the spans of a dataset: what was added to it when, and how many rows."
    examples: ClassVar[str] = f"examples:\n  penstock spans dataset\n\n{_CODES}"

    arguments: DatasetArgument

    @property
    def _given(self) -> tuple[str, ...]:
        return self.arguments.given


@dataclasses.dataclass(frozen=True)
class LogOptions(_SpansJobOptions):
    """All flags of `log`."""

    name: ClassVar[str] = "log"
    description: ClassVar[str] = "Lists the versions of a dataset, the newest first."
    examples: ClassVar[str] = f"examples:\n  penstock log dataset\n\n{_CODES}"

    arguments: DatasetArgument

    @property
    def _given(self) -> tuple[str, ...]:
        return self.arguments.given


@dataclasses.dataclass(frozen=True)
class DiffOptions(_SpansJobOptions):
    """All flags of `diff`."""

    name: ClassVar[str] = "diff"
    description: ClassVar[str] = "Shows what differs between two versions of a dataset: spans, rows by split, schema."
    examples: ClassVar[str] = f"examples:\n  penstock diff dataset\n  penstock diff dataset 3 7\n\n{_CODES}"
    counts: ClassVar[tuple[int, int]] = (1, 3)
    usage: ClassVar[str] = "DATASET, or DATASET A B with two numbers of versions,"

    arguments: VersionArguments

    @property
    def _given(self) -> tuple[str, ...]:
        return self.arguments.given

    @property
    def numbers(self) -> tuple[int, int] | None:
        """The two versions; None for the newest and the one before."""
        return (int(self.others[0]), int(self.others[1])) if self.others else None

    def check(self) -> None:
        """Refuses one version alone, and what is no number.

        Raises:
          ConfigError: says what to give.
        """
        super().check()
        if self.others and not (len(self.others) == 2 and all(one.isdecimal() for one in self.others)):
            raise ConfigError(f"A B must be two numbers of versions, as penstock log lists them, got {self.others}")


@dataclasses.dataclass(frozen=True)
class DropSpanOptions(_SpansJobOptions):
    """All flags of `drop-span`."""

    name: ClassVar[str] = "drop-span"
    description: ClassVar[str] = "Publishes a version of a dataset without some of its spans."
    examples: ClassVar[str] = f"examples:\n  penstock drop-span dataset 2026-11-27\n\n{_CODES}"
    counts: ClassVar[tuple[int, int]] = (2, 1 << 20)
    usage: ClassVar[str] = "DATASET SPAN"

    arguments: SpanArguments

    @property
    def _given(self) -> tuple[str, ...]:
        return self.arguments.given


@dataclasses.dataclass(frozen=True)
class RetainOptions(_SpansJobOptions):
    """All flags of `retain`."""

    name: ClassVar[str] = "retain"
    description: ClassVar[str] = "Publishes a version of a dataset without the spans that are older than an age."
    examples: ClassVar[str] = (
        f"examples:\n  penstock retain dataset 90d\n  penstock retain dataset 90d --dry_run\n\n{_CODES}"
    )
    counts: ClassVar[tuple[int, int]] = (2, 2)
    usage: ClassVar[str] = "DATASET AGE"

    arguments: AgeArguments

    @property
    def _given(self) -> tuple[str, ...]:
        return self.arguments.given

    def check(self) -> None:
        """Refuses what is no age.

        Raises:
          ConfigError: says what to give.
        """
        super().check()
        parse_duration(self.others[0])


@dataclasses.dataclass(frozen=True)
class CompactOptions(_SpansJobOptions):
    """All flags of `compact`."""

    name: ClassVar[str] = "compact"
    description: ClassVar[str] = "Puts spans or windows of a dataset together: the same records in larger shards."
    examples: ClassVar[str] = (
        "examples:\n  penstock compact dataset\n  penstock compact dataset 2026-11-26 2026-11-27 --name november\n"
        "  penstock compact stream --period 1h\n\n"
        f"{_CODES}"
    )
    counts: ClassVar[tuple[int, int]] = (1, 1 << 20)

    arguments: CompactArguments

    @property
    def _given(self) -> tuple[str, ...]:
        return self.arguments.given

    def check(self) -> None:
        """Refuses what is no period, and what is no name of a span.

        Raises:
          ConfigError: says what to give.
        """
        super().check()
        if self.arguments.name is not None:
            check_span_name(self.arguments.name)
        if self.arguments.period is not None:
            as_duration(self.arguments.period, "--period", MILLISECOND, MILLISECOND)
