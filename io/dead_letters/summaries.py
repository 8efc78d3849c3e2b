"""What is said of the rows in files of dead letters, beside the letters themselves."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from penstock.io.dead_letters.record import RejectedBatch


class RejectSummary(Protocol):
    """Gathers what is said of some rejected rows."""

    def add(self, rejected: RejectedBatch) -> None:
        """Adds rejected rows."""

    def to_bytes(self) -> bytes:
        """Returns its state."""


class RejectSummaries(Protocol):
    """Makes and merges summaries of rejected rows; it is sent to workers.

    A state follows from its rows alone: it depends neither on their order, nor on the pieces that were merged.
    """

    def begin(self) -> RejectSummary:
        """Begins a summary without rows."""

    def merge(self, states: Iterable[bytes]) -> bytes:
        """Merges states of different rows into one."""

    def files(self, state: bytes) -> Mapping[str, bytes]:
        """Returns the files in which a state is published, by suffix: `.pb` and `.json`."""
