import base64
import bz2
import datetime as dt
import decimal
import gzip
import json
import lzma
import pickle
import uuid
import zlib

import fastavro
import pyarrow as pa
import pytest
from depth import on_shared_path
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import MAX_BATCH_ROWS
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.avro.format import AvroFormat
from penstock.io.formats.base import Part
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind

UTC = dt.UTC


def record(*fields, name="row"):
    return {"type": "record", "name": name, "fields": [{"name": key, "type": kind} for key, kind in fields]}


SIMPLE = record(("id", "long"), ("name", ["null", "string"]))


def simple_rows(count):
    return [{"id": index, "name": f"n{index}" if index % 3 else None} for index in range(count)]


def write(path, schema, rows, **options):
    with open(path, "wb") as out:
        fastavro.writer(out, schema, rows, **options)
    return stat_file(str(path))


def retype(file, schema):
    """The same blocks under a header with another schema: what a writer that checks nothing leaves behind."""
    with open(file.uri, "rb") as stored:
        content = stored.read()
    sync = content[-16:]
    with open(file.uri, "wb") as out:
        fastavro.writer(out, schema, [], sync_marker=sync)
        out.write(content[content.index(sync) + 16 :])
    return stat_file(file.uri)


def read(file, features=None, reader=None, parts=None):
    reader = reader or AvroFormat()
    parts = list(reader.plan(file)) if parts is None else parts
    return [parsed for part in parts for parsed in reader.read(file, part, features)]


def rows_of(parsed):
    return [row for part in parsed for row in part.batch.drop_columns([ORIGIN]).to_pylist()]


def positions_of(parsed):
    return [row["position"] for part in parsed for row in part.batch.column(ORIGIN).to_pylist()]


def read_column(tmp_path, kind, values, **options):
    file = write(tmp_path / "a.avro", record(("x", kind)), [{"x": value} for value in values], **options)
    (parsed,) = read(file)
    return parsed.batch.column("x")


@pytest.mark.parametrize(
    ("kind", "arrow_type", "values"),
    [
        pytest.param("boolean", pa.bool_(), [True, False], id="boolean"),
        pytest.param("int", pa.int32(), [-(2**31), 2**31 - 1], id="int"),
        pytest.param("long", pa.int64(), [-(2**63), 2**63 - 1], id="long"),
        pytest.param("float", pa.float32(), [0.5, float("-inf")], id="float"),
        pytest.param("double", pa.float64(), [0.1, 1e300], id="double"),
        pytest.param("bytes", pa.binary(), [b"\xff\x00", b""], id="bytes"),
        pytest.param("string", pa.string(), ["é", "", "a\0b"], id="string"),
        pytest.param({"type": "enum", "name": "e", "symbols": ["A", "B"]}, pa.string(), ["B", "A"], id="enum"),
        pytest.param({"type": "fixed", "name": "f", "size": 2}, pa.binary(), [b"\xff\x00"], id="fixed"),
        pytest.param({"type": "array", "items": "int"}, pa.list_(pa.int32()), [[1, 2], []], id="array"),
        pytest.param(
            {"type": "array", "items": ["null", "string"]}, pa.list_(pa.string()), [["a", None]], id="array-of-nullable"
        ),
        pytest.param(["null", "double"], pa.float64(), [None, 1.5], id="nullable"),
        pytest.param(["string"], pa.string(), ["a"], id="union-of-one"),
        pytest.param("null", pa.null(), [None, None], id="null"),
        pytest.param(["null"], pa.null(), [None], id="union-of-null"),
        pytest.param(["int", "null", "long"], pa.int64(), [1, None, 2**40], id="int-and-long"),
        pytest.param(["float", "double"], pa.float64(), [0.5, 0.1], id="float-and-double"),
    ],
)
def test_types_and_values(tmp_path, kind, arrow_type, values):
    column = read_column(tmp_path, kind, values)
    assert column.type == arrow_type
    assert column.to_pylist() == values


WHEN = dt.datetime(2013, 1, 31, 5, 15, 59, 123456)


