"""How the job scales with workers, threads or processes, and what bounds threads: the time under the interpreter lock.

py-spy watches a job in threads twice at once, a hundred times a second. It counts the worker threads that run or could
run, and the one among them that holds the lock. The quotient is the share of the workers' active time under the lock.
While one thread holds it, no other can; so with a share of s no more than 1/s threads can be busy, on any number of
cores, and by Amdahl's law n cores are at most 1 / (s + (1 - s) / n) times as fast as one.

This bound says nothing about what stands beside the workers: building the graph, memory bandwidth, and the disk.

Processes are bound by their CPU time. That of sixteen tells on any machine what as many cores could do at most: what
the job itself takes, and a sixteenth of the rest. On fewer cores each process runs until it waits, as on a core of its
own, if the system allows that (Linux, as root); else they take turns, which costs caches and memory.
"""

import collections
import dataclasses
import datetime
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

NAME = "cores"
SCRIPT = "penstock_cores.py"
REQUIREMENTS = "pyspy.txt"
SHUFFLES = ("none", "global")

# Beam's names of what workers are.
THREADS, PROCESSES = "in_memory", "multi_processing"

# The names of the files that the script writes: what they count, and what it tells.
_ACTIVE, _LOCK, _TOLD = "active.txt", "lock.txt", "told.json"
_WORKER = "SdkWorker.process_bundle "
_STEP = re.compile(r"_?(\w+)Fn\.\w+ \((?:penstock|pipelines|\S*/penstock/)")
_BESIDE = "Beam, and functions without a DoFn"
_NAMES = {THREADS: "threads", PROCESSES: "processes"}
# Cores for which the table has a bound of threads, and processes whose CPU time is one.
_BOUNDS, _MANY = (4, 16, 64), 16

# Runs the job with a setting, and returns what it said, its CPU seconds, and the folder that it wrote to.
Launch = Callable[[str], tuple[Mapping[str, Any], float, pathlib.Path]]


@dataclasses.dataclass(frozen=True)
class Timed:
    """The quickest job with some workers.

    Attributes:
      workers: how many.
      seconds: after the imports.
      cpu_seconds: of the same time, and of all workers.
      mode: what the workers are.
      own_cpu_seconds: those of the job's own process, in which threads work too.
      sliced: whether the system let processes take turns on fewer cores.
    """

    workers: int
    seconds: float
    cpu_seconds: float
    mode: str = THREADS
    own_cpu_seconds: float = 0.0
    sliced: bool = False


@dataclasses.dataclass(frozen=True)
class Samples:
    """How often the threads of a step were seen active, and under the lock."""

    active: int = 0
    lock: int = 0

    def __add__(self, other: "Samples") -> "Samples":
        return Samples(self.active + other.active, self.lock + other.lock)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How one kind of shuffle scales.

    Attributes:
      shuffle: the value of `--shuffle`.
      runs: by number of workers, threads before processes.
      steps: samples by step, on the most threads.
    """

    shuffle: str
    runs: tuple[Timed, ...]
    steps: Mapping[str, Samples]

    @property
    def total(self) -> Samples:
        """The samples of all steps."""
        return sum(self.steps.values(), Samples())

    @property
    def share(self) -> float:
        """The share of the active time under the lock."""
        return self.total.lock / max(self.total.active, 1)

    def bound(self, cores: int) -> float:
        """How many times as fast as one thread so many cores are at most, with threads."""
        return 1 / (self.share + (1 - self.share) / cores)

    @property
    def processes(self) -> Timed | None:
        """The run with the most processes."""
        return max((run for run in self.runs if run.mode == PROCESSES), key=lambda run: run.workers, default=None)

    @property
    def least_seconds(self) -> float:
        """What the job takes at least with the most processes, if each has a core."""
        run = self.processes or self.runs[0]
        return run.own_cpu_seconds + (run.cpu_seconds - run.own_cpu_seconds) / run.workers


@dataclasses.dataclass(frozen=True)
class Result:
    """How the job scales on a machine."""

    rows: int
    created: str
    machine: Mapping[str, Any]
    scalings: tuple[Scaling, ...]

    @property
    def name(self) -> str:
        """The name of the result's files."""
        return f"{NAME}-{self.rows}"

    def to_json(self) -> str:
        """Returns indented JSON, with shares and bounds spelled out."""
        fields = dataclasses.asdict(self)
        for scaling, values in zip(self.scalings, fields["scalings"], strict=True):
            values["share"] = scaling.share
            values["bounds"] = {str(cores): scaling.bound(cores) for cores in _BOUNDS}
            values["least_seconds"] = scaling.least_seconds
        return json.dumps({"scenario": NAME, **fields}, indent=2) + "\n"


