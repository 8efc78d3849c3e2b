"""The spill by key: batches cut by bucket, grouped by files on a disk that all workers share, or by the runner itself.

A step that must see all rows of a key (rolling features, duplicates) cuts the batches of a bundle by bucket, a number
that follows from the key, and takes the rows of one bucket at once. Local runners keep in memory what crosses stages:
there the pieces lie in files, and only references cross. Elsewhere the pieces go through the runner's own shuffle.

The shuffle of the sink (`penstock.io.dataset.shuffle`) is not one of these steps: its rows are encoded, it sorts them
all, and what it takes at once is a range of keys that is known only when all are written.
"""

import dataclasses
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import RecordBatchCoder, concat_alike, in_global_window
from penstock.io.beam import progress
from penstock.io.beam.row_counters import RowCounters
from penstock.io.reserved import EVENT_TIME

# What a worker collects of a bundle before it cuts it into buckets; more makes larger pieces of each.
MAX_COLLECTED_ROWS = 128 << 10
_MAX_COLLECTED_BYTES = 32 << 20

Buckets: TypeAlias = npt.NDArray[np.int64]
Keyed: TypeAlias = tuple[int, pa.RecordBatch]


@dataclasses.dataclass(frozen=True)
class SpilledBatch:
    """A batch in a file."""

    path: str
    start: int
    size: int

    def read(self) -> pa.RecordBatch:
        """The batch; its file stays."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return RecordBatchCoder().decode(file.read(self.size))


Piece: TypeAlias = "pa.RecordBatch | SpilledBatch"


class SpillFile:
    """A file of batches, which is written from its start to its end."""

    def __init__(self, directory: str):
        """Creates the file, and the folder where it is missing."""
        os.makedirs(directory, exist_ok=True)
        self._path = os.path.join(directory, f"{uuid.uuid4().hex}.batches")
        self._file = open(self._path, "wb")  # noqa: SIM115

    def add(self, batch: pa.RecordBatch) -> SpilledBatch:
        """Writes a batch, which can be read when the file is closed."""
        start = self._file.tell()
        return SpilledBatch(self._path, start, self._file.write(RecordBatchCoder().encode(batch)))

    def __enter__(self) -> "SpillFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class BatchCollector:
    """Collects batches, and gives them as few."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether they should be taken."""
        return self._rows >= MAX_COLLECTED_ROWS or self._bytes >= _MAX_COLLECTED_BYTES

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds a batch; one without rows is left out."""
        if batch.num_rows:
            self._batches.append(batch)
            self._rows += batch.num_rows
            self._bytes += batch.nbytes

    def take(self) -> list[pa.RecordBatch]:
        """Those that were added since the last time, one for each schema."""
        batches = list(concat_alike(self._batches))
        self._clear()
        return batches


def read_pieces(pieces: Iterable[Piece]) -> Iterator[pa.RecordBatch]:
    """The batches of a bucket, wherever they are, as few as a collector makes them."""
    collector = BatchCollector()
    for piece in pieces:
        collector.add(piece.read() if isinstance(piece, SpilledBatch) else piece)
        if collector.is_full:
            yield from collector.take()
    yield from collector.take()


def cut_by_bucket(batch: pa.RecordBatch, buckets: Buckets) -> Iterator[Keyed]:
    """The rows of each bucket, in their order; `buckets` is int64[rows]."""
    if not batch.num_rows:
        return
    order = np.argsort(buckets, kind="stable")
    batch = batch.take(pa.array(order))
    found, starts = np.unique(buckets[order], return_index=True)
    for bucket, start, end in zip(found.tolist(), starts, [*starts[1:], batch.num_rows], strict=True):
        yield bucket, batch.slice(start, end - start)


@dataclasses.dataclass(eq=False)
class KeyByBucket(beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[Keyed]]):
    """Batches in the global window to pieces of them, with their bucket.

    A piece has the time of the earliest row of what it was cut of; where rows have no event time, that of the earliest
    element of the bundle.

    Attributes:
      buckets_of: the bucket of each row of a batch: int64[rows]; pickles.
      namespace: of the counter `in-rows`.
      counter: a counter of `penstock.io.beam.progress` that plans the rows; None for none.
    """

    buckets_of: Callable[[pa.RecordBatch], Buckets]
    namespace: str
    counter: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Keyed]:
        """One step."""
        key = _CutFn(self.buckets_of, self.namespace, self.counter)
        return batches | "Key" >> beam.ParDo(key).with_output_types(Keyed)


@dataclasses.dataclass(eq=False)
class GroupByBucket(beam.PTransform[beam.PCollection[pa.RecordBatch], Any]):
    """Bounded batches in the global window to all pieces of each bucket, in any order: `(bucket, Iterable[Piece])`.

    Attributes:
      buckets_of: as of `KeyByBucket`.
      namespace: as of `KeyByBucket`.
      spill: a folder that all workers share; the files stay there. None leaves it to the runner's shuffle.
      counter: as of `KeyByBucket`.
    """

    buckets_of: Callable[[pa.RecordBatch], Buckets]
    namespace: str
    spill: str | None
    counter: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> Any:
        """Cut, group."""
        if self.spill is None:
            pieces = batches | "Key" >> KeyByBucket(self.buckets_of, self.namespace, self.counter)
        else:
            spill = _SpillFn(self.buckets_of, self.namespace, self.counter, self.spill)
            pieces = batches | "Spill" >> beam.ParDo(spill).with_output_types(tuple[int, SpilledBatch])
        return pieces | "ByBucket" >> beam.GroupByKey()


class _CutFn(beam.DoFn):
    """Cuts the batches of a bundle by bucket."""

    def __init__(self, buckets_of: Callable[[pa.RecordBatch], Buckets], namespace: str, counter: str | None):
        self._buckets_of = buckets_of
        self._counter = counter
        self._counters = RowCounters(namespace)

    def start_bundle(self) -> None:
        self._collector = BatchCollector()
        self._earliest = MAX_TIMESTAMP

    def process(self, batch: pa.RecordBatch, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        self._counters.add(in_rows=batch.num_rows)
        self._collector.add(batch)
        self._earliest = min(self._earliest, timestamp)
        if self._collector.is_full:
            for item, time in self._flush():
                yield TimestampedValue(item, time)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for item, time in self._flush():
            yield in_global_window(item, time)

    def _flush(self) -> Iterator[tuple[tuple[int, Any], Timestamp]]:
        for batch in self._collector.take():
            first = earliest_time(batch, self._earliest)
            if self._counter:
                progress.plan(**{self._counter: batch.num_rows})
            for item in self._items(batch):
                yield item, first

    def _items(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Any]]:
        return cut_by_bucket(batch, self._buckets_of(batch))


class _SpillFn(_CutFn):
    def __init__(
        self,
        buckets_of: Callable[[pa.RecordBatch], Buckets],
        namespace: str,
        counter: str | None,
        directory: str,
    ):
        super().__init__(buckets_of, namespace, counter)
        self._directory = directory

    def _items(self, batch: pa.RecordBatch) -> Iterator[tuple[int, SpilledBatch]]:
        with SpillFile(self._directory) as file:
            for bucket, part in super()._items(batch):
                yield bucket, file.add(part)


def earliest_time(batch: pa.RecordBatch, default: Timestamp) -> Timestamp:
    """Of the rows that have an event time; `default` where none has."""
    if EVENT_TIME not in batch.schema.names:
        return default
    earliest = pc.min(batch.column(EVENT_TIME).cast(pa.int64())).as_py()
    return default if earliest is None else Timestamp(micros=earliest)
