import gzip
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from depth import on_shared_path
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import MAX_BATCH_ROWS, feature_names
from penstock.io.errors import InputError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.base import Part
from penstock.io.formats.parquet import ParquetFormat
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


def write(path, table=TABLE, **options):
    pq.write_table(table, str(path), **options)
    return stat_file(str(path))


def read(file, features=None, parts=None, reader=None):
    reader = reader or ParquetFormat()
    parts = list(reader.plan(file)) if parts is None else parts
    return [parsed for part in parts for parsed in reader.read(file, part, features)]


def table_of(parsed):
    return pa.Table.from_batches([part.batch for part in parsed])


def positions_of(parsed):
    return [row["position"] for part in parsed for row in part.batch.column(ORIGIN).to_pylist()]


def test_all_columns_flattened_with_row_positions(tmp_path):
    file = write(tmp_path / "a.parquet", row_group_size=3)
    parsed = read(file)
    table = table_of(parsed)
    assert table.schema.names == ["id", "name", "trip.km", "trip.to.city", "tags", "day", ORIGIN]
    assert table.drop_columns(ORIGIN).to_pydict() == TABLE.flatten().flatten().to_pydict()
    assert positions_of(parsed) == list(range(10))
    assert table.column(ORIGIN)[0].as_py()["uri"] == file.uri
    assert ParquetFormat().columns(file) == table.schema.names[:-1]


def test_features_project_nested_columns_in_the_order_of_the_schema(tmp_path):
    file = write(tmp_path / "a.parquet")
    features = [Feature("trip.to.city", Kind.BYTES), Feature("id", Kind.INT, required=True), Feature("gone", Kind.INT)]
    batch = read(file, features)[0].batch
    assert feature_names(batch) == ["trip.to.city", "id"]
    assert batch.column("trip.to.city").to_pylist() == [None, "c1", None, "c3", None, "c5", None, "c7", None, "c9"]


def test_only_needed_columns_are_read(tmp_path):
    wide = pa.table({"small": range(20_000), "large": [f"{i:0200d}" for i in range(20_000)]})
    file = write(tmp_path / "a.parquet", wide, compression="none", use_dictionary=False)
    content = (tmp_path / "a.parquet").read_bytes()
    # Damage in a column that is not asked for goes unseen.
    at = content.index(b"0" * 190)
    (tmp_path / "a.parquet").write_bytes(content[:at] + b"\xff" * 1000 + content[at + 1000 :])
    assert sum(parsed.batch.num_rows for parsed in read(file, [Feature("small", Kind.INT)])) == 20_000


def test_flat_name_with_a_dot_and_the_prefix_of_another(tmp_path):
    table = pa.table({"a": [1], "a.b": [2], "ab": [3]})
    file = write(tmp_path / "a.parquet", table)
    for name, value in (("a", 1), ("a.b", 2), ("ab", 3)):
        batch = read(file, [Feature(name, Kind.INT)])[0].batch
        assert {column: batch.column(column).to_pylist() for column in feature_names(batch)} == {name: [value]}


def test_no_named_column_at_all_still_gives_the_rows(tmp_path):
    (parsed,) = read(write(tmp_path / "a.parquet"), [Feature("gone", Kind.INT)])
    assert parsed.batch.schema.names == [ORIGIN]
    assert parsed.batch.num_rows == 10


def test_dictionary_columns_are_decoded(tmp_path):
    colours = pa.array(["red", None, "blue", "red"]).dictionary_encode()
    nested = pa.StructArray.from_arrays([colours], names=["c"])
    file = write(tmp_path / "a.parquet", pa.table({"colour": colours, "n": nested}))
    batch = read(file)[0].batch
    assert batch.schema.field("colour").type == pa.string()
    assert batch.schema.field("n.c").type == pa.string()
    assert batch.column("colour").to_pylist() == batch.column("n.c").to_pylist() == ["red", None, "blue", "red"]


