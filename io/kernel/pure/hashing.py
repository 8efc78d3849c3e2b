"""XXH64 of rows, whose bytes are all made first."""

import itertools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from penstock.io.kernel.pure.rows import canonical_rows


def hash_rows(batch: pa.RecordBatch, seed: int) -> npt.NDArray[np.uint64]:
    """uint64[rows], the hash of each row of the columns, in the order that they have."""
    data, starts = canonical_rows(batch)
    view, bounds = data.data, starts.tolist()
    digests = (xxhash.xxh64_intdigest(view[start:end], seed) for start, end in itertools.pairwise(bounds))
    return np.fromiter(digests, np.uint64, batch.num_rows)
