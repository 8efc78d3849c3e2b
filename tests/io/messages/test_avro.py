import io
import json

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from depth import scaled
from helpers import payloads_in
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.batches import feature_names
from penstock.io.columns.conform import conform_batch
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.messages import avro as kafka_avro
from penstock.io.messages.avro import AvroDecoder, AvroRowReader
from penstock.io.messages.base import Messages
from penstock.io.messages.schema_registry import SchemaFault
from penstock.io.messages.values import MessageValues, values_of
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind

FEATURES = [Feature("i", Kind.INT), Feature("s", Kind.BYTES), Feature("o.x", Kind.FLOAT)]


def record(*fields):
    return {"type": "record", "name": "row", "fields": [{"name": name, "type": kind} for name, kind in fields]}


OLD = record(("i", "int"), ("s", ["null", "string"]))
NEW = record(("s", "bytes"), ("i", ["null", "long"]), ("o", record(("x", "double")) | {"name": "o"}), ("m", "string"))
LISTS = record(("i", {"type": "array", "items": "long"}))
MAP = record(("s", {"type": "map", "values": "string"}))
DATE = record(("i", "int"), ("o", record(("x", {"type": "int", "logicalType": "date"})) | {"name": "o"}))
SCHEMAS = {1: OLD, 2: NEW, 3: LISTS, 4: MAP, 5: DATE, 6: "string", 7: {"type": "nonsense"}}


class Registry:
    """Knows `SCHEMAS`; does not answer while it is down."""

    url = "http://registry"

    def __init__(self):
        self.asked = []
        self.down = False

    def schema(self, schema_id):
        self.asked.append(schema_id)
        if self.down:
            raise DataError(f"{self.url}: the schema registry does not answer")
        if schema_id not in SCHEMAS:
            raise SchemaFault(f"{self.url}/schemas/ids/{schema_id}: the schema registry has no such schema")
        return SCHEMAS[schema_id]


def body(schema, row):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return out.getvalue()


def value(schema_id, row):
    return b"\0" + schema_id.to_bytes(4, "big") + body(SCHEMAS[schema_id], row)


def messages(values):
    return Messages("kafka://a:1/t/0", pa.array(values, pa.binary()), np.arange(len(values)) + 10)


def decode(values, features=FEATURES, registry=None):
    """Rows and codes in the order of the messages, each once."""
    decoder = MessageValues(lambda: AvroDecoder(features, registry or Registry()))
    return outcome(decoder.parse(messages(values)), values, features)


def outcome(parsed, values, features):
    typed, faults = (parsed.batch, {}) if features is None else conform_batch(parsed.batch, features)
    names = feature_names(typed)
    found = {}
    for row, origin in enumerate(parsed.batch.column(ORIGIN).to_pylist()):
        content = {name: typed.column(name)[row].as_py() for name in names}
        found[origin["position"]] = [reason.code for reason in faults.get(row, ())] or content
        assert payloads_in(parsed)[row] == values[origin["position"] - 10]
    for letter in parsed.rejected:
        assert letter.position not in found
        found[letter.position] = [reason.code for reason in letter.reasons]
    assert sorted(found) == list(range(10, 10 + len(values)))
    return [found[position] for position in sorted(found)]


def test_messages_of_one_schema():
    values = [value(1, {"i": index, "s": f"n{index}" if index % 2 else None}) for index in range(5)]
    registry = Registry()
    assert decode(values, registry=registry) == [
        {"i": index, "s": f"n{index}" if index % 2 else None} for index in range(5)
    ]
    assert registry.asked == [1]


def test_messages_of_several_schemas_are_in_order():
    values = [
        value(1, {"i": 1, "s": "a"}),
        value(2, {"i": 2**40, "s": b"\xff", "o": {"x": 0.5}, "m": "unused"}),
        value(1, {"i": 3, "s": None}),
        value(2, {"i": None, "s": b"b", "o": {"x": 1e300}, "m": ""}),
        value(2, {"i": 5, "s": b"c", "o": {"x": 1.0}, "m": ""}),
    ]
    assert decode(values) == [
        {"i": 1, "s": b"a", "o.x": None},
        {"i": 2**40, "s": b"\xff", "o.x": 0.5},
        {"i": 3, "s": None, "o.x": None},
        ["schema.float_overflow"],
        {"i": 5, "s": b"c", "o.x": 1.0},
    ]


def test_lists_and_scalars_become_lists():
    values = [value(3, {"i": [1, 2]}), value(1, {"i": 3, "s": None}), value(3, {"i": []})]
    assert [row["i"] for row in decode(values)] == [[1, 2], [3], []]


def test_without_a_schema_columns_are_those_of_all():
    values = [value(1, {"i": 1, "s": "a"}), value(3, {"i": [2]})]
    assert decode(values, None) == [{"i": [1], "s": "a"}, {"i": [2], "s": None}]
    wide = value(2, {"i": 2**40, "s": b"b", "o": {"x": 0.5}, "m": "c"})
    assert decode([values[0], wide], None)[1] == {"i": 2**40, "s": b"b", "o.x": 0.5, "m": "c"}
    dates = value(5, {"i": 1, "o": {"x": 1}})
    with pytest.raises(DataError, match=r"column 'o.x' is date32\[day\] and double, by messages; pass a schema"):
        decode([wide, dates], None)


