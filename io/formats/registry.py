"""The formats of files, one entry for each; all other code derives from these entries.

A format is one file with a `Format` (`penstock.io.formats.base`) and one entry in `FORMATS`. The entry decides the
choices and help of `--format`, the suffixes, the format's own flags, the accepted compressions,
`penstock.io.ReadFrom<Format>`, and how `replay` reads the payloads of dead letters. The `Format` decides how files are
cut and read, and how `--watch` finds their latest event time. Heavy modules are imported only when a format is made.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from penstock.io.errors import ConfigError
from penstock.io.files.suffixes import CODECS, codec_of, compressed_inside, format_suffix

if TYPE_CHECKING:
    from penstock.io.formats.base import Format


@dataclasses.dataclass(frozen=True)
class FormatOption:
    """An option of a format that is also a flag of the jobs.

    Attributes:
      flag: the name of the flag, without its dashes.
      keyword: the name of the option.
      help: the help of the flag.
      kind: the kind of its value: a text, a switch, comma-separated names, a file, or one of the `choices`.
      metavar: the name of the value in the help.
    """

    flag: str
    keyword: str
    help: str
    kind: Literal["text", "switch", "names", "file", "choice"] = "text"
    metavar: str | None = None
    choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class FormatEntry:
    """Describes a format before its module is imported.

    Attributes:
      name: the name in `--format` and in messages.
      title: the name in prose.
      made_by: `module:class` of the `Format`.
      suffixes: the suffixes of its files, without dots; the suffix of a compression may follow.
      aliases: other names that `--format` accepts.
      compressions: suffixes of files that are compressed as a whole; none for a format that compresses inside.
      options: the options that are flags.
      by_suffix: options, by keyword, that a suffix sets unless they are given.
      payloads: the decoder of `penstock.io.messages.registry` for its rows in dead letters; None if the payloads are
        always JSON.
      payload_options: options of that decoder that have no flag.
    """

    name: str
    title: str
    made_by: str
    suffixes: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    compressions: tuple[str, ...] = ()
    options: tuple[FormatOption, ...] = ()
    by_suffix: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    payloads: str | None = None
    payload_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def load(self) -> "type[Format]":
        """Imports the format's module and returns its class."""
        kind: type[Format] = load(self.made_by)
        return kind

    def make(self, **options: Any) -> "Format":
        """Makes a format with some options, by keyword.

        Raises:
          ConfigError: when the format does not have an option, or a value is wrong.
        """
        kind = self.load()
        known = list(inspect.signature(kind).parameters)
        check_keywords(options, known, f"format {self.name}")
        return kind(**options)

    def make_for(self, uris: Sequence[str], **options: Any) -> "Format":
        """Makes a format with some options and those that the suffixes of files set; raises the errors of `make`."""
        return self.make(**suffix_options(self, uris, options), **options)


