"""Lists who takes part, with which settings, and in what scenarios."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from benchmarks.data import FLIGHTS, LONG, TAXI, WIDE, Column, Generate, flights, generate, generate_typed


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One input and the output to make of it.

    Attributes:
      title: a few words.
      format: the format of the input.
      columns: the columns of the input.
      data: what the input is called.
      generate: makes it.
      compression: the compression of the shards.
      divisor: use this many times fewer rows than --rows, where rows are long.
      setup: a script in peers/ to run once before.
      outputs: names and kinds of the features, if these are not the columns.
      contestants: who takes part, if not all do.
      product: what is made, in a word or two.
      checker: a script in peers/ that checks it, and the requirements of its environment; None for Penstock's own.
      base: the contestant with which the others are compared.
      most_rows: how many there are.
      shard_format: of the output, as Penstock calls it.
    """

    name: str
    title: str
    format: str = "csv"
    columns: Sequence[Column] = TAXI
    data: str = "taxi"
    generate: Generate = generate
    compression: str = "none"
    divisor: int = 1
    setup: str = ""
    outputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    contestants: tuple["Contestant", ...] = ()
    product: str = "TFRecord"
    checker: tuple[str, str | None] = ("check.py", "plain.txt")
    base: str = "floor"
    most_rows: int | None = None
    shard_format: str = "tfrecord"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A way to do the work.

    Attributes:
      name: the name for --only.
      title: the name in the table.
      script: its script in peers/.
      requirements: the requirements of its environment, in peers/; None for Penstock's own.
      settings: each is tried; the fastest counts.
      quick: whether it runs on more than a million rows without --all.
      pattern: the file name pattern of its shards.
      cannot: scenarios that it has no way to do, with the reason.
    """

    name: str
    title: str
    script: str
    requirements: str | None = None
    settings: tuple[str, ...] = ("",)
    quick: bool = False
    pattern: str = "*.tfrecord*"
    cannot: Mapping[str, str] = dataclasses.field(default_factory=dict)


# Modes of Beam's local runner: one thread, or a process for each core. Its third mode, multi_threading, is left out: it
# loses rows (see README.md).
_WORKERS = ("in_memory 1", "multi_processing 0")

PENSTOCK = "penstock"
FLOOR = "floor"

# In the order in which they run: the floor writes what Penstock wrote before.
CONTESTANTS = (
    Contestant(PENSTOCK, "Penstock", "penstock_prepare.py", settings=("none",), quick=True),
    Contestant("penstock-shuffled", "Penstock, shuffled", "penstock_prepare.py", settings=("global",), quick=True),
    Contestant(
        FLOOR,
        "floor: Arrow parse, copy, CRC, write",
        "arrow_floor.py",
        quick=True,
        cannot={"gzip": "would be a measure of zlib"},
    ),
    Contestant(
        "tfx-bsl",
        "tfx-bsl on Beam",
        "tfx_bsl_beam.py",
        "tfx_bsl.txt",
        _WORKERS,
        cannot={"jsonl": "reads no JSON"},
    ),
    Contestant("script", "script, csv and TFRecordWriter", "plain_script.py", "plain.txt"),
    Contestant("beam", "plain Beam", "plain_beam.py", "plain.txt", _WORKERS),
    Contestant("ray", "Ray Data", "ray_data.py", "ray.txt", pattern="*.tar"),  # so Ray calls TFRecord files
    Contestant(
        "tfds",
        "TensorFlow Datasets on Beam",
        "tfds_beam.py",
        "tfds.txt",
        tuple(f"shuffled {workers}" for workers in _WORKERS),
        cannot={"gzip": "writes no compressed TFRecord"},
    ),
)

# Who computes statistics; benchmarks/README.md says what each of them computes.
PROFILERS = (
    Contestant(PENSTOCK, "Penstock, profile", "penstock_profile.py", quick=True),
    Contestant("penstock-batches", "Penstock, compute_statistics, one thread", "penstock_batches.py", quick=True),
    Contestant("duckdb-summarize", "DuckDB, SUMMARIZE", "duckdb_profile.py", "duckdb.txt", ("summarize",), quick=True),
    Contestant("duckdb-same", "DuckDB, nearly the same", "duckdb_profile.py", "duckdb.txt", ("same",), quick=True),
    Contestant("polars-describe", "Polars, describe", "polars_profile.py", "polars.txt", ("describe",), quick=True),
    Contestant("polars-same", "Polars, nearly the same", "polars_profile.py", "polars.txt", ("same",), quick=True),
    Contestant("ydata", "ydata-profiling, minimal", "ydata_profile.py", "ydata.txt", ("c", "pyarrow")),
    Contestant("whylogs", "whylogs", "whylogs_profile.py", "whylogs.txt", ("c",)),
    # A process for each core is left out: each loads TensorFlow once more, before it starts (see README.md).
    Contestant("tfdv", "TFDV, generate_statistics_from_csv", "tfdv_profile.py", "tfdv.txt", _WORKERS[:1]),
)

# Who writes Parquet: what a user would take for it today. Nobody else checks rows, keeps what is bad, or sums up files.
PARQUET_WRITERS = tuple(
    Contestant(
        name if setting == "none" else f"{name}-shuffled",
        title if setting == "none" else f"{title}, shuffled",
        script,
        requirements,
        (setting,),
        quick=name != "ray",
        pattern="part-*.parquet" if name == PENSTOCK else "*.parquet",
    )
    for name, title, script, requirements in (
        (PENSTOCK, "Penstock", "penstock_prepare.py", None),
        ("polars", "Polars", "polars_parquet.py", "polars.txt"),
        ("duckdb", "DuckDB", "duckdb_parquet.py", "duckdb.txt"),
        ("ray", "Ray Data", "ray_parquet.py", "ray_parquet.txt"),
    )
    for setting in ("none", "global")
)

# The features that the graph of tft.py makes.
_TFT_FEATURES = {
    **dict.fromkeys(("fare_amount", "total_amount", "trip_distance"), "float"),
    **dict.fromkeys(("fare_bucket", "distance_bucket", "payment_type", "store_and_fwd_flag", "pickup_zone"), "int"),
    **dict.fromkeys(("route", "passenger_count", "rate_code", "vendor_id"), "int"),
}

_statistics = functools.partial(
    Scenario, contestants=PROFILERS, product="statistics", checker=("check_statistics.py", None), base=PENSTOCK
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("main", "CSV, 12 columns"),
        Scenario("wide", "CSV, 500 columns", columns=WIDE, data="wide", divisor=40),
        Scenario("long", "CSV, 12 columns, one of them a text of 2 kB", columns=LONG, data="long", divisor=20),
        Scenario("parquet", "Parquet, 12 columns", format="parquet"),
        Scenario("jsonl", "JSON Lines, 12 members", format="jsonl"),
        Scenario("gzip", "CSV, 12 columns, gzip out", compression="gzip"),
        Scenario(
            "to-parquet",
            "CSV, 12 columns, to Parquet",
            compression="zstd",
            contestants=PARQUET_WRITERS,
            product="Parquet",
            checker=("check_parquet.py", None),
            base=PENSTOCK,
            shard_format="parquet",
        ),
        Scenario(
            "tft",
            "CSV, 12 columns to 12 features by tensorflow-transform",
            setup="tft_fit.py",
            outputs=_TFT_FEATURES,
            contestants=(
                Contestant(PENSTOCK, "Penstock", "tft_apply.py", settings=("penstock",), quick=True),
                Contestant(
                    "beam", "Beam with tensorflow-transform", "tft_apply.py", settings=("plain_beam",), pattern="part-*"
                ),
            ),
        ),
        Scenario(
            "features",
            "CSV, 12 columns to 12 features, fitted and applied",
            outputs=_TFT_FEATURES,
            checker=("check_features.py", None),
            base=PENSTOCK,
            contestants=(
                Contestant(PENSTOCK, "Penstock", "penstock_features.py", settings=("none",), quick=True),
                Contestant(
                    "tft",
                    "tensorflow-transform, AnalyzeAndTransformDataset over record batches",
                    "tft_columns.py",
                    settings=_WORKERS,
                    pattern="part-*",
                ),
            ),
        ),
        _statistics("statistics", "CSV, 12 columns", data="typed", generate=generate_typed),
        _statistics(
            "flights", "Flights, 19 columns", columns=FLIGHTS, data="flights", generate=flights, most_rows=336_776
        ),
    )
}
