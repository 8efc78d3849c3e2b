"""Readers between bundles, and what they make of a poll."""

import types

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException
from mock_kafka import json_messages, mock_kafka

from penstock.io.errors import InputError
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
        for place, part in reader.poll(0.05).records.items():
            records.setdefault(place, []).append(part)
    return {place: [int(offset) for part in parts for offset in part.offsets] for place, parts in records.items()}


def test_a_poll_is_sorted_by_topic_and_partition():
    with mock_kafka() as kafka:
        for topic in ("t", "u"):
            kafka.send(topic, json_messages({"n": number} for number in range(8)))
        reader = Reader(KafkaSource.parse(kafka.uri("t,u")), WantedOffsets())
        reader.assign({("t", 0): 0, ("u", 0): 1, ("t", 3): 0})
        assert poll_all(reader, 5) == {("t", 0): [0, 1], ("u", 0): [1], ("t", 3): [0, 1]}
        assert reader.positions == {("t", 0): 2, ("u", 0): 2, ("t", 3): 2}
        reader.assign(reader.positions)
        while not reader.at_end():
            assert reader.poll(0.05).records == {}
        reader.assign({("t", 0): 1})
        assert not reader.at_end()
        assert poll_all(reader, 1) == {("t", 0): [1]}
        assert reader.active(idle_seconds=60) == [("t", 0)]
        assert reader.beginnings([("t", 1)]) == {("t", 1): 0}
        assert set(reader.discover()) == {(topic, number) for topic in ("t", "u") for number in range(4)}
        kafka.stop()
        assert reader.discover() == []
        assert reader.beginnings([("t", 1)]) == {}
        reader.close()


class _Topics:
    """What a broker says of its topics, one answer after the other; None: it does not answer."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def list_topics(self, topic=None, timeout=None):
        names = self._answers.pop(0)
        if names is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return types.SimpleNamespace(topics={name: types.SimpleNamespace(partitions={0: 0}) for name in names})


def test_a_topic_that_two_answers_do_not_have_is_gone_until_it_is_back(caplog):
    reader = Reader(KafkaSource(("127.0.0.1:1",), (), "o-.*"), WantedOffsets())
    reader.assign({("o-a", 0): 5, ("o-b", 0): 7})
    reader._ends = {("o-a", 0): 5}
    reader._consumer = _Topics(["o-a", "x"], ["o-a"], None, ["o-a"], ["o-a", "o-b"])

    def state():
        found = reader.discover()
        return found, reader.active(60), reader.at_end()

    both = [("o-a", 0), ("o-b", 0)]
    assert state() == ([("o-a", 0)], both, False)
    assert not caplog.text, "a broker that has just started may not know all topics"
    assert state() == ([("o-a", 0)], [("o-a", 0)], True)
    assert state() == ([], [("o-a", 0)], True)
    assert state() == ([("o-a", 0)], [("o-a", 0)], True)
    assert caplog.text.count("kafka://127.0.0.1:1/o-b: the topic is gone: the stream goes on without it") == 1
    assert caplog.text.count("o-b: the topic is gone, for 0 s now: the stream goes on without it") == 1
    assert state() == (both, both, False)


@pytest.mark.parametrize("topics", [("a",), ("a", "b")])
def test_only_a_stream_of_one_topic_fails_when_that_has_been_gone_for_long(caplog, monkeypatch, topics):
    reader = Reader(KafkaSource(("127.0.0.1:1",), topics), WantedOffsets())
    reader.assign({("a", 0): 5})
    reader._consumer = _Topics(*[["b"]] * 9)
    reader.discover()
    reader.discover()
    assert caplog.messages == ["kafka://127.0.0.1:1/a: the topic is gone: the stream goes on without it"]
    monkeypatch.setattr(kafka_consumer, "_GONE_SECONDS", 0.0)
    if len(topics) > 1:
        reader.discover()
        return
    with pytest.raises(
        InputError, match=r"/a: the topic has been gone for 0 s, and there is no other to read; make it"
    ):
        reader.discover()


def test_a_commit_that_fails_is_a_warning(caplog):
    reader = Reader(KafkaSource(("127.0.0.1:1",), ("t",), group="g"), WantedOffsets())
    reader.close()
    reader.commit({("t", 0): 5})
    assert "committing to group g failed" in caplog.text


def test_pauses_get_longer():
    reader = Reader(KafkaSource(("127.0.0.1:1",), ("t",)), WantedOffsets())
    assert [reader.pause(0.2, 1.0) for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    reader.close()
