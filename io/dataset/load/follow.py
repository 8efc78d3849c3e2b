"""Following a dataset: the rows of what is published, as it comes, each once, and where in them a run is."""

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import pyarrow as pa

from penstock.io.dataset.load.arrays import Arrays, ToArrays
from penstock.io.dataset.load.batches import Batches, Convert, Last, Reading, to_batches
from penstock.io.dataset.load.published import Part, Published, PublishedSpans, PublishedWindows
from penstock.io.dataset.load.shards.contents import Contents, StoredShard
from penstock.io.dataset.load.shards.files import join, read_if_there
from penstock.io.dataset.options import MANIFEST
from penstock.io.errors import ConfigError

_T = TypeVar("_T")

_STATE_VERSION = 1

# So many windows are read as one: batches go across them, and a state names their shards.
_MAX_PARTS = 256


@dataclasses.dataclass(frozen=True)
class Follow:
    """How a dataset is followed.

    Attributes:
      poll: seconds between two looks, when there was nothing new.
      until: whether to end, once nothing is new; None for never.
    """

    poll: float
    until: Callable[[], bool] | None


@dataclasses.dataclass(frozen=True)
class _Group:
    """Parts that are read as one, and the place in them.

    Attributes:
      shards: of the split.
      after: of each part.
    """

    shards: tuple[StoredShard, ...]
    after: tuple[Mapping[str, Any], ...]

    def contents(self, of: Contents, split: str) -> Contents:
        """Returns the contents of a dataset that has these shards alone."""
        lines = "".join(f"{shard.path} {shard.records}\n" for shard in self.shards)
        return dataclasses.replace(
            of,
            dataset_ids=(hashlib.sha256(lines.encode()).hexdigest(),),
            splits={split: sum(shard.records for shard in self.shards)},
            shards=self.shards,
        )


