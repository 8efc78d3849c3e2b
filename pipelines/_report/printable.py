"""What a job prints of names, values and messages that others chose: no control characters, no passwords.

A file name may hold a line break or an escape sequence that rewrites the terminal, and a message may quote it. Every
text goes through here on its way to a terminal, a log or a manifest.
"""

import dataclasses
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

# Controls of C0 and C1, DEL, line and paragraph separators, what turns the direction of text, and lone surrogates,
# which stand for bytes of file names that are no text.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

# A line break in a message of ours has an indented line behind it, which cannot be taken for a message of its own.
_BREAK = re.compile(r"\n(?=[ \t\n]|\Z)")

# The password of a URL ends at the last @ of its authority. One with a slash in it, which should be percent-encoded,
# is told from a port by not being a number.
_PASSWORD = re.compile(r"(://[^\s/?#@:'\"\[]*):(?:[^\s/?#'\"]*|(?!\d+(?:[,/?#\s'\"]|$))[^\s'\"]*)@")
# Where a URL of the web names a user alone, that is a token. Elsewhere it may be a container, as in abfss://.
_TOKEN = re.compile(r"(https?://)[^\s/?#@:'\"]+@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"([?&](?:sig|sas|token|[\w.-]*(?:password|passwd|secret|api_?key|token|signature))=)[^\s&#,;'\"]+", re.IGNORECASE
)
# Settings of a client of Kafka.
_SETTING = re.compile(
    r"\b((?:sasl|ssl|basic|schema|penstock_kafka)[\w.]*(?:password|secret|config|info)=)[^\s,;'\"]+", re.IGNORECASE
)
_MASK = "***"


def printable(text: str) -> str:
    r"""A text for one place in a line.

    >>> printable("s3://me:secret@b/a\x1b[2J\n.csv")
    's3://me:***@b/a\\x1b[2J\\n.csv'
    """
    return _CONTROLS.sub(_escaped, masked(text))


def printable_lines(text: str) -> str:
    r"""A message that may have several lines: a break stays where the next line is indented, or empty.

    >>> printable_lines("rule x:\n  a >\nb\n")
    'rule x:\n  a >\\nb\n'
    """
    return "".join(part if part == "\n" else printable(part) for part in re.split(f"({_BREAK.pattern})", text))


def masked(text: str) -> str:
    """A text without the passwords of its URLs and settings.

    >>> masked("http://me:p@ss@host:80/x?sig=abc, sasl.password=x")
    'http://me:***@host:80/x?sig=***, sasl.password=***'
    """
    text = _PASSWORD.sub(rf"\1:{_MASK}@", text)
    text = _TOKEN.sub(rf"\1{_MASK}@", text)
    return _SETTING.sub(rf"\1{_MASK}", _PARAMETER.sub(rf"\1{_MASK}", text))


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A value of dataclasses or JSON with each text in it changed, also those of keys."""
    match value:
        case str():
            return change(value)
        case Mapping():
            return {mapped(key, change): mapped(item, change) for key, item in value.items()}
        case tuple() | list():
            return type(value)(mapped(item, change) for item in value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: mapped(getattr(value, field.name), change) for field in dataclasses.fields(value)}
            return dataclasses.replace(value, **fields)
        case _:
            return value


def shell_word(text: str) -> str:
    r"""A text as a word of a command to copy; one with control characters is spelled out as bash and zsh read it.

    >>> shell_word("a b"), shell_word("a\nb")
    ("'a b'", "$'a\\x0ab'")
    """
    if not _CONTROLS.search(text):
        return shlex.quote(text)
    spelled = (_bytes(c) if _CONTROLS.match(c) else f"\\{c}" if c in "\\'" else c for c in text)
    return f"$'{''.join(spelled)}'"


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":  # a byte that is no text
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
