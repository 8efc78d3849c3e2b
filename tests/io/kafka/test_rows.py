"""Records become typed rows that keep what they were read from, or dead letters."""

import datetime

import numpy as np
import pytest

from penstock.io.dead_letters.record import row_letters
from penstock.io.dead_letters.source import payloads_of
from penstock.io.kafka.consumer import PolledMessages
from penstock.io.kafka.rows import MessageRows
from penstock.io.kafka.source import KafkaSource
from penstock.io.messages.values import values_of
from penstock.io.reasons import Reason
from penstock.io.reserved import SOURCE
from penstock.io.schema import Feature, Kind

NOW = 1_700_000_000_000_000
HOUR = 3_600_000_000

VALUES = [b' {"a": 1.50}\n', b'{"a": "x"}', None, b'{"a":\r\n 2}\n', b"[]"]


@pytest.mark.parametrize("keep_source", [True, False])
def test_rows_keep_their_messages_byte_for_byte(keep_source):
    source, features = KafkaSource.parse("kafka://h:1/t"), [Feature("a", Kind.FLOAT)]
    rows = MessageRows(source, values_of("json", features), features, None, False, keep_source)
    keys = [None, None, b"key", None, None]
    made = rows.make(("t", 0), PolledMessages(VALUES, np.arange(5), np.full(5, 1000), keys), NOW)
    assert made.batch.column("a").to_pylist() == [1.5, 2.0]
    assert (SOURCE in made.batch.schema.names) is keep_source
    if keep_source:
        assert payloads_of(made.batch.column(SOURCE)).texts == [VALUES[0].decode(), VALUES[3].decode()]
        (letter,) = row_letters(made.batch, {1: [Reason("rule.a", "no")]}, "validate")
        assert (letter.payload, letter.payload_encoding, letter.position) == (VALUES[3].decode(), "text", 3)
    found = {letter.position: letter.payload for letters in made.rejected for letter in letters}
    assert found == {1: '{"a": "x"}', 2: "key", 4: "[]"}


def made_of(values, times=None, event_time="t:us", max_ahead=datetime.timedelta(hours=1), format="json", **options):
    source, features = KafkaSource.parse("kafka://h:1/t"), [Feature("n", Kind.INT), Feature("t", Kind.INT)]
    rows = MessageRows(source, values_of(format, features, **options), features, event_time, False, False, max_ahead)
    count = len(values)
    stamps = np.full(count, -1) if times is None else np.array(times)
    made = rows.make(("t", 0), PolledMessages(values, np.arange(count), stamps), NOW)
    letters = [letter for letters in made.rejected for letter in letters]
    return made.batch.column("n").to_pylist(), sorted(letters, key=lambda letter: letter.position)


def codes(letter):
    return [reason.code for reason in letter.reasons]


def test_a_row_of_the_future_is_a_dead_letter():
    times = [NOW, NOW + HOUR, NOW + HOUR + 1, 32_472_144_000_000_000]
    values = [b'{"n": %d, "t": %d}' % pair for pair in enumerate(times)]
    good, letters = made_of(values)
    assert good == [0, 1]
    assert [(letter.position, codes(letter)) for letter in letters] == [(2, ["future"]), (3, ["future"])]
    assert letters[1].event_time == "2999-01-01T00:00:00.000000Z"
    assert letters[1].payload == values[3].decode()
    assert letters[1].reasons[0].detail == (
        "the event time 2999-01-01T00:00:00Z is more than 1h ahead of the clock (--max_ahead): the clock that made it, "
        "or the unit or time zone of the event time, is wrong"
    )
    assert made_of(values, max_ahead=None) == ([0, 1, 2, 3], [])


def test_a_record_timestamp_of_the_future_is_one_too():
    millis = NOW // 1000
    good, letters = made_of([b'{"n": 0}', b'{"n": 1}', b"{oops"], [millis, millis * 2, millis * 2], event_time=None)
    assert good == [0]
    assert [(codes(letter), letter.event_time) for letter in letters] == [
        (["future"], "2077-09-27T20:26:40.000000Z"),
        (["jsonl.parse"], None),
    ], "a time that is not believed files no letter"


@pytest.mark.parametrize(
    ("format", "values", "options"),
    [
        ("json", [b'{"n": "x", "t": %d}', b'{"n": "x", "t": "y%d"}'], {}),
        ("csv", [b"x,%d", b"x,y%d"], {"column_names": ["n", "t"]}),
    ],
)
def test_a_row_that_is_rejected_for_its_type_keeps_its_event_time(format, values, options):
    good, letters = made_of([values[0] % NOW, values[1] % NOW], format=format, **options)
    assert good == []
    assert [(codes(letter), letter.event_time) for letter in letters] == [
        (["schema.type"], "2023-11-14T22:13:20.000000Z"),
        (["schema.type", "schema.type"], None),
    ]


def test_a_row_that_is_bad_and_of_the_future_says_both():
    _, (letter,) = made_of([b'{"n": "x", "t": %d}' % (NOW * 2)])
    assert codes(letter) == ["schema.type", "future"]
