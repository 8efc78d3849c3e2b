"""The formats of messages, one entry for each, whichever source or file a message comes from.

A format is one file with a decoder (`penstock.io.messages.base.Decoder`) and one entry in `DECODERS`. When dead letters
hold the bytes of a file's rows, the entry of the file's format names the decoder (`penstock.io.formats.registry`).
Heavy modules are imported only when a decoder is made.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.io.errors import ConfigError
from penstock.io.formats.registry import (
    COLUMNS,
    DELIMITER,
    EXPLODE,
    FORMATS,
    HEADER,
    MULTILINE,
    NULL_VALUES,
    QUOTING,
    RECORD_TYPE,
    TRIM,
    FormatOption,
    check_keywords,
    find_format,
    load,
)

if TYPE_CHECKING:
    from penstock.io.messages.base import Decoder
    from penstock.io.schema import Feature

AVRO_SCHEMA = FormatOption(
    "avro_schema",
    "avro_schema",
    "Avro schema of messages that come without the id of a schema registry",
    "file",
    "FILE",
)


@dataclasses.dataclass(frozen=True)
class DecoderEntry:
    """Describes a format of messages before its module is imported.

    Attributes:
      name: the name in `--format` and in messages.
      made_by: `module:function`; the function takes features and options, and returns a maker of decoders that pickles.
      options: the options that are flags.
      settings: the other options, by keyword; a source or the format of a file gives them.
      of_headers: options of the format of files that say how a header is read; only a replay of dead letters has them.
    """

    name: str
    made_by: str
    options: tuple[FormatOption, ...] = ()
    settings: tuple[str, ...] = ()
    of_headers: tuple[FormatOption, ...] = ()

    def make(self, features: "Sequence[Feature] | None", **options: Any) -> "Callable[[], Decoder]":
        """Returns a maker of decoders for some features, or for all columns.

        Raises:
          ConfigError: when the format does not have an option, or a value is wrong.
          InputError: when CSV columns lack one that the schema requires.
        """
        known = [*(option.keyword for option in self.options), *self.settings]
        check_keywords(options, known, f"the format {self.name} of messages")
        make: Callable[[], Decoder] = load(self.made_by)(features, **options)
        return make


_ENTRIES = (
    DecoderEntry("json", "penstock.io.messages.json:json_decoder", (EXPLODE,)),
    DecoderEntry(
        "csv",
        "penstock.io.messages.csv:csv_decoder",
        (DELIMITER, QUOTING, TRIM, COLUMNS, NULL_VALUES),
        of_headers=(HEADER, MULTILINE),
    ),
    DecoderEntry(
        "avro", "penstock.io.messages.avro:avro_decoder", (AVRO_SCHEMA,), settings=("schema_registry", "config")
    ),
    DecoderEntry("tfexample", "penstock.io.messages.examples:example_decoder", (RECORD_TYPE,)),
    DecoderEntry("raw", "penstock.io.messages.raw:raw_decoder", settings=("column",)),
)

DECODERS: Mapping[str, DecoderEntry] = {entry.name: entry for entry in _ENTRIES}


def find_decoder(name: str) -> DecoderEntry:
    """Finds a decoder by name.

    Raises:
      ConfigError: when the name is unknown; the message suggests a similar one.
    """
    if name not in DECODERS:
        nearest = [_of_files(name)] if _of_files(name) else difflib.get_close_matches(name, DECODERS, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(f"the format of messages must be one of {', '.join(DECODERS)}, got {name!r}{hint}")
    return DECODERS[name]


def decoder_name(name: str) -> str:
    """Returns the decoder's name for a value of `--format`, which may name a format of files.

    >>> decoder_name("jsonl"), decoder_name("raw")
    ('json', 'raw')
    """
    return name if name in DECODERS else _of_files(name) or name


def _of_files(name: str) -> str | None:
    """Returns the decoder for the rows of a format of files; None if there is none, or it needs options of its own."""
    entry = find_format(name)
    return None if entry is None or entry.payload_options else entry.payloads


def flag_options() -> dict[str, FormatOption]:
    """Returns the options of all formats of files and of messages, by flag."""
    of_files = {option.flag: option for entry in FORMATS.values() for option in entry.options}
    return of_files | decoder_options()


def decoder_options() -> dict[str, FormatOption]:
    """Returns the options of all formats of messages, by flag, and those of headers."""
    return {option.flag: option for entry in DECODERS.values() for option in (*entry.options, *entry.of_headers)}
