"""Traces a record of a dataset back to the row that it was made of, where the dataset keeps origins.

::

    penstock prepare --input 'data/*.csv' --output dataset --keep_origin
    penstock trace dataset train/part-00000-of-00001.tfrecord.gz --record 17
"""

from collections.abc import Sequence

from pipelines._cli.command import command, end
from pipelines._options.trace import TraceOptions


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when the origin of the record is shown, also if its input is not there any more.

    Raises:
      ConfigError: when there is no such dataset, shard or record, or the dataset keeps no origins.
      DataError: when its manifest is damaged, or the shard has another size than that says.
      InputError: when the shard is damaged.
    """
    options = TraceOptions.parse(argv)
    options.find()

    from pipelines._inspect import trace

    return trace.run(options)


if __name__ == "__main__":
    end(command("trace", run))
