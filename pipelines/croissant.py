"""Describes a dataset in Croissant, the metadata that tools of machine learning read.

::

    penstock croissant dataset --output dataset/croissant.json --license CC-BY-4.0

Each shard is read once for its SHA-256; the manifest has that of the records, before their compression.
"""

from collections.abc import Sequence

from pipelines._cli.command import command, end
from pipelines._options.croissant import CroissantOptions


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when the metadata is printed or written.

    Raises:
      ConfigError: when there is no dataset.
      DataError: when its manifest is damaged, or a shard is not as the manifest says.
    """
    options = CroissantOptions.parse(argv)
    options.find()

    from pipelines._inspect import croissant

    return croissant.run(options)


if __name__ == "__main__":
    end(command("croissant", run))
