"""What a watcher of files knows from one look to the next, and how one look follows from another.

See `penstock.io.sources.watch` for what is promised.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Mapping, Sequence

from apache_beam import coders
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker

from penstock.io.files.inputs import InputFile

# A file that is not in this many listings, one after the other, is forgotten: some file systems list late.
_FORGET_LOOKS = 3

# Stands for no event time: no other number is as low.
_NO_TIME = -(1 << 63)

_Key = bytes
_Stamp = bytes
_ENTRY = struct.Struct("<16s8sB")
_HEADER = struct.Struct("<?qqqqq")


def _key(file: InputFile) -> _Key:
    return hashlib.blake2b(file.uri.encode(), digest_size=16).digest()


def _stamp(file: InputFile) -> _Stamp:
    """Eight bytes that tell one state of a file from another."""
    return hashlib.blake2b(f"{file.size} {file.mtime!r}".encode(), digest_size=8).digest()


@dataclasses.dataclass(frozen=True)
class Watched:
    """What a watcher knows between two looks.

    Attributes:
      read: files that were handed on: key to the state they had, and in how many looks they have been missing.
      growing: files that may still be written: key to the state that the last look found.
      looks_left: how often to look; -1 for ever.
      latest: latest event time found, microseconds since 1970; None without.
      found: when a file was last finished, or the first look was; microseconds since 1970, 0 before it.
      is_over: nothing is left to do.
    """

    read: Mapping[_Key, tuple[_Stamp, int]] = dataclasses.field(default_factory=dict)
    growing: Mapping[_Key, _Stamp] = dataclasses.field(default_factory=dict)
    looks_left: int = -1
    latest: int | None = None
    found: int = 0
    is_over: bool = False


@dataclasses.dataclass(frozen=True)
class Look:
    """What one look found: the files that are finished now, and those that changed after they were handed on."""

    watched: Watched
    finished: tuple[InputFile, ...]
    changed: tuple[InputFile, ...]


def look(watched: Watched, files: Sequence[InputFile], now: int) -> Look:
    """Tells the finished files of a listing from those that may still be written; time is linear in the listing.

    Args:
      watched: what is known.
      files: all files that are there now, each once.
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
    """25 bytes for each file, and a few more."""

    def encode(self, value: Watched) -> bytes:
        """Header, then the files that were read, then those that grow."""
        latest = _NO_TIME if value.latest is None else value.latest
        header = _HEADER.pack(value.is_over, len(value.read), len(value.growing), value.looks_left, latest, value.found)
        entries = [_ENTRY.pack(key, stamp, missed) for key, (stamp, missed) in value.read.items()]
        entries += [_ENTRY.pack(key, stamp, 0) for key, stamp in value.growing.items()]
        return b"".join([header, *entries])

    def decode(self, encoded: bytes) -> Watched:
        """The inverse of `encode`."""
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
        """False: the order of the files is that of their finding."""
        return False

    def to_type_hint(self) -> type:
        """The element type."""
        return Watched


_OVER = Watched(is_over=True)


class LookTracker(RestrictionTracker):
    """One look is one claim; a checkpoint leaves all further looks to whoever goes on."""

    def __init__(self, watched: Watched):
        self._watched = watched
        self._next: Watched | None = None

    def current_restriction(self) -> Watched:
        """What is known."""
        return self._watched

    def try_claim(self, position: Watched) -> bool:
        """Claims a look by what is known after it; False when a checkpoint came first."""
        if self._watched.is_over or self._next is not None:
            return False
        self._next = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Watched, Watched] | None:
        """Everything but the look that was claimed."""
        if self._watched.is_over:
            return None
        rest = self._watched if self._next is None else self._next
        self._watched = _OVER
        return _OVER, rest

    def check_done(self) -> bool:
        """True after a claim or a checkpoint.

        Raises:
          ValueError: when there was neither.
        """
        if self._next is None and not self._watched.is_over:
            raise ValueError("a look was neither claimed nor left to somebody else")
        return True

    def current_progress(self) -> RestrictionProgress:
        """A look is done or it is not."""
        done = float(self._next is not None or self._watched.is_over)
        return RestrictionProgress(completed=done, remaining=1 - done)

    def is_bounded(self) -> bool:
        """Whether nothing is left to do."""
        return self._watched.is_over
