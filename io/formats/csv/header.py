"""The names of the columns of a CSV file: what line 1 says, what `--columns` says, and names for what has none."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

from penstock.io.batches import check_column_names
from penstock.io.errors import ConfigError, InputError
from penstock.io.reasons import Note
from penstock.io.reserved import RESERVED

HeaderMode = Literal["keep", "skip", "none"]
HEADER_MODES: tuple[HeaderMode, ...] = get_args(HeaderMode)

# The code of notes about columns that have another name than line 1 gives them.
RENAMED = "column.renamed"

# What to do about the names of line 1.
RENAME = "--header skip --columns NAME,NAME,... names the columns, and skips line 1"


@dataclasses.dataclass(frozen=True)
class Header:
    """Where the names of the columns and the rows of a file are.

    Attributes:
      names: of all columns; None for an empty file.
      end: the position in bytes where the rows begin.
      renamed: the names that line 1 does not have as they are: by the position of the column, from 1 on.
    """

    names: tuple[str, ...] | None
    end: int
    renamed: dict[int, str] = dataclasses.field(default_factory=dict)


def check_header(mode: str | None, names: Sequence[str] | None) -> None:
    """Refuses options of a header that are wrong or contradict each other.

    Args:
      mode: `keep`, `skip` or `none`; None leaves it to the names.
      names: the names of the columns that were given; None if none were.

    Raises:
      ConfigError: says what to pass.
    """
    if mode is not None and mode not in HEADER_MODES:
        raise ConfigError(f"--header must be one of {', '.join(HEADER_MODES)}, got {mode!r}")
    if names is None:
        return
    if mode == "keep":
        raise ConfigError("--header keep takes the names of line 1: leave out --columns, or pass --header skip")
    if not names:
        raise ConfigError("--columns must name at least one column, got none")
    try:
        check_column_names(list(names), "--columns")
    except InputError as error:
        raise ConfigError(str(error)) from error


def name_columns(fields: Sequence[str], uri: str) -> tuple[tuple[str, ...], dict[int, str]]:
    """Names all columns of a header, where some may have no name, or that of a column before.

    A column without a name is called by its position, a repeated name gets a number. Neither is a name that the header
    has. Also returns the new names by position.

    >>> name_columns(["", "a", "a", "a_2"], "t.csv")
    (('column_1', 'a', 'a_3', 'a_2'), {1: 'column_1', 3: 'a_3'})

    Raises:
      InputError: when a name is reserved.
    """
    taken, renamed = set(fields), {}
    seen: set[str] = set()
    for position, name in enumerate(fields, 1):
        if name in RESERVED:
            raise InputError(f"{uri}: column name {name!r} is reserved by Penstock; rename the column, or {RENAME}")
        if not name or name in seen:
            renamed[position] = _free(name or f"column_{position}", taken)
            taken.add(renamed[position])
        seen.add(name)
    return tuple(renamed.get(position, name) for position, name in enumerate(fields, 1)), renamed


def renamed_notes(renamed: Mapping[int, str], rows: int) -> Iterator[Note]:
    """Makes notes of the columns that have other names than line 1 gives them, for that many rows."""
    for position, name in renamed.items():
        yield Note(RENAMED, name, rows, f"line 1 names column {position} not at all, or as another one; {RENAME}")


def _free(name: str, taken: set[str]) -> str:
    """Returns the name, or if it is taken, the first one with a number that is not."""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def numbered_columns(count: int) -> tuple[str, ...]:
    """Names columns by their positions.

    >>> numbered_columns(2)
    ('column_1', 'column_2')
    """
    return tuple(f"column_{position}" for position in range(1, count + 1))
