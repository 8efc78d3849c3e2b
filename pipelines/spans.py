"""The spans of a dataset and its versions: lists them, drops old ones, puts small ones together.

::

    penstock spans dataset
    penstock log dataset
    penstock diff dataset 3 7
    penstock drop-span dataset 2026-11-27
    penstock retain dataset 90d
    penstock compact dataset

Each change is a new version of the dataset, published in one step; no file is deleted before
`penstock verify --dataset dataset --clean`.
"""

from collections.abc import Sequence

from pipelines._cli.command import command, end
from pipelines._options.spans import (
    CompactOptions,
    DiffOptions,
    DropSpanOptions,
    LogOptions,
    RetainOptions,
    SpansOptions,
)


def run(argv: Sequence[str] | None = None) -> int:
    """Lists the spans of a dataset; returns 0.

    Raises:
      ConfigError: when there is no such dataset.
    """
    options = SpansOptions.parse(argv)
    options.find()

    from pipelines._inspect import spans

    return spans.list_spans(options)


def log(argv: Sequence[str] | None = None) -> int:
    """Lists the versions of a dataset; returns 0.

    Raises:
      ConfigError: when there is no such dataset.
    """
    options = LogOptions.parse(argv)
    options.find()

    from pipelines._inspect import spans

    return spans.list_versions(options)


def diff(argv: Sequence[str] | None = None) -> int:
    """Shows what differs between two versions; returns 0, whatever differs.

    Raises:
      ConfigError: when there is no such dataset or version.
    """
    options = DiffOptions.parse(argv)
    options.find()

    from pipelines._inspect import spans

    return spans.compare_versions(options)


def drop_span(argv: Sequence[str] | None = None) -> int:
    """Publishes a version without some spans; returns 0.

    Raises:
      ConfigError: when there is no such dataset or span, or no other one is left.
      DataError: when another run publishes at the same time.
    """
    options = DropSpanOptions.parse(argv)
    options.find()

    from pipelines._inspect import spans

    return spans.drop(options)


def retain(argv: Sequence[str] | None = None) -> int:
    """Publishes a version without spans that are older than an age; returns 0.

    Raises:
      ConfigError: when there is no such dataset, or all spans are older.
      DataError: when another run publishes at the same time.
    """
    options = RetainOptions.parse(argv)
    options.find()

    from pipelines._inspect import spans

    return spans.retain(options)


def compact(argv: Sequence[str] | None = None) -> int:
    """Publishes a version in which some spans are one; returns 0.

    Raises:
      ConfigError: when there is no such dataset or span.
      DataError: when a shard is damaged, or another run publishes at the same time.
    """
    options = CompactOptions.parse(argv)
    options.find()

    from pipelines._inspect import compact as _compact

    return _compact.run(options)


if __name__ == "__main__":
    end(command("spans", run))