def test_parts_are_runs_of_row_groups_of_the_wanted_size(tmp_path):
    table = pa.table({"x": np.random.default_rng(1).random(40_000)})
    file = write(tmp_path / "a.parquet", table, row_group_size=1000)
    assert list(ParquetFormat().plan(file)) == [Part(0, 40)]
    assert list(ParquetFormat(part_bytes=1).plan(file)) == [Part(index, index + 1) for index in range(40)]
    parts = list(ParquetFormat(part_bytes=file.size // 4).plan(file))
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert len(parts) in (4, 5)


def test_batches_keep_to_the_limits(tmp_path):
    table = pa.table({"x": range(70_000), "y": [b"z" * 1000] * 70_000})
    for parsed in read(write(tmp_path / "a.parquet", table)):
        assert parsed.batch.num_rows <= MAX_BATCH_ROWS
        assert parsed.batch.nbytes < 9 << 20


@pytest.fixture
def rows_at_a_time(monkeypatch):
    """The rows of each batch that Arrow decodes."""
    decoded = []
    real = pq.ParquetFile.iter_batches

    def watched(*args, **options):
        for batch in real(*args, **options):
            decoded.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    return decoded


def test_long_rows_are_read_a_few_at_a_time(tmp_path, rows_at_a_time):
    texts = np.random.default_rng(1).bytes(200 * 100_000)
    scans = pa.array([[texts[at : at + 100_000]] for at in range(0, len(texts), 100_000)])
    table = pa.table({"id": range(200), "id_scan": pa.StructArray.from_arrays([scans], names=["page"])})
    file = write(tmp_path / "a.parquet", table)
    assert sum(parsed.batch.num_rows for parsed in read(file)) == 200
    assert max(rows_at_a_time) < 100
    rows_at_a_time.clear()
    # The other column has a name that begins alike, but is not read.
    assert [parsed.batch.num_rows for parsed in read(file, [Feature("id", Kind.INT)])] == [200]
    assert rows_at_a_time == [200]


def test_long_rows_that_repeat_are_short_in_the_file(tmp_path, rows_at_a_time):
    table = pa.table({"x": [b"z" * 10_000] * 10_000})
    batches = [parsed.batch for parsed in read(write(tmp_path / "a.parquet", table))]
    assert max(rows_at_a_time) == 8192
    assert sum(batch.num_rows for batch in batches) == 10_000
    assert max(batch.nbytes for batch in batches) < 10 << 20


def test_short_rows_are_joined_within_a_row_group(tmp_path):
    table = pa.table({"x": range(140_000)})
    batches = [parsed.batch for parsed in read(write(tmp_path / "a.parquet", table, row_group_size=120_000))]
    assert [batch.num_rows for batch in batches] == [65_536, 54_464, 20_000]
    assert pa.Table.from_batches(batches)["x"].to_pylist() == list(range(140_000))


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-(2**63), 2**63 - 1),
            "f": st.none() | st.floats(allow_nan=False),
            "s": st.none() | st.text(max_size=5),
            "l": st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3),
            "t": st.none() | st.fixed_dictionaries({"u": st.none() | st.binary(max_size=3)}),
        }
    ),
    max_size=60,
)
TYPES = pa.schema(
    {
        "i": pa.int64(),
        "f": pa.float64(),
        "s": pa.string(),
        "l": pa.list_(pa.int64()),
        "t": pa.struct({"u": pa.binary()}),
    }
)


@on_shared_path(50)
@given(ROWS, st.integers(1, 20), st.integers(1, 4000))
def test_any_row_group_size_and_part_size_gives_the_same_rows(tmp_path, rows, group_rows, part_bytes):
    file = write(tmp_path / "a.parquet", pa.Table.from_pylist(rows, TYPES), row_group_size=group_rows)
    parsed = read(file, reader=ParquetFormat(part_bytes=part_bytes))
    expected = [{**{k: row[k] for k in "ifsl"}, "t.u": row["t"] and row["t"]["u"]} for row in rows]
    found = [row for part in parsed for row in part.batch.drop_columns([ORIGIN]).to_pylist()]
    assert found == expected
    assert positions_of(parsed) == list(range(len(rows)))


