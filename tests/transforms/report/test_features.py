import pytest
import report_samples as samples
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.transforms.report.definitions import KEYS, METRICS, TERMS
from penstock.transforms.report.features import MAX_DATASETS, datasets_of, features_of


def only(columns, **other) -> dict:
    """The numbers of the one feature, by key, of the first dataset."""
    [feature] = features_of(datasets_of(samples.statistics_of(columns, **other), None))
    return {key: feature.numbers[0][index] for key, index in KEYS.items() if feature.numbers[0][index] is not None}


def test_numbers_of_a_column_of_numbers():
    found = only({"x": [1.5, 0.0, None, -3.0, float("nan")]})
    assert found["present"], found["missing"] == (4, 1)
    assert found["missing_share"] == 0.2
    assert (found["least"], found["greatest"], found["zeros"], found["nan"]) == (-3, 1.5, 1, 1)
    assert found["mean"] == pytest.approx(-0.5)
    assert "mean_length" not in found


def test_numbers_of_a_column_of_texts():
    found = only({"x": ["a", "bb", "bb", None]})
    assert (found["present"], found["missing"], found["distinct"]) == (3, 1, 2)
    assert found["mean_length"] == pytest.approx(5 / 3)
    assert "mean" not in found


def test_a_column_without_a_value_has_no_mean():
    assert only({"x": [None, None]}) == {"present": 0, "missing": 2, "missing_share": 1}


def test_bytes_and_structs():
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = statistics.datasets.add(name="train", num_examples=3)
    blob = dataset.features.add(name="blob", type="BYTES").bytes_stats
    blob.common_stats.num_non_missing, blob.unique, blob.max_num_bytes_int = 3, 2, 9
    dataset.features.add(name="nothing", type="STRUCT").struct_stats.common_stats.num_missing = 3
    dataset.features.add(name="bare")
    blobs, struct, bare = features_of(datasets_of(statistics, None))
    assert (blobs.numbers[0][KEYS["distinct"]], blobs.numbers[0][KEYS["greatest_length"]]) == (2, 9)
    assert (struct.types, struct.numbers[0][KEYS["missing"]]) == (("STRUCT",), 3)
    assert bare.numbers[0] == [None] * len(METRICS)


def test_a_feature_that_a_dataset_lacks_is_none_there():
    statistics = samples.statistics_of({"a": [1], "b": [2]})
    samples.add_dataset(statistics, {"b": ["x"], "c": [3]}, "eval")
    a, b, c = features_of(datasets_of(statistics, None))
    assert [feature.path for feature in (a, b, c)] == ["a", "b", "c"]
    assert [numbers is None for numbers in (*a.numbers, *c.numbers)] == [False, True, True, False]
    assert b.types == ("INT", "STRING")


def test_frequent_values_of_all_datasets_with_counts_from_beyond_the_top():
    statistics = samples.statistics_of({"x": ["a"] * 90 + [f"rare {n}" for n in range(30)]})
    samples.add_dataset(statistics, {"x": ["rare 29"] * 5 + ["new"] * 5}, "eval")
    [feature] = features_of(datasets_of(statistics, None))
    ranks = {label: counts for label, *counts in zip(feature.ranks[0].labels, *feature.ranks[0].counts, strict=True)}
    assert ranks["a"] == [90, None]
    assert ranks["rare 29"] == [1, 5]
    assert ranks["new"] == [None, 5]
    assert len(ranks) == 20


def test_what_others_put_into_custom_statistics_is_kept():
    statistics = samples.statistics_of({"x": [1]})
    statistics.datasets[0].features[0].custom_stats.add(name="entropy\u202e", num=1.5)
    statistics.datasets[0].features[0].custom_stats.add(name="words", str="<b>")
    statistics.datasets[0].features[0].custom_stats.add(name="state").any.value = b"bytes"
    [feature] = features_of(datasets_of(statistics, None))
    assert feature.more == ([("entropy⟨U+202E⟩", 1.5), ("words", "<b>")],)


def test_histograms_of_tfdv_have_ten_bins_and_coarse_quantiles():
    statistics = samples.statistics_of({"x": [float(n) for n in range(100)]})
    numeric = statistics.datasets[0].features[0]
    del numeric.custom_stats[:]
    samples.fill_buckets(numeric.num_stats.histograms.add(type="QUANTILES"), range(0, 101, 10), [10] * 10)
    [feature] = features_of(datasets_of(statistics, None))
    assert feature.charts[0].bins.counts == [[10] * 10]
    assert feature.quantiles == ([1, *range(0, 101, 10)],)


def test_a_baseline_is_not_crowded_out_by_slices():
    statistics, baseline = samples.statistics_of({"x": [1]}), samples.statistics_of({"x": [1]}, "before")
    for index in range(100):
        samples.add_dataset(statistics, {"x": [1]}, f"slice {index}")
    labels = [dataset.label for dataset in datasets_of(statistics, baseline)]
    assert len(labels) == MAX_DATASETS
    assert (labels[0], labels[-1]) == ("train", "before (baseline)")


def test_two_names_that_look_alike_once_they_are_shown_have_ids_of_their_own():
    first, second = features_of(datasets_of(samples.statistics_of({"x" * 300: [1], "x" * 300 + "y": [1]}), None))
    assert first.id != second.id


def test_each_number_is_defined_once():
    keys = [*(metric.key for metric in METRICS), *(key for key, _, _ in TERMS)]
    assert len(keys) == len(set(keys))
    assert all(metric.meaning.endswith(".") for metric in METRICS)
