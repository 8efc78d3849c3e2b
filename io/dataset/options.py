"""Choices and defaults of transform arguments and job flags, and the names inside a dataset's folder.

This module imports nothing heavy: a command line is checked before Beam is loaded.
"""

from typing import Literal

Shuffle = Literal["global", "none"]

# Dead letters that have failed this often are parked.
DEFAULT_MAX_ATTEMPTS = 3

DEFAULT_SHARD_BYTES = 128 << 20

# Encoded records hold their split's number in 16 bits.
MAX_SPLITS = 1 << 16

MANIFEST = "manifest.json"
SCHEMA = "schema.pbtxt"
STATISTICS = "statistics"
IN_STATISTICS, OUT_STATISTICS, REJECTED_STATISTICS = "in.pb", "out.pb", "rejected.pb"
TRANSFORM = "transform"
DEAD_LETTERS = "dead_letters"
WINDOWS = "windows"
STREAM = "stream.json"
HISTORY = "_history"
VERSIONS = "_versions"

# Of the folder of a run: in an object store, and on a disk of one that added to a dataset.
RUN_PREFIX = "run-"