def test_text_that_is_not_utf8_rejects_its_row_only(tmp_path):
    raw = pa.array([b"ok", b"\xff\xfe", None, b"\xc3\xa9"])
    text = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    lists = pa.ListArray.from_arrays([0, 1, 2, 3, 4], text)
    file = write(tmp_path / "a.parquet", pa.table({"id": range(4), "s": text, "l": lists}))
    (parsed,) = read(file)
    assert parsed.batch.column("s").to_pylist() == ["ok", None, "é"]
    assert parsed.batch.schema.field("s").type == pa.string()
    (letter,) = parsed.rejected
    assert (letter.stage, letter.uri, letter.position) == ("read", file.uri, 1)
    assert [reason.detail for reason in letter.reasons] == [
        "column 's': the text is not UTF-8",
        "column 'l': the text is not UTF-8",
    ]
    assert letter.payload == '{"id": 1, "s": {"base64": "//4="}, "l": [{"base64": "//4="}]}'


@pytest.mark.parametrize(
    "text_type",
    [pa.string(), pa.large_string(), pa.large_list(pa.string()), pa.list_(pa.large_string()), pa.list_(pa.string(), 1)],
    ids=str,
)
def test_all_kinds_of_text_columns_are_checked(tmp_path, text_type):
    is_list = hasattr(text_type, "value_type")
    item_type = text_type.value_type if is_list else text_type
    raw = pa.array([b"ok", b"\xff", b"ok"], pa.large_binary() if item_type == pa.large_string() else pa.binary())
    text = pa.Array.from_buffers(item_type, 3, raw.buffers())
    if is_list and text_type.id == pa.lib.Type_FIXED_SIZE_LIST:
        text = pa.FixedSizeListArray.from_arrays(text, 1)
    elif is_list:
        text = type(pa.array([], text_type)).from_arrays([0, 1, 2, 3], text)
    (parsed,) = read(write(tmp_path / "a.parquet", pa.table({"s": text})))
    assert parsed.batch.column("s").to_pylist() == ([["ok"], ["ok"]] if is_list else ["ok", "ok"])
    (letter,) = parsed.rejected
    assert letter.position == 1
    assert '{"base64": "/w=="}' in letter.payload


@pytest.mark.parametrize("groups", [0, 1])
def test_file_without_rows_is_fine_but_its_columns_are_checked(tmp_path, groups):
    with pq.ParquetWriter(str(tmp_path / "a.parquet"), TABLE.schema) as writer:
        for _ in range(groups):
            writer.write_table(TABLE.slice(0, 0))
    file = stat_file(str(tmp_path / "a.parquet"))
    assert read(file) == []
    with pytest.raises(InputError, match=r"a\.parquet: column 'cost' is required by the schema"):
        read(file, [Feature("cost", Kind.FLOAT, required=True)])


def test_missing_required_column_names_file_and_columns(tmp_path):
    file = write(tmp_path / "a.parquet", pa.table({"a": [1], "b": [2]}))
    with pytest.raises(
        InputError, match=r"a\.parquet: column 'c' is required by the schema, but the file has only a, b"
    ):
        read(file, [Feature("a", Kind.INT), Feature("c", Kind.INT, required=True)])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"a,b\n1,2\n" * 9, id="csv"),
        pytest.param(lambda content: content[:-1], id="cut-at-the-end"),
        pytest.param(lambda content: content[: len(content) // 2], id="cut-in-the-middle"),
        pytest.param(lambda content: content[:-40] + b"\xff" * 32 + content[-8:], id="footer-damaged"),
        pytest.param(lambda content: content[:-8] + b"\xff\xff\xff\x7fPAR1", id="footer-length"),
    ],
)
def test_damaged_footers_and_other_files_are_input_errors(tmp_path, damage):
    path = tmp_path / "a.parquet"
    write(path)
    path.write_bytes(damage(path.read_bytes()))
    file = stat_file(str(path))
    for action in (ParquetFormat().columns, read):
        with pytest.raises(InputError, match=r"a\.parquet: not a Parquet file, or its footer is damaged or cut off"):
            action(file)


@pytest.mark.parametrize("checksum", [True, False], ids=["page-checksum", "no-checksum"])
def test_damaged_page_is_an_input_error_naming_the_row_group(tmp_path, checksum):
    path = tmp_path / "a.parquet"
    table = pa.table({"x": np.random.default_rng(2).integers(0, 1 << 60, 5000)})
    file = write(path, table, row_group_size=2500, compression="zstd", write_page_checksum=checksum)
    content = path.read_bytes()
    at = pq.ParquetFile(str(path)).metadata.row_group(1).column(0).data_page_offset + 200
    path.write_bytes(content[:at] + b"\0" * 500 + content[at + 500 :])
    with pytest.raises(InputError, match=r"a\.parquet: row group 1 cannot be read, the file is damaged or truncated"):
        read(file)
    assert sum(parsed.batch.num_rows for parsed in read(file, parts=[Part(0, 1)])) == 2500


