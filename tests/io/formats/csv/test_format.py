"""CSV: against Python's csv module and a reference reader that knows no blocks."""

import bz2
import csv
import gzip
import io
import re
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from depth import on_shared_path
from helpers import payloads_in
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.io.batches import feature_names
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile, stat_file
from penstock.io.formats.base import Part
from penstock.io.formats.csv import torn
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.csv.records import split_record
from penstock.io.kernel.shared.quoting import Dialect, is_well_quoted
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind


# The directory is shared by the examples of a property test, each of which writes its file anew.
def write(path: Path, data: bytes, name: str = "t.csv") -> InputFile:
    file = path / name
    file.write_bytes(data)
    return stat_file(str(file))


def read(file: InputFile, features: list[Feature] | None = None, **options):
    """({position: values}, {position: reason codes}, {position: payload}) of a file; each position must be new."""
    reader = CsvFormat(**options)
    rows, rejects, payloads = {}, {}, {}
    for part in reader.plan(file):
        for parsed in reader.read(file, part, features):
            names, originals = feature_names(parsed.batch), payloads_in(parsed)
            for index, row in enumerate(parsed.batch.to_pylist()):
                position = row[ORIGIN]["position"]
                assert row[ORIGIN]["uri"] == file.uri
                assert position not in rows
                rows[position] = tuple(row[name] for name in names)
                payloads[position] = originals[index]
            for letter in parsed.rejected:
                assert (letter.stage, letter.uri) == ("read", file.uri)
                assert letter.position not in rejects
                rejects[letter.position] = tuple(reason.code for reason in letter.reasons)
    assert not rows.keys() & rejects.keys()
    return rows, rejects, payloads


def columns(file: InputFile, features: list[Feature] | None = None, **options) -> dict[str, list]:
    """The columns of a file without faults."""
    reader = CsvFormat(**options)
    found: dict[str, list] = {}
    for part in reader.plan(file):
        for parsed in reader.read(file, part, features):
            assert not parsed.rejected
            for name in feature_names(parsed.batch):
                found.setdefault(name, []).extend(parsed.batch.column(name).to_pylist())
    return found


# The reference: a state machine that goes byte by byte over one line, as the docs describe the grammar.


def reference_lines(data: bytes) -> dict[int, bytes]:
    """Non-blank lines by position, without their ends and without the byte order mark."""
    lines, position = {}, 0
    for line in data.split(b"\n"):
        is_last = position + len(line) == len(data)
        start, text = position, line
        if position == 0 and line.startswith(b"\xef\xbb\xbf"):
            start, text = 3, line[3:]
        if text.endswith(b"\r") and not is_last:
            text = text[:-1]
        if text:
            lines[start] = text
        position += len(line) + 1
    return lines


def reference_fields(line: bytes) -> list[tuple[bytes, bool]] | None:
    """(value, quoted) for each field of one line; None for a fault of quoting."""
    fields, index = [], 0
    while True:
        value, quoted = b"", line[index : index + 1] == b'"'
        index += quoted
        while index < len(line):
            char = line[index : index + 1]
            if quoted and char == b'"':
                if line[index + 1 : index + 2] != b'"':
                    break
                index += 1
            elif not quoted and char == b",":
                break
            value += char
            index += 1
        else:
            if quoted:
                return None
        index += quoted
        fields.append((value, quoted))
        if index == len(line):
            return fields
        if line[index : index + 1] != b",":
            return None
        index += 1


def reference_codes(line: bytes, width: int) -> set[str]:
    codes = set()
    if b"\0" in line:
        codes.add("csv.nul_byte")
    if b"\r" in line:
        codes.add("csv.lone_cr")
    try:
        line.decode()
    except UnicodeDecodeError:
        codes.add("csv.encoding")
    fields = reference_fields(line)
    if line.count(b'"') % 2 or fields is None:
        codes.add("csv.quote")
    if not codes and len(fields) != width:
        codes.add("csv.column_count")
    return codes


def reference_row(line: bytes) -> tuple[str | None, ...]:
    return tuple(None if not value and not quoted else value.decode() for value, quoted in reference_fields(line))


PIECES = [b'"', b'""', b",", b",", b"\n", b"\n", b"\r\n", b"\r", b"\0", b"a", b"bc", b" ", b"\xff", b"\xef\xbb\xbf"]
PIECES += ["é".encode(), "😀".encode(), b'a,"b"\n', b'"x,y",z\n', b"NA", b"1,2\n", b"\xed\xa0\x80", b'"a""b",c\n']
messy = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
parts = st.sampled_from([1, 2, 3, 7, 16, 50, 1 << 20])
blocks = st.sampled_from([1, 2, 5, 16, 64, 1 << 20])


