"""Parking: dead letters that have failed often enough get a folder of their own.

They are still dead letters of the dataset: its manifest lists and counts them. But a pattern such as
`OUTPUT/dead_letters/*.jsonl` no longer matches them.
"""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow.compute as pc

from penstock.io.dataset.layout import PARKED
from penstock.io.dead_letters.handler import DeadLetterHandler, rejected_batch
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.files import stores


def split_parked(batch: RejectedBatch, max_attempts: int) -> tuple[RejectedBatch, RejectedBatch]:
    """Returns the letters that may be tried again, and the letters that have failed `max_attempts` times."""
    is_parked = pc.greater_equal(batch.letters.column("attempt"), max_attempts)
    return batch.filter(pc.invert(is_parked)), batch.filter(is_parked)


class ParkingHandler(DeadLetterHandler):
    """A `DeadLetterHandler` that writes letters to the folder `parked` once they have failed `max_attempts` times."""

    def __init__(self, directory: str, run_id: str, max_attempts: int):
        super().__init__(directory, run_id)
        self._max_attempts = max_attempts

    def add_error_pcollection(self, pcoll: beam.PCollection[Any]) -> None:
        """Takes the rejects of one step, and separates the letters to park from the others."""
        split = beam.ParDo(_ParkFn(self._max_attempts)).with_outputs(PARKED, main="open")
        parts = pcoll | f"Park{len(self._rejected)}" >> split
        for name, directory in (("open", self._directory), (PARKED, stores.join(self._directory, PARKED))):
            parts[name].element_type = RejectedBatch
            self._take(parts[name], directory)


class _ParkFn(beam.DoFn):
    def __init__(self, max_attempts: int):
        self._max_attempts = max_attempts

    def process(self, element: RejectedBatch | DeadLetter) -> Iterator[Any]:
        tried, parked = split_parked(rejected_batch(element), self._max_attempts)
        if len(tried):
            yield tried
        if len(parked):
            yield beam.pvalue.TaggedOutput(PARKED, parked)
