"""The progress bar of a job: a thread that reads process-local counters while the runner blocks."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from penstock.io import progress

_POLL_SECONDS = 0.2


@contextlib.contextmanager
def progress_bar(title: str, total_bytes: int) -> Iterator[None]:
    """Shows bytes read of the total, rows, rows/s and rejects on stderr; silent when that is not a terminal.

    Without a total, as of a stream, it shows what has been read so far.
    """
    progress.reset()
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        *((BarColumn(bar_width=None), DownloadColumn()) if total_bytes else ()),
        TextColumn("{task.fields[rows]}"),
        TimeElapsedColumn(),
    )
    done = threading.Event()
    with Progress(*columns, console=console, transient=True) as bar:
        poll = threading.Thread(target=_poll, args=(bar, title, total_bytes, done), daemon=True)
        poll.start()
        try:
            yield
        finally:
            done.set()
            poll.join()


def _poll(bar: Progress, title: str, total_bytes: int, done: threading.Event) -> None:
    started = time.monotonic()
    task = bar.add_task(title, total=total_bytes, rows="")
    while not done.wait(_POLL_SECONDS):
        counts = progress.snapshot()
        rows, rejected = counts.get("rows", 0), counts.get("rejected", 0)
        rate = rows / (time.monotonic() - started)
        text = f"{rows:,} rows  {rate:,.0f} rows/s" + (f"  [red]{rejected:,} rejected" if rejected else "")
        bar.update(task, completed=min(counts.get("bytes", 0), total_bytes), rows=text)
