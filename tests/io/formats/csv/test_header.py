"""The names of the columns of CSV: from line 1, from --columns, or made up."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import feature_names
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.csv.header import name_columns


def read(path, data: bytes, **options) -> tuple[tuple[str, ...], list[tuple], list[str]]:
    """(names, rows, codes of rejects) of a file."""
    file_path = path / "t.csv"
    file_path.write_bytes(data)
    file, reader = stat_file(str(file_path)), CsvFormat(**options)
    rows, codes = [], []
    for part in reader.plan(file):
        for parsed in reader.read(file, part, None):
            names = feature_names(parsed.batch)
            rows += [tuple(row[name] for name in names) for row in parsed.batch.to_pylist()]
            codes += [letter.reasons[0].code for letter in parsed.rejected]
    return tuple(reader.columns(file) or ()), rows, codes


NAMES = {
    "good": (["a", "b"], ["a", "b"]),
    "index_of_pandas": (["", "a"], ["column_1", "a"]),
    "all_unnamed": (["", "", ""], ["column_1", "column_2", "column_3"]),
    "repeated": (["a", "b", "a", "a"], ["a", "b", "a_2", "a_3"]),
    "number_is_taken": (["a", "a", "a_2"], ["a", "a_3", "a_2"]),
    "number_is_taken_before": (["a_2", "a", "a"], ["a_2", "a", "a_3"]),
    "number_is_repeated": (["a", "a", "a_2", "a_2"], ["a", "a_3", "a_2", "a_2_2"]),
    "position_is_taken": (["", "column_1"], ["column_1_2", "column_1"]),
    "case_counts": (["a", "A"], ["a", "A"]),
    "space_is_a_name": ([" ", ""], [" ", "column_2"]),
    "not_ascii": (["é", "é"], ["é", "é_2"]),
}


@pytest.mark.parametrize(("fields", "names"), NAMES.values(), ids=NAMES)
def test_columns_get_names_of_their_own(fields, names):
    found, renamed = name_columns(fields, "t.csv")
    assert list(found) == names
    assert renamed == {at: new for at, (old, new) in enumerate(zip(fields, names, strict=True), 1) if old != new}


@given(st.lists(st.sampled_from(["", "a", "a_2", "a_3", "a_2_2", "column_1", "column_2", "column_1_2"]), max_size=9))
def test_names_are_distinct_and_those_of_the_header_stay(fields):
    names, renamed = name_columns(fields, "t.csv")
    assert len(names) == len(fields) == len(set(names))
    assert all(names)
    assert not set(renamed.values()) & set(fields)
    for name in set(fields) - {""}:
        assert names[fields.index(name)] == name


def test_reserved_names_are_refused_with_a_way_out():
    message = "t.csv: column name '_split' is reserved by Penstock; rename the column, or --header skip --columns"
    with pytest.raises(InputError, match=re.escape(message)):
        name_columns(["a", "_split"], "t.csv")


DATA = b"\n,a,a\r\n1,2,3\n4,5,6\n"
ROWS = [("1", "2", "3"), ("4", "5", "6")]
ALL_ROWS = [(None, "a", "a"), *ROWS]
MODES = {
    "default": ({}, ("column_1", "a", "a_2"), ROWS),
    "keep": ({"header": "keep"}, ("column_1", "a", "a_2"), ROWS),
    "skip": ({"header": "skip"}, ("column_1", "column_2", "column_3"), ROWS),
    "skip_and_columns": ({"header": "skip", "column_names": ("x", "y", "z")}, ("x", "y", "z"), ROWS),
    "none": ({"header": "none"}, ("column_1", "column_2", "column_3"), ALL_ROWS),
    "none_and_columns": (
        {"header": "none", "column_names": ("x", "y", "z")},
        ("x", "y", "z"),
        [(None, "a", "a"), *ROWS],
    ),
    "columns": ({"column_names": ("x", "y", "z")}, ("x", "y", "z"), ALL_ROWS),
}


@pytest.mark.parametrize("multiline", [False, True])
@pytest.mark.parametrize(("options", "names", "rows"), MODES.values(), ids=MODES)
def test_line_1_is_what_the_option_says(tmp_path, options, names, rows, multiline):
    for part_bytes in (None, 3):
        assert read(tmp_path, DATA, multiline=multiline, part_bytes=part_bytes, **options) == (names, rows, [])


def test_a_line_that_is_skipped_may_be_anything(tmp_path):
    options = {"header": "skip", "column_names": ("x", "y")}
    assert read(tmp_path, b'"a \xff\0\n1,2\n', **options) == (("x", "y"), [("1", "2")], [])


@pytest.mark.parametrize("header", [None, "keep", "skip", "none"])
def test_files_without_a_line_have_no_columns(tmp_path, header):
    for data in (b"", b"\xef\xbb\xbf", b"\n\r\n"):
        assert read(tmp_path, data, header=header) == ((), [], [])


def test_a_header_alone_has_no_rows(tmp_path):
    assert read(tmp_path, b"a,", header="keep") == (("a", "column_2"), [], [])
    assert read(tmp_path, b"a,", header="skip") == (("column_1", "column_2"), [], [])
    assert read(tmp_path, b"a,", header="none") == (("column_1", "column_2"), [("a", None)], [])


def test_rows_with_another_width_than_the_header_are_rejected(tmp_path):
    assert read(tmp_path, b"a,b\n1\n1,2\n1,2,3\n") == (("a", "b"), [("1", "2")], ["csv.column_count"] * 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"header": "maybe"}, "--header must be one of keep, skip, none, got 'maybe'"),
        ({"header": "keep", "column_names": ("a",)}, "leave out --columns, or pass --header skip"),
        ({"column_names": ()}, "--columns must name at least one column"),
        ({"column_names": ("a", "a")}, "--columns: column name 'a' appears more than once"),
        ({"column_names": ("a", "")}, "--columns: column 2 has no name"),
    ],
    ids=["unknown", "keep_and_columns", "no_names", "repeated", "unnamed"],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        CsvFormat(**options)
