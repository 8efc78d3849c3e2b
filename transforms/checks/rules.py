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

A row stays when the predicate is true. False rejects it, and so does NULL: `fare >= 0` rejects a row without a fare,
`fare IS NULL OR fare >= 0` keeps it. The same file can hold `unique` keys
(`penstock.transforms.checks.unique`). `penstock.transforms.checks.sql.predicates` says what a predicate may contain.
Columns have the types of the schema: BIGINT, DOUBLE, VARCHAR, or lists of those where the schema says that a feature is
multivalued. A column that is absent is all NULL. A rule also rejects a row for which it cannot be computed (overflow, a
cast that fails, division by zero), or of which it uses bytes that are not UTF-8.

Test lists with `2 = ANY(xs)`, `0 < ALL(xs)`, `list_contains(xs, 2)` or a lambda: `list_filter(xs, lambda x: x < 0)
= []`. As in all of SQL, a NULL among the items may make the answer NULL. For a list that is itself NULL, ANY is false
and ALL is true, as for an empty one: `xs IS NOT NULL AND 0 < ALL(xs)` demands a list too.

A result whose size depends on a value needs a bound: `repeat(name, least(n, 100))`, not `repeat(name, n)`
(`penstock.transforms.checks.sql.growth`). A rule that takes too long or too much memory in other ways fails the job
with a `DataError` that names it (`penstock.transforms.checks.sql.queries`).

Why DuckDB, and not Polars' `sql_expr`: ten rules over a million rows in batches of 8,192 take 0.35 s against 0.09 s on
one core here, both far from being what limits a job. But in Polars an overflow wraps around silently, `dist/0 > 1` is
true, an aggregate is broadcast over the batch (so the answer depends on the batch), a cast that fails takes the whole
batch with it, and a syntax error has no position. DuckDB has SQL's three-valued logic and raises an error for what it
cannot compute, its TRY confines errors to their rows, and its syntax tree gives names and positions before anything
runs. Note one rule of its own: NaN equals itself and is greater than every other number.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.columns.values import shown
from penstock.io.errors import ConfigError, DataError
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, feature_map
from penstock.transforms.checks.faults import Fault, Findings, Rows
from penstock.transforms.checks.sql.binding import bind_predicate, message_of
from penstock.transforms.checks.sql.predicates import parse_predicate
from penstock.transforms.checks.sql.queries import QueryLimitError, run_query
from penstock.transforms.checks.sql.rewrites import runnable
from penstock.transforms.checks.sql.trees import PredicateError
from penstock.transforms.checks.values import typed_column

Severity = Literal["error", "warn"]

_SEVERITIES = ("error", "warn")

# The name of a rule, or of a unique key.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")

# To explain why a row gives NULL costs a fraction of a millisecond. Beyond this many rows a batch, the reason is a
# general one.
_MAX_EXPLAINED_ROWS = 512

# Characters shown on either side of the position of an error.
_PICTURE_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class Rule:
    """One SQL predicate that every row must meet.

    Attributes:
      name: letters, digits, `_`, `.`, `-`, beginning with a letter; the reason code is `rule.<name>`.
      sql: the predicate.
      severity: `error` rejects rows, `warn` only counts them.
      description: a text for readers of the rejects.
      source: the file and line of the rule, for messages.

    Raises:
      ConfigError: for an invalid name or severity.
    """

    name: str
    sql: str
    severity: Severity = "error"
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.where}: a name is a letter, then letters, digits, '_', '.' or '-', got {self.name!r}"
            )
        if self.severity not in _SEVERITIES:
            raise ConfigError(f"{self.where}: severity must be error or warn, got {self.severity!r}")

    @property
    def where(self) -> str:
        """File, line and rule, with which messages begin."""
        return f"{self.source}: rule {self.name!r}" if self.source else f"rule {self.name!r}"

    @property
    def code(self) -> str:
        """The reason code of the rows it rejects."""
        return f"rule.{self.name}"


def check_names(rules: Iterable[Rule]) -> None:
    """Rejects two rules of the same name.

    Raises:
      ConfigError: naming the second rule.
    """
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise ConfigError(f"{rule.where}: the name is used twice; names tell rejected rows apart")
        seen.add(rule.name)


