"""Compares a dataset with the file that it was made from, value by value, as readers that are not ours see both."""

import csv
import datetime as dt
import decimal
import functools
import io
import itertools
import json
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import fastavro
import fastavro._read
import numpy as np
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

# A row by the dotted names of its values, and where it is: its index, or the byte where its line begins.
Row = tuple[int, dict[str, Any]]

_MAX_SHOWN = 3

# The first character of a value, in an array or behind another value.
_VALUE = re.compile(r"[^\s,\]]")

INT, FLOAT, BYTES = schema_pb2.INT, schema_pb2.FLOAT, schema_pb2.BYTES

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNITS = (1, 1000, 1_000_000, 1_000_000_000)


def differences(path: pathlib.Path, name: str, dataset: pathlib.Path) -> list[str]:
    """Returns what is not as it should be, at most a few values."""
    manifest = json.loads((dataset / "manifest.json").read_text())
    kinds = {feature.name: feature.type for feature in _schema(dataset).feature}
    rejected = {letter["position"] for letter in _letters(dataset)}
    expected = [row for row in _READERS[name](path) if row[0] not in rejected]
    found = _rows(dataset)
    if len(found) != len(expected):
        return [
            f"{len(found)} rows came out, {len(rejected)} were rejected, and {len(expected)} others are in the file"
        ]
    counts = manifest["rows_in"], manifest["rows_out"] + len(rejected)
    wrong = [f"rows in and out: {counts}"] if counts[0] != counts[1] else []
    wrong += itertools.islice(_wrong_values(expected, found, kinds), _MAX_SHOWN)
    return wrong


def _wrong_values(expected: list[Row], found: list[dict[str, Any]], kinds: dict[str, int]) -> Iterator[str]:
    for (position, row), out in zip(expected, found, strict=True):
        for name in row.keys() | out.keys():
            value, got = row.get(name), out.get(name)
            if name not in kinds:
                if not _may_be_left_out(value):
                    yield f"row {position}: {name!r} is {value!r}, and not in the schema"
            elif not agrees(value, got, kinds[name]):
                yield f"row {position}: {name!r} is {value!r}, but {got!r} came out"


def _may_be_left_out(value: Any) -> bool:
    """Returns whether docs/types.md lets a member go: no value, no members, a list of lists or objects."""
    return (
        value is None
        or value == {}
        or (isinstance(value, list) and all(isinstance(item, list | dict) for item in value))
    )


def agrees(value: Any, got: Any, kind: int) -> bool:
    """Returns whether a value of a file became this one, of a kind of the schema, as docs/types.md says."""
    if isinstance(value, list) or isinstance(got, list):
        values = value if isinstance(value, list) else [] if value is None else [value]
        gots = got if isinstance(got, list) else [] if got is None else [got]
        pairs = itertools.zip_longest(values, gots, fillvalue=...)
        return all(agrees(mine, theirs, kind) for mine, theirs in pairs)
    if value is None or got is None or value is ... or got is ...:
        return value is got or (value == "" and got is None)
    return {INT: _is_int, FLOAT: _is_float, BYTES: _is_bytes}[kind](value, got)