def test_gzipped_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet.gz"
    write(tmp_path / "a.parquet")
    path.write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    with pytest.raises(InputError, match=r"a\.parquet\.gz: Parquet is compressed inside.*unpack it first"):
        list(ParquetFormat().plan(stat_file(str(path))))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], "'a' appears more than once"),
        (["a", ""], "column 2 has no name"),
        (["_split", "a"], "'_split' is reserved"),
    ],
    ids=["twice", "unnamed", "reserved"],
)
def test_column_names_that_nothing_can_address_are_refused(tmp_path, names, message):
    file = write(tmp_path / "a.parquet", pa.table([[1], [2]], names=names))
    with pytest.raises(InputError, match=message):
        ParquetFormat().columns(file)


def test_columns_that_collide_when_flattened_are_refused(tmp_path):
    file = write(tmp_path / "a.parquet", pa.table({"a": [{"b": 1}], "a.b": [1]}))
    with pytest.raises(InputError, match=r"a\.parquet: column name 'a\.b' appears more than once"):
        read(file)


def test_format_pickles():
    assert pickle.loads(pickle.dumps(ParquetFormat(part_bytes=7))) == ParquetFormat(part_bytes=7)


class TestEncryption:
    """Arrow writes encrypted files only with a service of keys: this one keeps them in the file."""

    @pytest.fixture
    def encrypted(self, tmp_path):
        def write_encrypted(plaintext_footer, columns=("secret",)):
            config = encryption.EncryptionConfiguration(
                footer_key="footer", column_keys={"key": list(columns)}, plaintext_footer=plaintext_footer
            )
            kms = encryption.KmsConnectionConfig(custom_kms_conf={"key": "0123456789abcdef", "footer": "f" * 16})
            options = encryption.CryptoFactory(InFileKeys).file_encryption_properties(kms, config)
            table = pa.table({"id": range(5), "secret": ["a"] * 5, "n": [{"secret": 1}] * 5})
            return write(tmp_path / "a.parquet", table, encryption_properties=options, row_group_size=3)

        return write_encrypted

    def test_an_encrypted_column_is_named(self, encrypted):
        file = encrypted(plaintext_footer=True)
        with pytest.raises(InputError, match=r"a\.parquet: row group 0: column 'secret' is encrypted; decrypt the"):
            read(file)
        with pytest.raises(InputError, match=r"row group 1: column 'secret' is encrypted"):
            read(file, parts=[Part(1, 2)])

    def test_a_nested_column_is_named(self, encrypted):
        with pytest.raises(InputError, match=r"column 'n\.secret' is encrypted"):
            read(encrypted(plaintext_footer=True, columns=("n.secret",)))

    def test_other_columns_can_be_read(self, encrypted):
        file = encrypted(plaintext_footer=True)
        assert ParquetFormat().columns(file) == ["id", "secret", "n.secret"]
        features = [Feature("id", Kind.INT), Feature("n.secret", Kind.INT)]
        assert [feature_names(parsed.batch) for parsed in read(file, features)] == [["id", "n.secret"]] * 2

    def test_an_encrypted_footer_is_told(self, encrypted):
        file = encrypted(plaintext_footer=False)
        for action in (ParquetFormat().columns, read):
            with pytest.raises(InputError, match=r"a\.parquet: the footer is encrypted; decrypt the file before"):
                action(file)


class InFileKeys(encryption.KmsClient):
    def __init__(self, config):
        encryption.KmsClient.__init__(self)
        self._keys = config.custom_kms_conf

    def wrap_key(self, key_bytes, master_key_identifier):
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return bytes.fromhex(wrapped_key)


