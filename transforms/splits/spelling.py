"""What the flags of splits spell. Imports neither Beam nor Arrow: a command line is read before they are loaded."""

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from penstock.io.beam.durations import parse_duration
from penstock.io.errors import ConfigError

Ratio: TypeAlias = float | Fraction

# The version of the hash that splits have, unless an older one is asked for (`penstock.io.columns.hashing`).
HASH_VERSION = 2

# Folders of a dataset that are not splits.
RESERVED_NAMES = frozenset({"dead_letters", "statistics", "transform", "windows"})

# The names of parts that are given without names, such as `8,1,1`.
DEFAULT_NAMES = ("train", "eval", "test")

MAX_FOLDS = 1000

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_NUMBER = re.compile(r"-?(?:[0-9]{1,18}/[0-9]{1,18}|(?:[0-9]{1,18}\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?")
_SUM_TOLERANCE = 1e-9

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def parse_split(text: str) -> dict[str, Fraction]:
    """Parses the parts of `train=0.8,eval=0.1,test=0.1`, in that order, as exact numbers that sum to 1.

    A part is a decimal, a percentage (`80%`) or a fraction (`2/3`); the parts sum to 1. If all of them are whole
    numbers, they are weights. Up to three parts without names are those of train, eval and test.

    >>> parse_split("train=0.9, eval=0.1")
    {'train': Fraction(9, 10), 'eval': Fraction(1, 10)}
    >>> parse_split("8,1,1") == parse_split("train=80%,eval=10%,test=1/10")
    True

    Raises:
      ConfigError: for anything else, a name used twice, and what `check_ratios` refuses.
    """
    parts = [_named_part(part, text) for part in text.split(",")]
    named = _with_default_names(parts, text)
    ratios: dict[str, Fraction] = {}
    for name, number in named:
        if name in ratios:
            raise ConfigError(f"--split names {name!r} twice, in {text!r}")
        ratios[name] = _number(name, number)
    total = sum(ratios.values())
    if total > 1 and all(number.isdecimal() for _, number in named):
        ratios = {name: weight / total for name, weight in ratios.items()}
    check_ratios(ratios)
    return ratios


def _named_part(part: str, text: str) -> tuple[str | None, str]:
    name, equals, number = (piece.strip() for piece in part.partition("="))
    if not equals and (not name or name[0].isalpha()):
        raise ConfigError(f"--split must look like train=0.8,eval=0.2 or 8,1,1, got {text!r}")
    return (name, number) if equals else (None, name)


def _with_default_names(parts: Sequence[tuple[str | None, str]], text: str) -> list[tuple[str, str]]:
    if all(name is not None for name, _ in parts):
        return [(str(name), number) for name, number in parts]
    if any(name is not None for name, _ in parts):
        raise ConfigError(f"--split must name all of its parts or none, got {text!r}")
    if len(parts) > len(DEFAULT_NAMES):
        raise ConfigError(
            f"--split has names for up to {len(DEFAULT_NAMES)} parts ({', '.join(DEFAULT_NAMES)}); name each of these "
            f"{len(parts)}, as in train=8,eval=1,test=1; got {text!r}"
        )
    return [(name, number) for name, (_, number) in zip(DEFAULT_NAMES, parts, strict=False)]


def _number(name: str, text: str) -> Fraction:
    number, percent = (text[:-1].rstrip(), 100) if text.endswith("%") else (text, 1)
    try:
        if _NUMBER.fullmatch(number):
            return Fraction(number) / percent
    except ZeroDivisionError:
        pass
    raise ConfigError(f"--split {name}: the ratio must be a number, such as 0.8, 80%, 4/5 or 8, got {text!r}")


def check_ratios(ratios: Mapping[str, Ratio]) -> None:
    """Rejects splits that no dataset can have.

    Raises:
      ConfigError: when there is none, a name is unfit for a folder or reserved, a ratio is not in (0, 1], or the
        ratios do not sum to 1.
    """
    check_names(ratios, "split must name at least one split, such as train=1")
    for name, ratio in ratios.items():
        if not 0 < float(ratio) <= 1:
            raise ConfigError(f"split {name}: the ratio must be above 0 and at most 1, got {_shown(ratio)}")
    total = sum(map(exact, ratios.values()), Fraction(0))
    if abs(total - 1) > _SUM_TOLERANCE:
        raise ConfigError(
            f"split ratios must sum to 1, got {' + '.join(map(_shown, ratios.values()))} = {float(total)}"
        )


def check_names(names: Iterable[str], if_none: str) -> None:
    """Rejects names of splits that no folder of a dataset can have.

    Raises:
      ConfigError: naming it; with the text `if_none` if there is none.
    """
    names = tuple(names)
    if not names:
        raise ConfigError(if_none)
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"split names are lower-case letters, digits, '_' and '-', after a letter; got {name!r}")
        if name in RESERVED_NAMES:
            reserved = ", ".join(sorted(RESERVED_NAMES))
            raise ConfigError(f"split name {name!r} is a folder of the dataset; the reserved names are {reserved}")