def reference_record_end(data: bytes, start: int) -> tuple[int, bool] | None:
    """Index of the line end of a record, and whether text follows a closing quote; None when it is not closed."""
    index = start
    while True:
        if data[index : index + 1] == b'"':
            index = data.find(b'"', index + 1)
            while index >= 0 and data[index + 1 : index + 2] == b'"':
                index = data.find(b'"', index + 2)
            if index < 0:
                return None
            index += 1
            if data[index : index + 2] == b"\r\n":
                index += 1
            if data[index : index + 1] not in (b",", b"\n", b""):
                end = data.find(b"\n", index)
                return (end if end >= 0 else len(data)), True
        while data[index : index + 1] not in (b",", b"\n", b""):
            index += 1
        if data[index : index + 1] != b",":
            return index, False
        index += 1


def reference_torn(data: bytes, lines: dict[int, bytes], reach: int) -> set[int]:
    """The positions of the lines that torn records hold, found line by line from the first one on."""
    torn, stop = set(), 0
    for start, line in lines.items():
        if start >= stop and (line.count(b'"') % 2 or reference_fields(line) is None):
            end, stray = reference_record_end(data, start) or (len(data), True)
            inside = end < start + reach or (end == len(data) and end <= start + reach)
            if inside and not stray and b"\n" in data[start:end]:
                stop = min(end + 1, len(data))
        if start < stop:
            torn.add(start)
    return torn


@on_shared_path(600)
@given(
    body=messy,
    part_bytes=parts,
    block_bytes=blocks,
    bom=st.booleans(),
    width=st.sampled_from([1, 2, 3]),
    reach=st.sampled_from([4, 12, 30, 1 << 18]),
)
@example(b'x"a,"b\nc,d\n', 1 << 20, 1 << 20, False, 2, 1 << 18)
@example(b"1,2\n\xef\xbb\xbf3,4\n", 1 << 20, 4, False, 2, 1 << 18)
@example(b"a,b\r", 1, 1, True, 2, 1 << 18)
@example(b'"",', 1, 1, False, 2, 1 << 18)
@example(b'1,"\nx\n",2\n3,3\n2,"\ny\n",2\n4,4\n' * 9, 7, 5, False, 2, 12)
@example(b'"\n' * 41, 3, 5, False, 1, 4)
@example(b'1,"a\n\n2,b\nc"\n3,4\n1,"a', 5, 1, True, 2, 1 << 18)
@example(b'1,"a\nb"', 3, 2, False, 2, 1 << 18)
def test_any_bytes_in_any_parts_give_the_reference_rows_and_rejects(
    tmp_path, body, part_bytes, block_bytes, bom, width, reach
):
    data = b"\xef\xbb\xbf" * bom + b",".join([b"p", b"q", b"r"][:width]) + b"\n" + body
    with mock.patch.object(torn, "REACH", reach):
        rows, rejects, payloads = read(write(tmp_path, data), part_bytes=part_bytes, block_bytes=block_bytes)
    lines = reference_lines(data)
    del lines[3 * bom]
    codes = {position: reference_codes(line, width) for position, line in lines.items()}
    for position in reference_torn(data, lines, reach):
        codes[position] = codes[position] - {"csv.quote", "csv.column_count"} | {"csv.line_break"}
    assert {position: set(found) for position, found in rejects.items()} == {p: c for p, c in codes.items() if c}
    assert rows == {position: reference_row(lines[position]) for position, found in codes.items() if not found}
    assert payloads == {position: lines[position] for position in rows}
    assert len(rows) + len(rejects) == len(lines)


@on_shared_path(200)
@given(body=messy, part_bytes=parts, block_bytes=blocks)
def test_without_a_header_the_first_line_is_data(tmp_path, body, part_bytes, block_bytes):
    options = {"column_names": ("p", "q"), "part_bytes": part_bytes, "block_bytes": block_bytes}
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    rows, rejects, _ = read(write(tmp_path, body), **options)
    assert rows.keys() | rejects.keys() == reference_lines(body).keys()


cells = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6))


def to_csv(table: list[list[str | None]], line_end: str, delimiter: str = ",") -> bytes:
    """Null as the unquoted empty field, everything else quoted."""
    quoted = ((("" if cell is None else '"' + cell.replace('"', '""') + '"') for cell in row) for row in table)
    return "".join(delimiter.join(row) + line_end for row in quoted).encode()


