"""Nothing changes without a word: each value that comes out is the one that went in, or its row is rejected, or told.

Tables of every format with numbers go through reading, inference, typing, and encoding, without the pipelines that
distribute these steps; TensorFlow reads the examples. One table goes through the whole job.
"""

import collections
import dataclasses
import decimal
import fractions
import functools
import json
import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pytest
from helpers import _values as example_values
from helpers import examples, manifest_of, run_prepare, write_avro, write_orc, write_parquet, write_schema_file
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from penstock.io.batches import drop_rows
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.float32 import ROUNDED, rounding_notes
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.examples.encode import encode_examples
from penstock.io.files.inputs import match_files
from penstock.io.formats.registry import choose_format
from penstock.io.schema import schema_features
from penstock.transforms.infer import Summary, summarize_batch, summary_notes, summary_schema
from pipelines._report.result import DONE

D = decimal.Decimal


class Spelled(str):
    """A JSON number, as it is spelled."""


# Each kind of column at the borders of the kinds of a schema.
ids = st.integers(20_000_000, 20_001_000) | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9)
fractional = st.floats(allow_nan=False) | st.integers(0, 10**10).map(lambda cents: cents / 100) | ids.map(float)
times = st.integers(0, 10**7).map(lambda millis: 1_748_736_094 + millis / 1000)
spellings = st.one_of(
    ids.map(str),
    ids.map(lambda number: f"{number}.0"),
    fractional.map(repr),
    times.map(repr),
    st.sampled_from(
        ["0.10", "1e3", "-0.0", "9007199254740993.0", "1e400", "1.00000000000000000001", "12345678901234567890"]
    ),
)
looks = st.sampled_from(["1.10", "1e5", "90210", "nan", "007", "0", "a", "", 'é,"', "true", "20000001.0"])


def similar(*values):
    """Columns of one sort of value, and of a mixture of all."""
    return st.one_of(*(st.lists(some, min_size=1, max_size=12) for some in (*values, st.one_of(*values))))


COLUMNS = {
    "csv": similar(spellings, ids.map(str), ids.map(lambda number: f"{number}.0"), times.map(repr), looks),
    "jsonl": similar(
        spellings.filter(lambda text: "inf" not in text).map(Spelled),
        looks,
        ids,
        fractional.filter(np.isfinite).map(lambda value: Spelled(repr(value))),
        st.booleans(),
    ),
    "parquet": similar(ids) | similar(fractional, times, ids.map(float)) | similar(looks) | similar(st.booleans()),
    "decimals": similar(st.decimals(-(10**20), 10**20, places=3)),
    "float32": similar(st.floats(width=32, allow_nan=False)),
}
COLUMNS["orc"] = COLUMNS["avro"] = COLUMNS["parquet"]


