"""Tells what lies in the folder of a dataset, also while a job writes it: windows, gaps, what is no part of it.

::

    penstock status --output out
    penstock status --output out --json
"""

from collections.abc import Sequence

from pipelines._cli.command import command, end
from pipelines._options.status import StatusOptions


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when it could be told, 1 when a manifest cannot be read, or a file that one names is missing.

    Raises:
      ConfigError: when there is no dataset, and no job writes one.
    """
    options = StatusOptions.parse(argv)
    options.find()

    from pipelines._inspect import status

    return status.run(options)


if __name__ == "__main__":
    end(command("status", run))
