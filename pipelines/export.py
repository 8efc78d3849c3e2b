"""Exports features that Arrow fitted as a SavedModel, which `tft.TFTransformOutput` loads.

::

    penstock export --transform dataset/transform --output graph

Needs the extra `tft`; the machine that fitted does not. `penstock fit` and `penstock prepare` do the same with
`--export_saved_model`.
"""

from collections.abc import Sequence

from pipelines._cli.command import command, end
from pipelines._options.export import ExportOptions


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Raises:
      ConfigError: wrong usage, or a folder without features that Arrow fitted.
      StorageError: when the graph cannot be written.
    """
    options = ExportOptions.parse(argv)
    options.find()

    from pipelines._jobs import export

    return export.run(options)


if __name__ == "__main__":
    end(command("export", run))