class FollowedBatches(Generic[_T]):
    """Batches of what is published, in the order of publication: a loop waits for more, and ends when it is told to.

    What is found at one look is read as one, up to 256 windows, so only its last batch may be short. Among ranks each
    window is read for itself, shared as an epoch is.

    Attributes:
      skipped: rows that could not be read so far (`damaged="skip"`).
    """

    def __init__(self, reading: Reading, batch_size: int, last: Last, convert: Convert[_T], follow: Follow):
        # Checked here, and not at the first window.
        Batches(reading, batch_size, last, convert)
        self._reading = reading
        self._arguments = batch_size, last, convert
        self._follow = follow
        directory = reading.contents.directory
        is_whole = read_if_there(join(directory, MANIFEST)) is not None
        self._published: Published = PublishedSpans(directory) if is_whole else PublishedWindows(directory)
        self._waiting: list[_Group] = []
        self._group: _Group | None = None
        self._batches: Batches[_T] | None = None
        self._skipped = 0
        self._loops = 0

    @property
    def skipped(self) -> int:
        """Rows that could not be read so far."""
        return self._skipped + (self._batches.skipped if self._batches is not None else 0)

    def __iter__(self) -> Iterator[_T]:
        """Yields batches from where it is.

        Raises:
          InputError: as a loop over `Batches`.
          DataError: the same; for a window that was published again without rows that were read; for a span or window
            that was not read yet and whose shards are deleted.
        """
        self._loops += 1
        return self._all(self._loops)

    def _all(self, loop: int) -> Iterator[_T]:
        while self._batches is not None or self._begin():
            batches = self._batches
            assert batches is not None
            for batch in batches:
                if loop != self._loops:
                    raise RuntimeError("another loop over these batches has begun: follow the dataset once for each")
                yield batch
            if self._batches is batches:
                self._finish()

    def _begin(self) -> bool:
        """Begins with what is published next, once there is something; False when it is to end."""
        while True:
            while self._waiting:
                group = self._waiting.pop(0)
                if group.shards:
                    self._take(group)
                    return True
                self._note(group)
            is_last = self._follow.until is not None and self._follow.until()
            self._waiting = self._new()
            if is_last and not self._waiting:
                return False
            if not self._waiting:
                time.sleep(self._follow.poll)

    def _new(self) -> list[_Group]:
        """Looks for what is new. Some of it may have no rows of the split."""
        split, size = self._reading.split, _MAX_PARTS if self._reading.ranks == 1 else 1
        groups = []
        for parts in _cut(self._published.look(), size):
            shards = tuple(one for part in parts for one in part.shards if one.split == split and one.records)
            groups.append(_Group(shards, tuple(part.after for part in parts)))
        return groups

    def _take(self, group: _Group) -> None:
        own = self._reading
        reading = dataclasses.replace(own, contents=group.contents(own.contents, own.split))
        self._group, self._batches = group, Batches(reading, *self._arguments)

    def _finish(self) -> None:
        assert self._group is not None
        assert self._batches is not None
        self._note(self._group)
        self._skipped += self._batches.skipped
        self._group, self._batches = None, None

    def _note(self, group: _Group) -> None:
        for after in group.after:
            self._published.add(after)

    def state_dict(self) -> dict[str, Any]:
        """Returns where the next batch is, as JSON values: what is read, and the place in what is being read."""
        if self._batches is not None and self._batches.epoch:  # its last batch is taken
            self._finish()
        group, batches, own = self._group, self._batches, self._reading.state()
        reading = None
        if group is not None and batches is not None:
            shards = [[shard.path, shard.records, shard.bytes, shard.crc32c] for shard in group.shards]
            reading = {"shards": shards, "after": list(group.after), "batches": batches.state_dict()}
        return {
            "follow": _STATE_VERSION,
            "split": own["split"],
            "shuffle": own["shuffle"],
            "ranks": self._reading.ranks,
            "published": self._published.state(),
            "reading": reading,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, also with another batch size; each rank from its own, with the same number of ranks.

        Raises:
          ConfigError: for a state of another split, shuffle or number of ranks, or one that is none.
        """
        for name, own in self.state_dict().items():
            if name not in ("published", "reading") and state.get(name) != own:
                raise ConfigError(
                    f"the state has {name} {state.get(name)!r}, and what is followed {own!r}: a state goes on with the "
                    "same split, shuffle and number of ranks"
                )
        self._loops += 1
        self._waiting, self._group, self._batches = [], None, None
        try:
            self._published.load_state(state["published"])
            reading = state["reading"]
            if reading is not None:
                split = self._reading.split
                shards = tuple(StoredShard(path, split, *rest) for path, *rest in reading["shards"])
                self._take(_Group(shards, tuple(reading["after"])))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"not a state of a dataset that is followed: {error!r}") from error
        if self._batches is not None:
            self._batches.load_state_dict(reading["batches"])


def _cut(parts: Iterator[Part], size: int) -> Iterator[list[Part]]:
    while some := list(itertools.islice(parts, size)):
        yield some


@dataclasses.dataclass(frozen=True)
class FollowedDataset:
    """A split of a dataset that grows (`LoadedDataset.follow`); its methods are those of the same names there.

    Attributes:
      reading: what is read, and by whom.
      follow: how it is followed.
      to_arrays: makes the arrays of `numpy`, by its arguments `missing` and `pad`.
    """

    reading: Reading
    follow: Follow
    to_arrays: Callable[[str | Mapping[str, Any], Mapping[str, int] | None], ToArrays]

    def batches(self, batch_size: int, last: Last = "short") -> FollowedBatches[pa.RecordBatch]:
        """Returns Arrow batches of what is published, as it comes.

        Raises:
          ConfigError: as `LoadedDataset.batches`.
        """
        return FollowedBatches(self.reading, batch_size, last, to_batches, self.follow)

    def numpy(
        self,
        batch_size: int,
        missing: str | Mapping[str, Any] = "error",
        pad: Mapping[str, int] | None = None,
        last: Last = "short",
    ) -> FollowedBatches[Arrays]:
        """Returns dicts of arrays of what is published, as it comes.

        Raises:
          ConfigError: as `LoadedDataset.numpy`.
        """
        return FollowedBatches(self.reading, batch_size, last, self.to_arrays(missing, pad).parts, self.follow)
