"""XXH64 of rows, after the bytes of all rows are laid out."""

import itertools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from penstock.io.kernel.pure.rows import canonical_rows


def hash_rows(batch: pa.RecordBatch, seed: int, whole: bool = False) -> npt.NDArray[np.uint64]:
    """Hashes each row over the columns in their order; returns uint64[rows].

    With `whole`, whole numbers of any kind hash as integers (version 2 of the hash).
    """
    data, starts = canonical_rows(batch, whole)
    view, bounds = data.data, starts.tolist()
    digests = (xxhash.xxh64_intdigest(view[start:end], seed) for start, end in itertools.pairwise(bounds))
    return np.fromiter(digests, np.uint64, batch.num_rows)
