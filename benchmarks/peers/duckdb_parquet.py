"""DuckDB: COPY (read_csv, without bad rows, in random order) TO Parquet, a file for each thread."""

import duckdb
from _protocol import Task, main

_TYPES = {"int": "BIGINT", "float": "DOUBLE", "bytes": "VARCHAR"}


def job(task: Task) -> None:
    """Setting: none, or global for a shuffle of all rows. `ignore_errors` leaves out rows that cannot be read."""
    columns = ", ".join(f"'{column['name']}': '{_TYPES[column['kind']]}'" for column in task.columns)
    good = [f'"{column["name"]}" IS NOT NULL' for column in task.columns]
    good += [f'"{column["name"]}" >= {column["minimum"]}' for column in task.columns if column["minimum"] is not None]
    order = "ORDER BY random()" if task.setting == "global" else ""
    connection = duckdb.connect()
    # Nobody's rows are in the order of the input then, but each writes as fast as it can.
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SELECT setseed(0.5)")
    connection.execute(
        f"COPY (SELECT * FROM read_csv(?, header = true, columns = {{{columns}}}, ignore_errors = true) "
        f"WHERE {' AND '.join(good)} {order}) "
        f"TO '{task.path('parts')}' "
        f"(FORMAT parquet, COMPRESSION {task.compression}, COMPRESSION_LEVEL 1, PER_THREAD_OUTPUT true)",
        [task.input],
    )


if __name__ == "__main__":
    main(job)
