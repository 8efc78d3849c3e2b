"""Relaxes a schema to what the data holds, and shows the difference.

::

    penstock relax --input 'data/*.csv' --schema schema.pbtxt --output relaxed.pbtxt

Every row is held against the schema, and each demand that some row breaks is widened until all rows meet it
(`penstock.transforms.relax` lists how). The summary says for each of them how many rows break it, and what became of
the schema. The relaxed schema accepts every row that can be read; what it no longer says is for somebody to judge.
"""

from collections.abc import Sequence

from pipelines._cli.command import announce, command, end, shown
from pipelines._options.relax import RelaxOptions
from pipelines._report.process import imports


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: an input that cannot be used, or has no rows.
    """
    options = RelaxOptions.parse(argv)
    options.find()
    if options.run.is_announced:
        announce("relax", f"{options.schema.schema} to {shown(options.input.input)} -> {options.schema.output}")

    with imports():
        from pipelines._jobs import relax as _relax

    with options.run.temporary_files():
        return _relax.run(options)


if __name__ == "__main__":
    end(command("relax", run))
