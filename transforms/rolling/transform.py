"""Rolling features: what happened to a key in the last minutes before each row, over event time.

The file has a key, and one entry for each feature. A feature becomes a column behind those of the row::

    rolling:
      key: card                         # a column, or a list of columns: INT or BYTES
      window: 10m                       # for the features that name none; ms, s, m, h or d
      features:
        card_count_10m: {op: count}
        card_amount_1h: {op: sum, column: amount, window: 1h}
        card_merchants_1h: {op: distinct, column: merchant, window: 1h}
        card_since_last: {op: time_since_last, window: 7d}
        card_late: {op: late}

===================  ============  ==========================================================================
op                   gives         computed from the rows of the key in the window
===================  ============  ==========================================================================
`count`              INT           how many there are, nulls or not; at least 1, the row itself
`sum`                as `column`   the exact sum; a FLOAT is rounded once, an INT that int64 cannot hold is null
`mean`               FLOAT         the exact sum, rounded, by the number of values
`min`, `max`         as `column`   the least and the greatest value
`distinct`           INT           how many different values there are
`time_since_last`    FLOAT         seconds since the row before; null for the first
`late`               INT           1 if the row itself came late (below), else 0; in batch always 0
===================  ============  ==========================================================================

- **Window.** A row sees the rows of its key that are less than `window` older, up to and including itself. Rows are in
  the order of their event times. Rows of equal time have an order of their own, which depends on their content alone.
  Each sees those before it, so the second of two payments in one second has a count of 2.
- **Nulls.** `sum`, `mean`, `min`, `max` and `distinct` leave out values that are null. Without any value they are null,
  and `distinct` is 0. A row whose key is null, in whole or in part, has no history: its features are null.
- **Stream and batch** give equal features, to the last bit: on a stream, rows wait until the watermark has passed them,
  and then go out in order. Sums are exact, so it does not matter what was summed before.
- **Late rows** come after rows with later times, of the same key or of keys that share its state, have gone out, which
  the watermark promised not to happen. Late rows go out at once. They see all rows that came before them, other late
  rows included, and later rows see them. Rows that are out do not change: those with times behind a late row that went
  out before it do not count it. Nothing else differs from batch. `op: late` marks the late rows themselves. A row that
  comes after the watermark, when nothing behind it has gone out, is in order and does not count as late here.
- **State** on a stream: waiting rows; and for each row that went out the key, the time and the values that features use
  (for `time_since_last`, only those of the last row of each key), as long as a row that is at most `lateness` late can
  see them. At least half of what is held is of use.
"""

import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow, GlobalWindows, TimestampedValue
from apache_beam.utils import shared
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import RecordBatchCoder, TakesBatches, check_different_names, concat_alike, split_batch
from penstock.io.beam import progress
from penstock.io.beam.durations import MILLISECOND, ZERO, AnyDuration, as_duration, micros
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.spill import (
    MAX_COLLECTED_ROWS,
    BatchCollector,
    Buckets,
    GroupByBucket,
    KeyByBucket,
    Keyed,
    Piece,
    read_pieces,
)
from penstock.io.beam.timers import set_holding_timer
from penstock.io.errors import ConfigError
from penstock.io.files.yaml_files import read_text
from penstock.io.schema import Feature, Kind, feature_map, schema_features
from penstock.transforms._named import ROLLING_HINT
from penstock.transforms.checks.validate import inherit_specials, record_checks
from penstock.transforms.rolling.file import RollingSpec as RollingSpec
from penstock.transforms.rolling.file import parse_rolling
from penstock.transforms.rolling.rows import Rolling, bind_rolling, event_micros, events_of, key_hashes
from penstock.transforms.rolling.state import Bucket, Due, State, send, with_features
from penstock.transforms.rolling.windows import feature_columns

# Groups of keys. On a stream each has its own state and timers; of bounded input, a whole group is in memory at once.
_STREAM_BUCKETS = 64
_BOUNDED_BUCKETS = 256

# When rows wait that span a long time, about one part in this many goes out at once.
_PARTS_OF_BACKLOG = 4

_NAMESPACE = "RollingFeatures"

_TYPES = {Kind.INT: schema_pb2.INT, Kind.FLOAT: schema_pb2.FLOAT}


def load_rolling(path: str) -> RollingSpec:
    """Reads the YAML file that `--rolling` names.

    Raises:
      ConfigError: when it cannot be read or is not valid, with line and feature.
    """
    source = f"--rolling {path}"
    return parse_rolling(read_text(path, source, ROLLING_HINT), source)


