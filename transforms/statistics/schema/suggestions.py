"""Suggested rules and keys, with what they rest on, and the YAML file of rules that they make."""

import dataclasses
from collections.abc import Iterator, Sequence

import yaml

from penstock.io.columns.values import shown
from penstock.transforms.checks.file import Checks, UniqueKey
from penstock.transforms.checks.rules import Rule

_HEAD = """\
# Rules that the data suggests: what it meets today, which is not always what it must meet. Keep those that say what
# you know to be true, change the bounds of others, and remove the rest. `severity: error` rejects a row, and stands
# where no row of the data breaks the rule; `severity: warn` only counts it.
#
#   penstock prepare --rules THIS_FILE ...
"""


@dataclasses.dataclass(frozen=True)
class SuggestedRule:
    """A rule that the data meets, but for some rows.

    Attributes:
      rule: as `penstock.transforms.checks.rules` runs it. It is of severity `error` if no row breaks it.
      rows: of how many rows the statistics are.
      breaking: how many of them break the rule at most.
      exact: whether that is how many do. If not, it is an upper bound, as far as the quantiles are right.
      examples: some values.
    """

    rule: Rule
    rows: int
    breaking: int
    exact: bool = True
    examples: tuple[str | float, ...] = ()

    @property
    def support(self) -> float:
        """The share of rows that meet the rule, 0 to 1, at least."""
        return 1 - self.breaking / self.rows


@dataclasses.dataclass(frozen=True)
class SuggestedKey:
    """A column whose values seem to be different in each row.

    Attributes:
      key: the column.
      rows: how many rows have a value.
      distinct: how many different values there are, as far as is known.
      certain: whether that number is exact. If it is not, some values may occur twice.
    """

    key: UniqueKey
    rows: int
    distinct: int
    certain: bool


@dataclasses.dataclass(frozen=True)
class Suggestions:
    """What statistics suggest to check.

    Attributes:
      rules: in the order of the features.
      keys: likewise.
    """

    rules: tuple[SuggestedRule, ...] = ()
    keys: tuple[SuggestedKey, ...] = ()

    @property
    def checks(self) -> Checks:
        """The checks of the file: all rules, and the keys that are certain."""
        return Checks(tuple(one.rule for one in self.rules), tuple(one.key for one in self.keys if one.certain))

    def to_yaml(self) -> str:
        """Returns the file of rules, as `--rules` reads it, with what each rule rests on as comments.

        Keys that are not certain are comments. A file without any rule or certain key is none that `--rules` takes.
        """
        return "\n".join([_HEAD, *self._rules(), *self._keys()]).rstrip() + "\n"

    def _rules(self) -> Iterator[str]:
        if self.rules:
            yield "rules:"
        for one in self.rules:
            yield f"  # {_basis(one)}"
            fields = {"name": one.rule.name, "sql": one.rule.sql}
            if one.rule.severity != "error":
                fields["severity"] = one.rule.severity
            if one.rule.description:
                fields["description"] = one.rule.description
            yield from _item(fields)

    def _keys(self) -> Iterator[str]:
        certain = [one for one in self.keys if one.certain]
        if certain:
            yield "unique:"
        for one in certain:
            yield f"  # {one.distinct:,} different values in {one.rows:,} rows"
            yield _scalar(f"  {_scalar('', one.key.name)}: ", list(one.key.columns))
        likely = [one for one in self.keys if not one.certain]
        if likely:
            yield "# About as many different values as rows; a few may occur twice:"
            yield "# unique:"
        for one in likely:
            yield f"#   # about {one.distinct:,} different values in {one.rows:,} rows"
            yield _scalar(f"#   {_scalar('', one.key.name)}: ", list(one.key.columns))


def _basis(one: SuggestedRule) -> str:
    """Says what a rule rests on, in one line."""
    share = "all" if one.breaking == 0 else f"{100 * one.support:.4g} %"
    values = [shown(value) if isinstance(value, str) else f"{value:.6g}" for value in one.examples]
    examples = f"; such as {', '.join(values)}" if values else ""
    return f"{'' if one.exact else 'at least '}{one.rows - one.breaking:,} of {one.rows:,} rows ({share}){examples}"


def _item(fields: dict[str, str]) -> Iterator[str]:
    for place, (name, text) in enumerate(fields.items()):
        before = f"  {'-' if place == 0 else ' '} {name}: "
        if "'" in text and text.isprintable() and not text.startswith(" "):
            yield f"{before}|-\n      {text}"
        else:
            yield _scalar(before, text)


def _scalar(before: str, value: str | Sequence[str]) -> str:
    """Returns one line of YAML: `before`, and a value as a scalar or a list, quoted where it must be."""
    if not isinstance(value, str):
        return f"{before}[{', '.join(_scalar('', item) for item in value)}]"
    style = None if value.isprintable() else '"'
    dumped = yaml.safe_dump([value], default_flow_style=True, default_style=style, allow_unicode=True, width=1 << 30)
    return before + dumped.strip()[1:-1]
