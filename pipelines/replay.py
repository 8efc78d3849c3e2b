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

import sys
from collections.abc import Sequence

from pipelines._cli.command import announce, command, shown
from pipelines._options.replay import ReplayOptions


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
