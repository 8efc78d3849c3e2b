"""What a rule may say and what it may not, as two tables; each accepted predicate has its answers for five rows."""

import functools
import pathlib

import duckdb
import pyarrow as pa
import pytest

from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, Kind
from penstock.transforms.checks.rules import Rule, compile_rules
from penstock.transforms.checks.sql.trees import PredicateError, parse_expression, without_semicolon

COLUMNS = {
    "fare": (Kind.FLOAT, [10.5, -1.0, None, float("nan"), 20.0]),
    "dist": (Kind.INT, [3, 0, None, 40, -2]),
    "name": (Kind.BYTES, ["abc", "", None, "Été", "1"]),
    "tags": (Kind.BYTES, [["a", "b"], [], None, ["c", None], ["1"]]),
    "xs": (Kind.FLOAT, [[1.0, 2.0], [], None, [2.0, None], [None, 5.0]]),
    "doc": (Kind.BYTES, ['{"a": 1, "b": [2, 3]}', "{}", None, '{"a": "x"}', "no"]),
    "user.id": (Kind.INT, [7, 0, None, -5, 1]),
    "user": (Kind.BYTES, ["me", "you", None, "me", "me"]),
    "current_date": (Kind.INT, [5, 0, None, 1, 2]),
}
ARROW_TYPES = {Kind.FLOAT: pa.float64(), Kind.INT: pa.int64(), Kind.BYTES: pa.string()}
FEATURES = [Feature(name, kind, multivalued=name in ("tags", "xs")) for name, (kind, _) in COLUMNS.items()]

# The tables: the answers for each row, or the reason why not, and the predicate.
HERE = pathlib.Path(__file__).parent
ACCEPTED = HERE / "rules_accepted.txt"
REFUSED = HERE / "rules_refused.txt"

MESSAGES = {
    "clock": r"depends on more than the row \(the clock\)",
    "chance": r"depends on more than the row \(chance\)",
    "state": r"depends on more than the row \(the state of the engine\)",
    "effect": r"depends on more than the row \(an effect: ",
    "several_rows": "function [a-z_]+ looks at several rows",
    "window": "holds a window function",
    "table": "gives a (table|statement); a rule needs one value",
    "internal": "is a part of the engine",
    "query": r"holds a subquery|is a query|more than one statement|several expressions|\* or COLUMNS|holds a parameter",
    "syntax": "syntax error at or near",
    "names": (
        r"names no column|no column '|double quotes|is not known; write|lambda x(, y)?: \.\.\.|as text, such as 'max'|"
        "does not exist"
    ),
    "types": "not a predicate|Cannot compare|No function matches|does not exist",
    "constants": r"Conversion Error|missing \)|format specifier",
    "growth": (
        r"function [a-z_]+: its result is as large as .* says, without bound; write a constant or (least|greatest)\(|"
        r"makes up to [\d,]+ values or characters|grows with the square of the row|depends on values; write|"
        "as text, such as '{:>10}'|write it into the template|join it once"
    ),
}


def table(path):
    """Pairs of the first word and the rest of each line."""
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return [pytest.param(*line.split(None, 1), id=line.split(None, 1)[1]) for line in lines]


def batch(rows=slice(None)):
    columns = {
        feature.name: pa.array(
            COLUMNS[feature.name][1][rows],
            pa.list_(ARROW_TYPES[feature.kind]) if feature.multivalued else ARROW_TYPES[feature.kind],
        )
        for feature in FEATURES
    }
    return pa.record_batch(columns)


@functools.cache
def compiled(sql):
    return compile_rules([Rule("r", sql)], FEATURES)


def answers(sql, rows=slice(None)):
    """T, F, N or E for each row, as the reasons of the rejected ones tell."""
    given = batch(rows)
    reasons = compiled(sql).check(given).reasons
    details = [reasons[row][0].detail if row in reasons else None for row in range(given.num_rows)]
    shown = " ".join(sql.split())
    marks = {f"{shown} is false; ": "F", f"{shown} is NULL; ": "N", f"{shown} cannot be computed: ": "E"}
    return "".join(
        "T" if detail is None else next(mark for start, mark in marks.items() if detail.startswith(start))
        for detail in details
    )


def test_the_tables_are_large():
    assert len(table(ACCEPTED)) >= 200
    assert len(table(REFUSED)) >= 180


@pytest.mark.parametrize(("expected", "sql"), table(ACCEPTED))
def test_accepted(expected, sql):
    assert answers(sql) == expected


@pytest.mark.parametrize(("expected", "sql"), table(ACCEPTED))
def test_the_answer_of_a_row_does_not_depend_on_other_rows(expected, sql):
    assert "".join(answers(sql, slice(row, row + 1)) for row in range(5)) == expected


# ANY inside a lambda, which DuckDB refuses.
BEYOND_DUCKDB = {"len(list_filter(tags, lambda t: t = ANY(['a', 'c']))) = 1"}


@pytest.fixture(scope="module")
def engine():
    """DuckDB with a table for each row, `row0` to `row4`."""
    engine = duckdb.connect(config={"threads": 1})
    engine.execute("SET TimeZone = 'UTC'").fetchall()
    for row in range(5):
        engine.register(f"row{row}", pa.table(batch(slice(row, row + 1))))
    return engine


@pytest.mark.parametrize(("expected", "sql"), [case for case in table(ACCEPTED) if case.values[1] not in BEYOND_DUCKDB])
def test_duckdb_gives_the_same_answers(engine, expected, sql):
    found = ""
    for row in range(5):
        try:
            value = engine.execute(f"SELECT (\n{without_semicolon(sql)}\n) FROM row{row}").fetchall()[0][0]
            found += {True: "T", False: "F", None: "N"}[value]
        except duckdb.Error:
            found += "E"
    assert found == expected


@pytest.mark.parametrize(("reason", "sql"), table(REFUSED))
def test_refused(reason, sql):
    with pytest.raises(ConfigError, match=MESSAGES[reason]):
        compile_rules([Rule("r", sql)], FEATURES)


@pytest.mark.parametrize("sql", ["name = 'é' OR dist > '12x'", "'é' = name OR NOT (dist > ALL(xs) OR dist > '12x')"])
def test_a_constant_is_located_in_characters(sql):
    with pytest.raises(ConfigError, match=f"^rule 'r', SQL line 1, column {sql.index(chr(39) + '12x') + 1}: .*12x"):
        compile_rules([Rule("r", sql)], FEATURES)


def test_a_type_error_beside_any_has_its_place():
    with pytest.raises(ConfigError, match=r"^rule 'r', SQL line 2, column 5: Binder Error: No function matches"):
        compile_rules([Rule("r", "2 = ANY(xs)\nAND lower(dist, name) = 'a'")], FEATURES)


@pytest.mark.parametrize("sql", [";", " ; ; ", "; fare > 0"])
def test_a_semicolon_alone_is_no_rule(sql):
    with pytest.raises(PredicateError, match=r"is empty|without selection list"):
        parse_expression(sql)
