"""What arguments of transforms and flags of jobs choose from, and have by default.

Nothing is imported here: a command line is checked before Beam is loaded.
"""

from typing import Literal

Compression = Literal["gzip", "zlib", "none"]
Shuffle = Literal["global", "none"]

# Dead letters that failed so often are parked.
DEFAULT_MAX_ATTEMPTS = 3
