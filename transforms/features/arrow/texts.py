"""Operations on flat arrays of texts, as Arrow's binary arrays."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel import hashing


def hash_strings(x: pa.Array, hash_buckets: int) -> npt.NDArray[np.int64]:
    """Returns the Fingerprint64 of each text modulo the number of buckets, as `tf.strings.to_hash_bucket_fast`."""
    return (fingerprints(x) % np.uint64(hash_buckets)).astype(np.int64)


def fingerprints(x: pa.Array) -> npt.NDArray[np.uint64]:
    """Returns the Fingerprint64 of each text, uint64[n]."""
    found: npt.NDArray[np.uint64] = hashing.fingerprints(pa.record_batch([x], ["x"]))
    return found


def join(*texts: pa.Array, separator: str = "") -> pa.Array:
    """Joins the texts."""
    return pc.binary_join_element_wise(*texts, pa.scalar(separator.encode(), pa.binary()))
