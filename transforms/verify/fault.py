"""One fault of a dataset, and the fault of a file that cannot be read."""

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault of a dataset.

    Attributes:
      code: stable, such as `shard.crc32c`.
      path: the path of the file, relative to the dataset.
      detail: a sentence that says what is wrong.
    """

    code: str
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail} [{self.code}]"


def unless_unreadable(path: str, faults: Iterator[Fault]) -> Iterator[Fault]:
    """Yields faults; of a file that cannot be read, that one."""
    try:
        yield from faults
    except OSError as error:
        yield Fault("file.unreadable", path, f"cannot be read: {error}")