@pytest.mark.parametrize(
    ("base", "logical", "arrow_type", "value", "expected"),
    [
        pytest.param("int", "date", pa.date32(), WHEN.date(), WHEN.date(), id="date"),
        pytest.param("int", "time-millis", pa.time32("ms"), dt.time(5, 15), dt.time(5, 15), id="time-millis"),
        pytest.param("long", "time-micros", pa.time64("us"), WHEN.time(), WHEN.time(), id="time-micros"),
        pytest.param(
            "long",
            "timestamp-millis",
            pa.timestamp("ms", "UTC"),
            WHEN.replace(tzinfo=UTC),
            WHEN.replace(tzinfo=UTC, microsecond=123000),
            id="timestamp-millis",
        ),
        pytest.param(
            "long",
            "timestamp-micros",
            pa.timestamp("us", "UTC"),
            WHEN.replace(tzinfo=UTC),
            WHEN.replace(tzinfo=UTC),
            id="timestamp-micros",
        ),
        pytest.param("long", "local-timestamp-micros", pa.timestamp("us"), WHEN, WHEN, id="local-timestamp"),
    ],
)
def test_times(tmp_path, base, logical, arrow_type, value, expected):
    column = read_column(tmp_path, ["null", {"type": base, "logicalType": logical}], [value, None])
    assert column.type == arrow_type
    assert column.to_pylist() == [expected, None]


def test_times_beyond_the_calendar_stay_exact(tmp_path):
    file = write(tmp_path / "a.avro", record(("x", "long")), [{"x": 2**62}])
    (parsed,) = read(retype(file, record(("x", {"type": "long", "logicalType": "timestamp-micros"}))))
    assert parsed.batch.schema.field("x").type == pa.timestamp("us", "UTC")
    assert parsed.batch.column("x").cast(pa.int64()).to_pylist() == [2**62]


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
        {"type": "fixed", "name": "d", "size": 4, "logicalType": "decimal", "precision": 6, "scale": 2},
    ],
    ids=["bytes", "fixed"],
)
def test_decimals(tmp_path, kind):
    values = [decimal.Decimal("-1234.56"), decimal.Decimal("0.10"), None]
    column = read_column(tmp_path, ["null", kind], values)
    assert column.type == pa.decimal128(6, 2)
    assert column.to_pylist() == values


def test_wide_decimals_and_uuids(tmp_path):
    wide = {"type": "bytes", "logicalType": "decimal", "precision": 50, "scale": 0}
    number, key = decimal.Decimal("9" * 50), uuid.uuid4()
    assert read_column(tmp_path, wide, [number]).type == pa.decimal256(50, 0)
    assert read_column(tmp_path, wide, [number]).to_pylist() == [number]
    assert read_column(tmp_path, {"type": "string", "logicalType": "uuid"}, [key]).to_pylist() == [str(key)]


