"""Compares the job with features of tensorflow-transform with plain Beam, on the same rows and the same graph::

    python -m benchmarks.tft --rows 200000

The graph of 12 features is fitted once, on a sample. Penstock applies it in `prepare --transform`; plain Beam follows
the documentation of tensorflow-transform: dicts into TransformDataset, ExampleProtoCoder, WriteToTFRecord. The time
is that of the whole job without imports; both must write the same number of rows.
"""

import argparse
import dataclasses
import glob
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import apache_beam as beam
import pyarrow as pa
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.data import TAXI, generate
from benchmarks.peers._rows import RowParser, is_good
from benchmarks.stages import SAMPLE_ROWS, fit_features
from penstock.io.dataset.manifest import read_manifest
from penstock.io.examples.frames import read_frames
from pipelines import prepare

Contestant = Callable[[pathlib.Path, pathlib.Path, pathlib.Path], int]


def penstock(source: pathlib.Path, graph: pathlib.Path, output: pathlib.Path) -> int:
    """Runs the main job with a graph of `fit_features`; returns the number of rows that it writes."""
    prepare.run(
        [
            f"--input={source}",
            f"--schema={graph / 'schema.pbtxt'}",
            f"--transform={graph}",
            f"--output={output}",
            "--shuffle=none",
            "--compression=none",
        ]
    )
    manifest = read_manifest(str(output))
    return 0 if manifest is None else sum(shard.records for shard in manifest.shards)


def plain_beam(source: pathlib.Path, graph: pathlib.Path, output: pathlib.Path) -> int:
    """Does the same with Beam and tensorflow-transform alone."""
    options = PipelineOptions([], runner="FnApiRunner", direct_num_workers=1, direct_running_mode="in_memory")
    metadata = tft.TFTransformOutput(str(graph)).raw_metadata
    names = [feature.name for feature in metadata.schema.feature]
    with (
        tempfile.TemporaryDirectory() as scratch,
        tft_beam.Context(temp_dir=scratch),
        beam.Pipeline(options=options) as pipeline,
    ):
        rows = (
            pipeline
            | beam.io.ReadFromText(str(source), skip_header_lines=1)
            | "Parse" >> beam.Map(RowParser([column.public() for column in TAXI]).from_line)
            | beam.Filter(is_good).with_output_types(dict)
            | "Select" >> beam.Map(_select, names)
        )
        transform = pipeline | tft_beam.ReadTransformFn(str(graph))
        features, made = ((rows, metadata), transform) | tft_beam.TransformDataset()
        coder = tft.coders.ExampleProtoCoder(made.schema)
        _ = features | "Encode" >> beam.Map(coder.encode) | beam.io.WriteToTFRecord(str(output / "part"))
    return sum(map(_count_records, glob.glob(f"{glob.escape(str(output))}/part*")))


def _select(row: dict, names: list[str]) -> dict:
    return {name: row[name] for name in names}


def _count_records(path: str) -> int:
    with pa.OSFile(path) as file:
        return sum(map(len, read_frames(file, path)))


@dataclasses.dataclass(frozen=True)
class Result:
    """How many rows were written, how long it took, and how much CPU time."""

    rows: int
    seconds: float
    cpu_seconds: float

    @property
    def speed(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


def measure(contestant: Contestant, source: pathlib.Path, graph: pathlib.Path, output: pathlib.Path) -> Result:
    """Makes one run and prints it."""
    start, cpu = time.perf_counter(), time.process_time()
    rows = contestant(source, graph, output)
    result = Result(rows, time.perf_counter() - start, time.process_time() - cpu)
    print(
        f"{contestant.__name__:12} {rows:12,} rows {result.seconds:8.2f} s {result.cpu_seconds:8.2f} s of CPU "
        f"{result.speed:12,.0f} rows/s",
        flush=True,
    )
    return result


def main() -> str | None:
    """Runs both; returns an error text when their numbers of rows differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        dataset = generate(folder / "rows.csv", "csv", TAXI, arguments.rows)
        sample = generate(folder / "sample.csv", "csv", TAXI, SAMPLE_ROWS, seed=1)
        fit_features(sample.path, folder / "graph", "tft")
        ours, theirs = (
            measure(contestant, dataset.path, folder / "graph", folder / contestant.__name__)
            for contestant in (penstock, plain_beam)
        )
    print(f"{ours.speed / theirs.speed:.1f} times; by CPU {theirs.cpu_seconds / ours.cpu_seconds:.1f} times")
    good = dataset.rows - dataset.bad_rows
    return None if ours.rows == theirs.rows == good else f"{good:,} rows are good, and both must write those"


if __name__ == "__main__":
    sys.exit(main())
