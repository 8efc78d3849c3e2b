"""Rows that the dataset has already, of those that a job reads again when it goes on from the dataset."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.beam.coverage import Covered, SeenPositions, contains
from penstock.io.columns.values import plain
from penstock.io.reserved import ORIGIN
from penstock.io.sort.records import Ints


@dataclasses.dataclass(frozen=True, eq=False)
class SeenRows:
    """What published windows hold of the positions that are read again.

    Attributes:
      covered: by the start of a window, the positions whose rows are in it, as far as they belong to it.
      letters: positions of dead letters in any window; of windows of processing time, all that they cover.
    """

    covered: Mapping[int, Covered]
    letters: SeenPositions

    def contains(self, window: int, batches: Sequence[pa.RecordBatch]) -> npt.NDArray[np.bool_]:
        """Returns for each row of batches of this window whether it is there already."""
        covered = self.covered.get(window, {})
        return np.concatenate([self._in_batch(covered, rows) for rows in batches])

    def _in_batch(self, covered: Covered, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        found = np.zeros(rows.num_rows, bool)
        if ORIGIN in rows.schema.names:
            for uri, indices, positions in places_by_uri(rows.column(ORIGIN)):
                is_seen = contains(covered.get(uri, ()), positions) | self.letters.contains(uri, positions)
                found[indices] = is_seen
        return found


def places_by_uri(origin: pa.StructArray) -> Iterator[tuple[str, Ints, Ints]]:
    """Yields each uri of an `_origin` column, with the indices of its rows and their positions."""
    uris = origin.field("uri")
    uris = uris if pa.types.is_dictionary(uris.type) else plain(uris).dictionary_encode()
    codes = uris.indices.to_numpy(zero_copy_only=False)
    positions = origin.field("position").to_numpy(zero_copy_only=False)
    for code in np.unique(codes).tolist():
        indices = np.flatnonzero(codes == code)
        yield uris.dictionary[code].as_py(), indices, positions[indices]
