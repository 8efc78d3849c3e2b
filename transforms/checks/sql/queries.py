"""Computes predicates over the rows of a batch in DuckDB, within limits of time and memory.

DuckDB has no time limit, its memory limit counts what is stored and not what an expression makes of a row, and an
interrupt takes effect only when the current 2,048 rows are done. So a query runs in a thread of its own, which holds
the engine, while the caller waits and watches. After `MAX_SECONDS`, or when the process has grown by a quarter of what
the engine believes it may use (80 % of the machine or container), the caller interrupts the query. A query that does
not stop then is left to itself, with its engine, and the next query gets new ones. Nothing can stop it: it goes on to
take time and memory until those 2,048 rows are done, though the job has long reported the rule.

Short queries, which are nearly all, are not watched at all. Memory is read from /proc, so it is limited on Linux only.
"""

import atexit
import contextlib
import functools
import os
import queue
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.transforms.checks.sql.trees import connection

# The time limit for one batch; ten rules take 15 ms.
MAX_SECONDS = 60.0

# The time that an interrupted query has to end.
_GRACE_SECONDS = 1.0

# The time that such a query has when the process ends: a thread that comes back later aborts the interpreter.
_EXIT_SECONDS = 30.0

# How long a query runs before it is watched, and the interval between checks.
_WATCH_SECONDS = 0.2

_MEMORY_SHARE = 0.25

# The number of queries that a thread keeps prepared.
_MAX_QUERIES = 32


class QueryLimitError(Exception):
    """A query took more time or memory than a batch may."""


class _Rows:
    """A table whose rows change while the engine keeps its query."""

    def __init__(self, rows: pa.Table):
        self.rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)


class _Query:
    """Predicates prepared once for many batches: parsing and planning take longer than computing a batch.

    A query belongs to its thread's engine, but holds no reference to it; the engine holds the rows.
    """

    def __init__(self, expressions: Sequence[str], rows: pa.Table):
        self._table = _Rows(rows)
        self._name = f"rows_{id(self)}"
        select = ", ".join(f"{expression} AS r{index}" for index, expression in enumerate(expressions))
        engine = connection()
        engine.register(self._name, self._table)
        try:
            engine.execute(f"PREPARE {self._name} AS SELECT {select} FROM {self._name}").fetchall()
        except duckdb.Error:
            engine.unregister(self._name)
            raise

    def run(self, rows: pa.Table) -> "Results":
        """Returns the results of each predicate, masked where some are NULL."""
        self._table.rows = rows
        try:
            return list(connection().execute(f"EXECUTE {self._name}").fetchnumpy().values())
        finally:
            self._table.rows = rows.schema.empty_table()

    def close(self) -> None:
        """Makes the engine forget the query."""
        connection().execute(f"DEALLOCATE {self._name}").fetchall()
        connection().unregister(self._name)


class _Queries:
    """The queries that the thread of an engine used last."""

    def __init__(self) -> None:
        self._queries: dict[Any, _Query] = {}

    def run(self, expressions: Sequence[str], rows: pa.Table) -> "Results":
        key = (tuple(expressions), rows.schema)
        query = self._queries.pop(key, None) or _Query(expressions, rows)
        self._queries[key] = query
        if len(self._queries) > _MAX_QUERIES:
            self._queries.pop(next(iter(self._queries))).close()
        return query.run(rows)


Results = list[npt.NDArray[np.bool_]]
_Answer = Results | BaseException
_Task = tuple[Sequence[str], pa.Table]


def run_query(expressions: Sequence[str], rows: pa.Table) -> Results:
    """Computes SQL expressions over rows: bool[rows] each, masked where some are NULL.

    Raises:
      QueryLimitError: when the query takes too much time or memory.
      duckdb.Error: when it cannot be computed.
    """
    # A computer that did not answer is not used again: it would give the next caller this caller's answer.
    computer = _LOCAL.__dict__.pop("computer", None) or _Computer()
    answer = computer.ask(expressions, rows)
    if computer.is_idle:
        _LOCAL.computer = computer
    if isinstance(answer, BaseException):
        raise answer
    return answer