@pytest.mark.parametrize("table", [{"name": [1]}, {"a": [{"name": 1}]}, {"a": [[{"name": 1}]]}], ids=str)
def test_names_that_are_not_utf8_are_refused(tmp_path, table):
    path = tmp_path / "a.parquet"
    write(path, pa.table(table), store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"name", b"nam\xe9"))
    for action in (ParquetFormat().columns, read):
        with pytest.raises(InputError, match=r"a\.parquet: the column name b'.*nam\\xe9' is not UTF-8; write the file"):
            action(stat_file(str(path)))


class TestBounds:
    """What is small in the file and large in memory, with a limit of 1000 bytes a row."""

    READER = ParquetFormat(max_row_bytes=1000)

    @pytest.mark.parametrize("store_schema", [True, False], ids=["dictionary", "text"])
    def test_texts_that_repeat_are_decoded_some_rows_at_a_time(self, tmp_path, rows_at_a_time, store_schema):
        texts = ["short", "x" * 900, None]
        codes = np.random.default_rng(1).integers(0, 3, 5000).astype(np.int32)
        column = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes == 2), texts[:2])
        file = write(tmp_path / "a.parquet", pa.table({"a": column}), store_schema=store_schema)
        parsed = read(file, reader=self.READER)
        assert table_of(parsed).column("a").to_pylist() == [texts[code] for code in codes]
        assert positions_of(parsed) == list(range(5000))

    def test_rows_that_are_too_long_are_dead_letters(self, tmp_path):
        lists = [["x" * 90] * 3, ["x" * 90] * 12, [], None, ["x" * 90, None, "y"]]
        table = pa.table({"id": range(5), "a": lists, "b": ["z" * 300] * 5})
        parsed = read(write(tmp_path / "a.parquet", table), reader=self.READER)
        assert table_of(parsed).column("a").to_pylist() == [lists[row] for row in (0, 2, 3, 4)]
        (letter,) = [letter for part in parsed for letter in part.rejected]
        assert (letter.position, letter.payload, letter.reasons[0].code) == (1, '{"id": 1}', "parquet.too_long")
        assert letter.reasons[0].detail == (
            "the row has 1380 bytes when its dictionaries are decoded, 1080 of them in column 'a'; the payload is the "
            "row without such columns"
        )

    @pytest.mark.parametrize(
        ("column", "options", "message"),
        [
            pytest.param(
                ["x" * 30_000], {"use_dictionary": False}, "one of its pages would have 3\\d+ bytes", id="page"
            ),
            pytest.param([[0] * 300], {}, "its rows, on average would have 2400 bytes", id="list"),
            pytest.param([[0]] * 9 + [[0] * 300], {}, "the lists in one of its pages would have 2472 bytes", id="one"),
        ],
    )
    def test_a_row_group_without_an_end_is_refused(self, tmp_path, column, options, message):
        file = write(tmp_path / "a.parquet", pa.table({"a": column}), compression="zstd", **options)
        with pytest.raises(InputError, match=rf"a\.parquet: row group 0, column 'a.*': decoded, {message}"):
            read(file, reader=self.READER)

    def test_a_value_of_a_large_type_is_refused(self, tmp_path):
        column = pa.array([None, [0] * 2000], pa.list_(pa.int8(), 2000))
        with pytest.raises(InputError, match=r"each value of column 'a' .* has 2000 bytes, over the limit of 1000"):
            read(write(tmp_path / "a.parquet", pa.table({"a": column})), reader=self.READER)

    def test_texts_that_share_prefixes_are_decoded_few_at_a_time(self, tmp_path, rows_at_a_time):
        texts = ["p" * 300 + str(row) for row in range(100)]
        options = {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}}
        file = write(tmp_path / "a.parquet", pa.table({"a": texts}), **options)
        assert table_of(read(file, reader=self.READER)).column("a").to_pylist() == texts
        assert max(rows_at_a_time) == 1

    def test_a_type_that_is_refused_is_shown_before_it_is_decoded(self, tmp_path):
        column = pa.array([[("k" * 3000, 1)]], pa.map_(pa.string(), pa.int64()))
        file = write(tmp_path / "a.parquet", pa.table({"a": column}), use_dictionary=False)
        first = next(self.READER.read(file, Part(), None)).batch
        assert (first.num_rows, first.schema.field("a").type) == (0, column.type)
