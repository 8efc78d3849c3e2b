"""What the first lines of a CSV file tell: errors for what cannot be right, a line for what looks wrong."""

import re

import pytest

from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile, stat_file
from penstock.io.formats.csv import torn
from penstock.io.formats.csv.format import CsvFormat


def file_of(path, data: bytes, name: str = "t.csv") -> InputFile:
    (path / name).write_bytes(data)
    return stat_file(str(path / name))


LETTER = b'59,x,59\n60,"Dear sir,\n7,invoice,99\nkind regards",60\n61,"all well",61\n'

# data, options, what the error says
ERRORS = {
    "line_breaks": (
        b"a,b,c\n" + LETTER,
        {},
        "quoted fields hold line breaks: lines 3 to 5, from byte 14 on, are one record; pass --csv_multiline",
    ),
    "line_breaks_crlf": (b"a,b,c\r\n" + LETTER.replace(b"\n", b"\r\n"), {}, "lines 3 to 5, from byte 16 on"),
    "line_breaks_at_the_end": (b'a,b,c\n1,2,"x\ny"', {}, "lines 2 to 3"),
    "line_breaks_and_blank_lines": (b'a,b\n\n1,"x\n\ny"\n', {}, "lines 3 to 5"),
    "line_breaks_without_header": (LETTER, {"column_names": ("a", "b", "c")}, "lines 2 to 4, from byte 8 on"),
    "semicolons": (
        b"a;b;c\n1;2;3\n",
        {},
        "the file looks as if ';' separates 3 columns, and the delimiter is ',': pass --csv_delimiter ';', or "
        "--csv_delimiter ',' if there is one column",
    ),
    "decimal_commas": (b"a;b\n1,5;2\n3,25;4\n", {}, "pass --csv_delimiter ';'"),
    "tabs": (b"a\tb\n1\t2\n", {}, "pass --csv_delimiter '\\t'"),
    "pipes": (b"a|b\n1|2\n", {}, "pass --csv_delimiter '|'"),
    "header_alone": (b"a;b", {}, "pass --csv_delimiter ';'"),
    "one_row_is_not_like_the_others": (b"a;b\n" + b"1;2\n" * 30 + b"x\n", {}, "pass --csv_delimiter ';'"),
    "columns_and_header": (
        b"A,b \n1,2\n",
        {"column_names": ("a", "b")},
        "line 1 repeats the names of --columns; pass --header skip to leave it out, or --header none if it is a row",
    ),
    "reserved": (b"a,_split\n1,2\n", {}, "column name '_split' is reserved"),
    "html": (b"\n<!DOCTYPE HTML>\n<p>404</p>\n", {}, "the file is an HTML page, not CSV; perhaps a download failed"),
    "quote_in_header": (b'a,"b\nc"\n1,2\n', {}, "the header at byte 0 is faulty: .*; pass --csv_multiline"),
}


@pytest.mark.parametrize(("data", "options", "message"), ERRORS.values(), ids=ERRORS)
def test_what_cannot_be_right_is_an_error_before_a_row_is_read(tmp_path, data, options, message):
    file, reader = file_of(tmp_path, data), CsvFormat(**options)
    pattern = f"^{re.escape(file.uri)}: .*" + (message if ".*" in message else re.escape(message))
    for look in (reader.check, reader.look):
        with pytest.raises(InputError, match=pattern):
            look(file)