def test_decimal_of_too_many_digits_rejects_its_row(tmp_path):
    rows = [{"id": 1, "x": b"\x01"}, {"id": 2, "x": b"\x01\x86\xa1"}]
    file = write(tmp_path / "a.avro", record(("id", "int"), ("x", "bytes")), rows)
    number = {"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 1}
    parsed = read(retype(file, record(("id", "int"), ("x", number))))
    assert rows_of(parsed) == [{"id": 1, "x": decimal.Decimal("0.1")}]
    ((letter,),) = [part.rejected for part in parsed if part.rejected]
    assert (letter.reasons[0].code, letter.position, letter.stage) == ("avro.value", 1, "read")
    assert letter.reasons[0].detail.startswith("column 'x': ")


def test_text_that_is_not_utf8_rejects_its_row_with_the_bytes(tmp_path):
    rows = [{"id": index, "name": f"name {index}"} for index in range(3)]
    file = write(tmp_path / "a.avro", SIMPLE, rows, codec="null")
    path = tmp_path / "a.avro"
    path.write_bytes(path.read_bytes().replace(b"name 1", b"n\xff\xfee 1"))
    parsed = read(file)
    assert [row["id"] for row in rows_of(parsed)] == [0, 2]
    assert positions_of(parsed) == [0, 2]
    ((letter,),) = [part.rejected for part in parsed if part.rejected]
    assert (letter.reasons[0].code, letter.uri, letter.position) == ("avro.utf8", file.uri, 1)
    assert letter.reasons[0].detail == "column 'name': the text is not UTF-8"
    assert json.loads(letter.payload) == {"id": 1, "name": {"base64": "bv/+ZSAx"}}


def test_nested_records_become_dotted_columns_and_names_are_resolved(tmp_path):
    point = record(("lat", "double"), ("lon", ["null", "double"]), name="point")
    schema = record(("from", point), ("to", ["null", "point"]), ("via", {"type": "array", "items": "point"}))
    here = {"lat": 1.0, "lon": None}
    file = write(
        tmp_path / "a.avro", schema, [{"from": here, "to": None, "via": [here]}, {"from": here, "to": here, "via": []}]
    )
    assert AvroFormat().columns(file) == ["from.lat", "from.lon", "to.lat", "to.lon", "via"]
    assert rows_of(read(file)) == [
        {"from.lat": 1.0, "from.lon": None, "to.lat": None, "to.lon": None, "via": [here]},
        {"from.lat": 1.0, "from.lon": None, "to.lat": 1.0, "to.lon": None, "via": []},
    ]
    features = [Feature("to.lat", Kind.FLOAT), Feature("gone", Kind.INT)]
    assert rows_of(read(file, features)) == [{"to.lat": None}, {"to.lat": 1.0}]


REFUSED = [
    pytest.param({"type": "map", "values": "int"}, {"a": 1}, "a map", id="map"),
    pytest.param(["int", "string"], "a", "a union of int and string", id="union"),
    pytest.param(["null", "long", "double"], 0.5, "a union of long and double", id="union-that-loses"),
    pytest.param({"type": "array", "items": ["int", "string"]}, [1], "an array that holds a union", id="array"),
    pytest.param(["null", "row"], None, "a recursive record", id="recursive"),
    pytest.param(
        {"type": "bytes", "logicalType": "decimal", "precision": 80},
        decimal.Decimal(1),
        "a decimal of 80",
        id="decimal",
    ),
]


@pytest.mark.parametrize(("kind", "value", "what"), REFUSED)
def test_types_without_a_faithful_column_are_refused_by_name_only_where_needed(tmp_path, kind, value, what):
    file = write(tmp_path / "a.avro", record(("id", "int"), ("x", kind)), [{"id": 1, "x": value}])
    assert AvroFormat().columns(file) == ["id", "x"]
    assert rows_of(read(file, [Feature("id", Kind.INT)])) == [{"id": 1}]
    for features in (None, [Feature("x", Kind.BYTES)]):
        with pytest.raises(ConfigError, match=rf"a\.avro: column 'x' is {what}"):
            read(file, features)


def test_refused_field_of_a_record_does_not_take_the_others_with_it(tmp_path):
    inner = record(("ok", "int"), ("bad", {"type": "map", "values": "int"}), name="inner")
    file = write(tmp_path / "a.avro", record(("in", inner)), [{"in": {"ok": 1, "bad": {}}}])
    assert rows_of(read(file, [Feature("in.ok", Kind.INT)])) == [{"in.ok": 1}]
    with pytest.raises(ConfigError, match=r"column 'in\.bad' is a map"):
        read(file)


def test_other_schema_lacking_a_required_column_is_an_input_error(tmp_path):
    file = write(tmp_path / "a.avro", SIMPLE, simple_rows(3))
    with pytest.raises(
        InputError, match=r"a\.avro: column 'fare' is required by the schema, but the file has only id, name"
    ):
        read(file, [Feature("fare", Kind.FLOAT, required=True)])


def test_no_named_column_at_all_still_gives_the_rows(tmp_path):
    (parsed,) = read(write(tmp_path / "a.avro", SIMPLE, simple_rows(3)), [Feature("gone", Kind.INT)])
    assert parsed.batch.schema.names == [ORIGIN]
    assert parsed.batch.num_rows == 3


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_codecs(tmp_path, codec):
    file = write(tmp_path / "a.avro", SIMPLE, simple_rows(500), codec=codec, sync_interval=500)
    assert rows_of(read(file)) == simple_rows(500)


def write_blocks(path, codec, blocks, rows=2, kind="string"):
    """A file of one-column rows from already compressed blocks of so many rows each."""
    sync = bytes(range(16))
    write(path, record(("x", kind)), [], sync_marker=sync)
    head = path.read_bytes()
    patched = head.replace(b"\x14avro.codec\x08null", b"\x14avro.codec" + bytes([2 * len(codec)]) + codec.encode())
    assert codec == "null" or patched != head
    frames = b"".join(zigzag(rows) + zigzag(len(block)) + block + sync for block in blocks)
    path.write_bytes(patched + frames)
    return stat_file(str(path))


PLAIN = b"\x06abc\x06def"


def snappy_block(plain, crc=None):
    crc = zlib.crc32(plain) if crc is None else crc
    return pa.compress(plain, "snappy", asbytes=True) + crc.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("codec", "block"),
    [("snappy", snappy_block(PLAIN)), ("zstandard", pa.compress(PLAIN, "zstd", asbytes=True))],
    ids=["snappy", "zstandard"],
)
def test_codecs_that_fastavro_needs_other_packages_for(tmp_path, codec, block):
    file = write_blocks(tmp_path / "a.avro", codec, [block] * 2)
    assert [row["x"] for row in rows_of(read(file))] == ["abc", "def"] * 2


