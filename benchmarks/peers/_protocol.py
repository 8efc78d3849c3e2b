"""How the benchmark and a contestant talk: a task as JSON in argv[1], a result as the last line of stdout."""

import dataclasses
import importlib.metadata
import json
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

_PACKAGES = (
    "penstock", "apache-beam", "tensorflow", "tensorflow-transform", "tensorflow-datasets", "tfx-bsl", "ray",
    "pyarrow", "numpy", "protobuf", "google-crc32c", "crc32c",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Task:
    """What to do.

    Attributes:
      input: the file to read.
      output: the folder to write into; it exists and is empty.
      format: csv, parquet or jsonl.
      compression: of the shards: none or gzip.
      shards: how many to write, for those who can choose.
      columns: name, kind (int, float, bytes) and minimum (or None) of each column, in the order of the file.
      schema: file with the same as a tensorflow_metadata Schema.
      setting: one of those that the contestant is tried with.
      payload: folder with shards that Penstock wrote, for the floor.
      pattern: what the shards are called, for the check.
    """

    input: str
    output: str
    format: str
    compression: str
    shards: int
    columns: list[dict[str, Any]]
    schema: str
    setting: str = ""
    payload: str = ""
    pattern: str = "*.tfrecord*"

    @property
    def suffix(self) -> str:
        """Of the shards."""
        return ".tfrecord.gz" if self.compression == "gzip" else ".tfrecord"

    def path(self, name: str) -> str:
        """A path in the output."""
        return str(pathlib.Path(self.output, name))


def main(job: Callable[[Task], None], prepare: Callable[[Task], None] | None = None) -> None:
    """Runs a job and says how long it took; `prepare` comes before and does not count."""
    task = Task(**json.loads(sys.argv[1]))
    if prepare:
        prepare(task)
    cpu = _cpu_seconds()
    start = time.perf_counter()
    job(task)
    seconds = time.perf_counter() - start
    sys.stdout.flush()
    print("\n" + json.dumps({"seconds": seconds, "cpu_before": cpu, "versions": versions()}), flush=True)


def versions() -> dict[str, str]:
    """Of what matters here, where it is installed."""
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
