"""The history of a dataset: a folder of small Parquet files, one for each run or window, read as one table.

A point of the history is a window, or, of data without windows, a run. Appending it again replaces it, as late panes of
a window do, and a run that is tried again: the statistics that were made last count. An append writes one new file and
changes none, so that any number of writers may append at once, without a lock, on disks and in stores. Now and then
an append puts many small files together into one of the next level, and then deletes them; whoever reads meanwhile
looks again.

::

    _history/
      L0-1764237600000000-9f2c1a7b3d5e6f80.parquet     one append: when its statistics were made, and a digest
      L1-1764259200000000-04b7c8d9e0f1a2b3.parquet     64 appends
"""

import contextlib
import datetime
import hashlib
import io
import os
import re
import secrets
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.io.errors import ConfigError, InputError
from penstock.io.files import stores
from penstock.io.files.folders import delete_files, list_entries, list_files, move_files
from penstock.io.files.paths import is_local
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.transforms.history.metrics import SCHEMA, Window, metrics_table

# So many files of a level are put together into one of the next.
COMPACT_FILES = 64

Ints: TypeAlias = npt.NDArray[np.int64]

_FILE = re.compile(r"L(?P<level>\d+)-(?P<created>\d+)-[0-9a-f]{16}\.parquet")

_TEMPORARY = ".tmp-"

# An append takes less than a minute; what is older was left by a process that was killed.
_ABANDONED_SECONDS = 86_400

# How often a reader looks again when files go away under it.
_ATTEMPTS = 5


def append(
    path: str,
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    run: str,
    window: Window | None = None,
    created: datetime.datetime | None = None,
) -> None:
    """Appends the metrics of a run, or of a window, and replaces what the history had of it.

    Args:
      path: the folder of the history, such as `DATASET/_history`; it is made if it is not there.
      statistics: the datasets of which are the splits and slices.
      run: the id of the run.
      window: start and end of the window, with a time zone; None for a whole run.
      created: when the statistics were made, with a time zone; now by default. Of two appends of one point, the later
        one stays.

    Raises:
      ConfigError: for an empty run, statistics without datasets, or a time without a zone.
      StorageError: when the file cannot be written.
    """
    created = created or datetime.datetime.now(datetime.UTC)
    if not run:
        raise ConfigError("run must be the id of the run, got ''")
    if any(moment.tzinfo is None for moment in (created, *(window or ()))):
        raise ConfigError("created and window must have time zones; for UTC, pass tzinfo=datetime.UTC")
    if not statistics.datasets:
        raise ConfigError(f"run {run!r}: the statistics have no dataset, so that there is nothing to append")
    append_table(path, metrics_table(statistics, run, created, window))


def append_table(path: str, metrics: pa.Table) -> None:
    """Appends the metrics of one point, as `metrics_table` makes them; see `append`."""
    write_file(path, metrics)
    compact(path)


def read(
    path: str,
    split: str | None = None,
    feature: str | None = None,
    metrics: Collection[str] | None = None,
    newest: int | None = None,
) -> pa.Table:
    """Reads a history as one table of `penstock.transforms.history.metrics.SCHEMA`.

    Args:
      path: the folder of the history.
      split: the dataset of which metrics are read; by default all.
      feature: the feature, dotted; "" for metrics of the whole dataset; by default all.
      metrics: which; by default all.
      newest: of how many of the last appends at least, so that a long history need not be read as a whole; by default
        all. A window is appended once for each of its versions.

    Returns:
      Rows in the order of time (the start of the window, or when the run was made), then of split, feature and metric.
      Empty if there is no history.

    Raises:
      InputError: for a file that is no history, or is damaged; the message names it.
    """
    # Each version of a point has this row, so that the latest is known whatever else is looked for.
    chosen = pc.field("feature") == ""
    if feature is None:
        chosen = pc.scalar(True)
    elif feature:
        chosen |= pc.field("feature") == feature
    table = latest(_read_all(path, chosen, newest))
    for column, value in (("split", split), ("feature", feature)):
        if value is not None:
            table = table.filter(pc.equal(table[column], value))
    if metrics is not None:
        table = table.filter(pc.is_in(table["metric"], pa.array(sorted(metrics), pa.string())))
    return _sorted(table)


def latest(tables: Sequence[pa.Table]) -> pa.Table:
    """Returns the rows of several histories in one table, of each point those whose statistics were made last.

    If two versions of a point were made at the same time, that of the later table stays.
    """
    whole = pa.concat_tables([SCHEMA.empty_table(), *tables])
    if not whole.num_rows:
        return whole
    points = _points(whole)
    created = whole["created"].cast(pa.int64()).to_numpy()
    origin = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    order = np.lexsort((origin, created, points))
    last = np.flatnonzero(np.append(points[order][1:] != points[order][:-1], True))
    winner = order[last][np.searchsorted(points[order][last], points)]
    return whole.filter(pa.array((created == created[winner]) & (origin == origin[winner])))


def _points(table: pa.Table) -> Ints:
    """Returns int64[rows]: equal for rows of one point, that is, of one window, or of one run without windows."""
    run = pc.if_else(pc.is_valid(table["window_start"]), "", table["run"])
    return _joint([_codes(table["window_start"]), _codes(table["window_end"]), _codes(run)])


