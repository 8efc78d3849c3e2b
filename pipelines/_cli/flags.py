"""Flags as dataclasses, a YAML file with the same names, and Beam's own beside them; all of it without Beam.

A family of flags is a frozen dataclass whose fields are made by `flag`; a job composes families (`options.py`).
Beam's `PipelineOptions` is not the base, since its Google Cloud options already claim `--label` and its test options
`--dry_run`. What flags Beam has is known from a table (`beam_flags.py`); their values are checked by Beam itself, once
it is loaded (`beam.py`).
"""

import argparse
import contextlib
import dataclasses
import difflib
import functools
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

from penstock.io.beam.durations import parse_duration
from penstock.io.errors import ConfigError
from pipelines._cli.beam_flags import OPTIONAL, SWITCHES, VALUES
from pipelines._cli.named import CONFIG, NAMED, Named
from pipelines._report.printable import printable
from pipelines._report.result import UsageError

if TYPE_CHECKING:
    from penstock.io.files.yaml_files import Key

# Runners behind which there may be Flink; the others take no notice of its options.
FLINK_RUNNERS = ("FlinkRunner", "PortableRunner")

# What switches a limit off.
NONE = "none"

_SIZE_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


# The keys of the metadata of values that are given without a flag, and of flags whose value may be.
_BARE = "bare"
_OR_BARE = "or_bare"


def flag(
    help_text: str, default: Any = None, names: Named | None = None, or_bare: bool = False, **argparse_arguments: Any
) -> Any:
    """A dataclass field that is a command line flag of the same name.

    `names` says what its value names; `or_bare` that this may be given without the flag, as in `penstock verify out`.
    """
    metadata = {"help": help_text, NAMED: names, _OR_BARE: or_bare, **argparse_arguments}
    return dataclasses.field(default=default, metadata=metadata)


def bare(help_text: str, names: Named, metavar: str) -> Any:
    """A dataclass field whose values are given without a flag, as in `penstock compare A B`; a job has at most one."""
    return flag(help_text, (), names, nargs="*", metavar=metavar, **{_BARE: True})


class Options:
    """Base of a family of flags; `title` heads it in `--help`."""

    title = ""

    @classmethod
    def add_flags(cls, parser: argparse.ArgumentParser) -> None:
        """Adds the family's flags to a parser, as a group of their own."""
        group = parser.add_argument_group(cls.title)
        for field in cls.flags():
            arguments = dict(field.metadata)
            named, is_bare, or_bare = arguments.pop(NAMED), arguments.pop(_BARE, False), arguments.pop(_OR_BARE)
            if field.default not in (None, (), False):
                arguments["help"] += f" (default: {field.default})"
            name = field.name if is_bare else f"--{field.name}"
            # argparse would append to a default that is a list, so the family fills the defaults in.
            action = group.add_argument(name, default=argparse.SUPPRESS, **arguments)
            setattr(action, NAMED, named)
            setattr(action, _OR_BARE, or_bare)

    @classmethod
    def flags(cls) -> list[dataclasses.Field[Any]]:
        """The flags, with those that the family adds to another one before those that it has from there."""
        known = {name for base in cls.__mro__[1:] for name in getattr(base, "__dataclass_fields__", ())}
        return sorted(dataclasses.fields(cls), key=lambda field: field.name in known)  # type: ignore[arg-type]

    def values(self) -> dict[str, Any]:
        """Each flag's value by its name, in the order of `flags`."""
        return {field.name: getattr(self, field.name) for field in self.flags()}

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> Self:
        """The family's part of a parsed command line."""
        return cls(**cls._own(vars(namespace)))

    def with_flags(self, values: Mapping[str, Any]) -> Self:
        """The same with other values for some flags, by name; names of other families are ignored."""
        return dataclasses.replace(self, **self._own(values))  # type: ignore[type-var]

    @classmethod
    def _own(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        given = {name: value for name, value in values.items() if name in names}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}

    def named(self) -> Iterable[tuple[str, Named, str]]:
        """Flags that name something: their names, what kind of thing it is, and each value."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.metadata[NAMED] is not None and value:
                for item in value if isinstance(value, tuple) else (value,):
                    yield field.name, field.metadata[NAMED], item


@dataclasses.dataclass(frozen=True)
class BeamFlags:
    """The flags of a command line that are for Beam.

    Attributes:
      arguments: as they were given.
      runner, savepoint_path: the values of these two.
    """

    arguments: tuple[str, ...] = ()
    runner: str | None = None
    savepoint_path: str | None = None

    @property
    def may_be_flink(self) -> bool:
        """Whether the runner is Flink's, or one that hands the job to whoever listens."""
        return self.runner in FLINK_RUNNERS


