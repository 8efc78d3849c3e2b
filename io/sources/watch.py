"""Files as a stream: `WatchFiles` finds the files that are finished, each once; `WatchRecords` reads them.

A file is finished when two looks, an interval apart, find it with the same size and modification time. The list of
files that were handed on is the restriction of one splittable DoFn. It is part of the checkpoint and survives restarts.
It takes 25 bytes for each file that *exists*: a deleted file is forgotten after a few looks, so the state does not grow
with the age of the stream. A file that changes after it was handed on is not read again, which would give its rows
twice: it becomes a dead letter, `file.changed`.

Beam's own `MatchContinuously` (2.77) keeps its state in the same way, but hands a file on when its name appears,
finished or not. It remembers every file for ever (or, with `timestamp_cursor`, silently skips a file with an older
modification time, as copies have). Its watermark is the clock, so the rows of the last hour's file are an hour late
when it arrives.

**Watermark.** With `event_time` the watermark follows the rows, not the clock. It is the latest event time of the files
that were handed on, less `out_of_orderness`. So the last windows of a file close when the *next* file is read, and a
file that arrives hours after its events is on time, unless a file with later events came first. The watermark stands
still while a file grows, and never passes the clock. Penstock looks up the latest event time in the last rows of the
newest files if their format allows it (`Format.tail`), else in their first rows: if that time is too low, windows wait
for one more file. The rows of a file that came too late are late: in the late pane within the allowed lateness, dead
letters `late` beyond it. When no file has been finished for `idle_timeout`, the clock takes over: the watermark is then
the clock less `idle_timeout` and `out_of_orderness`, and rows behind it are late. Without `event_time` the watermark is
the clock less `out_of_orderness`.

**Faults.** A broken file must not end a stream, since each restart would fail on it again. It becomes a dead letter
`file.broken`, and the stream continues. Rows of the file that were read before the fault stay.
"""

import dataclasses
import datetime
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam import coders
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Duration, Timestamp

from penstock.io.beam.durations import MAX_AHEAD, MILLISECOND, ZERO, AnyDuration, as_duration, micros
from penstock.io.beam.local import stopping
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.event_times import (
    assign_event_time,
    check_event_time,
    letter_times,
    parse_event_time,
    without_future,
)
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.payloads import row_payload
from penstock.io.dead_letters.record import DeadLetter
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.files.extras import check_filesystem
from penstock.io.files.inputs import InputFile, find_files
from penstock.io.files.partitions import Partitioning
from penstock.io.formats.base import Format, Part
from penstock.io.formats.partitioned import PartitionedFormat
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import Feature, find_feature
from penstock.io.sources.lists.lines import list_path
from penstock.io.sources.read import PlanPartsFn, ReadPartFn, resolve_format, transforms_behind
from penstock.io.sources.seen import LookTracker, Watched, WatchedCoder, look

_LOGGER = logging.getLogger(__name__)

FILE_BROKEN, FILE_CHANGED = "file.broken", "file.changed"

# The job fails after this many failed listings in a row.
_MAX_FAILED_LOOKS = 10

# The most files of one look in which the latest event time is looked up.
_MAX_PEEKED = 16

# Errors of a file that a retry cannot fix.
_BROKEN = (DataError, ConfigError, FileNotFoundError, PermissionError)

# Patterns, and the number of looks (-1: for ever).
_Watch = tuple[tuple[str, ...], int]


