"""What each reader's script has in common: rounds over the same rows, and the best of them as JSON.

It imports nothing but the standard library, since it runs in the environment of each reader.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator

BATCH_ROWS = 1024


def main(read: Callable[[str], Iterator[int]]) -> None:
    """Times passes over a folder, whose batches `read` makes; it yields the rows of each.

    The first pass is not timed by itself, but up to its first batch: from the start of the process, with all imports.
    What counts of the others is the least processor time of the process, all threads.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--started", type=float, required=True, help="time.time() when the process was started")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    batches = read(arguments.folder)
    rows = next(batches)
    first = time.time() - arguments.started
    rows += sum(batches)
    processor, wall = float("inf"), float("inf")
    for _ in range(arguments.rounds):
        starts = time.process_time(), time.perf_counter()
        again = sum(read(arguments.folder))
        processor = min(processor, time.process_time() - starts[0])
        wall = min(wall, time.perf_counter() - starts[1])
        if again != rows:
            sys.exit(f"a pass gave {again} rows, and the first one {rows}")
    print(json.dumps({"rows": rows, "first": first, "processor": processor, "wall": wall}))
