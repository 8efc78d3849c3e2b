import datetime
import pickle

import numpy as np
import pyarrow as pa
import pytest
from depth import on_shared_path
from helpers import write_orc
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import orc

from penstock.io.batches import MAX_BATCH_ROWS
from penstock.io.errors import InputError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.base import Part
from penstock.io.formats.orc import OrcFormat
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind

TABLE = pa.table(
    {
        "id": pa.array(range(10), pa.int64()),
        "name": pa.array(["a", None, "ü", "", "b"] * 2),
        "trip": pa.array([{"km": i, "to": {"city": f"c{i}"}} if i % 2 else None for i in range(10)]),
        "tags": pa.array([["x", "y"], [], None, ["z"], [None]] * 2),
        "day": pa.array(range(10), pa.date32()),
    }
)


def write(path, table=TABLE, stripe_rows=100, **options):
    write_orc(path, table, stripe_rows, **options)
    return stat_file(str(path))


def read(file, features=None, parts=None, reader=None):
    reader = reader or OrcFormat()
    parts = list(reader.plan(file)) if parts is None else parts
    return [parsed for part in parts for parsed in reader.read(file, part, features)]


def table_of(parsed):
    return pa.Table.from_batches([part.batch for part in parsed])


def positions_of(parsed):
    return [row["position"] for part in parsed for row in part.batch.column(ORIGIN).to_pylist()]


@pytest.mark.parametrize("compression", ["uncompressed", "zlib", "snappy", "lz4", "zstd"])
def test_all_columns_flattened_with_row_positions(tmp_path, compression):
    file = write(tmp_path / "a.orc", stripe_rows=3, compression=compression)
    parsed = read(file)
    table = table_of(parsed)
    assert table.schema.names == ["id", "name", "trip.km", "trip.to.city", "tags", "day", ORIGIN]
    assert table.drop_columns(ORIGIN).to_pydict() == TABLE.flatten().flatten().to_pydict()
    assert positions_of(parsed) == list(range(10))
    assert table.column(ORIGIN)[0].as_py()["uri"] == file.uri
    assert OrcFormat().columns(file) == table.schema.names[:-1]


def test_only_the_columns_of_the_schema_are_read_in_its_order(tmp_path):
    file = write(tmp_path / "a.orc", stripe_rows=4)
    features = [Feature("trip.to.city", Kind.BYTES), Feature("gone", Kind.INT), Feature("id", Kind.INT)]
    table = table_of(read(file, features))
    assert table.schema.names == ["trip.to.city", "id", ORIGIN]
    assert table.column("id").to_pylist() == list(range(10))
    assert table.column("trip.to.city").to_pylist() == [f"c{i}" if i % 2 else None for i in range(10)]


def test_rows_of_a_schema_that_names_none_of_the_columns_are_still_rows(tmp_path):
    file = write(tmp_path / "a.orc", stripe_rows=4)
    parsed = read(file, [Feature("gone", Kind.INT)])
    assert table_of(parsed).schema.names == [ORIGIN]
    assert positions_of(parsed) == list(range(10))


def test_a_column_that_is_required_and_not_there_is_a_fault_of_the_file(tmp_path):
    file = write(tmp_path / "a.orc")
    with pytest.raises(InputError, match=r"a\.orc: column 'gone' is required by the schema, but the file has only id"):
        read(file, [Feature("gone", Kind.INT, required=True)])


def test_names_with_dots_and_spaces(tmp_path):
    table = pa.table({"a.b": [1, 2], "c d": ["x", "y"], "": [0.5, 1.5]})
    file = write(tmp_path / "a.orc", table.select(["a.b", "c d"]))
    assert table_of(read(file)).drop_columns(ORIGIN).to_pydict() == table.select(["a.b", "c d"]).to_pydict()
    with pytest.raises(InputError, match="column 3 has no name"):
        read(write(tmp_path / "b.orc", table))
    clash = pa.table({"a.b": [1], "a": [{"b": 2}]})
    with pytest.raises(InputError, match=r"column name .a\.b. appears more than once"):
        read(write(tmp_path / "c.orc", clash))


