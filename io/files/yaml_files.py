"""A strict reader of the YAML files that users write: it reports each fault with file, line and key.

It reads the files of features, rolling features, rules and a job's flags, so that all of them refuse the same:

==================================  ==========================================================================
refused                             because
==================================  ==========================================================================
a key that stands twice             YAML libraries silently keep the last one
more than 50 levels                 a parser calls itself for each level, until Python's stack is full
more than 200,000 values            a few lines of aliases can stand for billions of values: each use counts
an alias inside of what it names    such a value has no end
a tag other than YAML's plain ones  `!x` may ask for any object; what a file needs has no tag
a second document                   it would be ignored
more than 16 MiB, not UTF-8         it is some other file
==================================  ==========================================================================

A byte order mark is skipped. Merge keys (`<<: *name`) are resolved, and a mapping's own keys win.
`read_local_text` and all that parses need no Beam.
"""

import dataclasses
import difflib
import reprlib
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any, NoReturn

import yaml

from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import unreadable

_MAX_BYTES = 16 << 20
_MAX_LEVELS = 50
_MAX_VALUES = 200_000

_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("map", "seq"))

# What a scalar's constructor raises: an unknown tag, and a text that is no number, or no day, as its form says.
_BAD_SCALAR = (yaml.constructor.ConstructorError, ValueError, ArithmeticError)


@dataclasses.dataclass(frozen=True)
class Location:
    """Where something stands, for messages; its line may be unknown, 0."""

    source: str
    line: int = 1
    path: str = ""

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line else ""
        return f"{self.source}{line}" + (f": {self.path}" if self.path else "")

    def at(self, node: yaml.Node) -> "Location":
        """The same, on the node's line."""
        return dataclasses.replace(self, line=node.start_mark.line + 1)

    def inside(self, name: str) -> "Location":
        """A part of it."""
        return dataclasses.replace(self, path=f"{self.path}: {name}" if self.path else name)


@dataclasses.dataclass(frozen=True)
class Key:
    """A name in a mapping, and where it stands."""

    text: str
    where: Location


def read_text(path: str, source: str, hint: str = "") -> str:
    """The content of a file of any filesystem that Beam knows, UTF-8.

    Args:
      path: where it is.
      source: what it is, such as a flag with its value.
      hint: what to give instead where it cannot be read.

    Raises:
      ConfigError: when it cannot be read, is no UTF-8 or larger than a file of settings is.
    """

    check_filesystem(path, source)
    return _read(lambda: stores.open_unpacked(path), source, hint)


def read_local_text(path: str, source: str, hint: str = "") -> str:
    """`read_text` of a file of this machine, without Beam."""
    return _read(lambda: open(path, "rb"), source, hint)


def _read(opened: Callable[[], IO[bytes]], source: str, hint: str) -> str:
    try:
        with opened() as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise unreadable(source, error, hint) from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{source}: is larger than {_MAX_BYTES >> 20} MiB, which no file of settings is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}, line {line}: is not UTF-8 ({error.reason}); save the file as UTF-8") from error


