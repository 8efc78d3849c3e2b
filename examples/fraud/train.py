"""Trains a small fraud model on the windows of a dataset, and scores it on later ones.

The model is a logistic regression in numpy, since the point is its inputs: it is scored with the rolling features and
without. The shards are read with `tf.data`, as in any training job (extra `tft`).
"""

import argparse
import itertools
import json
import pathlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

PLAIN = ("amount", "km")
ROLLING = (
    "card_count_10m",
    "card_count_1h",
    "card_amount_10m",
    "card_amount_1h",
    "card_amount_mean_12h",
    "card_amount_max_1h",
    "card_merchants_10m",
    "card_merchants_1h",
    "card_km_min_1h",
    "card_km_max_1h",
    "card_since_last",
)
_INTS = frozenset({"fraud", "card_count_10m", "card_count_1h", "card_merchants_10m", "card_merchants_1h"})
# A card's first payment has no earlier one; the model then sees a gap of one day.
_NEVER_SECONDS = 86_400.0
_BATCH_ROWS = 4096

Floats = npt.NDArray[np.float64]


def shards_by_window(dataset: pathlib.Path) -> list[list[str]]:
    """Returns the shards of each window, in order of time, without windows under quarantine."""
    manifests = [json.loads(path.read_text()) for path in sorted((dataset / "windows").glob("*.json"))]
    published = [manifest for manifest in manifests if manifest["status"] == "published"]
    return [[str(dataset / shard["path"]) for shard in manifest["shards"]] for manifest in published]


def read_columns(paths: Sequence[str]) -> dict[str, Floats]:
    """Reads all rows of some shards, column by column."""
    columns = {
        name: tf.io.FixedLenFeature([], tf.int64 if name in _INTS else tf.float32, 0) for name in PLAIN + ROLLING
    }
    columns["fraud"] = tf.io.FixedLenFeature([], tf.int64)
    columns["card_since_last"] = tf.io.FixedLenFeature([], tf.float32, _NEVER_SECONDS)
    compression = "GZIP" if paths[0].endswith(".gz") else ""
    records = tf.data.TFRecordDataset(list(paths), compression_type=compression).batch(_BATCH_ROWS)
    batches = list(records.map(lambda batch: tf.io.parse_example(batch, columns)).as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in batches]).astype(np.float64) for name in columns}


def inputs(columns: dict[str, Floats], names: Sequence[str]) -> Floats:
    """Makes the model's inputs: logarithms, since all values are positive and span orders of magnitude."""
    return np.log1p(np.stack([columns[name] for name in names], axis=1))


def fit(rows: Floats, labels: Floats, steps: int = 30, ridge: float = 1.0) -> Floats:
    """Fits a logistic regression by Newton's method; returns its weights, the bias last."""
    rows = np.column_stack([rows, np.ones(len(rows))])
    weights = np.zeros(rows.shape[1])
    for _ in range(steps):
        chances = sigmoid(rows @ weights)
        gradient = rows.T @ (chances - labels) + ridge * weights
        curvature = (rows * (chances * (1 - chances))[:, None]).T @ rows + ridge * np.eye(len(weights))
        weights -= np.linalg.solve(curvature, gradient)
    return weights


def sigmoid(values: Floats) -> Floats:
    """Computes 1 / (1 + exp(-values)), without overflow."""
    return 0.5 * (1 + np.tanh(values / 2))


def roc_auc(scores: Floats, labels: Floats) -> float:
    """Returns the chance that a fraud scores above an honest payment; equal scores count half."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    frauds = labels.sum()
    return float((ranks[labels == 1].sum() - frauds * (frauds + 1) / 2) / (frauds * (len(labels) - frauds)))


def average_precision(scores: Floats, labels: Floats) -> float:
    """Returns the mean, over all frauds, of the precision at the score of each."""
    found = labels[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(found) / np.arange(1, len(found) + 1))[found == 1].mean())


def score(train: dict[str, Floats], test: dict[str, Floats], names: Sequence[str]) -> tuple[float, float]:
    """Returns ROC AUC and average precision of a model that sees the named columns."""
    rows = inputs(train, names)
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    weights = fit((rows - mean) / spread, train["fraud"])
    scores = ((inputs(test, names) - mean) / spread) @ weights[:-1]
    return roc_auc(scores, test["fraud"]), average_precision(scores, test["fraud"])


def main() -> None:
    """Prints the scores with and without rolling features."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=pathlib.Path, required=True, help="OUTPUT of prepare, with windows")
    parser.add_argument("--test_part", type=float, default=0.3, help="part of the windows, the last ones, to score on")
    flags = parser.parse_args()
    windows = shards_by_window(flags.dataset)
    if len(windows) < 2:
        parser.error(f"{flags.dataset} must have at least two windows in windows/, got {len(windows)}")
    cut = max(1, min(len(windows) - 1, round(len(windows) * (1 - flags.test_part))))
    train, test = (read_columns(list(itertools.chain(*part))) for part in (windows[:cut], windows[cut:]))
    for part, columns in (("train", train), ("test", test)):
        print(f"{part:<5} {len(columns['fraud']):>9,} payments, {int(columns['fraud'].sum()):>6,} of them fraud")
    for what, names in (("payment alone", PLAIN), ("with rolling features", PLAIN + ROLLING)):
        auc, precision = score(train, test, names)
        print(f"{what:<22} ROC AUC {auc:.4f}   average precision {precision:.4f}")


if __name__ == "__main__":
    main()
