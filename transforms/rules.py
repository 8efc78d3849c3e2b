"""Rules: SQL predicates that every row must meet, from a YAML file.

::

    rules:
      - name: fare_range                     # the reason of a rejected row is rule.fare_range
        sql: fare >= 0 AND fare < 1000
      - name: known_user
        sql: '"user.id" IS NOT NULL'         # names with dots, spaces or reserved words go in double quotes
        description: every trip has a user
      - name: short_trip
        sql: trip_miles < 100
        severity: warn                       # counts, and keeps the row

A row stays when the predicate is true; false rejects it, and so does NULL: `fare >= 0` rejects a row without a fare,
`fare IS NULL OR fare >= 0` keeps it. What a predicate may say is told in `penstock.transforms.predicates`. Columns have
the types of the schema: BIGINT, DOUBLE, VARCHAR, or lists of those where the schema says that a feature is
multivalued. A column that is not there is all NULL. A row is also rejected by a rule that cannot be computed for it
(overflow, a cast that fails, division by zero), or uses bytes of it that are not UTF-8.

Why DuckDB, and not Polars' `sql_expr`: ten rules over a million rows in batches of 8,192 take 0.35 s against 0.09 s on
one core here, both far from being what limits a job. But in Polars an overflow wraps around silently, `dist/0 > 1` is
true, an aggregate is broadcast over the batch (so the answer depends on the batch), a cast that fails takes the whole
batch with it, and a syntax error has no position. DuckDB has SQL's three-valued logic and raises what it cannot
compute, its TRY confines errors to their rows, and its syntax tree tells names and positions before anything runs.
One of its own rules to know: NaN equals itself and is greater than every other number.
"""

import dataclasses
import difflib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml
from apache_beam.io.filesystems import FileSystems

from penstock.io.cells import shown
from penstock.io.dead_letters import Reason
from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, feature_map
from penstock.transforms.predicates import PredicateError, connection, constant_offsets, parse_predicate
from penstock.transforms.values import ARROW_TYPES, typed_column

Severity = Literal["error", "warn"]

_SEVERITIES = ("error", "warn")
_KEYS = ("name", "sql", "severity", "description")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")

# Telling why a row gives NULL costs a fraction of a millisecond, so beyond this many a batch the reason is told in
# general.
_MAX_EXPLAINED_ROWS = 512

# Queries that a thread keeps prepared.
_MAX_QUERIES = 32

# Characters shown on either side of the place of an error.
_PICTURE_WIDTH = 80

_CARET_LINE = re.compile(r"LINE (\d+): (.*)\n( *)\^")


@dataclasses.dataclass(frozen=True)
class Rule:
    """One predicate.

    Attributes:
      name: letters, digits, `_`, `.`, `-`, beginning with a letter; the reason code is `rule.<name>`.
      sql: the predicate.
      severity: `error` rejects rows, `warn` counts them.
      description: for whoever reads the rejects.
      source: where the rule is written, for messages.

    Raises:
      ConfigError: for an invalid name or severity.
    """

    name: str
    sql: str
    severity: Severity = "error"
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.place}: a name is a letter, then letters, digits, '_', '.' or '-', got {self.name!r}"
            )
        if self.severity not in _SEVERITIES:
            raise ConfigError(f"{self.place}: severity must be error or warn, got {self.severity!r}")

    @property
    def place(self) -> str:
        """File and rule, as messages begin."""
        return f"{self.source}: rule {self.name!r}" if self.source else f"rule {self.name!r}"

    @property
    def code(self) -> str:
        """The reason code of the rows it rejects."""
        return f"rule.{self.name}"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML libraries silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"found {key.value!r} twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_rules(path: str) -> tuple[Rule, ...]:
    """Reads a file of rules; the SQL is checked by `compile_rules`.

    Raises:
      ConfigError: when the file cannot be read, is not YAML, or is not a list of rules; the message has the path and
        the number or name of the rule.
    """
    place = f"--rules {path}"
    try:
        with FileSystems.open(path) as file:
            content = yaml.load(file.read().decode(), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: is not YAML: {error}") from error
    if not isinstance(content, dict) or set(content) != {"rules"} or not isinstance(content["rules"], list):
        raise ConfigError(f"{place}: must hold one key, rules, with a list of rules")
    if not content["rules"]:
        raise ConfigError(f"{place}: rules is empty; add a rule or leave --rules out")
    rules = tuple(_rule(entry, f"{place}: rule {number}", place) for number, entry in enumerate(content["rules"], 1))
    _check_unique(rules)
    return rules


def _rule(entry: Any, numbered: str, source: str) -> Rule:
    if not isinstance(entry, dict):
        raise ConfigError(f"{numbered}: must be a mapping with name and sql, got {shown(entry)}")
    place = f"{numbered} ({entry['name']})" if isinstance(entry.get("name"), str) else numbered
    for key, value in entry.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(_KEYS)}"
            raise ConfigError(f"{place}: unknown key {key!r}; {hint}")
        if not isinstance(value, str):
            raise ConfigError(f"{place}: {key} must be text, got {shown(value)}; put it in quotes")
    for key in ("name", "sql"):
        if key not in entry:
            raise ConfigError(f"{place}: {key} is missing")
    return Rule(**entry, source=source)