class _Loader(yaml.SafeLoader):
    """Composes a document, and refuses what the module says."""

    def __init__(self, text: str, source: str):
        super().__init__(text)
        self._source = source
        self._level = 0
        # Values and levels of each node that is complete, with all that aliases stand for.
        self._sizes: dict[yaml.Node, tuple[int, int]] = {}

    def fault(self, node: Any, message: str) -> ConfigError:
        return ConfigError(f"{self._source}, line {node.start_mark.line + 1}: {message}")

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if self._level == _MAX_LEVELS:
            raise self._too_deep(event)
        self._level += 1
        node: Any = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(event, yaml.AliasEvent):
            if node not in self._sizes:
                raise self.fault(event, f"the alias *{event.anchor} stands inside of what it names")
            if self._level + self._sizes[node][1] > _MAX_LEVELS:
                raise self._too_deep(event)
        else:
            self._sizes[node] = self._size(node)
        return node

    def _too_deep(self, event: Any) -> ConfigError:
        return self.fault(event, f"lists and mappings are more than {_MAX_LEVELS} levels deep; write it flatter")

    def _size(self, node: yaml.Node) -> tuple[int, int]:
        """How many values and how many levels a node has."""
        if isinstance(node, yaml.MappingNode):
            inner = [value for _, value in node.value]
        else:
            inner = node.value if isinstance(node, yaml.SequenceNode) else []
        sizes = [self._sizes[value] for value in inner]
        values = 1 + sum(values for values, _ in sizes)
        if values > _MAX_VALUES:
            raise self.fault(node, f"holds more than {_MAX_VALUES:,} values, with those that aliases stand for")
        return values, 1 + max((levels for _, levels in sizes), default=0)

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if node.tag == "tag:yaml.org,2002:merge":
            return node
        try:
            # Of two escapes, as JSON writes them, PyYAML does not make the one character that they stand for.
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise self.fault(node, f"{shown_text(node.value)} has a lone surrogate, which is no text") from error
        try:
            self.construct_object(node)
        except _BAD_SCALAR as error:
            why = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            raise self.fault(node, f"{shown_text(node.value)} cannot be used: {why}; put it in quotes") from error
        return node

    def compose_sequence_node(self, anchor: Any) -> Any:
        node = super().compose_sequence_node(anchor)
        self._check_tag(node)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        self._check_tag(node)
        self._check_keys(node)
        self.flatten_mapping(node)
        # Behind what is merged stand the mapping's own keys, and the last of equal ones wins.
        node.value = list({(key.tag, key.value): (key, value) for key, value in node.value}.values())
        return node

    def _check_tag(self, node: yaml.Node) -> None:
        if node.tag not in _PLAIN_TAGS:
            raise self.fault(node, f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not known; leave it out")

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fault(key, f"a name must be a text, got {shown_node(key)}")
            if (key.tag, key.value) in seen:
                raise self.fault(key, f"{shown_text(key.value)} appears twice")
            seen.add((key.tag, key.value))


def parse_yaml(text: str, source: str) -> yaml.Node | None:
    """The one document of a YAML text, with all that this module refuses refused; None for an empty one.

    Raises:
      ConfigError: with the line.
    """
    try:
        loader = _Loader(text, source)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{source}, line {line}: the character {chr(error.character)!r} cannot be used") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{source}{_mark_text(error)}: is not valid YAML: {_problem(error)}") from error


def _mark_text(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "it cannot be read"
    if r"'\t'" in problem:
        return f"{problem}; indent with spaces"
    return f"{problem}; a file holds one document" if "another document" in problem else problem


def top_entry(text: str, source: str, name: str, what: str) -> tuple[Key, yaml.Node]:
    """The only key of a YAML file, and what it holds.

    Raises:
      ConfigError: when the text is not YAML, or not a mapping of this one key.
    """
    root = parse_yaml(text, source)
    top = [] if root is None else list(pairs(root, Location(source), [name]))
    if not top:
        raise ConfigError(f"{Location(source)}: has no entry {name!r}, {what}")
    return top[0]


def pairs(node: yaml.Node, where: Location, known: Collection[str] = ()) -> Iterator[tuple[Key, yaml.Node]]:
    """Keys with their places and values of a mapping.

    Raises:
      ConfigError: when it is no mapping, a key is no text, or is not among the known ones.
    """
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{where.at(node)}: must be a mapping of names, got {shown_node(node)}")
    for key_node, value in node.value:
        key, place = value_of(key_node), where.at(key_node)
        if not isinstance(key, str) or not key:
            raise ConfigError(f"{place}: a name must be a text, got {key!r}; put it in quotes")
        if known and key not in known:
            refuse(place, f"unknown key {key!r}", key, known)
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
        return shown_text(value_of(node))
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def shown_text(value: object) -> str:
    """A value as a message shows it: at most some 100 characters."""
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = shortened.maxlong = 100
    return shortened.repr(value)


def refuse(where: Location, fault: str, name: str, known: Collection[str]) -> NoReturn:
    """Raises a ConfigError for an unknown name, with the nearest of the known ones."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
    raise ConfigError(f"{where}: {fault}; {hint}")
