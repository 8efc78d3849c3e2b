"""Columns of folders beside those of files, for every format; what the file holds itself; what differs."""

import functools
import json

import numpy as np
import pyarrow as pa
import pytest
from helpers import write_avro, write_csv, write_jsonl, write_orc, write_parquet, write_text, write_tfrecord

from penstock.io.batches import feature_names, notes_of, origin_array
from penstock.io.columns.conform import conform_batch
from penstock.io.dead_letters.source import payloads_of
from penstock.io.errors import InputError
from penstock.io.files.inputs import match_files
from penstock.io.formats.base import Parsed, Part
from penstock.io.formats.partitioned import PARTITION_DIFFERS, PartitionedFormat, add_partitions
from penstock.io.formats.registry import FORMATS, choose_format
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind

WRITERS = {
    "csv": lambda path, rows: write_csv(path, rows, list(rows[0])),
    "jsonl": write_jsonl,
    "avro": functools.partial(write_avro, types={"text": "string"}),
    "parquet": lambda path, rows: write_parquet(path, pa.Table.from_pylist(rows), 7),
    "orc": lambda path, rows: write_orc(path, pa.Table.from_pylist(rows), 7),
    "tfrecord": write_tfrecord,
    "text": write_text,
}
ROWS = [{"text": f"row {index}"} for index in range(20)]


def folder_of(tmp_path, *folders):
    path = tmp_path.joinpath(*folders)
    path.mkdir(parents=True, exist_ok=True)
    return path


def read(path, features=None, whole=()):
    (file,) = match_files([str(path)])
    reader = PartitionedFormat(choose_format(None, [str(path)]).make(), frozenset(whole))
    parts = [parsed for part in reader.plan(file) for parsed in reader.read(file, part, features)]
    letters = [letter for parsed in parts for letter in parsed.rejected]
    return [parsed.batch for parsed in parts if parsed.batch.num_rows], letters


def column(batches, name):
    return [value for batch in batches for value in batch.column(name).to_pylist()]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gets_the_columns(tmp_path, name):
    folder = folder_of(tmp_path, "year=2014", "month=02", "city=__HIVE_DEFAULT_PARTITION__")
    path = WRITERS[name](folder / f"in.{FORMATS[name].suffixes[0]}", ROWS)
    batches, letters = read(path, whole=["year"])
    assert letters == []
    assert {batch.schema.field("year").type for batch in batches} == {pa.int64()}
    assert column(batches, "year") == [2014] * 20
    assert column(batches, "month") == ["02"] * 20
    assert column(batches, "city") == [None] * 20
    features = [Feature("text", Kind.BYTES), Feature("month", Kind.INT, required=True, complete=True)]
    batches, _ = read(path, features)
    assert column(batches, "month") == [2] * 20
    assert {tuple(sorted(feature_names(batch))) for batch in batches} == {("month", "text")}


TYPED = {
    "number": ("2014", Kind.INT, 2014),
    "padded": ("007", Kind.INT, 7),
    "negative": ("-07", Kind.INT, -7),
    "no number": ("x", Kind.INT, "x"),
    "beyond": ("9223372036854775808", Kind.INT, "9223372036854775808"),
    "float": ("00.5", Kind.FLOAT, "0.5"),
    "text": ("007", Kind.BYTES, "007"),
    "null": ("__HIVE_DEFAULT_PARTITION__", Kind.INT, None),
}


@pytest.mark.parametrize("case", TYPED)
def test_a_schema_decides_the_type(tmp_path, case):
    value, kind, expected = TYPED[case]
    path = write_csv(folder_of(tmp_path, f"k={value}") / "a.csv", [{"a": 1}], ["a"])
    batches, _ = read(path, [Feature("a", Kind.INT), Feature("k", kind)])
    assert column(batches, "k") == [expected]


def test_columns_are_declared_with_those_of_the_file(tmp_path):
    path = write_csv(folder_of(tmp_path, "a=1", "k=2") / "a.csv", [{"a": 1, "b": 2}], ["a", "b"])
    (file,) = match_files([str(path)])
    reader = PartitionedFormat(choose_format("csv", []).make())
    assert reader.columns(file) == ["a", "b", "k"]
    assert PartitionedFormat(choose_format("jsonl", []).make()).columns(file) is None
    assert isinstance(reader.tail(file), Part)


def test_a_required_column_may_be_the_folder_s_and_only_that(tmp_path):
    path = write_csv(folder_of(tmp_path, "k=2") / "a.csv", [{"a": 1}], ["a"])
    features = [Feature("a", Kind.INT, required=True), Feature("k", Kind.INT, required=True)]
    assert column(read(path, features)[0], "k") == [2]
    with pytest.raises(InputError, match="column 'q' is required by the schema, but the file has only a"):
        read(path, [*features, Feature("q", Kind.INT, required=True)])


def test_a_schema_of_folders_alone(tmp_path):
    path = write_parquet(folder_of(tmp_path, "k=2") / "a.parquet", pa.table({"a": range(10)}), 3)
    assert column(read(path, [Feature("k", Kind.INT)])[0], "k") == [2] * 10


