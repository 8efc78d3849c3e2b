"""The adapters as steps of pipelines: batches, dead letters, times and windows, types, and what errors say."""

import dataclasses
import datetime
import json
import typing
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, GlobalWindow, IntervalWindow, SlidingWindows, TimestampedValue
from apache_beam.typehints.decorators import TypeCheckError
from apache_beam.typehints.schemas import named_fields_from_element_type
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp
from google.protobuf import text_format
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock import transforms
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dead_letters.handler import DeadLetterHandler, rejected_batch
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME
from penstock.io.write import CountRows, WriteDataset
from penstock.transforms import FromDicts, FromMessages, FromRows, FromTables, ToDicts, ToRows
from penstock.transforms.adapters import bundles
from penstock.transforms.adapters.bundles import _GatherFn
from penstock.transforms.adapters.dicts import ConvertsDicts
from penstock.transforms.adapters.messages import _ConvertsMessages
from penstock.transforms.adapters.rows import declared_types
from penstock.transforms.adapters.tables import table_batches
from penstock.transforms.verify import verify_dataset


def schema_of(text):
    return text_format.Parse(text, schema_pb2.Schema())


SCHEMA = schema_of(
    """
    feature { name: "id" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } } }
    feature { name: "user.name" type: BYTES value_count { min: 1 max: 1 } }
    feature { name: "scores" type: FLOAT value_count { min: 0 max: 9 } }
    """
)


def gathered(converter, elements):
    """What the step gives for (element, seconds or None, window) of one bundle: (batch, timestamp, window), rejects."""
    step = _GatherFn(converter, "FromDicts")
    step.start_bundle()
    out = []
    for element, seconds, window in elements:
        time = MIN_TIMESTAMP if seconds is None else Timestamp(seconds)
        out += [(value, window) for value in step.process(element, time, window)]
    out += [(value, None) for value in step.finish_bundle()]
    batches, letters = [], []
    for value, window in out:
        is_rejected = isinstance(value, beam.pvalue.TaggedOutput)
        inner = value.value if is_rejected else value
        own = inner.windows[0] if window is None else window
        (letters if is_rejected else batches).append((inner.value, inner.timestamp, own))
    return batches, letters


ANY = ConvertsDicts(None)
WHOLE = GlobalWindow()


def test_batches_keep_to_the_limits(monkeypatch):
    monkeypatch.setattr(bundles, "MAX_BATCH_ROWS", 10)
    batches, _ = gathered(ANY, [({"a": number}, None, WHOLE) for number in range(25)])
    assert [batch.num_rows for batch, _, _ in batches] == [10, 10, 5]
    monkeypatch.setattr(bundles, "MAX_BATCH_BYTES", 1000)
    batches, _ = gathered(ANY, [({"a": "x" * 400}, None, WHOLE) for _ in range(7)])
    assert [batch.num_rows for batch, _, _ in batches] == [3, 3, 1]
    assert [batch.schema.names for batch, _, _ in batches] == [["a"]] * 3


def test_each_window_has_batches_of_its_own_with_the_times_of_its_elements():
    first, second = IntervalWindow(0, 10), IntervalWindow(10, 20)
    batches, letters = gathered(
        ANY, [({"a": 1}, 5, first), ({"a": 2}, 12, second), ({"a": 3}, 3, first), ({"a": 2**63}, 15, second)]
    )
    assert [(batch.to_pydict(), time, window) for batch, time, window in batches] == [
        ({"a": [1, 3], EVENT_TIME: [utc(5), utc(3)]}, Timestamp(3), first),
        ({"a": [2], EVENT_TIME: [utc(12)]}, Timestamp(12), second),
    ]
    ((rejected, time, window),) = letters
    assert (next(iter(rejected)).event_time[:19], time, window) == ("1970-01-01T00:00:15", Timestamp(12), second)


