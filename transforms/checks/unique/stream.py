"""Compares the rows of a stream with the keys that have come before them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.beam.windows import Windows
from penstock.io.kernel.shared.offsets import Ints
from penstock.io.sort.records import Keys
from penstock.transforms.checks.file import UniqueKey
from penstock.transforms.checks.unique.keys import KeyedRows, Repeated, RowOrigin, keyed_rows, origins_of

# What the state of a stream holds for each key: the key, and the origin of its first row.
_SEEN = pa.schema([("hash", pa.uint64()), ("key", pa.large_binary()), ("uri", pa.string()), ("position", pa.int64())])


# More parts than these are joined, since each part is searched for every batch.
_MAX_PARTS = 8


class SeenKeys:
    """The keys of one bucket of a window that have arrived, each with the origin of its first row."""

    def __init__(self) -> None:
        self._parts: list[tuple[Keys, pa.RecordBatch]] = []

    def __len__(self) -> int:
        """Returns the number of keys."""
        return sum(len(hashes) for hashes, _ in self._parts)

    def add(self, seen: pa.RecordBatch) -> None:
        """Adds rows of `_SEEN`."""
        if not seen.num_rows:
            return
        if len(self._parts) >= _MAX_PARTS:
            seen = pa.concat_batches([*(part for _, part in self._parts), seen])
            self._parts = []
        seen = seen.take(pc.sort_indices(seen.column("hash")))
        self._parts.append((seen.column("hash").to_numpy(), seen))

    def may_have(self, hashes: Keys) -> npt.NDArray[np.bool_]:
        """Returns which of the hashes belong to keys that have arrived."""
        found = np.zeros(len(hashes), bool)
        for known, _ in self._parts:
            index = np.minimum(known.searchsorted(hashes), len(known) - 1)
            found |= known[index] == hashes
        return found

    def find(self, hash_: int, key: bytes) -> RowOrigin | None:
        """Returns the origin of a key's first row; None when no row with it has arrived."""
        for known, part in self._parts:
            first, last = (int(known.searchsorted(np.uint64(hash_), side)) for side in ("left", "right"))
            for row in range(first, last):
                if part.column("key")[row].as_py() == key:
                    return RowOrigin(part.column("uri")[row].as_py(), part.column("position")[row].as_py())
        return None


def compare_with(
    seen: SeenKeys, batch: pa.RecordBatch, key: UniqueKey, windows: Windows | None = None
) -> tuple[Repeated, pa.RecordBatch]:
    """Returns the rows that repeat an earlier row, here or in `seen`; and the new keys, for `SeenKeys.add`."""
    keyed = keyed_rows(batch, key, windows)
    uris, positions = origins_of(batch)
    _, inverse, counts = np.unique(keyed.hashes, return_inverse=True, return_counts=True)
    repeated: dict[int, RowOrigin] = {}
    new = np.ones(len(keyed.rows), bool)
    here: dict[bytes, RowOrigin] = {}
    # Only rows whose hash is known, or repeats in this batch, can repeat a key: compare just their keys.
    for index in np.flatnonzero(seen.may_have(keyed.hashes) | (counts[inverse] > 1)).tolist():
        row, value = int(keyed.rows[index]), keyed.data[keyed.starts[index] : keyed.starts[index + 1]].tobytes()
        origin = here.get(value) or seen.find(int(keyed.hashes[index]), value)
        if origin is None:
            here[value] = RowOrigin(uris[row].as_py(), int(positions[row]))
        else:
            repeated[row], new[index] = origin, False
    return repeated, _seen_rows(keyed, np.flatnonzero(new), uris, positions)


def _seen_rows(keyed: KeyedRows, indices: Ints, uris: pa.Array, positions: Ints) -> pa.RecordBatch:
    rows, data, offsets = keyed.rows[indices], pa.py_buffer(keyed.data), pa.py_buffer(keyed.starts)
    keys = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(keyed.rows), [None, offsets, data])
    texts = uris.take(pa.array(rows)).cast(pa.string())
    columns = [pa.array(keyed.hashes[indices]), keys.take(pa.array(indices)), texts, pa.array(positions[rows])]
    return pa.RecordBatch.from_arrays(columns, schema=_SEEN)
