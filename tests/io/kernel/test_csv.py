"""Fields of CSV lines: the kernel against Arrow, over lines that only a generator writes."""

import numpy as np
import pyarrow as pa
import pytest
from depth import scaled
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_cases import twins

from penstock.io.columns.conform import conform_batch
from penstock.io.errors import InputError
from penstock.io.formats.csv import fields as fields_module
from penstock.io.formats.csv.fields import CsvColumns, FieldReader, misquoted_lines
from penstock.io.formats.csv.records import CsvRecords, cut_records
from penstock.io.formats.lines import Block, blank_lines, index_lines, invalid_utf8, lone_cr_lines
from penstock.io.kernel.shared.quoting import Dialect
from penstock.io.schema import Feature, Kind

compiled, pure = twins.both("csv")


def layout_of(names, selected=None, delimiter=",", null_values=(), multiline=False, quoting=True, spaces=False):
    selected = dict.fromkeys(names) if selected is None else selected
    if multiline or delimiter == " ":  # which refuse them
        quoting, spaces = True, False
    dialect = Dialect(delimiter.encode(), quoting, spaces)
    return CsvColumns("t.csv", names, selected, dialect, null_values, multiline)


def records_of(data: bytes, layout: CsvColumns) -> CsvRecords:
    """All lines or records that are not blank, and those of them that are misquoted or have a lone CR."""
    block = Block(data, 100)
    if layout.multiline:
        records = cut_records(block, layout.dialect.delimiter.decode(), final=True)
    else:
        lines = index_lines(block)
        records = CsvRecords(lines, misquoted_lines(lines, layout.dialect), lone_cr_lines(lines))
    filled = ~blank_lines(records.lines)
    return CsvRecords(records.lines.select(filled), records.misquoted[filled], records.lone_cr[filled])


def reader_of(kernel, layout: CsvColumns) -> FieldReader:
    reader = FieldReader(layout)
    reader._splitter = kernel.Splitter(*reader._parts)
    return reader


def check_same(data: bytes, layout: CsvColumns) -> None:
    """Columns, numbers of fields and misquoted lines are the same by the kernel and by Arrow."""
    records = records_of(data, layout)
    lines = records.lines
    nul = np.array([b"\0" in lines.line(index) for index in range(len(lines))], bool)
    good = ~(records.lone_cr | nul | invalid_utf8(lines))
    if layout.multiline:
        good &= ~records.misquoted
    by_kernel, by_arrow = (reader_of(kernel, layout).read(lines, good) for kernel in (compiled, pure))
    assert by_kernel.counts.tolist() == by_arrow.counts.tolist()
    assert by_kernel.misquoted.tolist() == (records.misquoted & (not layout.multiline)).tolist()
    check_same_columns(by_kernel.columns, by_arrow.columns, layout)


def check_same_columns(by_kernel: dict[str, pa.Array], by_arrow: dict[str, pa.Array], layout: CsvColumns) -> None:
    ours, theirs = pa.record_batch(by_kernel), pa.record_batch(by_arrow)
    ours.validate(full=True)
    theirs.validate(full=True)
    features = [feature for feature in layout.selected.values() if feature is not None]
    if not features:
        assert ours.to_pydict() == theirs.to_pydict()
        return
    third = ours.num_rows // 3
    for piece, expected in ((ours, theirs), (ours.slice(third, third), theirs.slice(third, third))):
        (typed, reasons), (wanted, wanted_reasons) = (conform_batch(batch, features) for batch in (piece, expected))
        assert reasons == wanted_reasons
        assert typed.schema == wanted.schema
        assert [bits(column) for column in typed.columns] == [bits(column) for column in wanted.columns]


def bits(column: pa.Array) -> list:
    return [repr(value) for value in column.to_pylist()]


MARKS = [
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b'"',
    b'""',
    b'"',
    b",",
    b",",
    b",",
    b";",
    b"\t",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
]
TEXTS = ["a", "bc", " ", "é", "😀", "NA", "null", "-", "a long text of more than sixteen bytes", "0123456789012345"]
NUMBERS = ["0", "1", "-1", "12", "007", "-0", "9223372036854775807", "9223372036854775808", "true", "FALSE", "tRue"]
NUMBERS += [
    "1.5",
    "-2.5e3",
    ".5",
    "5.",
    "1e22",
    "1e23",
    "3.5e38",
    "1e-400",
    "1e400",
    "NaN",
    "-inf",
    "0.1234567890123456789",
]
FIELDS = [text.encode() for text in TEXTS + NUMBERS]
pieces = st.sampled_from(MARKS * 3 + FIELDS + [b'"x,y"', b'"a""b"', b'"1"', b'""', b'"NA"', b'"l\nm"', b'""""'])
messy = st.lists(pieces, max_size=60).map(b"".join)
row = st.lists(st.sampled_from([*FIELDS, b"", b'""', b'"2"', b'"q""q"']), min_size=3, max_size=3).map(b",".join)
tables = st.lists(row, max_size=12).map(b"\n".join)
options = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from([",", ",", ";", "\t", " "]),
        "null_values": st.sampled_from([(), ("NA",), ("-", "null", "1"), ("",)]),
        "multiline": st.booleans(),
        "quoting": st.booleans(),
        "spaces": st.booleans(),
    }
)


