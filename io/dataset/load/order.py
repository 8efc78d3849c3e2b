"""Which rows of a split a rank reads, and in which order: pure functions on row numbers.

The rows of a split are numbered from 0, shard by shard in the order of the manifest. An epoch is a sequence of *ranges*
of these numbers, int64[n, 2], each from its first row to behind its last one:

    the shards, in their order of the epoch   | 30..60 | 0..30 | 60..85 |
    the ranks, three of them                  | r0        | r1        | r2        |

Each rank has one piece of the sequence, so it opens few shards; pieces differ by one row at most. Within its piece a
rank shuffles windows of `buffer` rows. All ranks have taken the same number of rows after the same number of steps, so
that (number of ranks, rows that each has taken) says which rows of the epoch are done, and `remaining` what is left: a
sequence again, for any number of ranks.

Orders are sorts by a hash, SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014), and
depend on no release of numpy.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from penstock.io.dataset.load.shards.ranges import Ranges, cut, ranges_of, rows_of, total_rows

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15

# What is shuffled, so that shards and rows of equal numbers are not in step.
_SHARDS, _ROWS = 1, 2


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """How an epoch is shuffled.

    Attributes:
      seed: from 0 to before 2 ** 64; another one gives other orders.
      buffer: rows of a window that is shuffled.
    """

    seed: int
    buffer: int


@dataclasses.dataclass(frozen=True)
class Taken:
    """What was taken of an epoch while the number of ranks did not change.

    Attributes:
      ranks: their number.
      rows: rows that each of them took, or all of its rows if it had fewer.
    """

    ranks: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Turns:
    """Which rows one of the workers of a rank takes: a batch, and those of the others in turn before its next one.

    Attributes:
      rows: of a batch.
      workers: their number.
    """

    rows: int
    workers: int = 1

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Returns bool[n], whether rows are taken, by their places behind the first one, before which none are.

        >>> np.arange(-2, 9)[Turns(rows=2, workers=3).has(np.arange(-2, 9))]
        array([0, 1, 6, 7])
        """
        own = rows >= 0
        return own if self.workers == 1 else own & (rows // self.rows % self.workers == 0)


ALL_ROWS = Turns(rows=1)


def epoch_ranges(counts: Sequence[int], shuffle: Shuffle | None, epoch: int) -> Ranges:
    """Returns the whole epoch: the shards that have rows, in their order.

    >>> epoch_ranges([3, 0, 2], None, 0).tolist()
    [[0, 3], [3, 5]]
    """
    ends = np.cumsum(np.asarray(counts, np.int64))
    ranges = np.stack([ends - np.asarray(counts, np.int64), ends], axis=1).reshape(-1, 2)
    if shuffle is not None:
        ranges = ranges[np.argsort(_hashes(np.arange(len(ranges)), shuffle.seed, epoch, _SHARDS), kind="stable")]
    return ranges[ranges[:, 0] < ranges[:, 1]]


def part_of_rank(ranges: Ranges, rank: int, ranks: int) -> Ranges:
    """Returns the piece of one of `ranks` ranks; pieces differ by one row at most."""
    total = total_rows(ranges)
    return cut(ranges, total * rank // ranks, total * (rank + 1) // ranks)


def shuffled(rows: np.ndarray, shuffle: Shuffle | None, epoch: int) -> np.ndarray:
    """Returns int64, the order in which the rows of a window are taken, as indices of them."""
    if shuffle is None:
        return np.arange(len(rows))
    return np.argsort(_hashes(rows, shuffle.seed, epoch, _ROWS), kind="stable")


def remaining(ranges: Ranges, taken: Taken, shuffle: Shuffle | None, epoch: int) -> Ranges:
    """Returns what is left of a sequence, in its order, when each rank has taken some rows of its piece."""
    left = []
    for rank in range(taken.ranks):
        part = part_of_rank(ranges, rank, taken.ranks)
        rows = min(taken.rows, total_rows(part))
        if shuffle is not None:
            start = rows - rows % shuffle.buffer
            window = rows_of(cut(part, start, start + shuffle.buffer))
            not_taken = np.sort(shuffled(window, shuffle, epoch)[rows - start :])
            left.append(ranges_of(window[not_taken]))
            rows = start + len(window)
        left.append(cut(part, rows, total_rows(part)))
    return np.concatenate(left)


def _hashes(numbers: np.ndarray, seed: int, epoch: int, salt: int) -> np.ndarray:
    """Returns uint64, a hash of each number."""
    state = 0
    for word in (seed, epoch, salt):
        state = _mix_one((state + _GOLDEN + word) & _MASK)
    return _mix(numbers.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(state))


def _mix(state: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64; uint64 wraps around."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _mix_one(state: int) -> int:
    return int(_mix(np.array([state], np.uint64))[0])
