"""Offsets at submission, and the errors of a broken set-up."""

import time
import types

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from mock_kafka import json_messages, mock_kafka

from penstock.io.errors import ConfigError, InputError
from penstock.io.kafka import offsets
from penstock.io.kafka.client import make_consumer
from penstock.io.kafka.offsets import OffsetRange, _nearest, resolve_offsets
from penstock.io.kafka.source import KafkaSource


@pytest.fixture(scope="module")
def kafka():
    with mock_kafka() as kafka:
        kafka.send("t", json_messages({"n": number} for number in range(10)))
        kafka.send("u", [{"value": b"{}", "partition": 2}])
        yield kafka


def resolve(uri, timeout=10):
    return resolve_offsets(KafkaSource.parse(uri), timeout)


def commit(kafka, group, **offsets):
    client = Consumer({"bootstrap.servers": kafka.address, "group.id": group})
    client.commit(offsets=[TopicPartition("t", int(name[1:]), at) for name, at in offsets.items()], asynchronous=False)
    client.close()


def test_from_the_beginning_without_end(kafka):
    assert resolve(kafka.uri("t")) == tuple(OffsetRange("t", number, 0) for number in range(4))


def test_several_topics_to_their_present_end(kafka):
    spans = resolve(kafka.uri("u,t", stop="latest"))
    assert [(span.topic, span.partition, span.start, span.stop) for span in spans] == [
        *(("u", number, 0, int(number == 2)) for number in range(4)),
        *(("t", number, 0, 3 if number < 2 else 2) for number in range(4)),
    ]


def test_only_what_is_to_come(kafka):
    assert [span.start for span in resolve(kafka.uri("t", start="latest"))] == [3, 3, 2, 2]
    assert all(span.start == span.stop for span in resolve(kafka.uri("t", start="latest", stop="latest")))


def test_from_what_a_group_has_committed_else_from_the_beginning_with_a_warning(kafka, caplog):
    commit(kafka, "half", p0=2, p3=1)
    assert [span.start for span in resolve(kafka.uri("t", group="half", start="committed"))] == [2, 0, 0, 1]
    assert "Group half has committed nothing for 2 of 4 partitions" in caplog.text


def test_a_commit_beyond_the_end_is_refused(kafka):
    commit(kafka, "ahead", p1=500)
    with pytest.raises(InputError, match=r"/t/1: group ahead has committed offset 500, but the partition ends at 3"):
        resolve(kafka.uri("t", group="ahead", start="committed"))


def test_times_that_lie_ahead_are_refused(kafka):
    ahead = int((time.time() + 3600) * 1000)
    for name in ("start", "stop"):
        with pytest.raises(ConfigError, match=f"{name}={ahead} lies ahead"):
            resolve(kafka.uri("t", **{name: ahead}))


def test_a_missing_topic(kafka):
    with pytest.raises(InputError, match=r"kafka://127.0.0.1:\d+/nope: the broker has no topic 'nope'"):
        resolve(kafka.uri("t,nope"))


def test_topics_of_a_pattern_are_in_the_order_of_their_names(kafka):
    assert [(span.topic, span.partition) for span in resolve(kafka.uri("u|t", pattern="true"))] == [
        (topic, number) for topic in ("t", "u") for number in range(4)
    ]


@pytest.mark.parametrize("stop", ["none", "latest"])
def test_a_pattern_that_matches_no_topic_is_an_error(kafka, stop):
    with pytest.raises(
        InputError, match=r"no topic matches the pattern 't\.\.', which must match the whole name"
    ) as found:
        resolve(kafka.uri("t..", pattern="true", stop=stop))
    assert "this client sees the topics t, u; create the first one, or correct the pattern" in str(found.value)


def test_the_most_similar_topics_are_shown():
    names = [f"x{number}" for number in range(20)]
    assert _nearest("orders-.*", [*names, "order"]).startswith("; this client sees the topics order, ")
    assert _nearest("orders-.*", names).endswith(" and 10 more")
    assert _nearest("orders-.*", []) == "; this client sees no topics"


