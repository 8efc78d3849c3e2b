"""Shows a dataset: its first records, columns, splits, sizes and statistics, and the lines that load it.

::

    penstock show dataset
    penstock show dataset --split eval --rows 100
    penstock show dataset --json
"""

from collections.abc import Sequence

from pipelines._cli.command import command, end
from pipelines._options.show import ShowOptions


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when the dataset is shown.

    Raises:
      ConfigError: when there is no dataset, or it has no such split.
      DataError: when its manifest is damaged.
      InputError: when a shard is damaged.
    """
    options = ShowOptions.parse(argv)
    options.find()

    from pipelines._inspect import show

    return show.run(options)


if __name__ == "__main__":
    end(command("show", run))
