"""A row for each item of a list, in all formats that have lists of objects."""

import json

import fastavro
import pyarrow as pa
import pytest
from depth import on_shared_path
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import orc, parquet

from penstock.io.batches import notes_of
from penstock.io.columns.conform import conform_batch
from penstock.io.errors import ConfigError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.json.arrow import ArrowReader
from penstock.io.formats.partitioned import PartitionedFormat
from penstock.io.formats.registry import FORMATS
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind
from penstock.io.sources.read import ReadPartFn
from penstock.io.sources.watch import latest_event_time

ROWS = [
    {"id": 1, "events": [{"x": 1, "y": "a"}, {"x": 2, "y": None}]},
    {"id": 2, "events": []},
    {"id": 3, "events": None},
    {"id": 4, "events": [{"x": 3, "y": "é"}]},
]
EXPLODED = [(1, 1, "a"), (1, 2, None), (2, None, None), (3, None, None), (4, 3, "é")]
FEATURES = [Feature("id", Kind.INT), Feature("events.x", Kind.INT, required=False), Feature("events.y", Kind.BYTES)]

_EVENT = {
    "type": "record",
    "name": "E",
    "fields": [{"name": "x", "type": "long"}, {"name": "y", "type": ["null", "string"]}],
}
_AVRO = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "events", "type": ["null", {"type": "array", "items": _EVENT}]},
    ],
}


def _table():
    item = pa.struct([("x", pa.int64()), ("y", pa.string())])
    return pa.Table.from_pylist(ROWS, pa.schema([("id", pa.int64()), ("events", pa.list_(item))]))


def _write_avro(path):
    with path.open("wb") as file:
        fastavro.writer(file, _AVRO, ROWS)


WRITERS = {
    "jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8"),
    "avro": _write_avro,
    "parquet": lambda path: parquet.write_table(_table(), path),
    "orc": lambda path: orc.write_table(_table(), path),
}


def parsed_of(path, features=None, name=None, **options):
    reader = FORMATS[name or path.suffix[1:]].make(**options)
    file = stat_file(str(path))
    for part in reader.plan(file):
        yield from reader.read(file, part, features)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("features", [None, FEATURES], ids=["all", "schema"])
def test_items_are_rows_with_the_position_of_their_object(tmp_path, name, features):
    path = tmp_path / f"t.{name}"
    WRITERS[name](path)
    rows, positions = [], []
    for parsed in parsed_of(path, features, explode="events"):
        assert not parsed.rejected
        assert parsed.source is None
        batch = parsed.batch if features is None else conform_batch(parsed.batch, features)[0]
        rows += batch.select(["id", "events.x", "events.y"]).to_pylist()
        positions += batch.column(ORIGIN).field("position").to_pylist()
    assert [tuple(row.values()) for row in rows] == EXPLODED
    assert [positions.index(position) for position in positions] == [0, 0, 2, 3, 4]


@pytest.mark.parametrize("name", WRITERS)
def test_a_schema_without_the_items_is_refused_when_the_pipeline_is_built(name):
    reader = FORMATS[name].make(explode="events")
    for wrapped in (reader, PartitionedFormat(reader)):
        with pytest.raises(ConfigError, match=r"--explode events: the schema has no feature 'events' or 'events\.\*'"):
            ReadPartFn(wrapped, FEATURES[:1], order_key=False, keep_source=False)
        ReadPartFn(wrapped, FEATURES[:2], order_key=False, keep_source=False)
        ReadPartFn(wrapped, None, order_key=False, keep_source=False)


@pytest.mark.parametrize("name", WRITERS)
def test_columns_beside_the_list_are_read_by_themselves(tmp_path, name):
    path = tmp_path / f"t.{name}"
    WRITERS[name](path)
    rows = [row["id"] for parsed in parsed_of(path, FEATURES[:1], explode="events") for row in parsed.batch.to_pylist()]
    assert rows == [id_ for id_, _, _ in EXPLODED]
    assert latest_event_time(FORMATS[name].make(explode="events"), stat_file(str(path)), "id:s", FEATURES) == 4_000_000


@pytest.mark.parametrize("name", ["avro", "parquet", "orc"])
def test_declared_columns_are_those_of_the_items(tmp_path, name):
    path = tmp_path / f"t.{name}"
    WRITERS[name](path)
    reader = FORMATS[name].make(explode="events")
    assert list(reader.columns(stat_file(str(path)))) == ["id", "events.x", "events.y"]
    with pytest.raises(ConfigError, match="--explode id: the column has type int64, which is no list"):
        FORMATS[name].make(explode="id").columns(stat_file(str(path)))


def test_texts_of_items_that_are_not_utf8_are_rejected_alone(tmp_path):
    item = pa.struct([("y", pa.binary())])
    table = pa.Table.from_pylist([{"events": [{"y": b"a"}, {"y": b"\xff"}]}], pa.schema([("events", pa.list_(item))]))
    text = pa.list_(pa.struct([("y", pa.string())]))
    raw = pa.ListArray.from_buffers(text, 1, table.column(0).chunk(0).buffers()[:2], children=[
        pa.StructArray.from_arrays([pa.array([b"a", b"\xff"]).view(pa.string())], ["y"])
    ])  # fmt: skip
    parquet.write_table(pa.table({"events": raw}), tmp_path / "t.parquet")
    (parsed,) = parsed_of(tmp_path / "t.parquet", explode="events")
    assert parsed.batch.column("events.y").to_pylist() == ["a"]
    assert len(parsed.rejected) == 1


