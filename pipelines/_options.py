"""Flags of the jobs: families of options as dataclasses, a YAML file with the same names, and Beam's own beside them.

A family is a frozen dataclass whose fields are made by `flag`; a job composes families. Beam's `PipelineOptions` is
not the base, since its Google Cloud options already claim `--label` and its test options `--dry_run`.
"""

import argparse
import contextlib
import dataclasses
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Self, TypeVar, get_args

import yaml
from apache_beam.options.pipeline_options import PipelineOptions

from penstock.io.errors import ConfigError
from penstock.io.shard import Compression
from penstock.io.shuffle import Shuffle
from penstock.io.windowed.windows import parse_duration

_View = TypeVar("_View", bound=PipelineOptions)

_SIZE_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def flag(help_text: str, default: Any = None, **argparse_arguments: Any) -> Any:
    """A dataclass field that is a command line flag of the same name."""
    return dataclasses.field(default=default, metadata={"help": help_text, **argparse_arguments})


class Options:
    """Base of a family of flags; `title` heads it in `--help`."""

    title = ""

    @classmethod
    def add_flags(cls, parser: argparse.ArgumentParser) -> None:
        """Adds the family's flags to a parser, as a group of their own."""
        group = parser.add_argument_group(cls.title)
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            arguments = dict(field.metadata)
            if field.default not in (None, (), False):
                arguments["help"] += f" (default: {field.default})"
            # An argparse default would be appended to: the family fills it in.
            group.add_argument(f"--{field.name}", default=argparse.SUPPRESS, **arguments)

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> Self:
        """The family's part of a parsed command line."""
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        given = {name: value for name, value in vars(namespace).items() if name in names}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


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


def seconds(text: str) -> float:
    """A number of seconds above 0.

    Raises:
      argparse.ArgumentTypeError: for anything else.
    """
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")


class _Parser(argparse.ArgumentParser):
    """Errors without the whole usage: they would drown the one line that matters."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\nTry --help for the flags of this job.\n")


def job_parser(
    name: str, description: str, examples: str, families: Iterable[type[Options]]
) -> argparse.ArgumentParser:
    """The parser of a job, with `--config` and a note on Beam's options."""
    parser = _Parser(
        prog=f"python -m pipelines.{name}",
        usage=f"python -m pipelines.{name} [flags] [any Beam pipeline option]",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file with flags by name, without the dashes; flags given here win"
    )
    for family in families:
        family.add_flags(parser)
    return parser


