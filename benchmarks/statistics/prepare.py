"""Measures what the statistics of a dataset add to the CPU time of `prepare`::

    python -m benchmarks.statistics.prepare --rows 1000000 --pairs 5

Each pair runs the job with `--statistics none` and with what it does by default, the one first and the other first by
turns. What counts is the CPU time of the whole process, user and system: others on the machine make it longer, but for
both. The jobs are those of the benchmark's CSV file of 12 columns, with and without the global shuffle; all flights of
the demo without its features, which take most of its time; and the demo with them.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.data import TAXI, generate, schema_text
from benchmarks.measure import run

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_FLIGHTS = "examples/flights"
_TIMEOUT_SECONDS = 1800.0

# CPU seconds without statistics, and with them.
Pair = tuple[float, float]


def jobs(folder: pathlib.Path, rows: int) -> dict[str, list[str]]:
    """Makes the input, and returns the flags of each job by its name."""
    data = generate(folder / f"taxi-{rows}.csv", "csv", TAXI, rows)
    (folder / "schema.pbtxt").write_text(schema_text(TAXI))
    flights = folder / "flights.csv"
    if not flights.exists():
        fetched = _run(folder, [f"{_FLIGHTS}/fetch.py", "--output", str(flights)])
        print(f"flights.csv: {fetched:.1f} s", file=sys.stderr)
    taxi = [
        *("--input", str(data.path), "--schema", str(folder / "schema.pbtxt")),
        *("--compression", "none", "--num_shards", "4", "--max_reject_fraction", "0.05"),
    ]
    demo = ["--config", f"{_FLIGHTS}/job.yaml", "--input", str(flights)]
    plain = [
        *("--input", str(flights), "--null_values", "NA", "--schema", f"{_FLIGHTS}/schema.pbtxt"),
        *("--rules", f"{_FLIGHTS}/rules.yaml", "--split", "train=0.8,eval=0.1,test=0.1"),
        *("--split_key", "tailnum,flight", "--num_shards", "4"),
    ]
    return {
        f"{rows:,} rows of 12 columns, `--shuffle none`": [*taxi, "--shuffle", "none"],
        f"{rows:,} rows of 12 columns, global shuffle": taxi,
        "all flights, without features": plain,
        "all flights, the demo": demo,
    }


def measure(folder: pathlib.Path, flags: Sequence[str], pairs: int) -> list[Pair]:
    """Runs a job so many times twice."""
    found: list[Pair] = []
    for index in range(pairs):
        seconds = {}
        for extra in ((), ("--statistics", "none"))[:: 1 if index % 2 else -1]:
            output = folder / "dataset"
            shutil.rmtree(output, ignore_errors=True)
            seconds[extra] = _run(folder, ["-m", "pipelines.prepare", *flags, "--output", str(output), *extra])
        found.append((seconds["--statistics", "none"], seconds[()]))
    return found


def _run(folder: pathlib.Path, arguments: Sequence[str]) -> float:
    """Returns the CPU seconds of a Python program.

    Raises:
      SystemExit: when it fails; with its last words.
    """
    environment = {**os.environ, "PYTHONPATH": str(_ROOT / "src")}
    output, error = folder / "stdout", folder / "stderr"
    usage = run([sys.executable, *arguments], environment, output, error, _TIMEOUT_SECONDS)
    if usage.code:
        sys.exit(f"{' '.join(arguments)} ended with {usage.code}: {error.read_text()[-2000:]}")
    return usage.cpu_seconds


def row(name: str, pairs: Sequence[Pair]) -> str:
    """Returns one line of the table: medians, and between which shares single pairs lie.

    >>> row("a job", [(4.0, 4.4), (5.0, 5.0), (4.0, 4.2)])
    '| a job | 4.0 | 4.4 | 5% | 0% to 10% |'
    """
    shares = sorted(other / one - 1 for one, other in pairs)
    none, default = (statistics.median(column) for column in zip(*pairs, strict=True))
    middle = statistics.median(shares)
    return f"| {name} | {none:.1f} | {default:.1f} | {middle:.0%} | {shares[0]:.0%} to {shares[-1]:.0%} |"


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path, help="where input is kept and made (default: a temporary one)")
    arguments = parser.parse_args()
    os.chdir(_ROOT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.folder or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        print("| job | CPU without, s | with, s | more | single pairs |\n| --- | ---: | ---: | ---: | --- |")
        for name, flags in jobs(folder, arguments.rows).items():
            print(row(name, measure(folder, flags, arguments.pairs)), flush=True)


if __name__ == "__main__":
    main()