def measure(launch: Launch, py_spy: str, rows: int, repeat: int, machine: Mapping[str, Any]) -> Result:
    """Runs the jobs in rounds, so that a busy minute of the machine hits all alike."""
    counts = worker_counts(machine["cores"])
    # One worker is a thread of the job's own process.
    kinds = [(count, mode) for count in counts for mode in (THREADS, PROCESSES)[: 1 if count == 1 else 2]]
    if counts[-1] < _MANY:
        kinds.append((_MANY, PROCESSES))
    runs: dict[tuple[str, int, str], list[Timed]] = collections.defaultdict(list)
    steps: dict[str, dict[str, Samples]] = {shuffle: {} for shuffle in SHUFFLES}
    for _ in range(repeat):
        for shuffle in SHUFFLES:
            for workers, mode in kinds:
                told, cpu, folder = launch(f"{shuffle} {workers} {mode}")
                beside = json.loads((folder / _TOLD).read_text())
                runs[shuffle, workers, mode].append(Timed(workers, told["seconds"], cpu, mode, **beside))
            _, _, folder = launch(f"{shuffle} {counts[-1]} {THREADS} {py_spy}")
            steps[shuffle] = joined(steps[shuffle], read_samples(folder))
    scalings = (
        Scaling(
            shuffle, tuple(min(runs[shuffle, *kind], key=lambda run: run.seconds) for kind in kinds), steps[shuffle]
        )
        for shuffle in SHUFFLES
    )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Result(rows, now, machine, tuple(scalings))


def worker_counts(cores: int) -> list[int]:
    """Returns 1, 2, 4 and so on, and the number of cores.

    >>> worker_counts(12)
    [1, 2, 4, 8, 12]
    """
    return [*(1 << power for power in range(cores.bit_length()) if 1 << power < cores), cores]


def read_samples(folder: pathlib.Path) -> dict[str, Samples]:
    """Reads what py-spy counted, by step."""
    active = count_steps((folder / _ACTIVE).read_text().splitlines())
    lock = count_steps((folder / _LOCK).read_text().splitlines())
    return {step: Samples(active[step], lock[step]) for step in active | lock}


def joined(one: Mapping[str, Samples], other: Mapping[str, Samples]) -> dict[str, Samples]:
    """Adds samples step by step."""
    return {step: one.get(step, Samples()) + other.get(step, Samples()) for step in {**one, **other}}


def count_steps(stacks: Iterable[str]) -> collections.Counter[str]:
    """Counts the samples of worker threads by step: the innermost DoFn of Penstock, or Beam.

    >>> count_steps(["run (a.py);SdkWorker.process_bundle (b.py);_SpillFn.process (penstock/io/c.py);add (d.py) 3"])
    Counter({'Spill': 3})
    """
    found: collections.Counter[str] = collections.Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        if _WORKER in stack:
            names = _STEP.findall(stack)
            found[names[-1] if names else _BESIDE] += int(count)
    return found


def table(result: Result) -> str:
    """Makes the tables, in Markdown."""
    return "\n\n".join(part for scaling in result.scalings for part in _tables(result.rows, scaling))


def _tables(rows: int, scaling: Scaling) -> Sequence[str]:
    first, total = scaling.runs[0], scaling.total
    runs = [
        f"| `--shuffle {scaling.shuffle}`, workers | | rows/s | speed-up | CPU us a row |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    runs += [
        f"| {run.workers} | {_NAMES[run.mode]} | {rows / run.seconds:,.0f} | {first.seconds / run.seconds:.2f} "
        f"| {run.cpu_seconds / rows * 1e6:.2f} |"
        for run in scaling.runs
    ]
    steps = ["| step | of the active time | under the lock |", "| --- | ---: | ---: |"]
    steps += [
        f"| {step} | {samples.active / max(total.active, 1):.1%} | {samples.lock / max(total.active, 1):.1%} |"
        for step, samples in sorted(scaling.steps.items(), key=lambda item: -item[1].lock)
    ]
    steps.append(f"| all, of {total.active:,} samples | 100% | {scaling.share:.1%} |")
    bounds = ", ".join(f"{scaling.bound(cores):.1f} on {cores}" for cores in _BOUNDS)
    limit = 1 / scaling.share if scaling.share else float("inf")
    threads = f"Bound of the speed-up of threads: {bounds} cores, {limit:.1f} on any number."
    most = scaling.processes
    if most is None:
        return "\n".join(runs), "\n".join(steps), threads
    speed, ratio = rows / scaling.least_seconds, most.cpu_seconds / first.cpu_seconds
    processes = (
        f"Bound of {most.workers} processes on as many cores: {speed:,.0f} rows/s; the job itself takes "
        f"{most.own_cpu_seconds:.2f} s of it. CPU for a row: {ratio:.2f} times that of one thread"
        f"{', with processes that took turns on fewer cores' if most.sliced else ''}."
    )
    return "\n".join(runs), "\n".join(steps), threads, processes
