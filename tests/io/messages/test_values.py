"""Values of messages: each message is one row or one dead letter, and what it is does not depend on its neighbours."""

import base64
import dataclasses
import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from depth import scaled
from helpers import payloads_in
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.batches import feature_names, is_untyped, notes_of
from penstock.io.columns.conform import conform_batch
from penstock.io.errors import ConfigError, InputError
from penstock.io.messages.base import Messages
from penstock.io.messages.registry import DECODERS
from penstock.io.messages.values import values_of
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind

URI = "kafka://localhost:9092/trips/3"

FEATURES = [
    Feature("i", Kind.INT),
    Feature("f", Kind.FLOAT),
    Feature("s", Kind.BYTES),
]
CSV = {"column_names": ["i", "f", "s"]}


def messages(values, keys=None, headers=None, large=False):
    """Offsets have gaps, as transactions and compaction leave them."""
    return Messages(
        URI,
        pa.array(values, pa.large_binary() if large else pa.binary()),
        np.arange(len(values)) * 3 + 100,
        None if keys is None else pa.array(keys, pa.binary()),
        headers,
    )


def payload_of(letter):
    return base64.b64decode(letter.payload) if letter.payload_encoding == "base64" else letter.payload.encode()


def outcome(parsed, values, features=FEATURES):
    """What has become of each message: its values, or the codes of its faults; each message once."""
    index_of = {3 * index + 100: index for index in range(len(values))}
    found = {}
    origins = parsed.batch.column(ORIGIN).to_pylist()
    assert [origin["position"] for origin in origins] == sorted(origin["position"] for origin in origins)
    typed, faults = (parsed.batch, {}) if features is None else conform_batch(parsed.batch, features)
    rows = typed.select(feature_names(typed)).to_pylist() if feature_names(typed) else [{}] * typed.num_rows
    originals = payloads_in(parsed)
    for row, origin in enumerate(origins):
        assert origin["uri"] == URI
        index = index_of.pop(origin["position"])
        assert originals[row] == values[index]
        found[index] = [reason.code for reason in faults[row]] if row in faults else normal(rows[row])
    for letter in parsed.rejected:
        assert (letter.uri, letter.stage) == (URI, "read")
        index = index_of.pop(letter.position)
        assert payload_of(letter) == (values[index] or b"")
        found[index] = [reason.code for reason in letter.reasons]
    assert not index_of, "messages are lost"
    return [found[index] for index in range(len(values))]


def normal(row):
    """A list of one is what it holds: which of the two a column has depends on its other rows."""
    return {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in row.items()}


def parse(values, name, features=FEATURES, **options):
    return outcome(values_of(name, features, **options).parse(messages(values)), values, features)


OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "i": st.integers(-(2**70), 2**70) | st.none() | st.text(max_size=5),
        "f": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5),
        "s": st.text(max_size=8) | st.integers(0, 9) | st.lists(st.text(max_size=2), max_size=2),
        "other": st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    },
)


@st.composite
def json_values(draw):
    value = draw(OBJECTS)
    text = json.dumps(value, indent=draw(st.sampled_from([None, 0, 2])), ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    around = st.sampled_from(["", "\n", "\r\n", " \t", "\n" * 12])
    return (draw(around) + text + draw(around)).encode("utf-8", "surrogatepass")


JSON_FAULTS = st.sampled_from(
    [
        None,
        b"",
        b" \n",
        b"null",
        b"[1]",
        b"{",
        b'{"i": 1}{"i": 2}',
        b'{"i": 1}\n{"i": 2}',
        b'{"s": "a\nb"}',
        b'{"s": "}\n{"}',
        b'{"s": "',
        b'"}',
        b'{"i": NaN}',
        b'{"i": 1, "i": 2}',
        b'{"s": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 300 + b"1" + b"}" * 300,
    ]
)


@settings(max_examples=scaled(60))
@given(st.lists(json_values() | JSON_FAULTS | st.binary(max_size=6), max_size=40), st.integers(1, 20))
def test_json(values, repeats):
    values = values * repeats
    alone = {value: parse([value], "json")[0] for value in dict.fromkeys(values)}
    assert parse(values, "json") == [alone[value] for value in values]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b'{"i": 1, "f": 2, "s": "x"}', {"i": 1, "f": 2.0, "s": "x"}, id="compact"),
        pytest.param(b'\n{\r\n  "i": 1,\n  "s": "x\\ny"\n}\n', {"i": 1, "f": None, "s": "x\ny"}, id="pretty"),
        pytest.param(b"{}", {"i": None, "f": None, "s": None}, id="nothing"),
        pytest.param(b"", ["jsonl.parse"], id="empty"),
        pytest.param(b" \n\t", ["jsonl.parse"], id="blank"),
        pytest.param(b'{"i": 1}\n{"i": 2}', ["jsonl.parse"], id="two"),
        pytest.param(b'{"s": "a\nb"}', ["jsonl.parse"], id="break_in_text"),
        pytest.param(b"null", ["jsonl.not_object"], id="null"),
        pytest.param(b'{"s": "\xff"}', ["jsonl.encoding"], id="utf8"),
        pytest.param(b'{"i": "x"}', ["schema.type"], id="type"),
        pytest.param(None, ["kafka.tombstone"], id="tombstone"),
    ],
)
def test_json_values(value, expected):
    good = [b'{"i": %d, "f": 0.5, "s": "n"}' % index for index in range(60)]
    found = parse([*good, value, *good], "json")
    assert found.pop(60) == expected
    assert found == [{"i": index, "f": 0.5, "s": "n"} for index in (*range(60), *range(60))]