_LOCAL = threading.local()


def _start_anew() -> None:
    global _LOCAL
    _LOCAL = threading.local()


os.register_at_fork(after_in_child=_start_anew)  # where the threads of computers do not live on

# Threads whose queries did not stop.
_LEFT: list[threading.Thread] = []


@atexit.register
def _await_left() -> None:
    deadline = time.monotonic() + _EXIT_SECONDS
    for thread in _LEFT:
        thread.join(max(0.0, deadline - time.monotonic()))


class _Computer:
    """A thread that holds an engine and computes what it is given, one query after the other.

    Attributes:
      is_idle: whether it has answered all queries.
    """

    def __init__(self) -> None:
        self.is_idle = True
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        engines: queue.SimpleQueue[duckdb.DuckDBPyConnection] = queue.SimpleQueue()
        # A daemon thread, since a query that does not stop must not keep the process alive.
        self._thread = threading.Thread(target=_compute, args=(self._tasks, self._answers, engines), daemon=True)
        self._thread.start()
        self._engine = engines.get()
        weakref.finalize(self, _stop, self._thread, self._tasks)

    def ask(self, expressions: Sequence[str], rows: pa.Table) -> _Answer:
        """Returns the results or the error of a query, or a `QueryLimitError`."""
        self.is_idle = False
        self._tasks.put((expressions, rows))
        answer = self._wait(_WATCH_SECONDS)
        if answer is None:
            answer = self._watch(_Limits())
        return answer

    def _wait(self, seconds: float) -> _Answer | None:
        with contextlib.suppress(queue.Empty):
            answer = self._answers.get(timeout=seconds)
            self.is_idle = True
            return answer
        return None

    def _watch(self, limits: "_Limits") -> _Answer:
        while (excess := limits.excess()) is None:
            answer = self._wait(_WATCH_SECONDS)
            if answer is not None:
                return answer
        self._engine.interrupt()
        if self._wait(_GRACE_SECONDS) is None:
            _LEFT.append(self._thread)
        return QueryLimitError(excess)


def _compute(
    tasks: "queue.SimpleQueue[_Task | None]",
    answers: "queue.SimpleQueue[_Answer]",
    engines: "queue.SimpleQueue[duckdb.DuckDBPyConnection]",
) -> None:
    engines.put(connection())
    queries = _Queries()
    while (task := tasks.get()) is not None:
        try:
            answer: _Answer = queries.run(*task)
        except BaseException as error:
            answer = error
        answers.put(answer)
        # Do not keep the rows of a batch alive until the next one.
        del task, answer


def _stop(thread: threading.Thread, tasks: "queue.SimpleQueue[_Task | None]") -> None:
    """Lets a thread end, and its engine with it, before the interpreter ends; does not wait for a running query."""
    tasks.put(None)
    if threading.current_thread() is not thread:
        thread.join(_WATCH_SECONDS)


class _Limits:
    """The limits of a query, counted from now on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._had_bytes = _resident_bytes()

    def excess(self) -> str | None:
        """Returns which limit is exceeded; None if none is."""
        if time.monotonic() - self._started > MAX_SECONDS:
            return f"took more than {MAX_SECONDS:g} s"
        if _resident_bytes() - self._had_bytes > _memory_limit():
            return f"took more than {_memory_limit() / 2**30:.1f} GiB of memory"
        return None


def _resident_bytes() -> int:
    """Returns the memory of this process; 0 where it is unknown."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@functools.cache
def _memory_limit() -> float:
    row = connection().execute("SELECT parse_formatted_bytes(current_setting('memory_limit'))").fetchall()[0]
    return row[0] * _MEMORY_SHARE
