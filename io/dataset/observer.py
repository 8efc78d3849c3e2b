"""What looks at the rows of a dataset while it is written.

Of a dataset as a whole, a `DatasetObserver` is shown all rows, and has a say in whether it is published.

Of windows, the sink gives each chunk's rows to a `Summary`, keeps its state in the file of the chunk, merges the states
of a pane when the pane closes, and those of all panes when a version of the window is published (`Summaries`). So a
summary is of the very rows that are in the shards, also after a restart or with late rows.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import apache_beam as beam
import pyarrow as pa

from penstock.io.dataset.layout import Staging
from penstock.io.dead_letters.summaries import RejectSummaries


class DatasetObserver(abc.ABC):
    """Base of what `WriteDataset` shows the rows of a dataset to.

    Attributes:
      extras: relative paths of the files and folders that it stages, which belong to the dataset.
    """

    extras: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def observe(
        self,
        staging: Staging,
        written: beam.PCollection[pa.RecordBatch],
        rejected: Sequence[beam.PCollection[Any]],
    ) -> beam.PCollection[Any]:
        """Looks at rows, and stages what it made of them.

        Args:
          staging: the folder of the run.
          written: the rows that become records, with their `_split`.
          rejected: for each step that rejects, batches of `RejectedBatch`, or single dead letters.

        Returns:
          Why the dataset must not be published, a sentence (`str`) each; none where it may be. And each `Anomaly` that
          its manifest tells. It is published when this is computed.
        """


class Summary(Protocol):
    """Gathers what is said of some rows."""

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds rows as they are written, with their reserved columns."""

    def to_bytes(self) -> bytes:
        """Returns its state, from which `Summaries` goes on."""


def statistics_files(path: str | None) -> tuple[str, ...]:
    """Returns the paths of statistics, of which a manifest names the first one; none for None."""
    return () if path is None else (path, f"{path.removesuffix('.pb')}.json")


@dataclasses.dataclass(frozen=True)
class Anomaly:
    """Something about the rows of a dataset, or of a window, that should not be so.

    Attributes:
      feature: the feature that it is about; empty for the rows as a whole.
      reason: its kind, by the name of TFDV's reason types where there is one.
      severity: `error` or `warning`.
      description: what was expected, and what is there.
      against: what it was compared with; empty for the schema, `history` for the earlier windows or runs.
      dataset: the split or slice.
    """

    feature: str
    reason: str
    severity: str
    description: str
    against: str = ""
    dataset: str = ""


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What is wrong with a window.

    Attributes:
      compared_with: what the window was held against: the paths of statistics, relative to the dataset if they are in
        it. Empty where there was nothing to compare with yet.
    """

    anomalies: tuple[Anomaly, ...] = ()
    compared_with: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class WindowVersion:
    """A version of a window that is about to be published.

    Attributes:
      name: of the window.
      start, end: microseconds since 1970.
      run_id: of its manifest.
      created: of its manifest: when the version was made.
    """

    name: str
    start: int
    end: int
    run_id: str
    created: str


# Returns the state that is published for the window that starts at a time (microseconds since 1970), and its path
# relative to the dataset; in processing time, of the last window that had started by then. None if there is none.
Published = Callable[[int], tuple[bytes, str] | None]


class Summaries(Protocol):
    """Makes, merges and judges summaries; it is sent to workers.

    A state follows from its rows alone: it depends neither on their order, nor on the pieces that were merged.
    """

    @property
    def rejected(self) -> RejectSummaries | None:
        """Makes those of the rows in a window's dead letters; None for none."""

    def begin(self) -> Summary:
        """Begins a summary without rows."""

    def merge(self, states: Iterable[bytes]) -> bytes:
        """Merges states of different rows into one."""

    def files(self, state: bytes) -> Mapping[str, bytes]:
        """Returns the files in which a state is published, by suffix: `.pb` and `.json`."""

    def restore(self, content: bytes) -> bytes:
        """Returns the state of what was published as `.pb`."""

    def judge(self, version: WindowVersion, state: bytes, published: Published) -> Judgement:
        """Says what is wrong with a window; called for each version, and again if its publication is tried again.

        Args:
          version: of the window.
          state: of all its rows.
          published: what other windows of the dataset are like.
        """


class ByWindow:
    """Summaries of the rows of some batches, one for each window.

    Attributes:
      states: makes them.
    """

    def __init__(self, summaries: Summaries):
        self._summaries = summaries
        self._found: dict[int, Summary] = {}

    def add(self, window: int, batches: Sequence[pa.RecordBatch]) -> None:
        """Adds rows to a window."""
        if window not in self._found:
            self._found[window] = self._summaries.begin()
        for rows in batches:
            self._found[window].add(rows)

    def take(self) -> dict[int, bytes]:
        """Returns the state of each window, and begins anew."""
        states = {window: summary.to_bytes() for window, summary in self._found.items()}
        self._found = {}
        return states