@pytest.mark.parametrize("codec", ["deflate", "snappy", "zstandard", "bzip2", "xz"])
def test_data_that_does_not_decompress_names_codec_and_block(tmp_path, codec):
    file = write_blocks(tmp_path / "a.avro", codec, [b"\xff\xfe\xfd\xfc\xfb\xfa"])
    with pytest.raises(
        InputError, match=rf"a\.avro: the {codec} data of the block at byte {file.size - 24} is damaged"
    ):
        read(file)


def test_snappy_checksum_is_checked(tmp_path):
    file = write_blocks(tmp_path / "a.avro", "snappy", [snappy_block(PLAIN, crc=7)])
    with pytest.raises(InputError, match=r"a\.avro: the snappy data of the block at byte \d+ is damaged: the CRC32"):
        read(file)


def test_unknown_codec_names_those_that_work(tmp_path):
    file = write_blocks(tmp_path / "a.avro", "lz77", [b""])
    with pytest.raises(
        InputError, match=r"a\.avro: Avro codec 'lz77' is not supported; write the file with null, deflate"
    ):
        read(file)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(PLAIN + b"x", "its 2 rows take 8 of 9 bytes", id="too-long"),
        pytest.param(PLAIN[:-1], "its row 1 cannot be decoded", id="too-short"),
        pytest.param(b"\x06abc\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "its row 1 cannot be decoded", id="length"),
    ],
)
def test_blocks_whose_rows_do_not_fit_are_damaged(tmp_path, data, message):
    file = write_blocks(tmp_path / "a.avro", "null", [PLAIN, data])
    start = file.size - len(data) - 18
    with pytest.raises(InputError, match=rf"a\.avro: the block at byte {start} is damaged: {message}"):
        read(file)


def test_parts_start_at_blocks_and_know_their_first_row(tmp_path):
    file = write(tmp_path / "a.avro", SIMPLE, simple_rows(5000), sync_interval=1000)
    assert list(AvroFormat().plan(file)) == [Part()]
    reader = AvroFormat(part_bytes=file.size // 4)
    parts = list(reader.plan(file))
    assert len(parts) in (4, 5)
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert parts[-1].end is None
    for part in parts:
        parsed = read(file, reader=reader, parts=[part])
        assert [row["id"] for row in rows_of(parsed)] == positions_of(parsed)
        assert positions_of(parsed)[0] == part.first_row


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-(2**63), 2**63 - 1),
            "f": st.floats(allow_nan=False),
            "s": st.none() | st.text(max_size=6),
            "l": st.lists(st.binary(max_size=3), max_size=3),
            "t": st.fixed_dictionaries({"u": st.none() | st.booleans()}),
        }
    ),
    max_size=60,
)
EVERYTHING = record(
    ("i", ["null", "long"]),
    ("f", "double"),
    ("s", ["string", "null"]),
    ("l", {"type": "array", "items": "bytes"}),
    ("t", record(("u", ["null", "boolean"]), name="inner")),
)


