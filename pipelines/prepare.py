"""The main job: raw files in, a verified dataset of TFRecord shards out.

::

    penstock prepare --input 'data/*.csv' --output out
    penstock prepare --config examples/flights/job.yaml --input flights.csv --output out

A run is up to three pipelines, one after the other, so that no runner has to hold rows between them. The first infers
the schema, if none is given; the second fits the features, if there are any and no fitted graph; the last writes. Each
reads the input again; a file that changes in between fails the job. Only the last one writes dead letters.

The same job reads a stream, from Kafka or a folder that files come into, and writes a dataset for each window of event
time, or of the time at which rows come. There the schema is given, and the graph of the features was fitted before::

    penstock prepare --input 'kafka://localhost:9092/events' --schema schema.pbtxt --transform graph \\
        --window fixed:60s --allowed_lateness 30s --num_shards 4 --output out --runner FlinkRunner
"""

from collections.abc import Sequence

from pipelines._cli.command import announce, command, end, shown
from pipelines._options.prepare import PrepareOptions
from pipelines._report.process import imports


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when the dataset is published, 1 when too many rows were rejected.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: an input that cannot be used.
    """
    options = PrepareOptions.parse(argv)
    options.find(may_be_missing=() if options.stream.watch is None else ("input",))
    if options.run.is_announced:
        announce("prepare", f"{shown(options.input.input)} -> {options.output.output}")

    with imports():
        from pipelines._jobs import prepare as _prepare

    with options.metrics.serving(options.run.is_described), options.run.temporary_files():
        return _prepare.run(options)


if __name__ == "__main__":
    end(command("prepare", run))
