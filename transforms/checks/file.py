"""Parses the file of rules: predicates (`penstock.transforms.checks.rules`) and unique keys (`...checks.unique`)."""

import dataclasses
from collections.abc import Iterator, Sequence

import yaml

from penstock.io.columns.values import shown
from penstock.io.errors import ConfigError
from penstock.io.files.yaml_files import Key, Location, pairs, parse_yaml, read_text, shown_node, value_of
from penstock.transforms.checks.rules import NAME, Rule, check_names

_TOP_KEYS = ("rules", "unique")
_RULE_KEYS = ("name", "sql", "severity", "description")
_HINT = "give a YAML file"


@dataclasses.dataclass(frozen=True)
class UniqueKey:
    """Columns whose values, taken together, no two rows may share.

    Attributes:
      columns: at least one column, each once.
      name: letters, digits, `_`, `.`, `-`, beginning with a letter; the reason code is `unique.<name>`. By default, the
        columns joined by `_`.
      source: where the key is written, for messages.

    Raises:
      ConfigError: for no column, a column twice, or an invalid name.
    """

    columns: tuple[str, ...]
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.columns:
            raise ConfigError(f"{self.where}: needs at least one column, got none")
        if len(set(self.columns)) < len(self.columns):
            raise ConfigError(f"{self.where}: names a column twice, got {list(self.columns)!r}")
        if not self.name:
            object.__setattr__(self, "name", "_".join(self.columns))
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.where}: a name is a letter, then letters, digits, '_', '.' or '-', got {self.name!r}; give the "
                "columns a name: unique: {NAME: [COLUMN, ...]}"
            )

    @property
    def where(self) -> str:
        """File, line and key, with which messages begin."""
        what = f"unique {self.name!r}" if self.name else "unique"
        return f"{self.source}: {what}" if self.source else what

    @property
    def code(self) -> str:
        """The reason code of the rows it rejects."""
        return f"unique.{self.name}"


@dataclasses.dataclass(frozen=True)
class Checks:
    """What a file of rules asks of the rows.

    Attributes:
      rules: predicates that each row must meet.
      unique: keys that no two rows may share.
    """

    rules: tuple[Rule, ...] = ()
    unique: tuple[UniqueKey, ...] = ()


def load_checks(path: str) -> Checks:
    """Reads a file of rules and of keys that are unique.

    `compile_rules` checks the SQL later, and `check_unique` the columns.

    Raises:
      ConfigError: when the file cannot be read, is not YAML, or has other content; with line, and the number or name of
        the rule.
    """
    source = f"--rules {path}"
    return parse_checks(read_text(path, source, _HINT), source)


def load_rules(path: str) -> tuple[Rule, ...]:
    """Reads a file of rules.

    Raises:
      ConfigError: as `load_checks`, and when the file names unique keys, which are not checked row by row.
    """
    checks = load_checks(path)
    if checks.unique:
        raise ConfigError(f"{checks.unique[0].where}: is no rule about a row; load_checks reads it")
    return checks.rules


def parse_checks(text: str, source: str = "rules") -> Checks:
    """Parses the checks of a YAML text; messages call it `source`.

    Raises:
      ConfigError: as `load_checks`.
    """
    root = parse_yaml(text, source)
    nodes = {} if root is None else {key.text: (key, node) for key, node in pairs(root, Location(source), _TOP_KEYS)}
    if not nodes:
        raise ConfigError(
            f"{Location(source)}: has no entry 'rules', a list of rules, and no entry 'unique', a list of columns"
        )
    rules = tuple(_rules(*nodes["rules"])) if "rules" in nodes else ()
    check_names(rules)
    return Checks(rules, tuple(_unique_keys(*nodes["unique"])) if "unique" in nodes else ())


def _rules(key: Key, node: yaml.Node) -> Iterator[Rule]:
    if not isinstance(node, yaml.SequenceNode):
        raise ConfigError(f"{key.where}: rules must be a list of rules, got {shown_node(node)}")
    if not node.value:
        raise ConfigError(f"{key.where}: rules is empty; add a rule or leave it out")
    for number, entry in enumerate(node.value, 1):
        yield _rule(entry, number, key.where.at(entry))


def _rule(node: yaml.Node, number: int, where: Location) -> Rule:
    inside = where.inside(f"rule {number}")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{inside}: must be a mapping with name and sql, got {shown_node(node)}")
    entry = dict(pairs(node, inside, _RULE_KEYS))
    texts = {key.text: value_of(value) for key, value in entry.items()}
    named = f" ({texts['name']})" if isinstance(texts.get("name"), str) else ""
    for key in entry:
        if not isinstance(value := texts[key.text], str):
            raise ConfigError(f"{key.where}{named}: {key.text} must be text, got {shown(value)}; put it in quotes")
    for name in ("name", "sql"):
        if name not in texts:
            raise ConfigError(f"{inside}{named}: {name} is missing")
    return Rule(**texts, source=str(where))


def _unique_keys(key: Key, node: yaml.Node) -> Iterator[UniqueKey]:
    """Yields the keys of a list of columns, a list of such lists, or a mapping of names to lists."""
    if isinstance(node, yaml.MappingNode):
        for name, columns in pairs(node, key.where):
            yield _unique_key(columns, name.where, name.text)
    elif isinstance(node, yaml.SequenceNode) and any(isinstance(item, yaml.SequenceNode) for item in node.value):
        for item in node.value:
            yield _unique_key(item, key.where.at(item))
    else:
        yield _unique_key(node, key.where)
    if isinstance(node, yaml.MappingNode) and not node.value:
        raise ConfigError(f"{key.where}: unique is empty; name columns or leave it out")


def _unique_key(node: yaml.Node, where: Location, name: str = "") -> UniqueKey:
    columns: object = value_of(node)
    if not isinstance(columns, list) or not columns or not all(isinstance(item, str) and item for item in columns):
        what = f"unique {name!r}" if name else "unique"
        raise ConfigError(f"{where}: {what}: must be a list of columns, such as [user_id, day], got {shown(columns)}")
    return UniqueKey(tuple(columns), name, str(where))


def key_names(keys: Sequence[UniqueKey]) -> str:
    """Returns the columns of each key, as a plan shows them."""
    return "; ".join(", ".join(key.columns) for key in keys)