def parse_job(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parses a job's flags, from `--config` too; the rest, known to Beam, is returned as it was.

    Raises:
      SystemExit: with 2 and a message for an unknown flag (naming the nearest known one) or a bad value.
      ConfigError: for a config file that cannot be used.
    """
    beam_parser = _beam_parser()
    known = _flag_names(parser) | _flag_names(beam_parser)
    path = _config_path(argv)
    if path is not None:
        argv = [*_config_arguments(path, argv, known), *argv]
    namespace, rest = parser.parse_known_args(list(argv))
    _, unknown = beam_parser.parse_known_args(rest)
    if unknown:
        parser.error(_unknown_message(unknown[0], known))
    return namespace, rest


def _beam_parser() -> argparse.ArgumentParser:
    parser: Any = _Parser(prog="beam options", add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for family in PipelineOptions.__subclasses__():
        family._add_argparse_args(parser)
    return parser


def _flag_names(parser: argparse.ArgumentParser) -> set[str]:
    return {text for text in parser._option_string_actions if text.startswith("--")}


def _unknown_message(argument: str, known: Iterable[str]) -> str:
    name = argument.split("=", 1)[0]
    if not name.startswith("-"):
        return (
            f"unexpected argument {argument!r}; a flag takes one value: quote patterns so that the shell does not "
            "expand them, and repeat --input for several"
        )
    nearest = difflib.get_close_matches(name.replace("-", "_").replace("__", "--", 1), sorted(known), n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"unknown flag {name}{hint}"


def _config_path(argv: Sequence[str]) -> str | None:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path: str | None = parser.parse_known_args(list(argv))[0].config
    return path


def _config_arguments(path: str, argv: Sequence[str], known: set[str]) -> list[str]:
    """The entries of a config file as flags, but for those that the command line has."""
    given = {argument.split("=", 1)[0] for argument in argv}
    arguments: list[str] = []
    for name, value in _load_config(path).items():
        text = f"--{name}"
        if text not in known or name == "config":
            raise ConfigError(
                f"{path}: {_unknown_message(text, known).replace('flag --', 'name ').replace('mean --', 'mean ')}"
            )
        if text not in given:
            arguments += _as_arguments(text, value, f"{path}: {name}")
    return arguments


def _load_config(path: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            config = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: cannot be read: {error}") from error
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise ConfigError(f"--config {path}: must be a mapping of flag names to values")
    return config


def _as_arguments(name: str, value: Any, where: str) -> list[str]:
    match value:
        case None | False:
            return []
        case True:
            return [name]
        case list() if name == "--input":
            return [f"{name}={item}" for item in value]
        case list() if all(isinstance(item, str | int | float) for item in value):
            return [f"{name}={','.join(str(item) for item in value)}"]
        case dict() if name == "--split":
            return [f"{name}={','.join(f'{split}={ratio}' for split, ratio in value.items())}"]
        case str() | int() | float():
            return [f"{name}={value}"]
        case _:
            raise ConfigError(
                f"{where}: must be a text, number, true/false or a list of those, got {json.dumps(value, default=str)}"
            )


@dataclasses.dataclass(frozen=True)
class InputOptions(Options):
    """What is read, and how."""

    title = "input"

    input: tuple[str, ...] = flag(
        "file or quoted pattern, local or of any filesystem that Beam knows; repeat it for several; or "
        "kafka://HOST:PORT/TOPIC[,TOPIC]?start=earliest (docs/kafka.md has its parameters)",
        (),
        action="append",
        metavar="PATTERN",
    )
    format: str | None = flag(
        "format of the input; without it, the suffix tells (Kafka: of each message, json without it; raw is bytes)",
        choices=("csv", "json", "jsonl", "avro", "parquet", "tfrecord", "tfexample", "raw"),
    )
    csv_delimiter: str | None = flag("one character; \\t is a tab (default: a comma, a tab for .tsv)", metavar="CHAR")
    csv_multiline: bool = flag(
        "quoted CSV fields may hold line breaks (such files are not split)", False, action="store_true"
    )
    columns: tuple[str, ...] = flag(
        "CSV column names, for files without a header line", (), type=comma_list, metavar="NAME,NAME"
    )
    null_values: tuple[str, ...] = flag(
        "CSV spellings of a missing value, beside the empty unquoted field", (), type=comma_list, metavar="TEXT,TEXT"
    )
    event_time: str | None = flag(
        "column with the time of the event: ISO 8601 text, or a number with its unit (Kafka: the record's timestamp "
        "without it)",
        metavar="COLUMN[:s|ms|us|ns]",
    )

    avro_schema: str | None = flag(
        "Avro schema of Kafka messages that come without the id of a schema registry", metavar="FILE"
    )

    def message_options(self) -> dict[str, Any]:
        """Options of the format of messages that were given."""
        options = {
            "delimiter": self.csv_delimiter,
            "column_names": self.columns,
            "null_values": self.null_values,
            "avro_schema": self.avro_schema,
        }
        if self.csv_multiline:
            raise ConfigError("--csv_multiline is for files; a Kafka message is one record anyway")
        return {name: value for name, value in options.items() if value}

    def csv_options(self) -> dict[str, Any]:
        """Options of the CSV format that were given."""
        options = {
            "delimiter": self.csv_delimiter,
            "multiline": self.csv_multiline,
            "column_names": self.columns,
            "null_values": self.null_values,
        }
        return {name: value for name, value in options.items() if value}


@dataclasses.dataclass(frozen=True)
class StreamOptions(Options):
    """How time is cut into windows, and when a window of a stream closes."""

    title = "windows and streams"

    window: str | None = flag(
        "write one dataset for each window of event time; a stream needs it", metavar="fixed:60s|sliding:60s/10s"
    )
    allowed_lateness: str = flag(
        "rows that come up to so long after their window closed are written as its late shards; later ones are "
        "dead letters",
        "0s",
        type=duration,
        metavar="DURATION",
    )
    empty_windows: bool = flag("write a manifest for windows without rows too", False, action="store_true")
    out_of_orderness: str = flag(
        "a window of a stream closes when rows so much younger than its end have come",
        "5s",
        type=duration,
        metavar="DURATION",
    )
    idle_timeout: str | None = flag(
        "without new data for so long, the clock closes windows; Kafka: a partition alone holds no window open "
        "(default: 60s for Kafka, files are waited for)",
        type=duration,
        metavar="DURATION",
    )
    watch: float | None = flag(
        "read files as they come: look for new ones so often, and read each once when it no longer grows",
        type=seconds,
        metavar="SECONDS",
    )


@dataclasses.dataclass(frozen=True)
class CheckOptions(Options):
    """What a good row is."""

    title = "schema and rules"

    schema: str | None = flag(
        "tensorflow_metadata Schema in text format; without one it is inferred from the whole input and written to "
        "OUTPUT",
        metavar="FILE",
    )
    rules: str | None = flag("YAML file of SQL predicates that every row must meet", metavar="FILE")
    label: str | None = flag("the column to learn: a row without it is rejected", metavar="COLUMN")
    max_reject_fraction: float = flag(
        "fail, and publish nothing, when more than this part of the rows is rejected", 0.05, type=fraction, metavar="F"
    )


@dataclasses.dataclass(frozen=True)
class SplitOptions(Options):
    """Which rows train and which evaluate."""

    title = "splits"

    split: str | None = flag(
        "named splits and their parts, which sum to 1 (default: one split, train)",
        metavar="train=0.8,eval=0.1,test=0.1",
    )
    split_key: tuple[str, ...] = flag(
        "columns whose hash chooses the split, so that rows with one key stay together (default: the whole row)",
        (),
        type=comma_list,
        metavar="COLUMN,COLUMN",
    )
    seed: int = flag("seed of split and shuffle", 0, type=int, metavar="N")


@dataclasses.dataclass(frozen=True)
class TransformOptions(Options):
    """How rows become features."""

    title = "features (need penstock[tft])"

    features: str | None = flag(
        "features to compute with tensorflow-transform, fitted on the train split: a YAML file, or a Python function",
        metavar="FILE|MODULE:FUNCTION",
    )
    transform: str | None = flag("folder of a graph fitted before: apply it, fit nothing", metavar="DIR")
    rolling: str | None = flag(
        "YAML file of features over the last minutes of a key, computed before the others (needs no penstock[tft])",
        metavar="FILE",
    )


@dataclasses.dataclass(frozen=True)
class OutputOptions(Options):
    """How the dataset is written."""

    title = "output"

    output: str | None = flag("folder of the dataset; must be empty, or see --overwrite", metavar="DIR")
    num_shards: int | None = flag(
        "shards of each split (default: as many as --shard_bytes asks for)", type=positive, metavar="N"
    )
    shard_bytes: int | None = flag(
        "aimed size of a shard, uncompressed (default: 128MiB)", type=byte_size, metavar="SIZE"
    )
    compression: Compression = flag("compression of the shards", "gzip", choices=get_args(Compression))
    shuffle: Shuffle = flag(
        "global: a seeded shuffle of each split; none: the order of the input", "global", choices=get_args(Shuffle)
    )
    also_to: str | None = flag(
        "a Kafka topic that gets each row of the dataset too, at least once: "
        "kafka://HOST:PORT/TOPIC?format=json|tfexample&key=COLUMN",
        metavar="URI",
    )
    rejects_to: str | None = flag("a Kafka topic that gets each dead letter too, at least once", metavar="URI")
    overwrite: bool = flag("replace what is in OUTPUT, once the new dataset is whole", False, action="store_true")
    resume: bool = flag(
        "go on writing windows into OUTPUT, where this stream was stopped with a savepoint", False, action="store_true"
    )
    append: bool = flag("reserved for adding to a dataset; refused for now", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class RunOptions(Options):
    """How the job runs."""

    title = "running"

    dry_run: str | None = flag(
        "print the resolved configuration and the stages, read nothing (with a value, as in --dry_run=True: Beam's own "
        "flag of that name, with which DataflowRunner translates the job and does not submit it)",
        nargs="?",
        const="",
        metavar="BEAM_VALUE",
    )

    @property
    def is_described(self) -> bool:
        """Whether the job only says what it would do."""
        return self.dry_run == ""

    @property
    def is_translated(self) -> bool:
        """Whether the runner translates the job, and does not run it."""
        return bool(self.dry_run)

    def check_runs(self) -> None:
        """Refuses Beam's dry run in a job that goes on with what its pipeline did.

        Raises:
          ConfigError: says what to pass instead.
        """
        if self.is_translated:
            raise ConfigError(f"--dry_run={self.dry_run} is for prepare; --dry_run alone shows what would be done")


def resolved(*families: Any) -> dict[str, Any]:
    """All flags of some families by name, as they were given or by default."""
    merged = {name: value for family in families for name, value in dataclasses.asdict(family).items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in merged.items()}


def describe(flags: Mapping[str, Any], stages: Sequence[str | None]) -> str:
    """The resolved flags and the stages of a job, for --dry_run; a stage that is None is left out."""
    numbered = "\n".join(f"  {number}. {stage}" for number, stage in enumerate(filter(None, stages), 1))
    configuration = yaml.safe_dump(dict(flags), sort_keys=False, allow_unicode=True)
    return f"{configuration}\nstages:\n{numbered}\n\nNothing was read or written."


def beam_options(arguments: Sequence[str], run: RunOptions) -> PipelineOptions:
    """Beam's options from what a job left over; the local runner gets a worker thread for each core."""
    extra = [f"--dry_run={run.dry_run}"] if run.dry_run else []
    # Nothing that workers need is defined in the main program, which Beam would pickle for them.
    return _JobOptions([f"--direct_num_workers={usable_cores()}", "--no_save_main_session", *arguments, *extra])


class _JobOptions(PipelineOptions):
    """Beam's options, with one view of each kind.

    To make a view takes 0.3 ms, since a parser is made for it, and Beam asks for 300 of them for one graph.
    """

    def view_as(self, cls: type[_View]) -> _View:
        """A view, which shares its values with all others."""
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_views"}


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
