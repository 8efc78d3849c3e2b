"""Holds the kernel's decoder and frames against their twins, on made-up and damaged records.

    PYTHONPATH=src:tests python tests/fuzz/fuzz_decode.py --seed 1 --seconds 60

Each round has a seed of its own, which a failure names; `--seed N --rounds 1` repeats it.
"""

import argparse
import random
import sys
import time

from fuzz import agree, wire


def main() -> None:
    """Runs rounds until the time or their number is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=sys.maxsize)
    parser.add_argument("--seconds", type=float, default=60.0)
    flags = parser.parse_args()
    end = time.monotonic() + flags.seconds
    seed, records, rejected = flags.seed, 0, 0
    while seed < flags.seed + flags.rounds and time.monotonic() < end:
        try:
            made, faulty = fuzz_round(seed)
        except AssertionError:
            print(f"kernel and Python differ in round {seed}", file=sys.stderr)
            raise
        records, rejected, seed = records + made, rejected + faulty, seed + 1
    print(f"rounds {flags.seed} to {seed - 1}: {records} records, {rejected} of them rejected; kernel and Python agree")


def fuzz_round(seed: int) -> tuple[int, int]:
    """How many records one round had, and how many of them were rejected."""
    rng = random.Random(seed)
    records = [wire.any_record(rng) for _ in range(rng.choice((1, 2, 10, 100)))]
    rejected = agree.check_decoding(records)
    lies = (*[None] * 20, 0, 3, 1 << 31, (1 << 31) - 1, (1 << 64) - 1)
    block = b"".join(wire.frame(record, rng.choice(lies)) for record in records)
    agree.check_frames(block)
    agree.check_frames(wire.damaged(rng, block, block[:100]))
    return len(records), rejected


if __name__ == "__main__":
    main()
