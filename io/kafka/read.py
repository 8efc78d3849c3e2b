"""Reading Kafka: `ReadFromKafka`, a splittable DoFn over groups of partitions.

A group has one consumer, and is one element. A bundle reads for about a second, or until no records are left. Then the
runner's checkpoint takes the offsets reached, and another bundle continues the group. Only these offsets count:
commits to the consumer group are made when a bundle is final, and are for monitoring.
"""

import dataclasses
import datetime
import functools
import logging
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Duration, Timestamp

from penstock.io.batches import split_batch
from penstock.io.beam import cancellation, progress
from penstock.io.beam.coverage import MARKS, ReadMark
from penstock.io.beam.durations import AnyDuration, as_duration
from penstock.io.beam.local import stopping
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.stable_input import keeps_each_watermark
from penstock.io.columns.event_times import check_event_time, now_micros, parse_event_time
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import DeadLetter
from penstock.io.errors import ConfigError, InputError
from penstock.io.kafka.consumer import PolledMessages, Reader, close_parked, lease
from penstock.io.kafka.offsets import OffsetRange, Partition, resolve_offsets
from penstock.io.kafka.restriction import OffsetClaim, Spans, SpansCoder, SpansProvider
from penstock.io.kafka.rows import MessageRows
from penstock.io.kafka.source import KafkaSource
from penstock.io.kafka.watermark import PartitionWatermark, PartitionWatermarks
from penstock.io.messages.values import Values, values_of
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import Feature

_LOGGER = logging.getLogger(__name__)

# How many readers share the partitions; a stream has one on Prism (`keeps_each_watermark`).
_READERS = 4

# One poll waits this long for records; a bundle polls again while they keep coming.
_POLL_SECONDS = 0.2

# A group without new records is tried again after the first pause; the pauses then grow up to the last.
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.2, 1.0

# Beam passes the finalizer by position in `process`, and these two by name, so they come last.
_TRACKER = beam.DoFn.RestrictionParam(SpansProvider())
_WATERMARK = beam.DoFn.WatermarkEstimatorParam(PartitionWatermarks())

# Group, number of groups, `Spans` as JSON.
Group = tuple[int, int, bytes]


