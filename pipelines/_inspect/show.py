"""Runs `show` after its command line is checked: reads the manifest, a split's first records and statistics."""

import base64
import itertools
import logging
import time
from collections.abc import Mapping
from typing import Any

from penstock.io.dataset.load.dataset import LoadedDataset, load
from penstock.io.dataset.load.shards.contents import Contents, read_contents
from penstock.io.dataset.load.shards.files import read_if_there
from penstock.io.dataset.load.snippets import installed_library, snippet, training_split
from penstock.io.errors import ConfigError
from pipelines._cli.named import statistics_files
from pipelines._jobs.statistics import by_name, column_summary, parse_statistics, read_statistics
from pipelines._options.show import ShowOptions
from pipelines._report.process import job_started
from pipelines._report.result import ShowResult
from pipelines._report.summary import tell

_LOGGER = logging.getLogger(__name__)


def run(options: ShowOptions) -> int:
    """Runs the job, as `pipelines.show.run` does."""
    started, (directory,) = job_started(), options.shown.dataset
    contents = read_contents(directory)
    split = options.shown.split or training_split(list(contents.splits))
    loaded = load(directory, split)
    result = ShowResult(
        job="show",
        seconds=time.monotonic() - started,
        dataset=directory,
        format=contents.format,
        compression=contents.compression,
        dataset_ids=contents.dataset_ids,
        splits=_splits(contents),
        columns=tuple({"name": field.name, "type": str(field.type)} for field in loaded.schema),
        split=split,
        rows=tuple(_rows(loaded, options.shown.rows)),
        statistics=tuple(_statistics(directory, split)),
        load=snippet(directory, split, loaded.schema, installed_library()),
    )
    return tell(result, options.shown.json)


def _splits(contents: Contents) -> dict[str, Mapping[str, int]]:
    return {
        name: {
            "rows": rows,
            "shards": sum(shard.split == name for shard in contents.shards),
            "bytes": sum(shard.bytes for shard in contents.shards if shard.split == name),
        }
        for name, rows in contents.splits.items()
    }


def _rows(loaded: LoadedDataset, count: int) -> list[dict[str, Any]]:
    """Returns the first records, with values that JSON has."""
    batches = itertools.islice(loaded.batches(count), 1)
    return [{name: _plain(value) for name, value in row.items()} for batch in batches for row in batch.to_pylist()]


def _statistics(directory: str, split: str) -> list[dict[str, Any]]:
    """Returns those of the columns of a split that were published; none where some spans have none.

    Those of spans that cannot be merged, as they have other options, are none either, and why is logged.

    Raises:
      DataError: for a file that holds something else.
    """
    try:
        paths = statistics_files(directory)
        contents = [content for path in paths if (content := read_if_there(path)) is not None]
    except ConfigError:
        return []
    if len(contents) < len(paths):
        return []
    try:
        found = parse_statistics(contents[0], paths[0]) if len(paths) == 1 else read_statistics(directory)
    except ConfigError as error:
        _LOGGER.warning("statistics are not shown, since those of the spans cannot be merged: %s", error)
        return []
    datasets = by_name(found)
    return list(map(column_summary, datasets[split].features)) if split in datasets else []


def _plain(value: Any) -> Any:
    """A value as JSON has it: bytes that are no text in base64, what JSON has no form for as a text.

    >>> _plain([b"a", b"\\xff", float("nan"), None])
    ['a', {'base64': '/w=='}, 'nan', None]
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if abs(value) < float("inf") else str(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(value).decode()}
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {str(name): _plain(item) for name, item in value.items()}
        case _:
            return str(value)