def utc(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def test_elements_without_a_time_have_no_event_time():
    batches, _ = gathered(ANY, [({"a": 1}, None, WHOLE)])
    assert batches[0][0].schema.names == ["a"]
    batches, _ = gathered(ANY, [({"a": 1}, None, WHOLE), ({"a": 2}, 7, WHOLE)])
    assert batches[0][0].column(EVENT_TIME).to_pylist() == [None, utc(7)]


def test_whole_way_with_dead_letters(tmp_path):
    dicts = [
        {"id": 1, "user": {"name": "Ann"}, "scores": [0.5], "more": object()},
        {"id": "x", "user": {"name": "Ben"}},
        {"id": 2, "_split": "train", 3: (1j, b"\xff")},
        {"id": 3},
    ]
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create(dicts) | FromDicts(SCHEMA).with_error_handler(handler)
        _ = rows | WriteDataset(
            str(tmp_path), num_shards=1, schema=SCHEMA, dead_letters=handler, run_id="r1", max_reject_fraction=1
        )
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected_by_stage) == (4, 2, {"read": 2})
    assert manifest.rejected_by_reason == {"read.name": 1, "schema.type": 1}
    assert list(verify_dataset(str(tmp_path))) == []
    lines = (tmp_path / manifest.dead_letters[0].path).read_text().splitlines()
    letters = {letter["reason"]: letter for letter in map(json.loads, lines)}
    assert json.loads(letters["schema.type"]["payload"]) == {"id": "x", "user": {"name": "Ben"}}
    assert json.loads(letters["read.name"]["payload"]) == {"id": 2, "_split": "train", "3": "(1j, b'\\xff')"}
    assert (letters["read.name"]["uri"], letters["read.name"]["position"]) == ("", -1)


def test_any_row_can_be_a_payload():
    rows = [{"a": "\ud800", "b": 2**63}, {("a", 1): 1}, {"a": {2: {3}, (4, 5): None}}]
    _, ((letters, _, _),) = gathered(ANY, [(row, None, WHOLE) for row in rows])
    payloads = [json.loads(letter.payload) for letter in letters]
    assert payloads == [{"a": "\ud800", "b": 2**63}, {"('a', 1)": 1}, {"a": "{2: {3}, (4, 5): None}"}]


class Flight(typing.NamedTuple):
    id: int
    name: str | None
    scores: Sequence[float]
    at: Timestamp


@dataclasses.dataclass
class Order:
    id: int
    price: float


def test_rows_have_the_types_that_they_declare():
    assert declared_types(Flight) == {
        "id": pa.int64(),
        "name": pa.string(),
        "scores": pa.list_(pa.float64()),
        "at": pa.timestamp("us", "UTC"),
    }
    nested = beam.typehints.row_type.RowTypeConstraint.from_fields(
        [("a", typing.Optional[np.float32]), ("b", Flight), ("c", bytes), ("d", bool)]  # noqa: UP045
    )
    assert declared_types(nested) == {
        "a": pa.float32(),
        **{f"b.{name}": arrow_type for name, arrow_type in declared_types(Flight).items()},
        "b.name": None,  # Beam knows no `str | None` inside its own types: the values tell
        "c": pa.binary(),
        "d": pa.bool_(),
    }
    assert declared_types(beam.Row) is declared_types(typing.Any) is None


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (typing.Mapping[str, int], "field 'a' is a map, which no column can hold"),
        (Sequence[Sequence[int]], "field 'a' is a list of .*, which no column can hold"),
        (Sequence[Flight], "field 'a' is a list of .*, which no column can hold"),
    ],
)
def test_fields_without_a_column_are_refused_by_name(hint, message):
    row_type = beam.typehints.row_type.RowTypeConstraint.from_fields([("a", hint)])
    with pytest.raises(ConfigError, match=message):
        declared_types(row_type)


