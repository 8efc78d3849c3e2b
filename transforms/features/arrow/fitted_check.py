"""Whether what a file says is fitted can be what an operation needs: a person may have changed it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.errors import ConfigError
from penstock.io.files.yaml_files import shown_text
from penstock.io.schema import Kind
from penstock.transforms.features.arrow.calls import make_analysis
from penstock.transforms.features.arrow.compute.analysis import Fitted
from penstock.transforms.features.arrow.compute.columns import Column
from penstock.transforms.features.arrow.vocabularies.files import GZIPPED_RECORDS
from penstock.transforms.features.arrow.vocabularies.lookup import Vocabulary
from penstock.transforms.features.entries.file import Step, is_int, is_number
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY
from penstock.transforms.features.operations.fixed_map import is_int_text

# Numbers that are not below 0.
_AMOUNTS = ("count", "rows", "documents", "terms", "variance", "deviation", "rank_error")
# Lists in order.
_ORDERED = ("boundaries", "edges")
# The first is not above the second.
_RANGES = (("min", "max"), ("lower", "upper"))
# How a term of INT is spelled, and how many bytes of it never go beyond int64.
_INT = r"\A(?:0|-?[1-9][0-9]*)\z"
_SURE_BYTES = 18


def check_fitted(step: Step, kinds: Sequence[Kind], fitted: Fitted) -> None:
    """Refuses what no fit of an operation could have found.

    Args:
      step: the operation, with its place in the file.
      kinds: of its inputs.
      fitted: what the file says.

    Raises:
      ConfigError: names what is wrong.
    """
    is_whole = kinds[0] is Kind.INT
    for name, like in _least_fitted(step, kinds).items():
        if name not in fitted:
            raise ConfigError(f"{step.where}: lacks {name}, which is fitted; fit again")
        value = fitted[name]
        if not _may_be(name, value, like, is_whole) or (isinstance(value, list) and not _fit_in(name, fitted, like)):
            raise ConfigError(f"{step.where}: no fit gives this {name}: {value!r:.60}; fit again")
    for low, high in _RANGES:
        if low in fitted and high in fitted and not _are_in_order(fitted[low], fitted[high]):
            raise ConfigError(f"{step.where}: {low} is above {high}; fit again")


def check_terms(vocabulary: Vocabulary, kind: Kind, path: str) -> None:
    """Refuses terms that no fit writes to a file: a person may have changed it.

    Raises:
      ValueError: for an empty term of a text file, one that is no INT of a vocabulary of these, and one that is there
        twice; with its position.
    """
    terms = vocabulary.terms
    if not path.endswith(GZIPPED_RECORDS) and (at := pc.index(terms, pa.scalar(b"", terms.type)).as_py()) >= 0:
        raise ValueError(f"the term of position {at} is empty")
    if kind is Kind.INT:
        spelled = pc.match_substring_regex(terms, _INT).to_numpy(zero_copy_only=False)
        large = spelled & (pc.binary_length(terms).to_numpy() > _SURE_BYTES)
        for at in np.flatnonzero(~spelled | large).tolist():
            if not is_int_text(term := terms[at].as_py()):
                raise ValueError(
                    f"the term of position {at} is {shown_text(term.decode(errors='replace'))}, not an INT"
                )
    if (places := vocabulary.repeated(kind)) is not None:
        term = shown_text(terms[places[1]].as_py().decode(errors="replace"))
        raise ValueError(f"{term} has the positions {places[0]} and {places[1]}")


def _least_fitted(step: Step, kinds: Sequence[Kind]) -> Fitted:
    """Returns what a fit to no rows gives, or to one row with a key."""
    if step.name == VOCABULARY:
        return {"terms": 0, "vocabulary": ""}
    analysis = make_analysis(step.name, kinds, step.arguments)
    if step.operation.key is not None:
        number = np.zeros(1, np.int64 if kinds[0] is Kind.INT else np.float32)
        analysis.add([Column(number), Column(pa.array([b""], pa.binary()))])
    return analysis.finish()


def _may_be(name: str, value: Any, like: Any, is_whole: bool) -> bool:
    """Whether a value, or each of a list, is of the type of another one."""
    if isinstance(like, list):
        one = like[0] if like else 0
        return isinstance(value, list) and all(_may_be(name, item, one, is_whole) for item in value)
    if isinstance(like, str):
        return isinstance(value, str)
    if not (is_int(value) if is_whole and isinstance(like, int) else is_number(value)) or math.isnan(value):
        return False
    return name not in _AMOUNTS or value >= 0


def _fit_in(name: str, fitted: Fitted, like: Sequence[Any]) -> bool:
    """Whether a list is as long as it must be, and in order if it must be."""
    value = fitted[name]
    if name == "keys":
        return value == sorted(set(value), key=_bytes)
    if "keys" in fitted:
        lists = value if name in _ORDERED else []
        return len(value) == len(fitted["keys"]) and all(
            len(item) == len(like[0]) and _is_sorted(item) for item in lists
        )
    return len(value) == (len(like) or len(value)) and (name not in _ORDERED or _is_sorted(value))


def _is_sorted(values: list[Any]) -> bool:
    return values == sorted(values)


def _are_in_order(low: Any, high: Any) -> bool:
    pairs = zip(low, high, strict=True) if isinstance(low, list) else [(low, high)]
    return all(below <= above for below, above in pairs)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