GOOD = value(1, {"i": 1, "s": "a"})


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        pytest.param(b"", "kafka.schema_id", id="empty"),
        pytest.param(b"\0\0\0\0", "kafka.schema_id", id="no_id"),
        pytest.param(b"\1" + GOOD[1:], "kafka.schema_id", id="no_magic"),
        pytest.param(b'{"i": 1}', "kafka.schema_id", id="json"),
        pytest.param(b"\0\0\0\0\x63" + GOOD[5:], "kafka.schema_id", id="unknown"),
        pytest.param(b"\0\xff\xff\xff\xff" + GOOD[5:], "kafka.schema_id", id="large"),
        pytest.param(b"\0\0\0\0\x04\0", "kafka.schema", id="map"),
        pytest.param(b"\0\0\0\0\x05\0\0", "kafka.schema", id="date_as_float"),
        pytest.param(b"\0\0\0\0\x06\0", "kafka.schema", id="no_record"),
        pytest.param(b"\0\0\0\0\x07\0", "kafka.schema", id="not_valid"),
        pytest.param(GOOD[:-1], "avro.decode", id="truncated"),
        pytest.param(GOOD[:5], "avro.decode", id="no_body"),
        pytest.param(GOOD + b"\0", "avro.decode", id="longer"),
        pytest.param(b"\0\0\0\0\1\2\x09a", "avro.decode", id="union"),
        pytest.param(b"\0\0\0\0\1\2\2\2\xff", "avro.utf8", id="utf8"),
    ],
)
def test_dead_letters(bad, code):
    good = {"i": 1, "s": "a"}
    assert decode([GOOD, bad, GOOD]) == [good, [code], good]


def test_what_dead_letters_say():
    parsed = MessageValues(lambda: AvroDecoder(FEATURES, Registry())).parse(
        messages([b"\0\0\0\0\x63x", b"\0\0\0\0\x04x", GOOD[:-1], b"x"])
    )
    details = [letter.reasons[0].detail for letter in parsed.rejected]
    assert details[0] == "http://registry/schemas/ids/99: the schema registry has no such schema"
    assert details[1].startswith("schema 4 of http://registry: column 's' is a map")
    assert details[2].startswith("the message is not of its Avro schema: ")
    assert details[3] == "the message does not begin with 0 and the id of a schema"


BODIES = st.binary(max_size=8).map(lambda content: GOOD[:5] + content)


@settings(max_examples=scaled(50))
@given(st.lists(st.sampled_from([GOOD, None]) | st.binary(max_size=12) | BODIES))
def test_nothing_is_lost(values):
    found = decode(values)
    assert all(one == {"i": 1, "s": "a"} for one, value in zip(found, values, strict=True) if value == GOOD)


def test_an_unknown_id_is_asked_for_again_later(monkeypatch):
    registry = Registry()
    decoder = AvroDecoder(FEATURES, registry)
    unknown = pa.array([b"\0\0\0\0\x63x"] * 3)
    for _ in range(2):
        assert len(decoder.decode(unknown).faults) == 3
    assert registry.asked == [99]
    monkeypatch.setitem(SCHEMAS, 99, OLD)
    monkeypatch.setattr(kafka_avro.time, "monotonic", lambda: 1e12)
    assert decoder.decode(pa.array([b"\0\0\0\0\x63" + GOOD[5:]])).columns["i"].to_pylist() == [1]


def test_a_registry_that_is_down_is_no_dead_letter():
    registry = Registry()
    decoder = AvroDecoder(FEATURES, registry)
    registry.down = True
    with pytest.raises(DataError, match="http://registry: the schema registry does not answer"):
        decoder.decode(pa.array([GOOD]))
    registry.down = False
    assert decoder.decode(pa.array([GOOD])).columns["i"].to_pylist() == [1]
    registry.down = True
    assert decoder.decode(pa.array([GOOD])).columns["i"].to_pylist() == [1], "known schemas are not asked for"


def test_without_ids(tmp_path):
    file = tmp_path / "row.avsc"
    file.write_text(json.dumps(OLD))
    values = [body(OLD, {"i": 7, "s": "x"}), b"", None]
    parsed = values_of("avro", FEATURES, avro_schema=str(file)).parse(messages(values))
    assert outcome(parsed, values, FEATURES) == [{"i": 7, "s": "x"}, ["avro.decode"], ["kafka.tombstone"]]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, ConfigError, "--avro_schema .*row.avsc: cannot be read"),
        ("{", ConfigError, "--avro_schema .*row.avsc: an Avro schema must be JSON"),
        ('"string"', InputError, "row.avsc: the rows must be Avro records"),
        (json.dumps(MAP), ConfigError, "row.avsc: column 's' is a map"),
        (json.dumps(DATE), ConfigError, "column 'o.x' has type date32.* loses precision as FLOAT"),
    ],
)
def test_a_schema_file_that_cannot_be_used(tmp_path, content, error, message):
    file = tmp_path / "row.avsc"
    if content is not None:
        file.write_text(content)
    with pytest.raises(error, match=message):
        values_of("avro", FEATURES, avro_schema=str(file))


def test_a_reader_takes_the_features_that_there_are():
    assert AvroRowReader.of(OLD, FEATURES, "x").columns.names == ["i", "s"]
    assert AvroRowReader.of(NEW, None, "x").columns.names == ["s", "i", "o.x", "m"]