def test_parts_are_runs_of_stripes_by_their_bytes(tmp_path):
    table = pa.table({"x": np.random.default_rng(0).random(10_000)})
    file = write(tmp_path / "a.orc", table, 1000, compression="uncompressed")
    assert list(OrcFormat().plan(file)) == [Part(0, 10)]
    thirds = list(OrcFormat(part_bytes=file.size // 3).plan(file))
    assert [(part.start, part.end) for part in thirds] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    each = list(OrcFormat(part_bytes=1).plan(file))
    assert [(part.start, part.end) for part in each] == [(index, index + 1) for index in range(10)]
    assert positions_of(read(file, parts=each[::-1])) == [
        row for stripe in range(9, -1, -1) for row in range(stripe * 1000, stripe * 1000 + 1000)
    ]


def test_the_tail_is_the_last_stripe(tmp_path):
    file = write(tmp_path / "a.orc", stripe_rows=4)
    assert positions_of(read(file, parts=[OrcFormat().tail(file)])) == [8, 9]
    empty = write(tmp_path / "b.orc", TABLE.slice(0, 0))
    assert OrcFormat().tail(empty) == Part(0, 0)


def test_a_file_without_rows(tmp_path):
    file = write(tmp_path / "a.orc", TABLE.slice(0, 0))
    assert list(OrcFormat().plan(file)) == [Part(0, 0)]
    assert read(file) == []
    with pytest.raises(InputError, match="'gone' is required"):
        read(file, [Feature("gone", Kind.INT, required=True)])


def test_a_large_stripe_comes_in_batches(tmp_path):
    rows = 2 * MAX_BATCH_ROWS + 5
    file = write(tmp_path / "a.orc", pa.table({"x": range(rows)}), rows)
    parsed = read(file)
    assert max(part.batch.num_rows for part in parsed) <= MAX_BATCH_ROWS
    assert table_of(parsed).column("x").to_pylist() == positions_of(parsed) == list(range(rows))


def test_texts_that_are_not_utf8_are_dead_letters(tmp_path):
    raw = pa.array([b"ok", b"\xff", None, b"\xe2\x82"])
    text = pa.StringArray.from_buffers(4, raw.buffers()[1], raw.buffers()[2], raw.buffers()[0], 1)
    (parsed,) = read(write(tmp_path / "a.orc", pa.table({"id": range(4), "name": text})))
    assert parsed.batch.column("id").to_pylist() == [0, 2]
    letters = list(parsed.rejected)
    assert [(letter.reasons[0].code, letter.position) for letter in letters] == [("orc.utf8", 1), ("orc.utf8", 3)]
    assert letters[0].reasons[0].detail == "column 'name': the text is not UTF-8"


@pytest.mark.parametrize("year", [1, 1600, 9999])
def test_timestamps_that_arrow_cannot_hold_are_told_and_not_wrapped(tmp_path, year):
    times = pa.array([datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)], pa.timestamp("us", "UTC"))
    file = write(tmp_path / "a.orc", pa.table({"t": times}))
    with pytest.raises(InputError, match=r"a\.orc: stripe 0 cannot be read: .*out of range.*"):
        read(file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-30],
        lambda data: data[: len(data) // 2],
        lambda data: b"ORC",
        lambda data: b"",
        lambda _: b"x" * 99,
    ],
    ids=["tail", "half", "magic", "empty", "other"],
)
def test_what_is_no_orc_file_is_told(tmp_path, damage):
    path = tmp_path / "a.orc"
    write(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"a\.orc: not an ORC file, or its footer is damaged or cut off"):
        list(OrcFormat().plan(stat_file(str(path))))


def test_a_damaged_stripe_is_told(tmp_path):
    path = tmp_path / "a.orc"
    write(path, pa.table({"x": [f"some text {row * 7919}" for row in range(5000)]}), 1000, compression="zlib")
    data = bytearray(path.read_bytes())
    data[100:600] = b"\xff" * 500
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.orc: stripe 0 cannot be read: .*; correct the file, or write it anew"):
        read(stat_file(str(path)))


def test_a_compressed_file_is_refused(tmp_path):
    path = tmp_path / "a.orc.gz"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.orc\.gz: ORC is compressed inside.*unpack it first"):
        read(stat_file(str(path)))