def test_pretty_json_is_left_to_arrow(monkeypatch):
    values = [json.dumps({"i": index, "s": "x"}, indent=2).encode() + b"\n" for index in range(500)]
    decoder = values_of("json", FEATURES)
    decoder.parse(messages(values))
    monkeypatch.setattr("penstock.io.formats.json.format.parse_object", None)
    assert decoder.parse(messages(values)).batch.column("i").to_pylist() == list(range(500))


FIELDS = st.none() | st.sampled_from(["", "1", "-2.5", "x", 'a"b', "a,b", "a\nb", "a\r\nb", "a\rb", "é", '"', " "])


@st.composite
def csv_values(draw):
    record = ",".join(
        "" if field is None else '"' + field.replace('"', '""') + '"' if draw(st.booleans()) else field
        for field in draw(st.lists(FIELDS, min_size=2, max_size=4))
    )
    return (record + draw(st.sampled_from(["", "\n", "\r\n", "\r", "\n\n"]))).encode()


@settings(max_examples=scaled(80))
@given(st.lists(csv_values() | st.none() | st.binary(max_size=6), max_size=40))
def test_csv(values):
    alone = {value: parse([value], "csv", **CSV)[0] for value in dict.fromkeys(values)}
    assert parse(values, "csv", **CSV) == [alone[value] for value in values]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"1,2.5,x", {"i": 1, "f": 2.5, "s": "x"}, id="plain"),
        pytest.param(b"1,2.5,x\r\n", {"i": 1, "f": 2.5, "s": "x"}, id="crlf"),
        pytest.param(b'1,,"a\nb"\n', {"i": 1, "f": None, "s": "a\nb"}, id="quoted_break"),
        pytest.param(b'1,,"a\r\n""b"""', {"i": 1, "f": None, "s": 'a\r\n"b"'}, id="quotes"),
        pytest.param(b"1,2", ["csv.column_count"], id="too_few"),
        pytest.param(b"", ["csv.column_count"], id="empty"),
        pytest.param(b"\n", ["csv.column_count"], id="line_end"),
        pytest.param(b"1,2,x\n1,2,x", ["csv.several_records"], id="two"),
        pytest.param(b"1,2,x\n\n", ["csv.several_records"], id="blank_line"),
        pytest.param(b'1,2,"x', ["csv.quote"], id="open_quote"),
        pytest.param(b'1,2,"x\ny', ["csv.quote"], id="open_quote_with_break"),
        pytest.param(b'1,2,"x"y', ["csv.quote"], id="text_behind_quote"),
        pytest.param(b"1,2,x\r", ["csv.lone_cr"], id="cr"),
        pytest.param(b"1,2,\xff\0", ["csv.nul_byte", "csv.encoding"], id="bytes"),
        pytest.param(b"x,2,x", ["schema.type"], id="type"),
        pytest.param(None, ["kafka.tombstone"], id="tombstone"),
    ],
)
def test_csv_values(value, expected):
    found = parse([b"1,2,x", value, b'3,4,"y"'], "csv", **CSV)
    assert found == [{"i": 1, "f": 2.0, "s": "x"}, expected, {"i": 3, "f": 4.0, "s": "y"}]