def _is_int(value: Any, got: Any) -> bool:
    match value:
        case bool() | int() | float() | decimal.Decimal():
            return value == got
        case str() | bytes():
            text = value if isinstance(value, str) else value.decode()
            return got == {"true": 1, "false": 0}.get(text.lower()) or decimal.Decimal(text) == got
        case dt.datetime():
            instant = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
            micros = (instant - _EPOCH) // dt.timedelta(microseconds=1)
            return any(micros * unit // 1_000_000 == got for unit in _UNITS)
        case dt.date():
            days = (value - _EPOCH.date()).days
            return got in (days, days * 86_400_000)
        case dt.time():
            micros = ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
            return any(micros * unit // 1_000_000 == got for unit in _UNITS)
        case dt.timedelta():
            return any(value // dt.timedelta(microseconds=1) * unit // 1_000_000 == got for unit in _UNITS)
    return False


def _is_float(value: Any, got: Any) -> bool:
    number = float(value)
    return (math.isnan(number) and math.isnan(got)) or number == got or float(np.float32(number)) == got


def _is_bytes(value: Any, got: Any) -> bool:
    data = got.encode() if isinstance(got, str) else got
    match value:
        case bytes():
            return bool(value == data)
        case str():
            return value.encode("utf-8", "surrogatepass") == data
        case bool():
            return data == str(value).lower().encode()
        case int():
            return data == str(value).encode()
        case float():
            text = float(data)
            return math.isnan(text) == math.isnan(value) and (text == value or np.float32(text) == np.float32(value))
        case decimal.Decimal():
            return decimal.Decimal(data.decode()) == value
        case dt.datetime() | dt.date() | dt.time():
            return bool(data.decode().removesuffix("Z").startswith(value.isoformat().split("+")[0]))
    return str(value).encode() == data


def _schema(dataset: pathlib.Path) -> schema_pb2.Schema:
    return text_format.Parse((dataset / "schema.pbtxt").read_text(), schema_pb2.Schema())


def _letters(dataset: pathlib.Path) -> Iterator[dict[str, Any]]:
    for path in sorted(dataset.glob("dead_letters/*.jsonl")):
        yield from map(json.loads, path.read_text().splitlines())


def _rows(dataset: pathlib.Path) -> list[dict[str, Any]]:
    return [row for path in sorted(dataset.glob("train/*.parquet")) for row in pq.read_table(path).to_pylist()]


def _parquet(path: pathlib.Path) -> Iterator[Row]:
    return _table_rows(pq.ParquetFile(path).read())


def _orc(path: pathlib.Path) -> Iterator[Row]:
    return _table_rows(pyarrow.orc.ORCFile(path).read())


def _table_rows(table: pa.Table) -> Iterator[Row]:
    flat = table
    while any(pa.types.is_struct(field.type) for field in flat.schema):
        flat = flat.flatten()
    columns = {}
    for field, column in zip(flat.schema, flat.columns, strict=True):
        columns[field.name] = _numbers(column) if _is_fine(field.type) else column.to_pylist()
    for index in range(flat.num_rows):
        yield index, {name: column[index] for name, column in columns.items()}


def _is_fine(arrow_type: pa.DataType) -> bool:
    """Returns whether Python's times cannot hold a type: nanoseconds, and years beyond 9999."""
    return pa.types.is_timestamp(arrow_type) or pa.types.is_duration(arrow_type) or pa.types.is_time64(arrow_type)


def _numbers(column: pa.ChunkedArray) -> list[int | None]:
    return column.cast(pa.int64()).to_pylist()


def _read_block(stream: Any, codec: str) -> Any:
    """Reads a block for fastavro, which needs other packages for these codecs."""
    size = _long(stream) - (4 if codec == "snappy" else 0)
    data = stream.read(size)
    if codec == "snappy":
        stream.read(4)
        return io.BytesIO(pa.decompress(data, _varint(io.BytesIO(data)), "snappy", asbytes=True))
    return io.BytesIO(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read())


def _long(stream: Any) -> int:
    value = _varint(stream)
    return (value >> 1) ^ -(value & 1)


def _varint(stream: Any) -> int:
    value = shift = 0
    while (byte := stream.read(1)[0]) & 0x80:
        value, shift = value | (byte & 0x7F) << shift, shift + 7
    return value | byte << shift


for _codec in ("snappy", "zstandard"):
    fastavro._read.BLOCK_READERS[_codec] = functools.partial(_read_block, codec=_codec)


def _avro(path: pathlib.Path) -> Iterator[Row]:
    with path.open("rb") as stream:
        for index, row in enumerate(fastavro.reader(stream)):
            yield index, _flat(row)


def _json(path: pathlib.Path) -> Iterator[Row]:
    """Yields objects: the items of an array, or values one after the other, on lines of their own or not."""
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, list):
        yield from _values(text, text.index("[") + 1)
    elif isinstance(whole, dict) or _has_values_side_by_side(text):
        yield from _values(text, 0)
    else:
        yield from _json_lines(text)


def _has_values_side_by_side(text: str) -> bool:
    line = text.lstrip().partition("\n")[0]
    try:
        _, end = json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return False
    return bool(line[end:].strip())


def _values(text: str, at: int) -> Iterator[Row]:
    """Yields values; what is none, up to the next object, counts as one that has no members."""
    decoder = json.JSONDecoder()
    while (found := _VALUE.search(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, found.start())
        except ValueError:
            following = text.find("{", found.start() + 1)
            value, at = None, following if following >= 0 else len(text)
        place = len(text[: found.start()].encode(errors="surrogateescape"))
        yield place, _flat(value) if isinstance(value, dict) else {}


def _json_lines(text: str) -> Iterator[Row]:
    position = 0
    for line in text.split("\n"):
        if line.strip(" \t\r"):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield position, _flat(row) if isinstance(row, dict) else {}
        position += len(line.encode(errors="surrogateescape")) + 1


def _csv(path: pathlib.Path) -> Iterator[Row]:
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    lines = [line + "\n" for line in content.split("\n")]
    starts = [0, *itertools.accumulate(len(line.encode(errors="surrogateescape")) for line in lines)]
    filled = [(start, line) for start, line in zip(starts, lines, strict=False) if line.strip("\r\n")]
    if not filled:
        return
    names = next(csv.reader([filled[0][1]]))
    for start, line in filled[1:]:
        fields = next(csv.reader([line]), [])
        yield start, dict(zip(names, fields, strict=False))


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


_READERS = {"parquet": _parquet, "orc": _orc, "avro": _avro, "csv": _csv, "jsonl": _json}
