"""Shows what differs between the statistics of two datasets.

::

    penstock compare april.pb may.pb
    penstock compare dataset_v1 dataset_v2 --report difference.html
"""

from collections.abc import Sequence

from pipelines._cli.command import command, end
from pipelines._options.compare import CompareOptions
from pipelines._report.process import imports


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Raises:
      ConfigError: wrong usage, or a file that is not there.
      DataError: a file of statistics that cannot be read.
    """
    options = CompareOptions.parse(argv)
    options.find()

    with imports():
        from pipelines._jobs import compare as _compare

    return _compare.run(options)


if __name__ == "__main__":
    end(command("compare", run))
