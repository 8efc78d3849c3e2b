import bz2
import gzip
import pickle
import zlib

import pytest
from depth import on_shared_path
from helpers import payloads_in
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import MAX_BATCH_ROWS
from penstock.io.errors import InputError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.base import Part
from penstock.io.formats.tfrecord import TFRecordFormat
from penstock.io.reserved import ORIGIN, RESERVED
from penstock.io.schema import Feature, Kind

tf = pytest.importorskip("tensorflow")

FEATURES = (Feature("id", Kind.INT, multivalued=False, required=True), Feature("name", Kind.BYTES, multivalued=False))


def example(row):
    features = tf.train.Features()
    features.feature["id"].int64_list.value.append(row)
    if row % 3:
        features.feature["name"].bytes_list.value.append(f"näme {row}".encode())
    return tf.train.Example(features=features).SerializeToString()


def write(path, records, compression=""):
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=compression)) as writer:
        for record in records:
            writer.write(record)
    return stat_file(str(path))


def read(file, features=FEATURES):
    reader = TFRecordFormat()
    (part,) = reader.plan(file)
    return list(reader.read(file, part, features))


def rows_of(parsed):
    return [row for part in parsed for row in part.batch.to_pylist()]


def positions_of(parsed):
    return [row[ORIGIN]["position"] for row in rows_of(parsed)]


@pytest.mark.parametrize(
    ("suffix", "compression"), [("", ""), (".gz", "GZIP"), (".zlib", "ZLIB")], ids=["plain", "gzip", "zlib"]
)
def test_files_written_by_tensorflow_are_read_whole(tmp_path, suffix, compression):
    records = [example(row) for row in range(70_000)]
    file = write(tmp_path / f"a.tfrecord{suffix}", records, compression)
    parsed = read(file)
    rows = rows_of(parsed)
    assert [row["id"] for row in rows] == list(range(70_000))
    assert [row["name"] for row in rows[:3]] == [None, "näme 1".encode(), "näme 2".encode()]
    assert max(part.batch.num_rows for part in parsed) <= MAX_BATCH_ROWS
    assert positions_of(parsed)[:2] == [0, len(records[0]) + 16]
    assert {row[ORIGIN]["uri"] for row in rows} == {file.uri}


@pytest.mark.parametrize(("suffix", "pack"), [(".bz2", bz2.compress), (".gz", gzip.compress)])
def test_other_compressions_and_several_members(tmp_path, suffix, pack):
    plain = write(tmp_path / "a.tfrecord", [example(row) for row in range(10)])
    content = (tmp_path / "a.tfrecord").read_bytes()
    path = tmp_path / f"b.tfrecord{suffix}"
    path.write_bytes(pack(content[:100]) + pack(content[100:]))
    assert [row["id"] for row in rows_of(read(stat_file(str(path))))] == [row["id"] for row in rows_of(read(plain))]


def test_columns_are_not_declared_and_the_file_is_one_part(tmp_path):
    file = write(tmp_path / "a.tfrecord", [example(1)])
    assert TFRecordFormat().columns(file) is None
    assert list(TFRecordFormat().plan(file)) == [Part()]
    assert pickle.loads(pickle.dumps(TFRecordFormat())) == TFRecordFormat()


def test_inference_reads_every_column_as_lists(tmp_path):
    (parsed,) = read(write(tmp_path / "a.tfrecord", [example(1), example(3)]), None)
    rows = [{name: row[name] for name in row if name not in RESERVED} for row in parsed.batch.to_pylist()]
    assert rows == [{"id": [1], "name": ["näme 1".encode()]}, {"id": [3], "name": None}]


def test_bad_records_become_dead_letters_with_offset_and_payload(tmp_path):
    wrong = tf.train.Example()
    wrong.features.feature["id"].bytes_list.value.append(b"x")
    records = [example(0), b"\x0a\xff", example(1), wrong.SerializeToString(), example(2)]
    (parsed,) = read(write(tmp_path / "a.tfrecord", records))
    assert [row["id"] for row in parsed.batch.to_pylist()] == [0, 1, 2]
    assert [letter.reasons[0].code for letter in parsed.rejected] == ["tfrecord.parse", "tfrecord.type"]
    assert [letter.position for letter in parsed.rejected] == [
        16 + len(records[0]),
        52 + len(records[0] + records[2]) - 2,
    ]
    assert (parsed.rejected[0].payload, parsed.rejected[0].payload_encoding) == ("Cv8=", "base64")
    assert payloads_in(parsed) == [records[0], records[2], records[4]]