@settings(max_examples=scaled(600))
@given(messy | tables, st.integers(1, 4), options)
@example(b'"a",', 2, {})
@example(b'""', 1, {})
@example(b'5" pipe,"a"\n5" by 6",x\n', 2, {})
@example(b'"l\r\nm",\r\n', 2, {"multiline": True})
@example(b'NA,"NA"\n', 2, {"null_values": ("NA",)})
@example(b' "a" , b \n"a" "b",c\n "a,b\n', 2, {"spaces": True})
@example(b'  ," NA "\nNA , ""\n', 2, {"spaces": True, "null_values": ("NA",)})
@example(b'5" pipe,"a\n"NA",NA\n', 2, {"quoting": False, "null_values": ("NA",)})
def test_texts_are_what_arrow_finds(data, width, options):
    check_same(data, layout_of("abcd"[:width], **options))


@settings(max_examples=scaled(600))
@given(tables | messy, options, st.sampled_from([Kind.INT, Kind.FLOAT, Kind.BYTES]), st.booleans())
@example(b"1,1e39,1\n2,2,2", {}, Kind.FLOAT, False)
@example(b"1,,3\n", {}, Kind.INT, False)
@example(b"true,0,1\n", {}, Kind.INT, True)
def test_values_are_what_conform_makes_of_arrows_texts(data, options, kind, boolean):
    # Not in the order of the file, one not there, one not wanted.
    features = {"c": Feature("c", kind, boolean=boolean), "a": Feature("a", kind, boolean=boolean)}
    check_same(data, layout_of("abc", features, **options))


@settings(max_examples=scaled(1000))
@given(messy, st.booleans(), st.sampled_from([",", ";"]))
@example(b'"a"\r', False, ",")
@example(b'"a"\r', True, ",")
@example(b'"a""', False, ",")
@example(b'a,"b"x\r\n"c\n\r\n"\r\n\r\r\n', True, ",")
@example(b'a\r,"b"x\n', True, ",")
def test_records_are_cut_as_numpy_cuts_them(data, final, delimiter):
    ours, theirs = (kernel.cut_records(data, ord(delimiter), final) for kernel in (compiled, pure))
    for found, expected in zip(ours, theirs, strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("sizes", [(0, 1, 15, 16, 17), (3, 40, 16), (16,), (15,)])
def test_texts_up_to_the_end_of_the_block(sizes):
    for line_end in (b"", b"\n"):
        data = b"\n".join(b"x" * size + b"," + b"y" * size for size in sizes) + line_end
        check_same(data, layout_of("ab"))


@pytest.mark.parametrize("kernel", [compiled, pure])
def test_wanted_columns_only_and_rows_of_another_width(kernel):
    lines = index_lines(Block(b"1,2,3\n4,5\n6,7,8\n9,10,11,12\n13,14,15\n", 0))
    fields = reader_of(kernel, layout_of("abc", {"b": None})).read(lines, np.array([1, 1, 1, 1, 0], bool))
    assert fields.counts.tolist() == [3, 2, 3, 4, 0]
    assert not fields.misquoted.any()
    assert {name: array.to_pylist() for name, array in fields.columns.items()} == {"b": ["2", "7"]}


@pytest.mark.parametrize("kernel", [compiled, pure])
def test_all_lines_are_good_or_none_is(kernel):
    lines = index_lines(Block(b'1,"x"\n2,y\n', 0))
    reader = reader_of(kernel, layout_of("ab"))
    for good, expected in ((np.zeros(2, bool), ([], [])), (np.ones(2, bool), (["1", "2"], ["x", "y"]))):
        columns = reader.read(lines, good).columns
        assert tuple(array.to_pylist() for array in columns.values()) == expected


def test_records_outside_the_data_are_refused():
    splitter = compiled.Splitter(ord(","), True, [0], [])
    for starts, ends in (([0], [4]), ([-1], [2]), ([2], [1]), ([0, 1], [2])):
        with pytest.raises(ValueError, match="record"):
            splitter.split(b"abc", np.array(starts), np.array(ends), np.ones(len(starts), bool))
    with pytest.raises(ValueError, match="a flag each"):
        splitter.split(b"abc", np.array([0]), np.array([1]), np.ones(2, bool))
    for wrong in (1, -1):
        with pytest.raises(ValueError, match="slot"):
            splitter.texts(wrong)
    splitter.split(b"a\nb", np.array([0, 2]), np.array([1, 3]), np.ones(2, bool))
    for only in ([2], [-1]):
        with pytest.raises(ValueError, match="no such record"):
            splitter.texts(0, np.array(only))


def test_a_parser_that_finds_other_records_is_an_error_with_the_place():
    reader = reader_of(pure, layout_of("ab"))
    lines = index_lines(Block(b"1,2\n3,4\n", 10))
    reader._splitter._read_table = lambda text, skip: pa.table({"0": ["1"], "1": ["2"]})
    message = r"t\.csv: Arrow found 1 rows in 2 lines, from byte 10 on; this is a fault of Penstock, please report"
    with pytest.raises(InputError, match=message):
        reader.read(lines, np.ones(2, bool))


def test_more_than_the_kernel_takes_is_read_by_arrow(monkeypatch):
    monkeypatch.setattr(fields_module.csv, "MAX_BYTES", 8)
    lines = index_lines(Block(b"1,2\n3,4\n", 0))
    reader = FieldReader(layout_of("ab"))
    monkeypatch.setattr(reader, "_splitter", None)
    assert [array.to_pylist() for array in reader.read(lines, np.ones(2, bool)).columns.values()] == [
        ["1", "3"],
        ["2", "4"],
    ]
