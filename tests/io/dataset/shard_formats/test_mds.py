"""Rows as samples of MDS and back; what a file and the index of a split are, by the words of their source."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from helpers import run_prepare
from shards import write

import penstock
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.options import Addition
from penstock.io.dataset.shard_formats import load_format, mds, mds_samples
from penstock.io.dataset.shard_formats.mds_samples import (
    Column,
    MdsCodec,
    MdsReader,
    columns_of,
    config_text,
    file_head,
)
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.reserved import SPLIT
from penstock.transforms.verify import verify_dataset

COLUMNS = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("flag", pa.bool_()),
        ("price", pa.float32()),
        ("name", pa.string()),
        ("raw", pa.binary()),
        ("clicks", pa.list_(pa.int16())),
        ("tags", pa.list_(pa.string())),
    ]
)
ROWS = [
    {"id": 1, "flag": True, "price": 0.5, "name": "é", "raw": b"\xff", "clicks": [1, -2], "tags": ["a", '"']},
    {"id": 2},
    {"id": 3, "flag": False, "price": 0.0, "name": "", "raw": b"", "clicks": [], "tags": []},
    {"id": 4, "name": "x" * 70_000, "clicks": list(range(300)), "tags": ["b"] * 300},
    {"id": 5, "clicks": [7] * 70_000},
]


def batch(rows=ROWS):
    return pa.RecordBatch.from_pylist(rows, COLUMNS)


def stored(rows):
    """A file of rows."""
    columns = columns_of(COLUMNS)
    data, offsets = MdsCodec(columns).encode(rows)
    return file_head(np.diff(offsets), config_text(columns)) + data.tobytes()


def read(content):
    reader = MdsReader(io.BytesIO(content), "x.mds")
    return [row for samples in reader.pieces() for row in reader.decode(samples).to_pylist()]


@pytest.mark.parametrize(
    "text", ["null", '["a"', "[1]", '["\\ud800"]', '["\\u00e9",null]', '["a", "b"]', "[]", '["\x7f"]']
)
@pytest.mark.parametrize("is_there", [True, False])
def test_lists_of_texts_are_what_json_of_python_reads(text, is_there, monkeypatch):
    codec = MdsCodec([Column("tags", "json", pa.list_(pa.string()), nullable=True)])
    sample = np.uint32(len(text)).tobytes() + text.encode() + bytes([is_there])
    data, offsets = np.frombuffer(sample * 2, np.uint8), np.arange(3) * len(sample)

    def decoded():
        try:
            return codec.decode(data, offsets)
        except ValueError as error:
            return str(error)

    found = decoded()
    monkeypatch.setattr(mds_samples, "text_array", lambda *_: None)
    assert decoded() == found
    assert isinstance(found, str) or found.to_pylist() == [{"tags": json.loads(text) if is_there else None}] * 2


def test_a_sample_is_what_mosaicml_says():
    fields = [pa.field("s", pa.string(), nullable=False), ("n", pa.int32()), ("l", pa.list_(pa.int8()))]
    schema = pa.schema(fields)
    columns = columns_of(schema)
    data, _ = MdsCodec(columns).encode(pa.RecordBatch.from_pylist([{"s": "ab", "n": 3, "l": [5, 6, 7]}], schema))
    sizes = np.array([2, 5], "<u4").tobytes()
    assert data.tobytes() == sizes + b"ab" + b"\x03\0\0\0" + b"\x01" + bytes([1 << 2 | 0, 3, 5, 6, 7]) + b"\x01"
    config = json.loads(config_text(columns))
    assert config["column_names"] == ["s", "n", "n$present", "l", "l$present"]
    assert config["column_encodings"] == ["str", "int32", "uint8", "ndarray:int8", "uint8"]
    assert config["column_sizes"] == [None, 4, 1, None, 1]


def test_a_file_says_where_each_sample_is():
    content = stored(batch())
    (count,) = np.frombuffer(content[:4], "<u4")
    offsets = np.frombuffer(content[4 : 8 + 4 * count], "<u4")
    assert (count, offsets[-1], len(offsets)) == (5, len(content), 6)
    assert json.loads(content[8 + 4 * count : offsets[0]])["format"] == "mds"


def test_what_was_encoded_is_decoded():
    flags = [None if row["flag"] is None else int(row["flag"]) for row in batch().to_pylist()]
    expected = [{**row, "flag": flag} for row, flag in zip(batch().to_pylist(), flags, strict=True)]
    assert read(stored(batch())) == expected


@pytest.mark.parametrize("rows", [0, 1])
def test_files_of_few_rows(rows):
    assert len(read(stored(batch().slice(0, rows)))) == rows


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param(lambda content: content[:-1], "cut off: 1 bytes are missing", id="cut_off"),
        pytest.param(lambda content: content + b"x", "goes on behind its last sample", id="longer"),
        pytest.param(lambda content: content[:2], "cut off", id="no_head"),
        pytest.param(lambda content: b"\x04\0\0\0" + content[4:], "damaged", id="another_count"),
        pytest.param(lambda content: content.replace(b'"str"', b'"pkl"'), "not an MDS file", id="an_encoding"),
        pytest.param(
            lambda content: content.replace(b"\x04\x02\x01\0\xfe", b"\x08\x02\x01\0\xfe"), "rows 0 to", id="an_array"
        ),
    ],
)
def test_a_damaged_file_is_an_error(changed, said):
    content = stored(batch())
    assert changed(content) != content
    with pytest.raises(InputError, match=f"^x.mds: .*{said}"):
        read(changed(content))


def test_more_than_mds_can_count_is_refused():
    with pytest.raises(DataError, match=r"less than 4 GiB, got 4,294,967,3.* bytes: write more shards"):
        file_head(np.array([2**31, 2**31]), b"")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (("at", pa.date32()), "column 'at' has type date32"),
        (("l", pa.list_(pa.binary())), "column 'l' has type list"),
        (("id$present", pa.int64()), "column 'id[$]present' has a name that MDS shards give"),
    ],
    ids=["a_type", "a_list", "a_name"],
)
def test_columns_that_mds_has_no_encoding_for_are_refused(field, said):
    with pytest.raises(ConfigError, match=said):
        load_format("mds", "none", COLUMNS.append(pa.field(*field)))


def test_rows_without_a_value_that_each_row_has_are_rejected():
    rows = batch([{"id": 1}, {"id": None}, {"id": 3, "tags": ["a", None]}, {"id": 4, "clicks": [None]}])
    faults = load_format("mds", "none", COLUMNS).encode(rows).faults
    found = {row: [reason.code for reason in reasons] for row, reasons in faults.items()}
    assert found == {row: ["write.missing"] for row in (1, 2, 3)}


@pytest.fixture(scope="module", params=["none", "zstd"])
def dataset(request, tmp_path_factory):
    output = tmp_path_factory.mktemp("mds") / "out"
    rows = batch().append_column(SPLIT, pa.array(["train", "eval", "train", "train", "train"]))
    options = {"splits": ("train", "eval", "none"), "num_shards": 2, "compression": request.param}
    write(output, [rows], format="mds", columns=COLUMNS, **options)
    return output


def test_the_index_of_a_split_lists_its_shards(dataset):
    manifest = read_manifest(str(dataset))
    assert manifest.extras[-3:] == ("train/index.json", "eval/index.json", "none/index.json")
    for split, rows in manifest.splits.items():
        index = json.loads((dataset / split / "index.json").read_text())
        assert sum(shard["samples"] for shard in index["shards"]) == rows
        for shard in index["shards"]:
            file = shard["zip_data"] or shard["raw_data"]
            content = (dataset / split / file["basename"]).read_bytes()
            assert len(content) == file["bytes"]
            if shard["zip_data"]:
                content = pa.Codec("zstd").decompress(content, shard["raw_data"]["bytes"], asbytes=True)
            assert len(content) == shard["raw_data"]["bytes"]
            assert len(read(content)) == shard["samples"]
    assert list(verify_dataset(str(dataset))) == []


@pytest.mark.parametrize("changes", [{"workers": 2}, {"spill": False}], ids=["workers", "runner"])
def test_files_do_not_depend_on_how_the_rows_came(tmp_path, monkeypatch, changes):
    """So what a bundle writes that is tried again is the same."""
    rows = pa.RecordBatch.from_pylist([{"id": number, "name": f"n{number}"} for number in range(200)], COLUMNS)
    write(tmp_path / "a", [rows], format="mds", compression="none", columns=COLUMNS)
    monkeypatch.setattr(mds, "_MAX_GROUP_RECORDS", 7)
    pieces = [rows.slice(start, 17) for start in range(0, 200, 17)][::-1]
    write(tmp_path / "b", pieces, format="mds", compression="none", columns=COLUMNS, **changes)
    written, again = ({one.name: one.read_bytes() for one in (tmp_path / name / "train").iterdir()} for name in "ab")
    assert len(written) == 4  # three shards and their index
    assert again == written


def test_verify_knows_the_index(dataset):
    path = dataset / "train" / "index.json"
    before = path.read_text()
    try:
        for wrong in (before.replace('"samples": ', '"samples": 1'), "{}", "["):
            path.write_text(wrong)
            assert [fault.code for fault in verify_dataset(str(dataset))] == ["index.wrong"]
        path.unlink()
        assert [(fault.code, fault.path) for fault in verify_dataset(str(dataset))] == [
            ("file.missing", "train/index.json")
        ]
    finally:
        path.write_text(before)


@pytest.mark.parametrize("flags", [{"window": "fixed:60s"}, {"append": True}], ids=["windows", "append"])
def test_nothing_can_be_added_to_a_split(tmp_path, flags):
    found = {"append": Addition()} if "append" in flags else flags
    spec = DatasetSpec(str(tmp_path), format="mds", num_shards=1, columns=COLUMNS, **found)
    with pytest.raises(ConfigError, match="the format mds has one index for all shards of a split"):
        spec.check_input(is_bounded=True, has_windows="window" in flags)


def test_prepare_writes_it_and_overwrites_it(tmp_path):
    (tmp_path / "in.csv").write_text("id,fare\n1,7.5\n2,\n")
    flags = [f"--input={tmp_path}/in.csv", f"--output={tmp_path}/out", "--output_format=mds"]
    for more in ([], ["--overwrite", "--compression=zstd"]):
        assert run_prepare(*flags, *more) == 0
        assert list(verify_dataset(f"{tmp_path}/out")) == []
        (shard,) = json.loads((tmp_path / "out/train/index.json").read_text())["shards"]
        assert shard["column_names"] == ["fare", "fare$present", "id"]
        rows = [row for one in penstock.load(f"{tmp_path}/out").batches(9) for row in one.to_pylist()]
        assert sorted(rows, key=lambda row: row["id"]) == [{"id": 1, "fare": 7.5}, {"id": 2, "fare": None}]
