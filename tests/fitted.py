"""What tests of fitted features share: fitting to batches, and applying what was fitted."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from google.protobuf import text_format
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.features.apply import apply_graph, load_graph
from penstock.transforms.features.exported import export, process
from penstock.transforms.features.fit import FitTransform
from penstock.transforms.features.functions import parse_features


class _GiveFn(beam.DoFn):
    """Batches made on the worker: `beam.Create` would pickle them."""

    def __init__(self, batches: Sequence[pa.RecordBatch]):
        self._batches = batches

    def process(self, _: None):
        yield from self._batches


def fit_all(features: dict[Path, Any], batches: Sequence[pa.RecordBatch], schema: str) -> None:
    """Fits several features, by the folder for the graph, to the same batches in one pipeline."""
    parsed = text_format.Parse(schema, schema_pb2.Schema())
    with local_pipeline() as pipeline:
        give = beam.ParDo(_GiveFn(batches)).with_output_types(pa.RecordBatch)
        rows = pipeline | beam.Create([None]) | give
        for index, (folder, item) in enumerate(features.items()):
            _ = rows | f"Fit{index}" >> FitTransform(item, parsed, str(folder))


def values(folder: Path, batch: pa.RecordBatch) -> dict[str, list[Any]]:
    """The features of a batch, each of whose rows has them."""
    features, reasons = apply_graph(load_graph(str(folder)), batch)
    assert not reasons
    return features.to_pydict()


def fit_beside_tft(
    folder: Path, features: str, by_tft: Any, batch: pa.RecordBatch, schema: str, at: int
) -> tuple[Path, Path]:
    """Fits a features file, and what should give the same, to a batch in two pieces; returns the two graphs."""
    ours, theirs = folder / "ours", folder / "theirs"
    fit_all({ours: parse_features(features), theirs: by_tft}, [batch.slice(0, at), batch.slice(at)], schema)
    return ours, theirs


@contextlib.contextmanager
def exporting_here() -> Iterator[None]:
    """Features are exported by this process, which has TensorFlow already; tests of that process let it start."""
    logger = logging.getLogger("tensorflow")
    level = logger.level

    def run(module: Sequence[str], _: str) -> None:
        assert process.main(module[1:]) == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_run", run)
        yield
    logger.setLevel(level)