@on_shared_path(200)
@given(
    table=st.lists(st.lists(cells, min_size=2, max_size=2), max_size=12),
    line_end=st.sampled_from(["\n", "\r\n"]),
    block_bytes=blocks,
    delimiter=st.sampled_from([",", "\t", ";", "|", "^", " "]),
)
def test_well_formed_multiline_files_equal_the_written_values(tmp_path, table, line_end, block_bytes, delimiter):
    data = to_csv([["p", "q"], *table], line_end, delimiter)
    rows, rejects, _ = read(
        write(tmp_path, data), multiline=True, block_bytes=block_bytes, delimiter=delimiter, part_bytes=4
    )
    assert not rejects
    assert list(rows.values()) == [tuple(row) for row in table]
    by_python = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter, strict=True))[1:]
    assert [[cell or "" for cell in row] for row in rows.values()] == by_python


@on_shared_path(300)
@given(body=messy, block_bytes=blocks)
@example(b'a,"b\n"c,d\ne,f\n', 3)
@example(b'5" pipe,x\n"a\nb",c\n', 4)
def test_multiline_result_does_not_depend_on_blocks(tmp_path, body, block_bytes):
    file = write(tmp_path, b"p,q\n" + body)
    try:
        whole = read(file, multiline=True)
    except InputError as error:
        with pytest.raises(InputError, match=re.escape(str(error))):
            read(file, multiline=True, block_bytes=block_bytes)
        return
    assert read(file, multiline=True, block_bytes=block_bytes) == whole


def reference_multiline_codes(record: bytes, misquoted: bool, width: int) -> set[str]:
    codes = {"csv.quote"} if misquoted else set()
    fields = [] if misquoted else reference_fields(record)
    if any(b"\r" in value for value, quoted in fields if not quoted):
        codes.add("csv.lone_cr")
    codes |= reference_codes(record, width) & {"csv.nul_byte", "csv.encoding"}
    if not codes and len(fields) != width:
        codes.add("csv.column_count")
    return codes


@on_shared_path(400)
@given(body=messy, block_bytes=blocks)
@example(b'"a\r\n",\r\n"\r\n"\r\n', 2)
def test_multiline_equals_the_reference(tmp_path, body, block_bytes):
    data = b"p,q\n" + body
    expected_rows, expected_rejects, start = {}, {}, 4
    while start < len(data):
        found = reference_record_end(data, start)
        if found is None:
            with pytest.raises(InputError, match=f"record at byte {start} has a quoted field that is not closed"):
                read(write(tmp_path, data), multiline=True, block_bytes=block_bytes)
            return
        end, misquoted = found
        record = data[start:end].removesuffix(b"\r") if end < len(data) else data[start:end]
        if record and (codes := reference_multiline_codes(record, misquoted, 2)):
            expected_rejects[start] = codes
        elif record:
            expected_rows[start] = reference_row(record)
        start = end + 1
    rows, rejects, _ = read(write(tmp_path, data), multiline=True, block_bytes=block_bytes)
    assert rows == expected_rows
    assert {position: set(codes) for position, codes in rejects.items()} == expected_rejects


def test_multiline_rejects_text_after_a_closing_quote_up_to_the_line_end(tmp_path):
    file = write(tmp_path, b'p,q\n1,"a\nb"x,2\n3,"c\r\nd"\n4\r,5\n')
    rows, rejects, _ = read(file, multiline=True)
    assert rows == {15: ("3", "c\r\nd")}
    assert rejects == {4: ("csv.quote",), 24: ("csv.lone_cr",)}


def test_multiline_refuses_a_quote_that_is_never_closed(tmp_path):
    with pytest.raises(InputError, match="record at byte 8 has a quoted field that is not closed by the end"):
        read(write(tmp_path, b'p,q\n1,2\n3,"4\n5,6\n'), multiline=True)


def test_multiline_refuses_a_record_over_the_limit(tmp_path):
    data = b'p,q\n1,"' + b"x\n" * 50 + b'"\n'
    with pytest.raises(InputError, match="over the limit of 60 bytes"):
        read(write(tmp_path, data), multiline=True, max_line_bytes=60)


