"""The transform that rejects rows whose key another row has; `penstock.transforms.checks.unique` says which stays."""

import datetime
import functools
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindows, TimestampedValue
from apache_beam.utils import shared
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import RecordBatchCoder, TakesBatches, drop_rows, in_global_window, split_batch
from penstock.io.beam import progress
from penstock.io.beam.durations import ZERO, AnyDuration, as_duration, micros
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.spill import (
    BatchCollector,
    Buckets,
    GroupByBucket,
    KeyByBucket,
    Keyed,
    Piece,
    SpilledBatch,
    SpillFile,
    earliest_time,
)
from penstock.io.beam.windows import Windows
from penstock.io.columns.hashing import hash_rows
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError
from penstock.io.files.temporary import temporary_folder
from penstock.io.sort.runs import MAX_RUN_BYTES
from penstock.transforms.checks.file import UniqueKey
from penstock.transforms.checks.unique.bounded import ROW_SEED, find_duplicates
from penstock.transforms.checks.unique.keys import Repeated, duplicate_reasons, keyed_rows, sliding_error, window_starts
from penstock.transforms.checks.unique.stream import SeenKeys, compare_with

_NAMESPACE = "RejectDuplicates"


_STAGE = "validate"


# Groups of keys. On a stream, each has its own state; of bounded input, one at a time is sorted.
_STREAM_BUCKETS = 64


_BOUNDED_BUCKETS = 256


class RejectDuplicates(TakesBatches, RejectingTransform):
    """Rejects rows whose key another row has.

    The module's docstring says which of them stays. The input is batches in the global window. Of bounded input, rows
    come out in no order, in other batches. Counters: `in-rows`, `out-rows`, `bad-rows`.
    """

    def __init__(
        self,
        key: UniqueKey,
        windows: Windows | None = None,
        lateness: AnyDuration = ZERO,
        spill: str | None = None,
        buckets: int | None = None,
        run_bytes: int = MAX_RUN_BYTES,
    ):
        """Checks the configuration.

        Args:
          key: the key that must be unique.
          windows: fixed windows of event time (`_event_time`) within which it must be unique; a stream needs them.
          lateness: how far behind the watermark a row of a stream may be and still be compared; a timedelta, or text
            such as `30s`.
          spill: a folder that all workers share, for bounded input; the files stay there. None leaves the rows to the
            runner's own shuffle, which local runners hold in memory.
          buckets: the number of groups of keys; on a stream it must not change when the job is updated.
          run_bytes: bytes of keys that a worker sorts at once.

        Raises:
          ConfigError: for sliding windows, or a lateness that is not a duration.
        """
        super().__init__()
        if windows is not None and not windows.is_fixed:
            raise sliding_error(key, windows)
        self._key = key
        self._windows = windows
        self._lateness = as_duration(lateness, "lateness")
        self._spill = spill
        self._buckets = buckets
        self._run_bytes = run_bytes

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Groups rows by bucket, then compares those with the same key."""
        if not isinstance(batches.windowing.windowfn, GlobalWindows):
            raise ConfigError("RejectDuplicates takes batches in the global window; give it the windows as an argument")
        reject_repeated = self._at_once if batches.is_bounded else self._on_stream
        good, rejected = split_rejected(reject_repeated(batches))
        self._reject(rejected)
        return good

    def _at_once(self, batches: beam.PCollection[pa.RecordBatch]) -> Any:
        buckets_of = functools.partial(
            _buckets, key=self._key, windows=self._windows, buckets=self._buckets or _BOUNDED_BUCKETS
        )
        compare = beam.ParDo(_CompareBucketFn(self._key, self._windows, self._run_bytes))
        compare = compare.with_output_types(pa.RecordBatch).with_outputs(REJECTED, main="out")
        return (
            batches
            | "ByBucket" >> GroupByBucket(buckets_of, _NAMESPACE, self._spill, "compared")
            | "Compare" >> compare
        )

    def _on_stream(self, batches: beam.PCollection[pa.RecordBatch]) -> Any:
        if self._windows is None:
            raise ConfigError(
                f"{self._key.where}: in a stream a key can be unique in a window, not in all that is still to come; "
                "pass --window fixed:SIZE (RejectDuplicates(windows=...)), or leave `unique` out"
            )
        buckets_of = functools.partial(
            _window_buckets, key=self._key, windows=self._windows, buckets=self._buckets or _STREAM_BUCKETS
        )
        compare = beam.ParDo(
            _CompareStreamFn(self._key, self._windows, self._lateness, self._buckets or _STREAM_BUCKETS)
        )
        compare = compare.with_output_types(pa.RecordBatch).with_outputs(REJECTED, main="out")
        return batches | "KeyByBucket" >> KeyByBucket(buckets_of, _NAMESPACE) | "Compare" >> compare


def _buckets(batch: pa.RecordBatch, key: UniqueKey, windows: Windows | None, buckets: int) -> Buckets:
    """Returns int64: the bucket of each row's key; rows without a key are spread evenly."""
    hashes = hash_rows(batch, None, ROW_SEED)
    keyed = keyed_rows(batch, key, windows)
    hashes[keyed.rows] = keyed.hashes
    return (hashes % np.uint64(buckets)).astype(np.int64)


