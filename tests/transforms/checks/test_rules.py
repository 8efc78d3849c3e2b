import math
import pathlib
import pickle
import threading

import apache_beam as beam
import duckdb
import pyarrow as pa
import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.errors import ConfigError
from penstock.io.reasons import Note
from penstock.io.schema import Feature, Kind
from penstock.transforms.checks import rules as rules_module
from penstock.transforms.checks.file import load_rules
from penstock.transforms.checks.rules import Rule, compile_rules
from penstock.transforms.checks.sql import queries as rule_queries

FEATURES = (
    Feature("fare", Kind.FLOAT),
    Feature("dist", Kind.INT),
    Feature("name", Kind.BYTES),
    Feature("tags", Kind.BYTES, multivalued=True),
    Feature("user.id", Kind.INT),
    Feature("trip distance", Kind.FLOAT),
)


def rejected(sql, **columns):
    """Rows that one rule rejects, with the details."""
    batch = pa.record_batch({name.replace("_", " "): values for name, values in columns.items()})
    found = compile_rules([Rule("r", sql)], FEATURES).check(batch)
    assert all(reason.code == "rule.r" for reasons in found.reasons.values() for reason in reasons)
    return {row: reasons[0].detail for row, reasons in found.reasons.items()}


def test_a_rule_made_in_python_has_no_file():
    with pytest.raises(ConfigError, match=r"^rule 'r', SQL line 1, column 1: no column 'x'"):
        compile_rules([Rule("r", "x > 0")], FEATURES)
    with pytest.raises(ConfigError, match=r"^rule 'r': the name is used twice"):
        compile_rules([Rule("r", "fare > 0"), Rule("r", "dist > 0")], FEATURES)


def test_the_place_of_an_error_is_shown():
    with pytest.raises(ConfigError) as caught:
        compile_rules([Rule("r", "fare >= 0\n  AND fair < 10", source="--rules a.yaml")], FEATURES)
    first, line, caret = str(caught.value).split("\n")
    assert first.startswith("--rules a.yaml: rule 'r', SQL line 2, column 7: no column 'fair'; did you mean 'fare'?")
    assert line == "    AND fair < 10"
    assert caret.index("^") == line.index("fair")


def test_a_long_line_is_cut_around_the_place():
    filler = " AND ".join(["fare > 0"] * 40)
    with pytest.raises(ConfigError) as caught:
        compile_rules([Rule("r", f"{filler} AND dist > 'zzz' AND {filler}")], FEATURES)
    first, line, caret = str(caught.value).split("\n")
    assert "column 528" in first
    assert line[caret.index("^") :].startswith("'zzz'")
    assert len(line) < 200


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        pytest.param("name", r"line 1, column 1: is VARCHAR, not a predicate", id="text"),
        pytest.param("fare + 1", "is DOUBLE, not a predicate", id="number"),
        pytest.param("name > 3", "line 1, column 1: .*Cannot compare values of type VARCHAR", id="types"),
        pytest.param("dist > 'abc'", r"line 1, column 8: .*'abc'", id="constant"),
        pytest.param("dist IS NULL OR dist > 'abc'", "line 1, column 24", id="constant_behind_null"),
        pytest.param("'é' = name AND dist\n >\n  'abc'", "line 3, column 3", id="lines"),
        pytest.param("tags = 'a'", r"line 1, column 8: .*VARCHAR\[\]", id="list"),
        pytest.param("list_contains(tags, 3)", "VARCHAR", id="list_items"),
        pytest.param("foo(fare)", "line 1, column 1: .*foo does not exist", id="function"),
        pytest.param(
            "fare > 0 AND\nlower(fare, dist) = 'a'", "line 2, column 1: .*No function matches", id="arguments"
        ),
        pytest.param("fare::foo > 3", "foo does not exist", id="type"),
        pytest.param("name ~ '('", "(?s)missing.*name ~ ", id="regex"),
        pytest.param("fare > ;", "line 1, column 8: .*;", id="semicolon"),
        pytest.param("ALL fare > 0", "line 1, column 1: .*ALL", id="all"),
    ],
)
def test_rules_that_the_engine_refuses(sql, message):
    with pytest.raises(ConfigError, match=message):
        compile_rules([Rule("r", sql)], FEATURES)


