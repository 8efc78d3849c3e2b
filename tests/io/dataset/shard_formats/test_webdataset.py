"""Datasets of WebDataset shards, read by Python's tarfile."""

import gzip
import io
import json
import math
import struct
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from helpers import run_prepare, write_csv, write_schema_file
from shards import write

from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.shard_formats import load_format, samples, tar, webdataset
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.reserved import SPLIT
from penstock.io.write import WriteDataset
from penstock.transforms.verify import verify_dataset
from pipelines._report.result import DONE

ROWS = 300
COLUMNS = pa.schema(
    [
        ("id", pa.int64()),
        ("price", pa.float64()),
        ("name", pa.string()),
        ("grid", pa.list_(pa.list_(pa.float64()))),
        ("jpg", pa.binary()),
        ("view.png", pa.list_(pa.binary())),
    ]
)

# Of each type values that lie at its ends, or that a text could lose.
HOSTILE = {
    pa.int64(): [-(2**63), 2**63 - 1, 2**53 + 1, 0, None],
    pa.uint64(): [2**64 - 1, 0, None],
    pa.int8(): [-128, 127, None],
    pa.bool_(): [True, False, None],
    pa.float64(): [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e16, 1e15, 3.0, math.inf, -math.inf, math.nan, None],
    pa.float32(): [float(np.float32(0.1)), -0.0, 1e-45, 3.4028234663852886e38, 16777216.0, math.nan, None],
    pa.float16(): [np.float16(0.1), np.float16(65504), None],
    pa.string(): [
        "",
        'a"b\\c',
        "".join(map(chr, range(0x21))),
        "\x7f\x85\u2028\ufeff",
        "näme 👩‍👩‍👧",
        "null",
        "NaN",
        None,
    ],
    pa.binary(): [b"", b"\0", b"\xff" * 511, bytes(range(256)) * 2, b"x" * 513, None],
    pa.list_(pa.float64()): [[], [1.0, None, math.nan], None],
    pa.list_(pa.list_(pa.string())): [[], [[]], [None, ["a", None, '"']], None],
    pa.list_(pa.list_(pa.binary())): [[], [[]], [None, [b"a", None, b""], [b"c" * 600]], None],
}


def table(rows=ROWS):
    return pa.RecordBatch.from_pylist(
        [
            {
                "id": i,
                "price": i + 0.1 if i % 5 else None,
                "name": f"näme {i}",
                "grid": [[0.1 * i, None], None, []] if i % 3 else None,
                "jpg": b"\xff" * (i % 4) if i % 7 else None,
                "view.png": [b"a" * i, b"", b"c"][: i % 4] if i % 6 else None,
            }
            for i in range(rows)
        ],
        schema=COLUMNS,
    )


def split_table():
    return table().append_column(SPLIT, pa.array(["eval" if i % 4 == 0 else "train" for i in range(ROWS)]))


def shards_of(output):
    return sorted(output.glob("[!_]*/**/*.tar"))


def samples_of(path):
    """What a sample of WebDataset is: the members that share a key, by the rest of their names."""
    found = {}
    with tarfile.open(path) as file:
        for member in file:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            key, dot, extension = member.name.partition(".")
            if dot:
                found.setdefault(key, {})[extension] = file.extractfile(member).read()
    return found


