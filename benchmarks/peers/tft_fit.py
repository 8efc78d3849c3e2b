"""Fits the graph of benchmarks/tft.py to a sample, for the contestants of that scenario."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2]))

from _protocol import Task, main
from benchmarks.data import TAXI, generate
from benchmarks.tft import SAMPLE_ROWS, fit_graph


def job(task: Task) -> None:
    """The graph goes beside the schema."""
    folder = pathlib.Path(task.schema).parent
    sample = generate(folder / "sample.csv", "csv", TAXI, SAMPLE_ROWS, seed=1)
    fit_graph(sample.path, folder / "graph")


if __name__ == "__main__":
    main(job)
