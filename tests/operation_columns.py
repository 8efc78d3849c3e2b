"""What tests of operations share: columns of a few rows, and an entry of a features file computed over them."""

from typing import Any

import tensorflow as tf

from penstock.io.schema import Feature, Kind
from penstock.transforms.features.functions import parse_features

COLUMNS: dict[str, tuple[Feature, list[Any]]] = {
    "n": (Feature("n", Kind.INT, multivalued=False), [7, None, -7, 0]),
    "m": (Feature("m", Kind.INT, multivalued=False), [2, 2, None, 3]),
    "x": (Feature("x", Kind.FLOAT, multivalued=False), [0.25, None, -1.5, 4.0]),
    "all": (Feature("all", Kind.INT, multivalued=False, required=True, complete=True), [2**63 - 1, -(2**63), 1, 0]),
    "text": (Feature("text", Kind.BYTES, multivalued=False), ["  Äb c", None, "", "x"]),
    "number": (Feature("number", Kind.BYTES, multivalued=False), ["7", None, "-1", "0"]),
    "words": (Feature("words", Kind.BYTES, multivalued=True), [["a", "b", "a"], [], None, ["Ü"]]),
    "time": (
        Feature("time", Kind.BYTES, multivalued=False),
        ["2012-02-29T15:59:59.25+01:00", None, "1969-12-31 23:59:59", "9999-12-31T23:59:59.9999Z"],
    ),
    "pair": (Feature("pair", Kind.INT, multivalued=True, length=2), [[1, 2], None, [-3, 4], [0, 0]]),
    "sure_pair": (
        Feature("sure_pair", Kind.INT, multivalued=True, required=True, complete=True, length=2),
        [[10, 20], [0, 0], [30, 40], [50, 60]],
    ),
    "names": (Feature("names", Kind.BYTES, multivalued=True, length=2), [["a", "b"], None, ["c", "d"], None]),
    "list": (Feature("list", Kind.INT, multivalued=True), [[1, -2], None, [3], []]),
}


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
