"""Measures Penstock, its peers and the floor on the same rows: `make bench`, or::

python -m benchmarks.run --rows 100000 --only penstock,floor,beam
python -m benchmarks.run --scenario wide,parquet
"""

import argparse
import contextlib
import dataclasses
import datetime
import functools
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import cores, measure
from benchmarks.contest import (
    CONTESTANTS,
    FLOOR,
    PARQUET_WRITERS,
    PENSTOCK,
    PROFILERS,
    SCENARIOS,
    Contestant,
    Scenario,
)
from benchmarks.data import VERSION, Dataset, schema_text
from benchmarks.environments import CACHE, InstallError, python_of
from benchmarks.report import OK, Entry, Result, Run, chart, markdown, table, wrong_digests

ROOT = pathlib.Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"

_SHARDS = 4

# A setting that took this many seconds is not tried again; contestants that are not quick sit out with more rows.
_LONG_SECONDS = 20.0
_MANY_ROWS = 1_000_000


class ContestantError(Exception):
    """A contestant, or the check of its output, failed."""


# Has a script check what a task has left: what it says, and what it used.
Check = Callable[[str], tuple[dict[str, Any], measure.Usage]]


@dataclasses.dataclass
class Arena:
    """The place where a scenario's contestants run: the input, its schema, and a folder that is removed at the end."""

    scenario: Scenario
    dataset: Dataset
    schema: pathlib.Path
    folder: pathlib.Path
    timeout: float

    def task(self, contestant: Contestant, setting: str, output: pathlib.Path) -> str:
        """Returns the task that a contestant is given, as JSON."""
        return json.dumps(
            {
                "input": str(self.dataset.path),
                "output": str(output),
                "format": self.scenario.format,
                "compression": self.scenario.compression,
                "shards": _SHARDS,
                "columns": self.dataset.columns,
                "schema": str(self.schema),
                "setting": setting,
                "payload": str(self.output_of(PENSTOCK)),
                "pattern": contestant.pattern,
                "shard_format": self.scenario.shard_format,
            }
        )

    def set_up(self) -> None:
        """Runs the setup that is needed once, before all contestants."""
        if self.scenario.setup:
            self.launch(sys.executable, self.scenario.setup, self.task(CONTESTANTS[0], "", self.folder))

    def output_of(self, name: str) -> pathlib.Path:
        """Returns the folder that a contestant writes to."""
        return self.folder / name

    def launch(self, python: str, script: str, task: str) -> tuple[dict[str, Any], measure.Usage]:
        """Runs a script of peers/ and returns the last line of its output.

        Raises:
          ContestantError: when it fails, with the end of its output.
        """
        out, error = self.folder / "stdout.txt", self.folder / "stderr.txt"
        usage = measure.run([python, str(PEERS / script), task], _environment(python), out, error, self.timeout)
        if usage.code:
            raise ContestantError(_last_words(error.read_text(errors="replace"), usage.code))
        return json.loads(out.read_text(errors="replace").strip().splitlines()[-1]), usage

    def run(self, contestant: Contestant, entry: Entry) -> Entry:
        """Runs a contestant once with each setting that is worth it, and returns its entry with these runs."""
        script, requirements = self.scenario.checker
        try:
            python, checker = (_python(contestant.requirements), _python(requirements))
        except InstallError as error:
            return dataclasses.replace(entry, status="not installed", note=str(error))
        for setting in contestant.settings:
            if entry.status == OK and _is_worth_it(entry, setting):
                entry = self._try(entry, contestant, setting, python, functools.partial(self.launch, checker, script))
        return entry if entry.runs or entry.status != OK else dataclasses.replace(entry, status="failed")

    def _try(self, entry: Entry, contestant: Contestant, setting: str, python: str, check: Check) -> Entry:
        """Adds a run with a setting; checks the output of the first."""
        output = self.output_of(contestant.name)
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        warm(self.dataset.path)
        task = self.task(contestant, setting, output)
        is_first = not _runs_with(entry, setting)
        try:
            told, usage = self.launch(python, contestant.script, task)
            cpu = usage.cpu_seconds - told["cpu_besides"]
            run = Run(setting, told["seconds"], usage.wall_seconds, cpu, usage.peak_bytes)
            _progress(_line(contestant.name, run, self.dataset.rows))
            entry = dataclasses.replace(entry, runs=(*entry.runs, run), versions=told["versions"])
            return self._checked(entry, check(self._written(task))[0]) if is_first else entry
        except ContestantError as error:
            note = f"{setting}: {error}" if setting else str(error)
            _progress(f"{contestant.name}: {note}")
            return dataclasses.replace(entry, note=note, failed=(*entry.failed, setting))

    def _written(self, task: str) -> str:
        """Returns the task, with the features expected in the output instead of the columns."""
        features = [{"name": name, "kind": kind} for name, kind in self.scenario.outputs.items()]
        return json.dumps(json.loads(task) | {"columns": features}) if features else task

    def _checked(self, entry: Entry, found: dict[str, Any]) -> Entry:
        """Returns the entry, after comparing it with what its output holds."""
        expected, before = self.dataset.rows - self.dataset.bad_rows, entry.digest
        entry = dataclasses.replace(
            entry,
            rows_out=found["rows"],
            bytes_out=found["bytes"],
            shards=found["shards"],
            digest=found["digest"],
            computed=tuple(found.get("computed", ())),
        )
        if mistakes := found.get("mistakes"):
            return dataclasses.replace(entry, status="wrong", note="; ".join(mistakes[:3]))
        if found["rows"] != expected:
            note = f"{found['rows']:,} rows out, not {expected:,}, with setting {entry.runs[-1].setting!r}"
            return dataclasses.replace(entry, status="wrong", note=note)
        if before and before != entry.digest:
            note = f"other values with setting {entry.runs[-1].setting!r} than with another"
            return dataclasses.replace(entry, status="wrong", note=note)
        return entry


