"""What arguments of transforms and flags of jobs choose from, and have by default; names in the folder of a dataset.

Nothing is imported here: a command line is checked before Beam is loaded.
"""

from typing import Literal

Shuffle = Literal["global", "none"]

# Dead letters that failed so often are parked.
DEFAULT_MAX_ATTEMPTS = 3

DEFAULT_SHARD_BYTES = 128 << 20

# Encoded records keep the number of their split in 16 bits.
MAX_SPLITS = 1 << 16

MANIFEST = "manifest.json"
SCHEMA = "schema.pbtxt"
STATISTICS = "statistics"
TRANSFORM = "transform"
DEAD_LETTERS = "dead_letters"
WINDOWS = "windows"
