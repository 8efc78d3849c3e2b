"""Choices and defaults of transforms and flags, the names inside a dataset's folder, and what a provenance must have.

This module imports nothing heavy: a command line is checked before Beam is loaded.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from penstock.io.errors import ConfigError, DataError

Shuffle = Literal["global", "none"]

# Dead letters that have failed this often are parked.
DEFAULT_MAX_ATTEMPTS = 3

DEFAULT_SHARD_BYTES = 128 << 20

# Encoded records hold their split's number in 16 bits.
MAX_SPLITS = 1 << 16

MANIFEST = "manifest.json"
# The card of the dataset; one that a user has put there stays, whatever becomes of the dataset.
CARD = "README.md"
SCHEMA = "schema.pbtxt"
STATISTICS = "statistics"
IN_STATISTICS, OUT_STATISTICS, REJECTED_STATISTICS = "in.pb", "out.pb", "rejected.pb"
TRANSFORM = "transform"
DEAD_LETTERS = "dead_letters"
WINDOWS = "windows"
STREAM = "stream.json"
# Metadata that a job writes where somebody asks for it; no manifest names it.
CROISSANT = "croissant.json"
HISTORY = "_history"
VERSIONS = "_versions"
COMPACTED = "_compacted"
# Where the records of each shard begin, in a folder of its own: a pattern of shards must not find them.
INDEXES = "_index"
# Of the numbers in an index.
INDEX_TYPE = "<u8"

# Of the folder of a run: in an object store, and on a disk of one that added to a dataset.
RUN_PREFIX = "run-"

# A name stands in manifests, in messages and on command lines.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,199}")


def check_span_name(name: str) -> None:
    """Refuses a name that a span cannot have.

    Raises:
      ConfigError: for other characters than letters, digits and `_.:+-`, or more than 200.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "a span must be named with at most 200 letters, digits, '_', '-', '.', ':' and '+', such as 2026-11-27, "
            f"got {name!r}"
        )


@dataclasses.dataclass(frozen=True)
class Addition:
    """How a run adds to a dataset.

    Attributes:
      span: the name of what it adds; None for the next number.
      base: the run id of the version that it adds to; empty for a folder without a dataset, None for what is there when
        the graph is built.

    Raises:
      ConfigError: for a name that a span cannot have.
    """

    span: str | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        if self.span is not None:
            check_span_name(self.span)


_TYPES = {int: "an integer", str: "a text", Mapping: "an object", Sequence: "a list"}
# Of an input that a provenance lists, the fields that must be of one type.
_INPUT_FIELDS = {"size": int, "version": str, "crc32c": str, "ends": str, "span": str, "part": str}


def check_provenance(provenance: Mapping[str, Any], name: str = "provenance") -> None:
    """Checks what other runs read of a provenance; more may be in it.

    Args:
      provenance: what a run records about itself.
      name: of it, for messages.

    Raises:
      DataError: names the field that is of another type.
    """
    for field in ("inputs", "retired"):
        for place, one in _objects(provenance, field, name, "uri"):
            for inner, kind in _INPUT_FIELDS.items():
                if one.get(inner) is not None:
                    _check_type(one[inner], kind, f"{place}.{inner}")
    for place, part in _objects(provenance, "parts", name, "run_id"):
        own = part.get("provenance", {})
        _check_type(own, Mapping, f"{place}.provenance")
        check_provenance(own, f"{place}.provenance")
    for field in ("options", "split", "versions"):
        _check_type(provenance.get(field, {}), Mapping, f"{name}.{field}")
    given = provenance.get("options", {}).get("input") or ()
    _check_type(given, Sequence, f"{name}.options.input")
    for uri in given:
        _check_type(uri, str, f"{name}.options.input")


def _objects(provenance: Mapping[str, Any], field: str, name: str, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields where each object of a list is, and the object, which has a text as its key."""
    found = provenance.get(field, ())
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise DataError(f"{name}.{field} must be a list of objects, got {found!r}")
    for index, one in enumerate(found):
        place = f"{name}.{field}[{index}]"
        _check_type(one, Mapping, place)
        _check_type(one.get(key), str, f"{place}.{key}")
        yield place, one


def _check_type(value: object, kind: type, name: str) -> None:
    if not isinstance(value, kind):
        raise DataError(f"{name} must be {_TYPES[kind]}, got {value!r}")