def _codes(column: pa.ChunkedArray) -> Ints:
    """Returns int64[rows]: the rank of each value among those that are there; null is the least."""
    encoded = column.combine_chunks().dictionary_encode()
    ranks = np.empty(len(encoded.dictionary), np.int64)
    ranks[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(1, len(ranks) + 1)
    places = encoded.indices.fill_null(-1).to_numpy()
    found: Ints = np.append(ranks, 0)[places]  # the last one, 0, is that of null
    return found


def _joint(codes: Sequence[Ints]) -> Ints:
    """Returns int64[rows]: the rank of each combination of codes, compared from the first one on."""
    joint = codes[0]
    for more in codes[1:]:
        joint = np.unique(joint * (int(more.max(initial=0)) + 1) + more, return_inverse=True)[1].reshape(-1)
    return joint


def _sorted(table: pa.Table) -> pa.Table:
    if not table.num_rows:
        return table
    moment = pc.coalesce(table["window_start"], table["created"])
    columns = (moment, *(table[name] for name in ("created", "run", "split", "feature", "metric")))
    return table.take(
        pa.array(np.argsort(_joint([_codes(column) for column in columns]), kind="stable"))
    ).combine_chunks()


def _read_all(path: str, chosen: pc.Expression, newest: int | None) -> list[pa.Table]:
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(FileNotFoundError):  # put together with others since they were listed
            return [_read_file(path, name, chosen) for name in _newest(_files(path), newest)]
    return [_read_file(path, name, chosen) for name in _newest(_files(path), newest)]


def _newest(names: Sequence[str], points: int | None) -> Sequence[str]:
    """Returns the last files, of those in the order of time, that hold so many appends; all for None."""
    found = 0
    for place in range(len(names) if points is not None else 0, 0, -1):
        found += COMPACT_FILES ** _level(names[place - 1])
        if found >= (points or 0):
            return names[place - 1 :]
    return names


def _level(name: str) -> int:
    match = _FILE.fullmatch(name)
    return int(match["level"]) if match else 0


def _files(path: str) -> list[str]:
    """Returns the names of the files of a history in the order of time."""
    return _in_order(list_files(path))


def _in_order(names: Iterable[str]) -> list[str]:
    found = [(int(match["created"]), name) for name in names if (match := _FILE.fullmatch(name))]
    return [name for _, name in sorted(found)]


def _read_file(path: str, name: str, chosen: pc.Expression) -> pa.Table:
    whole = stores.join(path, name)
    content = _content(whole)
    try:
        # A file has few rows: threads, and a scan by `read_table`, take longer than it takes to read them all.
        table = pq.ParquetFile(io.BytesIO(content)).read(use_threads=False)
        return table.filter(chosen).select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise InputError(
            f"{whole}: is no file of a history, or damaged: {error}; remove it, and append its run or window again"
        ) from error


def _content(path: str) -> bytes:
    if is_local(path):
        with open(path, "rb") as file:
            return file.read()
    content = stores.read_if_there(path)
    if content is None:
        raise FileNotFoundError(path)
    return content


def write_file(path: str, table: pa.Table, level: int = 0) -> str:
    """Writes a file as a whole or not at all; returns its name, which follows from what is in it.

    Moved into the folder of a history, a file of metrics is appended to it.

    Args:
      path: a folder; it is made if it is not there.
      table: rows of `penstock.transforms.history.metrics.SCHEMA`.
      level: how often its rows have been put together with others.

    Raises:
      StorageError: when it cannot be written.
    """
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue()
    created = pc.max(table["created"]).cast(pa.int64()).as_py()
    name = f"L{level}-{created}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    target = stores.join(path, name)
    with writing(target, OUTPUT_REMEDY):
        if is_local(path):
            os.makedirs(path, exist_ok=True)
            staged = os.path.join(path, f"{_TEMPORARY}{secrets.token_hex(8)}")
            with open(staged, "wb") as file:
                file.write(content)
            move_files({staged: target})
        else:
            # A store shows an object when it is complete.
            with stores.create_file(target, "application/octet-stream") as file:
                file.write(content)
    return name


def compact(path: str) -> None:
    """Puts the files of each level together where there are many, and removes what killed appends left.

    A damaged file stays as it is, and so do the others of its level: `read` names it.
    """
    entries = list(list_entries(path))
    stale = time.time() - _ABANDONED_SECONDS
    delete_files(path, [one.path for one in entries if one.path.startswith(_TEMPORARY) and one.modified < stale])
    names = [one.path for one in entries]
    for level in _levels(names):
        files = [name for name in _in_order(names) if name.startswith(f"L{level}-")]
        if len(files) < COMPACT_FILES:
            continue
        with contextlib.suppress(FileNotFoundError, InputError):  # another append has just done so
            table = _sorted(latest([_read_file(path, name, pc.scalar(True)) for name in files]))
            written = write_file(path, table, level + 1)
            delete_files(path, [name for name in files if name != written])


def _levels(names: Iterable[str]) -> list[int]:
    return sorted({_level(name) for name in names if _FILE.fullmatch(name)})
