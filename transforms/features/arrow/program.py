"""Computes the features of a file, batch by batch: its operations one after the other, with what is fitted so far."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.calls import CALLS, make_analysis
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted
from penstock.transforms.features.arrow.compute.columns import (
    Column,
    Ints,
    RowFaultsError,
    column_of,
    map_items,
    map_values,
)
from penstock.transforms.features.arrow.vocabularies.lookup import Vocabulary
from penstock.transforms.features.entries.binding import Input, Output, State
from penstock.transforms.features.entries.file import Step
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY
from penstock.transforms.features.entries.vocabulary import vocabularies

# Of an entry, and the position of its operation.
Place = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Fit:
    """What one analysis fits: an operation of an entry, or a vocabulary that entries share.

    Attributes:
      members: the entries, as they are bound, each with the position of its operation.
      arguments: of the analysis.
      sides: the columns that arguments name, by argument.
    """

    members: tuple[tuple[Output, int], ...]
    arguments: Mapping[str, Any]
    sides: Mapping[str, str]

    @property
    def places(self) -> tuple[Place, ...]:
        """Those of the operations; what is found is of the first."""
        return tuple((output.entry.name, at) for output, at in self.members)

    @property
    def columns(self) -> str:
        """The names of the columns that are analyzed."""
        return ", ".join(sorted({name for output, _ in self.members for name in output.entry.inputs}))


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
    def width(self) -> int:
        """How many values the lists of fixed length have that a row becomes, each feature's at its longest."""
        return sum(max((state.length or 0 for state in output.steps), default=0) for output in self.outputs)

    @functools.cached_property
    def phases(self) -> tuple[tuple[Fit, ...], ...]:
        """What is fitted each time that the rows are looked at: what is behind a fitted operation needs its result."""
        fits = _fits(self.outputs)
        numbers = {place: number for number, fit in enumerate(fits) for place in fit.places}
        phases = [0] * len(fits)
        for _ in fits:
            for number, fit in enumerate(fits):
                before = [
                    phases[numbers[output.entry.name, other]] + 1
                    for output, at in fit.members
                    for other in _fitted_steps(output)
                    if other < at
                ]
                phases[number] = max(before, default=0)
        grouped = [[fit for fit, of_fit in zip(fits, phases, strict=True) if of_fit == at] for at in sorted({*phases})]
        return tuple(map(tuple, grouped))

    def with_found(self, found: Mapping[Place, Fitted]) -> "Program":
        """Returns the same with what a phase found."""
        fits = [fit for phase in self.phases for fit in phase if fit.places[0] in found]
        ready = {fit.places[0]: _ready(found[fit.places[0]]) for fit in fits}
        return self.with_fitted({place: ready[fit.places[0]] for fit in fits for place in fit.places})

    def with_fitted(self, fitted: Mapping[Place, Fitted]) -> "Program":
        """Returns the same with more of what is fitted, ready to be applied."""
        ready = {place: _ready(found) for place, found in fitted.items()}
        return dataclasses.replace(self, fitted={**self.fitted, **ready})

    def analyses(self, phase: int) -> dict[Place, Analysis]:
        """Makes the analyses of a phase."""
        return {fit.places[0]: _analysis(fit) for fit in self._fits(phase)}

    def analyze(self, analyses: Mapping[Place, Analysis], columns: Mapping[str, Column], phase: int) -> None:
        """Adds rows to the analyses of a phase.

        Raises:
          RowFaultsError: when an operation cannot be computed.
        """
        for fit in self._fits(phase):
            sides = {argument: columns[name] for argument, name in fit.sides.items()}
            found = [column for output, at in fit.members for column in self._computed(output, columns, at)]
            analyses[fit.places[0]].add(found, **sides)

    def _fits(self, phase: int) -> tuple[Fit, ...]:
        return self.phases[phase] if phase < len(self.phases) else ()

    def read(self, batch: pa.RecordBatch) -> tuple[dict[str, Column], dict[int, str]]:
        """Reads the columns of a batch, and the rows that cannot be taken, each with a sentence."""
        columns: dict[str, Column] = {}
        faults: dict[int, str] = {}
        for item in self.inputs:
            columns[item.name], bad = column_of(batch, item.name, item.kind)
            faults = {**_miscounted(item, columns[item.name]), **bad, **faults}
        return columns, faults

    def compute(self, columns: Mapping[str, Column]) -> tuple[list[pa.Array], dict[int, str]]:
        """Returns the features, or none and the rows that cannot be computed, each with the feature and a sentence."""
        arrays: list[pa.Array] = []
        faults: dict[int, str] = {}
        for output in self.outputs:
            try:
                (column,) = self._computed(output, columns, len(output.entry.steps))
                arrays.append(column.array(output.single))
            except RowFaultsError as error:
                faults = {**{row: f"{output.entry.name}: {text}" for row, text in error.faults.items()}, **faults}
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


def _fits(outputs: Sequence[Output]) -> list[Fit]:
    found: dict[Place, Fit] = {}
    shared = vocabularies(output.entry for output in outputs)
    for output in outputs:
        for at in _fitted_steps(output):
            step, first = output.entry.steps[at], (output.entry.name, at)
            arguments = step.arguments
            if step.name == VOCABULARY:
                vocabulary = shared[output.entry.name]
                first, arguments = (min(entry.name for entry in vocabulary.members), -1), vocabulary.arguments
            sides = {
                name: arguments[name]
                for name, rule in step.operation.parameters.items()
                if rule.type == "column" and name in arguments
            }
            members = found[first].members if first in found else ()
            found[first] = Fit((*members, (output, at)), arguments, sides)
    return list(found.values())


def _analysis(fit: Fit) -> Analysis:
    output, at = fit.members[0]
    kinds = [state.kind for state in output.entering(at)]
    return make_analysis(output.entry.steps[at].name, kinds, fit.arguments)


def _ready(fitted: Fitted) -> Fitted:
    if "terms" not in fitted or "vocabulary" in fitted:
        return fitted
    return {**fitted, "vocabulary": Vocabulary(fitted["terms"])}


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