def test_rows_in_and_out():
    time = Timestamp(1.5)
    flights = [Flight(1, None, [], time), Flight(2, "x", [1, 2.5], time)]
    with local_pipeline() as pipeline:
        batches = pipeline | "Flights" >> beam.Create(flights) | "FromFlights" >> FromRows()
        assert_that(
            batches | "Flights again" >> ToDicts(),
            equal_to(
                [
                    {"id": 1, "name": None, "scores": [], "at": utc(1.5)},
                    {"id": 2, "name": "x", "scores": [1.0, 2.5], "at": utc(1.5)},
                ]
            ),
            label="flights",
        )
        rows = (
            pipeline
            | "Dicts" >> beam.Create([{"id": 1, "user": {"name": "Ann"}, "scores": [0.5]}, {"id": 2}])
            | FromDicts(SCHEMA)
            | ToRows(SCHEMA)
        )
        fields = dict(named_fields_from_element_type(rows.element_type))
        assert list(fields) == ["id", "user", "scores"]
        assert fields["id"] is np.int64
        assert dict(named_fields_from_element_type(fields["user"])) == {"name": typing.Optional[str]}  # noqa: UP045
        again = rows | "Through the coder" >> beam.Reshuffle() | "FromRows" >> FromRows() | "ToDicts" >> ToDicts()
        expected = [
            {"id": 1, "user.name": "Ann", "scores": [0.5]},
            {"id": 2, "user.name": None, "scores": None},
        ]
        assert_that(again, equal_to(expected), label="rows")
        orders = pipeline | "Orders" >> beam.Create([Order(1, 2)]) | "FromOrders" >> FromRows() | "O" >> ToDicts()
        assert_that(orders, equal_to([{"id": 1, "price": 2.0}]), label="orders")


def test_rows_of_a_type_can_be_encoded_by_their_schema():
    row_type = ToRows(SCHEMA)._row_type
    coder = registry.get_coder(row_type)
    row = coder.decode(coder.encode(beam.Row(id=1, user=beam.Row(name="Ann"), scores=[0.5])))
    assert (row.id, row.user.name, row.scores) == (1, "Ann", [0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('feature { name: "a b" type: INT }', "named as a variable of Python is, .* got 'a b'"),
        ('feature { name: "_a" type: INT }', "got '_a'"),
        ('feature { name: "a" type: INT } feature { name: "a.b" type: INT }', "a value and a row as well, got 'a.b'"),
        ('feature { name: "a.b" type: INT } feature { name: "a" type: INT }', "a value and a row as well, got 'a'"),
    ],
)
def test_features_that_no_field_can_be_named_by(text, message):
    with pytest.raises(ConfigError, match=message):
        ToRows(schema_of(text))


def test_rows_that_do_not_fit_their_fields_are_rejected():
    schema = schema_of('feature { name: "a" type: BYTES value_count { min: 1 max: 1 } }')
    with local_pipeline() as pipeline:
        make = beam.Map(as_batch).with_output_types(pa.RecordBatch)
        batches = pipeline | beam.Create([[b"\xff"], [b"x"], [b"x", b"y"]]) | make
        rows = batches | ToRows(schema).with_error_handler(Collecting())
        assert_that(rows | beam.Map(lambda row: row.a), equal_to(["x"]))


def as_batch(values):
    return pa.record_batch({"a": pa.array([values])})


class Collecting(DeadLetterHandler):
    """Checks the reasons in the pipeline."""

    def __init__(self):
        super().__init__("nowhere", "r1")

    def add_error_pcollection(self, pcoll):
        codes = pcoll | "Codes" >> beam.FlatMap(lambda batch: [x.reasons[0].code for x in rejected_batch(batch)])
        assert_that(codes, equal_to(["write.not_utf8", "write.not_one_value"]), label="codes")

    def verify_closed(self):
        pass


def test_event_times_become_timestamps_again():
    with local_pipeline() as pipeline:
        dicts = (
            pipeline
            | beam.Create([{"a": 1}, {"a": 2}, {"a": 13}])
            | beam.Map(lambda row: TimestampedValue(row, row["a"]))
            | beam.WindowInto(FixedWindows(10))
        )
        out = dicts | FromDicts() | ToDicts()
        stamped = out | beam.Map(lambda row, time=beam.DoFn.TimestampParam: (row["a"], float(time)))
        assert_that(stamped, equal_to([(1, 1.0), (2, 2.0), (13, 13.0)]))


def test_sliding_windows_are_refused():
    with pytest.raises(ConfigError, match=r"FromDicts would give each row once for each of its sliding windows"):
        _ = beam.Pipeline() | beam.Create([{"a": 1}]) | beam.WindowInto(SlidingWindows(10, 5)) | FromDicts()


