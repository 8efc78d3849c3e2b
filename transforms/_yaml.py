"""YAML files whose faults are told with file and line."""

import dataclasses
import difflib
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

import yaml
from apache_beam.io.filesystems import FileSystems

from penstock.io.errors import ConfigError
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import unreadable


@dataclasses.dataclass(frozen=True)
class Place:
    """Where something stands, for messages."""

    source: str
    line: int = 1
    path: str = ""

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}" + (f": {self.path}" if self.path else "")

    def at(self, node: yaml.Node) -> "Place":
        """The same, on the node's line."""
        return dataclasses.replace(self, line=node.start_mark.line + 1)

    def inside(self, name: str) -> "Place":
        """A part of it."""
        return dataclasses.replace(self, path=f"{self.path}: {name}" if self.path else name)


@dataclasses.dataclass(frozen=True)
class Key:
    """A name in a mapping, and where it stands."""

    text: str
    where: Place


def read_text(path: str, source: str, hint: str) -> str:
    """The content of a file, UTF-8.

    Raises:
      ConfigError: when it cannot be read; the message ends with the hint.
    """
    check_filesystem(path, source)
    try:
        with FileSystems.open(path) as file:
            return file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(source, error, hint) from error


def top_entry(text: str, source: str, name: str, what: str) -> tuple[Key, yaml.Node]:
    """The only key of a YAML file, and what it holds.

    Raises:
      ConfigError: when the text is not YAML, or not a mapping of this one key.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: is not valid YAML: {error}") from error
    top = [] if root is None else list(pairs(root, Place(source), [name]))
    if not top:
        raise ConfigError(f"{source}: has no entry {name!r}, {what}")
    return top[0]


def pairs(node: yaml.Node, where: Place, known: Collection[str] = ()) -> Iterator[tuple[Key, yaml.Node]]:
    """Keys with their places and values of a mapping; PyYAML itself would let the last of equal keys win.

    Raises:
      ConfigError: when it is no mapping, a key is no text, stands twice, or is not among the known ones.
    """
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{where.at(node)}: must be a mapping of names, got {shown_node(node)}")
    seen: set[str] = set()
    for key_node, value in node.value:
        key, place = value_of(key_node), where.at(key_node)
        if not isinstance(key, str) or not key:
            raise ConfigError(f"{place}: a name must be a text, got {key!r}; put it in quotes")
        if key in seen:
            raise ConfigError(f"{place}: {key!r} appears twice")
        if known and key not in known:
            refuse(place, f"unknown key {key!r}", key, known)
        seen.add(key)
        yield Key(key, place), value


def value_of(node: yaml.Node) -> Any:
    """What the node stands for, as Python has it."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def shown_node(node: yaml.Node) -> str:
    """A node as a message shows it."""
    if isinstance(node, yaml.ScalarNode):
        return repr(value_of(node))
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def refuse(where: Place, fault: str, name: str, known: Collection[str]) -> NoReturn:
    """Fails because of a name that is none of the known ones, and tells the nearest."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
    raise ConfigError(f"{where}: {fault}; {hint}")
