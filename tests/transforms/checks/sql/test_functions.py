import collections

import duckdb
import pytest

from penstock.transforms.checks.sql import functions as sql_functions
from penstock.transforms.checks.sql.functions import FUNCTIONS, KEYWORDS, STEADY, UNSTEADY, Nature, nature_of
from penstock.transforms.checks.sql.trees import connection

# What 2.0.1 has and 2.0.0 has not.
NEW_IN_2_0_1 = {
    "add_grammar_extension",
    "duckdb_live_query_metrics",
    "map_type_id_to_pg_oid",
    "parquet_page_index",
    "remove_grammar_extension",
}


def catalogue():
    """Each name of the installed engine, with its kinds (scalar, macro, aggregate, ...)."""
    kinds = collections.defaultdict(set)
    rows = connection().execute("SELECT DISTINCT lower(function_name), function_type FROM duckdb_functions()")
    for name, kind in rows.fetchall():
        kinds[name].add(kind)
    return kinds


def test_each_function_of_the_installed_engine_is_reviewed():
    newcomers = sorted(name for name in catalogue() if nature_of(name) is None)
    assert not newcomers, (
        f"DuckDB {duckdb.__version__} has functions that nobody has reviewed; until they stand in "
        f"transforms/checks/sql/functions.py, rules that call them are judged by the engine's own label: {newcomers}"
    )


def test_each_function_of_the_table_is_in_the_installed_engine():
    tolerated = NEW_IN_2_0_1 if duckdb.__version__ == "2.0.0" else set()
    gone = sorted(FUNCTIONS.keys() - catalogue().keys() - tolerated)
    assert not gone, f"DuckDB {duckdb.__version__} lacks {gone}; strike them from transforms/checks/sql/functions.py"


def test_a_name_stands_in_one_group():
    counted = collections.Counter(name for _, names in sql_functions._GROUPS for name in names.split())
    assert [name for name, times in counted.items() if times > 1] == []
    assert not KEYWORDS.keys() & catalogue().keys()


@pytest.mark.parametrize(
    ("kinds", "natures"),
    [
        ({"aggregate"}, {Nature.AGGREGATE}),
        ({"aggregate", "table_macro"}, {Nature.AGGREGATE}),
        ({"window"}, {Nature.WINDOW}),
        ({"pragma"}, {Nature.STATEMENT}),
        ({"table"}, {Nature.TABLE}),
        ({"table_macro"}, {Nature.TABLE}),
        ({"pragma", "table"}, {Nature.TABLE}),
        ({"scalar"}, STEADY | UNSTEADY | {Nature.INTERNAL}),
        ({"macro"}, STEADY | UNSTEADY | {Nature.AGGREGATE, Nature.TABLE}),
    ],
    ids=lambda value: "+".join(sorted(value)) if all(isinstance(kind, str) for kind in value) else "",
)
def test_natures_agree_with_the_kinds_of_the_catalogue(kinds, natures):
    found = {name for name, own in catalogue().items() if own == kinds and nature_of(name) is not None}
    assert found
    assert {name: nature_of(name) for name in found if nature_of(name) not in natures} == {}


def test_what_the_engine_calls_volatile_is_never_steady():
    rows = connection().execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'")
    names = {name for (name,) in rows.fetchall()}
    assert "random" in names
    assert {name for name in names if nature_of(name) in STEADY} == set()


def test_what_changes_within_a_query_is_zoned_or_unsteady():
    rows = connection().execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'CONSISTENT_WITHIN_QUERY'"
    )
    # These have overloads for a TIMESTAMP WITH TIME ZONE beside those that matter more.
    also_zoned = {"+", "-", "add", "subtract", "generate_series", "range"}
    names = {name for (name,) in rows.fetchall()} - also_zoned
    assert {name for name in names if nature_of(name) not in UNSTEADY | {Nature.ZONED}} == set()
