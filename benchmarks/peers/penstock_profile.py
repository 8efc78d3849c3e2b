"""Penstock: the job `profile`, from CSV to a file of statistics; types are inferred in a pass of their own."""

import os
import pathlib

# As the command does, before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from _proto import columns
from _protocol import Task, main
from tensorflow_metadata.proto.v0 import statistics_pb2

# `run` imports this when it is called; nobody's imports count.
from pipelines._jobs import profile as profile
from pipelines.profile import run


def job(task: Task) -> pathlib.Path:
    """No settings."""
    path = task.path("statistics.pb")
    if code := run([f"--input={task.input}", f"--output={path}"]):
        raise SystemExit(code)
    return pathlib.Path(path)


def tell(path: pathlib.Path) -> dict:
    """What the file says."""
    return columns(statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()))


if __name__ == "__main__":
    main(job, tell=tell)
