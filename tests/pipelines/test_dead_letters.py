"""Dead letters hold what was read, byte for byte, whichever step rejects the row; a replay reads the same from them."""

import collections
import datetime
import decimal
import gzip
import json

import pyarrow as pa
import pytest
from helpers import dead_letters, examples, job, run_prepare, write_parquet, write_schema_file

from pipelines import replay
from pipelines._report.result import DONE

# One row for each step that rejects, by the code of its reason; `good` rows are not rejected.
CSV = {
    "schema.type": b'1,x,"a ""b"" ",2026-01-01T00:00:00Z,1,k',
    "schema.domain": b'2,1001.50, sp ,2026-01-01T00:00:00Z,"1",k',
    "rule.not_bad": b'3,1.10,"bad\nbreak",2026-01-01T00:00:00Z,1e0,k',
    "good": b"4,1.10,q,2026-01-01T00:00:00Z,1.0,k",
    "unique.id": b'4,1.20,"q",2026-01-01T00:00:00Z,1.50,k',
    "event_time.missing": b"5,.5e+1,n,,1,k",
    "schema.nan": b'"5",nan,n,,1,k',
    "good too": b"6,7,n,2026-01-01T00:00:00Z,3e38,big",
    "write.float_overflow": b"7,8.0,\xc3\xa9,2026-01-01T00:00:01Z,30e37,big",
    "csv.encoding": b"8,1,Andr\xe9,2026-01-01T00:00:00Z,1,k",
    "csv.column_count": b"9,1,n",
}
JSONL = {
    "schema.type": b'{"id":1, "fare": "x",  "name":"a", "t":"2026-01-01T00:00:00Z", "w": 1, "k": "k"}',
    "schema.domain": b' {"id": 2, "fare": 1001.50, "name": "\\u00e9", "t": "2026-01-01T00:00:00Z", "w": 1E0, "k": "k"}',
    "rule.not_bad": b'{"more": [1, 2], "id": 3, "fare": "1.10", "name": "bad", "t": "2026-01-01T00:00:00Z", "k": "k"}',
    "good": b'{"id": 4, "fare": 1.10, "name": "q", "t": "2026-01-01T00:00:00Z", "w": 1, "k": "k"}',
    "unique.id": b'{"id": 4, "fare": 1.2e0, "name": "q", "t": "2026-01-01T00:00:00Z", "w": 1, "k": "k"}',
    "event_time.missing": b'{"id": 5, "fare": 5E-1, "name": "n", "t": null, "w": 1, "k": "k"}',
    "schema.nan": b'{"id": 5, "fare": "nan", "name": "n"}',
    "good too": b'{"id": 6, "fare": 7, "name": "n", "t": "2026-01-01T00:00:00Z", "w": 3e38, "k": "big"}',
    "write.float_overflow": b'{"id": 7, "fare": 8.0, "name": "n", "t": "2026-01-01T00:00:01Z", "w": 30e37, "k": "big"}',
    "jsonl.encoding": b'{"id": 8, "name": "Andr\xe9"}',
}
TIME = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
TYPED = {
    "schema.type": {"id": 1, "fare": "x", "name": b"a"},
    "schema.domain": {"id": 2, "fare": "1e5", "name": b"\xff", "deep": {"f": 0.1, "l": [1, 2**53 + 1]}},
    "rule.not_bad": {"id": 3, "fare": "1.10", "name": b"bad", "cost": decimal.Decimal("1.50")},
    "good": {"id": 4, "fare": "1.10", "name": b"q", "deep": {"f": 0.25}},
    "unique.id": {"id": 4, "fare": "902.10", "name": b"q"},
    "event_time.missing": {"id": 5, "fare": "5e-1", "name": b"n", "t": None},
    "schema.nan": {"id": 5, "fare": "nan", "name": b"n"},
    "good too": {"id": 6, "fare": "7", "name": b"n", "w": 3e38, "k": "big"},
    "write.float_overflow": {
        "id": 7, "fare": "8.0", "name": b"n", "w": 3e38, "k": "big", "t": TIME + datetime.timedelta(microseconds=1),
    },
}  # fmt: skip
ARROW = pa.schema(
    [
        ("id", pa.int64()),
        ("fare", pa.string()),
        ("name", pa.binary()),
        ("t", pa.timestamp("us", "UTC")),
        ("w", pa.float64()),
        ("k", pa.string()),
        ("cost", pa.decimal128(10, 2)),
        ("deep", pa.struct([("f", pa.float32()), ("l", pa.list_(pa.int64()))])),
    ]
)
PARQUET = {code: {"t": TIME, "w": 1.0, "k": "k"} | row for code, row in TYPED.items()}

