"""Reads the shards of a contestant with TensorFlow: whether the fitted features are what they should be.

Two engines need not agree on the last bit of a mean, on the order of terms that are equally frequent, or on the
boundaries of buckets, which tensorflow-transform approximates. So this checks what each must have: a z-score has the
mean 0 and the variance 1, what is scaled begins at 0 and ends at 1, buckets are about equally full, and terms of a
vocabulary are numbered by how frequent they are.
"""

import glob
import hashlib
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
from _protocol import Task

_SPECS = {"int": tf.io.FixedLenFeature([], tf.int64), "float": tf.io.FixedLenFeature([], tf.float32)}
# Columns as they were in the input: their sums say that the rows are the same ones.
_UNCHANGED = ("passenger_count", "rate_code", "vendor_id", "route")


def mistakes_of(columns: dict[str, np.ndarray]) -> list[str]:
    """What is not as it should be, in words."""
    found = []
    for name in ("fare_amount", "total_amount"):
        mean, variance = columns[name].mean(dtype=np.float64), columns[name].var(dtype=np.float64)
        if abs(mean) > 1e-3 or abs(variance - 1) > 1e-3:
            found.append(f"{name} has the mean {mean:.4f} and the variance {variance:.4f}")
    if (columns["trip_distance"].min(), columns["trip_distance"].max()) != (0, 1):
        found.append(f"trip_distance goes from {columns['trip_distance'].min()} to {columns['trip_distance'].max()}")
    for name, buckets in (("fare_bucket", 10), ("distance_bucket", 8)):
        shares = np.bincount(columns[name], minlength=buckets) * buckets / len(columns[name])
        if len(shares) != buckets or np.abs(shares - 1).max() > 0.2:
            found.append(f"{name} has buckets of {shares.round(2).tolist()} times their share")
    for name, terms in (("payment_type", 4), ("store_and_fwd_flag", 2), ("pickup_zone", 30)):
        counts = np.bincount(columns[name][columns[name] < terms], minlength=terms)
        if (np.diff(counts) > 0).any():
            found.append(f"{name} numbers its terms by {counts.tolist()}")
    return found


def check(task: Task) -> dict[str, object]:
    """Rows, a digest of what no engine may change, and mistakes."""
    specs = {column["name"]: _SPECS[column["kind"]] for column in task.columns}
    paths = sorted(glob.glob(f"{glob.escape(task.output)}/**/{task.pattern}", recursive=True))
    parsed = [tf.io.parse_example(records, specs) for records in tf.data.TFRecordDataset(paths).batch(65_536)]
    columns = {name: np.concatenate([batch[name].numpy() for batch in parsed]) for name in specs}
    kept = np.stack([columns[name] for name in _UNCHANGED])
    sums = np.concatenate([kept.sum(1), (kept * 0x9E3779B97F4A7C1 ^ np.roll(kept, 1, 0)).sum(1)])
    return {
        "rows": kept.shape[1],
        "digest": hashlib.sha256(sums.tobytes()).hexdigest()[:16],
        "shards": len(paths),
        "bytes": sum(pathlib.Path(path).stat().st_size for path in paths),
        "mistakes": mistakes_of(columns),
    }


if __name__ == "__main__":
    print("\n" + json.dumps(check(Task(**json.loads(sys.argv[1])))))
