"""Reads the same TFRecord shards with everyone, by turns, and prints rows for a second of processor time::

    python -m benchmarks.load.run --rounds 3

Each reader is a process of its own, with one thread, and batches of 1,024 rows. The package `tfrecord` gives single
records as dicts, and no batches. Others on the machine make processor time longer, but for all: the table has the
fastest of all passes.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

from benchmarks import environments
from benchmarks.load.rows import ROWS, make

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parents[1]

# Name -> script, and the requirements of its environment; "" for this one.
READERS = {
    "Penstock, Arrow": ("penstock_arrow", ""),
    "tf.data, parse_example": ("tf_data", ""),
    "tfrecord": ("tfrecord_package", "tfrecord.txt"),
}


def read(script: str, requirements: str, dataset: pathlib.Path) -> dict[str, float]:
    """Runs a reader once.

    Raises:
      SystemExit: when it fails; with its last words.
    """
    python = environments.python_of(_HERE / requirements) if requirements else sys.executable
    command = [python, str(_HERE / f"{script}.py"), str(dataset), "--started", str(time.time())]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT / "src")} if not requirements else None
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{script} ended with {done.returncode}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path, default=environments.CACHE / "load")
    arguments = parser.parse_args()
    print("| dataset | reader | rows/s of CPU | x tf.data | first batch, s |\n| --- | --- | ---: | ---: | ---: |")
    for kind, compression in [*((kind, "none") for kind in ROWS), ("flat", "gzip")]:
        dataset = make(arguments.folder, kind, compression)
        best: dict[str, dict[str, float]] = {}
        for _ in range(arguments.rounds):
            for name, (script, requirements) in READERS.items():
                found = read(script, requirements, dataset)
                assert found["rows"] == ROWS[kind], f"{name} gave {found['rows']} rows of {kind}"
                least = {key: min(value, best.get(name, found)[key]) for key, value in found.items()}
                best[name] = least
        others = best["tf.data, parse_example"]["processor"]
        for name, found in best.items():
            rate, times = found["rows"] / found["processor"], others / found["processor"]
            print(f"| {kind}, {compression} | {name} | {rate:,.0f} | {times:.1f} | {found['first']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
