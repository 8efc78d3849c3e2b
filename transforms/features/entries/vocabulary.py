"""Vocabularies of a features file: which entries share one, what orders it, where it is stored.

The parameters of `compute_and_apply_vocabulary` are tensorflow-transform's, except for `vocabulary`: entries that name
the same one share it. It holds the terms of all their inputs, and each entry applies it with its own `default_value`
and `num_oov_buckets`; what makes the vocabulary may be said in one of them.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.io.errors import ConfigError, DataError
from penstock.io.schema import Feature, Kind, find_feature
from penstock.transforms.features.entries.file import Entry, Step, is_int

OPERATION = "compute_and_apply_vocabulary"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# The arguments that each entry may choose by itself.
APPLYING = ("default_value", "num_oov_buckets")
_NAMING = ("vocabulary", "vocab_filename")
_OF_LABELS = ("use_adjusted_mutual_info", "min_diff_from_avg")
_COLUMN_KINDS = {"weights": (Kind.INT, Kind.FLOAT), "labels": (Kind.INT,)}

# Labels are classes from 0 up to this: the counts of terms by label are a matrix for each batch.
MAX_LABEL = 9_999


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary.

    Attributes:
      name: of its file; None lets tensorflow-transform choose one.
      shared: whether entries named it.
      arguments: what makes it, as `tft.vocabulary` has them.
      members: the entries that apply it, in the order of the file.
    """

    name: str | None
    shared: bool
    arguments: Mapping[str, Any]
    members: tuple[Entry, ...]


def vocabulary_step(entry: Entry) -> Step | None:
    """Returns the step of an entry that applies a vocabulary; it has at most one."""
    return next((step for step in entry.steps if step.name == OPERATION), None)


def vocabularies(entries: Iterable[Entry]) -> dict[str, Vocabulary]:
    """Returns the vocabulary of each entry that has one, by the entry's name.

    Raises:
      ConfigError: when the arguments of a step contradict each other, or those of a step that shares its vocabulary, or
        two vocabularies are stored under one name; with file, line and entry.
    """
    groups: dict[tuple[bool, str], list[tuple[Entry, Step]]] = {}
    for entry in entries:
        if step := vocabulary_step(entry):
            _check(step)
            shared = step.arguments.get("vocabulary")
            groups.setdefault((shared is not None, shared or entry.name), []).append((entry, step))
    found = [_vocabulary(members) for members in groups.values()]
    _check_names(found)
    return {member.name: vocabulary for vocabulary in found for member in vocabulary.members}


def _check(step: Step) -> None:
    arguments = step.arguments
    if all(name in arguments for name in _NAMING):
        raise ConfigError(f"{step.where}: give vocabulary (shared by its name) or vocab_filename, not both")
    for name in _NAMING:
        if name in arguments and not _NAME.fullmatch(arguments[name]):
            raise ConfigError(
                f"{step.where}: {name} must be a name for a file, of letters, digits, '_', '.' and '-', got "
                f"{arguments[name]!r}"
            )
    if "vocabulary" not in arguments:
        _check_ordering(step, arguments)


def _check_ordering(step: Step, arguments: Mapping[str, Any]) -> None:
    for name in _OF_LABELS:
        if name in arguments and "labels" not in arguments:
            raise ConfigError(f"{step.where}: {name} is about mutual information with labels; give labels, a column")
    threshold = arguments.get("frequency_threshold", 0)
    if not is_int(threshold) and not {"weights", "labels"} & set(arguments):
        raise ConfigError(
            f"{step.where}: frequency_threshold must be a whole number without weights or labels, got {threshold!r}"
        )


def _vocabulary(members: Sequence[tuple[Entry, Step]]) -> Vocabulary:
    (entry, step), *_ = members
    arguments: dict[str, Any] = {}
    given: dict[str, Step] = {}
    for _, other in members:
        for name, value in other.arguments.items():
            if name in APPLYING + _NAMING:
                continue
            if arguments.setdefault(name, value) != value:
                raise ConfigError(
                    f"{other.where}: {name} is {value!r}, and at {given[name].where} {arguments[name]!r}, but the two "
                    f"share the vocabulary {step.arguments['vocabulary']!r}; say it once"
                )
            given.setdefault(name, other)
    shared = step.arguments.get("vocabulary")
    if shared is not None:
        _check_ordering(step, arguments)
    own = entry.name if _NAME.fullmatch(entry.name) else None
    stored = shared or step.arguments.get("vocab_filename") or own
    return Vocabulary(stored, shared is not None, arguments, tuple(member for member, _ in members))


def _check_names(found: Sequence[Vocabulary]) -> None:
    """Refuses two vocabularies in one file: tensorflow-transform replaces a point in a name with `_`."""
    owners: dict[str, Vocabulary] = {}
    for vocabulary in found:
        if vocabulary.name is None:
            continue
        other = owners.setdefault(vocabulary.name.replace(".", "_"), vocabulary)
        if other is not vocabulary:
            raise ConfigError(
                f"{vocabulary.members[0].where}: its vocabulary would be stored as {vocabulary.name!r}, as that of "
                f"{other.members[0].where} is; give another vocab_filename, or the same vocabulary to share it"
            )


def check_columns(vocabulary: Vocabulary, columns: Mapping[str, Feature]) -> None:
    """Checks the columns of weights and labels.

    Raises:
      ConfigError: when the schema lacks one, or it is not a number in every row; with file, line and entry.
    """
    where = next(step.where for member in vocabulary.members if (step := vocabulary_step(member)))
    for argument, kinds in _COLUMN_KINDS.items():
        if argument not in vocabulary.arguments:
            continue
        feature = find_feature(vocabulary.arguments[argument], tuple(columns.values()), f"{where}: {argument}")
        if feature.kind not in kinds:
            wanted = " or ".join(kind.value for kind in kinds)
            raise ConfigError(f"{where}: {argument} must be {wanted}, {feature.name!r} is {feature.kind.value}")
        if feature.multivalued is not False or not feature.complete:
            raise ConfigError(
                f"{where}: {argument} must be one value in every row; if {feature.name!r} is, say so in the schema: "
                "presence { min_fraction: 1 } and value_count { min: 1 max: 1 }"
            )


def check_terms(vocabulary: Vocabulary, kinds: Mapping[str, Kind]) -> None:
    """Checks the kinds of the terms, by entry.

    Raises:
      ConfigError: when entries share a vocabulary of texts and integers, or a format is given for integers.
    """
    first, *others = vocabulary.members
    kind = kinds[first.name]
    for other in others:
        if kinds[other.name] is not kind:
            raise ConfigError(
                f"{other.where}: shares the vocabulary {vocabulary.name!r} of {first.where}, where it has terms of "
                f"{kind.value}, and gives it {kinds[other.name].value}"
            )
    if kind is Kind.INT and "file_format" in vocabulary.arguments:
        raise ConfigError(f"{first.where}: file_format is for texts; a vocabulary of integers is a text file")


def check_classes(name: str, labels: npt.NDArray[np.int64]) -> None:
    """Refuses labels of a column that are no classes: tensorflow-transform would count them for another term.

    Raises:
      DataError: with the first one.
    """
    wrong = labels[(labels < 0) | (labels > MAX_LABEL)]
    if len(wrong):
        raise DataError(
            f"cannot fit: the labels of a vocabulary must be classes from 0 to {MAX_LABEL}, {name!r} has {wrong[0]}; "
            "number the classes first"
        )
