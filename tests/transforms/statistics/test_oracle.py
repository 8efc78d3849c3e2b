"""Statistics beside those of TFDV 1.16.1, which make_golden.py has made of the same tables."""

import math
import pathlib
import runpy

import numpy as np
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.transforms.statistics.compute import compute_statistics
from penstock.transforms.statistics.options import StatisticsOptions

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = runpy.run_path(str(GOLDEN.parent / "make_golden.py"))["CASES"]
# Of all values, TFDV's quantiles may be off by so many ranks.
EPSILON = 0.01


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    table, schema, given = CASES[request.param]
    theirs = statistics_pb2.DatasetFeatureStatisticsList.FromString((GOLDEN / f"{request.param}.pb").read_bytes())
    options = StatisticsOptions(weight=given.get("weight"), slice_by=(given["slice"],) if "slice" in given else ())
    if schema:
        options = options.with_schema(text_format.Parse(schema, schema_pb2.Schema()))
    rows = pq.read_table(GOLDEN / f"{table}.parquet")
    ours = {dataset.name: dataset for dataset in compute_statistics(rows.to_batches(), options).to_proto().datasets}
    return [(dataset, ours[dataset.name or "All Examples"]) for dataset in theirs.datasets], rows


def features(pair):
    for theirs, ours in pair[0]:
        by_name = {feature.path.step[0]: feature for feature in ours.features}
        assert theirs.features or not theirs.num_examples
        for feature in theirs.features:
            yield feature.path.step[0], feature, by_name[feature.path.step[0]]


def common(feature):
    return getattr(feature, feature.WhichOneof("stats")).common_stats


def bare(message, *fields):
    copy = type(message)()
    copy.CopyFrom(message)
    for field in fields:
        copy.ClearField(field)
    return copy


def near(ours, theirs, what):
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-12), what


def test_rows_and_types(pair):
    for theirs, ours in pair[0]:
        assert ours.num_examples == theirs.num_examples
        near(ours.weighted_num_examples, theirs.weighted_num_examples, "weight")
    for name, theirs, ours in features(pair):
        assert (ours.type, ours.WhichOneof("stats")) == (theirs.type, theirs.WhichOneof("stats")), name


def test_presence_and_valency(pair):
    for name, theirs, ours in features(pair):
        weighted = ("weighted_common_stats", "weighted_presence_and_valency_stats")
        assert bare(common(ours), *weighted) == bare(common(theirs), *weighted), name
        assert len(common(ours).weighted_presence_and_valency_stats) == len(
            common(theirs).weighted_presence_and_valency_stats
        )
        mine = [common(ours).weighted_common_stats, *common(ours).weighted_presence_and_valency_stats]
        other = [common(theirs).weighted_common_stats, *common(theirs).weighted_presence_and_valency_stats]
        for one, two in zip(mine, other, strict=True):
            for field in one.DESCRIPTOR.fields:
                assert getattr(one, field.name) == pytest.approx(getattr(two, field.name), rel=1e-6, abs=1e-9), name


def test_texts(pair):
    for name, theirs, ours in features(pair):
        if theirs.WhichOneof("stats") == "string_stats":
            mine, other = ours.string_stats, theirs.string_stats
            left_out = ("common_stats", "weighted_string_stats", "avg_length")
            assert bare(mine, *left_out) == bare(other, *left_out), name
            near(mine.avg_length, other.avg_length, name)
            weighted, expected = mine.weighted_string_stats, other.weighted_string_stats
            for field in ("value", "frequency"):
                found, wanted = ([getattr(v, field) for v in stats.top_values] for stats in (weighted, expected))
                assert found == (wanted if field == "value" else pytest.approx(wanted, rel=1e-6)), name
            assert len(weighted.rank_histogram.buckets) == len(expected.rank_histogram.buckets), name
        if theirs.WhichOneof("stats") == "bytes_stats":
            assert bare(ours.bytes_stats, "unique") == bare(theirs.bytes_stats, "unique"), name


