"""What arrives at the closing of windows: chunks, files of dead letters, and what the reader says it has read.

They come from one stage, yet apart and in any order: not every runner keeps several outputs of a bundle together.
"""

import dataclasses
from typing import Any

import apache_beam as beam

from penstock.io.beam.coverage import InputRange, ReadMark
from penstock.io.beam.json_coder import OneOf, register_json
from penstock.io.dataset.windowed.chunks import Chunk
from penstock.io.dead_letters.handler import DeadLetterFile


@register_json
class Arrival(OneOf):
    """What arrives for windows."""


@dataclasses.dataclass(frozen=True)
class WrittenChunks(Arrival):
    """What a bundle wrote; `inputs` are the rows that came to it, each once, also if it is in no or several chunks."""

    TAG = "chunks"

    chunks: tuple[Chunk, ...]
    inputs: tuple[InputRange, ...]


@dataclasses.dataclass(frozen=True)
class RejectsArrival(Arrival):
    """A dead-letter file."""

    TAG = "rejects"

    rejects: DeadLetterFile


@dataclasses.dataclass(frozen=True)
class ReadArrival(Arrival):
    """What the reader has read."""

    TAG = "read"

    read: ReadMark


class CollectArrivals(beam.PTransform[Any, beam.PCollection[Arrival]]):
    """Takes PCollections by name: `chunks` (`WrittenChunks`), `rejects` (`DeadLetterFile`), others of `ReadMark`s."""

    def expand(self, parts: Any) -> beam.PCollection[Arrival]:
        """Flattens them."""
        kinds = {name: RejectsArrival if name == "rejects" else ReadArrival for name in parts if name != "chunks"}
        arrivals = [parts["chunks"]]
        for name, kind in kinds.items():
            arrivals.append(parts[name] | f"Take {name}" >> beam.Map(kind).with_output_types(Arrival))
        return arrivals | "Flatten" >> beam.Flatten()
