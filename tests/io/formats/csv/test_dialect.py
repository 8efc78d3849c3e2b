"""Dialects of CSV: a quote that is a character like any other, and spaces beside fields."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.errors import ConfigError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.base import Part
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.kernel.shared.quoting import Dialect, fields, is_well_quoted, record_end
from penstock.io.schema import Feature, Kind

SPACES = Dialect(b",", spaces=True)


WHOLE = (Part(),)


def read(path, data: bytes, features=None, parts=WHOLE, **options):
    """(rows, codes of rejects) of the parts of a file."""
    file_path = path / "t.csv"
    file_path.write_bytes(data)
    file, reader = stat_file(str(file_path)), CsvFormat(**options)
    rows, codes = [], []
    for part in parts:
        for parsed in reader.read(file, part, features):
            names = [name for name in parsed.batch.schema.names if not name.startswith("_")]
            rows += [tuple(row[name] for name in names) for row in parsed.batch.to_pylist()]
            codes += [letter.reasons[0].code for letter in parsed.rejected]
    return rows, codes


def test_without_quoting_a_quote_is_a_character(tmp_path):
    data = b'size\tn\n5" pipe\t1\n"x"\t2\n"open\t3\n\t"\n'
    rows, codes = read(tmp_path, data, delimiter="\t", quoting="none")
    assert (rows, codes) == ([('5" pipe', "1"), ('"x"', "2"), ('"open', "3"), (None, '"')], [])


def test_without_quoting_no_line_is_part_of_a_torn_record(tmp_path):
    data = b'a,b\n"x,1\ny,2\nz",3\n'
    middle = data.index(b"y")
    for parts in (WHOLE, (Part(0, middle), Part(middle, len(data)))):
        assert read(tmp_path, data, parts=parts, quoting="none") == ([('"x', "1"), ("y", "2"), ('z"', "3")], [])
    assert read(tmp_path, data)[1] == ["csv.line_break"] * 3


def test_a_header_has_the_dialect_of_the_rows(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'5"," b ",c"\n')
    file = stat_file(str(tmp_path / "t.csv"))
    assert CsvFormat(quoting="none").columns(file) == ('5"', '" b "', 'c"')
    (tmp_path / "t.csv").write_bytes(b'a , "b ",c\n')
    assert CsvFormat(trim=True).columns(file) == ("a", "b ", "c")


TRIMMED = {
    "numbers": (b"1, 2 ,  3", (1.0, "2", "3")),
    "inside": (b"1, a b ,c", (1.0, "a b", "c")),
    "quoted_keeps_its_own": (b'1 , " a" ,"b "', (1.0, " a", "b ")),
    "doubled_quotes": (b'1, "a""b" ,c', (1.0, 'a"b', "c")),
    "delimiter_in_quotes": (b'1, "a, b" ,c', (1.0, "a, b", "c")),
    "only_spaces_are_missing": (b" ,   ,x", (None, None, "x")),
    "empty_quotes_are_a_text": (b'1, "" ,x', (1.0, "", "x")),
    "a_null_value": (b"1, NA ,x", (1.0, None, "x")),
    "a_quoted_null_value_is_a_text": (b'1, "NA" ,x', (1.0, "NA", "x")),
    "tabs_stay": (b"1,\ta ,x", (1.0, "\ta", "x")),
}


@pytest.mark.parametrize("case", TRIMMED)
def test_spaces_beside_fields_are_no_part_of_them(tmp_path, case):
    line, row = TRIMMED[case]
    features = [Feature("n", Kind.FLOAT), Feature("b", Kind.BYTES), Feature("c", Kind.BYTES)]
    data = b"n,b,c\n" + line + b"\n"
    assert read(tmp_path, data, features, trim=True, null_values=("NA",)) == ([row], [])


MISQUOTED = {"text_behind": b' "a" b,c', "never_closed": b' "a,b', "odd": b'a" ,b'}


@pytest.mark.parametrize("case", MISQUOTED)
def test_a_fault_of_quotes_behind_spaces_is_one(tmp_path, case):
    assert read(tmp_path, b"a,b\n" + MISQUOTED[case] + b"\nx,y\n", trim=True) == ([("x", "y")], ["csv.quote"])


def test_a_record_that_is_torn_behind_a_space_is_rejected_whole(tmp_path):
    data = b'a,b,c\n60, "Dear sir,\n7,invoice,99\nkind regards" ,60\n61,x,y\n'
    middle = data.index(b"7,")
    for parts in (WHOLE, (Part(0, middle), Part(middle, len(data)))):
        rows, codes = read(tmp_path, data, parts=parts, trim=True)
        assert (rows, codes) == ([("61", "x", "y")], ["csv.line_break"] * 3)


WRONG = {
    "unknown": ({"quoting": "double"}, "--csv_quoting must be one of standard, none, got 'double'"),
    "no_quotes": ({"quoting": "none", "multiline": True}, "--csv_multiline is about quoted fields"),
    "records": ({"trim": True, "multiline": True}, "--csv_trim reads a line as a record"),
    "a_space": ({"trim": True, "delimiter": " "}, "the delimiter, which is a space"),
}


@pytest.mark.parametrize("case", WRONG)
def test_dialects_that_contradict_each_other_are_refused(case):
    options, message = WRONG[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        CsvFormat(**options)


plain = st.text(st.sampled_from('ab "'), max_size=5)


@given(st.lists(st.tuples(plain, st.booleans(), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=4))
def test_fields_are_those_that_were_written(written):
    texts, record = [], []
    for text, quoted, before, after in written:
        quoted = quoted or text.strip(" ").startswith('"')
        texts.append(text if quoted else text.strip(" "))
        body = '"' + text.replace('"', '""') + '"' if quoted else text
        record.append(" " * before + body + " " * after)
    data = ",".join(record).encode()
    assert is_well_quoted(data, SPACES)
    found = [plain if quoted is None else quoted.replace(b'""', b'"') for quoted, plain in fields(data, SPACES)]
    assert [field.decode() for field in found] == texts
    assert record_end(data + b"\nx", 0, SPACES, final=True) == (len(data), False)
