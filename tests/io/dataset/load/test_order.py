import itertools
import random

import numpy as np
import pytest

from penstock.io.dataset.load.order import Shuffle, Taken, epoch_ranges, part_of_rank, remaining, shuffled
from penstock.io.dataset.load.shards.ranges import cut, rows_of, total_rows

# Of `Shuffle(seed=7, buffer=8)`: shards of two rows each, and eight rows.
ORDERS = ([[6, 8], [2, 4], [4, 6], [0, 2]], [1, 6, 7, 0, 2, 3, 4, 5])

SHUFFLES = [None, Shuffle(seed=3, buffer=1), Shuffle(seed=3, buffer=16), Shuffle(seed=3, buffer=1000)]


def taken_rows(ranges, rank, ranks, start, stop, shuffle, epoch):
    """The rows that a rank takes from its row `start` to before `stop`, in order."""
    part = part_of_rank(ranges, rank, ranks)
    if shuffle is None:
        return rows_of(cut(part, start, stop)).tolist()
    rows = rows_of(part)
    windows = [rows[first : first + shuffle.buffer] for first in range(0, len(rows), shuffle.buffer)]
    ordered = [window[shuffled(window, shuffle, epoch)] for window in windows]
    return np.concatenate([*ordered, rows[:0]])[start:stop].tolist()


@pytest.mark.parametrize("shuffle", SHUFFLES, ids=str)
def test_every_row_is_taken_once_however_often_the_number_of_ranks_changes(shuffle):
    random.seed(18)
    for epoch in range(25):
        counts = [random.choice([0, 1, 7, 40]) for _ in range(random.randint(1, 6))]
        ranges, seen = epoch_ranges(counts, shuffle, epoch), []
        while total_rows(ranges):
            ranks, rows = random.choice([1, 2, 3, 7]), random.choice([1, 5, 20, 200])
            for rank in range(ranks):
                seen += taken_rows(ranges, rank, ranks, 0, rows, shuffle, epoch)
            ranges = remaining(ranges, Taken(ranks, rows), shuffle, epoch)
        assert sorted(seen) == list(range(sum(counts)))


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 50])
def test_ranks_have_rows_that_differ_by_one_at_most(ranks):
    ranges = epoch_ranges([10, 3, 28], None, 0)
    sizes = [total_rows(part_of_rank(ranges, rank, ranks)) for rank in range(ranks)]
    assert sum(sizes) == 41
    assert max(sizes) - min(sizes) <= 1


def test_orders_stay_as_they_are_between_releases():
    shuffle = Shuffle(seed=7, buffer=8)
    assert epoch_ranges([2, 2, 2, 2], shuffle, 0).tolist() == ORDERS[0]
    assert shuffled(np.arange(8), shuffle, 0).tolist() == ORDERS[1]


def test_each_seed_and_epoch_has_an_order_of_its_own():
    orders = {
        (seed, epoch): tuple(shuffled(np.arange(100), Shuffle(seed, 100), epoch).tolist())
        for seed, epoch in itertools.product((0, 1, (1 << 64) - 1), range(4))
    }
    assert len(set(orders.values())) == len(orders)
