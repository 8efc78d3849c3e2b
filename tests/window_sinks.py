"""Events of windows for the windowed sink, on streams and on bounded input, and what the windows then hold."""

import contextlib
import functools
import json
import pathlib

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.testing import test_stream
from apache_beam.transforms.window import TimestampedValue
from helpers import FLAGS, local_pipeline, window_examples

from penstock.io.batches import origin_array
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.io.write import WriteDataset
from pipelines._cli.beam import _JobOptions

SECOND = 1_000_000


def batch_of(ids, seconds, **columns):
    ids = list(ids)
    times = [seconds] * len(ids) if isinstance(seconds, int | float) else seconds
    return pa.record_batch(
        {
            "id": pa.array(ids, pa.int64()),
            **columns,
            EVENT_TIME: pa.array([int(time * SECOND) for time in times], pa.timestamp("us", "UTC")),
            ORIGIN: origin_array("kafka://h/t/0", np.array(ids)),
        }
    )


class Events:
    """A stream of batches between watermarks, in seconds."""

    def __init__(self):
        self.stream = test_stream.TestStream().advance_watermark_to(0)

    def at(self, watermark):
        self.stream = self.stream.advance_watermark_to(watermark)
        return self

    def add(self, *batches):
        """Each batch with its earliest event time as timestamp, as a source would give it."""
        elements = []
        for batch in batches:
            first = min(batch.column(EVENT_TIME).cast(pa.int64()).to_pylist(), default=0) / SECOND
            elements.append(TimestampedValue(batch, first))
        self.stream = self.stream.add_elements(elements)
        return self

    def end(self):
        # The runner of the SDK drops what comes of the very last timers when the watermark jumps to the end.
        return self.at(9_000).stream.advance_watermark_to_infinity()


@contextlib.contextmanager
def stream_pipeline():
    flags = FLAGS or ("--runner=BundleBasedDirectRunner",)
    with beam.Pipeline(options=_JobOptions([*flags, "--streaming", "--allow_unsafe_triggers"])) as pipeline:
        yield pipeline


def same(batch):
    return batch


def write_stream(output, events, steps=(), **options):
    """Runs a stream through some steps into the sink."""
    with stream_pipeline() as pipeline:
        batches = pipeline | events.end() | beam.Map(same).with_output_types(pa.RecordBatch)
        for step in steps:
            batches |= step
        _ = batches | WriteDataset(str(output), **{"num_shards": 2, "window": "fixed:10s", **options})
    return windows_of(output)


def _at(batches, index):
    return batches[index]


def write_bounded(output, batches, steps=(), **options):
    """Runs bounded input through some steps into the sink."""
    with local_pipeline() as pipeline:
        read = beam.Map(functools.partial(_at, batches)).with_output_types(pa.RecordBatch)
        rows = pipeline | beam.Create(range(len(batches)), reshuffle=False) | read
        for step in steps:
            rows |= step
        _ = rows | WriteDataset(str(output), **{"num_shards": 2, "window": "fixed:10s", **options})
    return windows_of(output)


def windows_of(output):
    """The manifests by the second their window starts."""
    found = list(read_window_manifests(str(output)))
    for manifest in found:
        assert manifest.rows_in == manifest.rows_out + manifest.rows_rejected
        assert manifest.rows_out == manifest.rows_on_time + manifest.rows_late == sum(manifest.splits.values())
        assert all((pathlib.Path(output) / path).is_file() for path in manifest.files())
    by_start = {int(np.datetime64(manifest.window[0][:-1], "us").astype(int)) // SECOND: manifest for manifest in found}
    assert len(by_start) == len(found)
    return by_start


def counts(windows):
    return {
        start: (manifest.rows_on_time, manifest.rows_late, manifest.rows_rejected)
        for start, manifest in windows.items()
    }


def ids(output, manifest, split="train"):
    return sorted(row["id"][0] for row in window_examples(output, manifest, split))


def letters(output, manifest):
    lines = [line for file in manifest.dead_letters for line in (output / file.path).read_text().splitlines()]
    return [json.loads(line) for line in lines]
