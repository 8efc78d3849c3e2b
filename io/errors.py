"""The exceptions of Penstock.

::

    PenstockError
    ├── ConfigError            wrong usage or configuration (jobs exit with 2)
    │   └── MissingExtraError  what is asked for needs an extra that is not installed; an ImportError too
    ├── StoppedError           a worker ends because its pipeline has failed on another one
    └── DataError              the data failed (jobs exit with 1)
        ├── InputError         a fault of a whole file: no row of it can be trusted or counted
        ├── NoRowsError        there is not a single row where some are needed
        ├── RunnerError        what runs a pipeline has failed, or cannot be reached: Prism, a job server, a cluster
        ├── StorageError       what a run writes has no place: a full disk, no permission; an OSError too
        │   ├── MissingFileError   a store has no such object, or no such bucket; a FileNotFoundError too
        │   └── ChangedFileError   an object was replaced while it was read
        └── RejectedRecordError  a bad record met a transform that has no error handler
"""

import dataclasses
from collections.abc import Collection


class PenstockError(Exception):
    """Base of all exceptions that Penstock raises on purpose."""


class ConfigError(PenstockError, ValueError):
    """A flag, schema, rule, feature or option is wrong; raised before any data is read."""


class MissingExtraError(ConfigError, ImportError):
    """What is asked for needs packages that are not installed; the message names the extra that brings them."""


class StoppedError(PenstockError):
    """The pipeline has failed on another worker, so this one need not go on."""


class DataError(PenstockError):
    """The data is at fault, not the configuration."""


class InputError(DataError):
    """A whole input is unusable: missing, truncated, with a broken footer or duplicate columns."""


class NoRowsError(DataError):
    """There is not a single row where some are needed: none to write, or to infer or to fit from."""


class StorageError(DataError, OSError):
    """A file of the run cannot be written or read: the disk is full, or it is not allowed; the message has the path."""


class MissingFileError(StorageError, FileNotFoundError):
    """A store has no such object, or no such bucket; the message has its URL."""


class ChangedFileError(StorageError):
    """An object of a store was replaced while it was read, or is not the one that was listed."""


class RunnerError(DataError):
    """What runs the pipeline has failed or cannot be reached; the message says what runs on, and how to go on."""


class RejectedRecordError(DataError):
    """A transform without an error handler (`with_error_handler`) rejected a record."""


# The flags of the command that this process runs; None where it runs none.
_flags: frozenset[str] | None = None


def remedies_of(flags: Collection[str] | None) -> None:
    """Says which flags the command of this process has, with their dashes, so that remedies name no others.

    None says that it runs none any more.
    """
    global _flags
    _flags = None if flags is None else frozenset(flags)


@dataclasses.dataclass(frozen=True)
class Remedy:
    """What to do about an error, as a text.

    Attributes:
      flag: the flag that it names.
      text: what it is.
      otherwise: what it is for a command that has no such flag.
    """

    flag: str
    text: str
    otherwise: str

    def __str__(self) -> str:
        return self.text if _flags is None or self.flag in _flags else self.otherwise
