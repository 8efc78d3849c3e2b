r"""Suggests rules, in SQL, that the data meets which statistics are of.

=========================  ==========================================================================================
rule                       suggested where
=========================  ==========================================================================================
`<feature>_present`        all rows have a value, or all but a few
`<feature>_constant`       all values are the same; only warns, since a model learns nothing of it
`<feature>_domain`         texts, or integers 0 and 1, have few different values, each ten times on average
`<feature>_not_negative`   no number is below zero
`<feature>_range`          few numbers are outside of robust bounds (`penstock.transforms.statistics.schema.bounds`)
`<feature>_<pattern>`      (nearly) all texts are integers, numbers, dates, times, UUIDs, IP or e-mail addresses, or
                           URLs (`penstock.io.kernel.shared.statistics`)
`<feature>_length`         texts have one length; or have at most twice the characters of the longest one, and one at
                           least where none is empty
`<feature>_missing_with`   of two or more features, all are missing, or none is
`<feature>_implies`        where this feature is missing, another one is too
=========================  ==========================================================================================

And keys: a feature with as many different values as rows must be unique.

A rule that all rows meet rejects rows (`severity: error`); one that a few rows break warns. A missing value breaks none
but `_present`. A value is one of a list, too: then all values of the list must meet the rule.

SQL has no name or text with a NUL: columns and domains that have one get no rule.

Statistics of TFDV have no patterns, lengths, missing together and no exact number of different values. From them follow
the rules for which the most frequent texts tell it all.
"""

import collections
import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.statistics import PATTERNS
from penstock.io.schema import Kind, feature_map, schema_features
from penstock.transforms.checks.file import UniqueKey
from penstock.transforms.checks.rules import Rule, Severity
from penstock.transforms.checks.sql.predicates import parse_predicate
from penstock.transforms.checks.sql.trees import PredicateError
from penstock.transforms.statistics.schema.bounds import robust_bounds
from penstock.transforms.statistics.schema.infer import holds
from penstock.transforms.statistics.schema.seen import NUMBERS, SeenFeature, seen_features
from penstock.transforms.statistics.schema.suggestions import SuggestedKey, SuggestedRule, Suggestions

_Stats: TypeAlias = statistics_pb2.FeatureNameStatistics

# A pattern may be that of another one too: a number may be spelled as an integer.
_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "integer": ("integer",),
    "number": ("number", "integer"),
    "date": ("date",),
    "datetime": ("datetime",),
    "uuid": ("uuid",),
    "ip": ("ip",),
    "email": ("email",),
    "url": ("url",),
}

# So often each value of a small domain occurs on average; else new ones must be expected.
_MIN_REPETITION = 10

# Beyond, doubles do not tell integers apart.
_EXACT = 2.0**53

_EXAMPLES = 3

_NUL = "\0"

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class _Column:
    """A feature as SQL sees it."""

    seen: SeenFeature
    kind: Kind
    multivalued: bool

    @functools.cached_property
    def sql(self) -> str:
        """The name, in quotes where SQL needs them."""
        name = self.seen.name
        if _PLAIN.fullmatch(name):
            with contextlib.suppress(PredicateError):  # a word of the language
                if parse_predicate(f"{name} IS NULL", [name]) == (name,):
                    return name
        return '"' + name.replace('"', '""') + '"'

    def each(self, predicate: Callable[[str], str]) -> str:
        """Returns SQL that holds where there is no value, or all values meet a predicate."""
        if self.multivalued:
            met = f"list_filter({self.sql}, lambda item: NOT ({predicate('item')})) = []"
        else:
            met = predicate(self.sql)
        return f"{self.sql} IS NULL OR {met}" if self.seen.absent else met


@dataclasses.dataclass(frozen=True)
class _Found:
    """A rule without its name: at most so many rows break it."""

    suffix: str
    sql: str
    breaking: int = 0
    description: str = ""
    examples: tuple[str | float, ...] = ()
    warns: bool = False
    exact: bool = True