@dataclasses.dataclass(frozen=True)
class Clock:
    """Computes the watermark of a watcher; the module describes how.

    Attributes:
      reader: reads event times from files.
      event_time: `COLUMN` or `COLUMN:unit`; None makes the clock the watermark.
      features: the schema's features, which type the column; None takes the column as it is in the file.
      out_of_orderness: how much later than younger rows a row may come.
      idle_timeout: how long after the last finished file the clock takes over; None waits for the next file for ever.
    """

    reader: Format
    event_time: str | None = None
    features: Sequence[Feature] | None = None
    out_of_orderness: datetime.timedelta = ZERO
    idle_timeout: datetime.timedelta | None = None

    def latest(self, files: Sequence[InputFile], now: int) -> int | None:
        """Returns the latest event time of the newest files, or one a bit lower; microseconds since 1970.

        Times that are far ahead of the clock are left out: a watermark that follows them makes all other rows late.
        """
        if self.event_time is None:
            return None
        newest = sorted(files, key=lambda file: file.mtime)[-_MAX_PEEKED:]
        times = (latest_event_time(self.reader, file, self.event_time, self.features, now) for file in newest)
        return _latest(times)

    def believed(self, watched: Watched, now: int) -> int | None:
        """Returns the latest event time before a look; None if it is far ahead, as old checkpoints may have it."""
        is_ahead = watched.latest is not None and watched.latest > now + micros(MAX_AHEAD)
        return None if is_ahead else watched.latest

    def watermark(self, watched: Watched, now: int) -> int | None:
        """Returns the watermark after a look; None to leave it. `now` is in microseconds since 1970."""
        late = micros(self.out_of_orderness)
        if self.event_time is None:
            return now - late
        if self.idle_timeout is not None and now - watched.found >= micros(self.idle_timeout):
            return now - micros(self.idle_timeout) - late
        if watched.latest is None or watched.growing:
            return None
        return min(watched.latest, now) - late


def latest_event_time(
    reader: Format, file: InputFile, event_time: str, features: Sequence[Feature] | None = None, now: int | None = None
) -> int | None:
    """Returns the latest event time in a file's last rows, or its first ones if reading cannot start in the middle.

    The time is in microseconds since 1970; None when the file is broken or has no row with a time. Times that are more
    than `MAX_AHEAD` ahead of the clock do not count.
    """
    column, unit = parse_event_time(event_time)
    wanted = None if features is None else [find_feature(column, features, "--event_time")]
    times = []
    try:
        tail = reader.tail(file)
        for parsed in reader.read(file, tail or Part(), wanted):
            batch = parsed.batch if wanted is None else conform_batch(parsed.batch, wanted)[0]
            timed, _ = assign_event_time(batch, column, unit)
            believed = without_future(timed.column(EVENT_TIME), MAX_AHEAD, now)
            times.append(pc.max(believed.cast(pa.int64())).as_py())
            if tail is None:
                break
    except _BROKEN as error:
        _LOGGER.info("%s: its event times cannot be looked up: %s", file.uri, error)
    return _latest(times)


def _latest(times: Any) -> int | None:
    return max((time for time in times if time is not None), default=None)


class _WatchedProvider(RestrictionProvider):
    def initial_restriction(self, element: _Watch) -> Watched:
        return Watched(looks_left=element[1])

    def create_tracker(self, restriction: Watched) -> LookTracker:
        return LookTracker(restriction)

    def restriction_coder(self) -> coders.Coder:
        return WatchedCoder()

    def restriction_size(self, element: _Watch, restriction: Watched) -> int:
        return 1

    def truncate(self, element: _Watch, restriction: Watched) -> None:
        """Drops all further looks when a job is drained."""


@dataclasses.dataclass(eq=False)
class WatchFiles(RejectingTransform):
    """Finds the files that patterns match, each when it is finished.

    Elements: `InputFile`, unbounded. Each file is handed on once. Its timestamp is the watermark before it, so the
    watermark waits until the file is read. A file that changes afterwards is rejected with `file.changed`. One worker
    looks. A failed listing is retried at the next look; ten failures in a row fail the job.

    Attributes:
      patterns: the patterns to look for, and folders for all files below them; a file that two of them match is handed
        on once. Files whose names, or folders' names, begin with `_` or `.` are left out unless a pattern spells that.
      interval: the time between two looks, at least a millisecond; a timedelta, or text such as `60s`.
      clock: computes the watermark.
      looks: end after this many looks, for tests, and to read the files that are finished by then; None never ends.

    Raises:
      ConfigError: when the interval or the number of looks is too small, a filesystem cannot be reached, or a list is
        named.
    """

    patterns: Sequence[str]
    interval: AnyDuration
    clock: Clock
    looks: int | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._interval = as_duration(self.interval, "interval", MILLISECOND)
        for pattern in self.patterns:
            if list_path(pattern) is not None:
                raise ConfigError(
                    f"{pattern} lists files that are there, and a watch looks for new ones: name a pattern"
                )
            check_filesystem(pattern)
        if self.looks is not None and self.looks < 2:
            raise ConfigError(f"looks must be >= 2, since only the second can find a finished file, got {self.looks}")

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[InputFile]:
        """Looks for all patterns in one element."""
        watch: _Watch = (tuple(self.patterns), -1 if self.looks is None else self.looks)
        files = beam.ParDo(_WatchFilesFn(self._interval, self.clock)).with_output_types(InputFile)
        patterns = pbegin | "Patterns" >> beam.Create([watch], reshuffle=False)
        found, changed = split_rejected(patterns | "Look" >> files.with_outputs(REJECTED, main="out"))
        self._reject(changed)
        return found


