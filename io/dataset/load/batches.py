"""Epochs of batches of one size, for one rank, and where in them a training run is."""

import dataclasses
import hashlib
import logging
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

import pyarrow as pa

from penstock.io.dataset.load.ahead import ahead
from penstock.io.dataset.load.order import Shuffle, Taken, Turns, epoch_ranges, part_of_rank, remaining
from penstock.io.dataset.load.rows import ONE_BY_ONE, AtOnce, Pieces, ordered_rows
from penstock.io.dataset.load.shards.choose import open_reader
from penstock.io.dataset.load.shards.contents import Contents, StoredShard, read_version_of
from penstock.io.dataset.load.shards.ranges import Ranges, total_rows
from penstock.io.dataset.load.shards.readers import Loss
from penstock.io.errors import ConfigError, PenstockError

_T = TypeVar("_T")

Last = Literal["short", "drop"]
Damaged = Literal["error", "skip"]

# From columns to what makes a batch of some of their rows, by the first one and their number.
Convert: TypeAlias = Callable[[pa.RecordBatch], Callable[[int, int], _T]]

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
      prefetch_bytes: of rows that threads have read ahead; 0 for none.
      prefetch_shards: how many shards are read at once for that.
    """

    contents: Contents
    split: str
    columns: tuple[str, ...] | None = None
    shuffle: Shuffle | None = None
    rank: int = 0
    ranks: int = 1
    damaged: Damaged = "error"
    prefetch_bytes: int = 0
    prefetch_shards: int = 1

    @property
    def at_once(self) -> AtOnce:
        """How shards are read at once: they keep half of what is read ahead, and what puts them in order the other."""
        if not self.prefetch_bytes or self.prefetch_shards == 1:
            return ONE_BY_ONE
        return AtOnce(self.prefetch_shards, self.prefetch_bytes // 2, self.prefetch_bytes)

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


@dataclasses.dataclass(frozen=True)
class _Epoch:
    """What is left of an epoch, for one rank.

    Attributes:
      number: of the epoch.
      closed: what was taken with other numbers of ranks.
      ranks: number of those who share what is left.
      size: rows of a batch.
      start: rows that each rank has taken of its part.
      steps: batches that are left.
      part: of this rank.
    """

    number: int
    closed: tuple[Taken, ...]
    ranks: int
    size: int
    start: int
    steps: int
    part: Ranges

    def taken(self, steps: int) -> tuple[Taken, ...]:
        """Returns what is taken of the epoch after some batches."""
        return (*self.closed, Taken(self.ranks, self.start + steps * self.size))


def to_batches(columns: pa.RecordBatch) -> Callable[[int, int], pa.RecordBatch]:
    """Returns what makes Arrow batches."""
    return columns.slice


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

    def __init__(self, reading: Reading, batch_size: int, last: Last, convert: Convert[_T]):
        """`convert` is given columns that were decoded at once, mostly of several batches."""
        batch_size = whole_number(batch_size, "batch_size")
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

    def _steps(self, total: int, taken: int = 0) -> int:
        """Returns how many batches of `total` rows are for each rank, when each has taken some rows."""
        ranks, size = self._reading.ranks, self._batch_size
        steps = (total // ranks - taken) // size if self._last == "drop" else -((taken - -(-total // ranks)) // size)
        return max(steps, 0)

    def __iter__(self) -> Iterator[_T]:
        """Yields the batches of the epoch from where it is.

        Raises:
          InputError: for a shard that is damaged, or a record that is not of the schema, unless `damaged="skip"`.
          DataError: for a shard that is missing, or has another size or number of records than the manifest says.
        """
        self._loops += 1
        return self._epoch(self._loops)

    def in_turns(self, turn: int, workers: int) -> Iterator[_T]:
        """Yields the batches of one of the workers of this rank: number `turn`, and each `workers`-th on.

        Taken from all workers in turn, the batches are those of one loop, in its order. `state_dict` says where the
        next batch of this worker is, so that it goes on from there with `turn=0`; behind the last one the epoch stays,
        with nothing left of it.

        Raises:
          InputError: as a loop over all batches.
          DataError: the same.
        """
        self._loops += 1
        self._taken = self._rest().taken(turn)
        return self._epoch(self._loops, workers)

    def steps(self) -> Iterator[None]:
        """Goes through the epoch from where it is as a loop does, and reads nothing: others read the batches."""
        self._loops += 1
        return self._counted(self._loops)

    def _counted(self, loop: int) -> Iterator[None]:
        epoch = self._rest()
        if not epoch.steps:
            self._reached(epoch, 0)
        for number in range(epoch.steps):
            self._check_alone(loop)
            self._reached(epoch, number + 1)
            yield None

    def _check_alone(self, loop: int) -> None:
        if loop != self._loops:
            raise RuntimeError("another loop over these batches has begun: load the dataset once for each loop")

    def _epoch(self, loop: int, workers: int | None = None) -> Iterator[_T]:
        epoch, size, reading = self._rest(), self._batch_size, self._reading
        turns, own = Turns(size, workers or 1), total_rows(epoch.part)
        start = min(epoch.start, own)
        at_once = reading.at_once
        rows = ordered_rows(
            self._reader, reading.shards, epoch.part, start, reading.shuffle, epoch.number, turns, size, at_once
        )
        if reading.prefetch_bytes:
            rows = ahead(rows, lambda piece: piece.batch.nbytes, reading.prefetch_bytes - at_once.max_bytes)
        pieces = Pieces(rows, self._reader.schema)
        if workers is None and not epoch.steps:
            self._reached(epoch, 0)
        columns: pa.RecordBatch | None = None
        for number in range(epoch.steps):
            place = epoch.start + number * size
            found, first, count = pieces.part(max(min(size, own - place), 0))
            self._check_alone(loop)
            if number % turns.workers:
                continue
            if workers is None:
                self._reached(epoch, number + 1)
            else:
                self._taken = epoch.taken(number + workers)
            if found is not columns:
                columns, to_batch = found, self._convert(found)
            yield to_batch(first, count)

    def _rest(self) -> _Epoch:
        """Returns what is left of the epoch, for this rank."""
        ranges, start = self._left()
        ranks, steps = self._reading.ranks, self._steps(total_rows(ranges), start)
        part = part_of_rank(ranges, self._reading.rank, ranks)
        return _Epoch(self.epoch, self._closed(), ranks, self._batch_size, start, steps, part)

    def _reached(self, epoch: _Epoch, steps: int) -> None:
        """Notes that some batches of an epoch are taken; after the last one, the next epoch begins."""
        self.epoch, self._taken = epoch.number, epoch.taken(steps)
        if steps == epoch.steps:
            self.epoch, self._taken = epoch.number + 1, ()

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
        version = self._reading.contents.version
        return {**self._reading.state(), "dataset_version": version, "epoch": self.epoch, "taken": taken}

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
                    self._other_version(state)
                    or f"the state has {name} {state.get(name)!r}, and what is loaded {own!r}: a state goes on with "
                    "the same dataset, split and shuffle"
                )
        if "worker" in state:
            raise ConfigError(f"the state is that of a worker of PyTorch, {state['worker']}: give it to such a worker")
        try:
            epoch, taken = state["epoch"], tuple(Taken(*map(_count, one)) for one in state["taken"])
            self.epoch, self._taken = _count(epoch), taken
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a state of these batches: {error!r}") from error
        self._loops += 1

    def _other_version(self, state: Mapping[str, Any]) -> str | None:
        """Says which version of this dataset a state is of; None if it is of none that is known, or of this one."""
        contents, number = self._reading.contents, state.get("dataset_version")
        if contents.version is None or number == contents.version or type(number) is not int:
            return None
        try:
            _, fields = read_version_of(contents.directory, number)
        except PenstockError:
            return None
        if fields["dataset_id"] != state.get("dataset"):
            return None
        return (
            f"the state is of version {number} of the dataset, and what is loaded is version {contents.version}: to go "
            f"on with it, load it with version={number}"
        )


def whole_number(value: Any, what: str) -> int:
    """Returns an argument as an int: JSON, which a state is, cannot hold numpy's integers, and they overflow.

    Raises:
      ConfigError: for what is no whole number, such as a float or a bool.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ConfigError(f"{what} must be a whole number, got {value!r}")


def _count(value: Any) -> int:
    count = whole_number(value, "a count")
    if count < 0:
        raise ValueError(f"must be a count, got {value!r}")
    return count