def test_pickles():
    assert pickle.loads(pickle.dumps(OrcFormat(7))) == OrcFormat(7)


VALUES = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(allow_nan=False),
        "s": st.none() | st.text(max_size=5),
        "b": st.none() | st.binary(max_size=5),
        "l": st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3),
        "n": st.none() | st.fixed_dictionaries({"x": st.none() | st.booleans()}),
    }
)
TYPES = pa.schema(
    [
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("b", pa.binary()),
        ("l", pa.list_(pa.int64())),
        ("n", pa.struct([("x", pa.bool_())])),
    ]
)


@given(
    rows=st.lists(VALUES, max_size=30), stripe_rows=st.integers(1, 12), part_bytes=st.sampled_from([1, 300, 1 << 20])
)
@on_shared_path(60)
def test_any_rows_in_any_stripes_are_those_that_arrow_reads(tmp_path, rows, stripe_rows, part_bytes):
    table = pa.Table.from_pylist(rows, TYPES)
    file = write(tmp_path / "a.orc", table, stripe_rows)
    parsed = read(file, reader=OrcFormat(part_bytes))
    assert positions_of(parsed) == list(range(len(rows)))
    if rows:
        assert table_of(parsed).drop_columns(ORIGIN).to_pylist() == orc.read_table(file.uri).flatten().to_pylist()
        assert orc.read_table(file.uri).to_pylist() == table.to_pylist()


@pytest.mark.parametrize("table", [{"name": [1]}, {"a": [{"name": 1}]}], ids=str)
def test_names_that_are_not_utf8_are_refused(tmp_path, table):
    path = tmp_path / "a.orc"
    write(path, pa.table(table))
    path.write_bytes(path.read_bytes().replace(b"name", b"nam\xe9"))
    for action in (OrcFormat().columns, read):
        with pytest.raises(InputError, match=r"a\.orc: the column name b'nam\\xe9' is not UTF-8; write the file"):
            action(stat_file(str(path)))


class TestBounds:
    """What is small in the file and large in memory, with a limit of 50,000 bytes a stripe."""

    READER = OrcFormat(max_stripe_bytes=50_000)

    @pytest.mark.parametrize(
        ("column", "size"),
        [
            pytest.param([7] * 10_000, 80_000, id="numbers"),
            pytest.param(["z" * 1000] * 100, 100_800, id="texts"),
            pytest.param([b"z" * 1000] * 100, 100_800, id="bytes"),
            pytest.param([[1] * 5000, [], [2] * 5000], 80_024, id="lists"),
            pytest.param([{"a": {"b": 1}}] * 10_000, 80_000, id="structs"),
        ],
    )
    def test_a_stripe_that_would_be_too_large_is_refused(self, tmp_path, column, size):
        file = write(tmp_path / "a.orc", pa.table({"x": column}), stripe_rows=1 << 20, compression="zstd")
        message = rf"a\.orc: stripe 0 has {len(column)} rows, of about {size} bytes when they are decoded, over the"
        with pytest.raises(InputError, match=message):
            read(file, reader=self.READER)

    def test_smaller_stripes_and_fewer_columns_are_read(self, tmp_path):
        table = pa.table({"x": [7] * 10_000, "y": ["z" * 100] * 10_000})
        file = write(tmp_path / "a.orc", table, stripe_rows=1 << 20)
        with pytest.raises(InputError, match=r"over the limit of 50000; pass a schema of fewer columns"):
            read(file, reader=self.READER)
        reader = OrcFormat(max_stripe_bytes=100_000)
        assert sum(parsed.batch.num_rows for parsed in read(file, [Feature("x", Kind.INT)], reader=reader)) == 10_000

    def test_a_type_that_is_refused_is_shown_before_it_is_decoded(self, tmp_path):
        column = pa.array([[("k" * 300, 1)]], pa.map_(pa.string(), pa.int64()))
        first = next(OrcFormat().read(write(tmp_path / "a.orc", pa.table({"a": column})), Part(), None)).batch
        assert (first.num_rows, first.schema.field("a").type) == (0, column.type)