_TRACKER = beam.DoFn.RestrictionParam(_WatchedProvider())
_ESTIMATOR = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())


class _WatchFilesFn(beam.DoFn):
    def __init__(self, interval: datetime.timedelta, clock: Clock):
        self._interval = interval
        self._clock = clock
        self._failed_looks = 0
        self._counters = RowCounters("WatchFiles")
        self._stream = stopping.stream_name()

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(self, watch: _Watch, tracker: Any = _TRACKER, estimator: Any = _ESTIMATOR) -> Iterator[Any]:
        known = tracker.current_restriction()
        if known.looks_left == 0:
            tracker.try_claim(known)
            return
        if stopping.is_stopping(self._stream):
            tracker.defer_remainder(stopping.REST)
            return
        # List first, then claim: a checkpoint in between need not wait for a slow listing.
        files = self._list(watch[0])
        if files is None:
            tracker.defer_remainder(Duration(micros=micros(self._interval)))
            return
        now = int(time.time() * 1_000_000)
        found = look(known, files, now)
        latest = _latest((self._clock.believed(found.watched, now), self._clock.latest(found.finished, now)))
        watched = dataclasses.replace(found.watched, latest=latest)
        if not tracker.try_claim(watched):
            return
        before = estimator.current_watermark() or MIN_TIMESTAMP
        self._counters.add(files=len(found.finished), changed_files=len(found.changed))
        yield from (TimestampedValue(file, before) for file in found.finished)
        yield from reject([_changed_letter(file) for file in found.changed])
        if watched.looks_left == 0:
            return
        watermark = self._clock.watermark(watched, now)
        if watermark is not None and Timestamp(micros=watermark) > before:
            estimator.set_watermark(Timestamp(micros=watermark))
        tracker.defer_remainder(Duration(micros=micros(self._interval)))

    def _list(self, patterns: Sequence[str]) -> tuple[InputFile, ...] | None:
        """Lists all files; returns None when the listing fails."""
        try:
            files = find_files(patterns, may_be_none=True).files
        except InputError as error:
            self._failed_looks += 1
            if self._failed_looks == _MAX_FAILED_LOOKS:
                raise
            _LOGGER.warning("%s; the next look is in %g s", error, self._interval.total_seconds())
            return None
        self._failed_looks = 0
        return files


def _changed_letter(file: InputFile) -> DeadLetter:
    detail = (
        f"the file changed after it was read, and has {file.size} bytes now; what is new in it is not read: give new "
        "rows a file of their own"
    )
    return _file_letter(FILE_CHANGED, detail, file)


def _file_letter(code: str, detail: str, file: InputFile, part: Part | None = None) -> DeadLetter:
    """Makes a dead letter for a file; its payload is not a row."""
    part = part or Part()
    payload = row_payload({**dataclasses.asdict(file), "start": part.start, "end": part.end})
    return DeadLetter((Reason(code, detail),), "read", file.uri, part.start, payload, "json")


