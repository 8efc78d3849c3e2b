"""Names that no column can have: every format refuses them by name, and none drops the column."""

import json

import pyarrow as pa
import pytest
from helpers import write_tfrecord
from pyarrow import orc, parquet

from penstock.io.errors import InputError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.registry import FORMATS

FAULTS = {"": "(column 1 has no name|a name that is empty)", "_split": "'_split'.* is reserved by Penstock"}

WRITERS = {
    "jsonl": lambda path, name: path.write_text(json.dumps({name: 1})),
    "parquet": lambda path, name: parquet.write_table(pa.Table.from_arrays([pa.array([1])], [name]), path),
    "orc": lambda path, name: orc.write_table(pa.Table.from_arrays([pa.array([1])], [name]), path),
    "tfrecord": lambda path, name: write_tfrecord(path, [{name: 1}]),
}


def columns(path):
    reader, file = FORMATS[path.suffix[1:]].make(), stat_file(str(path))
    return [
        name
        for part in reader.plan(file)
        for found in reader.read(file, part, None)
        for name in found.batch.schema.names
    ]


@pytest.mark.parametrize("name", FAULTS, ids=["empty", "reserved"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_name_that_no_column_can_have_is_refused(tmp_path, kind, name):
    path = tmp_path / f"t.{kind}"
    WRITERS[kind](path, name)
    with pytest.raises(InputError, match=rf"t\.{kind}: .*{FAULTS[name]}"):
        columns(path)


@pytest.mark.parametrize(("kind", "write"), [("parquet", parquet.write_table), ("orc", orc.write_table)])
@pytest.mark.parametrize(
    ("names", "twice"),
    [(["a", "a", "c"], "a"), (["a.b", "c", "a"], r"a\.b"), (["a", "c", "a"], "a")],
    ids=["values", "dotted", "struct"],
)
def test_two_columns_of_one_name_are_refused(tmp_path, kind, write, names, twice):
    path = tmp_path / f"t.{kind}"
    write(pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([{"b": 3}])], names), path)
    with pytest.raises(InputError, match=f"column name '{twice}' appears more than once"):
        columns(path)


@pytest.mark.parametrize("kind", ["parquet", "orc", "jsonl"])
def test_a_nested_name_that_is_empty_makes_a_column(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    row = {"a": {"": 1, "_split": 2}}
    table = pa.Table.from_pylist([row])
    {
        "parquet": lambda: parquet.write_table(table, path),
        "orc": lambda: orc.write_table(table, path),
        "jsonl": lambda: path.write_text(json.dumps(row)),
    }[kind]()
    assert columns(path) == ["a.", "a._split", "_origin"]
