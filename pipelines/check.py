"""Holds statistics against a schema and against earlier statistics, and names what is wrong.

::

    penstock check --statistics may.pb --schema schema.pbtxt --baseline april.pb
    penstock check --input 'today/*.csv' --schema schema.pbtxt --baseline dataset
"""

from collections.abc import Sequence

from pipelines._cli.command import announce, command, end, shown
from pipelines._options.check import CheckStatisticsOptions
from pipelines._report.process import imports


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when no error was found, 1 when one was.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: an input or a file of statistics that cannot be used.
    """
    options = CheckStatisticsOptions.parse(argv)
    options.find()
    if options.run.is_announced:
        announce("check", str(options.checked.statistics or shown(options.input.input)))

    with imports():
        from pipelines._jobs import check as _check

    with options.run.temporary_files():
        return _check.run(options)


if __name__ == "__main__":
    end(command("check", run))
