"""How far a stream is whose workers are elsewhere: its windows, as they appear in the dataset."""

import contextlib
import threading
from collections.abc import Iterator

from penstock.io.beam.progress import Counts
from penstock.io.dataset.layout import WINDOWS
from penstock.io.dataset.summaries import ManifestSummary, read_summary
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from pipelines._report.phases import STREAM
from pipelines._report.progress import LOG_SECONDS, progress_bar


class PublishedWindows:
    """Counts what is published; at each look, only windows are read that are new or were not final."""

    def __init__(self, output: str):
        self._output = output
        self._known: dict[str, ManifestSummary] = {}
        self._counts = Counts({}, {})

    def counts(self) -> Counts:
        """Returns what the last look found."""
        return self._counts

    def look(self) -> None:
        """Looks at the dataset. A window that cannot be read now is read at the next look.

        Raises:
          OSError: when the folder cannot be listed.
        """
        for name in list_files(stores.join(self._output, WINDOWS)):
            known = self._known.get(name)
            if known is None or not known.final:
                found = read_summary(self._output, f"{WINDOWS}/{name}")
                if isinstance(found, ManifestSummary):
                    self._known[name] = found
        self._counts = self._summed()

    def rows_out(self) -> int:
        """Returns how many rows the windows have that the last look found."""
        return sum(window.rows_out for window in self._known.values())

    def _summed(self) -> Counts:
        windows = self._known.values()
        done = {
            "windows": len(windows),
            "final": sum(window.final for window in windows),
            "bad": sum(window.status == "quarantined" for window in windows),
            "rows": sum(window.rows_in for window in windows),
            "late": sum(window.rows_late for window in windows),
            "rejected": sum(window.rows_rejected for window in windows),
        }
        ends = [window.bounds.end for window in windows if window.bounds]
        return Counts(done, {}, {"up_to": max(ends)} if ends else {})


@contextlib.contextmanager
def showing_windows(output: str, seconds: float = LOG_SECONDS / 3) -> Iterator[None]:
    """Shows how far a stream is that runs in the block on workers elsewhere; it looks every `seconds`."""
    windows, done = PublishedWindows(output), threading.Event()
    # A look may hang in a store that does not answer, and nothing is to wait for it.
    threading.Thread(target=_look_on, args=(windows, seconds, done), daemon=True).start()
    try:
        with progress_bar(STREAM.name, [STREAM], windows.counts):
            yield
    finally:
        done.set()


def _look_on(windows: PublishedWindows, seconds: float, done: threading.Event) -> None:
    while True:
        with contextlib.suppress(OSError):
            windows.look()
        if done.wait(seconds):
            return