def test_csv_options():
    options = {"column_names": ["f", "unused", "i"], "delimiter": "\\t", "null_values": ["NA"]}
    assert parse([b"0.5\t\tNA"], "csv", FEATURES[:2], **options) == [{"i": None, "f": 0.5}]
    with pytest.raises(ConfigError, match="CSV messages have no header: name their columns with --columns"):
        values_of("csv", FEATURES)
    with pytest.raises(InputError, match="column 's' is required by the schema"):
        values_of("csv", [Feature("s", Kind.BYTES, required=True)], column_names=["i"])
    with pytest.raises(ConfigError, match="delimiter must be one ASCII character"):
        values_of("csv", FEATURES, delimiter="ab", **CSV)


def example_value(row):
    tf = pytest.importorskip("tensorflow")
    features = tf.train.Features()
    features.feature["i"].int64_list.value.append(row)
    features.feature["s"].bytes_list.value.append(b"n%d" % row)
    return tf.train.Example(features=features).SerializeToString(deterministic=True)  # of equal names the last counts


def test_examples():
    features = [dataclasses.replace(feature, multivalued=False) for feature in FEATURES]
    wrong = example_value(5).replace(b"\x0a\x01s", b"\x0a\x01i")  # the text under the name of the number
    values = [example_value(1), None, b"", b"\xffno", wrong, example_value(2)]
    for large in (False, True):
        parsed = values_of("tfexample", features).parse(messages(values, large=large))
        assert outcome(parsed, values, features) == [
            {"i": 1, "f": None, "s": b"n1"},
            ["kafka.tombstone"],
            {"i": None, "f": None, "s": None},
            ["tfrecord.parse"],
            ["tfrecord.type"],
            {"i": 2, "f": None, "s": b"n2"},
        ]


@settings(max_examples=scaled(30))
@given(st.lists(st.none() | st.binary(max_size=8)))
def test_examples_of_any_bytes(values):
    found = parse(values, "tfexample")
    assert [one == ["kafka.tombstone"] for one in found] == [value is None for value in values]


@given(st.lists(st.none() | st.binary(max_size=8)), st.booleans())
def test_raw(values, large):
    parsed = values_of("raw").parse(messages(values, large=large))
    assert parsed.batch.schema.field("value").type == pa.binary()
    expected = [["kafka.tombstone"] if value is None else {"value": value} for value in values]
    assert outcome(parsed, values, None) == expected


def test_the_payload_of_a_tombstone_is_its_key():
    values = values_of("json", FEATURES)
    (letter, other) = values.parse(messages([None, None], keys=[b"\xffk", None])).rejected
    assert (payload_of(letter), payload_of(other)) == (b"\xffk", b"")
    assert letter.reasons[0].code == "kafka.tombstone"
    (letter,) = values.parse(messages([None])).rejected
    assert letter.payload == ""


def test_keys_and_headers_are_columns():
    features = [*FEATURES, Feature("key", Kind.BYTES), Feature("trace", Kind.INT), Feature("none", Kind.BYTES)]
    values = values_of("json", features, key="key", headers=["trace", "none"])
    headers = [[("trace", b"1"), ("other", b"x"), ("trace", b"2")], None, [("trace", None)], [("trace", b"y")]]
    content = [b'{"i": 1, "key": "inside"}', b"x", b'{"i": 2}', b'{"i": 3}']
    parsed = values.parse(messages(content, keys=[b"a", b"b", None, b"\xff"], headers=headers))
    assert outcome(parsed, content, features) == [
        {"i": 1, "f": None, "s": None, "key": b"a", "trace": 2, "none": None},
        ["jsonl.parse"],
        {"i": 2, "f": None, "s": None, "key": None, "trace": None, "none": None},
        ["schema.type"],
    ]


def test_a_key_takes_no_column_of_the_values():
    values = values_of("json", None, key="i")
    with pytest.raises(ConfigError, match=f"{URI}: the values have a column 'i' too"):
        values.parse(messages([b'{"i": 1}'], keys=[b"a"]))


@pytest.mark.parametrize("name", ["json", "csv", "tfexample", "raw"])
def test_no_messages(name):
    values = values_of(name, FEATURES, **(CSV if name == "csv" else {}))
    for none in ([], [None, None]):
        parsed = values.parse(messages(none))
        assert (parsed.batch.num_rows, len(parsed.rejected)) == (0, len(none))