OWN = {
    "equal numbers": ("2014", [2014, 2014], [2014, 2014], []),
    "padded": ("02", [2, 2], [2, 2], []),
    "equal texts": ("02", ["02", "02"], ["02", "02"], []),
    "numbers as texts": ("2", ["02", "2"], ["02", "2"], []),
    "one differs": ("2014", [2014, 2013, 2014], [2014, 2014], [1]),
    "one is missing": ("2014", [2014, None], [2014, 2014], []),
    "all are missing": ("x", [None, None], ["x", "x"], []),
    "missing and no number": ("x", [None, 3], [], [0, 1]),
    "null by the folder": ("__HIVE_DEFAULT_PARTITION__", [None, 5], [None], [1]),
    "lists of one": ("7", [[7], [7]], [[7], [7]], []),
    "lists of others": ("7", [[7, 7], [7], [], [8]], [[7]], [0, 2, 3]),
    "fractions": ("0.50", [0.5, 0.25], [0.5], [1]),
    "bools": ("true", [True, False], [True], [1]),
}


@pytest.mark.parametrize("features", [None, [Feature("k", Kind.BYTES)]], ids=["inferred", "typed"])
@pytest.mark.parametrize("case", OWN)
def test_a_column_of_the_file_must_agree_with_the_folder(tmp_path, case, features):
    value, own, kept, rejected = OWN[case]
    path = write_parquet(folder_of(tmp_path, f"k={value}") / "a.parquet", pa.table({"k": own}))
    batches, letters = read(path, features)
    assert column(batches, "k") == kept
    assert [letter.position for letter in letters] == rejected
    assert {letter.reasons[0].code for letter in letters} <= {PARTITION_DIFFERS}


FEATURES = [Feature("k", Kind.INT), Feature("a", Kind.BYTES)]


def test_a_row_that_differs_keeps_its_bytes_and_the_others_theirs(tmp_path):
    path = write_csv(
        folder_of(tmp_path, "k=1") / "a.csv",
        [{"k": 1, "a": "x"}, {"k": 2, "a": "y"}, {"k": "z", "a": "x"}, {"a": "z"}],
        ["k", "a"],
    )
    (file,) = match_files([str(path)])
    reader = PartitionedFormat(choose_format("csv", []).make())
    first, second = reader.read(file, Part(), FEATURES)
    letters = list(first.rejected)
    assert [letter.payload for letter in letters] == ['2,"y"', '"z","x"']
    assert letters[0].reasons[0].detail == (
        "column 'k' is '2' in the file, and '1' by its folder; correct one of them, or pass --partitioning none, which "
        "takes the file's alone"
    )
    assert second.batch.column("a").to_pylist() == ["x", "z"]
    assert conform_batch(second.batch, FEATURES)[0].column("k").to_pylist() == [1, 1]
    assert payloads_of(second.source).texts == ['1,"x"', ',"z"']


def test_what_was_read_of_a_row_has_no_columns_of_folders(tmp_path):
    path = write_parquet(folder_of(tmp_path, "k=1", "y=3") / "a.parquet", pa.table({"k": [1, 2], "a": ["x", "y"]}))
    (file,) = match_files([str(path)])
    first, second = PartitionedFormat(choose_format("parquet", []).make()).read(file, Part(), None)
    assert [letter.payload for letter in first.rejected] == ['{"k": 2, "a": "y"}']
    assert payloads_of(second.source).texts == ['{"k": 1, "a": "x"}']
    assert feature_names(second.batch) == ["k", "a", "y"]


def test_what_a_field_says_stays_where_the_file_has_the_column():
    field, origin = pa.field("k", pa.string(), metadata={"penstock.x": "1"}), origin_array("k=1/a.csv", np.arange(2))
    schema = pa.schema([field, (ORIGIN, origin.type)], metadata={"notes": "1"})
    batch = pa.RecordBatch.from_arrays([pa.array(["1", None]), origin], schema=schema)
    (parsed,) = add_partitions(Parsed(batch), None)
    assert parsed.batch.schema.equals(schema, check_metadata=True)
    assert parsed.batch.column("k").to_pylist() == ["1", "1"]


def test_notes_name_the_columns_of_folders_and_those_of_line_1_that_have_other_names(tmp_path):
    folder = folder_of(tmp_path, "year=2014", "b=x")
    path = folder / "in.csv"
    path.write_text(",b,b\n1,x,3\n2,y,4\n3,x,5\n")
    (batch,), letters = read(path)
    assert [letter.reasons[0].code for letter in letters] == [PARTITION_DIFFERS]
    assert [(note.code, note.subject, note.count) for note in notes_of(batch)] == [
        ("column.from_folders", "year", 2),  # b is a column of the file
        ("column.renamed", "b_2", 3),  # as it is read
        ("column.renamed", "column_1", 3),
    ]
    typed, _ = conform_batch(batch, [Feature("year", Kind.INT)])
    assert notes_of(typed) == notes_of(batch)


def test_members_of_json_that_are_missing_are_the_folder_s(tmp_path):
    path = folder_of(tmp_path, "k=5") / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"a": 1}, {"a": 2, "k": 5}, {"a": 3, "k": 6}])))
    for features in (None, [Feature("a", Kind.INT), Feature("k", Kind.INT, required=True, complete=True)]):
        batches, letters = read(path, features)
        assert column(batches, "k") == [5, 5]
        assert [letter.payload for letter in letters] == ['{"a": 3, "k": 6}']
