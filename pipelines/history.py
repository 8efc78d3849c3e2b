"""Shows how the metrics of a dataset went over time, run by run or window by window, and names what left its history.

::

    penstock history --dataset out --add today.pb
    penstock history --dataset out --feature fare --metric mean
    penstock history --dataset out --json
"""

from collections.abc import Sequence

from pipelines._cli.command import command, end
from pipelines._options.history import HistoryOptions


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when it could be told, whatever it is.

    Raises:
      ConfigError: when there is no history, or it has no such feature, metric or split.
      InputError: when a file of the history, or of the statistics to add, is damaged.
    """
    options = HistoryOptions.parse(argv)
    options.find()

    from pipelines._inspect import history

    return history.run(options)


if __name__ == "__main__":
    end(command("history", run))