def _window_buckets(batch: pa.RecordBatch, key: UniqueKey, windows: Windows, buckets: int) -> Buckets:
    """Returns int64: a number for each row that identifies the window and the bucket in it."""
    return window_starts(batch, windows) // micros(windows.size) * buckets + _buckets(batch, key, windows, buckets)


class _RejectRepeatedFn(beam.DoFn):
    """Separates good rows from those that repeat others."""

    def __init__(self, key: UniqueKey, windows: Windows | None):
        self._key = key
        self._windows = windows
        self._counters = RowCounters(_NAMESPACE)

    def _reject_repeated(self, batch: pa.RecordBatch, repeated: Repeated) -> Iterator[Any]:
        self._counters.add(out_rows=batch.num_rows - len(repeated), bad_rows=len(repeated))
        if repeated:
            yield from reject(row_letters(batch, duplicate_reasons(batch, repeated, self._key), _STAGE))


class _CompareBucketFn(_RejectRepeatedFn):
    """Compares all rows of a bucket of bounded input."""

    def __init__(self, key: UniqueKey, windows: Windows | None, run_bytes: int):
        super().__init__(key, windows)
        self._run_bytes = run_bytes

    def process(self, item: tuple[int, Iterable[Piece]]) -> Iterator[Any]:
        with temporary_folder() as directory:
            pieces = _on_disk(item[1], directory)
            for batch, repeated in find_duplicates(pieces, self._key, self._windows, self._run_bytes):
                yield from self._reject_repeated(batch, repeated)
                progress.add(compared=batch.num_rows)
                yield from split_batch(drop_rows(batch, repeated) if repeated else batch)


def _on_disk(pieces: Iterable[Piece], directory: str) -> list[SpilledBatch]:
    """Returns the pieces of a bucket as files, since they are read twice; those from the runner are written to one."""
    with SpillFile(directory) as file:
        return [piece if isinstance(piece, SpilledBatch) else file.add(piece) for piece in pieces]


class _Known(dict[int, tuple[bytes, SeenKeys]]):
    """The state that a process has in memory: for each of its keys, the keys seen and the mark they were written at."""


# At most this many keys are kept in memory besides the state.
_MAX_KNOWN = 4 << 20


_CLOSE = TimerSpec("close", TimeDomain.WATERMARK)


_MARK: Any = beam.DoFn.StateParam(ReadModifyWriteStateSpec("mark", BytesCoder()))


_SEEN_STATE: Any = beam.DoFn.StateParam(BagStateSpec("seen", RecordBatchCoder()))


_TIMER: Any = beam.DoFn.TimerParam(_CLOSE)


_KEY: Any = beam.DoFn.KeyParam


class _CompareStreamFn(_RejectRepeatedFn):
    """Compares rows of a stream with the keys of their window that have arrived."""

    def __init__(self, key: UniqueKey, windows: Windows, lateness: datetime.timedelta, buckets: int):
        super().__init__(key, windows)
        self._size = micros(windows.size)
        self._lateness = micros(lateness)
        self._buckets = buckets
        self._shared = shared.Shared()

    def setup(self) -> None:
        self._known: _Known = self._shared.acquire(_Known)

    def start_bundle(self) -> None:
        self._collector = BatchCollector()
        self._earliest = MAX_TIMESTAMP

    def process(
        self,
        item: Keyed,
        timestamp: Any = beam.DoFn.TimestampParam,
        mark: Any = _MARK,
        state: Any = _SEEN_STATE,
        timer: Any = _TIMER,
    ) -> Iterator[Any]:
        number, batch = item
        seen = self._seen(number, mark, state)
        repeated, new = compare_with(seen, batch, self._key, self._windows)
        if new.num_rows:
            self._remember(number, seen, new, mark, state)
            # The sink learns of the watermark a little later than this step: wait one window more.
            timer.set(Timestamp(micros=(number // self._buckets + 2) * self._size + self._lateness))
        yield from self._reject_repeated(batch, repeated)
        self._earliest = min(self._earliest, timestamp)
        self._collector.add(drop_rows(batch, repeated) if repeated else batch)
        if self._collector.is_full:
            for good, time in self._flush():
                yield TimestampedValue(good, time)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for good, time in self._flush():
            yield in_global_window(good, time)

    def _flush(self) -> Iterator[tuple[pa.RecordBatch, Timestamp]]:
        for whole in self._collector.take():
            for batch in split_batch(whole):
                yield batch, earliest_time(batch, self._earliest)

    def _seen(self, number: int, mark: Any, state: Any) -> SeenKeys:
        """Returns what the state holds, from memory if that still matches the state."""
        known = self._known.get(number)
        if known is not None and known[0] == mark.read():
            return known[1]
        seen = SeenKeys()
        for batch in state.read():
            seen.add(batch)
        return seen

    def _remember(self, number: int, seen: SeenKeys, new: pa.RecordBatch, mark: Any, state: Any) -> None:
        written = uuid.uuid4().bytes
        state.add(new)
        mark.write(written)
        seen.add(new)
        self._known.pop(number, None)
        self._known[number] = written, seen
        while len(self._known) > 1 and sum(len(keys) for _, keys in list(self._known.values())) > _MAX_KNOWN:
            self._known.pop(next(iter(self._known)), None)

    @on_timer(_CLOSE)
    def close(self, number: int = _KEY, mark: Any = _MARK, state: Any = _SEEN_STATE) -> None:
        """Drops the keys of a window that accepts no more rows."""
        self._known.pop(number, None)
        mark.clear()
        state.clear()
