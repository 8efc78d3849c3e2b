"""Polars: scan_csv | drop bad rows | shuffle | write_parquet, a file for each shard.

A text in a number column becomes null, as every value does that is missing, and rows with nulls are dropped.
"""

import functools

import polars as pl
from _protocol import Task, main

_TYPES = {"int": pl.Int64, "float": pl.Float64, "bytes": pl.String}


def good_rows(task: Task) -> pl.DataFrame:
    """The rows that are kept, in their order."""
    types = {column["name"]: _TYPES[column["kind"]] for column in task.columns}
    bounds = [pl.col(column["name"]) >= column["minimum"] for column in task.columns if column["minimum"] is not None]
    rows = pl.scan_csv(task.input, schema=types, ignore_errors=True)
    return (
        rows.drop_nulls().filter(functools.reduce(lambda one, other: one & other, bounds)).collect(engine="streaming")
    )


def job(task: Task) -> None:
    """Setting: none, or global for a shuffle of all rows."""
    rows = good_rows(task)
    if task.setting == "global":
        rows = rows.sample(fraction=1.0, shuffle=True, seed=1)
    for shard in range(task.shards):
        first, end = (len(rows) * number // task.shards for number in (shard, shard + 1))
        path = task.path(f"part-{shard}.parquet")
        rows.slice(first, end - first).write_parquet(path, compression=task.compression, compression_level=1)


if __name__ == "__main__":
    main(job)
