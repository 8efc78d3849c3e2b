"""Replays dead letters: the rows that a job rejected, through the same job again, once what was wrong is put right.

::

    penstock replay --dead_letters 'out/dead_letters/*.jsonl' --rules corrected.yaml --output repaired
    penstock replay --dead_letters 'out/dead_letters/**.jsonl' --reasons 'rule.*,late' --output repaired
    penstock replay --dead_letters 'out/dead_letters/*.jsonl' --watch 60 --output repaired

A replay takes the flags of `pipelines.prepare`. If format, schema, rules or splits are not given, it takes them from
the dataset that the dead letters lie in, and it applies the fitted graph of that dataset again. Any run may have
written the dead letters, from files or from a stream.

Letters in = rows out + rejected + parked. OUTPUT is a dataset of its own, of the repaired rows. A row that is rejected
again becomes a dead letter there, with one attempt more. A row that has failed `--max_attempts` times is parked in
`OUTPUT/dead_letters/parked/` (`OUTPUT/dead_letters/<start>/parked/` with `--window`), and is not tried again unless a
later replay allows more attempts. With `--reasons` only letters with one of these reasons are tried. A replay claims a
file as a whole, so it moves the other letters to `OUTPUT/dead_letters/`, with the attempts that they had, for the next
replay.

A file of dead letters is claimed, and replayed once, whoever replays (`penstock.io.dead_letters.replay.claims`). The
file stays where it is, so that its dataset remains good. A run that fails gives its claims back.

`--watch` looks for new files every so many seconds, and replays each batch of them into a dataset of its own,
`OUTPUT/<run id>/`. It is no stream: rows of dead letters are late by nature, so that a watermark would say nothing. It
goes on until it is interrupted, and can be started again at any time.
"""

from collections.abc import Sequence

from pipelines._cli.command import announce, command, end, shown
from pipelines._options.replay import ReplayOptions
from pipelines._report.process import imports


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

    with imports():
        from pipelines._jobs import replay as _replay

    with options.metrics.serving(options.run.is_described), options.run.temporary_files():
        return _replay.run(options)


if __name__ == "__main__":
    end(command("replay", run))