@dataclasses.dataclass(frozen=True)
class CompiledRule:
    """A rule in the form that runs.

    Attributes:
      rule: the rule as written.
      sql: the predicate in the form that the engine computes.
      uses: the columns that it uses.
    """

    rule: Rule
    sql: str
    uses: tuple[str, ...]

    def warning(self, rows: Rows) -> Fault:
        """Returns what is told of rows that are not rejected for the rule."""
        text = self.rule.description or " ".join(self.rule.sql.split())
        return Fault(self.rule.code, ", ".join(self.uses), rows, lambda _: f"false or NULL: {text}")


@dataclasses.dataclass(frozen=True)
class CompiledRules:
    """Rules checked against a schema. They can be pickled; each thread opens its own engine where they run.

    Attributes:
      rules: the rules.
      columns: the features that any rule uses.
    """

    rules: tuple[CompiledRule, ...]
    columns: tuple[Feature, ...]

    def check(self, batch: pa.RecordBatch) -> Findings:
        """Evaluates every rule on every row.

        Raises:
          DataError: when a rule takes more time or memory than a batch may (`penstock.transforms.checks.sql.queries`).
        """
        if not self.rules or not batch.num_rows:
            return Findings({})
        reasons: dict[int, list[Reason]] = {}
        warned: list[Fault] = []
        typed = {feature.name: typed_column(batch, feature) for feature in self.columns}
        table = pa.table({name: column.values for name, column in typed.items()})
        broken = []
        for rule, outcome in zip(self.rules, _outcomes(self.rules, table), strict=True):
            unusable = {row: why for name in rule.uses for row, why in typed[name].unusable.items()}
            rows = np.flatnonzero(outcome != _TRUE)
            if unusable:
                rows = np.union1d(rows, np.fromiter(unusable, np.int64))
            if len(rows) and rule.rule.severity == "warn":
                warned.append(rule.warning(rows))
            elif len(rows):
                broken.append(_Broken(rule, outcome, rows, unusable))
        for row, reason in _explain(broken, [rule for rule in self.rules if rule.rule.severity == "error"], table):
            reasons.setdefault(row, []).append(reason)
        return Findings(reasons, tuple(warned))


def compile_rules(rules: Sequence[Rule], features: Sequence[Feature]) -> CompiledRules:
    """Checks rules against the columns and types of a schema.

    Raises:
      ConfigError: for a rule that does not parse, names no column or an unknown one, has wrong types, is not boolean,
        or contains what a rule may not; the message has file, rule, and the position in the SQL.
    """
    check_names(rules)
    names = [feature.name for feature in features]
    known = feature_map(features)
    compiled = []
    for rule in rules:
        try:
            used = parse_predicate(rule.sql, names)
            bind_predicate(rule.sql, [known[name] for name in used])
        except PredicateError as error:
            where = "" if error.offset is None else _position(rule.sql, error.offset)
            raise ConfigError(f"{rule.where}{where}: {error}{_picture(rule.sql, error.offset)}") from error
        compiled.append(CompiledRule(rule, runnable(rule.sql), used))
    columns = tuple(feature for feature in features if any(feature.name in rule.uses for rule in compiled))
    return CompiledRules(tuple(compiled), columns)


def _position(sql: str, offset: int) -> str:
    """Returns line and column of a character, both from 1."""
    return f", SQL line {sql.count(chr(10), 0, offset) + 1}, column {offset - sql.rfind(chr(10), 0, offset)}"


