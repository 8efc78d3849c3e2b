"""What tests of operations share: columns of a few rows, and an entry of a features file computed over them."""

from typing import Any

import tensorflow as tf
from operation_cases import COLUMNS

from penstock.io.schema import Feature, Kind
from penstock.transforms.features.functions import parse_features


def tensor(feature: Feature, rows: list[Any]) -> Any:
    lists = [row if isinstance(row, list) else [] if row is None else [row] for row in rows]
    dtype = {Kind.INT: tf.int64, Kind.FLOAT: tf.float32, Kind.BYTES: tf.string}[feature.kind]
    if feature.complete and not feature.multivalued:
        return tf.constant([values[0] for values in lists], dtype)
    return tf.RaggedTensor.from_row_lengths(
        tf.constant([value for values in lists for value in values], dtype), [len(values) for values in lists]
    ).to_sparse()


def rows_of(result: Any, single: bool) -> list[Any]:
    if not isinstance(result, tf.SparseTensor):
        return [plain(value) for value in result.numpy()]
    rows: list[list[Any]] = [[] for _ in range(int(result.dense_shape[0]))]
    for (row, _), value in zip(result.indices.numpy(), result.values.numpy(), strict=True):
        rows[row].append(plain(value))
    return [None if not row else row[0] if single else row for row in rows]


def plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.tolist()


def compute(entry: str, rows: slice = slice(None)) -> tuple[Any, bool]:
    preprocessing = parse_features(f"features: {{y: {entry}}}").bind([feature for feature, _ in COLUMNS.values()])
    inputs = {item.name: tensor(COLUMNS[item.name][0], COLUMNS[item.name][1][rows]) for item in preprocessing.inputs}
    return preprocessing(inputs)["y"], "y" in preprocessing.single