def test_moments(pair):
    for name, theirs, ours in features(pair):
        mine, other = ours.num_stats, theirs.num_stats
        assert (mine.num_zeros, mine.min, mine.max) == (other.num_zeros, other.min, other.max), name
        if name == "infinite":  # whose mean and deviation TFDV loses
            assert math.isnan(other.mean)
            assert math.isfinite(mine.mean)
            continue
        near(mine.mean, other.mean, name)
        near(mine.std_dev, other.std_dev, name)
        near(mine.weighted_numeric_stats.mean, other.weighted_numeric_stats.mean, name)
        near(mine.weighted_numeric_stats.std_dev, other.weighted_numeric_stats.std_dev, name)


def test_buckets_of_equal_width(pair):
    for name, theirs, ours in features(pair):
        for mine, other in zip(ours.num_stats.histograms[:1], theirs.num_stats.histograms[:1], strict=True):
            assert mine.num_nan == other.num_nan
            total = sum(bucket.sample_count for bucket in other.buckets)
            for one, two in zip(mine.buckets, other.buckets, strict=True):
                near(one.low_value, two.low_value, name)
                near(one.high_value, two.high_value, name)
                # TFDV shares values out between quantiles, also where many rows have the same.
                assert abs(one.sample_count - two.sample_count) <= max(0.1 * total, 3), name


def test_buckets_of_equal_width_are_exact(pair):
    for name, _, ours in features((pair[0][:1], pair[1])):
        column = pair[1][name].combine_chunks()
        if not ours.num_stats.histograms or "list" in str(column.type):
            continue
        values = column.drop_null().to_numpy().astype(np.float64)
        finite = [bucket for bucket in ours.num_stats.histograms[0].buckets if math.isfinite(bucket.low_value)]
        if finite and finite[0].low_value < finite[-1].high_value:
            edges = [bucket.low_value for bucket in finite] + [finite[-1].high_value]
            counts = np.histogram(values[np.isfinite(values)], edges)[0]
            assert [bucket.sample_count for bucket in finite] == pytest.approx(counts.tolist()), name


def test_quantiles_have_the_ranks_of_theirs(pair):
    for theirs, _ in pair[0][:1]:
        for feature in theirs.features:
            name = feature.path.step[0]
            ours = next(mine for path, _, mine in features(pair) if path == name)
            if len(feature.num_stats.histograms) < 2 or name not in pair[1].column_names:
                continue
            column = pair[1][name].combine_chunks()
            while hasattr(column, "flatten") and "list" in str(column.type):
                column = column.flatten()
            values = np.sort(column.drop_null().to_numpy().astype(np.float64))
            values = values[~np.isnan(values)]
            medians = [ours.num_stats.median, feature.num_stats.median]
            medians += [bucket.high_value for h in (ours, feature) for bucket in h.num_stats.histograms[1].buckets]
            half = len(medians) // 2 - 1
            for one, two in [medians[:2], *zip(medians[2 : 2 + half], medians[2 + half :], strict=True)]:
                low, high = sorted([one, two])
                # Between both there are few values.
                between = np.searchsorted(values, high, "left") - np.searchsorted(values, low, "right")
                assert between <= 2 * EPSILON * len(values), (name, one, two)


def test_masses_of_quantile_buckets(pair):
    for name, theirs, ours in features(pair):
        for mine, other in zip(ours.num_stats.histograms[1:], theirs.num_stats.histograms[1:], strict=True):
            total = sum(bucket.sample_count for bucket in other.buckets)
            assert sum(bucket.sample_count for bucket in mine.buckets) == pytest.approx(total), name


def test_correlations(pair):
    """TFDV loses digits of integers beyond 2^53, counts infinities, and takes a list of one list for one value."""
    unlike = {"infinite", "nested", "huge", "only_nan"}
    for theirs, ours in pair[0]:
        found = {(cross.path_x.step[0], cross.path_y.step[0]): cross for cross in ours.cross_features}
        for cross in theirs.cross_features:
            key = (cross.path_x.step[0], cross.path_y.step[0])
            if unlike.isdisjoint(key):
                assert found[key].count == cross.count
                scale = abs(cross.num_cross_stats.covariance) + 1e-9
                mine, other = found[key].num_cross_stats, cross.num_cross_stats
                assert mine.covariance == pytest.approx(other.covariance, rel=1e-5, abs=1e-9 * scale + 1e-9), key
                assert mine.correlation == pytest.approx(other.correlation, rel=1e-5, abs=1e-7), key