def test_slices_of_values():
    whole = messages([b'{"i": 0}', b'{"i": 1}', b"x", b'{"i": 3}'])
    part = Messages(URI, whole.values.slice(1, 2), whole.positions[1:3])
    for name, column in (("json", "i"), ("raw", "value")):
        parsed = values_of(name).parse(part)
        assert parsed.batch.column(column)[0].as_py() in (1, b'{"i": 1}')
        assert parsed.batch.column(ORIGIN).field("position")[0].as_py() == 103


def test_values_pickle():
    values = values_of("csv", FEATURES, **CSV)
    assert values.parse(messages([b"1,2,x"])).batch.num_rows == 1
    copy = pickle.loads(pickle.dumps(values))
    assert copy.parse(messages([b"1,2,x"])).batch.num_rows == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("jsonl", {}, "must be one of json, csv, avro, tfexample, raw, got 'jsonl'; did you mean json"),
        ("tfrecord", {}, "did you mean tfexample"),
        ("avroo", {}, "did you mean avro"),
        ("json", {"delimiter": ";"}, "the format json of messages has no option delimiter; it has explode"),
        ("json", {"key": "_origin"}, "'_origin' is reserved"),
        ("avro", {}, "need either schema_registry=URL.*or --avro_schema FILE"),
        ("avro", {"schema_registry": "http://a", "avro_schema": "b"}, "need either"),
    ],
)
def test_wrong_use(name, options, message):
    with pytest.raises(ConfigError, match=message):
        values_of(name, FEATURES, **options)


def test_every_format_is_in_the_docs():
    import penstock.io.messages.values

    for name in DECODERS:
        assert f"`{name}`" in penstock.io.messages.values.__doc__


@pytest.mark.parametrize(
    ("name", "value", "options", "expected"),
    [("csv", b"1", {"column_names": ["i"]}, True), ("json", b'{"i": "1"}', {}, False), ("raw", b"1", {}, False)],
)
def test_only_texts_of_csv_have_no_type(name, value, options, expected):
    parsed = values_of(name, None, key="k", **options).parse(messages([value], keys=[b"7"]))
    (column,) = set(parsed.batch.schema.names) - {"k", ORIGIN}
    assert is_untyped(parsed.batch.schema.field(column)) == expected
    assert not is_untyped(parsed.batch.schema.field("k"))


SURROGATES = [rb'{"i":1,"\ud800":2}', rb'{"s":"\udc00"}', rb'{"i":3}', rb'{"o":{"\ud800":1},"i":4}']


def test_json_names_with_lone_surrogates_reject_their_message():
    rejected = ["jsonl.encoding"]
    found = values_of("json", FEATURES).parse(messages(SURROGATES))
    assert found.batch.column("i").to_pylist() == [3, 4], "members of an object that is not read are ignored"
    assert [letter.reasons[0].code for letter in found.rejected] == rejected * 2
    found = values_of("json").parse(messages(SURROGATES))
    assert found.batch.column("i").to_pylist() == [3]
    assert [letter.reasons[0].code for letter in found.rejected] == rejected * 3


@pytest.mark.parametrize("name", ["", "_split", "_origin"])
def test_json_members_that_cannot_be_columns_are_refused_by_the_partition(name):
    with pytest.raises(InputError, match=f"^{URI}: .*(has no name|'{name}' is reserved by Penstock)"):
        values_of("json").parse(messages([f'{{"{name}":1}}'.encode()]))
    assert values_of("json", FEATURES).parse(messages([f'{{"{name}":1}}'.encode()])).batch.num_rows == 1


def test_json_lists_can_be_exploded_and_are_noted_if_they_are_not():
    values = [b'{"id":1,"e":[{"x":1},{"x":2}]}', b"[", b'{"id":2,"e":[]}']
    features = [Feature("id", Kind.INT), Feature("e.x", Kind.INT)]
    found = values_of("json", features, explode="e").parse(messages(values))
    rows = [(row["id"], row["e.x"], row[ORIGIN]["position"]) for row in found.batch.to_pylist()]
    assert rows == [(1, 1, 100), (1, 2, 100), (2, None, 106)]
    assert found.source is None, "the message is not the row, which is written as JSON if it is rejected later"
    (letter,) = found.rejected
    assert payload_of(letter) == b"["
    (note,) = notes_of(values_of("json").parse(messages(values)).batch)
    assert (note.code, note.subject, note.count) == ("left_out", "e", 1)
    with pytest.raises(ConfigError, match="--explode y: the schema has no feature"):
        values_of("json", features, explode="y")
