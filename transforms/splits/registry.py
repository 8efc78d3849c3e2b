"""The kinds of splits, one entry for each: which flag asks for it, and which other flags go with it.

Reads flags by name (`--split_key` is `split_key`), as a job, a configuration and Beam YAML have them. Imports neither
Beam nor Arrow until a kind is made.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.io.errors import ConfigError
from penstock.transforms.splits.spelling import (
    HASH_VERSION,
    fold_ratios,
    parse_column,
    parse_patterns,
    parse_split,
    parse_times,
)

if TYPE_CHECKING:
    from penstock.transforms.splits.base import SplitKind

Flags = Mapping[str, Any]

# What the rows are without any of the flags.
TRAIN = "train"

# Flags that say more about a split, with what asks for nothing.
_MORE: Flags = {"split_key": (), "split_hash": HASH_VERSION, "split_gap": None, "split_stratify": None}

# Those that mean nothing, and do no harm, where there is one split only.
_MAY_BE_ALONE = frozenset({"split_key", "split_hash"})


@dataclasses.dataclass(frozen=True)
class KindEntry:
    """Describes a kind of split before its module is imported.

    Attributes:
      flag: which asks for it.
      names: returns the names of the splits, and refuses what is wrong in the flags.
      make: makes the kind, from the flags and the columns of a whole row.
      takes: other flags that go with it.
      why: why no others do.
    """

    flag: str
    names: Callable[[Flags], Sequence[str]]
    make: Callable[[Flags, Sequence[str] | None], "SplitKind"]
    takes: frozenset[str] = frozenset()
    why: str = ""


def _by_ratios(flags: Flags, columns: Sequence[str] | None) -> "SplitKind":
    return _by_hash(parse_split(flags.get("split") or TRAIN + "=1"), flags, columns)


def _by_folds(flags: Flags, columns: Sequence[str] | None) -> "SplitKind":
    return _by_hash(fold_ratios(flags["folds"]), flags, columns)


def _by_hash(ratios: Mapping[str, Any], flags: Flags, columns: Sequence[str] | None) -> "SplitKind":
    from penstock.transforms.splits.by_hash import SplitByHash

    key, version = tuple(flags.get("split_key") or ()), int(flags.get("split_hash") or HASH_VERSION)
    return SplitByHash(ratios, key, flags.get("seed") or 0, None if columns is None else tuple(columns), version)


def _by_time(flags: Flags, columns: Sequence[str] | None) -> "SplitKind":
    from penstock.transforms.splits.by_time import SplitByTime

    return SplitByTime.parse(flags["split_time"], flags.get("split_gap"))


def _by_file(flags: Flags, columns: Sequence[str] | None) -> "SplitKind":
    from penstock.transforms.splits.by_file import SplitByFile

    return SplitByFile(parse_patterns(flags["split_from"]))


def _by_column(flags: Flags, columns: Sequence[str] | None) -> "SplitKind":
    from penstock.transforms.splits.by_column import SplitByColumn

    return SplitByColumn.parse(flags["split_column"])


_HASHED = frozenset({"split_key", "split_hash", "split_stratify"})

KINDS = (
    KindEntry("split", lambda flags: list(parse_split(flags["split"])), _by_ratios, _HASHED, "time has no part in it"),
    KindEntry("folds", lambda flags: list(fold_ratios(flags["folds"])), _by_folds, _HASHED, "time has no part in it"),
    KindEntry(
        "split_time",
        lambda flags: list(parse_times(flags["split_time"], flags.get("split_gap"))),
        _by_time,
        frozenset({"split_gap"}),
        "the time of a row decides, and rows of one key may have any",
    ),
    KindEntry(
        "split_from",
        lambda flags: [name for name, _ in parse_patterns(flags["split_from"])],
        _by_file,
        why="the file of a row decides, and rows of one key may be in any",
    ),
    KindEntry(
        "split_column",
        lambda flags: list(parse_column(flags["split_column"])[1].values()),
        _by_column,
        why="the column decides, whatever key a row has",
    ),
)

KIND_FLAGS = tuple(entry.flag for entry in KINDS)

# All flags that decide which split a row is in, but the seed.
SPLIT_FLAGS = (*KIND_FLAGS, *_MORE)


def split_names(flags: Flags) -> tuple[str, ...]:
    """Returns the names of the splits that flags ask for, in order.

    Raises:
      ConfigError: for flags that are wrong, or do not go together.
    """
    entry = _entry(flags)
    return (TRAIN,) if entry is None else tuple(dict.fromkeys(entry.names(flags)))


def split_kind(flags: Flags, columns: Sequence[str] | None = None) -> "SplitKind":
    """Makes the kind of split that flags ask for; without any, one of a single split.

    Args:
      flags: by name; those that are None or empty are not given.
      columns: the columns of a whole row; None for those of each batch.

    Raises:
      ConfigError: for flags that are wrong, or do not go together.
    """
    entry = _entry(flags)
    return _by_ratios(flags, columns) if entry is None else entry.make(flags, columns)


def _entry(flags: Flags) -> KindEntry | None:
    given = [entry for entry in KINDS if flags.get(entry.flag) not in (None, "")]
    if len(given) > 1:
        names = " and ".join(f"--{entry.flag}" for entry in given)
        raise ConfigError(f"{names} each say what the splits are: pass one of them")
    entry = given[0] if given else None
    for name, none in _MORE.items():
        if flags.get(name) not in (none, None, "", []):
            _check_goes_with(name, entry)
    return entry


def _check_goes_with(name: str, entry: KindEntry | None) -> None:
    if entry is not None and name not in entry.takes:
        raise ConfigError(f"--{name} does not go with --{entry.flag}: {entry.why}")
    if entry is None and name not in _MAY_BE_ALONE:
        kinds = " or ".join(f"--{kind.flag}" for kind in KINDS if name in kind.takes)
        raise ConfigError(f"--{name} is about several splits: pass {kinds} too")
