"""Binds the entries of a features file to the columns of a schema: what each operation takes, and what it gives."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, Kind, find_feature
from penstock.transforms.features.entries.file import Entry, Step, is_int, is_number, number_hint
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY


@dataclasses.dataclass(frozen=True)
class Input:
    """A column that features are computed from, as the schema has it."""

    feature: Feature

    @property
    def name(self) -> str:
        """Its name."""
        return self.feature.name

    @property
    def kind(self) -> Kind:
        """The kind of its values."""
        return self.feature.kind

    @property
    def dense(self) -> bool:
        """Whether it enters a graph as a dense tensor [batch], and not as a SparseTensor [batch, n]."""
        return is_dense(self.feature)


@dataclasses.dataclass(frozen=True)
class State:
    """The state of a column between two operations."""

    kind: Kind
    single: bool
    complete: bool
    length: int | None = None  # of each list that is there, if it is fixed


@dataclasses.dataclass(frozen=True)
class Output:
    """An entry with the states of its inputs and, behind each operation, of what it gives.

    `terms`: the kind of what its vocabulary holds, if it has one.
    """

    entry: Entry
    states: tuple[State, ...]
    steps: tuple[State, ...]
    terms: Kind | None

    @property
    def single(self) -> bool:
        """Whether it has at most one value in each row."""
        return (self.steps or self.states)[-1].single

    def entering(self, step: int) -> tuple[State, ...]:
        """The states of what an operation gets."""
        return self.states if step == 0 else (self.steps[step - 1],)


def is_dense(feature: Feature) -> bool:
    """Whether there is one value in every row."""
    return feature.complete and feature.multivalued is False


def bind_entry(entry: Entry, columns: Mapping[str, Feature]) -> Output:
    """Binds one entry.

    Raises:
      ConfigError: when the entry does not fit the columns, as `FeatureFile.bind` says.
    """
    states = []
    for name, default in zip(entry.inputs, entry.defaults, strict=True):
        feature = find_feature(name, tuple(columns.values()), f"{entry.where}: input")
        states.append(_input_state(entry, feature, default))
    if len(states) > 1 and (not entry.steps or entry.steps[0].operation.max_inputs == 1):
        raise ConfigError(
            f"{entry.where}: has {len(states)} inputs, so its first operation must combine them, such as join or add"
        )
    steps: list[State] = []
    terms = None
    for step in entry.steps:
        entering = steps[-1:] or states
        terms = entering[0].kind if step.name == VOCABULARY else terms
        steps.append(_step_state(step, entering))
    return Output(entry, tuple(states), tuple(steps), terms)


def _input_state(entry: Entry, feature: Feature, default: Any) -> State:
    if default is not None and not _is_of(default, feature.kind):
        raise ConfigError(
            f"{entry.where}: default must be {_KIND_NAMES[feature.kind]}, as {feature.name!r} is {feature.kind.value}, "
            f"got {_written(default)}{_hint(default, feature.kind)}"
        )
    single = feature.multivalued is False
    # A default makes a list of one value.
    length = feature.length if default is None else None
    return State(feature.kind, single, is_dense(feature) or default is not None, length)


_KIND_NAMES = {Kind.INT: "a whole number", Kind.FLOAT: "a number", Kind.BYTES: "a text (in quotes)"}


def _is_of(value: Any, kind: Kind) -> bool:
    match kind:
        case Kind.INT:
            return is_int(value)
        case Kind.FLOAT:
            return is_number(value)
        case Kind.BYTES:
            return isinstance(value, bytes)


def _written(value: Any) -> str:
    return repr(value.decode() if isinstance(value, bytes) else value)


def _hint(value: Any, kind: Kind) -> str:
    return number_hint(value.decode()) if isinstance(value, bytes) and kind is Kind.FLOAT else ""


def _step_state(step: Step, states: Sequence[State]) -> State:
    _check_inputs(step, len(states))
    _check_kinds(step, states)
    _check_shapes(step, states)
    return _given_state(step, states)


def _check_shapes(step: Step, states: Sequence[State]) -> None:
    shape = step.operation.shape
    single = all(state.single for state in states)
    lists = {state.length for state in states if not state.single}
    if shape == "items" and len(states) > 1 and lists:
        if None in lists:
            raise ConfigError(
                f"{step.where}: takes features of one value, or lists of a fixed length; if these are, say so in the "
                "schema: value_count { min: 1 max: 1 }, or both the length of the list, and give lists no default"
            )
        if len(lists) > 1:
            raise ConfigError(f"{step.where}: takes lists of one length, got {' and '.join(map(str, sorted(lists)))}")  # type: ignore[type-var]
    elif not single and (shape in ("single", "split", "either", "filled") or len(states) > 1):
        raise ConfigError(
            f"{step.where}: takes features of one value; if these are, say so in the schema: "
            "value_count { min: 1 max: 1 }"
        )
    if single and shape in ("list", "reduce"):
        hint = "list of tokens, got one text; split it first" if states[0].kind is Kind.BYTES else "list, got one value"
        raise ConfigError(f"{step.where}: takes a {hint}")
    if step.operation.complete and not all(state.complete for state in states):
        raise ConfigError(f"{step.where}: cannot carry missing values; give the entry a default for each input")


def _given_state(step: Step, states: Sequence[State]) -> State:
    """The state of what an operation gives."""
    operation, arguments = step.operation, step.arguments
    kind = operation.output_kind([state.kind for state in states], arguments)
    single, complete = all(state.single for state in states), all(state.complete for state in states)
    length = next((state.length for state in states if state.length), None)
    match operation.shape:
        case "flag" | "filled":
            return State(kind, single=True, complete=True)
        case "either":
            found = any(state.complete for state in states) if step.name == "coalesce" else complete
            return State(kind, single=True, complete=found)
        case "reduce":
            return State(kind, single=True, complete=False)
        case "vector":
            return State(kind, False, complete, arguments[str(operation.length_of)])
        case "split" | "list":
            return State(kind, single=False, complete=False)
    if operation.drops and "default" not in arguments:
        return State(kind, single, complete=False)
    return State(kind, single, complete, length)


def _check_inputs(step: Step, count: int) -> None:
    operation = step.operation
    given = operation.second in step.arguments if operation.second else False
    if count > operation.max_inputs:
        raise ConfigError(
            f"{step.where}: takes {operation.max_inputs} input{'s'[: operation.max_inputs - 1]}, got {count}"
        )
    if count < operation.min_inputs:
        raise ConfigError(f"{step.where}: needs {operation.min_inputs} inputs, got {count}")
    if operation.second and count == 1 and not given:
        raise ConfigError(f"{step.where}: needs a second input, or an argument ({operation.second})")
    if operation.second and count > 1 and given:
        raise ConfigError(f"{step.where}: has two inputs, so it takes no argument")


def _conversion(kind: Kind, wanted: Collection[Kind]) -> str:
    """Says how to get what an operation takes."""
    if kind is Kind.BYTES:
        return "; to_number makes numbers of texts, and a column without values is BYTES unless a schema says otherwise"
    return "; as_string makes texts of numbers" if Kind.BYTES in wanted else ""


def _check_kinds(step: Step, states: Sequence[State]) -> None:
    operation, kind = step.operation, states[0].kind
    allowed = [operation.takes, *[operation.key or frozenset({kind})] * (len(states) - 1)]
    for index, (state, kinds) in enumerate(zip(states, allowed, strict=True)):
        if state.kind not in kinds:
            wanted = " or ".join(sorted(item.value for item in kinds))
            place = f" as input {index + 1}" if len(states) > 1 else ""
            raise ConfigError(
                f"{step.where}: takes {wanted}{place}, got {state.kind.value}{_conversion(state.kind, kinds)}"
            )
    for name, value in step.arguments.items():
        if name in operation.parameters and operation.parameters[name].type == "same" and not _is_of(value, kind):
            raise ConfigError(
                f"{step.where}: {name} must be {_KIND_NAMES[kind]}, as its input is {kind.value}, "
                f"got {_written(value)}{_hint(value, kind)}"
            )
    fault = operation.check([state.kind for state in states], step.arguments) if operation.check else None
    if fault:
        raise ConfigError(f"{step.where}: {fault}")