SCHEMA = {"id": "INT", "name": "BYTES", "t": "BYTES", "w": "FLOAT", "k": "BYTES"}
NESTED = {"cost": "BYTES", "deep.f": "FLOAT", "deep.l": "INT"}


def write(path, kind):
    """Writes the rows; returns the file and the payloads by code."""
    if kind == "parquet":
        write_parquet(path / "in.parquet", pa.Table.from_pylist(list(PARQUET.values()), ARROW), 100)
        return path / "in.parquet", {code: payload(row) for code, row in PARQUET.items()}
    rows = CSV if kind == "csv" else JSONL
    ends = [b"\r\n", b"\n\n"]
    data = b"".join(row + ends[index % 2] for index, row in enumerate(rows.values()))
    file = path / ("in.csv.gz" if kind == "csv" else "in.jsonl")
    file.write_bytes(gzip.compress(b"id,fare,name,t,w,k\n" + data) if kind == "csv" else data)
    return file, rows


def payload(row):
    """The row as JSON, with dotted names."""
    deep = {f"deep.{name}": value for name, value in row.get("deep", {}).items()}
    values = {name: value for name, value in row.items() if value is not None and name != "deep"} | deep
    known = {"name": _bytes, "t": lambda time: f"{time:%Y-%m-%dT%H:%M:%S.%fZ}", "cost": str}
    return {name: known[name](value) if name in known else value for name, value in values.items()}


def _bytes(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": "/w=="}


def counted(*datasets):
    rows = [example for dataset in datasets for example in examples(dataset)]
    return collections.Counter(repr(sorted((n, v) for n, v in row.items() if n != "past")) for row in rows)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_each_step_rejects_rows_as_they_were_read(kind, tmp_path):
    file, rows = write(tmp_path, kind)
    more = NESTED if kind == "parquet" else {}
    strict = write_schema_file(tmp_path / "strict.pbtxt", **SCHEMA, fare="FLOAT float_domain { max: 1000 }", **more)
    relaxed = write_schema_file(tmp_path / "relaxed.pbtxt", **SCHEMA, fare="FLOAT", **more)
    (tmp_path / "rules.yaml").write_text("rules: [{name: not_bad, sql: name NOT LIKE 'bad%'}]\nunique: {id: [id]}")
    (tmp_path / "none.yaml").write_text("rules: [{name: any, sql: id IS NOT NULL}]")
    (tmp_path / "rolling.yaml").write_text("rolling: {key: k, window: 1h, features: {past: {op: sum, column: w}}}")
    flags = ["--input", file, "--max_reject_fraction=1", *(["--csv_multiline"] if kind == "csv" else [])]
    timed = [*flags, "--event_time=t", f"--rules={tmp_path}/rules.yaml", f"--rolling={tmp_path}/rolling.yaml"]
    assert run_prepare(*timed, "--schema", strict, "--output", tmp_path / "out") == DONE

    letters = {letter["reason"]: letter for letter in dead_letters(tmp_path / "out")}
    assert letters.keys() == {code for code in rows if not code.startswith("good")}
    for code, letter in letters.items():
        check(letter, rows[code])

    replayed = ["--dead_letters", f"{tmp_path}/out/dead_letters/*.jsonl", "--rules", tmp_path / "none.yaml"]
    file.unlink()  # nothing but the letters is needed
    replayed += ["--schema", relaxed, "--event_time=", "--output", tmp_path / "again"]
    assert job(*replayed, run=replay.run) == (DONE, "")
    still = {letter["reason"]: letter for letter in dead_letters(tmp_path / "again")}
    assert still.keys() == {code for code in rows if code.startswith(("csv.", "jsonl.", "schema.type", "schema.nan"))}
    for code, letter in still.items():
        check(letter, rows[code])
        assert letter["attempt"] == 2

    write(tmp_path, kind)
    assert run_prepare(*flags, "--schema", relaxed, "--output", tmp_path / "all") == DONE
    assert counted(tmp_path / "out", tmp_path / "again") == counted(tmp_path / "all")


def check(letter, row):
    """Whether a letter holds a row: the bytes of a line, or the values of a typed row."""
    if isinstance(row, dict):
        assert letter["payload_encoding"] == "json"
        assert json.loads(letter["payload"]) == row
        types = json.loads(letter["payload_columns"])
        assert (types["t"], types["cost"], types["deep.f"]) == ("timestamp[us, tz=UTC]", "decimal128(10, 2)", "float")
        return
    found = letter["payload"].encode() if letter["payload_encoding"] == "text" else None
    assert found == row or (letter["payload_encoding"] == "base64" and b"\xe9" in row)
    assert ("payload_columns" in letter) == letter["uri"].endswith(".csv.gz")