@pytest.mark.parametrize(
    ("sql", "values", "bad"),
    [
        ("fare >= 0 AND fare < 1000", [1.0, -1.0, None, 1000.0], [1, 2, 3]),
        ("fare IS NULL OR fare >= 0", [1.0, -1.0, None, 0.0], [1]),
        ("NOT (fare > 0)", [1.0, -1.0, None, 0.0], [0, 2]),
        ("fare > 0 OR NULL", [1.0, -1.0, None], [1, 2]),
        ("fare IN (1, NULL)", [1.0, 2.0, None], [1, 2]),
        ("fare IS NOT NULL", [1.0, None], [1]),
        ("fare > 1000", [math.nan, math.inf, -math.inf], [2]),
        ("isfinite(fare)", [math.nan, math.inf, 1.0], [0, 1]),
    ],
)
def test_true_keeps_false_and_null_reject(sql, values, bad):
    assert sorted(rejected(sql, fare=values)) == bad


def test_details_name_the_rule_and_the_values_it_uses():
    sql = "fare >= 0\n   AND name <> 'x'"
    found = rejected(sql, fare=[1.0, -2.5, None], name=["x", "a", "a"], dist=[1, 2, 3])
    assert found == {
        0: "fare >= 0 AND name <> 'x' is false; fare is 1.0, name is 'x'",
        1: "fare >= 0 AND name <> 'x' is false; fare is -2.5, name is 'a'",
        2: "fare >= 0 AND name <> 'x' is NULL; fare is null, name is 'a'",
    }


def test_a_description_comes_first():
    compiled = compile_rules([Rule("r", "fare >= 0", description="no refunds")], FEATURES)
    found = compiled.check(pa.record_batch({"fare": [-1.0]}))
    assert found.reasons[0][0].detail == "no refunds: fare >= 0 is false; fare is -1.0"


def test_all_reasons_are_kept_in_the_order_of_the_rules():
    compiled = compile_rules([Rule("b", "fare > 0"), Rule("a", "dist > 0"), Rule("c", "dist < 5")], FEATURES)
    found = compiled.check(pa.record_batch({"fare": [1.0, -1.0, 1.0], "dist": [1, -1, 9]}))
    assert {row: [reason.code for reason in reasons] for row, reasons in found.reasons.items()} == {
        1: ["rule.b", "rule.a"],
        2: ["rule.c"],
    }


def test_warnings_count_and_keep_the_rows():
    compiled = compile_rules([Rule("w", "dist < 2", severity="warn"), Rule("v", "dist > 0", severity="warn")], FEATURES)
    found = compiled.check(pa.record_batch({"dist": [1, 2, 3, None]}))
    assert found.reasons == {}
    assert [fault.note() for fault in found.warned] == [
        Note("rule.w", "dist", 3, "false or NULL: dist < 2"),
        Note("rule.v", "dist", 1, "false or NULL: dist > 0"),
    ]


@pytest.mark.parametrize(
    ("sql", "columns", "bad"),
    [
        pytest.param("name::int > 3", {"name": ["7", "x", "1", None]}, {1: "Could not convert string 'x'"}, id="cast"),
        pytest.param("dist * dist >= 0", {"dist": [4, 2**40, None]}, {1: "Overflow"}, id="overflow"),
        pytest.param("dist + dist > 0", {"dist": [2**63 - 1, 1]}, {0: "Overflow"}, id="overflow_sum"),
        pytest.param("10 // dist > 1", {"dist": [0, 2]}, {0: "Division by zero"}, id="division"),
        pytest.param("regexp_matches('a', name)", {"name": ["a", "("]}, {1: "missing"}, id="regex"),
        pytest.param("strptime(name, '%Y') > TIMESTAMP '2000-01-01'", {"name": ["2020", "x"]}, {1: "x"}, id="strptime"),
    ],
)
def test_what_cannot_be_computed_rejects_only_its_rows(sql, columns, bad):
    found = rejected(sql, **columns)
    told = {row: detail for row, detail in found.items() if "cannot be computed" in detail}
    assert told.keys() == bad.keys()
    for row, text in bad.items():
        assert text in told[row]
        assert "is NULL" not in told[row]
    good = len(next(iter(columns.values()))) - len(found)
    assert good >= 1