# JSON: row by row, and by Arrow.

events = st.none() | st.lists(
    st.none()
    | st.fixed_dictionaries({}, optional={"x": st.integers(0, 9), "o": st.fixed_dictionaries({"p": st.text()})}),
    max_size=3,
)
objects = st.fixed_dictionaries({"id": st.integers(0, 9)}, optional={"events": events, "t": st.text(max_size=3)})


def python_rows(found):
    for row in found:
        for item in row.get("events") or [None]:
            item = item or {}
            flat = {
                "id": row["id"],
                "t": row.get("t"),
                "events.x": item.get("x"),
                "events.o.p": item.get("o", {}).get("p"),
            }
            yield {name: value for name, value in flat.items() if value is not None}


@pytest.mark.parametrize("is_typed", [False, True])
@pytest.mark.parametrize("repeat", [1, 30], ids=["few", "many"])
@on_shared_path(100)
@given(st.lists(objects, min_size=1, max_size=8))
def test_any_lists_of_objects_in_json(tmp_path, is_typed, repeat, found):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found * repeat), encoding="utf-8")
    kinds = {"id": Kind.INT, "t": Kind.BYTES, "events.x": Kind.INT, "events.o.p": Kind.BYTES}
    features = [Feature(name, kind) for name, kind in kinds.items()] if is_typed else None
    rows = []
    for parsed in parsed_of(path, features, explode="events"):
        assert not parsed.rejected
        for row in parsed.batch.to_pylist():
            del row[ORIGIN]
            rows.append({name: value for name, value in row.items() if value is not None})
    assert rows == list(python_rows(found * repeat))


@pytest.mark.parametrize("features", [None, FEATURES], ids=["all", "schema"])
def test_ordinary_json_is_exploded_by_arrow(tmp_path, monkeypatch, features):
    parsed_rows = []
    parse = ArrowReader.parse

    def spy(self, data, rows):
        found = parse(self, data, rows)
        parsed_rows.append(None if found is None else len(found.lines))
        return found

    monkeypatch.setattr(ArrowReader, "parse", spy)
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 200), encoding="utf-8")
    list(parsed_of(path, features, explode="events"))
    assert parsed_rows == [1000]


def test_a_fault_in_an_item_rejects_the_line_with_its_bytes(tmp_path):
    line = b'{"id":1,"events":[{"x":1},{"x":[[2]]}]}'
    (tmp_path / "t.jsonl").write_bytes(line + b"\n" + b'{"id":2,"events":[{"x":3},{"x":4}]}\n' * 50)
    (parsed,) = parsed_of(tmp_path / "t.jsonl", FEATURES[:2], explode="events")
    (letter,) = parsed.rejected
    assert letter.payload == line.decode()
    assert letter.reasons[0].code == "jsonl.type"
    assert parsed.batch.column("events.x").to_pylist() == [3, 4] * 50


@pytest.mark.parametrize("repeat", [1, 100], ids=["few", "many"])
def test_members_of_many_items_are_not_repeated_without_bound(tmp_path, monkeypatch, repeat):
    for module in ("rows", "arrow"):
        monkeypatch.setattr(f"penstock.io.formats.json.{module}.MAX_EXPLODED_BYTES", 10_000)
    small, large = b'{"t":"a","e":[1,2]}\n', b'{"t":"%s","e":[%s0]}\n' % (b"x" * 1000, b"1," * 50)
    (tmp_path / "t.jsonl").write_bytes(small * repeat + large)
    (parsed,) = parsed_of(tmp_path / "t.jsonl", explode="e")
    (letter,) = parsed.rejected
    assert letter.reasons[0].code == "jsonl.too_long"
    assert "'e' has 51 items, and to repeat the other members" in letter.reasons[0].detail
    assert parsed.batch.num_rows == 2 * repeat


def test_the_object_around_all_rows_is_exploded(tmp_path):
    text = json.dumps({"meta": {"page": 1}, "data": [{"a": 1}, {"a": 2}]}, indent=2)
    (tmp_path / "t.json").write_text(text, encoding="utf-8")
    (parsed,) = parsed_of(tmp_path / "t.json", name="jsonl", explode="data")
    assert [(row["data.a"], row["meta.page"]) for row in parsed.batch.to_pylist()] == [(1, 1), (2, 1)]


# What is left out without it.


@pytest.mark.parametrize("repeat", [1, 100], ids=["few", "many"])
@pytest.mark.parametrize("block_bytes", [60, 1 << 20])
def test_lists_that_no_column_can_hold_are_noted(tmp_path, repeat, block_bytes):
    lines = [
        {"id": 1, "events": [{"x": 1}, None], "o": {"m": [[1], [2]]}},
        {"id": 2, "events": [], "o": {"m": [[]]}},
        {"id": 3, "events": [None, {"x": 1, "z": [1]}]},
        {"id": 4, "events": None, "tags": ["a", "b"]},
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines * repeat), encoding="utf-8")
    counts, rows = {}, 0
    for parsed in parsed_of(tmp_path / "t.jsonl", block_bytes=block_bytes):
        assert not parsed.rejected
        rows += parsed.batch.num_rows
        for note in notes_of(parsed.batch):
            assert (note.code, f"--explode {note.subject} makes a row" in note.detail) == ("left_out", True)
            counts[note.subject] = counts.get(note.subject, 0) + note.count
    assert counts == {"events": 2 * repeat, "o.m": 2 * repeat}
    assert rows == 4 * repeat