@on_shared_path(50)
@given(ROWS, st.integers(1, 300), st.integers(1, 1000), st.sampled_from(["null", "deflate"]))
def test_any_block_size_and_part_size_gives_the_same_rows(tmp_path, rows, sync_interval, part_bytes, codec):
    file = write(tmp_path / "a.avro", EVERYTHING, rows, sync_interval=sync_interval, codec=codec)
    parsed = read(file, reader=AvroFormat(part_bytes=part_bytes))
    assert rows_of(parsed) == [{**{key: row[key] for key in "ifsl"}, "t.u": row["t"]["u"]} for row in rows]
    assert positions_of(parsed) == list(range(len(rows)))


@on_shared_path(40)
@given(st.lists(st.binary(max_size=6), max_size=30), st.integers(1, 60), st.integers(1, 200))
def test_in_equals_out_plus_rejected(tmp_path, texts, sync_interval, part_bytes):
    rows = [{"x": text} for text in texts]
    file = write(tmp_path / "a.avro", record(("x", "bytes")), rows, sync_interval=sync_interval)
    file = retype(file, record(("x", "string"))) if texts else file
    parsed = read(file, reader=AvroFormat(part_bytes=part_bytes))
    bad = [letter for part in parsed for letter in part.rejected]
    assert sorted(positions_of(parsed) + [letter.position for letter in bad]) == list(range(len(texts)))
    assert {
        position: row["x"].encode() for position, row in zip(positions_of(parsed), rows_of(parsed), strict=True)
    } == {index: text for index, text in enumerate(texts) if is_utf8(text)}


def is_utf8(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_batches_keep_to_the_limits_within_one_large_block(tmp_path):
    rows = [{"id": index, "name": "x" * 300} for index in range(20_000)]
    file = write(tmp_path / "a.avro", SIMPLE, rows, sync_interval=1 << 30, codec="deflate")
    parsed = read(file)
    assert positions_of(parsed) == list(range(20_000))
    assert max(part.batch.num_rows for part in parsed) <= MAX_BATCH_ROWS
    large = [{"id": index, "name": "x" * 100_000} for index in range(200)]
    parsed = read(write(tmp_path / "b.avro", SIMPLE, large, sync_interval=1 << 30))
    assert max(part.batch.nbytes for part in parsed) < 9 << 20
    assert positions_of(parsed) == list(range(200))


def test_small_blocks_are_gathered_into_batches(tmp_path):
    parsed = read(write(tmp_path / "a.avro", SIMPLE, simple_rows(MAX_BATCH_ROWS + 808), sync_interval=100))
    assert [part.batch.num_rows for part in parsed] == [MAX_BATCH_ROWS, 808]


def test_file_without_rows_is_fine_but_its_columns_are_checked(tmp_path):
    file = write(tmp_path / "a.avro", SIMPLE, [])
    assert read(file) == []
    with pytest.raises(InputError, match="column 'fare' is required"):
        read(file, [Feature("fare", Kind.INT, required=True)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "not an Avro file: the file is empty", id="empty"),
        pytest.param(b"a,b\n1,2\n", "not an Avro file: it does not begin with", id="csv"),
        pytest.param(b"Obj\x01\x04\x14avro", "the Avro header is damaged or cut off", id="header-cut-off"),
        pytest.param(b"Obj\x01\x00" + bytes(16), "the Avro header is damaged or cut off: KeyError", id="no-schema"),
        pytest.param(b"Obj\x01\x02\x16avro.schema\x04{]\x00" + bytes(16), "the Avro header is damaged", id="no-json"),
        pytest.param(b'Obj\x01\x02\x16avro.schema\x08"no"\x00' + bytes(16), "schema is not valid", id="unknown-type"),
        pytest.param(
            b'Obj\x01\x02\x16avro.schema\x0a"int"\x00' + bytes(16), "rows must be Avro records", id="no-record"
        ),
        pytest.param(
            b'Obj\x01\x02\x16avro.schema\x0a"int"\x00' + bytes(9), "ends in the sync marker", id="sync-cut-off"
        ),
    ],
)
def test_headers_that_are_none(tmp_path, content, message):
    (tmp_path / "a.avro").write_bytes(content)
    file = stat_file(str(tmp_path / "a.avro"))
    for action in (AvroFormat().columns, read):
        with pytest.raises(InputError, match=rf"a\.avro: .*{message}"):
            action(file)