def test_payload_is_the_record_when_nothing_is_rejected(tmp_path):
    records = [example(row) for row in range(9000)]
    for parsed in read(write(tmp_path / "a.tfrecord", records)):
        ids = parsed.batch.column("id").to_pylist()
        assert [payloads_in(parsed)[row] for row in (0, -1)] == [records[ids[0]], records[ids[-1]]]


def test_batch_of_bad_records_only_still_reports_them(tmp_path):
    (parsed,) = read(write(tmp_path / "a.tfrecord", [b"\xff", b"\xff"]))
    assert parsed.batch.num_rows == 0
    assert len(parsed.rejected) == 2


def test_empty_file_has_no_rows(tmp_path):
    assert read(write(tmp_path / "a.tfrecord", [])) == []


@pytest.mark.parametrize("keep", [-1, -20, 5])
def test_truncated_gzip_is_an_input_error_naming_the_file(tmp_path, keep):
    write(tmp_path / "a.tfrecord.gz", [example(row) for row in range(1000)], "GZIP")
    path = tmp_path / "a.tfrecord.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.tfrecord\.gz: the gzip stream is truncated or corrupt"):
        read(stat_file(str(path)))


def test_truncated_zlib_is_an_input_error(tmp_path):
    path = tmp_path / "a.tfrecord.zlib"
    write(tmp_path / "a.tfrecord", [example(row) for row in range(1000)])
    path.write_bytes(zlib.compress((tmp_path / "a.tfrecord").read_bytes())[:-3])
    with pytest.raises(InputError, match=r"a\.tfrecord\.zlib: .*truncated"):
        read(stat_file(str(path)))


def test_truncated_and_damaged_records_are_input_errors_with_the_offset(tmp_path):
    path = tmp_path / "a.tfrecord"
    write(path, [example(0), example(1)])
    content, second = path.read_bytes(), len(example(0)) + 16
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"a\.tfrecord: .* at byte {second}; the file is truncated"):
        read(stat_file(str(path)))
    path.write_bytes(content[:-6] + b"\0" + content[-5:])
    with pytest.raises(InputError, match=rf"a\.tfrecord: the data CRC of the record at byte {second}"):
        read(stat_file(str(path)))


def test_gzip_content_without_the_suffix_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"looks gzip-compressed: give its name the suffix \.gz"):
        read(write(tmp_path / "a.tfrecord", [example(0)], "GZIP"))


def test_reserved_feature_name_is_refused(tmp_path):
    bad = tf.train.Example()
    bad.features.feature["_origin"].int64_list.value.append(1)
    with pytest.raises(InputError, match=r"a\.tfrecord: column name '_origin' is reserved"):
        read(write(tmp_path / "a.tfrecord", [bad.SerializeToString()]), None)


@on_shared_path(40)
@given(st.lists(st.one_of(st.integers(0, 99).map(example), st.binary(max_size=12)), max_size=40))
def test_in_equals_out_plus_rejected(tmp_path, records):
    parsed = read(write(tmp_path / "a.tfrecord", records))
    good = [row for part in parsed for row in part.batch.to_pylist()]
    bad = [letter for part in parsed for letter in part.rejected]
    assert len(good) + len(bad) == len(records)
    starts, at = [], 0
    for record in records:
        starts.append(at)
        at += len(record) + 16
    assert sorted([row[ORIGIN]["position"] for row in good] + [letter.position for letter in bad]) == starts


def test_records_that_are_too_long_are_dead_letters_with_their_beginning(tmp_path):
    long = example(0) + b"z" * (5 << 20)
    file = write(tmp_path / "a.tfrecord.gz", [example(1), long, example(2)], compression="GZIP")
    parsed = list(TFRecordFormat(max_row_bytes=1 << 20).read(file, Part(), FEATURES))
    assert [value for part in parsed for value in part.batch.column("id").to_pylist()] == [1, 2]
    (letter,) = [letter for part in parsed for letter in part.rejected]
    assert (letter.position, letter.reasons[0].code) == (len(example(1)) + 16, "tfrecord.too_long")
    assert letter.reasons[0].detail == (
        f"the record has {len(long)} bytes, over the limit of 1048576; the payload is its first 4096 bytes"
    )
    assert long.startswith(letter.payload.encode())
