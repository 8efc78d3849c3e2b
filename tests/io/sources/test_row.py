"""A row is found again by its position, in files of every format."""

import gzip

import pyarrow as pa
import pytest
from helpers import write_avro, write_csv, write_jsonl, write_orc, write_parquet

from penstock.io.dead_letters.source import payloads_of
from penstock.io.errors import InputError
from penstock.io.files.inputs import stat_file
from penstock.io.reserved import ORIGIN, SOURCE
from penstock.io.sources.row import RowFinder, origin_unit

ROWS = [{"x": number, "name": f"n{number}"} for number in range(250)]
TABLE = pa.Table.from_pylist(ROWS)

WRITERS = {
    "a.csv": lambda path: write_csv(path, ROWS, ["x", "name"]),
    "a.jsonl": lambda path: write_jsonl(path, ROWS),
    "a.txt": lambda path: path.write_text("".join(f"line {row['x']}\n" for row in ROWS)),
    "a.parquet": lambda path: write_parquet(path, TABLE),
    "a.orc": lambda path: write_orc(path, TABLE),
    "a.avro": lambda path: write_avro(path, ROWS, {"x": "long", "name": "string"}),
    "a.csv.gz": lambda path: path.write_bytes(gzip.compress(b"x,name\n" + b"".join(b"%d,n\n" % n for n in range(250)))),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_row_is_found_by_its_position(tmp_path, name):
    WRITERS[name](tmp_path / name)
    file = stat_file(str(tmp_path / name))
    finder = RowFinder.of(file.uri, None, {})
    found, expected = [], []
    for part in finder.reader.plan(file):
        for parsed in finder.reader.read(file, part, None):
            positions = parsed.batch.column(ORIGIN).field("position").to_pylist()
            texts = payloads_of(parsed.with_source().column(SOURCE)).texts
            expected += texts[::60]
            found += [finder.find(file, position).text for position in positions[::60]]
    assert len(found) >= 5
    assert found == expected


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "a.csv.gz"])
def test_the_line_of_a_row_is_counted(tmp_path, name):
    WRITERS[name](tmp_path / name)
    file = stat_file(str(tmp_path / name))
    finder = RowFinder.of(file.uri, None, {})
    content = (tmp_path / name).read_bytes()
    lines = (gzip.decompress(content) if name.endswith("gz") else content).splitlines(keepends=True)
    position = sum(map(len, lines[:100]))
    row = finder.find(file, position)
    assert (row.line, row.text) == (101, lines[100].decode().rstrip())


def test_the_values_of_a_source_with_types_are_json(tmp_path):
    write_parquet(tmp_path / "a.parquet", TABLE)
    file = stat_file(str(tmp_path / "a.parquet"))
    row = RowFinder.of(file.uri, None, {}).find(file, 201)
    assert (row.text, row.encoding, row.line) == ('{"x": 201, "name": "n201"}', "json", None)


def test_a_position_without_a_row_is_an_error(tmp_path):
    write_csv(tmp_path / "a.csv", ROWS, ["x", "name"])
    file = stat_file(str(tmp_path / "a.csv"))
    with pytest.raises(InputError, match=r"a\.csv: no row begins at byte 9"):
        RowFinder.of(file.uri, "csv", {}).find(file, 9)


def test_units_of_positions():
    uris = {"a.csv": "byte", "a.orc": "row", "kafka://h:1/t/0": "offset", "a.unknown": "position"}
    assert {uri: origin_unit(uri, None) for uri in uris} == uris
