"""Ray Data: read_csv | map_batches(drop bad rows) | random_shuffle | write_parquet."""

import os

from _protocol import Task, main
from ray_data import drop_bad_rows, read, start


def job(task: Task) -> None:
    """Setting: none, or global for a shuffle of all rows."""
    rows = read(task, 2 * os.cpu_count()).map_batches(
        drop_bad_rows, batch_format="pyarrow", batch_size=None, fn_kwargs={"columns": task.columns}
    )
    if task.setting == "global":
        rows = rows.random_shuffle(seed=1)
    rows.write_parquet(task.output, compression=task.compression)


if __name__ == "__main__":
    main(job, start)