def _check_unique(rules: Iterable[Rule]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise ConfigError(f"{rule.place}: the name is used twice; names tell rejected rows apart")
        seen.add(rule.name)


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is wrong with the rows of one batch.

    Attributes:
      reasons: row index to why it is rejected, all reasons, in a fixed order.
      warnings: how many rows each rule of severity warn would have rejected; only those above 0.
    """

    reasons: dict[int, list[Reason]]
    warnings: dict[str, int]


@dataclasses.dataclass(frozen=True)
class CompiledRules:
    """Rules checked against a schema; pickles, and opens its engine where it runs, once for each thread.

    Attributes:
      rules: the rules.
      uses: for each rule, the columns it uses.
      columns: the features that any rule uses.
    """

    rules: tuple[Rule, ...]
    uses: tuple[tuple[str, ...], ...]
    columns: tuple[Feature, ...]

    def check(self, batch: pa.RecordBatch) -> Findings:
        """Evaluates every rule on every row."""
        results = Findings({}, {})
        if not self.rules or not batch.num_rows:
            return results
        typed = {feature.name: typed_column(batch, feature) for feature in self.columns}
        table = pa.table({name: column.values for name, column in typed.items()})
        outcomes = _outcomes([rule.sql for rule in self.rules], table)
        broken = []
        for rule, uses, outcome in zip(self.rules, self.uses, outcomes, strict=True):
            unusable = {row: why for name in uses for row, why in typed[name].unusable.items()}
            rows = np.flatnonzero(outcome != _TRUE)
            if unusable:
                rows = np.union1d(rows, np.fromiter(unusable, np.int64))
            if len(rows) and rule.severity == "warn":
                results.warnings[rule.name] = len(rows)
            elif len(rows):
                broken.append(_Broken(rule, uses, outcome, rows, unusable))
        predicates = [rule.sql for rule in self.rules if rule.severity == "error"]
        for row, reason in _explain(broken, predicates, table):
            results.reasons.setdefault(row, []).append(reason)
        return results


def compile_rules(rules: Sequence[Rule], features: Sequence[Feature]) -> CompiledRules:
    """Checks rules against the columns and types of a schema.

    Raises:
      ConfigError: for a rule that does not parse, names no column or an unknown one, has wrong types, is not boolean,
        or holds what a rule may not; the message has file, rule, and the place in the SQL.
    """
    _check_unique(rules)
    names = [feature.name for feature in features]
    known = feature_map(features)
    uses = []
    for rule in rules:
        try:
            used = parse_predicate(rule.sql, names)
            _bind(rule.sql, [known[name] for name in used])
        except PredicateError as error:
            where = "" if error.offset is None else _position(rule.sql, error.offset)
            raise ConfigError(f"{rule.place}{where}: {error}{_picture(rule.sql, error.offset)}") from error
        uses.append(used)
    columns = tuple(feature for feature in features if any(feature.name in used for used in uses))
    return CompiledRules(tuple(rules), tuple(uses), columns)


def _position(sql: str, offset: int) -> str:
    """Line and column of a character, both from 1."""
    return f", line {sql.count(chr(10), 0, offset) + 1}, column {offset - sql.rfind(chr(10), 0, offset)}"


def _picture(sql: str, offset: int | None) -> str:
    """The line of `sql` that holds `offset`, cut to what is near it, with a caret below; all of it without an offset.

    >>> print(_picture("a >\\n b >", 7))
    <BLANKLINE>
       b >
         ^
    """
    if offset is None:
        return "".join(f"\n  {line}" for line in sql.strip().split("\n"))
    start = sql.rfind("\n", 0, offset) + 1
    line, column = sql[start:].split("\n", 1)[0], offset - start
    cut = max(0, column - _PICTURE_WIDTH)
    return f"\n  {line[cut : column + _PICTURE_WIDTH]}\n  {' ' * (column - cut)}^"


def _bind(sql: str, columns: Sequence[Feature]) -> None:
    """Lets the engine resolve types and functions, and compute the predicate for a row of nulls and a row of zeros.

    Zeros show a constant that cannot be cast, such as `dist > 'abc'`; their other failures are the data's matter.
    """
    nulls = pa.table({column.name: pa.nulls(1, _column_type(column)) for column in columns})
    zeros = pa.table({column.name: _zero(column) for column in columns})
    try:
        kind = _type_of(sql, nulls)
    except duckdb.Error as error:
        raise PredicateError(_message(error), _error_offset(sql, error)) from error
    if kind != "BOOLEAN":
        raise PredicateError(f"is {kind}, not a predicate; compare it with something", 0)
    try:
        _type_of(sql, zeros)
    except duckdb.ConversionException as error:
        offset = _error_offset(sql, error)
        if offset in constant_offsets(sql):
            raise PredicateError(_message(error), offset) from error
    except duckdb.Error:
        pass


def _column_type(feature: Feature) -> pa.DataType:
    scalar = ARROW_TYPES[feature.kind]
    return pa.list_(scalar) if feature.multivalued else scalar


def _zero(feature: Feature) -> pa.Array:
    scalar = pa.array([""] if ARROW_TYPES[feature.kind] == pa.string() else [0], ARROW_TYPES[feature.kind])
    return pa.array([scalar.to_pylist()], _column_type(feature)) if feature.multivalued else scalar


def _type_of(sql: str, rows: pa.Table) -> str:
    engine = connection()
    engine.register("rows", rows)
    try:
        result = engine.execute(f"SELECT (\n{sql}\n) FROM rows")
        kind = str(result.description[0][1])
        result.fetchall()
        return kind
    finally:
        engine.unregister("rows")


def _message(error: duckdb.Error) -> str:
    """The engine's message without its picture of the query."""
    return str(error).partition("\n\nLINE ")[0].strip()


def _error_offset(sql: str, error: duckdb.Error) -> int | None:
    """The place in `sql` that the engine's picture of `SELECT (\\n<sql>\\n)` points to, in characters."""
    found = _CARET_LINE.search(str(error))
    if not found:
        return None
    number, text = int(found[1]) - 2, found[2]
    lines = sql.split("\n")
    if not 0 <= number < len(lines):
        return None
    column = len(found[3]) - len(f"LINE {found[1]}: ")
    if text != lines[number]:
        # The engine shortens a long line to "...part...".
        part = text.removeprefix("...").removesuffix("...")
        start = lines[number].find(part)
        if start < 0 or not part:
            return None
        column += start - (len("...") if text.startswith("...") else 0)
    return sum(len(line) + 1 for line in lines[:number]) + column


_FALSE, _TRUE, _NULL = 0, 1, 2

Outcome = npt.NDArray[np.int8]


def _outcomes(predicates: Sequence[str], rows: pa.Table) -> list[Outcome]:
    """For each predicate _TRUE, _FALSE or _NULL (also for what cannot be computed): int8[rows]."""
    try:
        result = _query([f"TRY((\n{sql}\n))" for sql in predicates], rows)
    except duckdb.Error:
        # What TRY does not confine is narrowed down, to the predicate and then to the row.
        if len(predicates) > 1:
            return [_outcomes([sql], rows)[0] for sql in predicates]
        if rows.num_rows == 1:
            return [np.array([_NULL], np.int8)]
        half = rows.num_rows // 2
        parts = [_outcomes(predicates, part)[0] for part in (rows.slice(0, half), rows.slice(half))]
        return [np.concatenate(parts)]
    return [np.ma.filled(column.astype(np.int8), _NULL) for column in result]


class _Rows:
    """A table whose rows change, to the engine."""

    def __init__(self, rows: pa.Table):
        self.rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)


