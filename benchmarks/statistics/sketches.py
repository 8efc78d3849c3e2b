"""Measures what the sketches of a column cost for each value::

    python -m benchmarks.statistics.sketches --rows 1048576

All work is done in one thread, batch by batch, with new sketches for each round; the least CPU time of all rounds
counts. Merging is of two sketches that have each seen all batches.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.io.batches import MAX_BATCH_ROWS
from penstock.io.kernel import native
from penstock.transforms.statistics.sketches import (
    DistinctSketch,
    FrequentSketch,
    NumberSketch,
    TextSketch,
    count_values,
)

Sketches = list[Any]
Update = Callable[[Sketches, pa.Array], None]


def columns(rows: int) -> dict[str, pa.Array]:
    """Makes columns of each kind from a seed, by name."""
    random = np.random.default_rng(0)

    def texts(form: str, numbers: Any) -> pa.Array:
        return pa.array([form.format(number) for number in numbers.tolist()])

    carriers = texts("{:02d}", np.arange(16))
    return {
        "floats, normal": pa.array(random.normal(size=rows)),
        "floats, prices": pa.array(np.round(random.gamma(2, 20, rows), 2)),
        "ints, 1,440 different": pa.array(random.integers(0, 1440, rows)),
        "ints, all different": pa.array(random.permutation(rows)),
        "texts, 16 different": carriers.take(pa.array(random.integers(0, 16, rows))),
        "texts, 400 different": texts("AP{:03d}", random.integers(0, 400, rows)),
        "texts, by Zipf's law": texts("user-{}", random.zipf(1.3, rows) % 10**6),
        "texts, all different": texts("N{:08d}", random.permutation(rows)),
        "texts, times": texts("2024-02-29T12:30:{:09.6f}Z", random.uniform(0, 60, rows)),
    }


def update_numbers(sketches: Sketches, values: pa.Array) -> None:
    """Updates what every column of numbers has."""
    numbers, distinct = sketches
    counted = count_values(values)
    numbers.update(counted.values, counted.counts)
    distinct.update(counted.hashes)


def update_texts(sketches: Sketches, values: pa.Array) -> None:
    """Updates what every column of texts has."""
    texts, distinct, frequent = sketches
    counted = count_values(values)
    texts.update(counted)
    distinct.update(counted.hashes)
    frequent.update(counted)


def new_sketches(values: pa.Array) -> tuple[Sketches, Update]:
    """Returns empty sketches for a column, and how they are updated."""
    if pa.types.is_string(values.type):
        return [TextSketch(), DistinctSketch(), FrequentSketch()], update_texts
    return [NumberSketch(), DistinctSketch()], update_numbers


def run(batches: Sequence[pa.Array]) -> tuple[Sketches, float]:
    """Returns the sketches of a column, and the seconds of CPU that they took."""
    sketches, update = new_sketches(batches[0])
    start = time.thread_time()
    for batch in batches:
        update(sketches, batch)
    return sketches, time.thread_time() - start


def merge(sketches: Sketches, others: Sketches) -> float:
    """Merges sketches, and returns the seconds of CPU that it took."""
    start = time.thread_time()
    for sketch, other in zip(sketches, others, strict=True):
        sketch.merge(other)
    return time.thread_time() - start


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1 << 20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if not native.ENABLED:
        parser.error("the kernel is not compiled, or turned off")
    print("| column | ns a value | merge, ms | state, KiB |\n| --- | ---: | ---: | ---: |")
    for name, values in columns(arguments.rows).items():
        batches = [values.slice(start, MAX_BATCH_ROWS) for start in range(0, len(values), MAX_BATCH_ROWS)]
        rounds = [run(batches) for _ in range(arguments.rounds)]
        nanoseconds = min(seconds for _, seconds in rounds) / len(values) * 1e9
        size = sum(len(sketch.to_bytes()) for sketch in rounds[0][0]) / 1024
        milliseconds = min(merge(rounds[0][0], sketches) for sketches, _ in rounds[1:]) * 1e3
        print(f"| {name} | {nanoseconds:.0f} | {milliseconds:.1f} | {size:,.0f} |")


if __name__ == "__main__":
    main()
