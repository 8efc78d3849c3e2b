"""What files are that have another name: by files that other libraries write."""

import bz2
import gzip
import io
import lzma
import re
import sqlite3
import zipfile

import fastavro
import pyarrow as pa
import pytest
from pyarrow import feather, orc, parquet

from penstock.io.errors import ConfigError, InputError
from penstock.io.files.contents import content_of, telling_content
from penstock.io.files.inputs import stat_file
from penstock.io.formats.partitioned import PartitionedFormat
from penstock.io.formats.registry import FORMATS
from penstock.io.schema import Feature, Kind
from penstock.io.sources.read import PlanPartsFn, ReadPartFn

CSV = b"a,b\n" + b"1,x\n" * 50
TABLE = pa.table({"a": [1, 2], "b": ["x", "y"]})


def written(write) -> bytes:
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


def zipped(name: str) -> bytes:
    with zipfile.ZipFile(sink := io.BytesIO(), "w") as archive:
        archive.writestr(name, CSV)
    return sink.getvalue()


def database(path) -> bytes:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a INT)")
    connection.close()
    return path.read_bytes()


CONTENTS = {
    "gzip": (gzip.compress(CSV), "the file is gzip, not text; let its name end in .gz"),
    "bzip2": (bz2.compress(CSV), "the file is bzip2, not text; let its name end in .bz2"),
    "zstd": (pa.compress(CSV, "zstd", asbytes=True), "the file is zstd, not text; let its name end in .zst"),
    "xz": (lzma.compress(CSV), "the file is xz, not text; unpack it"),
    "zip": (zipped("t.csv"), "the file is a zip archive, not text; unpack it"),
    "xlsx": (zipped("[Content_Types].xml"), "the file is an Excel workbook, not text; export its sheet as CSV"),
    "xls": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500), "the file is an Excel workbook"),
    "parquet": (written(lambda sink: parquet.write_table(TABLE, sink)), "the file is Parquet, not text; pass --format"),
    "orc": (written(lambda sink: orc.write_table(TABLE, sink)), "the file is ORC, not text; pass --format orc"),
    "avro": (
        written(lambda sink: fastavro.writer(sink, {"type": "record", "name": "r", "fields": []}, [{}])),
        "the file is Avro, not text; pass --format avro",
    ),
    "feather": (written(lambda sink: feather.write_feather(TABLE, sink)), "the file is an Arrow file (Feather)"),
    "sqlite": (database, "the file is an SQLite database, not text; export its tables as CSV"),
    "utf16": (CSV.decode().encode("utf-16-le"), "the file is UTF-16, not text; convert it to UTF-8, for example with"),
    "utf16_be": (
        CSV.decode().encode("utf-16-be"),
        "the file is UTF-16, not text; convert it to UTF-8, for example with iconv -f UTF-16B",
    ),
}


def read(path, name: str, format_name: str, data, **options) -> None:
    """Plans and reads a file as a job does."""
    (path / name).write_bytes(data(path / "database") if callable(data) else data)
    reader = FORMATS[format_name].make(**options)
    for item in PlanPartsFn(reader).process((0, stat_file(str(path / name)))):
        list(ReadPartFn(reader, None, False, keep_source=False).process(item))


