"""Windows of event time and of processing time: their specification, the windows of each row, and their names.

A window of event time is [start, start + size) in microseconds since 1970, and starts are multiples of the period,
before 1970 too. With `fixed:60s` size and period are the same, and a row lies in one window; with `sliding:60s/10s` it
lies in six.

A window of processing time, `flush:100000/30s`, has the rows that come between its start and its end, whatever their
event times are.

A command line is read before Beam and numpy are loaded: only the functions that need these import them.
"""

import dataclasses
import datetime
import re
from typing import TYPE_CHECKING, Self, TypeAlias

from penstock.io.beam.durations import (
    MILLISECOND,
    AnyDuration,
    as_duration,
    duration_text,
    micros,
    parse_duration,
)
from penstock.io.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from apache_beam.transforms.window import WindowFn

    Times = npt.NDArray[np.int64]

_FLUSH = "flush:"

_NAME = re.compile(r"(-?\d{4,6})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\.\d{6})?Z")


@dataclasses.dataclass(frozen=True)
class Windows:
    """Fixed or sliding windows of event time.

    Attributes:
      size: the length of a window, in whole milliseconds.
      period: the time from one start to the next, at most `size`.

    Raises:
      ConfigError: when windows cannot have this size or period.
    """

    size: datetime.timedelta
    period: datetime.timedelta

    def __post_init__(self) -> None:
        for name in ("size", "period"):
            value = as_duration(getattr(self, name), f"the {name} of windows", MILLISECOND, MILLISECOND)
            object.__setattr__(self, name, value)
        if self.period > self.size:
            raise ConfigError(
                f"the period of sliding windows must be at most their size, or rows between them are lost, got "
                f"{duration_text(self.size)}/{duration_text(self.period)}"
            )

    def __str__(self) -> str:
        size = duration_text(self.size)
        return f"fixed:{size}" if self.is_fixed else f"sliding:{size}/{duration_text(self.period)}"

    @property
    def is_fixed(self) -> bool:
        """Whether each row lies in only one window."""
        return self.size == self.period

    def latest(self, time: int) -> int:
        """Returns the start of the last window that contains this time."""
        return time - time % micros(self.period)

    def end(self, start: int) -> int:
        """Returns the end of the window that begins at `start`."""
        return start + micros(self.size)

    def assign(self, times: "Times") -> "tuple[Times, Times]":
        """Assigns rows to windows: returns int64 indices into `times`, and for each the start of a window.

        With sliding windows an index appears once for each of its windows.
        """
        import numpy as np

        size, period = micros(self.size), micros(self.period)
        latest = times - times % period
        if self.is_fixed:
            return np.arange(len(times)), latest
        # A time lies in the latest window and in those 1, 2, ... periods before it, as long as they end after the time.
        steps = np.arange(-(-size // period)) * period
        starts = latest[:, None] - steps
        rows, columns = np.nonzero(starts + size > times[:, None])
        return rows, starts[rows, columns]

    def ordinal(self, start: int) -> int:
        """Returns the place of a window among all windows."""
        return start // micros(self.period)

    def between(self, first: int, last: int) -> range:
        """Returns the starts of the windows after the one at `first` and before the one at `last`."""
        period = micros(self.period)
        return range(first + period, last, period)

    def name(self, start: int) -> str:
        """Names a window by start and end, as in file names.

        >>> parse_window("fixed:1m").name(0)
        '19700101T000000Z_19700101T000100Z'
        """
        return f"{time_name(start)}_{time_name(self.end(start))}"

    @classmethod
    def of_beam(cls, windowfn: "WindowFn") -> Self | None:
        """Converts Beam's fixed or sliding windows; returns None for other kinds.

        Raises:
          ConfigError: when the windows have an offset.
        """
        from apache_beam.transforms.window import FixedWindows, SlidingWindows

        if not isinstance(windowfn, FixedWindows | SlidingWindows):
            return None
        if windowfn.offset.micros:
            raise ConfigError(f"WriteDataset writes windows without offset, got one of {windowfn.offset}")
        period = windowfn.period if isinstance(windowfn, SlidingWindows) else windowfn.size
        return cls(*(datetime.timedelta(microseconds=each.micros) for each in (windowfn.size, period)))


@dataclasses.dataclass(frozen=True)
class FlushWindows:
    """Windows of processing time, which end when they have enough rows or are old enough.

    A window takes the rows that come, whatever their event times are. Its start is the time at which its first rows
    came, by the clock of the worker that gathers them; no two windows of a stream have the same start. It ends with
    whatever comes first of `rows` and `every`.

    Attributes:
      rows: the number of rows, good and rejected, with which a window ends; None for any number. Bundles of the reader
        are not cut, so that a window has at least so many rows, and those of one more bundle at most.
      every: how long after its start a window ends, in whole milliseconds; None for any time.

    Raises:
      ConfigError: if both are None, or one is out of range.
    """

    rows: int | None = None
    every: AnyDuration | None = None

    def __post_init__(self) -> None:
        if self.rows is None and self.every is None:
            raise ConfigError("windows of processing time end by flush_rows, flush_every, or both; got neither")
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"flush_rows must be >= 1, got {self.rows}")
        if self.every is not None:
            object.__setattr__(self, "every", as_duration(self.every, "flush_every", MILLISECOND, MILLISECOND))

    def __str__(self) -> str:
        age = None if self.age is None else duration_text(self.age)
        return _FLUSH + "/".join(str(end) for end in (self.rows, age) if end is not None)

    @property
    def age(self) -> datetime.timedelta | None:
        """`every` as a timedelta, even if it was given as text."""
        return None if self.every is None else as_duration(self.every, "flush_every")

    def ordinal(self, start: int) -> int:
        """Returns a number of a window that grows with its start."""
        return start

    def name(self, start: int) -> str:
        """Names a window by its start, as in file names: when it ends is not known when its first files are written.

        >>> FlushWindows(rows=9).name(1_500_000)
        '19700101T000001.500000Z'
        """
        return time_name(start)


AnyWindows: TypeAlias = Windows | FlushWindows


def parse_windows(text: str) -> AnyWindows:
    """Parses the text of windows of either kind, as manifests have it.

    >>> parse_windows("flush:100000/30s").rows
    100000

    Raises:
      ConfigError: when the text is anything else.
    """
    if not is_flushed(text):
        return parse_window(text)
    parts = text.removeprefix(_FLUSH).split("/")
    rows = parts.pop(0) if parts[0].isdecimal() else None
    if len(parts) > 1 or (rows is None and not parts[0]):
        raise ConfigError(f"windows of processing time must be flush:ROWS/DURATION, or one of both, got {text!r}")
    return FlushWindows(None if rows is None else int(rows), parts[0] if parts else None)


def is_flushed(text: str) -> bool:
    """Whether windows are those of processing time, by their text."""
    return text.startswith(_FLUSH)


def parse_window(text: str) -> Windows:
    """Parses `fixed:SIZE` or `sliding:SIZE/PERIOD`.

    >>> parse_window("sliding:60s/10s").size
    datetime.timedelta(seconds=60)

    Raises:
      ConfigError: when the text is anything else.
    """
    kind, _, rest = text.partition(":")
    if kind == "session":
        raise ConfigError(
            "--window session: is refused: sessions begin and end for each key of the data by itself, so that no file "
            "of a dataset could hold one; use fixed:SIZE or sliding:SIZE/PERIOD"
        )
    parts = rest.split("/")
    if (kind, len(parts)) not in (("fixed", 1), ("sliding", 2)):
        raise ConfigError(f"--window must be fixed:SIZE or sliding:SIZE/PERIOD, such as fixed:60s, got {text!r}")
    durations = [parse_duration(part) for part in parts]
    return Windows(durations[0], durations[-1])


def time_name(time: int) -> str:
    """Writes a time in ISO basic format, UTC, with a fraction only if there is one: no character is special in a glob.

    Args:
      time: microseconds since 1970.

    >>> time_name(0), time_name(1_500_000)
    ('19700101T000000Z', '19700101T000001.500000Z')
    """
    import numpy as np

    unit = "us" if time % 1_000_000 else "s"
    text = str(np.datetime64(time, "us").astype(f"datetime64[{unit}]"))
    return text[0] + text[1:].replace("-", "").replace(":", "") + "Z"


def parse_time_name(name: str) -> int:
    """Parses a `time_name` to microseconds since 1970.

    Raises:
      ValueError: when the text is not a `time_name`.
    """
    import numpy as np

    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"not a time of a window: {name!r}")
    year, month, day, hour, minute, second, fraction = found.groups(default="")
    return int(np.datetime64(f"{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}", "us").astype(np.int64))