def block_offsets(file):
    return [part.start for part in AvroFormat(part_bytes=1).plan(file)]


@pytest.mark.parametrize("reader", [AvroFormat(), AvroFormat(part_bytes=1)], ids=["whole", "planned"])
def test_every_cut_inside_a_block_is_found_with_its_offset(tmp_path, reader):
    path = tmp_path / "a.avro"
    file = write(path, SIMPLE, simple_rows(40), sync_interval=60)
    content, offsets = path.read_bytes(), block_offsets(file)
    assert len(offsets) >= 3
    for cut in range(offsets[1] + 1, offsets[2]):
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=rf"a\.avro: the (head of the )?block at byte {offsets[1]} .*truncated"):
            read(stat_file(str(path)), reader=reader)


@pytest.mark.parametrize("reader", [AvroFormat(), AvroFormat(part_bytes=1)], ids=["whole", "planned"])
def test_bad_sync_marker_is_found_with_its_offset(tmp_path, reader):
    path = tmp_path / "a.avro"
    file = write(path, SIMPLE, simple_rows(40), sync_interval=60)
    offsets = block_offsets(file)
    content = bytearray(path.read_bytes())
    content[offsets[2] - 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.avro: the block at byte {offsets[1]} does not end with the sync marker"):
        read(stat_file(str(path)), reader=reader)


def test_damaged_deflate_data_is_found_with_its_offset(tmp_path):
    path = tmp_path / "a.avro"
    file = write(path, SIMPLE, simple_rows(4000), sync_interval=3000, codec="deflate")
    offset = block_offsets(file)[2]
    content = bytearray(path.read_bytes())
    content[offset + 10 : offset + 60] = b"\xff" * 50
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.avro: the (deflate data of the )?block at byte {offset} is damaged"):
        read(file)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        pytest.param(b"\x01\x00", "claims -1 rows in 0 bytes", id="negative"),
        pytest.param(b"\xff" * 12, "a number has no end", id="endless"),
        pytest.param(b"\x02\xfe\xff\xff\xff\x0f", "claims 2147483647 bytes, more than the file has", id="absurd-size"),
    ],
)
def test_damaged_block_heads(tmp_path, head, message):
    path = tmp_path / "a.avro"
    size = write(path, SIMPLE, []).size
    path.write_bytes(path.read_bytes() + head + bytes(40))
    with pytest.raises(InputError, match=rf"a\.avro: the (head of the )?block at byte {size} .*{message}"):
        read(stat_file(str(path)))


def test_gzipped_avro_is_refused(tmp_path):
    (tmp_path / "a.avro.gz").write_bytes(gzip.compress(b"Obj\x01"))
    with pytest.raises(InputError, match=r"a\.avro\.gz: Avro is compressed inside.*unpack it first"):
        list(AvroFormat().plan(stat_file(str(tmp_path / "a.avro.gz"))))


def test_reserved_column_name_is_refused(tmp_path):
    file = write(tmp_path / "a.avro", record(("_split", "int")), [{"_split": 1}])
    with pytest.raises(InputError, match=r"a\.avro: column name '_split' is reserved"):
        AvroFormat().columns(file)


def test_format_pickles():
    assert pickle.loads(pickle.dumps(AvroFormat(part_bytes=7))) == AvroFormat(part_bytes=7)


