"""Computes statistics of rows, or merges those of parts.

::

    penstock profile --input 'data/*.csv' --output may.pb --report may.html
    penstock profile --merge april.pb may.pb --output both.pb

Rows are read as `prepare` reads them, under a schema or under types that are inferred from the whole input. The
statistics are tensorflow_metadata's `DatasetFeatureStatisticsList`, as TensorFlow Data Validation writes and reads it.
"""

from collections.abc import Sequence

from pipelines._cli.command import announce, command, end, shown
from pipelines._options.profile import ProfileOptions
from pipelines._report.process import imports


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: an input that cannot be used, or has no rows.
    """
    options = ProfileOptions.parse(argv)
    options.find()
    if options.run.is_announced:
        output = f" -> {options.profile.file}" if options.profile.file else ""
        announce("profile", f"{shown(options.profile.merge or options.input.input)}{output}")

    with imports():
        from pipelines._jobs import profile as _profile

    with options.run.temporary_files():
        return _profile.run(options)


if __name__ == "__main__":
    end(command("profile", run))