def test_a_column_of_failures_is_told_within_bounds(monkeypatch):
    monkeypatch.setattr(rules_module, "_MAX_EXPLAINED_ROWS", 3)
    found = rejected("name::int > 3", name=["x"] * 10)
    assert len(found) == 10
    assert ["Could not convert" in detail for detail in found.values()] == [True] * 3 + [False] * 7
    assert all("cannot be computed" in detail for detail in found.values())


def test_errors_that_try_does_not_confine_are_narrowed_down(monkeypatch):
    query = rules_module.run_query

    def fragile(expressions, rows):
        if any("fare" in sql for sql in expressions) and -1.0 in rows.column("fare").to_pylist():
            raise duckdb.InternalException("broken")
        return query(expressions, rows)

    monkeypatch.setattr(rules_module, "run_query", fragile)
    compiled = compile_rules([Rule("a", "fare > 0"), Rule("b", "dist > 0")], FEATURES)
    found = compiled.check(pa.record_batch({"fare": [1.0, 2.0, -1.0, 3.0, -2.0], "dist": [1, 0, 1, 1, 1]}))
    assert {row: [reason.code for reason in reasons] for row, reasons in found.reasons.items()} == {
        1: ["rule.b"],
        2: ["rule.a"],
        4: ["rule.a"],
    }
    assert "cannot be computed: broken" in found.reasons[2][0].detail


def test_more_rules_than_a_thread_keeps_prepared(monkeypatch):
    monkeypatch.setattr(rule_queries, "_MAX_QUERIES", 2)
    for limit in [1, 2, 3, 1, 2, 3]:
        assert list(rejected(f"fare > {limit}", fare=[1.0, 2.0, 3.0])) == list(range(limit))


def test_columns_of_other_types_under_one_rule():
    for kind, values in ((Kind.INT, [1, 2]), (Kind.FLOAT, [1.0, 2.0]), (Kind.BYTES, ["1", "2"])):
        compiled = compile_rules([Rule("r", "x::int > 1")], [Feature("x", kind)])
        assert list(compiled.check(pa.record_batch({"x": values})).reasons) == [0]


def test_bytes_that_are_not_text_are_rejected_by_the_rules_that_use_them():
    compiled = compile_rules([Rule("n", "name IS NULL OR name <> 'x'"), Rule("d", "dist > 0")], FEATURES)
    batch = pa.record_batch({"name": pa.array([b"a", b"\xff", b"x", None], pa.binary()), "dist": [1, 1, 1, 1]})
    found = compiled.check(batch)
    assert {row: [reason.code for reason in reasons] for row, reasons in found.reasons.items()} == {
        1: ["rule.n"],
        2: ["rule.n"],
    }
    assert "not UTF-8" in found.reasons[1][0].detail


def test_lists():
    tags = [["a", "b"], [], None, ["c"]]
    assert sorted(rejected("len(tags) > 0", tags=tags)) == [1, 2]
    assert sorted(rejected("list_contains(tags, 'a') OR tags[1] = 'c'", tags=tags)) == [1, 2]
    assert sorted(rejected("list_contains(tags, 'a')", tags=["a", "b", None])) == [1, 2]
    assert sorted(rejected("len(list_filter(tags, lambda x: x > 'a')) = 1", tags=tags)) == [1, 2]


def test_several_values_where_the_schema_says_nothing_reject():
    found = rejected("dist > 0", dist=[[1], [1, 2], [], None])
    assert sorted(found) == [1, 2, 3]
    assert "holds 2 values" in found[1]
    assert "is NULL" in found[2]


def test_an_absent_column_is_null():
    assert rejected("fare > 0", dist=[1, 2]) == {row: "fare > 0 is NULL; fare is null" for row in (0, 1)}
    assert rejected("fare IS NULL", dist=[1, 2]) == {}


