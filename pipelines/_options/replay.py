"""The flags of `replay`."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from penstock.io.dataset.options import DEFAULT_MAX_ATTEMPTS
from penstock.io.errors import ConfigError
from pipelines._cli.flags import comma_list, flag, fraction, positive
from pipelines._cli.named import PATTERN
from pipelines._cli.options import CheckOptions, ReadingOptions
from pipelines._options.dataset import DatasetJobOptions

_EXAMPLES = """examples:
  the rules were wrong: the rows that they rejected, with corrected ones
    penstock replay --dead_letters 'out/dead_letters/*.jsonl' --rules corrected.yaml --output repaired

  only what came too late, into windows of its own
    penstock replay --dead_letters 'out/dead_letters/*/*.jsonl' --reasons late --window fixed:60s \\
        --num_shards 4 --output late

  what nobody repaired in three attempts, once more
    penstock replay --dead_letters 'repaired/dead_letters/parked/*.jsonl' --max_attempts 4 --output again

exit codes: 0 done; 1 the data failed; 2 wrong usage or configuration"""


@dataclasses.dataclass(frozen=True)
class DeadLetterOptions(ReadingOptions):
    """Which dead letters are read, and how the rows in them are."""

    title = "dead letters"

    dead_letters: tuple[str, ...] = flag(
        "file of dead letters or quoted pattern; repeat it for several",
        (),
        action="append",
        metavar="PATTERN",
        names=PATTERN,
    )
    max_attempts: int = flag("park letters that failed so often", DEFAULT_MAX_ATTEMPTS, type=positive, metavar="N")
    reasons: tuple[str, ...] = flag(
        "try only letters with one of these reasons, such as rule.*; the others go to OUTPUT as they are",
        (),
        type=comma_list,
        metavar="CODE,CODE",
    )
    release: tuple[str, ...] = flag(
        "replays that were killed and run nowhere any more: what they had claimed is free again",
        (),
        type=comma_list,
        metavar="RUN_ID,RUN_ID",
    )


@dataclasses.dataclass(frozen=True)
class ReplayCheckOptions(CheckOptions):
    """What a good row is; that many are not is nothing special here."""

    max_reject_fraction: float = flag(
        "fail, and publish nothing, when more than this part of the letters is rejected again",
        1.0,
        type=fraction,
        metavar="F",
    )


@dataclasses.dataclass(frozen=True)
class ReplayOptions(DatasetJobOptions):
    """All flags of the job: those of `prepare`, but with dead letters for input."""

    name: ClassVar[str] = "replay"
    description: ClassVar[str] = "Sends dead letters through the job again that rejected them."
    examples: ClassVar[str] = _EXAMPLES
    elsewhere: ClassVar[Mapping[str, str]] = {"--input": "is what prepare reads; a replay reads --dead_letters"}

    may_append: ClassVar[bool] = True

    input: DeadLetterOptions
    checks: ReplayCheckOptions

    @property
    def is_endless(self) -> bool:
        """Never: with --watch, files are replayed one batch after the other."""
        return False

    def check_input(self) -> None:
        """Refuses a replay without dead letters.

        Raises:
          ConfigError: says what to give.
        """
        self.run.check_runs()
        if not self.input.dead_letters:
            raise ConfigError(
                "--dead_letters is required: a file or a quoted pattern such as 'out/dead_letters/*.jsonl'"
            )
        if self.output.append and self.stream.watch is not None:
            raise ConfigError("--append adds one replay to a dataset, and --watch makes many: leave one of them out")
        if self.statistics.report and self.stream.watch is not None:
            raise ConfigError(
                "--report is of one replay, and --watch makes many, each in its folder: leave it out; penstock status "
                "--output DIR/RUN_ID --report FILE.html makes one of any of them"
            )