@pytest.mark.parametrize("block_bytes", [16, 1 << 20])
def test_a_line_over_the_limit_is_a_dead_letter_with_its_beginning(tmp_path, block_bytes):
    reader = CsvFormat(block_bytes=block_bytes, max_line_bytes=60, part_bytes=50)
    file = write(tmp_path, b"p,q\n1,2\n3," + b"x" * 59 + b"\n5,6\r\n7," + b"y" * 58 + b"\r\n")
    parsed = [found for part in reader.plan(file) for found in reader.read(file, part, None)]
    letters = [letter for found in parsed for letter in found.rejected]
    assert [(letter.position, letter.reasons[0].code) for letter in letters] == [(8, "csv.too_long")]
    assert letters[0].payload == "3," + "x" * 59
    assert "more than 60 bytes; the payload is its first 61 bytes" in letters[0].reasons[0].detail
    assert sum(found.batch.num_rows for found in parsed) == 3


def test_column_count_detail_says_expected_and_got(tmp_path):
    reader = CsvFormat()
    (parsed,) = reader.read(write(tmp_path, b"p,q\n1\n1,2,3\n"), Part(), None)
    details = [letter.reasons[0].detail for letter in parsed.rejected]
    assert details == ["expected 2 columns, got 1", "expected 2 columns, got 3"]
    assert [letter.payload for letter in parsed.rejected] == ["1", "1,2,3"]


COMPRESSORS = {"gz": gzip.compress, "bz2": bz2.compress, "zst": lambda data: pa.compress(data, "zstd", asbytes=True)}


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compressed_files_are_read_whole(tmp_path, suffix):
    data = b"\xef\xbb\xbfp,q\n" + b"".join(b'%d,"x%d"\n' % (i, i) for i in range(1000))
    file = write(tmp_path, COMPRESSORS[suffix](data), f"t.csv.{suffix}")
    rows, rejects, _ = read(file, part_bytes=100, block_bytes=333)
    assert list(CsvFormat(part_bytes=10).plan(file)) == [Part()]
    assert not rejects
    assert list(rows.values()) == [(str(i), f"x{i}") for i in range(1000)]
    assert rows[7] == ("0", "x0")


