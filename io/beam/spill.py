"""The spill by key: groups the rows of batches by bucket, through files on a shared disk or the runner's shuffle.

A step that needs all rows of a key at once (rolling features, duplicates) cuts the batches of a bundle by bucket, a
number that follows from the key, and takes the rows of one bucket at once. Local runners keep elements between stages
in memory: there the pieces lie in files, and the elements only refer to them. Other runners shuffle the pieces.

The shuffle of the sink (`penstock.io.dataset.shuffle`) does not use this: its rows are encoded, it sorts them all, and
it takes ranges of keys that are known only when all rows are written.
"""

import contextlib
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

from penstock.io.batches import RecordBatchCoder, concat_alike, in_global_window, without_notes
from penstock.io.beam import progress
from penstock.io.beam.row_counters import RowCounters
from penstock.io.reserved import EVENT_TIME

# How much a worker collects of a bundle before it cuts it into buckets; more makes larger pieces.
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
        """Reads the batch; keeps its file."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return RecordBatchCoder().decode(file.read(self.size))


Piece: TypeAlias = "pa.RecordBatch | SpilledBatch"


class SpillFile:
    """A file to which batches are appended."""

    def __init__(self, directory: str):
        """Creates the file, and the folder if it is missing."""
        os.makedirs(directory, exist_ok=True)
        self._path = os.path.join(directory, f"{uuid.uuid4().hex}.batches")
        self._file = open(self._path, "wb")  # noqa: SIM115

    def add(self, batch: pa.RecordBatch) -> SpilledBatch:
        """Writes a batch; it can be read once the file is closed."""
        start = self._file.tell()
        with self._naming_the_file():
            return SpilledBatch(self._path, start, self._file.write(RecordBatchCoder().encode(batch)))

    def __enter__(self) -> "SpillFile":
        return self

    def __exit__(self, *_: object) -> None:
        with self._naming_the_file():
            self._file.close()

    @contextlib.contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Python names a file that it cannot open, and none that it cannot write."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error


class BatchCollector:
    """Collects batches and joins them to fewer ones."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the batches should be taken."""
        return self._rows >= MAX_COLLECTED_ROWS or self._bytes >= _MAX_COLLECTED_BYTES

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds a batch; ignores one without rows."""
        if batch.num_rows:
            self._batches.append(batch)
            self._rows += batch.num_rows
            self._bytes += batch.nbytes

    def take(self) -> list[pa.RecordBatch]:
        """Returns the rows that were added since the last call, one batch for each schema."""
        batches = list(concat_alike(self._batches))
        self._clear()
        return batches


def read_pieces(pieces: Iterable[Piece]) -> Iterator[pa.RecordBatch]:
    """Reads the pieces of a bucket, from files or memory, joined by a collector."""
    collector = BatchCollector()
    for piece in pieces:
        collector.add(piece.read() if isinstance(piece, SpilledBatch) else piece)
        if collector.is_full:
            yield from collector.take()
    yield from collector.take()


def cut_by_bucket(batch: pa.RecordBatch, buckets: Buckets) -> Iterator[Keyed]:
    """Yields the rows of each bucket, in their order; `buckets` is int64[rows]. Notes stay with the first of them."""
    if not batch.num_rows:
        return
    # A stable sort by bucket makes the rows of each bucket one slice, in their order.
    order = np.argsort(buckets, kind="stable")
    batch = batch.take(pa.array(order))
    found, starts = np.unique(buckets[order], return_index=True)
    for bucket, start, end in zip(found.tolist(), starts, [*starts[1:], batch.num_rows], strict=True):
        yield bucket, batch.slice(start, end - start)
        if not start:
            batch = without_notes(batch)


@dataclasses.dataclass(eq=False)
class KeyByBucket(beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[Keyed]]):
    """Cuts batches in the global window into pieces with their bucket.

    The timestamp of a piece is the earliest event time of the collected batch that it was cut from; if its rows have no
    event time, the timestamp of the earliest element of the bundle.

    Attributes:
      buckets_of: returns the bucket of each row of a batch, int64[rows]; pickles.
      namespace: the namespace of the counter `in-rows`.
      counter: a counter of `penstock.io.beam.progress` to which the rows are added as planned; None for none.
    """

    buckets_of: Callable[[pa.RecordBatch], Buckets]
    namespace: str
    counter: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Keyed]:
        """Cuts batches in one step."""
        key = _CutFn(self.buckets_of, self.namespace, self.counter)
        return batches | "Key" >> beam.ParDo(key).with_output_types(Keyed)


@dataclasses.dataclass(eq=False)
class GroupByBucket(beam.PTransform[beam.PCollection[pa.RecordBatch], Any]):
    """Groups bounded batches in the global window to `(bucket, Iterable[Piece])`, with pieces in any order.

    Attributes:
      buckets_of: as in `KeyByBucket`.
      namespace: as in `KeyByBucket`.
      spill: a folder that all workers share; the files stay there. None uses the runner's shuffle.
      counter: as in `KeyByBucket`.
    """

    buckets_of: Callable[[pa.RecordBatch], Buckets]
    namespace: str
    spill: str | None
    counter: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> Any:
        """Cuts the batches, and groups the pieces."""
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
    """Returns the earliest event time of the rows; `default` if no row has one."""
    if EVENT_TIME not in batch.schema.names:
        return default
    earliest = pc.min(batch.column(EVENT_TIME).cast(pa.int64())).as_py()
    return default if earliest is None else Timestamp(micros=earliest)
