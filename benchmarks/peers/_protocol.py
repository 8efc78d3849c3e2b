"""How the benchmark and a contestant talk: a task as JSON in argv[1], a result as the last line of stdout."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

_PACKAGES = (
    "penstock", "apache-beam", "tensorflow", "tensorflow-transform", "tensorflow-datasets", "tfx-bsl", "ray",
    "pyarrow", "numpy", "protobuf", "google-crc32c", "crc32c", "tensorflow-data-validation", "fg-data-profiling",
    "whylogs", "pandas", "polars", "duckdb",
)  # fmt: skip

# In the output: what `main` was told.
TOLD = "told.json"

# Times the input: what is spilled, what is written, and what is in memory.
_WARM_FACTOR = 16


@dataclasses.dataclass(frozen=True)
class Task:
    """What to do.

    Attributes:
      input: the file to read.
      output: the folder to write into; it exists and is empty.
      format: csv, parquet or jsonl.
      compression: of the shards: none or gzip; of Parquet, zstd.
      shards: how many to write, for those who can choose.
      columns: name, kind (int, float, bytes) and minimum (or None) of each column, in the order of the file.
      schema: file with the same as a tensorflow_metadata Schema.
      setting: one of those that the contestant is tried with.
      payload: folder with shards that Penstock wrote, for the floor.
      pattern: what the shards are called, for the check.
      shard_format: of the output, as Penstock calls it.
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
    shard_format: str = "tfrecord"

    @property
    def suffix(self) -> str:
        """Of the shards."""
        return ".tfrecord.gz" if self.compression == "gzip" else ".tfrecord"

    def path(self, name: str) -> str:
        """A path in the output."""
        return str(pathlib.Path(self.output, name))


def main(
    job: Callable[[Task], Any],
    prepare: Callable[[Task], None] | None = None,
    tell: Callable[[Any], dict[str, Any]] | None = None,
) -> None:
    """Runs a job and says how long it took.

    `prepare` comes before and does not count; nor does `tell`, which comes after and writes what the job returned into
    the output, in the form that the check reads.
    """
    task = Task(**json.loads(sys.argv[1]))
    if prepare:
        prepare(task)
    _warm_pages(task)
    before = _cpu_seconds()
    start = time.perf_counter()
    result = job(task)
    seconds, after = time.perf_counter() - start, _cpu_seconds()
    if tell:
        pathlib.Path(task.path(TOLD)).write_text(json.dumps(tell(result)))
    sys.stdout.flush()
    cpu = before + _cpu_seconds() - after
    print("\n" + json.dumps({"seconds": seconds, "cpu_besides": cpu, "versions": versions()}), flush=True)


def _warm_pages(task: Task) -> None:
    """Uses as much memory as the job may, and gives it back.

    A virtual machine gets its memory from the host when it first touches it, and may lose it again when it is free for
    two seconds (free page reporting). Measured: 12 us for such a page of 4 KiB, 0.8 us for another one; who writes
    400 MB in a second would be measured by that. The pages are those of a file, so that nobody's memory grows.
    """
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    block = bytes(1 << 20)
    with tempfile.TemporaryFile(dir=task.output) as file:
        for _ in range(min(_WARM_FACTOR * os.path.getsize(task.input), free // 4) // len(block)):
            file.write(block)


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