def test_gzip_members_follow_each_other(tmp_path):
    file = write(tmp_path, gzip.compress(b"p\n1\n2") + gzip.compress(b"3\n4\n"), "t.csv.gz")
    assert columns(file) == {"p": ["1", "23", "4"]}


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_truncated_compressed_file_is_refused(tmp_path, suffix):
    data = b"p,q\n" + np.random.default_rng(1).integers(48, 58, 100_000, np.uint8).tobytes() + b",1\n"
    packed = COMPRESSORS[suffix](data)
    file = write(tmp_path, packed[: len(packed) // 2], f"t.csv.{suffix}")
    with pytest.raises(InputError, match=r"stream is truncated or corrupt"):
        read(file)


@pytest.mark.parametrize("bom", [b"\xff\xfe", b"\xfe\xff"], ids=["little", "big"])
def test_utf16_is_refused_with_advice(tmp_path, bom):
    with pytest.raises(InputError, match="UTF-16 or UTF-32; convert it to UTF-8"):
        read(write(tmp_path, bom + "p,q\n".encode("utf-16-le")))


@pytest.mark.parametrize(
    ("data", "names"),
    [(b"", None), (b"\xef\xbb\xbf", None), (b"\n\r\n", None), (b"p,q", ("p", "q")), (b"\n\np,q\r\n", ("p", "q"))],
    ids=["empty", "only_bom", "only_blank", "header_without_line_end", "header_after_blanks"],
)
def test_files_without_rows(tmp_path, data, names):
    file = write(tmp_path, data)
    assert CsvFormat().columns(file) == names
    assert read(file, part_bytes=2) == ({}, {}, {})


def test_empty_file_lacks_no_required_column(tmp_path):
    required = [Feature("x", Kind.INT, required=True)]
    assert read(write(tmp_path, b""), required) == ({}, {}, {})
    with pytest.raises(InputError, match=r"column 'x' is required by .*, but the file has only p, q; .*--columns"):
        read(write(tmp_path, b"p,q\n"), required)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"a,_origin\n", "'_origin' is reserved"),
        (b'a,"b\n', "header at byte 0 is faulty: a quoted field does not end"),
        (b"a,\xff\n", "header at byte 0 is faulty: the line is not UTF-8"),
        (b"a,\0\n", "header at byte 0 is faulty: the line has a NUL byte"),
        (
            b"a,b\r1,2\r",
            "header at byte 0 is faulty: the line has a CR without LF; "
            "if the lines of the file end in CR alone, convert it",
        ),
    ],
    ids=["reserved", "quote", "encoding", "nul", "mac_line_ends"],
)
def test_bad_headers_are_refused_by_name(tmp_path, header, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read(write(tmp_path, header + b"1,2,3\n"))


def test_header_over_the_limit_is_refused(tmp_path):
    with pytest.raises(InputError, match="the header is over 100 bytes"):
        read(write(tmp_path, b"x" * 1000), max_line_bytes=100, block_bytes=64)


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\r", "\0", "é"])
def test_bad_delimiters_are_refused(delimiter):
    with pytest.raises(ConfigError, match="delimiter must be one ASCII character"):
        CsvFormat(delimiter=delimiter)


@pytest.mark.parametrize("names", [(), ("a", "a"), ("",), ("_split",)])
def test_bad_given_names_are_refused(names):
    with pytest.raises(ConfigError, match="--columns"):
        CsvFormat(column_names=names)


def test_tab_may_be_spelled_out(tmp_path):
    assert columns(write(tmp_path, b"p\tq\n1,2\t3\n"), delimiter="\\t") == {"p": ["1,2"], "q": ["3"]}


def test_null_values_are_null_only_unquoted(tmp_path):
    file = write(tmp_path, b'p,q\nNA,"NA"\n,""\n-, NA\n')
    assert columns(file, null_values=("NA", "-")) == {"p": [None, None, None], "q": ["NA", "", " NA"]}


def test_types_are_never_guessed(tmp_path):
    file = write(tmp_path, b"a,b,c,d,e\n007,1e400,NaN,2013-01-01,true\n,,,,\n")
    batches = [parsed.batch for parsed in CsvFormat().read(file, Part(), None)]
    assert {batch.schema.field(name).type for batch in batches for name in "abcde"} == {pa.string()}
    assert columns(file) == {
        "a": ["007", None],
        "b": ["1e400", None],
        "c": ["NaN", None],
        "d": ["2013-01-01", None],
        "e": ["true", None],
    }


def test_features_choose_columns_by_name_whatever_their_order_in_the_file(tmp_path):
    features = [Feature("c", Kind.BYTES), Feature("a", Kind.BYTES, required=True), Feature("z", Kind.FLOAT)]
    one = write(tmp_path, b"a,b,c\n1,2,3\n", "one.csv")
    other = write(tmp_path, b"c,x,a\n3,2,1\n", "other.csv")
    assert list(columns(one, features).items()) == [("c", ["3"]), ("a", ["1"])]
    assert columns(other, features) == columns(one, features)


def test_no_chosen_column_still_counts_the_rows(tmp_path):
    rows, rejects, _ = read(write(tmp_path, b"a,b\n1,2\n3\n4,5\n"), [Feature("z", Kind.INT)])
    assert rows == {4: (), 10: ()}
    assert rejects == {8: ("csv.column_count",)}


def test_one_column_has_blank_lines_skipped_and_quoted_empties_kept(tmp_path):
    assert columns(write(tmp_path, b'p\n1\n\n""\n\r\nNA\n'), null_values=("NA",)) == {"p": ["1", "", None]}


def test_wide_files_with_unicode_names(tmp_path):
    names = [f"größe {i}, “m”" for i in range(3000)]
    data = to_csv([names, *([f"v{i}-{r}" for i in range(3000)] for r in range(5))], "\n")
    found = columns(write(tmp_path, data), block_bytes=1000)
    assert list(found) == names
    assert found[names[2999]] == [f"v2999-{r}" for r in range(5)]


def test_batches_are_cut_to_size(tmp_path):
    file = write(tmp_path, b"p\n" + b"".join(b"%d\n" % i for i in range(160_000)))
    parsed = list(CsvFormat().read(file, Part(), None))
    assert [found.batch.num_rows for found in parsed] == [53334, 53334, 53332]
    assert payloads_in(parsed[1])[5] == b"53339"


def test_a_huge_field_is_good_data(tmp_path):
    data = b"p,q\n1,2\n3," + b"x" * 100_000_000 + b"\n5,6\n"
    lengths = [
        (len(row["p"]), len(row["q"]))
        for parsed in CsvFormat().read(write(tmp_path, data), Part(), None)
        for row in parsed.batch.to_pylist()
    ]
    assert lengths == [(1, 1), (1, 100_000_000), (1, 1)]


def test_many_stray_quotes_cost_linear_time(tmp_path):
    file = write(tmp_path, b"p,q\n" + b'5" pipe,"a"\n' * 100_000)
    started = time.monotonic()
    rows, _, _ = read(file, multiline=True)
    assert len(rows) == 100_000
    assert time.monotonic() - started < 30


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5), min_size=1))
def test_split_record_equals_the_csv_module(fields):
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(fields)
    record = buffer.getvalue().encode()
    assert is_well_quoted(record, Dialect(b","))
    assert [field.decode() for field in split_record(record, Dialect(b","))] == fields
