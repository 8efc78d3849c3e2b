"""Epochs of batches of one size, for one rank, and where in them a training run is."""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeVar, get_args

import pyarrow as pa

from penstock.io.dataset.load.contents import Contents, StoredShard
from penstock.io.dataset.load.order import (
    Ranges,
    Shuffle,
    Taken,
    epoch_ranges,
    part_of_rank,
    remaining,
    total_rows,
)
from penstock.io.dataset.load.readers import open_reader
from penstock.io.dataset.load.rows import Pieces, ordered_rows
from penstock.io.dataset.load.shards import Loss
from penstock.io.errors import ConfigError

_T = TypeVar("_T")

Last = Literal["short", "drop"]
Damaged = Literal["error", "skip"]

_STATE_VERSION = 1
_MAX_LOSSES = 100

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is read of a dataset, and by which rank.

    Attributes:
      contents: the dataset.
      split: of it.
      columns: names of columns; None for all.
      shuffle: None for the order of the shards.
      rank: of `ranks`.
      ranks: number of those who share each epoch.
      damaged: what to do where records cannot be read.
    """

    contents: Contents
    split: str
    columns: tuple[str, ...] | None = None
    shuffle: Shuffle | None = None
    rank: int = 0
    ranks: int = 1
    damaged: Damaged = "error"

    @property
    def shards(self) -> tuple[StoredShard, ...]:
        """The shards of the split."""
        return tuple(shard for shard in self.contents.shards if shard.split == self.split)

    def state(self) -> dict[str, Any]:
        """Returns what a state must agree with: the content and the order of its rows."""
        ids = self.contents.dataset_ids
        return {
            "version": _STATE_VERSION,
            "dataset": ids[0] if len(ids) == 1 else hashlib.sha256("\n".join(ids).encode()).hexdigest(),
            "split": self.split,
            "shuffle": None if self.shuffle is None else dataclasses.asdict(self.shuffle),
        }


class Batches(Generic[_T]):
    """Batches: each loop over them is an epoch, or what is left of the one that a state or a loop ended in.

    Over an epoch, each row of the split is in one batch of one rank. All ranks have equally many batches. With
    `last="short"` the last batches may have fewer rows than others, those of some ranks none at all. With `last="drop"`
    all have `batch_size` rows, and what does not fill a batch on each rank is left out, other rows in each epoch
    if they are shuffled.

    Attributes:
      epoch: number of the epoch that the next batch is of, from 0.
      skipped: rows that could not be read, of all epochs so far (`damaged="skip"`).
      losses: where these were, the first 100, each with its number of rows and a reason with shard and position.
    """

    def __init__(self, reading: Reading, batch_size: int, last: Last, convert: Callable[[pa.RecordBatch], _T]):
        if batch_size < 1:
            raise ConfigError(f"batch_size must be >= 1, got {batch_size}")
        if last not in get_args(Last):
            raise ConfigError(f"last must be one of {', '.join(get_args(Last))}, got {last!r}")
        self._reading = reading
        self._batch_size = batch_size
        self._last = last
        self._convert = convert
        self._reader = open_reader(reading.contents, reading.columns, self._lose if reading.damaged == "skip" else None)
        self._taken: tuple[Taken, ...] = ()
        self._loops = 0
        self.epoch = 0
        self.skipped = 0
        self.losses: list[Loss] = []

    def __len__(self) -> int:
        """Number of batches of a whole epoch, the same on all ranks."""
        return self._steps(sum(shard.records for shard in self._reading.shards))

    def _steps(self, total: int) -> int:
        ranks, size = self._reading.ranks, self._batch_size
        return total // ranks // size if self._last == "drop" else -(-total // (ranks * size))

    def __iter__(self) -> Iterator[_T]:
        """Yields the batches of the epoch from where it is.

        Raises:
          InputError: for a shard that is damaged, or a record that is not of the schema, unless `damaged="skip"`.
          DataError: for a shard that is missing, or has another size or number of records than the manifest says.
        """
        self._loops += 1
        return self._epoch(self._loops)

    def _epoch(self, loop: int) -> Iterator[_T]:
        ranges, start = self._left()
        rank, ranks, shuffle = self._reading.rank, self._reading.ranks, self._reading.shuffle
        part, total, done = part_of_rank(ranges, rank, ranks), total_rows(ranges), self._closed()
        own = total_rows(part)
        end = total // ranks if self._last == "drop" else -(-total // ranks)
        found = ordered_rows(self._reader, self._reading.shards, part, min(start, own), shuffle, self.epoch)
        pieces = Pieces(found, self._reader.schema)
        epoch = self.epoch
        if not self._goes_on(start, end):
            self.epoch, self._taken = epoch + 1, ()
        while self._goes_on(start, end):
            batch = pieces.read(max(min(self._batch_size, own - start), 0)).batch
            if loop != self._loops:
                raise RuntimeError("another loop over these batches has begun: load the dataset once for each loop")
            start = min(start + self._batch_size, end)
            if self._goes_on(start, end):
                self._taken = (*done, Taken(ranks, start))
            else:
                self.epoch, self._taken = epoch + 1, ()
            yield self._convert(batch)

    def _goes_on(self, start: int, end: int) -> bool:
        return start + self._batch_size <= end if self._last == "drop" else start < end

    def _closed(self) -> tuple[Taken, ...]:
        """What was taken with other numbers of ranks."""
        taken = self._taken
        return taken[:-1] if taken and taken[-1].ranks == self._reading.ranks else taken

    def _left(self) -> tuple[Ranges, int]:
        """Returns the sequence that this number of ranks shares, and how many rows each has taken of it."""
        shuffle, closed = self._reading.shuffle, self._closed()
        ranges = epoch_ranges([shard.records for shard in self._reading.shards], shuffle, self.epoch)
        for taken in closed:
            ranges = remaining(ranges, taken, shuffle, self.epoch)
        return ranges, self._taken[-1].rows if len(closed) < len(self._taken) else 0

    def _lose(self, loss: Loss) -> None:
        self.skipped += loss.rows
        if len(self.losses) < _MAX_LOSSES:
            self.losses.append(loss)
            _LOG.warning("%d rows are skipped: %s", loss.rows, loss.reason)

    def state_dict(self) -> dict[str, Any]:
        """Returns where the next batch is, as JSON values: the same on all ranks after the same number of batches.

        It has the epoch and, for each number of ranks that shared it in turn, how many rows each took.
        """
        taken = [[one.ranks, one.rows] for one in self._taken]
        return {**self._reading.state(), "epoch": self.epoch, "taken": taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, perhaps one of another number of ranks or another batch size.

        With the same number of ranks, batches follow that are those of a run without a break. With another number, what
        is left of the epoch is shared anew.

        Raises:
          ConfigError: for a state of another dataset, split or shuffle, or one that is none.
        """
        for name, own in self._reading.state().items():
            if state.get(name) != own:
                raise ConfigError(
                    f"the state has {name} {state.get(name)!r}, and what is loaded {own!r}: a state goes on with the "
                    "same dataset, split and shuffle"
                )
        try:
            epoch, taken = state["epoch"], tuple(Taken(*map(_count, one)) for one in state["taken"])
            self.epoch, self._taken = _count(epoch), taken
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a state of these batches: {error!r}") from error
        self._loops += 1


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"must be a count, got {value!r}")
    return value