TABLE = pa.table({"a": pa.chunked_array([[1, 2], [3]]), "s": [{"x": 1}, None, {"x": 3}]})


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (TABLE, [{"a": [1, 2, 3], "s.x": [1, None, 3]}]),
        (TABLE.to_batches()[0], [{"a": [1, 2], "s.x": [1, None]}]),
        (
            pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, None]}),
            [{"a": [1, 2], "b": ["x", None], "c": [0.5, None]}],
        ),
        (pd.DataFrame({"a": [1]}, index=pd.Index(["k"], name="key")), [{"a": [1], "key": ["k"]}]),
        (pd.DataFrame({"a": [1, 2]})[1:], [{"a": [2]}]),
        (pa.table({}), []),
    ],
    ids=["table", "batch", "frame", "index", "slice", "empty"],
)
def test_tables_become_batches(table, expected):
    assert [batch.to_pydict() for batch in table_batches(table)] == expected


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ([1], DataError, "FromTables takes pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame, got list"),
        (pd.DataFrame({"a": [1]}, index=["k"]), DataError, "the index of a DataFrame has no name, and would be lost"),
        (pd.DataFrame({0: [1]}), DataError, "must be named by a text, got 0"),
        (pd.DataFrame({"a": [1, "x"]}), DataError, "a column that Arrow cannot hold: .*column a"),
        (pa.table({"_split": [1]}), InputError, "column name '_split' is reserved"),
        (pa.table([[1], [2]], ["a", "a"]), InputError, "column name 'a' appears more than once"),
        (pa.table({"": [1]}), InputError, "has no name"),
    ],
    ids=["list", "index", "number", "mixed", "reserved", "twice", "no_name"],
)
def test_tables_that_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        list(table_batches(table))


def test_large_tables_are_cut():
    batches = list(table_batches(pa.table({"a": range(200_000)})))
    assert [batch.num_rows for batch in batches] == [50_000] * 4


def test_tables_with_a_schema_and_a_time(tmp_path):
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    table = pa.table({"id": ["1", "x"], "user": [{"name": "Ann"}] * 2})
    with local_pipeline() as pipeline:
        stamped = pipeline | beam.Create([table]) | "Stamp" >> beam.Map(lambda value: TimestampedValue(value, 7))
        batches = stamped | FromTables(SCHEMA).with_error_handler(handler)
        _ = batches | WriteDataset(
            str(tmp_path), num_shards=1, dead_letters=handler, run_id="r1", max_reject_fraction=1
        )
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_out, manifest.rejected_by_reason) == (1, {"schema.type": 1})
    assert manifest.shards[0].event_time == ("1970-01-01T00:00:07.000000Z", "1970-01-01T00:00:07.000000Z")


def test_messages_become_rows_or_dead_letters():
    converter = FromMessages("json", schema_of('feature { name: "a" type: INT }'))._converter
    messages = [b'{"a": 1}', b"nonsense", b'{"a": "x"}', b'{"a": 2, "b": 3}']
    batches, ((letters, _, _),) = gathered(converter, [(each, 5 + i, WHOLE) for i, each in enumerate(messages)])
    ((batch, _, _),) = batches
    assert batch.select(["a", EVENT_TIME]).to_pydict() == {"a": [1, 2], EVENT_TIME: [utc(5), utc(8)]}
    assert rejected_later(batch, 1) == '{"a": 2, "b": 3}', "a later step rejects the bytes that came in"
    assert [(each.payload, each.position, each.event_time[:19], each.reasons[0].code) for each in letters] == [
        ("nonsense", -1, "1970-01-01T00:00:06", "jsonl.parse"),
        ('{"a": "x"}', -1, "1970-01-01T00:00:07", "schema.type"),
    ]


def rejected_later(batch, row):
    (letter,) = row_letters(batch, {row: [Reason("rule.x", "no")]}, "validate")
    return letter.payload


