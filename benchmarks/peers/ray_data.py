"""Ray Data: read_csv | map_batches(drop bad rows) | write_tfrecords.

Arrow's CSV reader, which Ray uses, fails at a text in a number column. So it reads texts, and Arrow's kernels turn
them into numbers, a batch at once.
"""

import functools
import os
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from _protocol import Task, main
from pyarrow import csv

_NUMBERS = {"int": r"^-?\d+$", "float": r"^-?\d*\.?\d+(e[+-]?\d+)?$"}
_TYPES = {"int": pa.int64(), "float": pa.float32(), "bytes": pa.string()}


def read(task: Task, blocks: int) -> ray.data.Dataset:
    """The rows; from CSV as texts."""
    if task.format == "parquet":
        return ray.data.read_parquet(task.input, override_num_blocks=blocks)
    if task.format == "jsonl":
        return ray.data.read_json(task.input, lines=True, override_num_blocks=blocks)
    types = {column["name"]: pa.string() for column in task.columns}
    options = csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
    return ray.data.read_csv(task.input, convert_options=options, override_num_blocks=blocks)


def drop_bad_rows(table: pa.Table, columns: list[dict[str, Any]]) -> pa.Table:
    """The good rows, with each column of its kind."""
    table = table.drop_null()
    for column in columns:
        name, kind = column["name"], column["kind"]
        if kind != "bytes" and pa.types.is_string(table.schema.field(name).type):
            table = table.filter(pc.match_substring_regex(table[name], _NUMBERS[kind]))
    arrays = {column["name"]: table[column["name"]].cast(_TYPES[column["kind"]], safe=False) for column in columns}
    bounds = [(column["name"], column["minimum"]) for column in columns if column["minimum"] is not None]
    good = functools.reduce(pc.and_, (pc.greater_equal(arrays[name], minimum) for name, minimum in bounds))
    return pa.table(arrays).filter(good)


def start(task: Task) -> None:
    """Starts Ray, which its users have running: it does not count."""
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False


def job(task: Task) -> None:
    """Ray would take one file as one block, for one core."""
    streams = {"compression": "gzip"} if task.compression == "gzip" else None
    rows = read(task, 2 * os.cpu_count()).map_batches(
        drop_bad_rows, batch_format="pyarrow", batch_size=None, fn_kwargs={"columns": task.columns}
    )
    rows.write_tfrecords(task.output, arrow_open_stream_args=streams)


if __name__ == "__main__":
    main(job, start)
