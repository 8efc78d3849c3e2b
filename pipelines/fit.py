"""Fits features alone: raw files in, a TensorFlow graph with the statistics of the train split out.

::

    penstock fit --input 'data/*.csv' --schema schema.pbtxt --features features.yaml --output graph
    penstock prepare --input 'new/*.csv' --schema schema.pbtxt --transform graph --output dataset

The rows are read, checked and split as `pipelines.prepare` does with the same flags; what is rejected there is left
out here. `tft.TFTransformOutput` loads the graph.
"""

from collections.abc import Sequence

from pipelines._cli.command import announce, command, end, shown
from pipelines._options.fit import FitOptions
from pipelines._report.process import imports


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: an input that cannot be used, or has no row to fit on.
    """
    options = FitOptions.parse(argv)
    options.find()
    if options.run.is_announced:
        announce("fit", f"{options.graph.features} on {shown(options.input.input)} -> {options.graph.output}")

    with imports():
        from pipelines._jobs import fit as _fit

    with options.run.temporary_files():
        return _fit.run(options)


if __name__ == "__main__":
    end(command("fit", run))