def _picture(sql: str, offset: int | None) -> str:
    """Returns the part of a line of `sql` around `offset`, with a caret below; all of `sql` without an offset.

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


_FALSE, _TRUE, _NULL = 0, 1, 2

# Errors that say that a rule takes too much, but nothing about its rows.
_EXHAUSTED = (QueryLimitError, duckdb.OutOfMemoryException, MemoryError)

Outcome = npt.NDArray[np.int8]


def _outcomes(rules: Sequence[CompiledRule], rows: pa.Table) -> list[Outcome]:
    """Returns int8[rows] for each rule: _TRUE, _FALSE or _NULL (also for what cannot be computed).

    Raises:
      DataError: when a rule takes too much time or memory.
    """
    try:
        result = run_query([f"TRY((\n{rule.sql}\n))" for rule in rules], rows)
    except _EXHAUSTED as error:
        # Together the rules may exceed the limits of a batch, though each alone does not.
        if len(rules) > 1:
            return [_outcomes([rule], rows)[0] for rule in rules]
        raise _exhausted(rules[0].rule, rows, error) from error
    except duckdb.Error:
        # TRY does not confine every error: narrow this one down to the rule, and then to the row.
        if len(rules) > 1:
            return [_outcomes([rule], rows)[0] for rule in rules]
        if rows.num_rows == 1:
            return [np.array([_NULL], np.int8)]
        half = rows.num_rows // 2
        parts = [_outcomes(rules, part)[0] for part in (rows.slice(0, half), rows.slice(half))]
        return [np.concatenate(parts)]
    return [np.ma.filled(column.astype(np.int8), _NULL) for column in result]


def _exhausted(rule: Rule, rows: pa.Table, error: Exception) -> DataError:
    what = message_of(error) if isinstance(error, duckdb.Error) else str(error) or "ran out of memory"
    return DataError(
        f"{rule.where}: {what} for {rows.num_rows} rows; make less of each row: "
        f"a list inside a list, or a text that is replaced or joined again and again, grows with the product of both"
        f"{_picture(rule.sql, None)}"
    )


@dataclasses.dataclass(frozen=True)
class _Broken:
    """A rule and the rows that break it, with reasons for the rows whose values it cannot use."""

    rule: CompiledRule
    outcome: Outcome
    rows: npt.NDArray[np.int64]
    unusable: Mapping[int, str]

    @property
    def nulls(self) -> list[int]:
        """Returns the rows for which the rule is NULL, or cannot be computed."""
        return [row for row in self.rows[self.outcome[self.rows] == _NULL].tolist() if row not in self.unusable]

    def explain(self, table: pa.Table, faults: Mapping[int, str]) -> Iterator[tuple[int, Reason]]:
        """Yields a reason for each of the rows."""
        values = table.select(list(self.rule.uses)).take(pa.array(self.rows)).to_pylist()
        rule = self.rule.rule
        about = f"{rule.description}: " if rule.description else ""
        sql = " ".join(rule.sql.split())
        for row, fields in zip(self.rows.tolist(), values, strict=True):
            if row in self.unusable:
                what = f"cannot be computed: {self.unusable[row]}"
            elif row in faults:
                what = f"cannot be computed: {faults[row]}"
            else:
                what = "is NULL" if self.outcome[row] == _NULL else "is false"
            given = ", ".join(f"{name} is {shown(value)}" for name, value in fields.items())
            yield row, Reason(rule.code, f"{about}{sql} {what}; {given}")


def _explain(broken: Sequence[_Broken], rules: Sequence[CompiledRule], table: pa.Table) -> Iterator[tuple[int, Reason]]:
    """Yields a reason for each rejected row of each rule."""
    # Most rows are NULL because a value is. One query, always the same, finds out whether any rule cannot be computed.
    nulls = sorted({row for one in broken for row in one.nulls})
    suspect = bool(nulls) and _fault(rules, _rows_of(table, nulls)) is not None
    for one in broken:
        yield from one.explain(table, _faults(one.rule, table, one.nulls) if suspect else {})


def _faults(rule: CompiledRule, table: pa.Table, rows: Sequence[int]) -> dict[int, str]:
    """Returns the engine's messages for those of the rows that it cannot compute."""
    faults: dict[int, str] = {}
    if not rows or _fault([rule], _rows_of(table, rows)) is None:
        return faults
    for row in rows[:_MAX_EXPLAINED_ROWS]:
        fault = _fault([rule], table.slice(row, 1))
        if fault is not None:
            faults[row] = fault
    for row in rows[_MAX_EXPLAINED_ROWS:]:
        faults[row] = "it is NULL, or an error as in other rows of this batch"
    return faults


def _fault(rules: Sequence[CompiledRule], rows: pa.Table) -> str | None:
    try:
        run_query([f"(\n{rule.sql}\n)" for rule in rules], rows)
    except _EXHAUSTED as error:
        if len(rules) > 1:
            return str(error)
        raise _exhausted(rules[0].rule, rows, error) from error
    except duckdb.Error as error:
        return message_of(error)
    return None


def _rows_of(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    return table.take(pa.array(rows, pa.int64()))