def row_of(sample):
    row = json.loads(sample["json"])
    names = row["view.png"]
    row["view.png"] = names and [None if name is None else sample[name] for name in names]
    return {**row, "jpg": sample.get("jpg")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = tmp_path_factory.mktemp("webdataset") / "out"
    pieces = [split_table().slice(0, 100), split_table().slice(100)]
    write(output, pieces, splits=("train", "eval"), format="webdataset", columns=COLUMNS)
    return output


def test_tarfile_reads_every_row(dataset):
    rows = []
    for path in shards_of(dataset):
        found = samples_of(path)
        assert list(found) == [f"{number:09d}" for number in range(len(found))]
        rows += map(row_of, found.values())
    assert sorted(rows, key=lambda row: row["id"]) == table().to_pylist()
    manifest = read_manifest(str(dataset))
    assert (manifest.format, manifest.media_type, manifest.compression) == ("webdataset", "application/x-tar", "none")
    assert list(verify_dataset(str(dataset))) == []


@pytest.mark.parametrize("changes", [{"workers": 2}, {"spill": False}], ids=["workers", "runner"])
def test_files_do_not_depend_on_how_the_rows_came(dataset, tmp_path, monkeypatch, changes):
    pieces = [split_table().slice(start, 17) for start in range(0, ROWS, 17)][::-1]
    monkeypatch.setattr(webdataset, "_MAX_GROUP_RECORDS", 7)
    write(tmp_path, pieces, splits=("train", "eval"), format="webdataset", columns=COLUMNS, **changes)
    expected = {path.relative_to(dataset): path.read_bytes() for path in shards_of(dataset)}
    assert {path.relative_to(tmp_path): path.read_bytes() for path in shards_of(tmp_path)} == expected


def test_gzip_holds_the_same_tar_file(tmp_path):
    for compression in ("none", "gzip"):
        options = {"num_shards": 1, "format": "webdataset", "columns": COLUMNS, "compression": compression}
        write(tmp_path / compression, [table()], **options)
    name = "train/part-00000-of-00001.tar"
    assert gzip.decompress((tmp_path / f"gzip/{name}.gz").read_bytes()) == (tmp_path / f"none/{name}").read_bytes()
    manifests = [read_manifest(str(tmp_path / compression)) for compression in ("none", "gzip")]
    assert manifests[0].dataset_id == manifests[1].dataset_id
    assert list(verify_dataset(str(tmp_path / "gzip"))) == []


def test_shards_without_rows_have_the_columns(tmp_path):
    write(tmp_path, [table(1)], num_shards=4, format="webdataset", columns=COLUMNS)
    assert sorted(len(samples_of(path)) for path in shards_of(tmp_path)) == [0, 0, 0, 1]
    for path in shards_of(tmp_path):
        with tarfile.open(path) as file:
            columns = json.load(file.extractfile("__columns__"))
        assert columns[3:] == [["grid", "[[double]]"], ["jpg", "binary"], ["view.png", "[binary]"]]
    assert list(verify_dataset(str(tmp_path))) == []


def stored(batch):
    """The bytes of a shard with these rows."""
    shards = load_format("webdataset", "none", batch.schema)
    encoded = shards.encode(batch)
    numbered = tar.numbered(encoded.data, encoded.offsets, 0).tobytes()
    return samples.sample_head(batch.schema) + numbered + tar.END


def read(data):
    """The rows of a shard."""
    reader = tar.TarReader(io.BytesIO(data), "a.tar")
    codec = samples.read_head(reader, "a.tar")
    batches = []
    for piece in reader.samples():
        if piece.faults:
            raise InputError(next(iter(piece.faults.values())))
        batches.append(codec.decode(piece, "a.tar"))
    return pa.Table.from_batches(batches, codec.columns)


def bits(value):
    """A value in which -0.0 is not 0.0, and NaN equals NaN."""
    if isinstance(value, list):
        return [bits(item) for item in value]
    return struct.pack("<d", value) if isinstance(value, float | np.floating) else value


@pytest.mark.parametrize("arrow_type", HOSTILE, ids=str)
def test_every_value_comes_back(arrow_type, monkeypatch):
    monkeypatch.setattr(tar, "_PIECE_BYTES", 3000)
    column = pa.array(HOSTILE[arrow_type] * 3, arrow_type)
    other = pa.array(range(len(column)), pa.int32())
    batch = pa.record_batch({"x": column, "id": other})
    sliced = pa.record_batch({"x": pa.concat_arrays([column, column]).slice(len(column)), "id": other})
    assert stored(sliced) == stored(batch)
    found = read(stored(batch))
    assert found.schema == batch.schema
    assert [bits(value) for value in found["x"].to_pylist()] == [bits(value) for value in column.to_pylist()]
    assert found["id"].to_pylist() == other.to_pylist()


def test_a_row_without_columns_of_json_is_an_empty_object():
    batch = pa.record_batch({"jpg": pa.array([None, b"x"], pa.binary())})
    assert read(stored(batch)).to_pylist() == batch.to_pylist()


def test_keys_of_a_shard_have_an_end(monkeypatch):
    monkeypatch.setattr(tar, "KEY_DIGITS", 0)
    with pytest.raises(DataError, match="a shard must have at most 1 records: write more shards"):
        tar.numbered(np.zeros(0, np.uint8), np.zeros(2, np.int64), 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": pa.date32()}, "column 'x' has type date32.*; a column of WebDataset shards must hold integers, floats"),
        ({"json": pa.binary()}, "column 'json' of bytes has the extension of the values of the other columns"),
        ({"a": pa.binary(), "A": pa.binary()}, "column 'A' of bytes has the extension of column 'a', which WebDataset"),
        ({"a/b": pa.binary()}, "column 'a/b' of bytes must have a name that can be the extension of a file"),
        ({"x" * 91: pa.binary()}, "of 1 to 90 bytes"),
        ({"x" * 81: pa.list_(pa.binary())}, "of 1 to 80 bytes"),
        ({".jpg": pa.binary()}, "with no dot at either end"),
        ({"a.jpg": pa.list_(pa.binary()), "A.7.jpg": pa.binary()}, "would have members of one name: rename one"),
        ({"a": pa.list_(pa.binary()), "a.0": pa.binary()}, "'a.0' and 'a' of bytes would have members of one name"),
    ],
)
def test_columns_that_samples_cannot_have_are_refused_early(columns, message):
    with pytest.raises(ConfigError, match=message):
        WriteDataset("out", format="webdataset", columns=pa.schema(list(columns.items()))).spec.shard_format()


