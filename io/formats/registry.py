"""The formats of files: one line for each, from which all follows that is said or done of it anywhere else.

A format is one file with a `Format` (`penstock.io.formats.base`) and one line in `FORMATS`. From the line follow
the choices and help of `--format`, the suffixes, the flags that are the format's own, which compressions are taken,
`penstock.io.ReadFrom<Format>`, and how `replay` reads what dead letters hold; from the `Format`, how files are cut,
read, and looked at by `--watch`. Nothing heavy is imported before a format is made.
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
    """An option of a format that is a flag of the jobs, too.

    Attributes:
      flag: the name of the flag, without its dashes.
      keyword: the name of the option.
      help: of the flag.
      kind: what its value is: a text, a switch, names with commas between them, or a file.
      metavar: stands for the value in the help.
    """

    flag: str
    keyword: str
    help: str
    kind: Literal["text", "switch", "names", "file"] = "text"
    metavar: str | None = None


@dataclasses.dataclass(frozen=True)
class FormatEntry:
    """What is known of a format before its module is imported.

    Attributes:
      name: in `--format` and in messages.
      title: in prose.
      made_by: `module:class` of the `Format`.
      suffixes: of its files, without dots; a compression's may follow.
      aliases: other names that `--format` takes.
      compressions: suffixes of files that are compressed as a whole; none where the format compresses inside.
      options: those that are flags.
      by_suffix: options by keyword that a suffix stands for, unless they are given.
      payloads: the decoder of `penstock.io.messages.registry` for what dead letters hold of its rows in bytes; None
        where they hold JSON alone.
      payload_options: options of that decoder that no flag gives.
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
        """The class of the format; imports its module."""
        kind: type[Format] = load(self.made_by)
        return kind

    def make(self, **options: Any) -> "Format":
        """A format with some options, by keyword.

        Raises:
          ConfigError: for an option that it does not have, or a wrong value.
        """
        kind = self.load()
        known = list(inspect.signature(kind).parameters)
        check_keywords(options, known, f"format {self.name}")
        return kind(**options)

    def make_for(self, uris: Sequence[str], **options: Any) -> "Format":
        """A format with some options, and those that the suffixes of files stand for; raises as `make`."""
        return self.make(**suffix_options(self, uris, options), **options)


def load(path: str) -> Any:
    """What a `module:name` names; imports the module."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def check_keywords(options: Iterable[str], known: Sequence[str], what: str) -> None:
    """Refuses options that something does not have.

    Raises:
      ConfigError: names the first one.
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
    "columns", "column_names", "CSV column names, for files without a header line", "names", "NAME,NAME"
)
NULL_VALUES = FormatOption(
    "null_values",
    "null_values",
    "CSV spellings of a missing value, beside the empty unquoted field",
    "names",
    "TEXT,TEXT",
)

_ENTRIES = (
    FormatEntry(
        "csv",
        "CSV",
        "penstock.io.formats.csv.format:CsvFormat",
        ("csv", "tsv"),
        compressions=_ANY,
        options=(DELIMITER, MULTILINE, COLUMNS, NULL_VALUES),
        by_suffix={"tsv": {"delimiter": "\t"}},
        payloads="csv",
    ),
    FormatEntry(
        "jsonl",
        "JSON Lines",
        "penstock.io.formats.json.format:JsonlFormat",
        ("jsonl", "ndjson", "json"),
        ("json",),
        compressions=_ANY,
        payloads="json",
    ),
    FormatEntry("avro", "Avro", "penstock.io.formats.avro.format:AvroFormat", ("avro",), payloads="avro"),
    FormatEntry("parquet", "Parquet", "penstock.io.formats.parquet:ParquetFormat", ("parquet", "pq")),
    FormatEntry("orc", "ORC", "penstock.io.formats.orc:OrcFormat", ("orc",)),
    FormatEntry(
        "tfrecord",
        "TFRecord of tf.Example",
        "penstock.io.formats.tfrecord:TFRecordFormat",
        ("tfrecord", "tfrecords", "tfr"),
        ("tfexample",),
        compressions=_ANY,
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
    """The format of a name or an alias; None for a name that no file format has."""
    return next((entry for entry in FORMATS.values() if name in (entry.name, *entry.aliases)), None)


def format_names() -> Iterator[str]:
    """All names that `--format` takes for files, each before its aliases."""
    for entry in FORMATS.values():
        yield from (entry.name, *entry.aliases)


def choose_format(name: str | None, uris: Sequence[str]) -> FormatEntry:
    """The format of a name or alias, or of the suffixes of all files when `name` is None.

    Raises:
      ConfigError: when the name or a suffix is not known, or the files have suffixes of several formats.
      InputError: for a file that is compressed as no file of the format is.
    """
    entry = find_format(name or detect_format(uris))
    if entry is None:
        raise ConfigError(f"the format of files must be one of {', '.join(FORMATS)}, got {name!r}")
    for uri in uris:
        if codec_of(uri) is not None and not entry.compressions:
            raise compressed_inside(uri, entry.title)
    return entry


def detect_format(uris: Sequence[str]) -> str:
    """The one format that the suffixes of all files tell.

    Raises:
      ConfigError: for an unknown suffix, or suffixes of several formats.
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
    """Options that the suffixes of files stand for, by keyword, but for those that are `given`.

    Raises:
      ConfigError: when they stand for several values of one option.
    """
    keywords = {keyword for options in entry.by_suffix.values() for keyword in options}
    found = {keyword: _suffix_option(entry, keyword, uris) for keyword in sorted(keywords - set(given))}
    return {keyword: value for keyword, value in found.items() if value is not None}


def _suffix_option(entry: FormatEntry, keyword: str, uris: Sequence[str]) -> Any:
    """What the suffixes say of one option; None for its default."""
    values: dict[Any, str] = {}
    for uri in uris:
        values.setdefault(entry.by_suffix.get(format_suffix(uri), {}).get(keyword), uri)
    if len(values) > 1:
        flag = next(option.flag for option in entry.options if option.keyword == keyword)
        examples = ", ".join(f"{uri} ({value or 'default'!r})" for value, uri in values.items())
        raise ConfigError(f"the inputs have several {keyword}s: {examples}; run one job for each, or pass --{flag}")
    return next(iter(values), None)


def by_keyword(given: Mapping[str, Any], options: Sequence[FormatOption], what: str) -> dict[str, Any]:
    """The options that flags give, by keyword.

    Args:
      given: values of flags by name.
      options: those that there are.
      what: what has them, for messages.

    Raises:
      ConfigError: for a flag that is none of them.
    """
    keywords = {option.flag: option.keyword for option in options}
    for flag in given:
        if flag not in keywords:
            own = ", ".join(f"--{name}" for name in keywords) or "none"
            raise ConfigError(f"--{flag} is no option of {what}: its own are {own}; leave it out, or correct --format")
    return {keywords[flag]: value for flag, value in given.items()}
