"""Runs `prepare` over collections of files that others wrote, and compares each value with that of another reader.

::

    python tests/collections/collection_runs.py FOLDER [PART_OF_A_NAME]

The folders that this is made for are parquet-testing and arrow-testing of the Apache projects, JSONTestSuite and
csv-spectrum; any other will do. Each file is prepared in a process of its own, forked from this one, with 6 GiB of
address space and two minutes of processor time. A file passes

- with exit code 0, if rows in = rows out + rejected, and each value of each row that came out is the one that pyarrow
  (Parquet, ORC), fastavro (Avro), or Python (CSV, JSON Lines) reads, under the conversions of docs/types.md;
- with exit code 1 or 2, if the last lines say why, without a traceback.

Prints a line for each file, and counts. The exit code is 1 if a file did not pass.
"""

import collections
import dataclasses
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator

from quick_runner import quick_runner
from values import differences

from penstock.io.formats.registry import FORMATS
from pipelines import prepare
from pipelines._cli.command import command
from pipelines._jobs import prepare as _prepare  # noqa: F401  (imported before the fork, so that the children need not)

_MEMORY_BYTES = 6 << 30
_CPU_SECONDS = 120

# Nothing but the first bytes of some files says what they are.
_MAGIC = {b"PAR1": "parquet", b"PARE": "parquet", b"Obj\x01": "avro", b"ORC": "orc"}

# Files beside the data: texts, keys, and formats that are none of ours.
_OTHERS = {"md", "txt", "json", "csv", "arrow_file", "stream", "gz"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a file: its exit code, negative for a signal; its last line; and what is wrong, if anything is."""

    path: pathlib.Path
    format: str
    code: int
    last_line: str
    faults: list[str]


def data_files(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    """Yields the files of a folder that are of a known format, with its name."""
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.parts)
        if path.is_file() and not is_hidden and (name := format_of(path)) is not None:
            yield path, name


def format_of(path: pathlib.Path) -> str | None:
    """Returns the format of a file by its suffix, its first bytes, or, if it is a mutation, its folder."""
    suffix = path.suffix.lstrip(".")
    by_suffix = {suffix: entry.name for entry in FORMATS.values() for suffix in entry.suffixes if suffix != "txt"}
    if suffix in by_suffix:
        return by_suffix[suffix]
    with path.open("rb") as stream:
        head = stream.read(4)
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    is_mutation = "fuzzing" in path.parts and "parquet" in path.parts and suffix not in _OTHERS
    return found or ("parquet" if is_mutation else None)


def run(path: pathlib.Path, name: str) -> Outcome:
    """Prepares one file, and compares what came out."""
    with tempfile.TemporaryDirectory() as work:
        dataset, log, found = pathlib.Path(work, "dataset"), pathlib.Path(work, "log"), pathlib.Path(work, "found")
        code = _in_a_child(lambda: _prepare_file(path, name, dataset), log)
        said = log.read_text(errors="replace")
        faults = [f"{text} in what it said" for text in ("Traceback", "UnicodeDecodeError") if text in said]
        if code == 0:
            compared = _in_a_child(lambda: print(json.dumps(differences(path, name, dataset))), found)
            faults += json.loads(found.read_text()) if compared == 0 else [f"not compared: {_last_line(found)}"]
        elif code not in (1, 2):
            faults.append(f"ended with {signal.Signals(-code).name if code < 0 else code}")
        elif not said.strip():
            faults.append("says nothing")
        return Outcome(path, name, code, _last_line(log), faults)


def _last_line(log: pathlib.Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or [""])[-1]


def _prepare_file(path: pathlib.Path, name: str, dataset: pathlib.Path) -> int:
    flags = ["--format", name, "--output_format", "parquet", "--shuffle", "none", "--max_reject_fraction", "1"]
    sys.argv = ["prepare", "--input", str(path), "--output", str(dataset), *flags, "--direct_num_workers", "1"]
    with quick_runner():
        return command("prepare", prepare.run)


def _in_a_child(task: Callable[[], int | None], log: pathlib.Path) -> int:
    """Runs a task in a process of its own, what it prints in a file; returns its exit code, negative for a signal."""
    child = os.fork()
    if not child:
        code = 3
        try:
            _limit()
            stream = os.open(log, os.O_WRONLY | os.O_CREAT)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            code = task() or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return _wait(child)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _wait(child: int) -> int:
    """Returns the exit code of a child, negative for a signal; one that hangs is killed."""
    deadline = time.monotonic() + 10 * _CPU_SECONDS
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def main(folder: str, wanted: str = "") -> int:
    """Runs over all files; returns the exit code."""
    counts: collections.Counter[str] = collections.Counter()
    failed = 0
    for path, name in data_files(pathlib.Path(folder)):
        if wanted not in str(path):
            continue
        outcome = run(path, name)
        counts[f"{name}: exit {outcome.code}"] += 1
        failed += bool(outcome.faults)
        shown = "; ".join(outcome.faults) if outcome.faults else outcome.last_line if outcome.code else "equal"
        mark = "FAILED" if outcome.faults else "ok"
        print(f"{mark:6} exit {outcome.code} {name:8} {path.relative_to(folder)}: {shown}", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    print(f"{sum(counts.values())} files, {failed} failed")
    return 1 if failed or not counts else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
