"""Computes the features of a file, batch by batch: its operations one after the other, with what is fitted so far."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.calls import CALLS, is_computed, make_analysis
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted
from penstock.transforms.features.arrow.compute.columns import (
    Column,
    Ints,
    RowFaultsError,
    column_of,
    map_items,
    map_values,
)
from penstock.transforms.features.arrow.compute.terms import Vocabulary
from penstock.transforms.features.entries.binding import Input, Output, State
from penstock.transforms.features.entries.file import Entry, Step

# Of an entry, and the position of its operation.
Place = tuple[str, int]


def missing_operations(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Returns the operations, with their arguments if it is for these, that are computed by TensorFlow only."""
    found: dict[str, None] = {}
    for step in (step for entry in entries for step in entry.steps):
        if not is_computed(step.name, step.arguments):
            found[_named(step)] = None
    return tuple(found)


def _named(step: Step) -> str:
    if step.name not in CALLS:
        return step.name
    known = CALLS[step.name].arguments or frozenset()
    return f"{step.name} with {', '.join(sorted(step.arguments.keys() - known))}"


@dataclasses.dataclass(frozen=True)
class Program:
    """The features of a file that is bound to a schema.

    Attributes:
      inputs: the columns that they are computed from.
      outputs: the entries, in the order of their names.
      fitted: what is fitted, by place; a part of it while a fit goes on.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    fitted: Mapping[Place, Fitted] = dataclasses.field(default_factory=dict)

    @property
    def phases(self) -> int:
        """How often the rows are looked at to fit it: operations behind a fitted one need what that has found."""
        return max((len(_fitted_steps(output)) for output in self.outputs), default=0)

    def with_fitted(self, fitted: Mapping[Place, Fitted]) -> "Program":
        """Returns the same with more of what is fitted, ready to be applied."""
        ready = {place: _ready(found) for place, found in fitted.items()}
        return dataclasses.replace(self, fitted={**self.fitted, **ready})

    def analyses(self, phase: int) -> dict[Place, Analysis]:
        """Makes the analyses of a phase."""
        return {
            (output.entry.name, at): make_analysis(
                output.entry.steps[at].name,
                [state.kind for state in output.entering(at)],
                output.entry.steps[at].arguments,
            )
            for output, at in self._analyzed(phase)
        }

    def analyze(self, analyses: Mapping[Place, Analysis], columns: Mapping[str, Column], phase: int) -> None:
        """Adds rows to the analyses of a phase.

        Raises:
          RowFaultsError: when an operation cannot be computed.
        """
        for output, at in self._analyzed(phase):
            analyses[output.entry.name, at].add(self._computed(output, columns, at))

    def _analyzed(self, phase: int) -> Iterator[tuple[Output, int]]:
        for output in self.outputs:
            fitted = _fitted_steps(output)
            if phase < len(fitted):
                yield output, fitted[phase]

    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, Column], dict[int, str]]:
        """Reads the columns of a batch, and the rows that cannot be taken, each with a sentence."""
        columns: dict[str, Column] = {}
        faults: dict[int, str] = {}
        for item in self.inputs:
            columns[item.name], bad = column_of(batch, item.name, item.kind)
            faults = {**_miscounted(item, columns[item.name]), **bad, **faults}
        return columns, faults

    def compute(self, columns: Mapping[str, Column]) -> tuple[list[pa.Array], dict[int, str]]:
        """Returns the features, or none and the rows that cannot be computed, each with a sentence."""
        arrays: list[pa.Array] = []
        faults: dict[int, str] = {}
        for output in self.outputs:
            try:
                (column,) = self._computed(output, columns, len(output.entry.steps))
                arrays.append(column.array(output.single))
            except RowFaultsError as error:
                faults = {**error.faults, **faults}
        return ([] if faults else arrays), faults

    def _computed(self, output: Output, columns: Mapping[str, Column], end: int) -> list[Column]:
        """Returns what comes out behind the first `end` operations of an entry."""
        entry = output.entry
        found = [
            columns[name] if default is None else columns[name].fill(default)
            for name, default in zip(entry.inputs, entry.defaults, strict=True)
        ]
        for at, step in enumerate(entry.steps[:end]):
            found = [_apply(step, found, output.entering(at), self.fitted.get((entry.name, at)))]
        return found

    def domain(self, output: Output) -> tuple[int, int] | None:
        """Returns the least and greatest category of a feature; None if it has no categories."""
        if not output.entry.steps:
            return None
        at = len(output.entry.steps) - 1
        step = output.entry.steps[at]
        domain = CALLS[step.name].domain
        return None if domain is None else domain(self.fitted.get((output.entry.name, at), {}), step.arguments)


def _fitted_steps(output: Output) -> list[int]:
    return [at for at, step in enumerate(output.entry.steps) if CALLS[step.name].analysis is not None]


def _ready(fitted: Fitted) -> Fitted:
    return {**fitted, "vocabulary": Vocabulary(fitted["terms"])} if "terms" in fitted else fitted


def _miscounted(item: Input, column: Column) -> dict[int, str]:
    """Returns the rows with another number of values than the features were bound to."""
    if item.feature.multivalued is not False or column.counts is None:
        return {}
    lengths: Ints = column.lengths
    wrong = (lengths != 1) if item.dense else (lengths > 1)
    text = "the features need 1" if item.dense else "the features take 1 at most"
    return {row: f"{item.name!r} has {lengths[row]} values, {text}" for row in np.flatnonzero(wrong).tolist()}


def _apply(step: Step, columns: list[Column], states: Sequence[State], fitted: Fitted | None) -> Column:
    computation = CALLS[step.name]
    arguments: dict[str, Any] = dict(step.arguments)
    if (table := arguments.pop("table", None)) is not None:
        arguments |= {"keys": table.keys_of(states[0].kind), "values": list(table.values)}
    if fitted is not None:
        arguments["fitted"] = fitted
    if step.operation.shape == "vector":
        arguments["complete"] = all(state.complete for state in states)
    if not (step.operation.on_values or computation.on_values):
        return computation.apply(*columns, **arguments)

    def values(*parts: Any) -> Any:
        return computation.apply(*parts, **arguments)

    length = next((state.length for state in states if not state.single), None)
    if len(columns) > 1 and length:
        return map_items(columns, [state.single for state in states], length, values)
    return map_values(columns, values)


def kind_of_output(output: Output) -> Kind:
    """The kind of a feature."""
    return (output.steps or output.states)[-1].kind
