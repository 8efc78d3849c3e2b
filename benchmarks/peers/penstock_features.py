"""Penstock: `prepare` fits the features of features.yaml and writes them, in one reading, without TensorFlow."""

import pathlib
import sys

from _protocol import Task, main

# `run` imports this when it is called; nobody's imports count.
from pipelines._jobs import prepare as prepare
from pipelines.prepare import run

FEATURES = pathlib.Path(__file__).with_name("features.yaml")


def job(task: Task) -> None:
    """Setting: --shuffle."""
    run(
        [
            f"--input={task.input}",
            f"--output={task.output}",
            f"--schema={task.schema}",
            f"--features={FEATURES}",
            f"--shuffle={task.setting}",
            f"--compression={task.compression}",
            f"--num_shards={task.shards}",
            "--max_reject_fraction=0.05",
        ]
    )
    if "tensorflow" in sys.modules:
        raise RuntimeError("TensorFlow was imported")


if __name__ == "__main__":
    main(job)
