import dataclasses
import types

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException, Uuid, admin
from mock_kafka import mock_kafka

from penstock.io.beam.durations import ZERO, parse_duration
from penstock.io.errors import InputError
from penstock.io.kafka.offsets import OffsetRange
from penstock.io.kafka.source import KafkaSource
from penstock.io.kafka.topics import TopicSource, check_topic_ids, topic_ids
from penstock.io.sources.base import SourceRequest

REQUEST = SourceRequest(("kafka://a:1/t",))
SOURCE = KafkaSource.parse("kafka://a:1/t,u,v")
REFUSED = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))


def source_of(request=REQUEST, stop=None):
    return TopicSource(KafkaSource(("a:1",), ("t",)), (OffsetRange("t", 0, 5, stop),), "json", {}, request)


@pytest.mark.parametrize("given", [None, ZERO, parse_duration("5s")], ids=str)
def test_a_partition_is_idle_after_what_the_flags_say(given):
    reading = source_of(dataclasses.replace(REQUEST, idle_timeout=given)).read()
    assert reading._timing.idle_timeout == (parse_duration("60s") if given is None else given)


def test_a_source_tells_what_it_reads():
    assert source_of().describe() == "kafka://a:1/t (1 partitions, a stream, json messages)"
    assert source_of(stop=9).inputs() == [{"uri": "kafka://a:1/t/0", "start": 5, "stop": 9}]


def test_a_bounded_source_has_the_topics_that_its_pattern_matches_now():
    with mock_kafka() as kafka:
        for topic in ("o-b", "o-a", "x"):
            kafka.send(topic, [{"value": b"{}", "partition": 0}])
        bounded, stream = (
            TopicSource.open(SourceRequest((kafka.uri("o-.", pattern="true", stop=stop),)))
            for stop in ("latest", "none")
        )
    assert bounded.topics.topics == ("o-a", "o-b")
    assert bounded.describe().endswith("/o-a, o-b (8 partitions, 2 offsets, json messages)")
    assert stream.describe().endswith("/pattern 'o-.' (8 partitions, a stream, json messages)")
    assert {item["uri"][-5:-2] for item in stream.inputs()} == {"o-a", "o-b"}


@pytest.fixture
def told(monkeypatch):
    """What the brokers answer: an id or an error by topic."""
    told = {"t": Uuid(1, 2), "u": Uuid(0, 0), "v": REFUSED}

    class Answer:
        def __init__(self, topic):
            self._topic = topic

        def result(self, seconds):
            if isinstance(told[self._topic], Exception):
                raise told[self._topic]
            return types.SimpleNamespace(topic_id=told[self._topic])

    class Admin:
        def __init__(self, settings, logger):
            assert settings["bootstrap.servers"] == "a:1"

        def list_topics(self, timeout):
            return types.SimpleNamespace(controller_id=1, brokers={1: None})

        def describe_topics(self, topics, request_timeout):
            assert isinstance(topics, confluent_kafka.TopicCollection)
            return {topic: Answer(topic) for topic in told}

    monkeypatch.setattr(admin, "AdminClient", Admin)
    return told


def test_ids_are_told_as_far_as_there_are_any(told, caplog):
    """An old broker has none, and may refuse to tell: that is said."""
    assert topic_ids(SOURCE, ["t", "u", "v"]) == {"kafka://a:1/t": "AAAAAAAAAAEAAAAAAAAAAg"}
    untold = "whether it was made anew is not checked"
    assert [record.getMessage() for record in caplog.records] == [
        f"kafka://a:1/u: {untold}: its brokers have no ids, which came with Kafka 2.8",
        f"kafka://a:1/v: {untold}: {REFUSED}",
    ]
    told["v"] = TimeoutError()
    caplog.clear()
    assert "kafka://a:1/v" not in topic_ids(SOURCE, ["t", "u", "v"])
    assert caplog.messages[-1] == f"kafka://a:1/v: {untold}: no answer within 15 s"


def test_a_broker_without_a_controller_is_not_waited_for(caplog):
    with mock_kafka() as kafka:
        kafka.send("t", [{"value": b"x"}])
        assert topic_ids(KafkaSource.parse(kafka.uri("t")), ["t"]) == {}
    assert caplog.messages[-1].endswith("whether it was made anew is not checked: the brokers have no controller now")


def test_a_broker_that_does_not_answer_tells_nothing(monkeypatch, caplog):
    monkeypatch.setattr("penstock.io.kafka.topics._ASK_SECONDS", 0.1)
    assert topic_ids(KafkaSource.parse("kafka://127.0.0.1:1/t"), ["t"]) == {}
    assert "kafka://127.0.0.1:1/t: whether it was made anew is not checked: KafkaError" in caplog.messages[-1]


def test_a_topic_that_was_made_anew_is_refused():
    before = {"kafka://a:1/t": "x", "kafka://a:1/u": "y"}
    check_topic_ids(before, {"kafka://a:1/t": "x", "kafka://a:1/new": "z"})
    check_topic_ids(before, {})
    with pytest.raises(InputError, match=r"kafka://a:1/u: the topic was made anew .* \(its id was y, and is z\): its"):
        check_topic_ids(before, {"kafka://a:1/t": "x", "kafka://a:1/u": "z"})
