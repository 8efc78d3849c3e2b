"""DuckDB: `SUMMARIZE`, or two queries of what Penstock computes, as far as DuckDB has it."""

import json
import pathlib
from typing import Any

import duckdb
from _protocol import Task, main

# Times stay texts, as for the others.
_READ = "read_csv(?, sample_size = -1, auto_type_candidates = ['BIGINT', 'DOUBLE', 'VARCHAR'])"

_QUANTILES = [tenth / 10 for tenth in range(11)]
_BUCKETS = 10
_TOP = 20

# Of a column of numbers, of one of texts, and of what both have.
_BOTH = {"missing": "count_if({0} IS NULL)", "distinct": "approx_count_distinct({0})"}
_VALUES = {
    "mean": "avg({0})",
    "deviation": "stddev_pop({0})",
    "min": "min({0})",
    "max": "max({0})",
    "quantiles": f"approx_quantile({{0}}, {_QUANTILES})",
}
_NUMBERS = {**_BOTH, **_VALUES, "zeros": "count_if({0} = 0)"}
_TEXTS = {
    **_BOTH,
    **{f"length_{key}": call.format("strlen({0})") for key, call in _VALUES.items()},
    "top": f"approx_top_k({{0}}, {_TOP})",
}


def job(task: Task) -> dict[str, Any]:
    """Setting: summarize or same."""
    connection = duckdb.connect()
    found = summarized(task, connection) if task.setting == "summarize" else queried(task, connection)
    pathlib.Path(task.path("statistics.json")).write_text(json.dumps(found, default=str))
    return found


def summarized(task: Task, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Count, nulls in hundredths of a percent, mean, deviation, bounds, quartiles and different values; of texts no
    mean and no quartiles."""
    rows = connection.execute(f"SUMMARIZE SELECT * FROM {_READ}", [task.input])
    names = [column[0] for column in rows.description]
    return {row["column_name"]: row for row in (dict(zip(names, row, strict=True)) for row in rows.fetchall())}


def queried(task: Task, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Missing, moments, bounds, zeros, different values, deciles and a histogram; of texts the most frequent values,
    and moments and deciles of their lengths."""
    connection.execute(f"CREATE TEMP TABLE rows AS SELECT * FROM {_READ}", [task.input])
    types = {name: kind for name, kind, *_ in connection.execute("DESCRIBE rows").fetchall()}
    numbers = [name for name, kind in types.items() if kind in ("BIGINT", "DOUBLE")]
    calls = {
        (name, key): call.format(_quoted(name))
        for name in types
        for key, call in (_NUMBERS if name in numbers else _TEXTS).items()
    }
    values = connection.execute(f"SELECT count(*), {', '.join(calls.values())} FROM rows").fetchone()
    found: dict[str, Any] = {"rows": values[0], **{name: {} for name in types}}
    for (name, key), value in zip(calls, values[1:], strict=True):
        found[name][key] = value
    buckets = [f"histogram({_quoted(name)}, {_bounds(found[name])})" for name in numbers]
    for name, value in zip(
        numbers, connection.execute(f"SELECT {', '.join(buckets)} FROM rows").fetchone(), strict=True
    ):
        found[name]["histogram"] = {str(bound): count for bound, count in value.items()}
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _bounds(found: dict[str, Any]) -> list[float]:
    width = (found["max"] - found["min"]) / _BUCKETS
    return [found["min"] + width * bucket for bucket in range(1, _BUCKETS)] + [found["max"]]


def tell(found: dict[str, Any]) -> dict[str, Any]:
    """What was found, of either."""
    if "rows" in found:
        keys = ("missing", "distinct", "mean", "deviation", "min", "max", "zeros")
        columns = {
            name: {key: column[key] for key in keys if key in column} | _quantile(column)
            for name, column in found.items()
            if name != "rows"
        }
        return {"rows": found["rows"], "columns": columns}
    return {
        "rows": next(iter(found.values()))["count"],
        "columns": {name: _summary(column) for name, column in found.items()},
    }


def _quantile(column: dict[str, Any]) -> dict[str, float]:
    return {"median": column["quantiles"][5]} if "quantiles" in column else {}


def _summary(column: dict[str, Any]) -> dict[str, float]:
    told = {"missing_percent": float(column["null_percentage"]), "distinct": column["approx_unique"]}
    if column["column_type"] in ("BIGINT", "DOUBLE"):
        numbers = {"mean": "avg", "deviation": "std", "min": "min", "max": "max", "median": "q50"}
        told |= {key: float(column[label]) for key, label in numbers.items()}
    return told


if __name__ == "__main__":
    main(job, tell=tell)
