"""Records become typed rows that keep what they were read from, or dead letters."""

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

VALUES = [b' {"a": 1.50}\n', b'{"a": "x"}', None, b'{"a":\r\n 2}\n', b"[]"]


@pytest.mark.parametrize("keep_source", [True, False])
def test_rows_keep_their_messages_byte_for_byte(keep_source):
    source, features = KafkaSource.parse("kafka://h:1/t"), [Feature("a", Kind.FLOAT)]
    rows = MessageRows(source, values_of("json", features), features, None, False, keep_source)
    keys = [None, None, b"key", None, None]
    made = rows.make(("t", 0), PolledMessages(VALUES, np.arange(5), np.full(5, 1000), keys))
    assert made.batch.column("a").to_pylist() == [1.5, 2.0]
    assert (SOURCE in made.batch.schema.names) is keep_source
    if keep_source:
        assert payloads_of(made.batch.column(SOURCE)).texts == [VALUES[0].decode(), VALUES[3].decode()]
        (letter,) = row_letters(made.batch, {1: [Reason("rule.a", "no")]}, "validate")
        assert (letter.payload, letter.payload_encoding, letter.position) == (VALUES[3].decode(), "text", 3)
    found = {letter.position: letter.payload for letters in made.rejected for letter in letters}
    assert found == {1: '{"a": "x"}', 2: "key", 4: "[]"}