def test_quoted_names():
    assert sorted(rejected('"trip distance" > 0', trip_distance=[1.0, -1.0])) == [1]
    batch = pa.record_batch({"user.id": [1, None]})
    found = compile_rules([Rule("r", '"user.id" IS NOT NULL')], FEATURES).check(batch)
    assert list(found.reasons) == [1]


def test_names_are_found_without_regard_to_case():
    assert sorted(rejected("FARE > 0", fare=[1.0, -1.0])) == [1]


def test_text_has_any_content():
    values = ["", "\0", "a'b", "日本", "x" * 100_000]
    assert sorted(rejected("length(name) > 0", name=values)) == [0]
    assert sorted(rejected("name = 'a''b'", name=values)) == [0, 1, 3, 4]
    assert max(len(detail) for detail in rejected("name = ''", name=values).values()) < 300


def test_only_the_used_columns_reach_the_engine():
    compiled = compile_rules([Rule("r", "fare > 0")], FEATURES)
    assert [feature.name for feature in compiled.columns] == ["fare"]
    unknown = pa.array([{"a": 1}])
    assert compiled.check(pa.record_batch({"fare": [1.0], "other": unknown})).reasons == {}


def test_nothing_to_check():
    assert compile_rules([], FEATURES).check(pa.record_batch({"fare": [1.0]})).reasons == {}
    compiled = compile_rules([Rule("r", "fare > 0")], FEATURES)
    assert compiled.check(pa.record_batch({"fare": pa.array([], pa.float64())})).reasons == {}


def test_compiled_rules_travel_and_run_in_any_thread():
    compiled = pickle.loads(beam.internal.pickler.loads(beam.internal.pickler.dumps(pickle.dumps(_compiled()))))
    batch = pa.record_batch({"fare": [float(number - 50) for number in range(100)]})
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(sorted(compiled.check(batch).reasons) for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(51))] * 80


def _compiled():
    return compile_rules([Rule("r", "fare > 0")], FEATURES)


def _expected(fare, dist):
    """fare >= 0 AND (dist < 5 OR fare > 10), in Kleene's logic."""
    at_least = None if fare is None else fare >= 0 or math.isnan(fare)
    small = None if dist is None else dist < 5
    large = None if fare is None else fare > 10 or math.isnan(fare)
    either = True if small or large else None if small is None or large is None else False
    return at_least is True and either is True


@settings(max_examples=scaled(50))
@given(
    st.lists(st.tuples(st.none() | st.floats(), st.none() | st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=30),
    st.integers(1, 30),
)
def test_batches_do_not_change_the_answer(rows, size):
    compiled = compile_rules([Rule("r", "fare >= 0 AND (dist < 5 OR fare > 10)")], FEATURES)
    batch = pa.record_batch(
        {
            "fare": pa.array([fare for fare, _ in rows], pa.float64()),
            "dist": pa.array([dist for _, dist in rows], pa.int64()),
        }
    )
    expected = [index for index, row in enumerate(rows) if not _expected(*row)]
    assert sorted(compiled.check(batch).reasons) == expected
    parts = [
        start + row
        for start in range(0, len(rows), size)
        for row in sorted(compiled.check(batch.slice(start, size)).reasons)
    ]
    assert parts == expected


def test_the_rules_of_the_example():
    rules = load_rules(str(pathlib.Path(__file__).parents[3] / "examples" / "flights" / "rules.yaml"))
    numbers = ("air_time", "distance", "dep_time", "dep_delay", "hour", "minute")
    features = [*(Feature(name, Kind.INT) for name in numbers), Feature("tailnum", Kind.BYTES)]
    flights = pa.record_batch(
        {
            "air_time": [60, 60, None],
            "distance": [500, 900, 900],
            "dep_time": [2400, 1275, 5],
            "dep_delay": [10, None, 15],
            "hour": [23, 12, 23],
            "minute": [50, 0, 50],
            "tailnum": ["N1", "N2", "D3"],
        }
    )
    found = compile_rules(rules, features).check(flights)
    assert {row: [reason.code for reason in reasons] for row, reasons in found.reasons.items()} == {
        1: ["rule.possible_speed", "rule.clock"]
    }
    assert [(fault.code, fault.rows.tolist()) for fault in found.warned] == [("rule.us_tail_number", [2])]