@dataclasses.dataclass(eq=False)
class ReadFromKafka(RejectingTransform):
    """Reads Kafka topics into RecordBatches.

    Elements: `pyarrow.RecordBatch` of at most 65,536 rows and about 8 MiB. All rows of a batch are of one partition, in
    its order, with `_origin` (`kafka://HOST:PORT/TOPIC/PARTITION`, offset) and `_event_time`. Columns are typed as by
    `ReadRecords`. The timestamp of an element is its earliest row's time, or the watermark, whichever is later.

    Attributes:
      source: what to read, or its URI.
      features: the schema's features; None for all columns of the values, untyped.
      event_time: `COLUMN` or `COLUMN:s|ms|us|ns`; None for the records' timestamps.
      format: a name from `penstock.io.messages.registry.DECODERS`, or a `Values` that decodes values.
      format_options: options of `values_of` that the source does not have.
      out_of_orderness: how much older than the newest row of its partition a row may be. Like all durations here, a
        timedelta, or text such as `5s`.
      idle_timeout: how long a partition that is read to its end holds the watermark back without a good row.
      max_ahead: a row whose event time is further ahead of the clock is rejected (`future`); None rejects none. Either
        way, a row that is more than an hour ahead moves no watermark.
      order_key: add `_shuffle_key`: topic in the given order, partition, offset. Topics of a pattern are in the order
        of their names; a stream of a pattern has no order.
      spans: the offsets to read; None to look them up now, where the pipeline is built.
      bundle_time: the longest time that a bundle of a stream reads.
      discover_interval: how often a stream looks for new partitions, and for new topics that match its pattern.
      stall_timeout: a bounded read fails when no broker has sent anything for this long.
      keep_source: as in `ReadRecords`.
      commits: whether each bundle that is final commits its offsets to the group of the source.

    Raises:
      ConfigError: when the source, event time or format is wrong, or a stream of a pattern shall have an order.
      InputError: when the offsets cannot be resolved (`resolve_offsets`); on the workers, when a partition may not be
        read, or a bounded read stalls.
      ImportError: when the extra `kafka` is not installed.
    """

    source: KafkaSource | str
    features: Sequence[Feature] | None = None
    event_time: str | None = None
    format: str | Values = "json"
    format_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    out_of_orderness: AnyDuration = "5s"
    idle_timeout: AnyDuration = "60s"
    max_ahead: AnyDuration | None = None
    order_key: bool = False
    spans: Sequence[OffsetRange] | None = None
    bundle_time: AnyDuration = "1s"
    discover_interval: AnyDuration = "30s"
    stall_timeout: AnyDuration = "120s"
    keep_source: bool = False
    commits: bool = True

    def __post_init__(self) -> None:
        super().__init__()
        if self.event_time is not None:
            parse_event_time(self.event_time)
            if self.features is not None:
                check_event_time(self.event_time, self.features)
        names = [field.name for field in dataclasses.fields(_Timing)]
        self._max_ahead = None if self.max_ahead is None else as_duration(self.max_ahead, "max_ahead")
        self._timing = _Timing(**{name: as_duration(getattr(self, name), name) for name in names})

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Resolves the offsets, spreads groups of partitions over workers, and reads them."""
        source = KafkaSource.parse(self.source) if isinstance(self.source, str) else self.source
        spans = resolve_offsets(source) if self.spans is None else self.spans
        source = fixed_topics(source, spans)
        if not source.bounded and not keeps_each_watermark(pbegin.pipeline):
            source = with_one_reader(source)
        if self.order_key and source.pattern is not None:
            raise ConfigError(f"order_key needs topics by name: new ones join the {source.names} while it is read")
        read = beam.ParDo(self._read_fn(source)).with_output_types(pa.RecordBatch)
        results = (
            pbegin
            | "Partitions" >> beam.Create(group_partitions(source, spans), reshuffle=False).with_output_types(Group)
            | "SpreadPartitions" >> beam.Reshuffle()
            | "ReadPartitions" >> read.with_outputs(REJECTED, MARKS, main="out")
        )
        results[MARKS].element_type = ReadMark
        batches, rejected = split_rejected(results)
        self._reject(rejected)
        return batches

    def _read_fn(self, source: KafkaSource) -> beam.DoFn:
        rows = MessageRows(
            source,
            self._values(source),
            self.features,
            self.event_time,
            self.order_key,
            self.keep_source,
            self._max_ahead,
        )
        kind = _ReadBoundedFn if source.bounded else _ReadStreamFn
        return kind(source, rows, self._timing, self.commits)

    def _values(self, source: KafkaSource) -> Values:
        if not isinstance(self.format, str):
            return self.format
        options = dict(self.format_options)
        if source.schema_registry is not None:
            options |= {"schema_registry": source.schema_registry, "config": source.config}
        return values_of(self.format, self.features, key=source.key, headers=source.headers, **options)


def fixed_topics(source: KafkaSource, spans: Sequence[OffsetRange]) -> KafkaSource:
    """Returns a bounded source with the topics that its pattern has matched, by name; a stream keeps its pattern."""
    if source.pattern is None or not source.bounded:
        return source
    return source.named(sorted({span.topic for span in spans}))


def with_one_reader(source: KafkaSource) -> KafkaSource:
    """Returns a stream as it is read where only one reader keeps its watermark; warns if more were asked for."""
    if source.readers is not None and source.readers > 1:
        _LOGGER.warning(
            "%s: readers=%d is read as readers=1: on Prism the watermark of a stream is that of the reader that is "
            "ahead, and good rows of the others would be late",
            source.address, source.readers,
        )  # fmt: skip
    return dataclasses.replace(source, readers=1)


def group_of(source: KafkaSource, partition: Partition, groups: int) -> int:
    """Returns the group that reads a partition, also a new one; it does not depend on which other topics there are.

    >>> group_of(KafkaSource(("a:1",), ("t", "u")), ("u", 4), 3)
    2
    """
    topic, number = partition
    place = zlib.crc32(topic.encode()) if source.pattern is not None else source.topics.index(topic)
    return (place + number) % groups


def group_partitions(source: KafkaSource, spans: Sequence[OffsetRange]) -> list[Group]:
    """Makes the elements: at most `readers` groups, none of them empty: nobody would read what joins an empty one."""
    for groups in range(max(1, min(source.readers or _READERS, len(spans))), 0, -1):
        members: dict[int, list[OffsetRange]] = {}
        for span in sorted(spans, key=lambda span: (span.topic, span.partition)):
            members.setdefault(group_of(source, (span.topic, span.partition), groups), []).append(span)
        if len(members) == groups:
            break
    return [(group, groups, SpansCoder().encode(Spans(tuple(some)))) for group, some in sorted(members.items())]


@dataclasses.dataclass(frozen=True)
class _Timing:
    out_of_orderness: datetime.timedelta
    idle_timeout: datetime.timedelta
    bundle_time: datetime.timedelta
    discover_interval: datetime.timedelta
    stall_timeout: datetime.timedelta


class _Bundle:
    """One call of `process`: the reader, and the offsets claimed so far.

    Attributes:
      is_cut: a claim has failed, since the runner has given the rest to another bundle.
      rows: how many rows of each partition, good and rejected, the bundle has given on.
    """

    def __init__(self, reader: Reader, tracker: Any):
        spans = tracker.current_restriction().spans
        self.reader = reader
        self.claimed: dict[Partition, int] = {(span.topic, span.partition): span.start for span in spans}
        self.rows: Counter[Partition] = Counter()
        self.stops: dict[Partition, int | None] = {(span.topic, span.partition): span.stop for span in spans}
        self._tracker = tracker
        self._begun = dict(self.claimed)
        self._joined: dict[Partition, int] = {}
        self._anew: list[Partition] = []
        self.is_cut = False
        reader.assign(self.claimed)

    def claim(self, partition: Partition, upto: int, again: bool = False) -> bool:
        if not self._tracker.try_claim(OffsetClaim(*partition, upto, again)):
            self.is_cut = True
            return False
        self.claimed[partition] = upto
        if again:
            self._anew.append(partition)
        return True

    def join(self, partition: Partition, offset: int) -> bool:
        """Takes on a new partition, which is read from `offset`."""
        if not self.claim(partition, offset):
            return False
        self.stops[partition] = None
        self._begun[partition] = self._joined[partition] = offset
        return True

    def mark(self, source: KafkaSource) -> Iterator[ReadMark]:
        """Yields what this bundle has read, if that is anything."""
        ranges = {
            source.uri(*partition): (self._begun[partition], upto)
            for partition, upto in self.claimed.items()
            if upto > self._begun[partition]
        }
        began = {source.uri(*partition): offset for partition, offset in self._joined.items()}
        anew = tuple(source.uri(*partition) for partition in self._anew)
        if ranges or began or anew:
            rows = {source.uri(*partition): count for partition, count in self.rows.items()}
            yield ReadMark(ranges, rows, began, anew)

    def left(self) -> dict[Partition, int]:
        """Returns the next offset of each bounded partition that is not read to its stop."""
        return {partition: next_ for partition, next_ in self.claimed.items() if next_ < (self.stops[partition] or 0)}

    def read(self) -> dict[Partition, int]:
        """Returns the partitions that this bundle has advanced, with the next offset of each."""
        return {partition: upto for partition, upto in self.claimed.items() if upto != self._begun.get(partition)}


class _ReadFn(beam.DoFn):
    """The common part of bounded and endless reading."""

    def __init__(self, source: KafkaSource, rows: MessageRows, timing: _Timing, commits: bool):
        self._source = source
        self._commits = commits and source.group is not None
        self._rows = rows
        self._timing = timing
        self._pipeline = cancellation.pipeline_name()
        self._stream = stopping.stream_name()
        self._counters = RowCounters("ReadFromKafka")

    def teardown(self) -> None:
        close_parked(lambda key: key[0] == self._source)

    def _lease(self, group: int) -> Any:
        make: Callable[[], Reader] = functools.partial(Reader, self._source, self._rows.wanted)
        return lease((self._source, self._rows.wanted, group), make)

    def _emit(
        self, bundle: _Bundle, partition: Partition, records: PolledMessages, watermark: PartitionWatermark
    ) -> Iterator[Any]:
        """Emits batches and rejects of some records, and reports their event times to the watermark.

        The watermark moves only at its next `advance`.
        """
        now = now_micros()
        made = self._rows.make(partition, records, now)
        good = made.batch.num_rows
        bundle.rows[partition] += good + sum(map(len, made.rejected))
        self._counters.add(in_batches=1, in_rows=len(records), bad_rows=len(records) - good)
        progress.add(rows=len(records))
        floor = watermark.micros()
        for letters in made.rejected:
            yield from (_timed(item, _at(floor)) for item in reject(letters))
        if good:
            times = made.batch.column(EVENT_TIME).cast(pa.int64())
            least = pc.min(times).as_py()
            if watermark.observe(partition, times.to_numpy(), now):
                bundle.reader.mark_busy(partition)
            at = _at(least if floor is None else max(least, floor))
            yield from (TimestampedValue(batch, at) for batch in split_batch(made.batch))

    def _skip(self, bundle: _Bundle, partition: Partition, watermark: PartitionWatermark) -> Iterator[Any]:
        """Continues at the lowest offset that the broker has, with one dead letter for the missing ones."""
        wanted = bundle.claimed[partition]
        lowest = bundle.reader.beginnings([partition]).get(partition)
        stop = bundle.stops[partition]
        if lowest is None:
            return  # the next poll tries again
        is_over = stop is not None and (lowest >= stop or lowest < wanted)
        upto = stop if is_over and stop is not None else lowest
        if not bundle.claim(partition, upto, again=upto < wanted):
            return
        letter = DeadLetter((_gap(wanted, lowest, upto),), "read", self._source.uri(*partition), wanted, "", "text")
        bundle.rows[partition] += 1
        self._counters.add(in_rows=1, bad_rows=1)
        _LOGGER.warning("%s: %s", letter.uri, letter.reasons[0].detail)
        yield from (_timed(item, _at(watermark.micros())) for item in reject([letter]))
        bundle.reader.assign({**bundle.reader.positions, partition: upto})


def _gap(wanted: int, lowest: int, upto: int) -> Reason:
    code = "kafka.offset_out_of_range"
    if lowest < wanted:
        return Reason(code, f"offset {wanted} is beyond the end of the partition, which was made anew or cut short; "
                            f"reading goes on at {upto}")  # fmt: skip
    return Reason(code, f"offsets {wanted} to {lowest - 1} are gone (retention); reading goes on at {upto}")


def _at(micros: int | None) -> Timestamp:
    return MIN_TIMESTAMP if micros is None else Timestamp(micros=micros)


def _timed(tagged: Any, at: Timestamp) -> Any:
    return beam.pvalue.TaggedOutput(tagged.tag, TimestampedValue(tagged.value, at))


class _ReadBoundedFn(_ReadFn):
    """Reads until every partition is at its stop."""

    def process(
        self,
        element: Group,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = _TRACKER,
        watermark: Any = _WATERMARK,
    ) -> Iterator[Any]:
        with cancellation.failing_together(self._pipeline), self._lease(-1) as reader:
            bundle = _Bundle(reader, tracker)
            yield from self._read(bundle, watermark)
            if self._commits:
                finalizer.register(functools.partial(_commit_highest, reader, bundle.read()))

    def _read(self, bundle: _Bundle, watermark: PartitionWatermark) -> Iterator[Any]:
        last_news = time.monotonic()
        while (left := bundle.left()) and not bundle.is_cut:
            cancellation.check(self._pipeline)
            poll = bundle.reader.poll(_POLL_SECONDS)
            for partition, records in poll.records.items():
                if partition in left:
                    yield from self._take(bundle, partition, records, watermark)
            for partition, end in poll.ends.items():
                if partition in left and end >= (bundle.stops[partition] or 0):
                    # Offsets after the last record may have no record: control records, compacted ones.
                    bundle.claim(partition, bundle.stops[partition] or 0)
            for partition in bundle.reader.lost():
                yield from self._skip(bundle, partition, watermark)
            if poll.records or poll.ends:
                last_news = time.monotonic()
            elif time.monotonic() - last_news > self._timing.stall_timeout.total_seconds():
                raise self._stalled(bundle)

    def _take(
        self, bundle: _Bundle, partition: Partition, records: PolledMessages, watermark: PartitionWatermark
    ) -> Iterator[Any]:
        stop = bundle.stops[partition] or 0
        wanted = records.until(stop)
        if bundle.claim(partition, min(int(records.offsets[-1]) + 1, stop)) and len(wanted):
            yield from self._emit(bundle, partition, wanted, watermark)

    def _stalled(self, bundle: _Bundle) -> InputError:
        partition, offset = next(iter(bundle.left().items()))
        last, why = (bundle.stops[partition] or 0) - 1, bundle.reader.troubles.last or "the client reports no fault"
        return InputError(
            f"{self._source.uri(*partition)}: nothing has come for {self._timing.stall_timeout.total_seconds():g} s; "
            f"offsets {offset} to {last} are left ({why})"
        )


class _ReadStreamFn(_ReadFn):
    """Reads for ever, in short bundles."""

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        element: Group,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = _TRACKER,
        watermark: Any = _WATERMARK,
    ) -> Iterator[Any]:
        if stopping.is_stopping(self._stream):
            tracker.defer_remainder(stopping.REST)
            return
        group, groups, _ = element
        with self._lease(group) as reader:
            bundle = _Bundle(reader, tracker)
            self._discover(bundle, group, groups)
            floor = watermark.micros()
            yield from self._read(bundle, tracker, watermark)
            for mark in bundle.mark(self._source):
                yield beam.pvalue.TaggedOutput(MARKS, TimestampedValue(mark, _at(floor)))
            if self._commits and bundle.read():
                finalizer.register(functools.partial(reader.commit, bundle.read()))

    def _read(self, bundle: _Bundle, tracker: Any, watermark: PartitionWatermark) -> Iterator[Any]:
        reader, deadline = bundle.reader, time.monotonic() + self._timing.bundle_time.total_seconds()
        while True:
            poll = reader.poll(_POLL_SECONDS)
            for partition, records in poll.records.items():
                if not bundle.claim(partition, int(records.offsets[-1]) + 1):
                    return  # the runner has cut the bundle: another one reads these records again
                yield from self._emit(bundle, partition, records, watermark)
            for partition, end in poll.ends.items():
                if end > bundle.claimed[partition] and not bundle.claim(partition, end):
                    return
            for partition in reader.lost():
                yield from self._skip(bundle, partition, watermark)
            if stopping.is_stopping(self._stream):
                tracker.defer_remainder(stopping.REST)
                return
            self._advance(reader, watermark)
            if not poll.records and reader.at_end():
                tracker.defer_remainder(Duration.of(reader.pause(_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS)))
                return
            if time.monotonic() > deadline:
                tracker.defer_remainder()
                return

    def _advance(self, reader: Reader, watermark: PartitionWatermark) -> None:
        active = reader.active(self._timing.idle_timeout.total_seconds())
        watermark.advance(active, now_micros(), self._timing.out_of_orderness)
        late = self._timing.out_of_orderness
        progress.tell_positions(
            {
                self._source.uri(*partition): progress.ReadPosition(
                    watermark.of(partition, late), position, reader.end(partition), partition not in active
                )
                for partition, position in reader.positions.items()
            }
        )

    def _discover(self, bundle: _Bundle, group: int, groups: int) -> None:
        """Adds the new partitions of this group, from their beginning."""
        reader = bundle.reader
        if not reader.is_time_to_discover(self._timing.discover_interval.total_seconds()):
            return
        own = [partition for partition in reader.discover() if group_of(self._source, partition, groups) == group]
        new = [partition for partition in own if partition not in bundle.claimed]
        for partition, offset in (reader.beginnings(new) if new else {}).items():
            if bundle.join(partition, offset):
                _LOGGER.info("%s: a new partition is read from offset %d", self._source.uri(*partition), offset)
        reader.assign(bundle.claimed)


_highest: dict[tuple[str, str | None, Partition], int] = {}


def _commit_highest(reader: Reader, offsets: Mapping[Partition, int]) -> None:
    """Commits only offsets above those before: ranges of a partition end in any order, and a commit is one number."""
    keys = {partition: (reader.source.address, reader.source.group, partition) for partition in offsets}
    higher = {partition: offset for partition, offset in offsets.items() if offset > _highest.get(keys[partition], -1)}
    _highest.update({keys[partition]: offset for partition, offset in higher.items()})
    if higher:
        reader.commit(higher)
