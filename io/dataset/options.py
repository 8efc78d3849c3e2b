"""Choices and defaults of transform arguments and job flags, and the names inside a dataset's folder.

This module imports nothing heavy: a command line is checked before Beam is loaded.
"""

import dataclasses
import re
from typing import Literal

from penstock.io.errors import ConfigError

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
