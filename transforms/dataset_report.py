"""The report of a dataset, or of the windows of a stream, from what lies in its folder."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import pyarrow as pa
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.io.dataset.layout import DEAD_LETTERS, HISTORY, MANIFEST, SCHEMA, STATISTICS, WINDOWS
from penstock.io.dataset.manifest import Manifest
from penstock.io.dataset.options import OUT_STATISTICS
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.io.dead_letters.first import read_first
from penstock.io.dead_letters.record import DeadLetter
from penstock.io.errors import ConfigError, PenstockError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.io.schema import load_schema
from penstock.transforms.history.store import read
from penstock.transforms.report.alerts import FileFault
from penstock.transforms.report.report import Report
from penstock.transforms.statistics.files import read_list
from penstock.transforms.statistics.statistics import Statistics, merge_statistics

# Windows before the newest one whose statistics are merged, to be drawn beside it.
WINDOWS_BEFORE = 49

# Folders of dead letters of windows that examples are taken from, the newest with any.
_MAX_FOLDERS = 8

_List: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList
_T = TypeVar("_T")


class _Fault(NamedTuple):
    """A file that could not be read for the report."""

    code: str
    path: str
    detail: str


def dataset_report(directory: str, faults: Iterable[FileFault] | None = None, title: str | None = None) -> Report:
    """Makes the report of what is published in a folder; a job may be at work in it.

    It shows the statistics of the rows that were written, merged over spans, the schema, what manifests count and tell
    of anomalies, the first dead letters, and the history. Of windows, the statistics are those of the newest window
    beside those of up to 49 windows before it. A file that cannot be read is an alert, and left out. A dataset without
    statistics has none in the report.

    Args:
      directory: of the dataset.
      faults: what is known to be wrong with its files, such as `verify_dataset` finds; None if nobody has looked.
      title: of the page; by default it names the folder.

    Raises:
      ConfigError: if nothing is published there.
    """
    files = _Files(directory)
    whole = files.read(MANIFEST, Manifest.read)
    windows = [] if whole else list(files.windows())
    if whole is None and not windows and not files.faults:
        raise ConfigError(f"{directory}: nothing is published there yet, so there is nothing to report on")
    known = list(faults or ())
    statistics = files.statistics_of(whole) if whole else files.statistics_of_windows(windows)
    newest = whole or (windows[-1] if windows else None)
    schema = files.schema_of(newest) if newest else None
    letters = files.letters(whole, windows)
    named = {fault.path for fault in known}
    unread = [fault for fault in files.faults if fault.path not in named]
    return Report(
        statistics=statistics,
        schema=schema,
        manifest=whole,
        windows=windows,
        dead_letters=letters,
        history=files.history(),
        faults=[*known, *unread] if faults is not None or unread else None,
        title=title or f"Dataset {directory}",
    )


def statistics_paths(manifest: Manifest) -> list[str]:
    """Returns where the statistics of the rows of a dataset are, relative to it: a file for each span.

    There are none if a span has none, since those of the others are not those of the dataset.
    """
    folders = [span.statistics for span in manifest.spans] or [manifest.extra(STATISTICS)]
    return [] if None in folders else [f"{folder}/{OUT_STATISTICS}" for folder in folders]


def whole_statistics(directory: str, manifest: Manifest) -> _List | None:
    """Returns the statistics of all rows of a version of a dataset, by split, merged over its spans.

    Args:
      directory: of the dataset.
      manifest: of the version.

    Returns:
      None if a span of it has no statistics.

    Raises:
      ConfigError: when those of its spans were made with other options, so that they cannot be merged.
      InputError: when a file of them is gone or cannot be read.
    """
    paths = [stores.join(directory, *path.split("/")) for path in statistics_paths(manifest)]
    return merge_statistics(paths).to_proto(state=False) if paths else None


class _Files:
    """Reads the files of a dataset; remembers those that cannot be read."""

    def __init__(self, directory: str):
        self._directory = directory
        self.faults: list[_Fault] = []

    def read(self, path: str, reader: Callable[[str], _T]) -> _T | None:
        """Returns what is read of a file of the dataset; None where it cannot be."""
        try:
            return reader(stores.join(self._directory, *path.split("/")))
        except (PenstockError, OSError, DecodeError) as error:
            self.faults.append(_Fault("file.unreadable", path, str(error)))
            return None

    def windows(self) -> Iterator[WindowManifest]:
        """Yields the manifests of all windows that can be read, in the order of time."""
        names = list_files(stores.join(self._directory, WINDOWS))
        found = [self.read(f"{WINDOWS}/{name}", WindowManifest.read) for name in sorted(names)]
        yield from sorted((one for one in found if one is not None), key=lambda one: one.bounds)

    def statistics_of(self, manifest: Manifest) -> _List:
        """Returns those of the rows that were written, of all spans; none where there are none."""
        paths = statistics_paths(manifest)
        if len(paths) > 1:
            return self._merged(paths)
        folder = manifest.extra(STATISTICS)
        found = None if folder is None else self.read(f"{folder}/{OUT_STATISTICS}", read_list)
        return found or _List()

    def statistics_of_windows(self, windows: Sequence[WindowManifest]) -> _List:
        """Returns those of the newest window that has some, and merged those of the windows before it."""
        having = [window for window in windows if window.statistics][-1 - WINDOWS_BEFORE :]
        merged = _List()
        if not having:
            return merged
        *before, newest = having
        for part, name in ((having[-1:], newest.window[0]), (before, _counted(len(before)))):
            found = self._merged([str(window.statistics) for window in part])
            for dataset in found.datasets:
                dataset.name = f"{dataset.name}, {name}"
            merged.datasets.extend(found.datasets)
        return merged

    def _merged(self, paths: Sequence[str]) -> _List:
        merged: Statistics | None = None
        for path in paths:
            found = self.read(path, Statistics.read)
            try:
                if merged is None or found is None:
                    merged = merged or found
                else:
                    merged.merge(found)
            except ConfigError as error:  # the windows of another run, with other options
                self.faults.append(_Fault("statistics.other", path, str(error)))
        return _List() if merged is None else merged.to_proto(state=False)

    def schema_of(self, manifest: Manifest | WindowManifest) -> schema_pb2.Schema | None:
        """Returns the schema of the rows, where the dataset has one."""
        path = manifest.extra(SCHEMA)
        return None if path is None else self.read(path, load_schema)

    def letters(self, whole: Manifest | None, windows: Sequence[WindowManifest]) -> list[DeadLetter]:
        """Returns a dead letter of each reason: of the dataset, or of the newest windows that have any."""
        manifests = [whole] if whole else [window for window in reversed(windows) if window.dead_letters]
        found: dict[str, DeadLetter] = {}
        for manifest in manifests[:_MAX_FOLDERS]:
            folders = dict.fromkeys(file.path.rpartition("/")[0] or DEAD_LETTERS for file in manifest.dead_letters)
            for folder in folders:
                first = self.read(folder, read_first)
                found = {**(first.letters if first else {}), **found}
        return list(found.values())

    def history(self) -> pa.Table | None:
        """Returns the history, if there is one."""
        with contextlib.suppress(PenstockError):
            found = read(stores.join(self._directory, HISTORY))
            return found if found.num_rows else None
        return None


def _counted(windows: int) -> str:
    return f"{windows} window{'s' if windows != 1 else ''} before"
