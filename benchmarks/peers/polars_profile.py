"""Polars: `describe`, or one query of what Penstock computes, as far as Polars has it."""

from typing import Any

import polars as pl
from _protocol import Task, main

# Of `describe`.
_NUMBERS = {"mean": "mean", "std": "deviation", "min": "min", "max": "max", "50%": "median"}

_QUANTILES = [tenth / 10 for tenth in range(11)]
_BUCKETS = 10
_TOP = 20


def job(task: Task) -> dict[str, Any]:
    """Setting: describe or same."""
    rows = pl.scan_csv(task.input, infer_schema_length=None)
    return described(task, rows) if task.setting == "describe" else queried(task, rows)


def described(task: Task, rows: pl.LazyFrame) -> dict[str, Any]:
    """Count, nulls, mean, deviation and five quantiles; of texts no more than nulls, least and greatest."""
    table = rows.describe()
    table.write_csv(task.path("described.csv"))
    found = {row["statistic"]: row for row in table.to_dicts()}
    columns = {}
    for name in table.columns[1:]:
        columns[name] = {"missing": int(found["null_count"][name])}
        if found["mean"][name] is not None:
            columns[name] |= {key: found[label][name] for label, key in _NUMBERS.items()}
    first = table.columns[1]
    return {"rows": int(found["count"][first]) + int(found["null_count"][first]), "columns": columns}


def queried(task: Task, rows: pl.LazyFrame) -> dict[str, Any]:
    """Missing, moments, bounds, zeros, different values, deciles and a histogram; of texts the most frequent values,
    and moments and deciles of their lengths."""
    schema = rows.collect_schema()
    wanted = [expression for name, dtype in schema.items() for expression in _expressions(name, dtype)]
    (found,) = rows.select(pl.len(), *wanted).collect().to_dicts()
    pl.DataFrame([found]).write_json(task.path("queried.json"))
    return {"rows": found["len"], "columns": {name: _told(name, dtype, found) for name, dtype in schema.items()}}


def _expressions(name: str, dtype: pl.DataType) -> list[pl.Expr]:
    column = pl.col(name)
    values = column if dtype.is_numeric() else column.str.len_bytes()
    wanted = {
        "missing": column.null_count(),
        "distinct": column.drop_nulls().approx_n_unique(),
        "mean": values.mean(),
        "deviation": values.std(),
        "min": values.min(),
        "max": values.max(),
        "quantiles": pl.concat_list([values.quantile(quantile) for quantile in _QUANTILES]),
    }
    if dtype.is_numeric():
        wanted |= {"zeros": (column == 0).sum(), "histogram": column.hist(bin_count=_BUCKETS).implode()}
    else:
        wanted["top"] = column.value_counts(sort=True).head(_TOP).implode()
    return [expression.alias(f"{name}:{key}") for key, expression in wanted.items()]


def _told(name: str, dtype: pl.DataType, found: dict[str, Any]) -> dict[str, Any]:
    if not dtype.is_numeric():
        top = next(value["count"] for value in found[f"{name}:top"] if value[name] is not None)
        return {key: found[f"{name}:{key}"] for key in ("missing", "distinct")} | {"top": top}
    keys = ("missing", "distinct", "mean", "deviation", "min", "max", "zeros")
    return {key: found[f"{name}:{key}"] for key in keys} | {"median": found[f"{name}:quantiles"][5]}


if __name__ == "__main__":
    main(job, tell=dict)
