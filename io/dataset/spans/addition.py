"""How a run adds to a dataset. A command line is checked before Beam is loaded, so this imports nothing heavy."""

import dataclasses
import re

from penstock.io.errors import ConfigError

# A name stands in manifests, in messages and on command lines.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]*")


@dataclasses.dataclass(frozen=True)
class Addition:
    """How a run adds to a dataset.

    Attributes:
      span: the name of what it adds; None for the next number.
      base: the run id of the version that it adds to; empty for a folder without a dataset, None for what is there when
        the graph is built.

    Raises:
      ConfigError: for a name with other characters than letters, digits and `_.:+-`.
    """

    span: str | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        if self.span is not None and not _NAME.fullmatch(self.span):
            raise ConfigError(
                f"a span must be named with letters, digits, '_', '-', '.', ':' and '+', such as 2026-11-27, got "
                f"{self.span!r}"
            )
