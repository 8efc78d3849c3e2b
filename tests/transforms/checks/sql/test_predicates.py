import threading

import duckdb
import pytest

from penstock.transforms.checks.sql.predicates import parse_predicate
from penstock.transforms.checks.sql.trees import PredicateError, connection

NAMES = ["fare", "dist", "name", "tags", "user.id", "Air_Time", "Case", "case"]


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("fare >= 0 AND fare < 1000", ("fare",)),
        ("name = 'x' OR dist > fare", ("fare", "dist", "name")),
        ("FARE > 0 AND air_time > 3", ("fare", "Air_Time")),
        ('"user.id" > 3', ("user.id",)),
        ("fare > 0 -- a comment", ("fare",)),
        ("/* a comment */ fare\n> 0", ("fare",)),
        ("list_filter(tags, lambda x: x = name) = []", ("name", "tags")),
        ("list_transform(tags, lambda fare: fare) = tags", ("tags",)),
        ("[x for x in tags if x > 'a'] = []", ("tags",)),
        ("coalesce(fare, dist) BETWEEN 0 AND 10", ("fare", "dist")),
        ("CASE WHEN fare > 0 THEN name END = 'x'", ("fare", "name")),
        ("try_cast(name AS bigint) > 2", ("name",)),
        ("name LIKE 'a%' AND name NOT IN ('ab', 'ac')", ("name",)),
        ("nullif(fare, 0) > 1 AND if(dist > 0, true, false)", ("fare", "dist")),
        ("extract(year FROM make_timestamp(dist)) > 2000", ("dist",)),
        ("name = 'now()' AND name <> 'random()'", ("name",)),
        ("name = ANY(['a'])", ("name",)),
    ],
)
def test_columns_of_a_predicate(sql, columns):
    assert parse_predicate(sql, NAMES) == columns


@pytest.mark.parametrize(
    ("sql", "message", "offset"),
    [
        ("", "is empty", None),
        (" \n", "is empty", None),
        ("fare >", "syntax error", 5),
        ("fare > 0) AND (dist > 1", "syntax error", 8),
        ("fair > 0", "no column 'fair'; did you mean 'fare'", 0),
        ("'é' = name AND fair > 1", "no column 'fair'", 15),
        ("rowid > 3", "no column 'rowid'; the columns are fare, dist", 0),
        ("list_filter(tags, lambda x: y = 1) = []", "no column 'y'", 28),
        ("user.id > 3", 'needs double quotes: "user.id"', 0),
        ("case.x > 3 OR fare > 0", "syntax error", 4),
        ('"case" > 3', "'case' is not clear: Case and case", 0),
        ("1 = 1", "names no column", 0),
        ("fare > 0; SELECT 1", "more than one statement", None),
        ("fare > 0, dist > 0", "several expressions", None),
        ("fare > 0 AS x", r"AS x\); leave it out", None),
        ("fare > 0 FROM t", "is a query", None),
        ("fare > 0 WHERE fare > 1", "is a query", None),
        ("fare > 0 LIMIT 1", "is a query", None),
        ("DISTINCT fare > 0", "is a query", None),
        ("fare > 0 UNION SELECT 1", "is a query", None),
        ("(SELECT 1) = fare", "subquery", 0),
        ("fare > 0 AND EXISTS (SELECT 1)", "subquery", None),
        ("name = ANY(SELECT 'a')", "list_contains", 0),
        ("sum(fare) > 1", "sum looks at several rows", 0),
        ("count(*) > 1 AND fare > 0", "looks at several rows", 0),
        ("row_number() OVER () > 1", "a window function", 0),
        ("*", r"\* or COLUMNS", 0),
        ("COLUMNS(*) > 0", r"\* or COLUMNS", None),
        ("$1 > fare", "a parameter", 0),
        ("#1 > fare", "positional reference", 0),
        ("unnest(tags) = 'a'", "unnest gives a table", 0),
        ("read_text('/etc/passwd') = name", "gives a table", 0),
        ("name.lower() = 'a'", r"write lower\(name\)", 0),
    ],
)
def test_refused(sql, message, offset):
    with pytest.raises(PredicateError, match=message) as caught:
        parse_predicate(sql, NAMES)
    if offset is not None:
        assert caught.value.offset == offset


@pytest.mark.parametrize(
    "call",
    [
        "random() > fare",
        "setseed(0.5) IS NULL OR fare > 0",
        "uuid() = name",
        "gen_random_uuid() = name",
        "uuidv7() = name",
        "now() > fare",
        "today() > fare",
        "current_date > fare",
        "current_time > fare",
        "current_timestamp > fare",
        "localtime > fare",
        "localtimestamp > fare",
        "get_current_timestamp() > fare",
        "current_localtimestamp() > fare",
        "transaction_timestamp() > fare",
        "ago(INTERVAL 1 DAY) > fare",
        "age(make_timestamp(dist)) > INTERVAL 1 DAY",
        "current_setting('threads') = name",
        "getvariable('x') = name",
        "current_user = name",
        "version() = name",
        "nextval('s') = dist",
        "txid_current() = dist",
        "pg_sleep(1) > fare",
        "pg_postmaster_start_time() > fare",
        "error(name)",
    ],
)
def test_answers_that_change_are_refused(call):
    with pytest.raises(PredicateError, match="depends on more than the row"):
        parse_predicate(call, NAMES)


def test_age_between_two_columns_is_steady():
    assert parse_predicate("age(make_timestamp(dist), make_timestamp(dist)) > INTERVAL 1 DAY", NAMES) == ("dist",)


def test_no_scalar_function_that_is_allowed_is_also_an_aggregate():
    names = connection().execute(
        "SELECT function_name FROM duckdb_functions() GROUP BY ALL "
        "HAVING bool_or(function_type = 'aggregate') AND bool_or(function_type = 'scalar')"
    )
    for (name,) in names.fetchall():
        with pytest.raises(PredicateError, match="several rows"):
            parse_predicate(f'"{name}"(fare) > 0', NAMES)


def test_the_engine_reaches_no_file_and_cannot_be_unlocked(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    engine = connection()
    with pytest.raises(duckdb.Error, match="disabled"):
        engine.execute(f"SELECT * FROM read_csv('{tmp_path}/a.csv')")
    with pytest.raises(duckdb.Error, match="lock"):
        engine.execute("SET enable_external_access = true")


def test_each_thread_has_one_connection():
    others = []
    thread = threading.Thread(target=lambda: others.extend([connection(), connection()]))
    thread.start()
    thread.join()
    assert others[0] is others[1]
    assert others[0] is not connection()
    assert connection() is connection()
