import bz2
import gzip
import pickle
import zlib

import pytest
from depth import on_shared_path
from helpers import dead_letters, examples, job, manifest_of, payloads_in, run_prepare, write_schema_file
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.io.batches import is_untyped
from penstock.io.errors import InputError
from penstock.io.files.contents import HEAD_BYTES, content_of
from penstock.io.files.inputs import stat_file
from penstock.io.formats.base import Part
from penstock.io.formats.text import TextFormat
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind
from pipelines import replay
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE


def write(path, data):
    path.write_bytes(data)
    return stat_file(str(path))


def read(file, features=None, reader=None):
    reader = reader or TextFormat()
    return [parsed for part in reader.plan(file) for parsed in reader.read(file, part, features)]


def texts_of(parsed):
    return [text for part in parsed for text in part.batch.column("text").to_pylist()]


def positions_of(parsed):
    return [row["position"] for part in parsed for row in part.batch.column(ORIGIN).to_pylist()]


@pytest.mark.parametrize(
    ("data", "texts", "positions"),
    [
        (b"", [], []),
        (b"a", [b"a"], [0]),
        (b"a\n", [b"a"], [0]),
        (b"\n", [b""], [0]),
        (b"\n\n b \n\n", [b"", b"", b" b ", b""], [0, 1, 2, 6]),
        (b"a\r\nb\nc\r\n", [b"a", b"b", b"c"], [0, 3, 5]),
        (b"a\rb\r\r\nc\r", [b"a\rb\r", b"c\r"], [0, 6]),
        (b"\r\n\r\n", [b"", b""], [0, 2]),
        (b"\xff\xfd\n\x00\n\xe9t\xe9", [b"\xff\xfd", b"\x00", b"\xe9t\xe9"], [0, 3, 5]),
        (b"\xef\xbb\xbfid,name\n1,a\n", [b"id,name", b"1,a"], [3, 11]),
        ('"é",\u2028x\n'.encode(), ['"é",\u2028x'.encode()], [0]),
    ],
    ids=["empty", "one", "one_ended", "blank", "blanks", "crlf", "other_crs", "blank_crlf", "bytes", "mark", "unicode"],
)
def test_a_line_is_a_row(tmp_path, data, texts, positions):
    parsed = read(write(tmp_path / "a.txt", data))
    assert texts_of(parsed) == texts
    assert positions_of(parsed) == positions
    assert [payload for part in parsed for payload in payloads_in(part)] == texts
    assert not any(part.rejected for part in parsed)


@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.translate(None, b"\r\n")), max_size=30),
    ends=st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=30, max_size=30),
    last=st.booleans(),
    part_bytes=st.integers(1, 40),
    block_bytes=st.integers(1, 40),
)
@example(lines=[b"a", b"", b"b"], ends=[b"\r\n"] * 30, last=False, part_bytes=2, block_bytes=2)
@example(lines=[b"Obj\x01"], ends=[b"\n"] * 30, last=False, part_bytes=1, block_bytes=6)
@on_shared_path(100)
def test_rows_are_the_lines_that_tensorflow_reads_for_any_cut(tmp_path, lines, ends, last, part_bytes, block_bytes):
    tf = pytest.importorskip("tensorflow")
    data = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    data = data if last else data.removesuffix(b"\n").removesuffix(b"\r")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or content_of(data[:HEAD_BYTES]):
        data = b"text" + data
    file = write(tmp_path / "a.txt", data)
    parsed = read(file, reader=TextFormat(part_bytes, block_bytes))
    assert texts_of(parsed) == [text.numpy() for text in tf.data.TextLineDataset(file.uri)]
    assert all(
        data[at : at + len(text)] == text for at, text in zip(positions_of(parsed), texts_of(parsed), strict=True)
    )


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".zlib", zlib.compress)],
    ids=["gz", "bz2", "zlib"],
)
def test_compressed_files_are_one_part(tmp_path, suffix, pack):
    file = write(tmp_path / f"a.txt{suffix}", pack(b"a\nb\r\n\n"))
    reader = TextFormat(part_bytes=1, block_bytes=2)
    assert list(reader.plan(file)) == [Part()]
    assert reader.tail(file) is None
    assert texts_of(read(file, reader=reader)) == [b"a", b"b", b""]


@pytest.mark.parametrize("block_bytes", [4, 1 << 20])
def test_lines_that_are_too_long_are_dead_letters_with_their_beginning(tmp_path, block_bytes):
    file = write(tmp_path / "a.txt", b"ok\n" + b"x" * 50 + b"\nyes\n" + b"y" * 60)
    parsed = read(file, reader=TextFormat(block_bytes=block_bytes, max_line_bytes=10))
    assert texts_of(parsed) == [b"ok", b"yes"]
    letters = [letter for part in parsed for letter in part.rejected]
    assert [(letter.reasons[0].code, letter.position) for letter in letters] == [
        ("text.too_long", 3),
        ("text.too_long", 58),
    ]
    assert letters[0].reasons[0].detail == "the line has more than 10 bytes; the payload is its first 50 bytes"
    assert letters[0].payload == "x" * 50


