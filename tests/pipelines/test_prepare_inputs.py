"""Inputs that are wrong: a clear error and an untouched output, or dead letters; never a lost row."""

import gzip
import os
import re

import pyarrow as pa
import pytest
from helpers import (
    dead_letters,
    examples,
    job,
    manifest_of,
    run_prepare,
    write_avro,
    write_csv,
    write_parquet,
    write_schema_file,
    write_tfrecord,
)

from penstock.io.errors import InputError
from penstock.transforms.verify import verify_dataset
from pipelines._jobs import prepare as _prepare
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE


@pytest.fixture
def schema(tmp_path):
    return write_schema_file(tmp_path / "schema.pbtxt", a="INT presence { min_count: 1 }", b="BYTES")


def compressed(data, codec):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


CSV = b"a,b\n" + b"".join(b"%d,%s\n" % (row, os.urandom(20).hex().encode()) for row in range(500))
PARQUET = pa.table({"a": range(1000), "b": [f"x{row}" for row in range(1000)]})
ROWS = [{"a": row, "b": "x"} for row in range(1000)]


def parquet_bytes(tmp_path):
    return write_parquet(tmp_path / "whole.parquet", PARQUET).read_bytes()


def avro_bytes(tmp_path):
    return write_avro(tmp_path / "whole.avro", ROWS, {"a": "long", "b": "string"}).read_bytes()


def tfrecord_bytes(tmp_path):
    return write_tfrecord(tmp_path / "whole.tfrecord", ROWS[:10]).read_bytes()


def flipped(data, at):
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


