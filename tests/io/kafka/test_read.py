"""`ReadFromKafka` on a mock broker: whole pipelines, and a stream bundle by bundle."""

import collections
import dataclasses
import datetime
import json
import pathlib
import re
import time

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp
from confluent_kafka import Consumer, TopicPartition
from helpers import batches_of, local_pipeline
from kafka_stream import Stream
from mock_kafka import EPOCH, json_messages, mock_kafka

from penstock.io.batches import MAX_BATCH_ROWS
from penstock.io.beam import progress
from penstock.io.beam.local import stopping
from penstock.io.dead_letters.handler import DeadLetterHandler, DiscardingHandler
from penstock.io.errors import ConfigError, InputError, RejectedRecordError
from penstock.io.kafka import consumer as kafka_consumer
from penstock.io.kafka import read as kafka_read
from penstock.io.kafka.consumer import PolledMessages
from penstock.io.kafka.offsets import OffsetRange
from penstock.io.kafka.read import ReadFromKafka, group_partitions
from penstock.io.kafka.restriction import SpansCoder
from penstock.io.kafka.rows import with_record_times
from penstock.io.kafka.source import KafkaSource
from penstock.io.reserved import EVENT_TIME, ORIGIN, SHUFFLE_KEY
from penstock.io.schema import Feature, Kind

FEATURES = (Feature("n", Kind.INT), Feature("x", Kind.FLOAT), Feature("t", Kind.BYTES))
ROWS = [{"n": row, "x": row / 4, "t": f"t{row}"} for row in range(50)]
ALL = [("t", number) for number in range(4)]