def write_table(kind, folder, columns):
    """A file of the columns, with one that names the rows; in parts as small as the format has them."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    match kind:
        case "csv":
            fields = [[name for name in columns], *([_csv_field(value) for value in row.values()] for row in rows)]
            path = folder / "in.csv"
            path.write_text("".join(",".join(line) + "\n" for line in fields))
        case "jsonl":
            path = folder / "in.jsonl"
            members = [", ".join(f"{json.dumps(name)}: {_json(value)}" for name, value in row.items()) for row in rows]
            path.write_text("".join(f"{{{line}}}\n" for line in members))
        case "avro":
            types = {name: _AVRO[type(values[0])] for name, values in columns.items()}
            path = write_avro(folder / "in.avro", rows, types, block_bytes=100)
        case "orc":
            path = write_orc(folder / "in.orc", pa.table(columns), 5)
        case "float32":
            types = [pa.string() if name == "row" else pa.float32() for name in columns]
            path = write_parquet(
                folder / "in.parquet", pa.table([*map(pa.array, columns.values(), types)], [*columns]), 5
            )
        case _:
            path = write_parquet(folder / "in.parquet", pa.table(columns), 5)
    return path


_AVRO = {int: "long", float: "double", str: "string", bool: "boolean"}


def _csv_field(value):
    quoted = value.replace('"', '""')
    return f'"{quoted}"' if value in ("", 'é,"') else value


def _json(value):
    return str(value) if isinstance(value, Spelled) else json.dumps(value)


@st.composite
def tables(draw, kind):
    """Some columns of one length, by name."""
    columns = draw(st.lists(COLUMNS[kind], min_size=1, max_size=3))
    rows = min(map(len, columns))
    names = [f"c{number}" for number in range(len(columns))]
    return {"row": [f"r{row}" for row in range(rows)], **dict(zip(names, [c[:rows] for c in columns], strict=True))}


@dataclasses.dataclass
class Outcome:
    """What became of a table: rows by name, notes of inference by column, those of the sink, rejected rows."""

    rows: dict
    told: dict
    written: dict
    rejected: int


def through(path):
    """Reads, infers, types and encodes, part by part."""
    (file,) = match_files([str(path)])
    reader = choose_format(None, [file.uri]).make_for([file.uri])
    summaries = [summarize_batch(found.batch) for part in reader.plan(file) for found in reader.read(file, part, None)]
    summary = functools.reduce(Summary.merge, summaries, Summary())
    features = schema_features(summary_schema(summary))
    found = Outcome({}, {note.subject: note for note in summary_notes(summary)}, collections.Counter(), 0)
    for part in reader.plan(file):
        for parsed in reader.read(file, part, features):
            batch, reasons = conform_batch(parsed.batch, features)
            found.rejected += len(parsed.rejected) + len(reasons)
            good = drop_rows(batch, reasons)
            found.written.update({note.subject: note.count for note in rounding_notes(good)})
            encoded = encode_examples(good)
            for start, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True):
                row = example_values(encoded.data[start + 12 : end - 4].tobytes())
                found.rows[row["row"][0]] = row
    return found


def is_kept(value, found):
    """Whether a value that came out is the one that went in."""
    if isinstance(found, str):
        if isinstance(value, bool):
            return found == str(value).lower()
        if isinstance(value, str) and (found == value or not isinstance(value, Spelled)):
            return found == value
        return float(found) == value if isinstance(value, float) else exact(found) == exact(value)
    if isinstance(found, float):
        nearest = float(value)
        return found == nearest or float(str(np.float32(found))) == nearest or (found != found and nearest != nearest)
    return exact(value) == found


def exact(value):
    """The number that a value or a spelling of one stands for; a spelling with too large an exponent is its own.

    A JSON number with a fraction or an exponent is a double below 2^53, for all of JSON's readers.
    """
    if isinstance(value, Spelled) and not value.lstrip("-").isdigit() and abs(float(value)) < 2**53:
        value = float(value)
    return value if str(value) in ("1e400", "inf", "-inf") else fractions.Fraction(value)


def check(columns, found):
    """Compares what came out with what went in, and what is lost with what is told."""
    lost = collections.Counter()
    for index, name in enumerate(columns["row"]):
        if name not in found.rows:
            continue
        for column, values in columns.items():
            (value,) = found.rows[name].get(column, [None])
            if not is_kept(values[index], value):
                assert isinstance(value, float), (column, values[index], value)
                lost[column] += 1
    assert len(found.rows) + found.rejected == len(columns["row"])
    assert found.rejected == 0, "what inference has seen, it has a kind for"
    assert lost == found.written
    assert lost == {column: note.count for column, note in found.told.items()}
    assert all(note.code == ROUNDED for note in found.told.values())


@pytest.mark.parametrize("kind", COLUMNS)
def test_values_are_kept_or_told(kind):
    @given(tables(kind))
    def run(columns):
        with tempfile.TemporaryDirectory() as folder:
            check(columns, through(write_table(kind, pathlib.Path(folder), columns)))

    run()


TEXT = """\
row,id,ts,fare,zip
a,20000001,1748736094.501,12.35,08540
b,20000002.0,1748736095.502,5.50,90210
c,2.0000003e7,1748736094.501,7,10001
d,x,0.5,1,1
"""


@pytest.fixture
def csv(tmp_path):
    (tmp_path / "in.csv").write_text(TEXT.replace("d,x,0.5,1,1\n", ""))
    return tmp_path / "in.csv"


def test_a_job_keeps_ids_and_tells_what_float32_changes(csv, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_prepare("--input", csv, "--output", out, "--split", "train=0.5,eval=0.5") == DONE
    rows = [row for split in ("train", "eval") for row in examples(out, split)]
    assert sorted(row["id"][0] for row in rows) == [20000001, 20000002, 20000003]
    assert sorted(row["zip"][0] for row in rows) == ["08540", "10001", "90210"]
    (note,) = manifest_of(out).notes
    assert (note.code, note.subject, note.count) == ("float32.rounded", "ts", 3)
    told = "1748736094.501 and 1748736095.502 both become 1748736128.0; 2 distinct values become 1; to keep all digits"
    assert told in note.detail
    assert told in capsys.readouterr().out
    assert told in (out / "schema.pbtxt").read_text()
    assert not list(out.glob("*.notes"))


def test_a_job_under_a_schema_counts_what_float32_changes(csv, tmp_path):
    csv.write_text(TEXT)
    schema = write_schema_file(tmp_path / "s.pbtxt", row="BYTES", id="INT", ts="FLOAT", fare="FLOAT", zip="FLOAT")
    out = tmp_path / "out"
    flags = ("--input", csv, "--schema", schema, "--output", out, "--max_reject_fraction=0.5")
    assert run_prepare(*flags) == DONE
    manifest = manifest_of(out)
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected_by_reason) == (4, 2, {"schema.type": 2})
    (note,) = manifest.notes
    assert (note.code, note.subject, note.count) == ("float32.rounded", "ts", 2), "of the rows that are written"
    assert note.detail.startswith("1748736094.501 becomes 1748736128.0; to keep all digits")


def test_windows_tell_what_float32_changes_in_each_of_them(csv, tmp_path):
    schema = write_schema_file(tmp_path / "s.pbtxt", row="BYTES", id="INT", ts="FLOAT", at="INT")
    csv.write_text("row,id,ts,at\na,1,1748736094.501,5\nb,2,1748736095.502,65\nc,3,0.5,125\nd,4,0.1234567891,66\n")
    out = tmp_path / "out"
    flags = ("--input", csv, "--schema", schema, "--output", out, "--event_time=at:s", "--window=fixed:60s")
    assert run_prepare(*flags, "--num_shards=1") == DONE
    assert [[(note.subject, note.count) for note in window.notes] for window in read_window_manifests(str(out))] == [
        [("ts", 1)],
        [("ts", 2)],
        [],
    ]


def test_columns_of_parquet_lose_nothing_and_tell_nothing(csv, tmp_path):
    out = tmp_path / "out"
    assert run_prepare("--input", csv, "--output", out, "--output_format=parquet") == DONE
    assert manifest_of(out).notes == ()
    table = parquet.read_table(next((out / "train").iterdir())).sort_by("row")
    assert table["ts"].to_pylist() == [1748736094.501, 1748736095.502, 1748736094.501]
    assert table["id"].to_pylist() == [20000001, 20000002, 20000003]
