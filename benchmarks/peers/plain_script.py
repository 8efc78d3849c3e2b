"""A loop over csv.reader into tf.io.TFRecordWriter; one process, as such scripts are."""

import contextlib
import csv
import itertools
from collections.abc import Iterator

import pyarrow.parquet as pq
import tensorflow as tf
from _protocol import Task, main
from _rows import ExampleEncoder, Row, RowParser


def rows(task: Task) -> Iterator[Row | None]:
    """All rows, None for a bad one."""
    parser = RowParser(task.columns)
    if task.format == "parquet":
        for batch in pq.ParquetFile(task.input).iter_batches():
            yield from map(parser.from_dict, batch.to_pylist())
        return
    with open(task.input, newline="") as file:
        if task.format == "jsonl":
            yield from map(parser.from_json, file)
        else:
            lines = csv.reader(file)
            next(lines)
            yield from map(parser.from_fields, lines)


def job(task: Task) -> None:
    """Rows go to the shards in turn."""
    encoder = ExampleEncoder(task.columns)
    options = tf.io.TFRecordOptions(compression_type="GZIP" if task.compression == "gzip" else "")
    with contextlib.ExitStack() as stack:
        paths = [task.path(f"part-{index}{task.suffix}") for index in range(task.shards)]
        writers = itertools.cycle([stack.enter_context(tf.io.TFRecordWriter(path, options)) for path in paths])
        for row in rows(task):
            if row is not None:
                next(writers).write(encoder.encode(row))


if __name__ == "__main__":
    main(job)