@pytest.fixture
def kafka(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_FETCH_WAIT_MAX_MS", "10")
    with mock_kafka() as kafka:
        yield kafka
    kafka_consumer.close_parked(lambda key: True)


def rows_of(batches):
    """Rows without reserved columns, by uri and position."""
    rows = sorted(
        (row for batch in batches for row in batch.to_pylist()),
        key=lambda row: (row[ORIGIN]["uri"], row[ORIGIN]["position"]),
    )
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


def places_of(batches):
    return sorted((row["uri"][-3:], row["position"]) for batch in batches for row in batch.column(ORIGIN).to_pylist())


def places_of_50_rows():
    return [(f"t/{number}", offset) for number in range(4) for offset in range(13 if number < 2 else 12)]


def by_n(rows):
    return sorted(rows, key=lambda row: row["n"])


def letters_of(transform, folder):
    """Runs a pipeline with a handler; its dead letters."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline, DeadLetterHandler(str(folder), "run") as handler:
        _ = pipeline | transform.with_error_handler(handler) | beam.Map(lambda batch: None)
    lines = [line for path in pathlib.Path(folder).glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda letter: (letter["uri"], letter["position"]))


def test_a_topic_is_read_to_its_present_end(kafka):
    kafka.send("t", json_messages(ROWS))
    batches = batches_of(ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES))
    assert by_n(rows_of(batches)) == ROWS
    assert places_of(batches) == places_of_50_rows()
    assert batches[0].schema.names == ["n", "x", "t", ORIGIN, EVENT_TIME]
    times = {row["n"]: row[EVENT_TIME] for batch in batches for row in batch.to_pylist()}
    assert times[7] == datetime.datetime.fromtimestamp(EPOCH / 1000, datetime.UTC) + datetime.timedelta(milliseconds=7)
    assert all(len({row["uri"] for row in batch.column(ORIGIN).to_pylist()}) == 1 for batch in batches)


def test_what_comes_after_the_submission_is_not_read(kafka):
    kafka.send("t", json_messages(ROWS))
    pipeline = beam.Pipeline(runner=FnApiRunner())
    counted = pipeline | ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES) | beam.Map(lambda batch: batch.num_rows)
    kafka.send("t", json_messages(ROWS))
    assert_that(counted | beam.CombineGlobally(sum), equal_to([50]))
    pipeline.run()


def test_an_empty_topic_gives_nothing(kafka):
    kafka.send("t", json_messages(ROWS))
    assert batches_of(ReadFromKafka(kafka.uri("t", start="latest", stop="latest"), FEATURES)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_ranges_side_by_side_give_each_row_once(kafka, monkeypatch, workers):
    monkeypatch.setattr("penstock.io.kafka.restriction._RANGE_OFFSETS", 700)
    rows = [{"n": number} for number in range(8000)]
    kafka.send("t", json_messages(rows))
    pipeline = local_pipeline(f"--direct_num_workers={workers}")
    numbers = (
        pipeline
        | ReadFromKafka(kafka.uri("t", stop="latest", group="g"), FEATURES)
        | beam.FlatMap(lambda batch: batch.column("n").to_pylist())
    )
    assert_that(numbers, equal_to(list(range(8000))))
    result = pipeline.run()
    counters = result.metrics().query(MetricsFilter().with_namespace("ReadFromKafka"))["counters"]
    assert {counter.key.metric.name: counter.committed for counter in counters}["in-rows"] == 8000
    assert committed(kafka, "g") == [2000] * 4


def committed(kafka, group):
    client = Consumer({"bootstrap.servers": kafka.address, "group.id": group})
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # commits are asynchronous
        offsets = [item.offset for item in client.committed([TopicPartition(*place) for place in ALL], timeout=5)]
        if all(offset >= 0 for offset in offsets):
            break
        time.sleep(0.05)
    client.close()
    return offsets


def test_key_and_headers_are_columns(kafka):
    headers = [("h", b"old"), ("h", b"v"), ("other", b"")]
    message = {"value": b'{"n": 1}', "key": b"k", "headers": headers, "partition": 0}
    kafka.send("t", [message, {"value": b'{"n": 2}', "partition": 0}])
    features = (Feature("n", Kind.INT), Feature("user", Kind.BYTES), Feature("h", Kind.BYTES))
    batches = batches_of(ReadFromKafka(kafka.uri("t", stop="latest", key="user", headers="h"), features))
    assert rows_of(batches) == [{"n": 1, "user": b"k", "h": b"v"}, {"n": 2, "user": None, "h": None}]


def test_event_time_from_a_column(kafka, tmp_path):
    rows = [{"n": 1, "x": 0.5, "t": "2020-01-01T00:00:00Z"}, {"n": 2, "t": "nonsense"}, {"n": "bad", "t": None}]
    kafka.send("t", json_messages(rows, partitions=1))
    uri = kafka.uri("t", stop="latest")
    letters = letters_of(ReadFromKafka(uri, FEATURES, event_time="t"), tmp_path)
    assert [(letter["reason"], letter["position"], letter["also"], letter["stage"]) for letter in letters] == [
        ("event_time.invalid", 1, [], "read"),
        ("schema.type", 2, [], "read"),
    ]
    assert json.loads(letters[0]["payload"]) == rows[1]
    kafka.send("u", json_messages(rows[:1], partitions=1))
    batch = batches_of(ReadFromKafka(kafka.uri("u", stop="latest"), FEATURES, event_time="t"))[0]
    assert batch.column(EVENT_TIME).to_pylist() == [datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)]


def test_bad_messages_are_dead_letters_with_partition_offset_and_bytes(kafka, tmp_path):
    values = [b'{"n": 1}', b"{oops", None, b'{"n": "x"}', b"\xff\xfe", b'{"n": 2}']
    kafka.send("t", [{"value": value, "key": b"who", "partition": 3, "timestamp": EPOCH} for value in values])
    letters = letters_of(ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES), tmp_path)
    assert [(letter["reason"], letter["position"], letter["payload"]) for letter in letters] == [
        ("jsonl.parse", 1, "{oops"),
        ("kafka.tombstone", 2, "who"),
        ("schema.type", 3, '{"n": "x"}'),
        ("jsonl.encoding", 4, "//4="),
    ]
    assert {letter["uri"] for letter in letters} == {f"kafka://{kafka.address}/t/3"}
    assert {letter["event_time"] for letter in letters} == {"2023-11-14T22:13:20.000000Z"}


def test_without_a_handler_a_bad_message_fails_the_pipeline(kafka):
    kafka.send("t", [{"value": b"{oops", "partition": 0}])
    with pytest.raises(RejectedRecordError, match=r"kafka://.*/t/0 at 0, .*jsonl.parse"):
        batches_of(ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES))


def test_records_without_a_timestamp_are_rejected():
    batch = pa.record_batch({"n": [1, 2]})
    from penstock.io.batches import origin_array, set_column

    batch = set_column(batch, ORIGIN, origin_array("kafka://a:1/t/0", np.array([5, 9])))
    timed, reasons = with_record_times(batch, PolledMessages([b""] * 3, np.array([5, 7, 9]), np.array([-1, 1, 2])))
    assert timed.column(EVENT_TIME).cast(pa.int64()).to_pylist() == [None, 2000]
    assert {row: why[0].code for row, why in reasons.items()} == {0: "event_time.missing"}


def test_large_messages(kafka):
    text = "x" * (1 << 20)
    kafka.send("t", [{"value": json.dumps({"n": number, "t": text}).encode(), "partition": 0} for number in range(4)])
    batches = batches_of(ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES))
    assert sorted(row["n"] for row in rows_of(batches)) == list(range(4))
    assert max(batch.num_rows for batch in batches) <= 4


def test_batches_are_of_the_usual_size(kafka):
    kafka.send("t", [{"value": b'{"n": 1}', "partition": 0} for _ in range(20_000)])
    batches = batches_of(ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES))
    assert sum(batch.num_rows for batch in batches) == 20_000
    assert max(batch.num_rows for batch in batches) <= MAX_BATCH_ROWS


def test_order_keys_are_by_topic_partition_and_offset(kafka):
    kafka.send("t", json_messages(ROWS))
    kafka.send("u", json_messages(ROWS[:1]))
    batches = batches_of(ReadFromKafka(kafka.uri("u,t", stop="latest"), FEATURES, order_key=True))
    keyed = [(row[SHUFFLE_KEY], row[ORIGIN]) for batch in batches for row in batch.to_pylist()]
    keyed.sort(key=lambda pair: pair[0])
    assert [(place["uri"][-3:], place["position"]) for _, place in keyed] == [("u/0", 0), *places_of_50_rows()]


def test_without_a_schema_all_members_are_columns(kafka):
    kafka.send("t", json_messages([{"a": {"b": 1}, "c": "x"}], partitions=1))
    assert rows_of(batches_of(ReadFromKafka(kafka.uri("t", stop="latest")))) == [{"a.b": 1, "c": "x"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"event_time": ""}, "--event_time must be COLUMN"),
        ({"event_time": "nope", "features": FEATURES}, "--event_time 'nope' is not a feature"),
        ({"event_time": "n", "features": FEATURES}, "--event_time 'n' is INT; name its unit"),
        ({"out_of_orderness": -1}, "out_of_orderness must be a duration, .* got -1"),
        ({"idle_timeout": datetime.timedelta(-1)}, "idle_timeout must be at least 0"),
        ({"max_ahead": 3600}, "max_ahead must be a duration, .* got 3600"),
        ({"stall_timeout": "soon"}, "stall_timeout: a duration must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_made(options, message):
    with pytest.raises(ConfigError, match=message):
        ReadFromKafka("kafka://a:1/t", **options)


def test_groups_take_partitions_in_turn():
    source = KafkaSource(("a:1",), ("t", "u"), readers=3)
    spans = [OffsetRange(topic, number, 0) for topic in ("t", "u") for number in range(3)]
    groups = group_partitions(source, spans)
    assert [(group, count) for group, count, _ in groups] == [(0, 3), (1, 3), (2, 3)]
    held = [[(span.topic, span.partition) for span in SpansCoder().decode(data).spans] for *_, data in groups]
    assert held == [[("t", 0), ("u", 2)], [("t", 1), ("u", 0)], [("t", 2), ("u", 1)]]
    assert len(group_partitions(dataclasses.replace(source, readers=99), spans[:2])) == 2


def test_no_group_is_empty_since_what_joins_it_would_not_be_read():
    source = KafkaSource(("a:1",), ("t", "u"), readers=4)
    spans = [*(OffsetRange("t", number, 0) for number in range(3)), OffsetRange("u", 0, 0)]
    assert [(group, count) for group, count, _ in group_partitions(source, spans)] == [(0, 3), (1, 3), (2, 3)]


def test_groups_of_a_pattern_do_not_depend_on_the_other_topics():
    source = KafkaSource(("a:1",), (), "o-.*", readers=2)
    spans = [OffsetRange(f"o-{number}", 0, 0) for number in range(20)]
    held = [SpansCoder().decode(data).spans for *_, data in group_partitions(source, spans)]
    assert sum(map(len, held)) == 20
    assert min(map(len, held)) > 4
    fewer = [SpansCoder().decode(data).spans for *_, data in group_partitions(source, spans[3:])]
    assert [[span for span in group if span in spans[3:]] for group in held] == [[*group] for group in fewer]


@pytest.mark.parametrize(
    ("runner", "uri", "groups", "warned"),
    [
        ("PrismRunner", {}, 1, 0),
        ("PrismRunner", {"readers": 1}, 1, 0),
        ("PrismRunner", {"readers": 2}, 1, 1),
        ("DirectRunner", {"readers": 2}, 1, 1),
        ("PrismRunner", {"readers": 2, "stop": "latest"}, 2, 0),
        ("PrismRunner", {"stop": "latest"}, 4, 0),
        ("FlinkRunner", {}, 4, 0),
        ("FlinkRunner", {"readers": 2}, 2, 0),
    ],
)
def test_a_stream_on_prism_has_one_reader(kafka, monkeypatch, caplog, runner, uri, groups, warned):
    kafka.send("t", json_messages([{"n": 1}] * 8))
    made = []
    monkeypatch.setattr(kafka_read, "group_partitions", lambda *some: made.append(group_partitions(*some)) or made[-1])
    pipeline = beam.Pipeline(runner=runner)
    _ = pipeline | ReadFromKafka(kafka.uri("t", **uri), FEATURES).with_error_handler(DiscardingHandler())
    assert [len(some) for some in made] == [groups]
    told = [record.getMessage() for record in caplog.records if "readers=2 is read as readers=1" in record.getMessage()]
    assert len(told) == warned


def stream(kafka, group=0, topics="t", readers=1, uri=(), **options):
    """The bundles of one group."""
    where = kafka.uri(topics, readers=readers, **dict(uri))
    return Stream(ReadFromKafka(where, FEATURES, **{"bundle_time": "500ms", **options}), group)


def micros(millis):
    return Timestamp(micros=(EPOCH + millis) * 1000 - 5_000_000)


def test_a_stream_goes_on_where_its_checkpoint_is(kafka):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka)
    first = reading.until(lambda rows: len(rows) >= 50)
    assert by_n([{name: row[name] for name in ("n", "x", "t")} for row in first]) == ROWS
    assert reading.offsets() == {("t", 0): 13, ("t", 1): 13, ("t", 2): 12, ("t", 3): 12}
    assert reading.watermark == micros(46), "the slowest partition has seen row 46"
    kafka.send("t", json_messages(ROWS[:8]))
    assert collections.Counter(row["n"] for row in reading.until(len)) == dict.fromkeys(range(8), 1)


def test_rows_are_read_again_from_an_older_checkpoint(kafka):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka)
    before = reading.restriction, reading.state
    first = reading.until(lambda rows: len(rows) >= 50)
    reading.restriction, reading.state = before
    assert by_n(reading.until(lambda rows: len(rows) >= 50)) == by_n(first)


@pytest.mark.parametrize("uri", [{}, {"stop": "latest"}], ids=["stream", "bounded"])
def test_a_bundle_that_the_runner_cuts_leaves_the_rest_to_the_next(kafka, uri):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka, uri=uri)
    elements = []
    while sum(element.value.num_rows for element in elements) < 50:
        elements += reading.bundle(cut_after=1)
    assert by_n(rows_of([element.value for element in elements])) == ROWS


def test_each_group_reads_its_partitions(kafka):
    kafka.send("t", json_messages(ROWS))
    rows = stream(kafka, group=1, readers=2).until(lambda rows: len(rows) >= 25)
    assert {row[ORIGIN]["uri"][-3:] for row in rows} == {"t/1", "t/3"}


def test_the_next_bundle_has_the_same_consumer_and_fetches_nothing_twice(kafka, monkeypatch):
    kafka.send("t", json_messages(ROWS))
    made = []
    monkeypatch.setattr(kafka_read, "Reader", lambda *args: made.append(kafka_consumer.Reader(*args)) or made[-1])
    reading = stream(kafka)
    reading.until(lambda rows: len(rows) >= 50)
    for _ in range(3):
        reading.bundle()
    assert len(made) == 1


def test_pauses_grow_while_nothing_comes(kafka):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka)
    reading.until(lambda rows: len(rows) >= 50)
    reading.until(lambda rows: reading.pause > 0.9)
    kafka.send("t", json_messages(ROWS))
    reading.until(len)
    assert reading.pause < 0.9


def test_elements_are_never_behind_the_watermark(kafka):
    kafka.send("t", [{"value": b'{"n": 1}', "partition": 0, "timestamp": EPOCH + 60_000}])
    reading = stream(kafka, idle_timeout="0s")
    reading.until(lambda rows: reading.state.watermark is not None and rows)
    reading.until(lambda rows: reading.watermark > micros(60_000))
    ahead = reading.watermark
    kafka.send("t", [{"value": b'{"n": 2}', "partition": 0, "timestamp": EPOCH}])
    outputs = []
    while not outputs:
        outputs = reading.bundle()
    assert outputs[0].value.column("n").to_pylist() == [2]
    assert outputs[0].timestamp >= ahead


def test_an_element_has_the_time_of_its_earliest_row(kafka):
    stamps = [EPOCH + 500, EPOCH + 100, EPOCH + 300]
    kafka.send("t", [{"value": b'{"n": 1}', "partition": 0, "timestamp": stamp} for stamp in stamps])
    reading = stream(kafka)
    outputs = []
    while not outputs:
        outputs = reading.bundle()
    assert outputs[0].timestamp == Timestamp(micros=(EPOCH + 100) * 1000)


def test_a_partition_without_rows_holds_the_watermark_until_it_is_idle(kafka):
    kafka.send("t", [{"value": b'{"n": 1}', "partition": 0, "timestamp": EPOCH}])
    reading = stream(kafka)
    reading.until(len)
    assert reading.watermark is None
    reading.fn._timing = dataclasses.replace(reading.fn._timing, idle_timeout=datetime.timedelta(seconds=0.3))
    reading.until(lambda rows: reading.watermark is not None and reading.watermark > micros(1_000_000))
    assert reading.watermark < Timestamp.now(), "all are idle: it follows the clock"


def test_rejected_messages_do_not_keep_a_partition_from_being_idle(kafka):
    kafka.send("t", [{"value": b'{"n": 1}', "partition": 0, "timestamp": EPOCH}])
    reading = stream(kafka, idle_timeout="1s")
    deadline = time.monotonic() + 10
    while reading.state.watermark is None and time.monotonic() < deadline:
        kafka.send("t", [{"value": b"{oops", "partition": 1}])
        reading.bundle()
    assert reading.state.watermark is not None
    assert sum(len(letters) for letters in reading.letters) > 1


def test_a_broker_that_cannot_be_reached_is_not_idle(kafka, caplog):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka, idle_timeout="500ms", bundle_time="200ms")
    reading.until(lambda rows: len(rows) >= 50)
    before = reading.watermark
    kafka.stop()
    begin = time.monotonic()
    while time.monotonic() < begin + 1.5 or ("_ALL_BROKERS_DOWN" not in caplog.text and time.monotonic() < begin + 10):
        reading.bundle()
    assert reading.watermark == before
    assert "_ALL_BROKERS_DOWN" in caplog.text


def test_the_idle_time_starts_anew_when_the_broker_is_back(kafka, monkeypatch):
    """A broker is away for longer than the idle timeout; what producers held comes a moment after it is back."""
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka, idle_timeout="1s", bundle_time="200ms")
    reading.until(lambda rows: len(rows) >= 50)
    before, away, look_up = reading.watermark, time.monotonic() + 2, kafka_consumer.Reader.look_up
    answers = lambda *args: {} if time.monotonic() < away else look_up(*args)  # noqa: E731
    monkeypatch.setattr(kafka_consumer.Reader, "look_up", answers)
    while time.monotonic() < away + 0.5:
        reading.bundle()
    assert reading.watermark == before
    kafka.send("t", json_messages(ROWS))
    late = [
        row for row in reading.until(lambda rows: len(rows) >= 50) if Timestamp(row[EVENT_TIME].timestamp()) < before
    ]
    assert late == []
    reading.until(lambda rows: reading.watermark > micros(1_000_000))


def test_one_row_of_the_year_2999_makes_no_row_of_a_backlog_late(kafka):
    rows = [{"n": number, "t": f"2023-11-14T22:{number // 60:02d}:{number % 60:02d}Z"} for number in range(3000)]
    rows[7]["t"], rows[9]["t"] = "2999-01-01T00:00:00Z", "1970-01-01T00:00:00Z"
    kafka.send("t", json_messages(rows, partitions=2))
    reading = stream(kafka, event_time="t", max_ahead="1h", idle_timeout="300ms")
    late, seen = 0, 0
    while seen < 2999:
        before = reading.watermark
        for output in reading.bundle(cut_after=1):
            times = output.value.column(EVENT_TIME).to_pylist()
            late += sum(before is not None and Timestamp(time.timestamp()) < before for time in times)
            seen += len(times)
    assert late <= 1, "that of 1970"
    (letter,) = [letter for letters in reading.letters for letter in letters]
    assert (letter.reasons[0].code, letter.event_time) == ("future", "2999-01-01T00:00:00.000000Z")


def test_new_partitions_are_read_from_their_beginning(kafka):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka, discover_interval="100ms")
    reading.restriction = dataclasses.replace(reading.restriction, spans=reading.restriction.spans[:2])
    rows = reading.until(lambda rows: len(rows) >= 50)
    assert by_n([{name: row[name] for name in ("n", "x", "t")} for row in rows]) == ROWS
    assert set(reading.offsets()) == set(ALL)


def test_topics_of_a_pattern_are_read_to_their_present_end(kafka):
    kafka.send("o-b", json_messages(ROWS[:9]))
    kafka.send("o-a", json_messages(ROWS[9:]))
    kafka.send("x", json_messages(ROWS))
    batches = batches_of(ReadFromKafka(kafka.uri("o-.", pattern="true", stop="latest"), FEATURES, order_key=True))
    assert by_n(rows_of(batches)) == ROWS
    keys = [(row[SHUFFLE_KEY], row[ORIGIN]["uri"]) for batch in batches for row in batch.to_pylist()]
    assert [uri[-5:-2] for _, uri in sorted(keys)] == ["o-a"] * 41 + ["o-b"] * 9


def test_new_topics_of_a_pattern_join_from_their_beginning(kafka):
    kafka.send("o-a", json_messages(ROWS[:20]))
    reading = stream(kafka, topics="o-.", uri={"pattern": "true"}, discover_interval="100ms")
    reading.until(lambda rows: len(rows) >= 20)
    kafka.send("o-b", json_messages(ROWS[20:]))
    kafka.send("other", json_messages(ROWS))
    found = reading.until(lambda rows: len(rows) >= 30)
    assert [row["n"] for row in by_n(found)] == [*range(20, 50)]
    assert {topic for topic, _ in reading.offsets()} == {"o-a", "o-b"}
    assert {row[ORIGIN]["uri"][-5:-2] for row in found} == {"o-b"}


def test_new_topics_of_a_pattern_are_read_by_one_group(kafka):
    kafka.send("o-a", json_messages(ROWS))
    groups = [
        stream(kafka, group, "o-.", 2, {"pattern": "true"}, discover_interval="10ms", bundle_time="50ms")
        for group in (0, 1)
    ]
    kafka.send("o-b", json_messages(ROWS))
    rows = [group.until(lambda rows: len(rows) >= 50) for group in groups]
    assert sorted(row["n"] for some in rows for row in some) == sorted([*range(50)] * 2)


def test_a_stream_of_a_pattern_has_no_order(kafka):
    kafka.send("o-a", json_messages(ROWS))
    with pytest.raises(ConfigError, match=r"order_key needs topics by name: new ones join the pattern 'o-\.' while"):
        _ = beam.Pipeline() | ReadFromKafka(kafka.uri("o-.", pattern="true"), FEATURES, order_key=True)


def test_offsets_are_committed_when_a_bundle_is_final(kafka):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka, uri={"group": "g"})
    reading.until(lambda rows: len(rows) >= 50)
    reading.finalize()
    assert committed(kafka, "g") == [13, 13, 12, 12]


def test_without_a_group_nothing_is_committed(kafka):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka)
    reading.until(lambda rows: len(rows) >= 50)
    assert reading.callbacks == []


def test_offsets_that_are_gone_are_a_dead_letter_and_reading_goes_on(kafka, caplog):
    kafka.send("t", json_messages(ROWS))
    reading = stream(kafka)
    spans = [dataclasses.replace(span, start=99) if span.partition == 2 else span for span in reading.restriction.spans]
    reading.restriction = dataclasses.replace(reading.restriction, spans=tuple(spans))
    rows = reading.until(lambda rows: len(rows) >= 50)
    assert by_n([{name: row[name] for name in ("n", "x", "t")} for row in rows]) == ROWS
    (letter,) = [letter for letters in reading.letters for letter in letters]
    assert (letter.uri, letter.position) == (f"kafka://{kafka.address}/t/2", 99)
    assert letter.reasons[0].code == "kafka.offset_out_of_range"
    assert letter.reasons[0].detail == (
        "offset 99 is beyond the end of the partition, which was made anew or cut short; reading goes on at 0"
    )
    assert reading.offsets()["t", 2] == 12
    assert "made anew" in caplog.text


def test_what_retention_took_is_a_dead_letter_too(kafka):
    kafka.send("t", json_messages(ROWS[:4]))
    reading = stream(kafka)
    large = "x" * (1 << 20)  # the mock broker keeps 5 MiB of a partition
    kafka.send("t", [{"value": json.dumps({"n": number, "t": large}).encode(), "partition": 0} for number in range(9)])
    reading.until(lambda rows: any(row["n"] == 8 for row in rows))
    (letter,) = [letter for letters in reading.letters for letter in letters]
    assert (letter.uri, letter.position) == (f"kafka://{kafka.address}/t/0", 0)
    assert re.fullmatch(r"offsets 0 to \d are gone \(retention\); reading goes on at \d", letter.reasons[0].detail)


def test_a_bounded_read_that_stalls_fails_with_what_is_left(kafka):
    kafka.send("t", json_messages(ROWS))
    spans = [OffsetRange("t", 1, 5, 99)]
    with pytest.raises(InputError, match=r"/t/1: nothing has come for 1 s; offsets 13 to 98 are left"):
        batches_of(ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES, spans=spans, stall_timeout="1s"))


def test_a_bounded_read_of_offsets_that_are_gone_ends(kafka, tmp_path):
    kafka.send("t", json_messages(ROWS))
    transform = ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES, spans=[OffsetRange("t", 1, 500, 510)])
    (letter,) = letters_of(transform, tmp_path)
    assert (letter["reason"], letter["position"]) == ("kafka.offset_out_of_range", 500)
    assert letter["detail"].endswith("reading goes on at 510")


def test_a_stream_tells_where_it_is_in_each_partition(kafka):
    kafka.send("t", json_messages(ROWS[:3]))
    progress.reset()
    reading = stream(kafka, idle_timeout="0s", out_of_orderness="1s")
    reading.until(lambda rows: len(rows) >= 3)
    reading.bundle()
    told = progress.read_positions()
    assert list(told) == [f"kafka://{kafka.address}/t/{number}" for number in range(4)]
    watermarks = [(EPOCH + millis - 1000) * 1000 for millis in range(3)]
    assert [where.watermark for where in told.values()] == [*watermarks, None]
    assert [(where.position, where.end, where.lag) for where in told.values()] == [(1, 1, 0)] * 3 + [(0, 0, 0)]
    assert progress.ReadPosition(None, 5, 7).lag == 2
    assert progress.ReadPosition(None, 5, None).lag is None
    progress.reset()
    assert progress.read_positions() == {}


def test_a_stream_is_unbounded_and_a_range_is_not(kafka):
    kafka.send("t", json_messages(ROWS))
    pipeline = beam.Pipeline()
    assert not (pipeline | "Stream" >> ReadFromKafka(kafka.uri("t"), FEATURES)).is_bounded
    assert (pipeline | "Range" >> ReadFromKafka(kafka.uri("t", stop="latest"), FEATURES)).is_bounded


def test_a_stream_that_stops_reads_no_more_and_defers_what_is_left(kafka):
    kafka.send("t", json_messages(ROWS))
    with stopping.stream() as name:
        stream = Stream(ReadFromKafka(kafka.uri("t", readers=1), FEATURES, idle_timeout="1h"))
        before = stream.until(lambda rows: len(rows) >= 50)
        watermark, offsets = stream.watermark, stream.offsets()
        kafka.send("t", json_messages(ROWS))
        stopping.stop_reading(name)
        assert (len(before), stream.bundle(), round(stream.pause)) == (50, [], 3600)
        assert (stream.watermark, stream.offsets()) == (watermark, offsets)
    assert len(stream.until(lambda rows: len(rows) >= 50)) == 50, "a later start reads it"


def test_a_stream_that_stops_in_a_bundle_keeps_what_the_bundle_has_read(kafka, monkeypatch):
    kafka.send("t", json_messages(ROWS))
    with stopping.stream() as name:
        stream = Stream(ReadFromKafka(kafka.uri("t", readers=1), FEATURES, bundle_time="1h"))
        emit = kafka_read._ReadFn._emit

        def stops(*arguments):
            stopping.stop_reading(name)
            return emit(*arguments)

        monkeypatch.setattr(kafka_read._ReadFn, "_emit", stops)
        rows = [row for output in stream.bundle() for row in output.value.to_pylist()]
        assert (round(stream.pause), sum(stream.offsets().values())) == (3600, len(rows))
        assert rows
        assert stream.watermark is None or stream.watermark <= MIN_TIMESTAMP, "no window may close over it"