def test_the_longest_names_fit():
    names = {"x" * 90: pa.array([b"a"], pa.binary()), "y" * 80: pa.array([[b"b"] * 3], pa.list_(pa.binary()))}
    assert read(stored(pa.record_batch(names))).to_pylist() == [{"x" * 90: b"a", "y" * 80: [b"b"] * 3}]


def renamed(data, old, new):
    """Changes the name of a member, and its header's checksum with it."""
    at = data.index(old + b"\0")
    change = sum(new) - sum(old)
    checksum = int(data[at + 148 : at + 154], 8) + change
    return data[:at] + new + data[at + len(old) : at + 148] + b"%06o" % checksum + data[at + 154 :]


ONE = pa.record_batch({"id": pa.array([5, 6]), "jpg": pa.array([b"x", None], pa.binary())})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"", "a.tar: cut off: 512 bytes are missing behind byte 0"),
        (lambda data: data[:-1], "a.tar: cut off: 1 bytes are missing"),
        (lambda data: data[:-1024], "a.tar: cut off: 512 bytes are missing"),
        (lambda data: data + b"\0", "is no member, and not the end of the file"),
        (lambda data: b"x" * 1024 + data, "must begin with the member __columns__"),
        (lambda data: data.replace(b"int64", b"int32"), "before byte 1024 does not match its CRC"),
        (
            lambda data: data.replace(b'{"id":5}', b'{"id":7}'),
            "row 0: the data at byte 1536 of the tar file do not match",
        ),
        (lambda data: data.replace(b'{"id":6}\0', b'{"id":6} '), "row 1: the data at byte 3584 of the tar file do not"),
        (lambda data: data.replace(b"000000001.json", b"000000003.json"), "header at byte 3072 is damaged"),
        (lambda data: renamed(data, b"000000001.json", b"000000003.json"), "not that of a member of row 1"),
        (lambda data: renamed(data, b"000000000.jpg", b"000000000.jpe"), "row 0: has 'jpe', which is no column"),
    ],
)
def test_what_is_damaged_is_named(spoil, message):
    with pytest.raises(InputError, match=message):
        read(spoil(stored(ONE)))


