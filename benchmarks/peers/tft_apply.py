"""Penstock, and Beam with tensorflow-transform alone, apply the graph of tft_fit.py; see benchmarks/tft.py."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2]))

from _protocol import Task, main
from benchmarks import tft

_JOBS = {"penstock": tft.penstock, "plain_beam": tft.plain_beam}


def job(task: Task) -> None:
    """Setting: who."""
    graph = pathlib.Path(task.schema).parent / "graph"
    _JOBS[task.setting](pathlib.Path(task.input), graph, pathlib.Path(task.output))


if __name__ == "__main__":
    main(job)