def test_commits_of_the_topics_of_a_pattern(kafka):
    commit(kafka, "some", p0=2)
    spans = resolve(kafka.uri(".", pattern="true", group="some", start="committed"))
    assert [span.start for span in spans] == [2, 0, 0, 0, 0, 0, 0, 0]


def test_a_broker_that_is_down_is_an_error_after_a_while():
    begin = time.monotonic()
    with pytest.raises(
        InputError, match=r"kafka://127.0.0.1:1: no broker has answered within 1 s when asked for topic t"
    ) as raised:
        resolve("kafka://127.0.0.1:1/t", timeout=1)
    assert "Connection refused" in str(raised.value)
    assert time.monotonic() - begin < 5


def test_a_broker_that_does_not_take_the_credentials(kafka, monkeypatch):
    for name, value in {
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SASL_MECHANISM": "PLAIN",
        "SASL_USERNAME": "me",
        "SASL_PASSWORD": "hunter2",
    }.items():
        monkeypatch.setenv(f"PENSTOCK_KAFKA_{name}", value)
    with pytest.raises(
        InputError, match=r"the broker refuses the client: _AUTHENTICATION: .*check security.protocol"
    ) as raised:
        resolve(kafka.uri("t"))
    assert "hunter2" not in str(raised.value)


def test_tls_to_a_broker_without_it(kafka, monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_SECURITY_PROTOCOL", "SSL")
    with pytest.raises(InputError, match=r"no broker has answered within 1 s .*PLAINTEXT broker listener"):
        resolve(kafka.uri("t"), timeout=1)


class _Answers:
    """A consumer whose first requests for offsets fail, whole or for one of their partitions."""

    def __init__(self, consumer, failures):
        self._consumer, self._failures = consumer, list(failures)

    def offsets_for_times(self, asked, timeout):
        found = self._consumer.offsets_for_times(asked, timeout=timeout)
        if not self._failures:
            return found
        error, is_whole = self._failures.pop(0)
        if is_whole:
            raise KafkaException(error)
        return [types.SimpleNamespace(topic="t", partition=0, offset=-1001, error=error), *found[1:]]

    def __getattr__(self, name):
        return getattr(self._consumer, name)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_partition_whose_leader_is_being_chosen_is_asked_again(kafka, monkeypatch, is_whole):
    failing = [(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION), is_whole)] * 2
    failing.append((KafkaError(KafkaError.LEADER_NOT_AVAILABLE), is_whole))
    monkeypatch.setattr(offsets, "make_consumer", lambda *given: _Answers(make_consumer(*given), failing))
    assert [span.start for span in resolve(kafka.uri("t", start="latest"))] == [3, 3, 2, 2]


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_partition_that_has_no_leader_for_long_or_may_not_be_read(kafka, monkeypatch, is_whole):
    failing = [(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION), is_whole)] * 1000
    monkeypatch.setattr(offsets, "make_consumer", lambda *given: _Answers(make_consumer(*given), failing))
    with pytest.raises(InputError, match=r": asking for the offsets has failed for 1 s: Broker: Not leader"):
        resolve(kafka.uri("t"), timeout=1)
    failing[:] = [(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), is_whole)]
    with pytest.raises(InputError, match=r"(asking for the offsets failed|/t/0: the partition cannot be read): .*auth"):
        resolve(kafka.uri("t"))


def test_a_commit_that_is_refused_for_a_partition_is_an_error(kafka, monkeypatch):
    class Refusing(_Answers):
        def commit(self, offsets, asynchronous):
            error = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
            return [types.SimpleNamespace(topic="t", partition=1, offset=2, error=error)]

    monkeypatch.setattr(offsets, "make_consumer", lambda *given: Refusing(make_consumer(*given), []))
    client = offsets.Client(KafkaSource.parse(kafka.uri("t", group="refused")), 10)
    with pytest.raises(InputError, match=r"/t/1: its offset cannot be committed: .*[Aa]uthorization"):
        client.commit({("t", 1): 2})
    client.close()