def test_the_tail_is_the_end_of_the_file(tmp_path):
    lines = [f"{number:07}".encode() for number in range(100_000)]
    file = write(tmp_path / "a.txt", b"\n".join(lines))
    tail = TextFormat().tail(file)
    texts = texts_of(TextFormat().read(file, tail, None))
    assert texts == lines[-len(texts) :]
    assert 0 < len(texts) < len(lines)


def test_utf16_is_refused(tmp_path):
    file = write(tmp_path / "a.txt", "a\nb\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"a\.txt: the file is UTF-16 or UTF-32; convert it to UTF-8"):
        read(file)


def test_a_schema_of_other_columns_is_refused(tmp_path):
    file = write(tmp_path / "a.txt", b"id,name\n1,a\n")
    with pytest.raises(InputError, match=r"a\.txt: text has the one column 'text', .*; add it, or pass --format csv"):
        read(file, [Feature("id", Kind.INT), Feature("name", Kind.BYTES)])
    assert texts_of(read(file, [Feature("id", Kind.INT), Feature("text", Kind.BYTES)])) == [b"id,name", b"1,a"]


def test_pickles_and_names_its_column(tmp_path):
    assert pickle.loads(pickle.dumps(TextFormat(7))) == TextFormat(7)
    assert TextFormat().columns(write(tmp_path / "a.txt", b"x")) == ["text"]


class TestJobs:
    """What is particular to text; what it shares with others is in tests/pipelines/test_every_format.py."""

    def test_without_a_schema_numbers_are_text_and_the_first_line_is_a_row(self, tmp_path):
        path = tmp_path / "a.txt.gz"
        path.write_bytes(gzip.compress(b"id,name\n1\n2.5\n\n"))
        assert run_prepare("--input", path, "--output", tmp_path / "out", "--shuffle=none") == DONE
        assert [row["text"] for row in examples(tmp_path / "out")] == [["id,name"], ["1"], ["2.5"], [""]]

    def test_under_a_schema_they_may_be_numbers(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"1\nx\n3\n")
        schema = write_schema_file(tmp_path / "s.pbtxt", text="INT")
        out = tmp_path / "out"
        flags = ("--schema", schema, "--max_reject_fraction=1", "--shuffle=none", "--output", out)
        assert run_prepare("--input", tmp_path / "a.txt", *flags) == DONE
        assert [row["text"] for row in examples(out)] == [[1], [3]]
        assert [(letter["reason"], letter["payload"]) for letter in dead_letters(out)] == [("schema.type", "x")]

    def test_txt_is_csv_only_where_that_is_said(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"id;name\n1;a\n")
        given = ("--input", tmp_path / "a.txt", "--output", tmp_path / "out")
        code, message = job(*given, "--csv_delimiter=;")
        assert code == WRONG_USAGE
        assert (
            "--csv_delimiter is no option of Text files: its own are none; leave it out, or correct --format" in message
        )
        schema = write_schema_file(tmp_path / "s.pbtxt", id="INT", name="BYTES")
        code, message = job(*given, "--schema", schema)
        assert (code, "pass --format csv if the lines are CSV" in message) == (DATA_FAILED, True)
        assert run_prepare(*given, "--csv_delimiter=;", "--format=csv") == DONE
        assert examples(tmp_path / "out") == [{"id": [1], "name": ["a"]}]

    def test_replay_gives_back_any_bytes(self, tmp_path):
        lines = [b"\xff\xfex", b"", b"ok", b'"a,b"', b"\xe9"]
        (tmp_path / "a.txt").write_bytes(b"7\n" + b"\n".join(lines))
        schemas = {kind: write_schema_file(tmp_path / f"{kind}.pbtxt", text=kind) for kind in ("INT", "BYTES")}
        out, again = tmp_path / "out", tmp_path / "again"
        flags = ("--schema", schemas["INT"], "--max_reject_fraction=1", "--output", out)
        assert run_prepare("--input", tmp_path / "a.txt", *flags) == DONE
        assert manifest_of(out).rows_rejected == len(lines)
        letters = ("--dead_letters", f"{out}/dead_letters/*.jsonl", "--schema", schemas["BYTES"], "--output", again)
        assert job(*letters, run=replay.run) == (DONE, "")
        assert sorted(raw_texts(again)) == sorted(lines)


def raw_texts(dataset):
    """The texts of a dataset, as TensorFlow reads them."""
    tf = pytest.importorskip("tensorflow")
    paths = sorted(str(path) for path in dataset.glob("train/*"))
    records = tf.data.TFRecordDataset(paths, compression_type="GZIP")
    return [
        tf.train.Example.FromString(record.numpy()).features.feature["text"].bytes_list.value[0] for record in records
    ]


def test_lines_have_no_type_until_a_schema_gives_them_one(tmp_path):
    file = write(tmp_path / "in.txt", b"1\n2.0\n")
    for features, expected in ((None, True), ([Feature("text", Kind.INT)], False)):
        (parsed,) = read(file, features)
        assert is_untyped(parsed.batch.schema.field("text")) == expected
        assert not is_untyped(parsed.batch.schema.field(ORIGIN))
