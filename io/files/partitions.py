"""Hive partitions: folders `key=value` above a file are columns of its rows, as Hive, Spark and Arrow write them.

The folders that count are the unbroken run directly above the file, in the path as it is given::

    weather/year=2014/month=02/a.parquet     year=2014, month=02
    /srv/run=7/data/a.parquet                none: `data` lies between
    year=2014/extra/a.parquet                none, for the same reason

So what a folder far above the data is called adds no column, and the path of a row alone says which columns it has.

Keys and values are unescaped (`%2F`), and `__HIVE_DEFAULT_PARTITION__` is null. A value is a text. Where all files of
an input have whole numbers in a key, spelled as the grammar of texts has them, the column is one of integers. Other
engines read `02` as 2; here a leading zero makes a text until a schema says INT, since `zip=08540` is no number.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal
from urllib.parse import unquote

from penstock.io.errors import InputError
from penstock.io.reserved import RESERVED

Partitioning = Literal["auto", "none"]

# The form of a column of integers; any other is one of texts.
WHOLE = "whole numbers"

_NULL = "__HIVE_DEFAULT_PARTITION__"

_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")

_MIN_INT64, _MAX_INT64 = -(1 << 63), (1 << 63) - 1

_PADDING = re.compile(r"^(-?)0+(?=[0-9])")

_REMEDY = "rename the folder, or pass --partitioning none to take folders as plain names"


def partition_values(uri: str) -> dict[str, str | None]:
    """Returns the columns that the folders above a file stand for, from the outermost to the innermost.

    >>> partition_values("weather/year=2014/city=S%C3%A3o%20Paulo/a.csv")
    {'year': '2014', 'city': 'São Paulo'}

    Raises:
      InputError: when a name is reserved or stands in two folders, or an escape is not UTF-8.
    """
    values: dict[str, str | None] = {}
    for folder in _partition_folders(uri):
        key, _, value = folder.partition("=")
        name, text = _unescaped(key, folder, uri), _unescaped(value, folder, uri)
        if name in RESERVED:
            raise InputError(f"{uri}: the folder {folder!r} gives a column name that Penstock reserves; {_REMEDY}")
        if name in values:
            raise InputError(f"{uri}: two folders give the column {name!r}; {_REMEDY}")
        values[name] = None if value == _NULL else text
    return values


def _partition_folders(uri: str) -> list[str]:
    folders: list[str] = []
    for folder in reversed(uri.partition("://")[2].split("/")[1:-1] if "://" in uri else uri.split("/")[:-1]):
        if not _is_partition(folder):
            break
        folders.append(folder)
    return folders[::-1]


def _is_partition(folder: str) -> bool:
    return folder.find("=") > 0


def _unescaped(text: str, folder: str, uri: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise InputError(f"{uri}: the escapes of the folder {folder!r} are not UTF-8; {_REMEDY}") from error


def unused_partition(uris: Iterable[str]) -> tuple[str, str] | None:
    """Returns the first file below a folder `key=value` that is no column, since others lie between; with that folder.

    >>> unused_partition(["year=2014/extra/a.csv"])
    ('year=2014/extra/a.csv', 'year=2014')
    """
    for uri in uris:
        if "=" in uri and not _partition_folders(uri):
            folder = next(filter(_is_partition, reversed(uri.split("/")[:-1])), None)
            if folder is not None:
                return uri, folder
    return None


def partition_columns(uris: Iterable[str]) -> dict[str, str]:
    """Returns the columns that the folders of all files stand for, each with the form of its values, in words.

    >>> partition_columns(["y=2014/m=02/a.csv", "y=2015/m=10/a.csv"])
    {'y': 'whole numbers', 'm': 'texts, since 02 has a leading zero; a schema with INT reads numbers'}

    Raises:
      InputError: when files have different columns, and as `partition_values` does.
    """
    found: dict[str, set[str | None]] = {}
    first = None
    for uri in uris:
        values = partition_values(uri)
        if first is None:
            first, found = uri, {name: set() for name in values}
        if values.keys() != found.keys():
            raise _different(first, found, uri, values)
        for name, text in values.items():
            found[name].add(text)
    return {name: _form([text for text in texts if text is not None]) for name, texts in found.items()}


def _form(texts: Sequence[str]) -> str:
    if texts and all(map(is_whole_number, texts)):
        return WHOLE
    padded = sorted(text for text in texts if not is_whole_number(text))
    if padded and all(is_whole_number(number_text(text)) for text in padded):
        return f"texts, since {padded[0]} has a leading zero; a schema with INT reads numbers"
    return "texts"


def _different(first: str, names: Iterable[str], uri: str, others: Iterable[str]) -> InputError:
    has, others_has = (", ".join(found) or "no columns" for found in (names, others))
    return InputError(
        f"the folders of the files give different columns: {first} has {has}, {uri} has {others_has}; name files of "
        "folders that are alike, or pass --partitioning none to take folders as plain names"
    )


def is_whole_number(text: str) -> bool:
    """Returns whether a text is an INT as the grammar of texts has it.

    >>> [is_whole_number(text) for text in ("2014", "-1", "02", "1.0", "9223372036854775808")]
    [True, True, False, False, False]
    """
    return _WHOLE_NUMBER.fullmatch(text) is not None and _MIN_INT64 <= int(text) <= _MAX_INT64


def number_text(text: str) -> str:
    """Returns a number without the leading zeros that folders are padded with; any other text as it is.

    >>> [number_text(text) for text in ("02", "-007", "00", "00.5", "x01")]
    ['2', '-7', '0', '0.5', 'x01']
    """
    return _PADDING.sub(r"\1", text)
