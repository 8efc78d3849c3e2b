import gc
import os
import threading
import time

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from penstock.io.errors import DataError
from penstock.io.schema import Feature, Kind
from penstock.transforms.checks import rules as rules_module
from penstock.transforms.checks.rules import Rule, compile_rules
from penstock.transforms.checks.sql import queries as rule_queries
from penstock.transforms.checks.sql.queries import QueryLimitError, run_query

FEATURES = [Feature("fare", Kind.FLOAT), Feature("name", Kind.BYTES)]

# About 0.1 s for each text of 10,000 letters, in which the engine does not look for an interrupt.
SLOW = "levenshtein(name, reverse(name)) >= 0"


def texts(rows, length=10_000):
    return pa.table(
        {"name": ["".join(map(chr, np.random.default_rng(row).integers(97, 122, length))) for row in range(rows)]}
    )


def batch(rows):
    return pa.record_batch({"fare": [1.0] * rows, "name": texts(rows)["name"].combine_chunks()})


def engine_threads():
    return [thread for thread in threading.enumerate() if "_compute" in thread.name]


@pytest.fixture
def limits(monkeypatch):
    """Tight limits."""
    monkeypatch.setattr(rule_queries, "MAX_SECONDS", 0.3)
    monkeypatch.setattr(rule_queries, "_WATCH_SECONDS", 0.1)
    monkeypatch.setattr(rule_queries, "_GRACE_SECONDS", 0.1)


def test_results_and_errors_of_queries():
    assert run_query(["x > 1", "x < 3"], pa.table({"x": [1, 2, 3]}))[0].tolist() == [False, True, True]
    masked = run_query(["x > 1"], pa.table({"x": [1, None]}))[0]
    assert masked.tolist() == [False, None]
    with pytest.raises(duckdb.ConversionException, match="abc"):
        run_query(["x::int > 1"], pa.table({"x": ["abc"]}))
    assert run_query(["x > 1"], pa.table({"x": [2]}))[0].tolist() == [True]


def test_a_query_beyond_its_time_is_left_and_the_next_one_has_an_engine(limits):
    started = time.process_time()  # of all threads: the query takes several seconds of it
    with pytest.raises(QueryLimitError, match=r"^took more than 0\.3 s$"):
        run_query([SLOW], texts(30))
    assert time.process_time() - started < 2
    assert run_query(["name <> ''"], texts(1))[0].tolist() == [True]


def test_a_query_that_stops_when_told_keeps_its_engine(limits, monkeypatch):
    monkeypatch.setattr(rule_queries, "_GRACE_SECONDS", 20)
    run_query(["name <> ''"], texts(1))
    before = engine_threads()
    with pytest.raises(QueryLimitError, match="took more than"):
        run_query([SLOW], texts(5000, 800))
    assert engine_threads() == before
    assert run_query(["name <> ''"], texts(1))[0].tolist() == [True]


def test_a_query_beyond_its_memory_is_left(limits, monkeypatch):
    monkeypatch.setattr(rule_queries, "MAX_SECONDS", 20)
    bytes_seen = iter(range(2**33, 2**50, 2**33))
    monkeypatch.setattr(rule_queries, "_resident_bytes", lambda: next(bytes_seen))
    with pytest.raises(QueryLimitError, match=r"^took more than \d+\.\d GiB of memory$"):
        run_query([SLOW], texts(30))


def test_the_memory_of_this_process_is_known():
    assert 2**24 < rule_queries._resident_bytes() < 2**40
    assert 2**26 < rule_queries._memory_limit() < 2**44


def test_slow_queries_within_their_limits_have_answers(monkeypatch):
    monkeypatch.setattr(rule_queries, "_WATCH_SECONDS", 0.01)
    assert run_query([SLOW], texts(5))[0].tolist() == [True] * 5


def test_the_thread_of_an_engine_ends_with_the_thread_that_asked():
    before = set(threading.enumerate())
    asked = []

    def ask():
        run_query(["x > 1"], pa.table({"x": [1]}))
        asked.extend(set(threading.enumerate()) - before - {threading.current_thread()})

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    gc.collect()
    assert len(asked) == 1
    asked[0].join(10)
    assert not asked[0].is_alive()


def test_a_fork_has_engines_of_its_own_and_leaves_those_of_its_parent():
    rows = pa.table({"x": [1, 2]})
    ended = threading.Event()
    other = threading.Thread(target=lambda: (run_query(["x > 1"], rows), ended.wait(60)))
    other.start()
    assert run_query(["x > 1"], rows)[0].tolist() == [False, True]
    pid = os.fork()  # in the child, the engine of the other thread loses its thread
    if not pid:
        os._exit(run_query(["x > 1"], rows)[0].tolist() != [False, True])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ended.set()
    other.join()
    assert run_query(["x > 1"], rows)[0].tolist() == [False, True]


def test_the_rule_that_takes_too_much_is_named(limits):
    rules = [Rule("good", "fare > 0"), Rule("slow", SLOW, source="--rules a.yaml"), Rule("fine", "fare < 2")]
    with pytest.raises(DataError, match=r"^--rules a\.yaml: rule 'slow': took more than 0\.3 s for 30 rows; make less"):
        compile_rules(rules, FEATURES).check(batch(30))


def test_rules_that_take_too_much_only_together_have_answers(monkeypatch):
    def greedy(expressions, rows):
        if len(expressions) > 1:
            raise QueryLimitError("took more than 60 s")
        return run_query(expressions, rows)

    monkeypatch.setattr(rules_module, "run_query", greedy)
    rules = [Rule("a", "fare > 0"), Rule("b", "name <> ''"), Rule("c", "name::int > 3")]
    found = compile_rules(rules, FEATURES).check(pa.record_batch({"fare": [1.0, -1.0], "name": ["5", "x"]}))
    assert {row: [reason.code for reason in reasons] for row, reasons in found.reasons.items()} == {
        1: ["rule.a", "rule.c"]
    }
    assert "cannot be computed: Conversion Error" in found.reasons[1][1].detail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate"), "failed to allocate for 3 rows"),
        (MemoryError(), "ran out of memory for 3 rows"),
    ],
    ids=["engine", "python"],
)
@pytest.mark.parametrize("asks", ["TRY", "("], ids=["answers", "reasons"])
def test_memory_that_is_not_there_is_no_fault_of_a_row(monkeypatch, error, message, asks):
    def greedy(expressions, rows):
        if expressions[0].startswith(asks):
            raise error
        return run_query(expressions, rows)

    monkeypatch.setattr(rules_module, "run_query", greedy)
    compiled = compile_rules([Rule("r", "name::int > 3")], FEATURES)
    with pytest.raises(DataError, match=f"^rule 'r': .*{message}; make less of each row"):
        compiled.check(pa.record_batch({"name": ["x", "y", "z"]}))
