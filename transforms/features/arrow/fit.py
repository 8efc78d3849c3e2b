"""Fits features to the rows: analyses on all workers, merged, and written as `features.json`."""

import ctypes
import dataclasses
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, in_global_window
from penstock.io.errors import DataError
from penstock.io.reasons import Note, merge_notes
from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted
from penstock.transforms.features.arrow.compute.columns import RowFaultsError
from penstock.transforms.features.arrow.program import Place, Program, kind_of_output
from penstock.transforms.features.arrow.vocabularies.packed import pack, unpack

_TYPES = {Kind.INT: schema_pb2.INT, Kind.FLOAT: schema_pb2.FLOAT, Kind.BYTES: schema_pb2.BYTES}


@dataclasses.dataclass(frozen=True)
class Found:
    """What a phase of a fit found: what is fitted, of how many rows, and what is to be told of them."""

    fitted: Mapping[Place, Fitted]
    rows: int
    notes: tuple[Note, ...]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "fitted": _with_terms(self.fitted, pack)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, fitted=_with_terms(state["fitted"], unpack))


def _with_terms(fitted: Mapping[Place, Fitted], function: Callable[[Any], Any]) -> dict[Place, Fitted]:
    """Returns the same with other forms of the terms of vocabularies."""
    return {
        place: {**found, "terms": function(found["terms"])} if "terms" in found else found
        for place, found in fitted.items()
    }


@dataclasses.dataclass
class _Part:
    """The analyses of a phase over some rows."""

    analyses: dict[Place, Analysis]
    rows: int = 0

    def merge(self, other: "_Part") -> None:
        for place, analysis in other.analyses.items():
            self.analyses[place].merge(analysis)
        self.rows += other.rows


class _PartCoder(coders.Coder):
    """Pickles parts; Beam's own coder would do it twice more for each, to tell how long they are."""

    def encode(self, value: _Part | None) -> bytes:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> _Part | None:
        part: _Part | None = pickle.loads(encoded)
        return part

    def estimate_size(self, value: _Part | None) -> int:
        return 0

    def is_deterministic(self) -> bool:
        return False


coders.registry.register_coder(_Part, _PartCoder)


def _release_memory() -> None:
    """Gives back what is free: the tables of a large vocabulary leave much, which allocators keep."""
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)


# Of the GNU C library.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


@dataclasses.dataclass(eq=False)
class AnalyzeFeatures(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[Found]]):
    """Fits the features of a program to all rows; gives one `Found` for each phase, in any order.

    Operations behind a fitted one are analyzed in a later phase, which takes the rows once more.

    Raises:
      DataError: on the workers, when a row has no value or too many where the features need one, or an operation
        cannot be computed.
    """

    program: Program

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Found]:
        """Analyzes phase after phase."""
        found: list[beam.PCollection[Found]] = []
        for phase in range(max(len(self.program.phases), 1)):
            analyze = beam.ParDo(_AnalyzeFn(self.program, phase), *map(beam.pvalue.AsIter, found))
            parts = batches | f"Analyze{phase}" >> analyze.with_output_types(_Part)
            merge = beam.CombineGlobally(_MergeFn(self.program)).without_defaults()
            found.append(parts | f"Merge{phase}" >> merge.with_output_types(Found))
        return found | "Flatten" >> beam.Flatten()


class _AnalyzeFn(beam.DoFn):
    """Makes one element of the rows of a bundle."""

    def __init__(self, program: Program, phase: int):
        self._program = program
        self._phase = phase
        self._known: Program | None = None

    def start_bundle(self) -> None:
        self._part = _Part(self._program.analyses(self._phase))

    def process(self, batch: pa.RecordBatch, *found: Any) -> None:
        if self._known is None:
            self._known = fitted_program(self._program, (item for phase in found for item in phase))
        columns, faults = self._known.read(batch)
        try:
            if faults:
                raise RowFaultsError(faults)
            self._known.analyze(self._part.analyses, columns, self._phase)
        except RowFaultsError as error:
            raise DataError(
                f"cannot fit: in a row, {error}; validate the rows first (ValidateRecords), or correct the schema"
            ) from error
        self._part.rows += batch.num_rows

    def finish_bundle(self) -> Iterator[Any]:
        part = self._part
        del self._part  # it may be large, and the next bundle begins another one
        if part.rows:
            yield in_global_window(part)


class _MergeFn(beam.CombineFn):
    """Merges parts and finishes them, without a step between: what is merged may be large."""

    def __init__(self, program: Program):
        super().__init__()
        self._program = program

    def create_accumulator(self) -> _Part | None:
        return None

    def add_input(self, accumulator: _Part | None, part: _Part) -> _Part:
        return self.merge_accumulators([accumulator, part])  # type: ignore[return-value]

    def merge_accumulators(self, accumulators: Iterable[_Part | None]) -> _Part | None:
        merged: _Part | None = None
        _release_memory()
        for part in accumulators:
            if merged is None:
                merged = part
            elif part is not None:
                merged.merge(part)
        return merged

    def get_accumulator_coder(self) -> coders.Coder:
        return _PartCoder()

    def extract_output(self, accumulator: _Part | None) -> Found | None:
        return None if accumulator is None else _finished(accumulator, self._program)


def _finished(part: _Part, program: Program) -> Found:
    columns = {fit.places[0]: fit.columns for phase in program.phases for fit in phase}
    notes = [note for place, analysis in part.analyses.items() for note in analysis.notes(columns[place])]
    _release_memory()
    fitted = {place: analysis.finish() for place, analysis in part.analyses.items()}
    _release_memory()
    return Found(fitted, part.rows, merge_notes(notes))


def fitted_program(program: Program, found: Iterable[Found]) -> Program:
    """Returns the program with all that phases found."""
    for item in found:
        program = program.with_found(item.fitted)
    return program


def features_schema(program: Program) -> schema_pb2.Schema:
    """Returns the schema of the features, as tensorflow-transform infers it of the same."""
    schema = schema_pb2.Schema()
    for output in program.outputs:
        state = (output.steps or output.states)[-1]
        feature = schema.feature.add(name=output.entry.name, type=_TYPES[kind_of_output(output)])
        if (domain := program.domain(output)) is not None:
            feature.int_domain.min, feature.int_domain.max = domain
            feature.int_domain.is_categorical = True
        if state.complete and (state.single or state.length is not None):
            feature.presence.min_fraction = 1
            feature.shape.SetInParent()
            if not state.single:
                feature.shape.dim.add(size=state.length)
        elif state.single:
            feature.value_count.min = feature.value_count.max = 1
    return schema
