"""Replays dead letters: the rows that a job rejected, through the same job again, once what was wrong is put right.

::

    penstock replay --dead_letters 'out/dead_letters/*.jsonl' --rules corrected.yaml --output repaired
    penstock replay --dead_letters 'out/dead_letters/**.jsonl' --reasons 'rule.*,late' --output repaired
    penstock replay --dead_letters 'out/dead_letters/*.jsonl' --watch 60 --output repaired

It takes the flags of `pipelines.prepare`; those of format, schema, rules, splits and features that are not given are
those of the run that wrote the letters, where they lie in its dataset, and its fitted graph is applied again. The
letters are those of any run, of files or a stream.

Letters in = rows out + rejected + parked. What is repaired goes to OUTPUT, a dataset of its own. What is rejected again
becomes a dead letter there, with one attempt more; what has failed `--max_attempts` times goes to a folder of its own,
`OUTPUT/dead_letters/parked/` (`OUTPUT/dead_letters/<start>/parked/` with `--window`), and is not tried again unless a
later replay allows more attempts. With `--reasons` only letters with one of these reasons are tried. The others are not
left behind, for a file is claimed as a whole: they move to `OUTPUT/dead_letters/` with the attempts that they had, for
the next replay.

Each file of letters is claimed, and replayed once, whoever replays (`penstock.io.dead_letters.replay.claims`). It stays
where it is: the dataset that it lies in remains good. A run that fails gives its claims back.

`--watch` looks for new files so often, and replays each batch of them into a dataset of its own, `OUTPUT/<run id>/`.
It is no stream: the rows of dead letters are late by nature, so that a watermark would have nothing to say. It goes on
until it is interrupted, and can be started again at any time.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import ClassVar

from penstock.io.dataset.options import DEFAULT_MAX_ATTEMPTS
from penstock.io.errors import ConfigError
from pipelines._cli.command import announce, command, shown
from pipelines._cli.flags import comma_list, flag, fraction, positive
from pipelines._cli.named import PATTERN
from pipelines._cli.options import CheckOptions, InputOptions
from pipelines.prepare import PrepareOptions

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
class LetterOptions(InputOptions):
    """Which dead letters, and how their bytes are read."""

    title = "dead letters"

    input: tuple[str, ...] = flag(argparse.SUPPRESS, (), action="append")
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
class LetterCheckOptions(CheckOptions):
    """What a good row is; that many are not is nothing special here."""

    max_reject_fraction: float = flag(
        "fail, and publish nothing, when more than this part of the letters is rejected again",
        1.0,
        type=fraction,
        metavar="F",
    )


@dataclasses.dataclass(frozen=True)
class ReplayOptions(PrepareOptions):
    """All flags of the job: those of `prepare`, with dead letters for input."""

    name: ClassVar[str] = "replay"
    description: ClassVar[str] = "Sends dead letters through the job again that rejected them."
    examples: ClassVar[str] = _EXAMPLES

    input: LetterOptions
    checks: LetterCheckOptions

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
        if self.input.input:
            raise ConfigError("--input is what prepare reads; a replay reads --dead_letters")
        if not self.input.dead_letters:
            raise ConfigError(
                "--dead_letters is required: a file or a quoted pattern such as 'out/dead_letters/*.jsonl'"
            )


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: dead letters that cannot be used, or are claimed by other replays.
    """
    options = ReplayOptions.parse(argv)
    options.find(may_be_missing=() if options.stream.watch is None else ("dead_letters",))
    if options.run.is_announced:
        announce("replay", f"{shown(options.input.dead_letters)} -> {options.output.output}")

    from pipelines import _replay

    return _replay.run(options)


if __name__ == "__main__":
    sys.exit(command("replay", run))
