"""Measures each stage of the job alone, on the same batches, in one thread of one process::

    python -m benchmarks.stages --rows 1000000 --repeat 5

Prints a Markdown table of nanoseconds of CPU per row. As in the job, each batch goes through the stages one after the
other, so a stage finds in the cache what the one before left there. Features are fitted and applied without TensorFlow.

With `--terms 5000000` it measures instead what a vocabulary of so many different terms costs: the whole job that fits
it, with imports, in a process of its own. A fifth more rows repeat some of the terms.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from benchmarks.data import TAXI, generate, schema_text
from benchmarks.measure import Usage, run
from penstock.io.batches import drop_rows, source_order, split_batch
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.event_times import assign_event_time
from penstock.io.columns.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.dataset.shard import write_shard
from penstock.io.dataset.shard_formats import load_format
from penstock.io.dataset.shard_formats.base import EncodedRows
from penstock.io.dead_letters.record import row_letters
from penstock.io.files.inputs import match_files
from penstock.io.formats.base import Parsed
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.kernel import native
from penstock.io.schema import load_schema, schema_features
from penstock.io.sort.merge import MergedRuns
from penstock.io.sort.records import Keys, records_batch
from penstock.io.sort.runs import MAX_RUN_BYTES, ORDERED_BUFFER_BYTES, Run, RunWriter
from penstock.transforms.checks.rules import Rule, compile_rules
from penstock.transforms.checks.validate import record_checks, validate_batch
from penstock.transforms.features.apply import apply_graph, load_graph
from penstock.transforms.splits.by_hash import assign_split
from pipelines import fit

RULES = (
    Rule("fare", "fare_amount < 10000"),
    Rule("total", "total_amount >= 0 AND total_amount < 10000"),
    Rule("distance", "trip_distance BETWEEN 0 AND 1000"),
    Rule("passengers", "passenger_count <= 9"),
    Rule("payment", "payment_type IN ('Credit card', 'Cash', 'No charge', 'Dispute')"),
)

FEATURES = pathlib.Path(__file__).parent / "peers" / "features.yaml"

SAMPLE_ROWS = 20_000

# The names of the stages in the table, in order, and whether every job has them.
STAGES = {
    "read": ("read CSV, type by the schema, reject 0.4 %", True),
    "validate": ("validate against the schema", True),
    "reject": ("dead letters of the 0.6 % that break it", True),
    "rules": ("five rules in SQL", False),
    "time": ("event time from a text", False),
    "split": ("assign one split", True),
    "splits": ("assign one of three splits by a key", False),
    "features": ("apply 12 features", False),
    "encode": ("encode tf.Examples", True),
    "spill": ("spill in the order of the input", True),
    "shard": ("write the shard in the order of the input", True),
    "hash": ("hash rows", False),
    "pack": ("pack tf.Examples", False),
    "sort": ("sort and spill them shuffled", False),
    "merge": ("merge and write the shard shuffled", False),
}


class Clock:
    """CPU seconds of the process by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the CPU time of the block."""
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


class Stages:
    """Everything that a job sets up once."""

    def __init__(self, source: pathlib.Path, schema: pathlib.Path, features: str):
        self._file = match_files([str(source)])[0]
        message = load_schema(str(schema))
        self._features = schema_features(message)
        self._checks = record_checks(message)
        self._rules = compile_rules(RULES, self._features)
        self._fitted = load_graph(features)
        self._format = load_format("tfrecord", "none")

    def run(self, folder: pathlib.Path) -> tuple[int, dict[str, float]]:
        """Returns the number of rows, and the CPU seconds of each stage."""
        clock, rows = Clock(), 0
        ordered = RunWriter(str(folder), ["train"], ORDERED_BUFFER_BYTES)
        shuffled = RunWriter(str(folder), ["train"], MAX_RUN_BYTES, make_packing=self._format.packing)
        runs: dict[str, list[Run]] = {"spill": [], "sort": []}
        for batch in self._read(clock):
            rows += batch.num_rows
            batch = self._check(clock, batch)
            order = source_order(0, batch).to_numpy()
            with clock.stage("hash"):
                keys = hash_rows(batch, [feature.name for feature in self._features], salted(0, SHUFFLE_SALT))
            with clock.stage("encode"):
                records = _records(self._format.encode(batch), order)
            with clock.stage("spill"):
                runs["spill"] += ordered.add(records)
            with clock.stage("pack"):
                records = _records(self._format.pack(batch), keys)
            with clock.stage("sort"):
                runs["sort"] += shuffled.add(records)
        for name, writer in (("spill", ordered), ("sort", shuffled)):
            with clock.stage(name):
                runs[name] += writer.flush()
        merged = {
            "shard": MergedRuns(runs["spill"]),
            "merge": MergedRuns(runs["sort"], make_packing=self._format.packing),
        }
        for name, records in merged.items():
            with clock.stage(name):
                write_shard(str(folder / f"{name}.tfrecord"), "shard", "train", self._format, records)
        return rows, clock.seconds

    def _read(self, clock: Clock) -> Iterator[pa.RecordBatch]:
        """Yields batches of good rows."""
        reader = CsvFormat()
        for part in reader.plan(self._file):
            blocks = reader.read(self._file, part, self._features)
            while True:
                with clock.stage("read"):
                    parsed = next(blocks, None)
                    batch = None if parsed is None else self._typed(parsed)
                if batch is None:
                    break
                yield from split_batch(batch)

    def _typed(self, parsed: Parsed) -> pa.RecordBatch:
        batch, reasons = conform_batch(parsed.batch, self._features)
        if reasons:
            row_letters(parsed.with_source(), reasons, "read", typed=batch).json_lines()
        return drop_rows(batch, reasons) if reasons else batch

    def _check(self, clock: Clock, batch: pa.RecordBatch) -> pa.RecordBatch:
        with clock.stage("rules"):
            self._rules.check(batch)
        with clock.stage("validate"):
            reasons = validate_batch(batch, self._checks).reasons
        with clock.stage("reject"):
            if reasons:
                row_letters(batch, reasons, "validate").json_lines()
                batch = drop_rows(batch, reasons)
        with clock.stage("time"):
            assign_event_time(batch, "pickup_datetime")
        with clock.stage("splits"):
            assign_split(batch, {"train": 0.8, "eval": 0.1, "test": 0.1}, ["vendor_id", "pickup_datetime"])
        with clock.stage("features"):
            apply_graph(self._fitted, batch)
        with clock.stage("split"):
            return assign_split(batch, {"train": 1.0}, None)


def _records(encoded: EncodedRows, keys: Keys) -> pa.RecordBatch:
    splits = np.zeros(len(keys), np.uint16)
    return records_batch(splits, keys, encoded.data, encoded.offsets, None, encoded.layout)


def markdown(rows: int, runs: list[dict[str, float]]) -> str:
    """Makes the table, with the least time of each stage over the runs."""
    nanos = {name: min(run[name] for run in runs) / rows * 1e9 for name in STAGES if name in runs[0]}
    total = sum(nanos[name] for name, (_, always) in STAGES.items() if always)
    lines = ["| stage | ns a row | of the job |", "| --- | ---: | ---: |"]
    for name, (title, always) in STAGES.items():
        if name in nanos:
            share = f"{nanos[name] / total:.0%}" if always else ""
            lines.append(f"| {title} | {nanos[name]:,.0f} | {share} |")
    return "\n".join([*lines, f"| the job with `--shuffle none` | {total:,.0f} | 100% |"])


def fit_features(sample: pathlib.Path, folder: pathlib.Path, engine: str) -> None:
    """Fits the 12 features to the rows of a CSV file, and stores the schema of the rows with them."""
    folder.mkdir(parents=True)
    (folder / "schema.pbtxt").write_text(schema_text(TAXI))
    flags = {"input": sample, "schema": folder / "schema.pbtxt", "features": FEATURES, "output": folder}
    fit.run([*(f"--{name}={path}" for name, path in flags.items()), f"--features_engine={engine}"])


def fit_terms(folder: pathlib.Path, terms: int) -> Usage:
    """Fits a vocabulary of different terms; returns what the job used.

    Raises:
      RuntimeError: when the job fails, or finds another number of terms.
    """
    rng = np.random.default_rng(0)
    numbers = np.append(np.arange(terms), rng.zipf(1.3, terms // 5) % terms)
    rng.shuffle(numbers)
    texts = [pa.array(values).cast(pa.string()) for values in (numbers, numbers * 7_919 % 1_000_003)]
    column = pc.binary_join_element_wise(*texts, "-")
    pa_csv.write_csv(pa.table({"term": column}), folder / "terms.csv")
    one = "presence { min_fraction: 1 } value_count { min: 1 max: 1 }"
    (folder / "schema.pbtxt").write_text(f'feature {{ name: "term" type: BYTES {one} }}')
    (folder / "features.yaml").write_text("features: {term: {ops: [compute_and_apply_vocabulary]}}")
    flags = {"input": "terms.csv", "schema": "schema.pbtxt", "features": "features.yaml", "output": "graph"}
    command = [sys.executable, "-m", "pipelines.fit", *(f"--{name}={folder / path}" for name, path in flags.items())]
    usage = run([*command, "--features_engine=arrow"], os.environ, folder / "out", folder / "errors", 3600)
    with (folder / "graph" / "vocabularies" / "term").open("rb") as file:
        found = sum(1 for _ in file)
    if usage.code or found != terms:
        raise RuntimeError(f"the job found {found:,} terms; {(folder / 'errors').read_text()[-2000:]}")
    return usage


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--terms", type=int)
    given = parser.parse_args(arguments)
    if given.terms:
        with tempfile.TemporaryDirectory() as name:
            used = fit_terms(pathlib.Path(name), given.terms)
        memory = f"{used.peak_bytes / 1e6:,.0f} MB"
        print(f"{given.terms:,} terms: {used.cpu_seconds:.1f} s of CPU, {used.wall_seconds:.1f} s, {memory}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        dataset = generate(folder / "rows.csv", "csv", TAXI, given.rows)
        (folder / "schema.pbtxt").write_text(schema_text(TAXI))
        sample = generate(folder / "sample.csv", "csv", TAXI, SAMPLE_ROWS, seed=1)
        fit_features(sample.path, folder / "features", "arrow")
        stages = Stages(dataset.path, folder / "schema.pbtxt", str(folder / "features"))
        runs = []
        for _ in range(given.repeat):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                rows, seconds = stages.run(pathlib.Path(scratch))
                runs.append(seconds)
    print(f"\n{rows:,} rows of {len(TAXI)} columns, {'with' if native.ENABLED else 'without'} the kernel\n")
    print(markdown(rows, runs))


if __name__ == "__main__":
    main()