def load(path: str) -> Any:
    """Imports the module of a `module:name` and returns the named object."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def check_keywords(options: Iterable[str], known: Sequence[str], what: str) -> None:
    """Rejects unknown options.

    Raises:
      ConfigError: when an option is unknown; the message names the first one.
    """
    for name in options:
        if name not in known:
            raise ConfigError(f"{what} has no option {name}; it has {', '.join(known) or 'none'}")


_ANY = tuple(CODECS)

DELIMITER = FormatOption(
    "csv_delimiter", "delimiter", "one character; \\t is a tab (default: a comma, a tab for .tsv)", metavar="CHAR"
)
MULTILINE = FormatOption(
    "csv_multiline", "multiline", "quoted CSV fields may hold line breaks (such files are not split)", "switch"
)
COLUMNS = FormatOption(
    "columns", "column_names", "names of the CSV columns, in place of a header", "names", "NAME,NAME"
)
QUOTING = FormatOption(
    "csv_quoting",
    "quoting",
    "standard: a CSV field may be quoted; none: a quote is a character like any other (default: standard)",
    "choice",
    choices=("standard", "none"),
)
TRIM = FormatOption(
    "csv_trim", "trim", "spaces at both ends of a CSV field, or beside its quotes, are no part of it", "switch"
)
HEADER = FormatOption(
    "header",
    "header",
    "line 1 of a CSV file: keep takes the names of the columns from it, skip ignores it, none takes it as a row "
    "(default: keep, or none with --columns)",
    "choice",
    choices=("keep", "skip", "none"),
)
NULL_VALUES = FormatOption(
    "null_values",
    "null_values",
    "CSV spellings of a missing value, beside the empty unquoted field",
    "names",
    "TEXT,TEXT",
)

EXPLODE = FormatOption(
    "explode",
    "explode",
    "a list of objects, or of values, each item of which becomes a row that repeats the other columns (its members are "
    "COLUMN.member); a row whose list is empty or missing stays",
    metavar="COLUMN",
)

RECORD_TYPE = FormatOption(
    "record_type",
    "record_type",
    "what the records are: of a tf.SequenceExample, the context features and the feature lists become columns by their "
    "names (default: example)",
    "choice",
    choices=("example", "sequence_example"),
)

_ENTRIES = (
    FormatEntry(
        "csv",
        "CSV",
        "penstock.io.formats.csv.format:CsvFormat",
        ("csv", "tsv"),
        compressions=_ANY,
        options=(DELIMITER, QUOTING, MULTILINE, TRIM, HEADER, COLUMNS, NULL_VALUES),
        by_suffix={"tsv": {"delimiter": "\t"}},
        payloads="csv",
    ),
    FormatEntry(
        "jsonl",
        "JSON",
        "penstock.io.formats.json.format:JsonlFormat",
        ("jsonl", "ndjson", "json"),
        ("json",),
        compressions=_ANY,
        options=(EXPLODE,),
        payloads="json",
    ),
    FormatEntry(
        "avro", "Avro", "penstock.io.formats.avro.format:AvroFormat", ("avro",), options=(EXPLODE,), payloads="avro"
    ),
    FormatEntry(
        "parquet", "Parquet", "penstock.io.formats.parquet:ParquetFormat", ("parquet", "pq"), options=(EXPLODE,)
    ),
    FormatEntry("orc", "ORC", "penstock.io.formats.orc:OrcFormat", ("orc",), options=(EXPLODE,)),
    FormatEntry(
        "tfrecord",
        "TFRecord",
        "penstock.io.formats.tfrecord:TFRecordFormat",
        ("tfrecord", "tfrecords", "tfr"),
        ("tfexample",),
        compressions=_ANY,
        options=(RECORD_TYPE,),
        payloads="tfexample",
    ),
    FormatEntry(
        "text",
        "Text",
        "penstock.io.formats.text:TextFormat",
        ("txt",),
        compressions=_ANY,
        payloads="raw",
        payload_options={"column": "text"},
    ),
)

FORMATS: Mapping[str, FormatEntry] = {entry.name: entry for entry in _ENTRIES}


def find_format(name: str) -> FormatEntry | None:
    """Finds a format by name or alias; returns None when no file format has the name."""
    return next((entry for entry in FORMATS.values() if name in (entry.name, *entry.aliases)), None)


def format_of(reader: "Format") -> str:
    """Returns the name of the format that a reader reads, below the columns of folders; "" for one of no entry."""
    kind = type(getattr(reader, "reader", reader))
    made_by = f"{kind.__module__}:{kind.__qualname__}"
    return next((entry.name for entry in FORMATS.values() if entry.made_by == made_by), "")


def format_names() -> Iterator[str]:
    """Yields all names that `--format` accepts for files, each followed by its aliases."""
    for entry in FORMATS.values():
        yield from (entry.name, *entry.aliases)


def choose_format(name: str | None, uris: Sequence[str]) -> FormatEntry:
    """Chooses a format by name or alias, or by the suffixes of all files when `name` is None.

    Raises:
      ConfigError: when the name or a suffix is unknown, or the files have suffixes of several formats.
      InputError: when a file is compressed as a whole, but the format compresses inside.
    """
    entry = find_format(name or detect_format(uris))
    if entry is None:
        raise ConfigError(f"the format of files must be one of {', '.join(FORMATS)}, got {name!r}")
    for uri in uris:
        if codec_of(uri) is not None and not entry.compressions:
            raise compressed_inside(uri, entry.title)
    return entry


def detect_format(uris: Sequence[str]) -> str:
    """Returns the one format that the suffixes of all files name.

    Raises:
      ConfigError: when a suffix is unknown, or there are suffixes of several formats.
    """
    by_suffix = {suffix: entry.name for entry in FORMATS.values() for suffix in entry.suffixes}
    found: dict[str, str] = {}
    for uri in uris:
        suffix = format_suffix(uri)
        if suffix not in by_suffix:
            raise ConfigError(f"{uri}: no format is known for this name; pass --format {'|'.join(FORMATS)}")
        found.setdefault(by_suffix[suffix], uri)
    if len(found) > 1:
        examples = ", ".join(f"{uri} ({name})" for name, uri in sorted(found.items()))
        raise ConfigError(f"the inputs have several formats: {examples}; run one job for each, or pass --format")
    return next(iter(found))


def suffix_options(entry: FormatEntry, uris: Sequence[str], given: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the options that the suffixes of files set, by keyword, without those that are `given`.

    Raises:
      ConfigError: when the suffixes set one option to several values.
    """
    keywords = {keyword for options in entry.by_suffix.values() for keyword in options}
    found = {keyword: _suffix_option(entry, keyword, uris) for keyword in sorted(keywords - set(given))}
    return {keyword: value for keyword, value in found.items() if value is not None}


def _suffix_option(entry: FormatEntry, keyword: str, uris: Sequence[str]) -> Any:
    """Returns the value that the suffixes set for one option; None for its default."""
    values: dict[Any, str] = {}
    for uri in uris:
        values.setdefault(entry.by_suffix.get(format_suffix(uri), {}).get(keyword), uri)
    if len(values) > 1:
        flag = next(option.flag for option in entry.options if option.keyword == keyword)
        examples = ", ".join(f"{uri} ({value or 'default'!r})" for value, uri in values.items())
        raise ConfigError(f"the inputs have several {keyword}s: {examples}; run one job for each, or pass --{flag}")
    return next(iter(values), None)


def by_keyword(given: Mapping[str, Any], options: Sequence[FormatOption], what: str) -> dict[str, Any]:
    """Maps values of flags to keywords of options.

    Args:
      given: values of flags by name.
      options: the options that exist.
      what: the format or source that has them, for messages.

    Raises:
      ConfigError: when a flag is not one of the options.
    """
    keywords = {option.flag: option.keyword for option in options}
    for flag in given:
        if flag not in keywords:
            own = ", ".join(f"--{name}" for name in keywords) or "none"
            raise ConfigError(f"--{flag} is no option of {what}: its own are {own}; leave it out, or correct --format")
    return {keywords[flag]: value for flag, value in given.items()}