def exact(ratio: Ratio) -> Fraction:
    """Returns a ratio as it is written: 0.1 is a tenth, not the binary fraction next to it."""
    return ratio if isinstance(ratio, Fraction) else Fraction(repr(float(ratio)))


def _shown(ratio: Ratio) -> str:
    short = f"{float(ratio):.6g}"
    return short if not isinstance(ratio, Fraction) or Fraction(short) == ratio else str(ratio)


def fold_ratios(text: str | int) -> dict[str, Fraction]:
    """Returns `fold_0` to `fold_<n - 1>`, of one size.

    >>> list(fold_ratios("3"))
    ['fold_0', 'fold_1', 'fold_2']

    Raises:
      ConfigError: when the text is no whole number from 2 to 1000.
    """
    if not (str(text).isdecimal() and len(str(text)) < 5 and 2 <= int(text) <= MAX_FOLDS):
        raise ConfigError(f"--folds must be a whole number from 2 to {MAX_FOLDS}, got {text!r}")
    return {f"fold_{index}": Fraction(1, int(text)) for index in range(int(text))}


def parse_times(text: str, gap: str | None = None) -> dict[str, int | None]:
    """Parses `train<2026-06-01, eval<2026-07-01, test`: the end of each split in microseconds since 1970, None at last.

    A time is ISO 8601, UTC where it has no offset. It is the first moment that is no longer in the split.

    >>> parse_times("train<2026-06-01, eval<2026-07-01T12:00+02:00, test")
    {'train': 1780272000000000, 'eval': 1782900000000000, 'test': None}

    Raises:
      ConfigError: for anything else, times that do not ascend, or a gap that leaves no moment to a split.
    """
    parts = [part.partition("<") for part in text.split(",")]
    names = [name.strip() for name, _, _ in parts]
    if not all(mark for _, mark, _ in parts[:-1]) or parts[-1][1] or len(parts) < 2:
        raise ConfigError(
            "--split_time must look like 'train<2026-06-01, eval<2026-07-01, test': each split with the time at which "
            f"it ends, and the last one without, got {text!r}"
        )
    check_names(names, "")
    if len(set(names)) < len(names):
        raise ConfigError(f"--split_time names a split twice, in {text!r}")
    ends = [_micros(time.strip()) for _, _, time in parts[:-1]]
    for index, name in enumerate(names[1:-1]):
        if ends[index + 1] <= ends[index]:
            raise ConfigError(f"--split_time: {name!r} must end after {names[index]!r}, in {text!r}")
        if gap is not None and ends[index + 1] - ends[index] <= gap_micros(gap):
            raise ConfigError(f"--split_gap {gap} leaves no time to {name!r}, in --split_time {text!r}")
    return dict(zip(names, [*ends, None], strict=True))


def gap_micros(gap: str) -> int:
    """Returns a duration such as `1d` in microseconds.

    Raises:
      ConfigError: for anything else, or a duration of 0.
    """
    micros = parse_duration(gap) // _MICROSECOND
    if not micros:
        raise ConfigError(f"--split_gap must be longer than 0, got {gap!r}; leave it out for no gap")
    return micros


def _micros(text: str) -> int:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        time = datetime.datetime.fromisoformat(text)
        utc = time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time
        return (utc - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"--split_time: a time must be ISO 8601, such as 2026-06-01 or 2026-06-01T12:00Z, got {text!r}"
        ) from error


def parse_patterns(text: str) -> tuple[tuple[str, str], ...]:
    """Parses `train=train/*,eval=eval/*`: split names and patterns of files; a name may have several patterns.

    Raises:
      ConfigError: for anything else.
    """
    parts = [tuple(piece.strip() for piece in part.partition("=")) for part in text.split(",")]
    if not all(mark and pattern for _, mark, pattern in parts):
        raise ConfigError(
            f"--split_from must look like 'train=train/*,eval=eval/*': splits and patterns of files, got {text!r}"
        )
    check_names((name for name, _, _ in parts), "")
    return tuple((name, pattern) for name, _, pattern in parts)


def parse_column(text: str) -> tuple[str, dict[str, str]]:
    """Parses `COLUMN` or `COLUMN:train=TRAINING,eval`: the column, and the split that each of its values names.

    Without names, the values are `train`, `eval` and `test`. A name without a value is its own value.

    >>> parse_column("use:train=TRAINING,eval")
    ('use', {'TRAINING': 'train', 'eval': 'eval'})

    Raises:
      ConfigError: for anything else.
    """
    column, _, names = text.partition(":")
    if not column.strip():
        raise ConfigError(f"--split_column must be COLUMN or COLUMN:train,eval, got {text!r}")
    values: dict[str, str] = {}
    for part in names.split(",") if names else DEFAULT_NAMES:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        value = value if equals else name
        if value in values:
            raise ConfigError(f"--split_column gives the value {value!r} twice, in {text!r}")
        values[value] = name
    check_names(values.values(), "")
    return column.strip(), values