# name, bytes (or a function of tmp_path that makes them), what the message says beside the name
BROKEN = {
    "half.csv.gz": (gzip.compress(CSV)[:4000], "gzip stream is truncated or corrupt"),
    "half.csv.bz2": (compressed(CSV, "bz2")[:4000], "bz2 stream is truncated or corrupt"),
    "half.csv.zst": (compressed(CSV, "zstd")[:4000], "zstd stream is truncated or corrupt"),
    "tail.csv.gz": (gzip.compress(CSV)[:-4], "gzip stream is truncated or corrupt"),
    "flip.csv.gz": (flipped(gzip.compress(CSV), -6), "gzip stream is truncated or corrupt"),
    "plain.csv.gz": (CSV, "gzip stream is truncated or corrupt"),
    "wide.csv": (CSV.decode().encode("utf-16"), "UTF-16 or UTF-32; convert it to UTF-8"),
    "reserved.csv": (b"a,_split\n1,x\n", "column name '_split' is reserved by Penstock; rename the column"),
    "torn.csv": (b'a,b\n1,"x\ny"\n', "lines 2 to 3, from byte 4 on, are one record; pass --csv_multiline"),
    "semicolons.csv": (b"a;b\n1;x\n", "looks as if ';' separates 2 columns"),
    "lacking.csv": (b"b,c\nx,1\n", "column 'a' is required by the schema, but the file has only b, c; correct"),
    "cut.tfrecord": (lambda path: tfrecord_bytes(path)[:-3], "file is truncated: copy or write it again"),
    "length.tfrecord": (
        lambda path: flipped(tfrecord_bytes(path), 1),
        "length CRC of the record at byte 0 does not match",
    ),
    "data.tfrecord": (
        lambda path: flipped(tfrecord_bytes(path), 20),
        "data CRC of the record at byte 0 does not match",
    ),
    "text.tfrecord": (b"this is not what the name says", "not a TFRecord file"),
    "half.parquet": (
        lambda path: parquet_bytes(path)[:2000],
        "not a Parquet file, or its footer is damaged or cut off",
    ),
    "footer.parquet": (
        lambda path: parquet_bytes(path)[:-300] + b"\xff" * 292 + parquet_bytes(path)[-8:],
        "not a Parquet file, or its footer is damaged or cut off",
    ),
    "page.parquet": (
        lambda path: parquet_bytes(path)[:8] + b"\xff" * 32 + parquet_bytes(path)[40:],
        "row group 0 cannot be read, the file is damaged",
    ),
    "empty.parquet": (b"", "not a Parquet file"),
    "cut.avro": (lambda path: avro_bytes(path)[:-10], "the file is truncated or damaged"),
    "sync.avro": (lambda path: flipped(avro_bytes(path), -1), "damaged"),
    "other.avro": (
        lambda path: write_avro(path / "q", [{"q": 1}], {"q": "long"}).read_bytes(),
        "column 'a' is required by the schema, but the file has only q",
    ),
    "text.avro": (b"this is not what the name says", "not an Avro file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_fails_the_job_by_its_name_and_leaves_nothing(tmp_path, schema, name):
    data, message = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(data(tmp_path) if callable(data) else data)
    good = write_csv(tmp_path / "good.csv", ROWS[:5], "ab") if ".csv" in name else path
    out = tmp_path / "out"
    code, stderr = job("--input", path, "--input", good, "--schema", schema, "--output", out)
    assert code == DATA_FAILED
    assert f"{path}: " in stderr
    assert message in stderr
    assert not out.exists()


@pytest.mark.parametrize("name", ["half.csv.gz", "torn.csv", "data.tfrecord", "footer.parquet", "cut.avro"])
def test_a_broken_file_fails_the_inference_as_well(tmp_path, name):
    data, message = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(data(tmp_path) if callable(data) else data)
    code, stderr = job("--input", path, "--output", tmp_path / "out")
    assert (code, message in stderr, str(path) in stderr) == (DATA_FAILED, True, True)
    assert not (tmp_path / "out").exists()


def test_a_broken_file_ends_all_workers_and_leaves_nothing(tmp_path, schema):
    (tmp_path / "0.csv.gz").write_bytes(BROKEN["half.csv.gz"][0])
    for index in range(1, 6):
        write_csv(tmp_path / f"{index}.csv", ROWS, "ab")
    workers = ("--direct_num_workers=3",)
    code, stderr = job("--input", tmp_path / "[0-9].csv*", "--schema", schema, "--output", tmp_path / "out", *workers)
    assert (code, "0.csv.gz" in stderr) == (DATA_FAILED, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("with_schema", [True, False])
@pytest.mark.parametrize(("data", "suffix"), [(b"", "csv"), (b"a,b\n", "csv"), (b"\n\n", "jsonl"), (b"", "tfrecord")])
def test_an_input_without_rows_is_an_error(tmp_path, schema, data, suffix, with_schema):
    path = tmp_path / f"in.{suffix}"
    path.write_bytes(data)
    flags = ("--schema", schema) if with_schema else ()
    code, stderr = job("--input", path, "--output", tmp_path / "out", *flags)
    assert code == DATA_FAILED
    assert "the input has no rows" in stderr
    assert f"{path} (1 files" in stderr
    why = {b"": "the files are empty", b"a,b\n": "the files have columns (a, b) without a row"}
    assert why.get(data, "") in stderr
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_read_do_not_make_a_schema(tmp_path):
    (tmp_path / "in.csv").write_text('a,b\n1\n2,3,4\n\n"5,6\n')
    code, stderr = job("--input", tmp_path / "in.csv", "--output", tmp_path / "out")
    assert code == DATA_FAILED
    assert f"the input has no rows that can be read: {tmp_path}/in.csv (1 files" in stderr
    assert (
        "nothing is written; 3 rows are rejected: "
        f"2 for csv.column_count ({tmp_path}/in.csv, line 2: expected 2 columns, got 1: '1'), "
        f"1 for csv.quote ({tmp_path}/in.csv, line 5: a quoted field does not end in this line"
    ) in stderr


def test_an_empty_file_and_one_with_a_header_alone_stand_beside_good_ones(tmp_path, schema):
    (tmp_path / "1.csv").write_bytes(b"")
    (tmp_path / "2.csv").write_bytes(b"a,b\n")
    write_csv(tmp_path / "3.csv", ROWS[:5], "ab")
    for flags in ((), ("--schema", schema)):
        out = tmp_path / f"out{len(flags)}"
        assert job("--input", tmp_path / "[123].csv", "--output", out, *flags) == (DONE, "")
        assert len(examples(out)) == 5


def test_files_may_lack_and_order_columns_as_they_like(tmp_path, schema):
    (tmp_path / "1.csv").write_text("b,a\nx,1\n")
    (tmp_path / "2.csv").write_text("a,extra\n2,y\n")
    out = tmp_path / "out"
    run_prepare("--input", tmp_path / "*.csv", "--schema", schema, "--output", out, "--shuffle=none")
    assert examples(out) == [{"a": [1], "b": ["x"]}, {"a": [2]}]


@pytest.mark.parametrize("suffix", ["avro", "parquet", "tfrecord"])
def test_typed_rows_that_break_the_schema_are_dead_letters_in_any_cut(tmp_path, suffix):
    schema = write_schema_file(tmp_path / "s", n="INT int_domain { max: 90 }", x="FLOAT")
    rows = [{"n": row, "x": 1e39 if row % 50 == 7 and suffix != "tfrecord" else 0.5} for row in range(100)]
    outs = []
    for size in (1, 30, 1000):
        path = tmp_path / f"in{size}.{suffix}"
        match suffix:
            case "avro":
                write_avro(path, rows, {"n": "long", "x": "double"}, block_bytes=size)
            case "parquet":
                write_parquet(path, pa.Table.from_pylist(rows), row_group_size=size)
            case "tfrecord":
                write_tfrecord(path, rows)
        outs.append(tmp_path / f"out{size}")
        run_prepare("--input", path, "--schema", schema, "--output", outs[-1], "--max_reject_fraction=0.2")
        manifest = manifest_of(outs[-1])
        assert (manifest.rows_in, manifest.rows_out + manifest.rows_rejected) == (100, 100)
        assert manifest.rejected_by_reason["schema.domain"] == 9
        assert manifest.rejected_by_reason.get("schema.float_overflow", 0) == (0 if suffix == "tfrecord" else 2)
    letters = [[(letter["reason"], letter["position"]) for letter in dead_letters(out)] for out in outs]
    assert letters[0] == letters[1] == letters[2]
    assert manifest_of(outs[0]).dataset_id == manifest_of(outs[2]).dataset_id


def test_a_field_of_100_megabytes_is_a_row_like_any_other(tmp_path):
    path = tmp_path / "in.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n1,")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\n2,y\n")
    schema = write_schema_file(tmp_path / "s", a="INT", b="BYTES")
    out = tmp_path / "out"
    assert run_prepare("--input", path, "--schema", schema, "--output", out, "--shuffle=none") == DONE
    assert [len(row["b"][0]) for row in examples(out)] == [100_000_000, 1]


class TestAFileThatChanges:
    """Between the pipelines of one run, or while one reads it."""

    def append(self, path):
        with path.open("a") as file:
            file.write("9,z\n")

    def test_after_the_schema_was_inferred(self, tmp_path, monkeypatch):
        path = write_csv(tmp_path / "in.csv", ROWS[:5], "ab")
        infer = _prepare.infer_schema

        def infer_and_change(*args):
            schema = infer(*args)
            self.append(path)
            return schema

        monkeypatch.setattr(_prepare, "infer_schema", infer_and_change)
        code, stderr = job("--input", path, "--output", tmp_path / "out")
        assert code == DATA_FAILED
        assert f"{path} changed while it was read: " in stderr
        assert "run the job again when the file is complete" in stderr
        assert not (tmp_path / "out").exists()

    def test_after_the_files_were_listed(self, tmp_path, schema, monkeypatch):
        path = write_csv(tmp_path / "in.csv", ROWS[:5], "ab")
        build = _prepare.build

        def change_and_build(*args, **more):
            self.append(path)
            build(*args, **more)

        monkeypatch.setattr(_prepare, "build", change_and_build)
        with pytest.raises(InputError, match=r"in.csv changed while it was read: \d+ bytes at the start, \d+ now"):
            run_prepare("--input", path, "--schema", schema, "--output", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_when_it_is_gone(self, tmp_path, schema, monkeypatch):
        path = write_csv(tmp_path / "in.csv", ROWS[:5], "ab")
        build = _prepare.build
        monkeypatch.setattr(_prepare, "build", lambda *args, **more: (path.unlink(), build(*args, **more)))
        with pytest.raises(InputError, match=r"in.csv: the file is gone or cannot be read"):
            run_prepare("--input", path, "--schema", schema, "--output", tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path, schema):
    path = write_csv(tmp_path / "in.csv", ROWS[:5], "ab")
    path.chmod(0)
    code, stderr = job("--input", path, "--schema", schema, "--output", tmp_path / "out")
    assert (code, str(path) in stderr) == (DATA_FAILED, True)


@pytest.mark.parametrize(
    ("names", "flags", "code", "message"),
    [
        (["none*.csv"], [], DATA_FAILED, r"no file matches .*none\*.csv; check the path, and quote a pattern"),
        ([""], [], WRONG_USAGE, "lies in --input .*, so the next run would read what this one writes"),
        (
            ["a.csv", "a.jsonl"],
            [],
            WRONG_USAGE,
            "several formats: .*a.csv .csv., .*a.jsonl .jsonl.; run one job for each",
        ),
        (["a.csv", "a.tsv"], [], WRONG_USAGE, r"several delimiters: .*a.csv \('default'\), .*a.tsv \('.t'\)"),
        (["a.dat"], [], WRONG_USAGE, r"a.dat: no format is known for this name; pass --format csv\|jsonl"),
        (
            ["a.jsonl"],
            ["--csv_delimiter=;"],
            WRONG_USAGE,
            "--csv_delimiter is no option of JSON files",
        ),
        (["a.csv"], ["--csv_delimiter=;;"], WRONG_USAGE, "delimiter must be one ASCII character"),
        (["a.csv"], ["--columns=a,a"], WRONG_USAGE, "--columns: column name 'a' appears more than once"),
    ],
)
def test_inputs_that_are_named_wrongly(tmp_path, names, flags, code, message):
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "a.tsv").write_text("a\n1\n")
    (tmp_path / "a.dat").write_text("a\n1\n")
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    inputs = [part for name in names for part in ("--input", tmp_path / name)]
    found, stderr = job(*inputs, "--output", tmp_path / "out", *flags)
    assert found == code
    assert re.search(message, stderr), stderr
    assert not (tmp_path / "out").exists()


def test_a_format_is_taken_at_its_word(tmp_path):
    (tmp_path / "a.dat").write_text("a\n1\n")
    (tmp_path / "b.log").write_text("a\n2\n")
    out = tmp_path / "out"
    flags = ("--format=csv", "--shuffle=none", "--output", out)
    assert run_prepare("--input", tmp_path / "a.dat", "--input", tmp_path / "b.log", *flags) == DONE
    assert examples(out) == [{"a": [1]}, {"a": [2]}]
    assert not list(verify_dataset(str(out)))


def test_paths_may_have_any_character(tmp_path):
    path = write_csv(tmp_path / "in [1] *ü.csv", ROWS[:5], "ab")
    out = tmp_path / "out [x] ?ü"
    assert run_prepare("--input", path, "--output", f"{out}/") == DONE
    assert run_prepare("--input", path, "--output", out, "--overwrite") == DONE
    assert len(examples(out)) == 5
    assert not list(verify_dataset(str(out)))


def test_a_file_that_several_patterns_match_is_read_once(tmp_path):
    path = write_csv(tmp_path / "a.csv", ROWS[:5], "ab")
    out = tmp_path / "out"
    run_prepare("--input", path, "--input", tmp_path / "*.csv", "--output", out)
    assert manifest_of(out).rows_in == 5