@pytest.mark.parametrize(
    ("value", "column", "message"),
    [
        (None, "id", "row 0: column 'id' is missing, or is not what its type int64 becomes: KeyError"),
        ("5], [6", "id", "row 0: 000000000.json does not hold an object of JSON"),
        ("5.5", "id", "5.5 is no int"),
        ('"5"', "id", "'5' is no int"),
        ("true", "id", "True is no int"),
        (str(2**64), "id", "has a value that is not of the type int64"),
        ('"x"', "price", "has a value that is not of the type double"),
        ("7", "name", "has a value that is not of the type string"),
        ("7", "grid", "7 is no list"),
        ('["a"]', "view.png", "is missing, or is not what its type list"),
    ],
)
def test_values_of_another_type_are_not_taken(value, column, message):
    codec = samples.SampleCodec(COLUMNS)
    document = {name: None for name in COLUMNS.names if name != "jpg"}
    if value is None:
        del document[column]
    text = json.dumps(document).replace(f'"{column}": null', f'"{column}": {value}').encode()
    member = tar.head_member(b"000000000.json", text)
    piece = next(tar.TarReader(io.BytesIO(member + tar.END), "a.tar").samples())
    with pytest.raises(InputError, match=message):
        codec.decode(piece, "a.tar")


def test_verify_finds_values_that_were_exchanged(tmp_path):
    write(tmp_path, [table()], num_shards=1, format="webdataset", columns=COLUMNS)
    path = tmp_path / "train" / "part-00000-of-00001.tar"
    path.write_bytes(path.read_bytes().replace(b'"id":123,', b'"id":124,'))
    assert {fault.code for fault in verify_dataset(str(tmp_path))} == {"shard.crc32c", "shard.broken"}
    path.write_bytes(path.read_bytes()[:-700])
    assert {fault.code for fault in verify_dataset(str(tmp_path))} == {"shard.bytes", "shard.broken"}


def numbers(path, rows=200):
    return write_csv(path, [{"id": i, "x": repr(i / 7), "time": 60 * i} for i in range(rows)], ("id", "x", "time"))


def test_job_writes_the_numbers_of_a_csv_file(tmp_path):
    source, out = numbers(tmp_path / "rows.csv"), tmp_path / "out"
    flags = ("--output_format=webdataset", "--split=train=0.5,eval=0.5", "--num_shards=2")
    assert run_prepare("--input", source, "--output", out, *flags) == DONE
    found = [json.loads(sample["json"]) for path in shards_of(out) for sample in samples_of(path).values()]
    assert sorted((row["id"], row["x"]) for row in found) == [(i, i / 7) for i in range(200)]
    assert list(verify_dataset(str(out))) == []


def test_verify_finds_rows_that_do_not_conform_to_the_schema(tmp_path):
    source, out = numbers(tmp_path / "rows.csv"), tmp_path / "out"
    schema = write_schema_file(tmp_path / "schema.pbtxt", id="INT", x="FLOAT", time="INT")
    flags = ("--output_format=webdataset", "--num_shards=1")
    assert run_prepare("--input", source, "--schema", schema, "--output", out, *flags) == DONE
    narrow = (out / "schema.pbtxt").read_text().replace('name: "id"', 'name: "id" int_domain { max: 197 }')
    (out / "schema.pbtxt").write_text(narrow)
    faults = {fault.code: fault.detail for fault in verify_dataset(str(out))}
    assert set(faults) == {"schema.changed", "schema.domain"}
    assert faults["schema.domain"].startswith("2 records do not conform to the schema: row ")


def test_windows_are_tar_files_too(tmp_path):
    source, out = numbers(tmp_path / "rows.csv", 20), tmp_path / "out"
    flags = ("--output_format=webdataset", "--event_time=time:s", "--window=fixed:10m", "--num_shards=1")
    assert run_prepare("--input", source, "--output", out, *flags) == DONE
    windows = list(read_window_manifests(str(out)))
    assert [(window.format, window.rows_out) for window in windows] == [("webdataset", 10)] * 2
    assert [len(samples_of(out / window.shards[0].path)) for window in windows] == [10, 10]
    assert list(verify_dataset(str(out))) == []