def test_messages_of_other_formats():
    converter = FromMessages("csv", options={"column_names": ["a", "b"]})._converter
    assert isinstance(converter, _ConvertsMessages)
    ((batch, _, _),), _ = gathered(converter, [(b"1,x", None, WHOLE), (b'2,"y"', None, WHOLE)])
    assert batch.select(["a", "b"]).to_pydict() == {"a": ["1", "2"], "b": ["x", "y"]}
    with pytest.raises(ConfigError, match="must be one of"):
        FromMessages("jason")
    with pytest.raises(DataError, match="FromMessages takes bytes, got str"):
        gathered(FromMessages("raw")._converter, [("text", None, WHOLE)])


class Named(typing.NamedTuple):
    a: int


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([{"a": 1}], r"got Dict\[.*\]: put FromDicts\(\) before it"),
        ([beam.Row(a=1)], r"got Row\(a=<class 'int'>\): put FromRows\(\) before it"),
        ([Named(1)], r"got Named: put FromRows\(\) before it"),
        ([b"a"], r"got bytes: put FromMessages\(\) before it"),
        ([pa.table({"a": [1]})], r"got Table: put FromTables\(\) before it"),
        ([1], r"got int: an adapter such as FromDicts\(\) makes batches of rows"),
    ],
    ids=["dict", "row", "named_tuple", "bytes", "table", "int"],
)
def test_error_at_what_is_no_batch_names_the_adapter(tmp_path, elements, message):
    created = beam.Pipeline() | beam.Create(elements)
    with pytest.raises(TypeCheckError, match=f"WriteDataset takes pyarrow.RecordBatch, {message}"):
        _ = created | WriteDataset(str(tmp_path / "out"))
    with pytest.raises(TypeCheckError, match=f"CountRows takes pyarrow.RecordBatch, {message}"):
        _ = created | CountRows()


TAKERS = {
    name: make
    for name, make in {
        "ValidateRecords": lambda: transforms.ValidateRecords(SCHEMA),
        "AssignSplit": lambda: transforms.AssignSplit({"train": 1.0}),
        "AssignShuffleKey": lambda: transforms.AssignShuffleKey(0),
        "AssignEventTime": lambda: transforms.AssignEventTime("a"),
        "KeepSource": transforms.KeepSource,
        "InferSchema": transforms.InferSchema,
        "ToDicts": ToDicts,
        "ToRows": lambda: ToRows(SCHEMA),
        "RejectDuplicates": lambda: transforms.RejectDuplicates([transforms.UniqueKey(("a",))]),
    }.items()
}


@pytest.mark.parametrize("name", TAKERS)
def test_every_transform_of_batches_names_the_adapter(name):
    with pytest.raises(TypeCheckError, match=rf"{name} takes pyarrow.RecordBatch, got Dict\[.*\]: put FromDicts\(\)"):
        _ = beam.Pipeline() | beam.Create([{"a": 1}]) | TAKERS[name]()


def test_error_at_elements_of_unknown_type_names_the_adapter_too(tmp_path):
    pipeline = local_pipeline()
    dicts = pipeline | beam.Create([{"a": 1}]) | beam.Map(lambda row: row).with_output_types(typing.Any)
    _ = dicts | WriteDataset(str(tmp_path / "out"), num_shards=1)
    with pytest.raises(ConfigError, match=r"WriteDataset takes pyarrow.RecordBatch, got dict: put FromDicts\(\)"):
        pipeline.run().wait_until_finish()


@pytest.mark.parametrize(
    ("converter", "element", "message"),
    [
        (ANY, beam.Row(a=1), r"FromDicts takes dicts, got Row: put FromRows\(\) in its place"),
        (ANY, 3, "FromDicts takes dicts, got int: make a dict of it before"),
    ],
)
def test_elements_of_another_adapter(converter, element, message):
    with pytest.raises(DataError, match=message):
        gathered(converter, [(element, None, WHOLE)])


def test_rows_of_unknown_type_are_read_as_they_are():
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create([1, 2]) | beam.Map(lambda a: beam.Row(a=a)).with_output_types(typing.Any)
        assert_that(rows | FromRows() | ToDicts(), equal_to([{"a": 1}, {"a": 2}]))
