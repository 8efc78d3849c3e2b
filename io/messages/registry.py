"""The formats of messages: one line for each, whichever source or file the message is of.

A format is one file with a decoder (`penstock.io.messages.base.Decoder`) and one line in `DECODERS`. Where the bytes of
a file's rows lie in dead letters, the line of the file's format names the decoder (`penstock.io.formats.registry`).
Nothing heavy is imported before a decoder is made.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.io.errors import ConfigError
from penstock.io.formats.registry import (
    COLUMNS,
    DELIMITER,
    FORMATS,
    NULL_VALUES,
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
    """What is known of a format of messages before its module is imported.

    Attributes:
      name: in `--format` and in messages.
      made_by: `module:function` of features and options, whose result makes a decoder, and pickles.
      options: those that are flags.
      settings: other options by keyword, which a source has, or whose format the row is of.
    """

    name: str
    made_by: str
    options: tuple[FormatOption, ...] = ()
    settings: tuple[str, ...] = ()

    def make(self, features: "Sequence[Feature] | None", **options: Any) -> "Callable[[], Decoder]":
        """What makes a decoder for some features, or for all columns.

        Raises:
          ConfigError: for an option that the format does not have, or a wrong value.
          InputError: when CSV columns lack one that the schema requires.
        """
        known = [*(option.keyword for option in self.options), *self.settings]
        check_keywords(options, known, f"the format {self.name} of messages")
        make: Callable[[], Decoder] = load(self.made_by)(features, **options)
        return make


_ENTRIES = (
    DecoderEntry("json", "penstock.io.messages.json:json_decoder"),
    DecoderEntry("csv", "penstock.io.messages.csv:csv_decoder", (DELIMITER, COLUMNS, NULL_VALUES)),
    DecoderEntry(
        "avro", "penstock.io.messages.avro:avro_decoder", (AVRO_SCHEMA,), settings=("schema_registry", "config")
    ),
    DecoderEntry("tfexample", "penstock.io.messages.examples:example_decoder"),
    DecoderEntry("raw", "penstock.io.messages.raw:raw_decoder", settings=("column",)),
)

DECODERS: Mapping[str, DecoderEntry] = {entry.name: entry for entry in _ENTRIES}


def find_decoder(name: str) -> DecoderEntry:
    """The decoder of a name.

    Raises:
      ConfigError: for a name that none has; says which one it may stand for.
    """
    if name not in DECODERS:
        nearest = [_of_files(name)] if _of_files(name) else difflib.get_close_matches(name, DECODERS, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(f"the format of messages must be one of {', '.join(DECODERS)}, got {name!r}{hint}")
    return DECODERS[name]


def decoder_name(name: str) -> str:
    """The name of the decoder for a name that `--format` has, which may be that of a format of files.

    >>> decoder_name("jsonl"), decoder_name("raw")
    ('json', 'raw')
    """
    return name if name in DECODERS else _of_files(name) or name


def _of_files(name: str) -> str | None:
    """The decoder for the bytes of rows of a format of files, if they have one without options of its own."""
    entry = find_format(name)
    return None if entry is None or entry.payload_options else entry.payloads


def flag_options() -> dict[str, FormatOption]:
    """The options of all formats, of files and of messages, by the name of their flag."""
    of_files = {option.flag: option for entry in FORMATS.values() for option in entry.options}
    return of_files | decoder_options()


def decoder_options() -> dict[str, FormatOption]:
    """The options of all formats of messages, by the name of their flag."""
    return {option.flag: option for entry in DECODERS.values() for option in entry.options}