def rolling_schema(schema: schema_pb2.Schema, spec: RollingSpec) -> schema_pb2.Schema:
    """Returns the schema of rows with the features added: one value in every row, or at most one.

    Raises:
      ConfigError: as `bind_rolling`.
    """
    features = schema_features(schema)
    rolling = bind_rolling(spec, features)
    columns = feature_map(features)
    checks = {check.feature.name: check for check in record_checks(schema).columns}
    every_row = all(columns[name].complete for name in spec.key)
    result = schema_pb2.Schema()
    result.CopyFrom(schema)
    for feature in spec.features:
        message = result.feature.add(name=feature.name, type=_TYPES[rolling.kind(feature)])
        message.value_count.min = message.value_count.max = 1
        if feature.column is not None:
            inherit_specials(message, [checks[feature.column]])
        if every_row and feature.op in ("count", "distinct", "late"):
            message.presence.min_fraction = 1
    return result


def rolling_history(rows: pa.RecordBatch, rolling: Rolling) -> pa.RecordBatch:
    """Returns what other rows see of these rows: the history that `rolling_features` takes."""
    return events_of(rows, rolling)


def rolling_features(history: pa.RecordBatch | None, rows: pa.RecordBatch, rolling: Rolling) -> pa.RecordBatch:
    """Returns the rows with their features, in the same order.

    Args:
      history: events of earlier rows (`rolling_history`), in any order. The given rows see each other in any case.
      rows: rows with `_event_time`.
      rolling: what to compute (`bind_rolling`).

    Raises:
      DataError: when a row has no event time, or a column is not of the kind that the schema says.
    """
    events = events_of(rows, rolling)
    columns = feature_columns(events.slice(0, 0) if history is None else history, events, rolling)
    return next(with_features([rows], columns, rolling))


@dataclasses.dataclass(eq=False)
class RollingFeatures(
    TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[pa.RecordBatch]]
):
    """Adds features of what happened to a key before each row.

    Batches must be in the global window, and their rows must have `_event_time`.

    Rows cross a shuffle, in pieces of batches, by bucket of their key's hash. They come out in no order, and in other
    batches than they went in. The buckets do not influence the features.

    Of bounded input, all rows of a bucket are in memory at once: one part in 256, if no key has many more rows than
    that. They get there through files in `spill`, or else through the runner's own shuffle, which local runners hold in
    memory.

    Attributes:
      spec: key and features (`load_rolling`).
      features: the schema's features of the rows.
      lateness: a timedelta, or text such as `30s`: rows that are up to this late see the whole of their windows.
      every: whole milliseconds, likewise: on a stream, rows go out when the watermark passes the next multiple of this,
        and the watermark behind this step waits for them.
      spill: a folder that all workers share, for bounded input; the files stay there.
      buckets: the number of groups of keys; on a stream it must not change when the job is updated.

    Raises:
      ConfigError: when the spec does not fit the schema, or the lateness or `every` is not a duration.
    """

    spec: RollingSpec
    features: Sequence[Feature]
    lateness: AnyDuration = ZERO
    every: AnyDuration = "1s"
    spill: str | None = None
    buckets: int | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._rolling = bind_rolling(self.spec, self.features)
        self._lateness = as_duration(self.lateness, "lateness")
        self._every = as_duration(self.every, "every", MILLISECOND, MILLISECOND)

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Groups rows by bucket, then computes features in order of time."""
        if not isinstance(batches.windowing.windowfn, GlobalWindows):
            raise ConfigError("RollingFeatures takes batches in the global window; put it before the windows")
        return self._at_once(batches) if batches.is_bounded else self._on_stream(batches)

    def _on_stream(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        roll = beam.ParDo(_RollStreamFn(self._rolling, self._lateness, self._every))
        keyed = batches | "KeyByBucket" >> KeyByBucket(self._buckets_of(_STREAM_BUCKETS), _NAMESPACE, "rolled")
        return keyed | "Roll" >> roll.with_output_types(pa.RecordBatch)

    def _at_once(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        roll = beam.ParDo(_RollBucketFn(self._rolling)).with_output_types(pa.RecordBatch)
        group = GroupByBucket(self._buckets_of(_BOUNDED_BUCKETS), _NAMESPACE, self.spill, "rolled")
        return batches | "ByBucket" >> group | "Roll" >> roll

    def _buckets_of(self, buckets: int) -> Callable[[pa.RecordBatch], Buckets]:
        return functools.partial(_key_buckets, rolling=self._rolling, buckets=self.buckets or buckets)


def _key_buckets(batch: pa.RecordBatch, rolling: Rolling, buckets: int) -> Buckets:
    """Returns int64: the bucket of each row's key."""
    check_different_names(batch)
    return (key_hashes(batch, rolling) % np.uint64(buckets)).astype(np.int64)


