"""Functions that the table does not have: simulated by taking some out of it."""

import duckdb
import pytest

from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, Kind
from penstock.transforms.checks.rules import Rule, compile_rules
from penstock.transforms.checks.sql import binding
from penstock.transforms.checks.sql import functions as sql_functions
from penstock.transforms.checks.sql.trees import connection

FEATURES = [
    Feature("fare", Kind.FLOAT),
    Feature("dist", Kind.INT),
    Feature("name", Kind.BYTES),
    Feature("xs", Kind.FLOAT, multivalued=True),
]

# Of `-` and its like on a TIMESTAMP WITH TIME ZONE, 2.0.0 says CONSISTENT.
LABELS_ZONES = duckdb.__version__ != "2.0.0"


def compiled(sql):
    return compile_rules([Rule("r", sql)], FEATURES)


@pytest.fixture
def forget(monkeypatch):
    """Takes functions out of the table."""

    def take_out(*names):
        for name in names:
            monkeypatch.delitem(sql_functions.FUNCTIONS, name)

    return take_out


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("-", "dist - 1 > 0"),
        ("-", "make_timestamp(dist) - INTERVAL 1 DAY > TIMESTAMP '2000-01-01'"),
        ("-", "len(list_filter(xs, lambda x: x - 1 > 0)) > 1"),
        ("lower", "lower(name) = 'a'"),
        ("concat", "concat(name, dist, fare) = 'a'"),
        ("list_contains", "list_contains(xs, 1)"),
        ("list_filter", "list_filter(xs, lambda x: x > 1) = []"),
        ("struct_pack", "{'a': dist}.a = 3"),
        ("date_trunc", "date_trunc('day', make_timestamp(dist)) = TIMESTAMP '1970-01-01'"),
        ("array_distance", "array_distance(xs::double[2], [1, 2]::double[2]) = 0"),
        ("list_max", "list_max(xs) > 1"),
        ("split_part", "split_part(name, 'a', 1) = ''"),
        ("days_in_month", "days_in_month(make_date(2020, 1, dist)) = 31"),
    ],
)
def test_an_unknown_function_may_stand_where_its_bound_form_is_steady(forget, name, sql):
    forget(name)
    assert compiled(sql).rules[0].rule.sql == sql


@pytest.mark.skipif(not LABELS_ZONES, reason="2.0.0 calls these consistent")
@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("-", "to_timestamp(dist) - INTERVAL 1 DAY > TIMESTAMPTZ '2000-01-01 00:00:00Z'"),
        ("date_trunc", "date_trunc('day', to_timestamp(dist)) = TIMESTAMPTZ '1970-01-01 00:00:00Z'"),
        ("strftime", "strftime(to_timestamp(dist), '%H') = '00'"),
    ],
)
def test_an_unknown_function_is_refused_where_its_bound_form_is_not_steady(forget, name, sql):
    compiled(sql)
    forget(name)
    with pytest.raises(
        ConfigError, match=rf"function {name}: DuckDB .*the form .* CONSISTENT_WITHIN_QUERY, not CONSIS"
    ):
        compiled(sql)


@pytest.mark.parametrize(
    ("name", "sql", "message"),
    [
        ("random", "random() > fare", "the engine calls the form that is called VOLATILE"),
        ("uuid", "uuid()::varchar = name", "the engine calls the form that is called VOLATILE"),
        ("error", "error(name) IS NULL", "the engine calls the form that is called VOLATILE"),
        ("today", "today() > make_date(2020, 1, dist)", "the engine calls the form .* CONSISTENT_WITHIN_QUERY"),
        # A constant to the plan, which names no function.
        ("getvariable", "getvariable('x') = name", "cannot be determined"),
        # Become hour() and a CASE.
        ("date_part", "date_part('hour', make_timestamp(dist)) = 3", "cannot be determined"),
        ("switch", "switch(name, map {'a': 1}) = 1", "cannot be determined"),
        ("sum", "sum(dist) > 1", "looks at several rows"),
        ("ago", "ago(INTERVAL 1 DAY) > to_timestamp(dist)", "is a macro over current_timestamp, which is the clock"),
        ("pg_sleep", "pg_sleep(dist) IS NULL", "is a macro over sleep_ms, which is an effect"),
        ("geomean", "geomean(fare) > 1", "is a macro over avg, which is an aggregate"),
        ("get_block_size", "get_block_size(name) = 1", "is a macro that holds subquery"),
        ("array_push_back", "len(array_push_back(xs, 1)) > 1", None),
    ],
)
def test_unknown_functions_of_other_kinds(forget, name, sql, message):
    forget(name)
    if message is None:
        compiled(sql)
        return
    with pytest.raises(ConfigError, match=f"^rule 'r', SQL line 1, column [0-9]+: function {name}: .*{message}"):
        compiled(sql)


def test_an_unknown_macro_is_judged_by_the_unknown_functions_in_it(forget):
    forget("pg_sleep", "sleep_ms")
    with pytest.raises(ConfigError, match=r"function pg_sleep: is a macro over sleep_ms: DuckDB .* VOLATILE"):
        compiled("pg_sleep(dist) IS NULL")
    forget("list_max", "list_aggr")
    compiled("list_max(xs) > 1")


def test_a_function_of_neither_the_table_nor_the_engine():
    with pytest.raises(ConfigError, match=r"line 1, column 1: .*foo does not exist"):
        compiled("foo(dist) > 0")


@pytest.mark.parametrize(
    ("declared", "given", "fits"),
    [
        ("ANY", "DOUBLE[]", True),
        ("T[]", "DOUBLE[]", True),
        ("T[]", "DOUBLE", False),
        ("DOUBLE[ANY]", "DOUBLE[3]", True),
        ("MAP(K, V)", "MAP", True),
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", False),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE", True),
    ],
)
def test_types_of_the_catalogue_and_of_a_plan(declared, given, fits):
    overload = binding.Overload("scalar", (), (declared,), None, "CONSISTENT", "")
    assert overload.takes([given]) == fits
    assert not overload.takes([given, given])
    varied = binding.Overload("scalar", (), (), declared, "CONSISTENT", "")
    assert varied.takes([given, given]) == fits


def test_binding_computes_nothing_for_a_row_and_leaves_nothing_behind():
    compiled("map([name], [dist])[name] > 0 AND 1 // dist > 0")
    tables = connection().execute("SELECT count(*) FROM duckdb_tables()").fetchall()
    assert tables == [(0,)]


def test_what_json_has_no_word_for():
    compiled("fare < 'nan'::double AND fare > '-inf'::double AND name <> '\":nan'")