class _Query:
    """Predicates prepared once for many batches: to parse and plan them takes longer than to compute a batch.

    It belongs to this thread's engine, and does not hold it: the engine holds the rows.
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

    def run(self, rows: pa.Table) -> list[npt.NDArray[np.bool_]]:
        """The results of each predicate, masked where some are NULL."""
        self._table.rows = rows
        try:
            return list(connection().execute(f"EXECUTE {self._name}").fetchnumpy().values())
        finally:
            self._table.rows = rows.schema.empty_table()

    def close(self) -> None:
        """Makes the engine forget it."""
        connection().execute(f"DEALLOCATE {self._name}").fetchall()
        connection().unregister(self._name)


class _Queries(threading.local):
    """The queries that a thread used last; an engine and what it prepared are of one thread."""

    def __init__(self) -> None:
        self._queries: dict[Any, _Query] = {}

    def prepare(self, expressions: Sequence[str], rows: pa.Table) -> _Query:
        key = (tuple(expressions), rows.schema)
        query = self._queries.pop(key, None) or _Query(expressions, rows)
        self._queries[key] = query
        if len(self._queries) > _MAX_QUERIES:
            self._queries.pop(next(iter(self._queries))).close()
        return query


_QUERIES = _Queries()


def _query(expressions: Sequence[str], rows: pa.Table) -> list[npt.NDArray[np.bool_]]:
    return _QUERIES.prepare(expressions, rows).run(rows)


@dataclasses.dataclass(frozen=True)
class _Broken:
    """A rule and the rows that break it, with the reasons of those that it cannot be asked of."""

    rule: Rule
    uses: Sequence[str]
    outcome: Outcome
    rows: npt.NDArray[np.int64]
    unusable: Mapping[int, str]

    @property
    def nulls(self) -> list[int]:
        """The rows for which it is NULL, or cannot be computed."""
        return [row for row in self.rows[self.outcome[self.rows] == _NULL].tolist() if row not in self.unusable]

    def explain(self, table: pa.Table, faults: Mapping[int, str]) -> Iterator[tuple[int, Reason]]:
        """A reason for each of the rows."""
        values = table.select(list(self.uses)).take(pa.array(self.rows)).to_pylist()
        about = f"{self.rule.description}: " if self.rule.description else ""
        sql = " ".join(self.rule.sql.split())
        for row, fields in zip(self.rows.tolist(), values, strict=True):
            if row in self.unusable:
                what = f"cannot be computed: {self.unusable[row]}"
            elif row in faults:
                what = f"cannot be computed: {faults[row]}"
            else:
                what = "is NULL" if self.outcome[row] == _NULL else "is false"
            given = ", ".join(f"{name} is {shown(value)}" for name, value in fields.items())
            yield row, Reason(self.rule.code, f"{about}{sql} {what}; {given}")


def _explain(broken: Sequence[_Broken], predicates: Sequence[str], table: pa.Table) -> Iterator[tuple[int, Reason]]:
    """A reason for each rejected row of each rule."""
    # Most rows are NULL because a value is: one query, always the same, tells whether any rule cannot be computed.
    nulls = sorted({row for one in broken for row in one.nulls})
    suspect = bool(nulls) and _fault(predicates, _rows_of(table, nulls)) is not None
    for one in broken:
        yield from one.explain(table, _faults(one.rule.sql, table, one.nulls) if suspect else {})


def _faults(sql: str, table: pa.Table, rows: Sequence[int]) -> dict[int, str]:
    """The engine's message for those rows that it cannot compute."""
    faults: dict[int, str] = {}
    if not rows or _fault([sql], _rows_of(table, rows)) is None:
        return faults
    for row in rows[:_MAX_EXPLAINED_ROWS]:
        fault = _fault([sql], table.slice(row, 1))
        if fault is not None:
            faults[row] = fault
    for row in rows[_MAX_EXPLAINED_ROWS:]:
        faults[row] = "it is NULL, or an error as in other rows of this batch"
    return faults


def _fault(predicates: Sequence[str], rows: pa.Table) -> str | None:
    try:
        _query([f"(\n{sql}\n)" for sql in predicates], rows)
    except duckdb.Error as error:
        return _message(error)
    return None


def _rows_of(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    return table.take(pa.array(rows, pa.int64()))
