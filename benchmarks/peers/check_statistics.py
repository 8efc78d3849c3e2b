"""Compares what a contestant found with exact numbers that Arrow computes of the same file.

Counts, least and greatest values must be exact, means and deviations but for rounding; medians within 2 % of the ranks,
numbers of different values within 15 %, the most frequent value's rows within 1 %. Who does not compute one of these is
not asked for it, but which of them were found is kept.
"""

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from _protocol import TOLD, Task
from pyarrow import csv

_TYPES = {"int": pa.int64(), "float": pa.float64(), "bytes": pa.string()}
_RANKS = (0.48, 0.52)

# How far numbers may be off, relative to the exact one.
_TOLERANCES = {"mean": 1e-6, "deviation": 1e-3, "min": 1e-9, "max": 1e-9, "zeros": 0.0, "distinct": 0.15, "top": 0.01}
# Of what DuckDB tells: two digits.
_PERCENT_TOLERANCE = 0.005001


def truth(task: Task) -> dict[str, Any]:
    """The exact numbers; they stay beside the input."""
    path = pathlib.Path(task.input + ".truth.json")
    if not path.exists():
        path.write_text(json.dumps(_exact(task)))
    return json.loads(path.read_text())


def _exact(task: Task) -> dict[str, Any]:
    types = {column["name"]: _TYPES[column["kind"]] for column in task.columns}
    options = csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
    table = csv.read_csv(task.input, convert_options=options)
    return {"rows": len(table), "columns": {name: dict(_numbers(table[name])) for name in table.column_names}}


def _numbers(values: pa.ChunkedArray) -> Iterator[tuple[str, Any]]:
    yield "missing", values.null_count
    yield "missing_percent", 100 * values.null_count / max(1, len(values))
    yield "distinct", pc.count_distinct(values).as_py()
    if pa.types.is_string(values.type):
        yield "top", max(count.as_py() for count in values.drop_null().value_counts().field("counts"))
        return
    yield "mean", pc.mean(values).as_py()
    yield "deviation", pc.stddev(values).as_py()
    yield "min", pc.min(values).as_py()
    yield "max", pc.max(values).as_py()
    yield "zeros", pc.sum(pc.equal(values, 0)).as_py()
    yield "median", pc.quantile(values, _RANKS, interpolation="nearest").to_pylist()


def mistakes(told: dict[str, Any], exact: dict[str, Any]) -> Iterator[str]:
    """What is missing or wrong, in words."""
    if told["rows"] != exact["rows"]:
        yield f"{told['rows']:,} rows, not {exact['rows']:,}"
    if lacking := sorted(set(exact["columns"]) - set(told["columns"])):
        yield f"nothing of {', '.join(lacking)}"
    for column, numbers in told["columns"].items():
        for name, number in numbers.items():
            wanted = exact["columns"].get(column, {}).get(name)
            if wanted is not None and not _agree(name, number, wanted):
                yield f"{column}: {name} {number}, not {wanted}"


def _agree(name: str, number: float, wanted: Any) -> bool:
    if name == "missing":
        return number == wanted
    if name == "missing_percent":
        return abs(number - wanted) <= _PERCENT_TOLERANCE
    if name == "median":
        return wanted[0] <= number <= wanted[1]
    return abs(number - wanted) <= _TOLERANCES[name] * abs(wanted)


def check(task: Task) -> dict[str, Any]:
    """Rows, what was computed, and what is wrong."""
    output = pathlib.Path(task.output)
    told = json.loads((output / TOLD).read_text())
    files = [path for path in output.iterdir() if path.is_file() and path.name != TOLD]
    found = {name for numbers in told["columns"].values() for name in numbers}
    return {
        "rows": told["rows"],
        "digest": "",
        "shards": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "computed": sorted(name.removesuffix("_percent") for name in found),
        "mistakes": list(mistakes(told, truth(task))),
    }


if __name__ == "__main__":
    print("\n" + json.dumps(check(Task(**json.loads(sys.argv[1])))))