def comma_list(text: str) -> tuple[str, ...]:
    """Comma separated names.

    >>> comma_list("a, b")
    ('a', 'b')
    """
    return tuple(item.strip() for item in text.split(","))


def byte_size(text: str) -> int:
    """A number of bytes with an optional unit: k, M, G are decimal, Ki, Mi, Gi binary, a final B is allowed.

    >>> byte_size("128MiB")
    134217728

    Raises:
      argparse.ArgumentTypeError: for anything else, or a number below 1.
    """
    match = re.fullmatch(r"(\d+)\s*([kmg]i?)?b?", text.strip().lower())
    if match is None or int(match[1]) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of bytes such as 1000000, 64MB or 128MiB, got {text!r}")
    return int(match[1]) * _SIZE_UNITS[match[2] or ""]


def fraction(text: str) -> float:
    """A number from 0 to 1.

    Raises:
      argparse.ArgumentTypeError: for anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1.

    Raises:
      argparse.ArgumentTypeError: for anything else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def port(text: str) -> int:
    """The number of a TCP port; 0 for any that is free.

    Raises:
      argparse.ArgumentTypeError: for anything else.
    """
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"must be the number of a port, from 0 to 65535, got {text!r}")
    return int(text)


def duration(text: str) -> str:
    """The text of a duration such as 500ms, 60s, 5m, 1h or 1d.

    Raises:
      argparse.ArgumentTypeError: for anything else.
    """
    try:
        parse_duration(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def duration_or_none(text: str) -> str:
    """The text of a duration, or none.

    Raises:
      argparse.ArgumentTypeError: for anything else.
    """
    return text if text == NONE else duration(text)


def seconds(text: str) -> float:
    """A number of seconds above 0.

    Raises:
      argparse.ArgumentTypeError: for anything else.
    """
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")


class Parser(argparse.ArgumentParser):
    """Errors without the whole usage: they would drown the one line that matters.

    Attributes:
      hint: the line after it.
      elsewhere: flags that only other jobs have, each with what to say of it.
    """

    hint = "Try --help for the flags of this job."
    elsewhere: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line and a hint."""
        self._print_message(f"{self.prog}: error: {printable(message)}\n{self.hint}\n", sys.stderr)
        raise UsageError(message)


