"""The file of rules: what it may say, and where it says something wrong."""

import pytest

from penstock.io.errors import ConfigError
from penstock.transforms.checks.file import Checks, UniqueKey, load_checks, load_rules, parse_checks


def load(tmp_path, text):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return load_rules(str(path))


def test_a_file_of_rules(tmp_path):
    first, second = load(
        tmp_path,
        """
rules:
  - name: fare_range
    sql: fare >= 0 AND fare < 1000
  - {name: far.away-2, sql: "dist < 100", severity: warn, description: not so far}
""",
    )
    assert (first.code, first.severity, first.sql) == ("rule.fare_range", "error", "fare >= 0 AND fare < 1000")
    assert (second.name, second.severity, second.description) == ("far.away-2", "warn", "not so far")
    assert first.where.endswith("rules.yaml, line 3: rule 'fare_range'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("rules: [", r"rules.yaml, line 1, column 9: is not valid YAML", id="yaml"),
        pytest.param("- a", "line 1: must be a mapping of names, got a list", id="list"),
        pytest.param("", "line 1: has no entry 'rules', a list of rules, and no entry 'unique'", id="empty_file"),
        pytest.param("rules: []\nmore: 1", "line 2: unknown key 'more'; known are rules, unique", id="other_key"),
        pytest.param("rules: []", "rules is empty", id="no_rules"),
        pytest.param("rules: [fare > 0]", "rule 1: must be a mapping with name and sql, got 'fare > 0'", id="text"),
        pytest.param(
            "rules: [{name: a, sql: x > 0, sevrity: warn}]", "line 1: rule 1: .*did you mean 'severity'", id="typo"
        ),
        pytest.param(
            "rules: [{name: a, sql: x > 0, foo: 1}]", "rule 1: unknown key 'foo'; known are name, sql", id="key"
        ),
        pytest.param("rules: [{name: a}]", r"rule 1 \(a\): sql is missing", id="no_sql"),
        pytest.param("rules: [{sql: x > 0}]", "rule 1: name is missing", id="no_name"),
        pytest.param("rules: [{name: yes, sql: x > 0}]", "name must be text, got True; put it in quotes", id="bool"),
        pytest.param("rules: [{name: a, sql: null}]", "sql must be text, got null", id="null"),
        pytest.param("rules: [{name: a b, sql: x > 0}]", "a name is a letter, .* got 'a b'", id="charset"),
        pytest.param("rules: [{name: é, sql: x > 0}]", "a name is a letter", id="not_ascii"),
        pytest.param("rules: [{name: a, sql: x > 0, severity: bad}]", "error or warn, got 'bad'", id="severity"),
        pytest.param("rules: [{name: a, sql: x}, {name: a, sql: y}]", "rule 'a': the name is used twice", id="twice"),
        pytest.param(
            "rules:\n- name: a\n  sql: x > 0\n  sql: y > 0", "rules.yaml, line 4: 'sql' appears twice", id="key_twice"
        ),
        pytest.param("rules: [{name: a, sql: x}]\nrules: []", "line 2: 'rules' appears twice", id="rules_twice"),
        pytest.param("unique: a", r"line 1: unique: must be a list of columns, such as .* got 'a'", id="column"),
        pytest.param("unique: []", r"line 1: unique: must be a list of columns, .* got \[\]", id="no_column"),
        pytest.param("unique:\n  - [a]\n  - []", r"line 3: unique: must be a list of columns", id="no_columns"),
        pytest.param("unique:\n  - [a]\n  - b", r"line 3: unique: must be a list of columns, .* got 'b'", id="mixed"),
        pytest.param("unique: {}", "line 1: unique is empty; name columns or leave it out", id="no_key"),
        pytest.param("unique: [1]", r"line 1: unique: must be a list of columns, .* got \[1\]", id="number"),
        pytest.param("unique:\n  one: [a]\n  two: b", r"line 3: unique 'two': must be a list", id="named"),
        pytest.param("unique: [a, b, a]", r"line 1: unique: names a column twice, got \['a', 'b', 'a'\]", id="again"),
        pytest.param("unique: [trip id]", r"got 'trip id'; give the columns a name: unique: \{NAME: ", id="name"),
        pytest.param("unique: {a b: [x]}", r"line 1: unique 'a b': a name is a letter", id="charset_of_a_key"),
        pytest.param("unique: {a: [x], a: [y]}", "line 1: 'a' appears twice", id="keys_of_one_name"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=f"(?s)^--rules .*{message}"):
        load(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"missing.yaml: cannot be read"):
        load_rules(str(tmp_path / "missing.yaml"))
    (tmp_path / "latin1.yaml").write_bytes(b"rules: \xe9")
    with pytest.raises(ConfigError, match=r"latin1.yaml, line 1: is not UTF-8"):
        load_rules(str(tmp_path / "latin1.yaml"))


def keys(text):
    return [(key.name, key.columns, key.code) for key in parse_checks(text).unique]


def test_keys_that_are_unique():
    assert keys("unique: [user, day]") == [("user_day", ("user", "day"), "unique.user_day")]
    assert keys("unique: [[user, day], [ticket]]") == [
        ("user_day", ("user", "day"), "unique.user_day"),
        ("ticket", ("ticket",), "unique.ticket"),
    ]
    assert keys("unique: {once: [user id, day]}") == [("once", ("user id", "day"), "unique.once")]


def test_rules_and_keys_are_in_one_file(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{name: a, sql: x > 0}]\nunique: [x]")
    checks = load_checks(str(path))
    assert ([rule.name for rule in checks.rules], [key.name for key in checks.unique]) == (["a"], ["x"])
    assert checks.unique[0].where == f"--rules {path}, line 2: unique 'x'"
    with pytest.raises(ConfigError, match="line 2: unique 'x': is no rule about a row; load_checks reads it"):
        load_rules(str(path))


def test_keys_made_in_python():
    assert Checks() == Checks((), ())
    assert UniqueKey(("a", "b")).where == "unique 'a_b'"
    with pytest.raises(ConfigError, match=r"^unique: needs at least one column, got none"):
        UniqueKey(())
