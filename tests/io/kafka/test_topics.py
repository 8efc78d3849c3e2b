import dataclasses

import pytest

from penstock.io.beam.durations import ZERO, parse_duration
from penstock.io.kafka.offsets import OffsetRange
from penstock.io.kafka.source import KafkaSource
from penstock.io.kafka.topics import TopicSource
from penstock.io.sources.base import SourceRequest

REQUEST = SourceRequest(("kafka://a:1/t",))


def source_of(request=REQUEST, stop=None):
    return TopicSource(KafkaSource(("a:1",), ("t",)), (OffsetRange("t", 0, 5, stop),), "json", {}, request)


@pytest.mark.parametrize("given", [None, ZERO, parse_duration("5s")], ids=str)
def test_a_partition_is_idle_after_what_the_flags_say(given):
    reading = source_of(dataclasses.replace(REQUEST, idle_timeout=given)).read()
    assert reading._timing.idle_timeout == (parse_duration("60s") if given is None else given)


def test_a_source_tells_what_it_reads():
    assert source_of().describe() == "kafka://a:1/t (1 partitions, a stream, json messages)"
    assert source_of(stop=9).inputs() == [{"uri": "kafka://a:1/t/0", "start": 5, "stop": 9}]