@pytest.mark.parametrize(("data", "message"), CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("format_name", ["csv", "jsonl", "text"])
def test_a_text_that_is_none_is_refused_by_what_it_is(tmp_path, format_name, data, message):
    with pytest.raises(InputError, match=f"^{tmp_path}/t.dat: {re.escape(message)}"):
        read(tmp_path, "t.dat", format_name, data)


def test_names_that_are_given_change_nothing(tmp_path):
    with pytest.raises(InputError, match="the file is gzip, not text"):
        read(tmp_path, "t.csv", "csv", gzip.compress(CSV), column_names=("a",))


OTHERS = {
    "csv_as_gzip": ("t.csv.gz", "csv", CSV, "the file is plain text, not compressed: correct its name"),
    "bzip2_as_gzip": ("t.csv.gz", "csv", bz2.compress(CSV), "the file is bzip2: let its name end in .bz2"),
    "gzip_in_gzip": ("t.csv.gz", "csv", gzip.compress(gzip.compress(CSV)), "the file is gzip, not text"),
    "zip_as_parquet": (
        "t.parquet",
        "parquet",
        zipped("t.csv"),
        "; the file is a zip archive: unpack it",
    ),
    "orc_as_parquet": ("t.parquet", "parquet", CONTENTS["orc"][0], "; the file is ORC: pass --format orc"),
    "gzip_as_avro": (
        "t.avro",
        "avro",
        gzip.compress(CSV),
        "; the file is gzip: let its name end in .gz",
    ),
    "parquet_as_orc": ("t.orc", "orc", CONTENTS["parquet"][0], "; the file is Parquet: pass --format parquet"),
    "gzip_as_tfrecord": ("t.tfrecord", "tfrecord", gzip.compress(CSV), "; the file is gzip: let its name end in .gz"),
}


@pytest.mark.parametrize(("name", "format_name", "data", "message"), OTHERS.values(), ids=OTHERS)
def test_an_error_of_another_format_says_what_the_file_is(tmp_path, name, format_name, data, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, name, format_name, data)


CUT_OFF = {
    "parquet": ("t.parquet", "parquet", CONTENTS["parquet"][0][:-20], "magic bytes not found"),
    "avro": ("t.avro", "avro", b"Obj\x01", "the Avro header is damaged or cut off"),
    "gzip": ("t.csv.gz", "csv", b"\x1f\x8b", "the gzip stream is truncated"),
    "bzip2": ("t.csv.bz2", "csv", b"BZ", "the bz2 stream is truncated"),
    "zstd": ("t.csv.zst", "csv", b"\x28\xb5", "the zstd stream is truncated"),
}


@pytest.mark.parametrize(("name", "format_name", "data", "message"), CUT_OFF.values(), ids=CUT_OFF)
def test_a_file_that_is_what_it_is_read_as_is_told_nothing_else(tmp_path, name, format_name, data, message):
    folder = tmp_path / "month=2"  # columns from folders change nothing
    folder.mkdir()
    with pytest.raises(InputError, match=message) as caught:
        read(folder, name, format_name, data)
    assert "; the file is" not in str(caught.value)


def test_a_column_that_a_file_lacks_has_nothing_to_do_with_its_format(tmp_path):
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    (file, reader) = stat_file(str(tmp_path / "t.parquet")), PartitionedFormat(FORMATS["parquet"].make())
    required = Feature("b", Kind.INT, required=True)
    with pytest.raises(InputError, match=r"column 'b' is required.*optional in the schema$"):
        list(ReadPartFn(reader, [required], False, keep_source=False).process((0, file, next(reader.plan(file)))))


@pytest.mark.parametrize(
    "text",
    [b"", b"a", b"PAR1,PAR2\n", b"ORC,HUMAN\n1,2\n", b"ORC\nx\n", b"BZh9,x\n", b"Obj,x\n", b"PK,x\n", b"%PDF\n", CSV],
)
def test_text_is_nothing_else(text):
    assert content_of(text) is None


def test_other_errors_and_files_that_are_gone_stay_as_they_are(tmp_path):
    (tmp_path / "t.csv").write_bytes(CSV)
    file = stat_file(str(tmp_path / "t.csv"))
    with pytest.raises(InputError, match=r"^why$"), telling_content(file, "csv"):
        raise InputError("why")
    (tmp_path / "t.csv").write_bytes(gzip.compress(CSV))
    with pytest.raises(ConfigError, match=r"^why$"), telling_content(file, "csv"):
        raise ConfigError("why")
    (tmp_path / "t.csv").unlink()
    with pytest.raises(InputError, match=r"^why$"), telling_content(file, "csv"):
        raise InputError("why")
