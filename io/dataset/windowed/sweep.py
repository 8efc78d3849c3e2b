"""Deletes the temporary files of windows that nobody needs any more: chunks, and what was staged of panes."""

import collections
import contextlib
import os
import time
from collections.abc import Iterator, Mapping

from penstock.io.beam.windows import AnyWindows
from penstock.io.dataset.layout import STAGING_PREFIX, Staging
from penstock.io.dataset.windowed.chunks import CHUNKS, KEPT_SECONDS, KEPT_WINDOWS
from penstock.io.dataset.windowed.manifest import WindowManifest, window_manifest_path
from penstock.io.dataset.windowed.shards import STAGED_SHARDS
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.folders import delete_files, list_entries, list_files
from penstock.io.files.paths import is_local


class Sweeper:
    """Deletes temporary files of final windows. A new process has to learn anew which ones; until then, more are kept.

    In a store, where to look costs requests, it looks from time to time only.

    Attributes:
      staging: of the run; files of others are deleted, too.
      windows: the windows of the dataset.
    """

    def __init__(self, staging: Staging, windows: AnyWindows):
        self._output = staging.output
        self._own = f"{STAGING_PREFIX}{staging.run_id}"
        self._windows = windows
        self._others: set[str] | None = None
        self._swept = 0.0
        self._chunks: dict[int, tuple[str, ...]] = {}
        self._published: collections.deque[float] = collections.deque(maxlen=KEPT_WINDOWS)
        self._final: set[str] = set()

    def sweep(self, window: int, chunks: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Deletes files that are no longer needed; call this when `window` has become final.

        Args:
          window: its start.
          chunks: files of earlier windows, by their start, that are no longer needed if these are published.
        """
        self._chunks |= {int(start): paths for start, paths in (chunks or {}).items()}
        for start in [start for start in self._chunks if self._is_final(self._windows.name(start))]:
            stores.delete(self._chunks.pop(start))
        self._final.add(self._windows.name(window))
        self._published.append(time.time())
        now = time.time()
        if len(self._published) < KEPT_WINDOWS or (not is_local(self._output) and now < self._swept + KEPT_SECONDS):
            return
        self._swept = now
        before = min(self._published[0], now - KEPT_SECONDS)
        for folder, age in self._temporaries():
            old = [path for path, written in age.items() if written < before]
            if old and self._is_final(folder.rpartition("/")[2]):
                delete_files(self._output, old)

    def _temporaries(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yields the window folders in the staging folders of all runs, with their files (relative path -> mtime)."""
        found: dict[str, dict[str, float]] = collections.defaultdict(dict)
        for path, written in self._files():
            found[path.rpartition("/")[0]][path] = written
        yield from found.items()

    def _files(self) -> Iterator[tuple[str, float]]:
        for folder in (f"{run}/{kind}" for run in self._runs() for kind in (CHUNKS, STAGED_SHARDS)):
            for file in list_entries(stores.join(self._output, *folder.split("/"))):
                yield f"{folder}/{file.path}", file.modified

    def _runs(self) -> list[str]:
        """Returns the names of all staging folders. For those of a store, all of the dataset is listed, so once."""
        if is_local(self._output):
            return [name for name in os.listdir(self._output) if name.startswith(STAGING_PREFIX)]
        if self._others is None:
            tops = {path.partition("/")[0] for path in list_files(self._output)}
            self._others = {name for name in tops if name.startswith(STAGING_PREFIX)}
        return sorted(self._others | {self._own})

    def _is_final(self, name: str) -> bool:
        if name not in self._final:
            with contextlib.suppress(DataError):
                manifest = WindowManifest.read(window_manifest_path(self._output, name))
                if manifest is not None and manifest.final:
                    self._final.add(name)
        return name in self._final