# data, options, what is said
LOOKS = {
    "good": (b"a,b\n1,x\n2,y\n", {}, []),
    "empty": (b"", {}, []),
    "header_alone": (b"a,b\n", {}, []),
    "numbered_columns": (b"0,1,2\n5,6,7\n", {}, []),
    "years": (b"name,2014,2015\nx,1,2\n", {}, []),
    "one_column": (b"a\nx;y\nz\n", {}, []),
    "one_column_of_text_with_commas": (b"a;b\nx;y\n", {"delimiter": ";"}, []),
    "chosen_comma": (
        b"a;b\n1;2\n",
        {"delimiter": ","},
        ["the file looks as if ';' separates 2 columns, and the delimiter is ',': pass --csv_delimiter ';'"],
    ),
    "tsv_with_commas": (
        b"a,b\n1,2\n",
        {"delimiter": "\t"},
        ["the file looks as if ',' separates 2 columns, and the delimiter is '\\t': pass --csv_delimiter ','"],
    ),
    "unnamed_and_repeated": (
        b",a,a\n0,1,2\n",
        {},
        [
            "line 1 gives some columns no name, or one that another has: column 1 is 'column_1', column 3 is 'a_2'; "
            "--header skip --columns NAME,NAME,... names the columns, and skips line 1"
        ],
    ),
    "row_for_header": (
        b"5.1,3.5,setosa\n4.9,3.0,setosa\n",
        {},
        [
            "line 1 looks like a row, and names the columns; --header none reads it as a row, with --columns for the "
            "names"
        ],
    ),
    "header_for_row": (
        b"id,name\n1,x\n2,y\n",
        {"column_names": ("a", "b")},
        ["line 1 looks like a header, and is read as a row; --header skip leaves it out"],
    ),
    "header_for_row_on_purpose": (b"id,name\n1,x\n2,y\n", {"column_names": ("a", "b"), "header": "none"}, []),
    "row_names_of_r": (
        b"a,b\nx,1,2\ny,3,4\n",
        {},
        [
            "there are names for 2 columns, but 2 of the first 2 rows have 3, and will be rejected; perhaps the first "
            "column has no name: --header skip --columns with 3 names reads them"
        ],
    ),
    "trailing_commas": (
        b"a,b\n1,2,\n3,4,\n",
        {},
        [
            "there are names for 2 columns, but 2 of the first 2 rows have 3, and will be rejected; each row ends with "
            "a delimiter, and the header does not: --header skip --columns with 3 names reads them"
        ],
    ),
    "preamble": (
        b"Exported by X\na,b\n1,2\n",
        {},
        [
            "there is a name for 1 column, but 2 of the first 2 rows have 2, and will be rejected; remove the text "
            "above the header, or --header skip --columns with 2 names reads them"
        ],
    ),
    "spaces": (
        b"a,b\n1, 2\n3, 4\n",
        {},
        ["column 'b' holds numbers beside spaces, which make them texts; pass --csv_trim"],
    ),
    "spaces_in_text": (b"a,b\n1, x\n3, y\n", {}, []),
    "quotes_behind_spaces": (
        b'a,b,c\n1, "x", "y"\n',
        {},
        ["columns 'b', 'c' hold spaces before quotes, which then quote nothing; pass --csv_trim"],
    ),
    "commas_in_numbers": (
        b'a,b\n1,"1,5"\n2,"2"\n',
        {},
        [
            "column 'b' holds numbers with commas, which make them texts; write fractions with a point, and thousands "
            "without a mark"
        ],
    ),
    "stray_quotes": (b'a,b\n"5 pipe,1\n6,2\n7",3\n8,4\n', {}, []),
    "line_breaks_are_fine": (b"a,b,c\n" + LETTER, {"multiline": True}, []),
}


@pytest.mark.parametrize(("data", "options", "said"), LOOKS.values(), ids=LOOKS)
def test_what_looks_wrong_is_told_and_the_file_is_read(tmp_path, data, options, said):
    file, reader = file_of(tmp_path, data), CsvFormat(**options)
    reader.check(file)
    assert reader.look(file) == [f"{file.uri}: {text}" for text in said]


def test_only_the_beginning_of_a_file_is_looked_at(tmp_path):
    rows = b"1,2,3\n" * (torn.REACH // 6)
    file = file_of(tmp_path, b"a,b,c\n" + rows + LETTER)
    CsvFormat().check(file)
    assert [
        (letter.position - len(rows) - 6, letter.reasons[0].code, letter.payload)
        for part in CsvFormat().plan(file)
        for parsed in CsvFormat().read(file, part, None)
        for letter in parsed.rejected
    ] == [
        (8, "csv.line_break", '60,"Dear sir,'),
        (22, "csv.line_break", "7,invoice,99"),
        (35, "csv.line_break", 'kind regards",60'),
    ]


def test_a_message_names_no_more_than_ten_columns(tmp_path):
    (said,) = CsvFormat().look(file_of(tmp_path, b"a," * 14 + b"a\n"))
    assert said.count(" is 'a_") == 10
    assert "column 11 is 'a_11' and 4 more; " in said