class _RollBucketFn(beam.DoFn):
    """Computes the features of bounded input, one bucket at a time."""

    def __init__(self, rolling: Rolling):
        self._rolling = rolling
        self._counters = RowCounters(_NAMESPACE)

    def process(self, item: tuple[int, Iterable[Piece]]) -> Iterator[pa.RecordBatch]:
        batches = list(concat_alike(read_pieces(item[1])))
        events = pa.concat_batches([events_of(batch, self._rolling) for batch in batches])
        columns = feature_columns(events.slice(0, 0), events, self._rolling)
        for batch in with_features(batches, columns, self._rolling):
            self._counters.add(out_rows=batch.num_rows)
            progress.add(rolled=batch.num_rows)
            yield from split_batch(batch)


class _Buckets(dict[int, Bucket]):
    """The buckets that a process has seen; a class, since `shared.Shared` needs objects that have weak references."""


_RELEASE = TimerSpec("release", TimeDomain.WATERMARK)
_MARK: Any = beam.DoFn.StateParam(ReadModifyWriteStateSpec("mark", BytesCoder()))
_WAITING: Any = beam.DoFn.StateParam(BagStateSpec("waiting", RecordBatchCoder()))
_HISTORY: Any = beam.DoFn.StateParam(BagStateSpec("history", RecordBatchCoder()))
_TIMER: Any = beam.DoFn.TimerParam(_RELEASE)
_KEY: Any = beam.DoFn.KeyParam
_TIME: Any = beam.DoFn.TimestampParam


class _RollStreamFn(beam.DoFn):
    """Computes the features of a stream: rows wait in state until the watermark has passed them."""

    def __init__(self, rolling: Rolling, lateness: datetime.timedelta, every: datetime.timedelta):
        self._rolling = rolling
        self._lateness = lateness
        self._every = micros(every)
        self._shared = shared.Shared()
        self._counters = RowCounters(_NAMESPACE)

    def setup(self) -> None:
        self._buckets: _Buckets = self._shared.acquire(_Buckets)

    def start_bundle(self) -> None:
        self._due: dict[int, Due] = {}
        self._collector = BatchCollector()

    def process(
        self,
        item: Keyed,
        mark: Any = _MARK,
        waiting: Any = _WAITING,
        history: Any = _HISTORY,
        timer: Any = _TIMER,
    ) -> Iterator[Any]:
        number, batch = item
        state = State(mark, waiting, history)
        bucket = self._bucket(number, state)
        self._take(number, bucket.add(batch, state))
        self._set_timer(timer, bucket)
        yield from self._full()

    @on_timer(_RELEASE)
    def release(
        self,
        number: int = _KEY,
        time: Timestamp = _TIME,
        mark: Any = _MARK,
        waiting: Any = _WAITING,
        history: Any = _HISTORY,
        timer: Any = _TIMER,
    ) -> Iterator[Any]:
        """Sends the rows that the watermark has passed."""
        state = State(mark, waiting, history)
        bucket = self._bucket(number, state)
        self._take(number, bucket.release(time.micros, state))
        bucket.holds = None
        self._set_timer(timer, bucket)
        yield from self._full()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self._compute()
        for batch, time in self._flush():
            yield WindowedValue(batch, time, (GlobalWindow(),))

    def _bucket(self, number: int, state: State) -> Bucket:
        bucket = self._buckets.get(number)
        if bucket is None or bucket.mark.to_bytes() != state.mark.read():
            bucket = self._buckets[number] = Bucket.load(state, self._rolling, self._lateness)
        return bucket

    def _set_timer(self, timer: Any, bucket: Bucket) -> None:
        """Sets a timer for the first of the waiting rows.

        Where they span a long time, as in a topic that is full, more of them go out at once. A timer that is no longer
        needed, since an earlier row came, fires all the same and finds nothing to do.
        """
        waits = bucket.waits
        if waits is not None and waits.first != bucket.holds:
            bucket.holds = waits.first
            due = waits.first + (waits.last - waits.first) // _PARTS_OF_BACKLOG
            set_holding_timer(timer, (due // self._every + 1) * self._every, waits.first)

    def _take(self, number: int, due: Due | None) -> None:
        """Collects what is due in all buckets, to compute the features together."""
        if due is None:
            return
        if number in self._due:
            self._compute()
        self._due[number] = due
        self._counters.add(late_rows=due.events.num_rows if due.late else 0)
        if sum(due.events.num_rows for due in self._due.values()) >= MAX_COLLECTED_ROWS:
            self._compute()

    def _compute(self) -> None:
        for batch in send(list(self._due.values()), self._rolling):
            self._collector.add(batch)
        self._due = {}

    def _full(self) -> Iterator[Any]:
        if self._collector.is_full:
            for batch, time in self._flush():
                yield TimestampedValue(batch, time)

    def _flush(self) -> Iterator[tuple[pa.RecordBatch, Timestamp]]:
        for whole in self._collector.take():
            for batch in split_batch(whole):
                self._counters.add(out_rows=batch.num_rows)
                yield batch, Timestamp(micros=int(event_micros(batch).min()))
