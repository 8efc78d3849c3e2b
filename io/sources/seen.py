"""The state that a watcher of files keeps between looks, and how one look changes it.

`penstock.io.sources.watch` describes the guarantees.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Mapping, Sequence

from apache_beam import coders
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker

from penstock.io.files.inputs import InputFile
from penstock.io.files.paths import is_local

# A file that is missing from this many listings in a row is forgotten: some file systems list late.
_FORGET_LOOKS = 3

# Stands for no event time: the lowest int64.
_NO_TIME = -(1 << 63)

_Key = bytes
_Stamp = bytes
_ENTRY = struct.Struct("<16s8sB")
_HEADER = struct.Struct("<?qqqqq")


def _key(file: InputFile) -> _Key:
    return hashlib.blake2b(file.uri.encode(), digest_size=16).digest()


def _stamp(file: InputFile) -> _Stamp:
    """Returns eight bytes that identify a state of a file: its size, modification time, and version of an object."""
    version = "" if is_local(file.uri) or not file.version else f" {file.version}"
    return hashlib.blake2b(f"{file.size} {file.mtime!r}{version}".encode(), digest_size=8).digest()


@dataclasses.dataclass(frozen=True)
class Watched:
    """The state of a watcher between two looks.

    Attributes:
      read: files that were handed on: key to their last state, and the number of looks in which they were missing.
      growing: files that may still be written: key to the state that the last look found.
      looks_left: how often to look; -1 for ever.
      latest: the latest event time found, microseconds since 1970; None if there is none.
      found: the time of the last look that found a finished file, or of the first look; microseconds since 1970, 0
        before the first look.
      is_over: no look is left to do.
    """

    read: Mapping[_Key, tuple[_Stamp, int]] = dataclasses.field(default_factory=dict)
    growing: Mapping[_Key, _Stamp] = dataclasses.field(default_factory=dict)
    looks_left: int = -1
    latest: int | None = None
    found: int = 0
    is_over: bool = False


@dataclasses.dataclass(frozen=True)
class Look:
    """The result of one look: files that are finished now, and files that changed after they were handed on."""

    watched: Watched
    finished: tuple[InputFile, ...]
    changed: tuple[InputFile, ...]


def look(watched: Watched, files: Sequence[InputFile], now: int) -> Look:
    """Separates the finished files of a listing from those that may still be written, in linear time.

    Args:
      watched: the state before the look.
      files: all files that exist now, each once.
      now: microseconds since 1970.
    """
    read, growing = {}, {}
    finished, changed = [], []
    for file in files:
        key, stamp = _key(file), _stamp(file)
        before = watched.read.get(key)
        if before is not None:
            read[key] = (stamp, 0)
            if before[0] != stamp:
                changed.append(file)
        elif watched.growing.get(key) == stamp:
            read[key] = (stamp, 0)
            finished.append(file)
        else:
            growing[key] = stamp
    for key, (stamp, missed) in watched.read.items():
        if key not in read and missed + 1 < _FORGET_LOOKS:
            read[key] = (stamp, missed + 1)
    next_state = Watched(
        read,
        growing,
        looks_left=max(watched.looks_left - 1, -1),
        latest=watched.latest,
        found=now if finished or not watched.found else watched.found,
    )
    return Look(next_state, tuple(finished), tuple(changed))


class WatchedCoder(coders.Coder):
    """Encodes a state with 25 bytes for each file, and a header."""

    def encode(self, value: Watched) -> bytes:
        """Writes the header, then the read files, then the growing ones."""
        latest = _NO_TIME if value.latest is None else value.latest
        header = _HEADER.pack(value.is_over, len(value.read), len(value.growing), value.looks_left, latest, value.found)
        entries = [_ENTRY.pack(key, stamp, missed) for key, (stamp, missed) in value.read.items()]
        entries += [_ENTRY.pack(key, stamp, 0) for key, stamp in value.growing.items()]
        return b"".join([header, *entries])

    def decode(self, encoded: bytes) -> Watched:
        """Decodes the result of `encode`."""
        is_over, reads, _, looks_left, latest, found = _HEADER.unpack_from(encoded)
        entries = list(_ENTRY.iter_unpack(memoryview(encoded)[_HEADER.size :]))
        return Watched(
            read={key: (stamp, missed) for key, stamp, missed in entries[:reads]},
            growing={key: stamp for key, stamp, _ in entries[reads:]},
            looks_left=looks_left,
            latest=None if latest == _NO_TIME else latest,
            found=found,
            is_over=is_over,
        )

    def is_deterministic(self) -> bool:
        """Returns False: the files are in the order in which they were found."""
        return False

    def to_type_hint(self) -> type:
        """Returns `Watched`."""
        return Watched


_OVER = Watched(is_over=True)


class LookTracker(RestrictionTracker):
    """Makes one look one claim; a checkpoint leaves all further looks to the next bundle."""

    def __init__(self, watched: Watched):
        self._watched = watched
        self._next: Watched | None = None

    def current_restriction(self) -> Watched:
        """Returns the state before the look."""
        return self._watched

    def try_claim(self, position: Watched) -> bool:
        """Claims a look by the state after it; returns False when a checkpoint came first."""
        if self._watched.is_over or self._next is not None:
            return False
        self._next = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Watched, Watched] | None:
        """Splits off everything but the claimed look."""
        if self._watched.is_over:
            return None
        rest = self._watched if self._next is None else self._next
        self._watched = _OVER
        return _OVER, rest

    def check_done(self) -> bool:
        """Checks that there was a claim or a checkpoint.

        Raises:
          ValueError: when there was neither.
        """
        if self._next is None and not self._watched.is_over:
            raise ValueError("a look was neither claimed nor left to somebody else")
        return True

    def current_progress(self) -> RestrictionProgress:
        """Returns 1 of 1 after the look, else 0 of 1."""
        done = float(self._next is not None or self._watched.is_over)
        return RestrictionProgress(completed=done, remaining=1 - done)

    def is_bounded(self) -> bool:
        """Returns whether no look is left to do."""
        return self._watched.is_over