def suggest_rules(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema | None = None,
    min_support: float = 0.99,
    max_domain: int = 20,
    min_rows: int = 20,
    datasets: Sequence[str] = (),
) -> Suggestions:
    """Suggests rules and unique keys that the data meets which statistics are of.

    The module's docstring says which.

    Args:
      statistics: of TFDV or Penstock. Of several datasets, the splits are taken together, as by `infer_schema`.
      schema: under which the rules will run: it says which columns there are, and which hold lists. By default, that of
        `infer_schema`.
      min_support: the least share of rows that must meet a rule, above 0 and up to 1.
      max_domain: the most values of a domain.
      min_rows: fewer rows, or values, prove nothing, and suggest no rule.
      datasets: the names of the datasets to look at; by default those that are no slices.

    Raises:
      ConfigError: for an option out of range, or as `infer_schema`.
    """
    if not 0 < min_support <= 1:
        raise ConfigError(f"min_support must be above 0 and at most 1, got {min_support}")
    for name, value in (("max_domain", max_domain), ("min_rows", min_rows)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    columns = [
        column
        for column in _columns(seen_features(statistics, datasets), schema)
        if column.seen.rows >= min_rows and len(column.seen.levels) == 1 and column.seen.type != _Stats.STRUCT
        if _NUL not in column.seen.name
    ]
    names = _Names()
    rules = []
    for column in columns:
        most = int((1 - min_support) * column.seen.rows)
        for found in _of_column(column, most, max_domain, min_rows):
            rules.append(_suggested(found, column.seen, names))
    for subject, found in _of_missing(columns, min_support, min_rows):
        rules.append(_suggested(found, subject.seen, names))
    keys = [key for column in columns if column.seen.values >= min_rows for key in _of_key(column, names)]
    return Suggestions(tuple(rules), tuple(keys))


def _columns(features: Iterable[SeenFeature], schema: schema_pb2.Schema | None) -> Iterator[_Column]:
    """Yields the features that the schema has, as what it calls them."""
    if schema is None:
        for seen in features:
            kind = {_Stats.INT: Kind.INT, _Stats.FLOAT: Kind.FLOAT}.get(seen.type, Kind.BYTES)
            yield _Column(seen, kind if holds(seen) else Kind.BYTES, not seen.is_single and seen.present > 0)
        return
    known = feature_map(schema_features(schema))
    for seen in features:
        if seen.name in known:
            yield _Column(seen, known[seen.name].kind, bool(known[seen.name].multivalued))


class _Names:
    """Names of rules, each once."""

    def __init__(self) -> None:
        self._taken: collections.Counter[str] = collections.Counter()

    def free(self, feature: str, suffix: str) -> str:
        """Returns a name that rules may have: ASCII letters, digits and some signs, beginning with a letter."""
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", feature)
        name = f"{plain if plain[:1].isalpha() else f'f_{plain}'}{suffix}"
        self._taken[name] += 1
        return name if self._taken[name] == 1 else self.free(feature, f"{suffix}_{self._taken[name]}")


def _suggested(found: _Found, seen: SeenFeature, names: _Names) -> SuggestedRule:
    name = names.free(seen.name, f"_{found.suffix}")
    severity: Severity = "warn" if found.breaking or found.warns else "error"
    rule = Rule(name, found.sql, severity, found.description)
    return SuggestedRule(rule, seen.rows, found.breaking, found.exact or not found.breaking, found.examples)


def _of_column(column: _Column, most: int, max_domain: int, min_values: int) -> Iterator[_Found]:
    seen = column.seen
    # A rule also rejects a row of which it uses bytes that are not UTF-8.
    breaking = seen.absent + seen.invalid_utf8
    if breaking <= most:
        yield _Found("present", f"{column.sql} IS NOT NULL", breaking, exact=not seen.invalid_utf8)
    if seen.values < min_values:
        return
    if (constant := _constant(column)) is not None:
        yield constant
    elif seen.type in NUMBERS and column.kind in (Kind.INT, Kind.FLOAT):
        yield from _of_numbers(column, most)
    elif seen.type == _Stats.STRING and column.kind is Kind.BYTES and not _is_unwritable(seen):
        yield from _of_texts(column, most, max_domain)


def _is_unwritable(seen: SeenFeature) -> bool:
    """Whether some of the texts have no form in SQL."""
    return seen.invalid_utf8 > 0 or any(_NUL in text for text in seen.counts)


def _constant(column: _Column) -> _Found | None:
    seen, literal = column.seen, None
    if seen.type in NUMBERS and column.kind in (Kind.INT, Kind.FLOAT):
        if seen.low is not None and seen.low == seen.high and abs(seen.low) < _EXACT and not seen.nan:
            literal = _number(seen.low, column.kind)
    elif column.kind is Kind.BYTES and seen.complete and len(seen.counts) == 1 and not _is_unwritable(seen):
        literal = _text(next(iter(seen.counts)))
    if literal is None:
        return None
    sql = column.each(lambda value: f"{value} = {literal}")
    return _Found("constant", sql, description="all values are the same: a model learns nothing of it", warns=True)


def _of_numbers(column: _Column, most: int) -> Iterator[_Found]:
    seen = column.seen
    if seen.low is None or seen.high is None:
        return
    if column.kind is Kind.INT and (seen.low, seen.high) == (0, 1):
        yield _Found("domain", column.each(lambda value: f"{value} IN (0, 1)"), examples=(0.0, 1.0))
        return
    examples = _examples_of_numbers(column)
    if seen.low >= 0:
        yield _Found("not_negative", column.each(lambda value: f"{value} >= 0"), examples=examples)
    bounds = robust_bounds(seen, most)
    if bounds is None or max(-bounds.low, bounds.high) >= _EXACT:
        return
    low, high = _number(bounds.low, column.kind), _number(bounds.high, column.kind)
    one_sided = seen.low >= 0 >= bounds.low
    within = f"<= {high}" if one_sided else f"BETWEEN {low} AND {high}"
    # NaN is greater than any number.
    nan = "isnan({0}) OR " if seen.nan else ""
    sql = column.each(lambda value: f"{nan.format(value)}{value} {within}")
    yield _Found("range", sql, bounds.beyond, examples=examples, exact=False)


def _number(value: float, kind: Kind) -> str:
    return str(int(value)) if kind is Kind.INT else repr(float(value))


def _examples_of_numbers(column: _Column) -> tuple[float, ...]:
    """Returns the least number, one in the middle, and the greatest."""
    seen = column.seen
    ordered = sorted(seen.buckets, key=lambda bucket: bucket.low)
    middle = [ordered[len(ordered) // 2].low] if ordered else []
    return tuple(dict.fromkeys([seen.low or 0.0, *middle, seen.high or 0.0]))


def _of_texts(column: _Column, most: int, max_domain: int) -> Iterator[_Found]:
    seen = column.seen
    frequent = tuple(sorted(seen.counts, key=lambda text: (-seen.counts[text], text))[:_EXAMPLES])
    repeated = seen.values >= _MIN_REPETITION * len(seen.counts)
    if seen.complete and len(seen.counts) <= max_domain and repeated:
        listed = ", ".join(_text(text) for text in sorted(seen.counts))
        yield _Found("domain", column.each(lambda value: f"{value} IN ({listed})"), examples=frequent)
        return
    if (pattern := _pattern(seen, most)) is not None:
        name, breaking = pattern
        expression = _text(PATTERNS[name])
        sql = column.each(lambda value: f"regexp_full_match({value}, {expression})")
        yield _Found(name, sql, breaking, examples=frequent, exact=not column.multivalued)
    if (lengths := _lengths(seen)) is not None:
        yield _Found("length", column.each(_length_predicate(*lengths)), examples=frequent)


def _pattern(seen: SeenFeature, most: int) -> tuple[str, int] | None:
    """Returns the pattern that most texts have, and how many have not."""
    patterns = seen.patterns
    if patterns is None and seen.complete:
        patterns = _counted(seen.counts)
    for name, kinds in _PATTERNS.items():
        matching = sum((patterns or {}).get(kind, 0) for kind in kinds)
        if matching and seen.values - matching <= most:
            return name, seen.values - matching
    return None


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts the patterns of texts: of each, the first."""
    found: collections.Counter[str] = collections.Counter()
    for text, count in counts.items():
        name = next((name for name, pattern in PATTERNS.items() if re.fullmatch(pattern, text)), "")
        found[name] += count
    return found


def _lengths(seen: SeenFeature) -> tuple[int, int] | None:
    if seen.lengths is not None or not seen.complete:
        return seen.lengths
    return min(map(len, seen.counts)), max(map(len, seen.counts))


def _length_predicate(shortest: int, longest: int) -> Callable[[str], str]:
    if shortest == longest:
        return lambda value: f"length({value}) = {longest}"
    if shortest > 0:
        return lambda value: f"length({value}) BETWEEN 1 AND {2 * longest}"
    return lambda value: f"length({value}) <= {2 * longest}"


def _text(value: str) -> str:
    """Returns a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def _of_missing(columns: Sequence[_Column], min_support: float, min_rows: int) -> Iterator[tuple[_Column, _Found]]:
    """Yields rules about features that are missing in the same rows."""
    some = {
        column.seen.name: column
        for column in columns
        if min_rows <= column.seen.absent < column.seen.rows and not column.seen.invalid_utf8
    }
    groups: list[list[_Column]] = []
    for column in some.values():
        group = next((group for group in groups if _apart(group[0], column) == 0), None)
        if group is None:
            groups.append([column])
        else:
            group.append(column)
    for first, *others in groups:
        if others:
            named = ", ".join(column.seen.name for column in (first, *others))
            sql = " AND ".join(f"({first.sql} IS NULL) = ({other.sql} IS NULL)" for other in others)
            yield first, _Found("missing_with", sql, description=f"all are missing, or none: {named}")
        implied = [group[0] for group in groups if group[0] is not first and _implies(first, group[0], min_support)]
        yield from _implications(first, implied)


def _implications(column: _Column, implied: Sequence[_Column]) -> Iterator[tuple[_Column, _Found]]:
    """Yields one rule for all that are missing in each row in which the column is, and one for each other."""
    always = [other for other in implied if column.seen.missing_with[other.seen.name] == column.seen.absent]
    for others in ([always] if always else []) + [[other] for other in implied if other not in always]:
        missing = " AND ".join(f"{other.sql} IS NULL" for other in others)
        breaking = column.seen.absent - column.seen.missing_with[others[0].seen.name]
        named = ", ".join(other.seen.name for other in others)
        description = f"where {column.seen.name} is missing, missing too: {named}"
        sql = f"{column.sql} IS NOT NULL OR ({missing})"
        yield column, _Found("implies", sql, breaking, description)


def _apart(one: _Column, other: _Column) -> int | None:
    """Returns in how many rows only one of two features is missing; None where statistics do not say."""
    both = one.seen.missing_with.get(other.seen.name)
    return None if both is None else one.seen.absent + other.seen.absent - 2 * both


def _implies(one: _Column, other: _Column, min_support: float) -> bool:
    """Whether a feature is missing where another is, and that says something: it is there in most other rows."""
    both = one.seen.missing_with.get(other.seen.name, 0)
    return both >= min_support * one.seen.absent and 2 * other.seen.absent <= other.seen.rows


def _of_key(column: _Column, names: _Names) -> Iterator[SuggestedKey]:
    seen = column.seen
    if column.multivalued or seen.type == _Stats.FLOAT or seen.distinct is None or seen.invalid_utf8:
        return
    certain = seen.distinct_error == 0
    # Three standard errors: a sketch that is right misses it once in 370 columns.
    slack = 0.0 if certain else 3 * seen.distinct_error * seen.present
    if seen.present != seen.values or not abs(seen.distinct - seen.present) <= min(slack, seen.present / 2):
        return
    key = UniqueKey((seen.name,), names.free(seen.name, ""))
    yield SuggestedKey(key, seen.present, round(seen.distinct), certain)