class TestBounds:
    """What is small in the file and large in memory, with a limit of 1000 bytes a row."""

    READER = AvroFormat(max_row_bytes=1000)

    @pytest.mark.parametrize("codec", ["deflate", "bzip2", "xz", "zstandard"])
    def test_a_row_that_decompresses_to_too_much_is_a_dead_letter(self, tmp_path, codec):
        rows = [{"x": "first"}, {"x": "z" * 5000}, {"x": "last"}]
        blocks = [compressed(codec, avro_bytes(row["x"].encode())) for row in rows]
        file = write_blocks(tmp_path / "a.avro", codec, blocks, rows=1)
        parsed = read(file, reader=self.READER)
        assert (rows_of(parsed), positions_of(parsed)) == ([rows[0], rows[2]], [0, 2])
        (letter,) = letters_of(parsed)
        assert (letter.position, letter.reasons[0].code) == (1, "avro.too_long")
        assert base64.b64decode(letter.payload)[2:] == b"z" * 999
        assert letter.reasons[0].detail == (
            "the row is over 1000 bytes, more than the limit of 1000; the payload is its first 1001 bytes"
        )

    def test_snappy_says_how_much_before_it_decompresses(self, tmp_path):
        file = write_blocks(tmp_path / "a.avro", "snappy", [snappy_block(avro_bytes(b"z" * 5000))], rows=1)
        (letter,) = letters_of(read(file, reader=self.READER))
        assert (letter.reasons[0].code, letter.payload) == ("avro.too_long", "")

    @pytest.mark.parametrize("codec", ["null", "deflate"])
    def test_a_block_of_several_rows_is_refused(self, tmp_path, codec):
        file = write(tmp_path / "a.avro", record(("x", "bytes")), [{"x": b"z" * 800}] * 2, codec=codec)
        with pytest.raises(InputError, match=r"a\.avro: the block at byte \d+ has 2 rows in more than 1000 bytes, the"):
            read(file, reader=self.READER)

    def test_lists_of_nulls_have_no_bytes_but_a_size(self, tmp_path):
        schema = record(("id", "long"), ("x", {"type": "array", "items": "null"}))
        rows = [{"id": 0, "x": [None] * 10}, {"id": 1, "x": [None]}]
        file = write(tmp_path / "a.avro", schema, rows)
        claim = file_with(file, b"\x02\x02\x00", b"\x02" + zigzag(1 << 60) + b"\x00")
        parsed = read(claim, reader=self.READER)
        assert rows_of(parsed) == [rows[0]]
        (letter,) = letters_of(parsed)
        assert (letter.position, letter.reasons[0].code) == (1, "avro.too_long")
        assert "takes 9223372036854776" in letter.reasons[0].detail

    def test_rows_in_a_large_block_are_measured_one_by_one(self, tmp_path):
        schema = record(("id", "long"), ("x", {"type": "array", "items": "string"}))
        rows = [{"id": 0, "x": ["a"] * 5_000_000}, {"id": 1, "x": ["b"]}]
        file = write(tmp_path / "a.avro", schema, rows, sync_interval=1 << 30)
        parsed = read(file, reader=AvroFormat(max_row_bytes=100 << 20))
        assert rows_of(parsed) == [rows[1]]
        (letter,) = letters_of(parsed)
        assert (letter.position, len(base64.b64decode(letter.payload))) == (0, 4096)

    def test_more_rows_than_anybody_has_in_no_bytes(self, tmp_path):
        file = write_blocks(tmp_path / "a.avro", "null", [b""], rows=1 << 60, kind="null")
        with pytest.raises(InputError, match=r"the block at byte \d+ is damaged: it claims \d+ rows in 0 bytes"):
            read(file)


def letters_of(parsed):
    return [letter for part in parsed for letter in part.rejected]


def zigzag(value):
    out, value = b"", value << 1
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def avro_bytes(value):
    return zigzag(len(value)) + value


def compressed(codec, data):
    match codec:
        case "deflate":
            return zlib.compress(data)[2:-4]
        case "bzip2":
            return bz2.compress(data)
        case "xz":
            return lzma.compress(data)
    return pa.compress(data, "zstd", asbytes=True)


def file_with(file, old, new):
    """The file with some bytes of its last block replaced."""
    with open(file.uri, "rb") as stored:
        content = stored.read()
    sync, data = content[-16:], content[:-16].rsplit(content[-16:], 1)
    rows, rest = data[1][:1], data[1][2:]
    block = rest.replace(old, new)
    assert block != rest
    with open(file.uri, "wb") as out:
        out.write(data[0] + sync + rows + zigzag(len(block)) + block + sync)
    return stat_file(file.uri)