@dataclasses.dataclass(eq=False)
class WatchRecords(RejectingTransform):
    """Reads the files that patterns match, each when it is finished, for ever.

    Elements are those of `ReadRecords`; their order is not defined. Rejects are those of the reader, and `file.broken`
    and `file.changed` for whole files, each as one row.

    Attributes:
      patterns: the patterns and folders to look for.
      interval: the time between two looks, at least a millisecond; a timedelta, or text such as `60s`.
      format: a name or a `Format`; None chooses by the suffix of the patterns.
      features: the schema's features.
      event_time: `COLUMN` or `COLUMN:unit`, which the watermark follows; another step adds `_event_time` to the rows.
      out_of_orderness, idle_timeout: durations, like `interval`; the module describes them.
      max_ahead: how far ahead of the clock the time of a rejected row is believed.
      looks: end after this many looks; None never ends.
      partitioning: whether folders `key=value` are columns (`auto`, `none`), as in `ReadRecords`; without `features`
        they are texts, since the files to come are not known.
      keep_source: as in `ReadRecords`.

    Raises:
      ConfigError: when the format is unknown, or an option is wrong.
    """

    patterns: Sequence[str]
    interval: AnyDuration
    format: str | Format | None = None
    features: Sequence[Feature] | None = None
    event_time: str | None = None
    out_of_orderness: AnyDuration = ZERO
    idle_timeout: AnyDuration | None = None
    max_ahead: datetime.timedelta | None = None
    looks: int | None = None
    partitioning: Partitioning = "auto"
    keep_source: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        if not self.patterns:
            raise ConfigError("patterns must name at least one file or pattern, got none")
        # A pattern has the suffix of its files.
        reader = resolve_format(self.format, [InputFile(pattern, 0, 0.0) for pattern in self.patterns])
        self._reader = reader if self.partitioning == "none" else PartitionedFormat(reader)
        if self.event_time is not None and self.features is not None:
            check_event_time(self.event_time, self.features)
        late = as_duration(self.out_of_orderness, "out_of_orderness")
        idle = None if self.idle_timeout is None else as_duration(self.idle_timeout, "idle_timeout")
        self._clock = Clock(self._reader, self.event_time, self.features, late, idle)

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Finds the files, plans and spreads their parts, and reads them."""
        watch = WatchFiles(self.patterns, self.interval, self._clock, self.looks).with_error_handler(
            self._error_handler
        )
        plan = beam.ParDo(_PlanOrRejectFn(self._reader)).with_output_types(tuple[int, InputFile, Part])
        times = letter_times(self.event_time, self.max_ahead)
        fn = _ReadOrRejectFn(self._reader, self.features, order_key=False, keep_source=self.keep_source, times=times)
        read = beam.ParDo(fn).with_output_types(pa.RecordBatch)
        files = pbegin | "WatchFiles" >> watch
        parts, unplanned = split_rejected(files | "PlanParts" >> plan.with_outputs(REJECTED, main="out"))
        spread = parts | "SpreadParts" >> beam.Reshuffle()
        batches, rejected = split_rejected(spread | "ReadParts" >> read.with_outputs(REJECTED, main="out"))
        self._reject((unplanned, rejected) | "Rejected" >> beam.Flatten())
        return batches


def patterns_behind(values: beam.PCollection[Any]) -> Iterator[str]:
    """Yields the patterns and folders that `WatchRecords` looks for, as `uris_behind` yields files."""
    for transform in transforms_behind(values):
        if isinstance(transform, WatchRecords):
            yield from transform.patterns


class _PlanOrRejectFn(beam.DoFn):
    def __init__(self, reader: Format):
        self._plan = PlanPartsFn(reader)

    def process(self, file: InputFile) -> Iterator[Any]:
        try:
            yield from self._plan.process((0, file))
        except _BROKEN as error:
            yield from reject([_file_letter(FILE_BROKEN, f"{error}; none of its rows is read", file)])


class _ReadOrRejectFn(ReadPartFn):
    def process(self, item: tuple[int, InputFile, Part]) -> Iterator[Any]:
        rows = 0
        _, file, part = item
        try:
            for result in super().process(item):
                rows += result.num_rows if isinstance(result, pa.RecordBatch) else 0
                yield result
        except _BROKEN as error:
            detail = f"{error}; {rows} rows of this part of the file were read before and stay"
            yield from reject([_file_letter(FILE_BROKEN, detail, file, part)])
