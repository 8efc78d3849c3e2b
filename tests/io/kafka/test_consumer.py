"""Readers between bundles, and what they make of a poll."""

import numpy as np
import pytest
from mock_kafka import json_messages, mock_kafka

from penstock.io.kafka import consumer as kafka_consumer
from penstock.io.kafka.consumer import PolledMessages, Reader, WantedOffsets, close_parked, lease
from penstock.io.kafka.source import KafkaSource


class FakeReader:
    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def parked():
    yield kafka_consumer._parked
    close_parked(lambda key: True)


def test_a_reader_is_kept_for_the_next_bundle():
    with lease("a", FakeReader) as first:
        pass
    with lease("b", FakeReader) as other:
        assert other is not first
    with lease("a", FakeReader) as second:
        assert second is first
    assert not first.closed


def test_two_bundles_at_a_time_have_two_readers():
    with lease("a", FakeReader) as first, lease("a", FakeReader) as second:
        assert first is not second


def test_the_reader_of_a_failed_bundle_is_closed(parked):
    with pytest.raises(KeyError), lease("a", FakeReader) as reader:
        raise KeyError
    assert reader.closed
    assert not parked


def test_the_reader_of_an_abandoned_bundle_is_closed():
    def process():
        with lease("a", FakeReader) as reader:
            yield reader

    bundle = process()
    reader = next(bundle)
    bundle.close()
    assert reader.closed


def test_readers_that_nobody_wants_any_more_are_closed(monkeypatch, parked):
    with lease("a", FakeReader) as reader:
        pass
    monkeypatch.setattr(kafka_consumer, "_PARKED_SECONDS", -1)
    with lease("b", FakeReader):
        assert reader.closed
    assert list(parked) == ["b"]


def test_teardown_closes_the_readers_of_a_source_only(parked):
    with lease(("s", 0), FakeReader) as mine, lease(("r", 0), FakeReader) as other:
        pass
    close_parked(lambda key: key[0] == "s")
    assert (mine.closed, other.closed) == (True, False)
    assert list(parked) == [("r", 0)]


def test_records_until_an_offset():
    records = PolledMessages([b"a", b"b", None], np.array([3, 5, 9]), np.array([1, 2, 3]), [b"k", None, None])
    some = records.until(6)
    assert (some.values, some.offsets.tolist(), some.times.tolist(), some.keys) == (
        [b"a", b"b"],
        [3, 5],
        [1, 2],
        [b"k", None],
    )
    assert records.until(10) is records
    assert len(records.until(0)) == 0


def poll_all(reader, count):
    records = {}
    while sum(len(part.values) for parts in records.values() for part in parts) < count:
        for place, part in reader.poll(0.5).records.items():
            records.setdefault(place, []).append(part)
    return {place: [int(offset) for part in parts for offset in part.offsets] for place, parts in records.items()}


def test_a_poll_is_sorted_by_topic_and_partition(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_FETCH_WAIT_MAX_MS", "10")
    with mock_kafka() as kafka:
        for topic in ("t", "u"):
            kafka.send(topic, json_messages({"n": number} for number in range(8)))
        reader = Reader(KafkaSource.parse(kafka.uri("t,u")), WantedOffsets())
        reader.assign({("t", 0): 0, ("u", 0): 1, ("t", 3): 0})
        assert poll_all(reader, 5) == {("t", 0): [0, 1], ("u", 0): [1], ("t", 3): [0, 1]}
        assert reader.positions == {("t", 0): 2, ("u", 0): 2, ("t", 3): 2}
        reader.assign(reader.positions)
        while not reader.at_end():
            assert reader.poll(0.5).records == {}
        reader.assign({("t", 0): 1})
        assert not reader.at_end()
        assert poll_all(reader, 1) == {("t", 0): [1]}
        assert reader.active(idle_seconds=60) == [("t", 0)]
        assert reader.beginnings([("t", 1)]) == {("t", 1): 0}
        assert set(reader.partitions()) == {(topic, number) for topic in ("t", "u") for number in range(4)}
        kafka.stop()
        assert reader.partitions() == []
        assert reader.beginnings([("t", 1)]) == {}
        reader.close()


def test_a_commit_that_fails_is_a_warning(caplog):
    reader = Reader(KafkaSource(("127.0.0.1:1",), ("t",), group="g"), WantedOffsets())
    reader.close()
    reader.commit({("t", 0): 5})
    assert "committing to group g failed" in caplog.text


def test_pauses_get_longer():
    reader = Reader(KafkaSource(("127.0.0.1:1",), ("t",)), WantedOffsets())
    assert [reader.pause(0.2, 1.0) for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    reader.close()