def _python(requirements: str | None) -> str:
    """Returns the Python of an environment in peers/, or Penstock's own."""
    return python_of(PEERS / requirements) if requirements else sys.executable


def _runs_with(entry: Entry, setting: str) -> list[Run]:
    return [run for run in entry.runs if run.setting == setting]


def _is_worth_it(entry: Entry, setting: str) -> bool:
    """Whether a setting is tried once more: it did not fail, it is quick, and others are not much quicker."""
    fastest = min((run.seconds for run in _runs_with(entry, setting)), default=0.0)
    best = min((run.seconds for run in entry.runs), default=0.0)
    return setting not in entry.failed and fastest <= min(_LONG_SECONDS, 2 * best)


def _line(name: str, run: Run, rows: int) -> str:
    speed = f"{rows / run.seconds:12,.0f} rows/s {run.cpu_seconds:8.2f} s CPU {run.peak_bytes / 1e6:8,.0f} MB"
    return f"{f'{name} {run.setting}':34}{run.seconds:8.2f} s {speed}"


def warm(path: pathlib.Path) -> None:
    """Flushes writes to disk, and reads the input into the page cache."""
    os.sync()
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _environment(python: str) -> dict[str, str]:
    paths = [str(PEERS), *([str(ROOT / "src")] if python == sys.executable else [])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "RAY_USAGE_STATS_ENABLED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


def _last_words(text: str, code: int) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return f"exit code {code}: " + (" ".join(lines[-2:])[-300:] if lines else "said nothing")


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _input(scenario: Scenario, rows: int) -> pathlib.Path:
    return CACHE / "data" / f"v{VERSION}-{scenario.data}-{rows}.{scenario.format}"


@contextlib.contextmanager
def _arena(scenario: Scenario, dataset: Dataset, timeout: float) -> Iterator[Arena]:
    (CACHE / "runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE / "runs") as folder:
        schema = pathlib.Path(folder, "schema.pbtxt")
        schema.write_text(schema_text(scenario.columns))
        yield Arena(scenario, dataset, schema, pathlib.Path(folder), timeout)


def bench(scenario: Scenario, rows: int, only: Sequence[str], repeat: int, everyone: bool, timeout: float) -> Result:
    """Runs one scenario: everyone once, then everyone again, so that a busy minute of the machine hits all alike."""
    rows = min(max(1, rows // scenario.divisor), scenario.most_rows or rows)
    _progress(f"{scenario.title}, {rows:,} rows")
    dataset = scenario.generate(_input(scenario, rows), scenario.format, scenario.columns, rows)
    with _arena(scenario, dataset, timeout) as arena:
        arena.set_up()
        contestants = [one for one in scenario.contestants or CONTESTANTS if not only or one.name in only]
        entries = [_entry(arena, contestant, everyone) for contestant in contestants]
        for _ in range(repeat):
            entries = [_again(arena, *pair) for pair in zip(contestants, entries, strict=True)]
    for name in wrong_digests(entries):
        index = next(index for index, entry in enumerate(entries) if entry.name == name)
        entries[index] = dataclasses.replace(entries[index], status="wrong", note="other values than the rest")
    return Result(
        scenario.name,
        scenario.title,
        rows,
        dataset.bad_rows,
        dataset.bytes,
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine(),
        tuple(entries),
        product=scenario.product,
        base=scenario.base,
    )


def bench_cores(rows: int, repeat: int, timeout: float) -> cores.Result:
    """Runs the main job with 1, 2, 4 and so on workers, and has py-spy watch the most threads.

    Raises:
      InstallError: when py-spy cannot be installed.
      ContestantError: when a job fails, or py-spy may not watch it here.
    """
    scenario = SCENARIOS["main"]
    _progress(f"workers, {rows:,} rows")
    dataset = scenario.generate(_input(scenario, rows), scenario.format, scenario.columns, rows)
    py_spy = pathlib.Path(python_of(PEERS / cores.REQUIREMENTS)).with_name("py-spy")
    with _arena(scenario, dataset, timeout) as arena:

        def launch(setting: str) -> tuple[dict[str, Any], float, pathlib.Path]:
            output = arena.output_of(cores.NAME)
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir()
            warm(dataset.path)
            told, usage = arena.launch(sys.executable, cores.SCRIPT, arena.task(CONTESTANTS[0], setting, output))
            cpu = usage.cpu_seconds - told["cpu_besides"]
            _progress(f"{' '.join(setting.split()[:3]):34}{told['seconds']:8.2f} s {cpu:8.2f} s CPU")
            return told, cpu, output

        return cores.measure(launch, str(py_spy), rows, repeat, machine())


def _entry(arena: Arena, contestant: Contestant, everyone: bool) -> Entry:
    """Returns an entry without runs; it says so if there will be none."""
    entry = Entry(contestant.name, contestant.title)
    if arena.scenario.name in contestant.cannot:
        return dataclasses.replace(entry, status="skipped", note=contestant.cannot[arena.scenario.name])
    if arena.dataset.rows * arena.scenario.divisor > _MANY_ROWS and not (contestant.quick or everyone):
        return dataclasses.replace(entry, status="skipped", note="too slow for so many rows; see --all")
    return entry


def _again(arena: Arena, contestant: Contestant, entry: Entry) -> Entry:
    """Returns the entry with the runs of one more round."""
    if entry.status != OK:
        return entry
    if contestant.name == FLOOR and not arena.output_of(PENSTOCK).exists():
        return dataclasses.replace(entry, status="skipped", note="writes what penstock wrote, which did not run")
    entry = arena.run(contestant, entry)
    if contestant.name != PENSTOCK or entry.status != OK:
        shutil.rmtree(arena.output_of(contestant.name), ignore_errors=True)
    return entry


def machine() -> dict[str, Any]:
    """Describes the machine and the versions that the numbers hold for."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": _commit(),
    }


def _cpu_name() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write(result: Result, folder: pathlib.Path) -> None:
    """Writes the JSON, the Markdown table and the chart."""
    _write(folder, result.name, {".json": result.to_json(), ".md": markdown(result), ".svg": chart(result)})


def write_cores(result: cores.Result, folder: pathlib.Path) -> None:
    """Writes the JSON and the Markdown tables."""
    _write(folder, result.name, {".json": result.to_json(), ".md": cores.table(result) + "\n"})


def _write(folder: pathlib.Path, name: str, texts: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        (folder / (name + suffix)).write_text(f"# {name}\n\n{text}" if suffix == ".md" else text)
    _progress(f"written: {folder / name}{', '.join(texts)}")


def _names(text: str, known: Sequence[str]) -> list[str]:
    names = list(known) if text == "all" else [name for name in text.split(",") if name]
    if unknown := sorted(set(names) - set(known)):
        raise argparse.ArgumentTypeError(f"must be among {', '.join(known)}, got {', '.join(unknown)}")
    return names


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the arguments."""
    names = list(dict.fromkeys(contestant.name for contestant in (*CONTESTANTS, *PROFILERS, *PARQUET_WRITERS)))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the main scenario; others have fewer if longer")
    scenarios, only = (functools.partial(_names, known=known) for known in ([*SCENARIOS, cores.NAME], names))
    parser.add_argument(
        "--scenario", type=scenarios, default=["main"], help=f"all, or {', '.join((*SCENARIOS, cores.NAME))}"
    )
    parser.add_argument("--only", type=only, default=[], help=f"these contestants: {', '.join(names)}")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; a setting that took 20 s is not tried again")
    parser.add_argument("--all", action="store_true", help="slow contestants too on more than a million rows")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one run")
    parser.add_argument(
        "--output", type=pathlib.Path, help="folder for JSON, table and chart (default: benchmarks/results, if all ran)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if a contestant failed."""
    arguments = parse(argv)
    measure.adopt_orphans()
    folder = arguments.output or (None if arguments.only else ROOT / "benchmarks" / "results")
    failed = False
    for name in arguments.scenario:
        if name == cores.NAME:
            failed |= not _main_cores(arguments, folder)
            continue
        result = bench(
            SCENARIOS[name], arguments.rows, arguments.only, arguments.repeat, arguments.all, arguments.timeout
        )
        print(f"\n{table(result)}\n", flush=True)
        if folder:
            write(result, folder)
        failed |= any(entry.status not in (OK, "skipped") for entry in result.entries)
    return int(failed)


def _main_cores(arguments: argparse.Namespace, folder: pathlib.Path | None) -> bool:
    """Returns whether it could be measured."""
    try:
        result = bench_cores(arguments.rows, arguments.repeat, arguments.timeout)
    except (InstallError, ContestantError) as error:
        _progress(f"{cores.NAME}: {error}")
        return False
    print(f"\n{cores.table(result)}\n", flush=True)
    if folder:
        write_cores(result, folder)
    return True


if __name__ == "__main__":
    sys.exit(main())