def job_parser(program: str, description: str, examples: str, families: Iterable[type[Options]]) -> Parser:
    """The parser of a job, with `--config` and a note on Beam's options."""
    parser = Parser(
        prog=program,
        usage=f"{program} [flags] [any Beam pipeline option]",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    config = parser.add_argument(
        "--config", metavar="FILE", help="YAML file with flags by name, without the dashes; flags given here win"
    )
    setattr(config, NAMED, CONFIG)
    for family in families:
        family.add_flags(parser)
    for action in (*_bare_values(parser), *_or_bare(parser)):
        parser.usage = f"{program} {action.metavar} [flags] [any Beam pipeline option]"
    return parser


def _bare_values(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The values that a parser takes without a flag."""
    return [action for action in parser._actions if not action.option_strings and action.nargs == "*"]


def _or_bare(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The flags whose value may be given without them."""
    return [action for action in parser._actions if getattr(action, _OR_BARE, False)]


def parse_job(parser: Parser, argv: Sequence[str]) -> tuple[argparse.Namespace, BeamFlags]:
    """Parses a job's flags, from `--config` too, and returns the flags of Beam as they were given.

    Raises:
      SystemExit: with 2 and a message for an unknown flag (naming the nearest known one) or a bad value.
      ConfigError: for a config file that cannot be used.
    """
    beam_parser = _beam_parser(parser.prog)
    known = _flags_of(beam_parser) | _flags_of(parser)
    path = _config_path(parser.prog, argv)
    if path is not None:
        argv = [*_config_arguments(path, argv, known, parser.elsewhere), *argv]
    namespace, rest = parser.parse_known_args(list(argv))
    beam, unknown = beam_parser.parse_known_args(rest)
    loose = [argument for argument in unknown if not argument.startswith("-")]
    taken: list[str] = []
    for action in _bare_values(parser):
        # argparse takes those before the first flag, and leaves the others.
        taken = loose
        setattr(namespace, action.dest, [*getattr(namespace, action.dest, ()), *taken])
    for action in _or_bare(parser):
        if len(loose) == 1 and not hasattr(namespace, action.dest):
            taken = loose
            setattr(namespace, action.dest, taken[0])
    unknown, rest = ([one for one in found if not any(one is other for other in taken)] for found in (unknown, rest))
    if unknown:
        parser.error(_unknown_message(unknown[0], known, parser.elsewhere))
    if dry_run := getattr(namespace, "dry_run", ""):  # with a value, it is Beam's
        rest.append(f"--dry_run={dry_run}")
    return namespace, BeamFlags(tuple(rest), beam.runner, beam.savepoint_path)


def asks_for(name: str, argv: Sequence[str]) -> bool:
    """Whether a command line or its config file has a switch, such as `json`, even if the rest cannot be parsed."""
    if f"--{name}" in argv:
        return True
    with contextlib.suppress(ConfigError, ImportError):
        path = _config_path("", argv)
        return path is not None and any(key.text == name and value is True for key, value in _load_config(path))
    return False


@functools.cache
def _beam_parser(program: str) -> Parser:
    """Knows Beam's flags, and which take a value; what values are good, only Beam knows."""
    parser = Parser(prog=program, add_help=False, allow_abbrev=False)
    for name in VALUES:
        parser.add_argument(name)
    for name in OPTIONAL:
        parser.add_argument(name, nargs="?")
    for name in SWITCHES:
        parser.add_argument(name, action="store_true")
    return parser


def flag_names(parser: argparse.ArgumentParser) -> set[str]:
    """The names of a parser's flags, with their dashes."""
    return set(_flags_of(parser))


def _flags_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """A parser's flags by their names, with the dashes."""
    return {text: action for text, action in parser._option_string_actions.items() if text.startswith("--")}


def _unknown_message(argument: str, known: Iterable[str], elsewhere: Mapping[str, str]) -> str:
    name = argument.split("=", 1)[0]
    if name in elsewhere:
        return f"{name} {elsewhere[name]}"
    if not name.startswith("-"):
        return (
            f"unexpected argument {argument!r}; a flag takes one value: quote patterns so that the shell does not "
            "expand them, and repeat --input for several"
        )
    nearest = difflib.get_close_matches(name.replace("-", "_").replace("__", "--", 1), sorted(known), n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"unknown flag {name}{hint}"


def _config_path(program: str, argv: Sequence[str]) -> str | None:
    parser = Parser(prog=program, add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path: str | None = parser.parse_known_args(list(argv))[0].config
    return path


def _config_arguments(
    path: str, argv: Sequence[str], known: Mapping[str, argparse.Action], elsewhere: Mapping[str, str]
) -> list[str]:
    """The entries of a config file as flags, without those that the command line has."""
    given = {argument.split("=", 1)[0] for argument in argv}
    arguments: list[str] = []
    for key, value in _load_config(path):
        name = f"--{key.text}"
        if name not in known or key.text == "config":
            fault = _unknown_message(name, known, elsewhere)
            raise ConfigError(f"{key.where}: {fault.replace('flag --', 'name ').replace('mean --', 'mean ')}")
        if name not in given:
            arguments += _as_arguments(name, value, f"{key.where}: {key.text}", takes_value=known[name].nargs is None)
    return arguments


def _load_config(path: str) -> "list[tuple[Key, Any]]":
    """The entries of a config file.

    Raises:
      ConfigError: when it cannot be read, or is no mapping of names, with the line.
    """
    from penstock.io.files.yaml_files import Location, pairs, parse_yaml, read_local_text, value_of

    what = f"--config {path}"
    CONFIG.reach(path, what)
    root = parse_yaml(read_local_text(path, what), what)
    if root is None:
        raise ConfigError(f"{Location(what)}: is empty; give a mapping of flag names to values, or leave --config out")
    return [(key, value_of(node)) for key, node in pairs(root, Location(what))]


def _as_arguments(name: str, value: Any, where: str, takes_value: bool) -> list[str]:
    """One entry of a config file as a command line has it."""
    match value:
        case None:
            return []
        case bool() if takes_value:
            raise ConfigError(f"{where}: takes a value, got {json.dumps(value)}; if that is a text, put it in quotes")
        case True:
            return [name]
        case False:
            return [f"{name}=false"] if name in OPTIONAL else []
        case list() if name in ("--input", "--merge") and all(map(_is_plain, value)):
            return [f"{name}={item}" for item in value]
        case list() if all(map(_is_plain, value)):
            return [f"{name}={','.join(map(str, value))}"]
        case dict() if name in ("--split", "--split_from") and all(map(_is_plain, value.values())):
            return [f"{name}={','.join(f'{split}={ratio}' for split, ratio in value.items())}"]
        case dict() if name == "--custom_config":
            return [f"{name}={json.dumps(value)}"]
        case _ if _is_plain(value):
            return [f"{name}={value}"]
        case _:
            raise ConfigError(f"{where}: must be a text, number, true/false or a list of those, got {_shown(value)}")


def _is_plain(value: Any) -> bool:
    """Whether a value has one spelling on a command line; of true and false it is lost which one was written."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """The beginning of a value, as JSON."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else f"{text[:100]}..."
