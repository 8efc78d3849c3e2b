"""What each reader's script has in common: rounds over the same rows, and the best of them as JSON.

It imports nothing but the standard library, since it runs in the environment of each reader.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator

BATCH_ROWS = 1024


def main(read: Callable[..., Iterator[int]]) -> None:
    """Times passes over a folder, whose batches `read` makes of it and the options; it yields the rows of each.

    The first pass is not timed by itself, but up to its first batch: from the end of the imports, which are timed from
    the start of the process. What counts of the others is the least processor time of the process, all threads, and by
    how much its memory is more after the last of them than after the first. There are some rounds of them at least, and
    as many as fit into some seconds, the same for who needs 20 ms for a pass and who needs a second: a machine whose
    speed changes has its good times for both.
    """
    imported = time.time()
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("options", nargs="*", help="for the reader")
    parser.add_argument("--started", type=float, required=True, help="time.time() when the process was started")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    arguments = parser.parse_args()
    batches = read(arguments.folder, *arguments.options)
    rows = next(batches)
    first = time.time() - imported
    rows += sum(batches)
    processor, wall = float("inf"), float("inf")
    memory: list[int] = []
    end = time.perf_counter() + arguments.seconds
    while len(memory) < arguments.rounds or time.perf_counter() < end:
        starts = time.process_time(), time.perf_counter()
        again = sum(read(arguments.folder, *arguments.options))
        processor = min(processor, time.process_time() - starts[0])
        wall = min(wall, time.perf_counter() - starts[1])
        if again != rows:
            sys.exit(f"a pass gave {again} rows, and the first one {rows}")
        memory.append(_resident_bytes())
    found = {"rows": rows, "processor": processor, "wall": wall, "grown": memory[-1] - memory[0]}
    print(json.dumps({**found, "imports": imported - arguments.started, "first": first}))


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
