"""Statistics of tables: the same for any batches and order, merged from parts, written and read."""

import datetime
import decimal
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.errors import ConfigError, InputError
from penstock.transforms.statistics.compute import compute_statistics
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.statistics import Statistics, merge_statistics

ROWS = 300


def table():
    rng = np.random.default_rng(3)
    return pa.table(
        {
            "int": pa.array(rng.integers(-5, 100, ROWS), mask=rng.random(ROWS) < 0.1),
            "float": np.where(
                rng.random(ROWS) < 0.05, np.nan, rng.normal(size=ROWS) * 10.0 ** rng.integers(-9, 9, ROWS)
            ),
            "text": rng.choice(["a", "bb", "dé", "2013-01-31"], ROWS),
            "list": pa.array([[1, 2, None][: k % 4] if k % 7 else None for k in range(ROWS)], pa.list_(pa.int64())),
            "nested": pa.array(
                [[[1.5], []][: k % 3] if k % 5 else None for k in range(ROWS)], pa.list_(pa.list_(pa.float64()))
            ),
            "null": pa.nulls(ROWS),
            "bool": rng.random(ROWS) < 0.5,
            "bytes": pa.array([bytes([250, k % 256]) for k in range(ROWS)]),
            "weight": rng.random(ROWS),
        }
    )


OPTIONS = StatisticsOptions(weight="weight", slice_by=("text", "list"), label="bool", categorical=("int",))


def feature(statistics, name, dataset="All Examples"):
    return next(
        message
        for found in statistics.to_proto().datasets
        if found.name == dataset
        for message in found.features
        if message.path.step[0] == name
    )


def custom(message):
    return {stat.name: getattr(stat, stat.WhichOneof("val")) for stat in message.custom_stats}


def one(**columns):
    return compute_statistics([pa.record_batch(columns)])


@pytest.mark.parametrize(("size", "count"), [(1, 12), (40, ROWS), (ROWS, ROWS)])
def test_bytes_do_not_depend_on_batches_order_or_parts(size, count):
    rows = table().slice(0, count)
    whole = compute_statistics(rows.to_batches(), OPTIONS)
    shuffled = rows.take(np.random.default_rng(size).permutation(count)).combine_chunks()
    batches = shuffled.to_batches(max_chunksize=size)
    parts = [compute_statistics(batches[start::3], OPTIONS) for start in range(3)]
    left, right = Statistics(OPTIONS), Statistics(OPTIONS)
    for part in parts:
        left.merge(part)
    inner = Statistics(OPTIONS)
    for part in (parts[2], parts[1]):
        inner.merge(Statistics.from_bytes(part.to_bytes(complete=True)))
    right.merge(inner)
    right.merge(parts[0])
    assert left.to_bytes() == right.to_bytes() == whole.to_bytes()
    assert left.to_proto().SerializeToString(deterministic=True) == whole.to_proto().SerializeToString(
        deterministic=True
    )


def floats_of(values):
    return pa.array([None if value is None else float(value) for value in values], pa.float64())


# What floats hold exactly: readers without a schema take a block of it for integers where there is no fraction.
EXACT = st.one_of(
    st.none(), st.integers(-(2**53), 2**53), st.integers(-3, 3), st.sampled_from([2**53, -(2**62), 2**63 - 1024])
)
WHOLE = st.lists(EXACT, max_size=12).flatmap(
    lambda values: st.sampled_from([pa.array(values, pa.int64()), floats_of(values)])
)
FRACTIONS = st.lists(st.none() | st.floats(), max_size=12).map(floats_of)


@given(st.lists(st.one_of(WHOLE, FRACTIONS), max_size=6), st.randoms(use_true_random=False))
def test_bytes_do_not_depend_on_which_batches_of_a_float_column_are_integers(parts, random):
    options = StatisticsOptions(weight="w", label="label", categorical=("x",))
    parts.append(floats_of([0.5, -0.0, 3.0]))
    random.shuffle(parts)
    batches = [
        pa.record_batch({"x": values, "label": np.full(len(values), 3), "w": np.full(len(values), 0.5)})
        for values in parts
    ]
    whole = pa.Table.from_batches(
        [batch.set_column(0, "x", batch.column("x").cast(pa.float64(), safe=False)) for batch in batches]
    )
    statistics = compute_statistics(batches, options)
    assert statistics.to_bytes() == compute_statistics(whole.combine_chunks().to_batches(), options).to_bytes()
    merged = Statistics(options)
    for batch in batches:
        merged.merge(compute_statistics([batch], options))
    assert merged.to_bytes() == statistics.to_bytes()


def test_merging_leaves_the_other_as_it_is():
    part = one(x=[1, 2])
    before = part.to_bytes()
    merged = Statistics()
    merged.merge(part)
    merged.merge(part)
    assert part.to_bytes() == before
    assert merged.tables["All Examples"].rows == 4


def test_columns_that_a_batch_lacks_are_missing_in_its_rows():
    statistics = compute_statistics(
        [pa.record_batch({"x": [1, None], "y": [None, 2]}), pa.record_batch({"y": [1, 2, 3]})]
    )
    x, y = feature(statistics, "x"), feature(statistics, "y")
    assert (x.num_stats.common_stats.num_missing, y.num_stats.common_stats.num_missing) == (4, 1)
    assert "missing_with" not in custom(x)


def test_columns_missing_together():
    found = custom(feature(one(x=[1, None, None], y=[None, None, 2], z=[1, 1, 1]), "x"))["missing_with"]
    assert [(bucket.label, bucket.sample_count) for bucket in found.buckets] == [("y", 1)]


def test_correlation_is_exact_where_sums_of_floats_are_not():
    big = 2.0**40
    x = np.array([big, big + 1, big + 2])
    cross = one(x=x, y=np.array([1.0, 2.0, 3.0]), z=np.array([-1.0, -2.0, -3.0])).to_proto().datasets[0].cross_features
    assert [round(pair.num_cross_stats.correlation, 6) for pair in cross] == [1, -1, -1]
    assert cross[0].num_cross_stats.covariance == pytest.approx(2 / 3)


def test_only_the_first_columns_are_paired_for_any_batches():
    rng = np.random.default_rng(0)
    options = StatisticsOptions(pair_columns=2)
    batches = [pa.record_batch({name: rng.random(5) for name in names}) for names in ("dc", "ba", "abcd")]
    parts = [compute_statistics([batch], options) for batch in batches]
    forward, backward = Statistics(options), Statistics(options)
    for part in parts:
        forward.merge(part)
    for part in reversed(parts):
        backward.merge(part)
    assert forward == backward == compute_statistics(batches, options)
    assert [c.path_y.step[0] for c in forward.to_proto().datasets[0].cross_features] == ["b"]


def test_mutual_information_with_the_label():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 4000)
    columns = {"label": label, "same": np.where(label, "yes", "no"), "noise": rng.normal(size=4000)}
    options = StatisticsOptions(label="label")
    statistics = compute_statistics([pa.record_batch(columns)], options)
    assert custom(feature(statistics, "same"))["mutual_information"] == pytest.approx(np.log(2), abs=0.01)
    assert custom(feature(statistics, "noise"))["mutual_information"] < 0.01
    assert "mutual_information" not in custom(feature(statistics, "label"))


def test_splits_and_slices_have_their_datasets():
    split = pa.array(["train", "eval", "train"]).dictionary_encode()
    batch = pa.record_batch({"x": ["a", "b", None], "n": [[1, 1], [1, 2], []], "_split": split})
    proto = compute_statistics([batch], StatisticsOptions(slice_by=("x", "n"))).to_proto()
    assert {dataset.name: dataset.num_examples for dataset in proto.datasets} == {
        "eval": 1, "eval/n_1": 1, "eval/n_2": 1, "eval/x_b": 1, "train": 2, "train/n_1": 1, "train/x_a": 1,
    }  # fmt: skip
    assert [f.path.step[0] for f in proto.datasets[0].features] == ["n", "x"]


@pytest.mark.parametrize(
    ("column", "kind", "stats"),
    [
        (pa.array([True, None]), "INT", {"max": 1}),
        (pa.array([2**64 - 1], pa.uint64()), "INT", {"max": 2.0**64}),
        (pa.array([1.5, 2], pa.float16()), "FLOAT", {"mean": 1.75}),
        (pa.array([decimal.Decimal("1.50")]), "FLOAT", {"mean": 1.5}),
        (pa.array([decimal.Decimal("7")], pa.decimal128(5, 0)), "INT", {"mean": 7}),
        (pa.array([datetime.date(1970, 1, 3)]), "INT", {"mean": 2}),
        (pa.array(["a", "a"]).dictionary_encode(), "STRING", {"unique": 1}),
        (pa.nulls(3), "STRING", {"unique": 0}),
        (pa.array([[{"z": 1}], None]), "STRUCT", {}),
        (pa.array([[("k", 1), ("l", 2)], None], pa.map_(pa.string(), pa.int64())), "STRUCT", {}),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_types(column, kind, stats):
    message = feature(one(x=column), "x")
    assert type(message).Type.Name(message.type) == kind
    found = getattr(message, message.WhichOneof("stats"))
    assert {name: getattr(found, name) for name in stats} == stats
    assert found.common_stats.num_missing == column.null_count


def test_structs_become_columns_and_nulls_in_lists_are_counted():
    statistics = one(user=[{"id": 1}, None], x=[[1, None], [None]])
    assert feature(statistics, "user.id").num_stats.common_stats.num_missing == 1
    message = feature(statistics, "x")
    assert custom(message)["num_null_in_list"] == 2
    assert message.num_stats.common_stats.tot_num_values == 3


def test_numbers_and_texts_in_one_column():
    statistics = compute_statistics([pa.record_batch({"x": [1, 2]}), pa.record_batch({"x": ["a"]})])
    message = feature(statistics, "x")
    assert message.string_stats.common_stats.tot_num_values == 3
    assert custom(message)["num_numbers"] == 2


def test_a_type_without_statistics_is_refused():
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(ConfigError, match=r"column 'x' has type sparse_union.*leave the column out"):
        one(x=union)


@pytest.mark.parametrize("value", [None, -1.0, float("nan"), float("inf")])
def test_each_row_needs_a_weight(value):
    batch = pa.record_batch({"w": pa.array([1.0, value])})
    with pytest.raises(
        InputError, match=r"column 'w' of weights holds .*row 1 of a batch.*each row must have one weight"
    ):
        compute_statistics([batch], StatisticsOptions(weight="w"))


def test_weights_must_be_a_column_of_numbers():
    with pytest.raises(InputError, match="no column 'w' of weights; the columns are x"):
        compute_statistics([pa.record_batch({"x": [1]})], StatisticsOptions(weight="w"))
    with pytest.raises(InputError, match="column 'w' of weights has type string"):
        compute_statistics([pa.record_batch({"w": ["1"]})], StatisticsOptions(weight="w"))


def test_slices_are_few_and_of_texts_or_integers():
    with pytest.raises(InputError, match="makes more than 3 slices; slice by columns of fewer values"):
        compute_statistics([pa.record_batch({"x": [1, 2, 3]})], StatisticsOptions(slice_by=("x",), max_slices=3))
    with pytest.raises(ConfigError, match="slice_by 'x': the column has type double"):
        compute_statistics([pa.record_batch({"x": [1.5]})], StatisticsOptions(slice_by=("x",)))


def test_no_rows():
    assert [(d.name, d.num_examples) for d in compute_statistics([]).to_proto().datasets] == [("All Examples", 0)]
    statistics = compute_statistics([table().to_batches()[0].slice(0, 0)], OPTIONS)
    assert feature(statistics, "float").num_stats.common_stats.num_missing == 0
    assert Statistics.from_proto(statistics.to_proto()).to_proto() == statistics.to_proto()


def test_files_are_read_again_and_merge(tmp_path):
    batches = table().to_batches(max_chunksize=100)
    for index, part in enumerate((batches[:2], batches[2:])):
        compute_statistics(part, OPTIONS).write(f"{tmp_path}/new/{index}.pb")
    merged = merge_statistics([f"{tmp_path}/new/1.pb", f"{tmp_path}/new/0.pb"])
    assert merged == compute_statistics(batches, OPTIONS)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["0.json", "0.pb", "1.json", "1.pb"]


def test_json_has_the_numbers_by_feature(tmp_path):
    one(x=[1.5, None, float("inf")], s=["a", "a", "b"]).write(f"{tmp_path}/s")
    found = json.loads((tmp_path / "s.json").read_text())["datasets"]["All Examples"]
    assert found["num_examples"] == 3
    assert (found["features"]["x"]["num_missing"], found["features"]["x"]["max"]) == (1, "Infinity")
    assert found["features"]["s"]["top_values"] == [["a", 2], ["b", 1]]
    assert "state" not in found["features"]["x"]


def test_files_that_cannot_be_merged_say_why(tmp_path):
    statistics = one(x=[1], y=[2])
    statistics.write(f"{tmp_path}/bare.pb", state=False)
    with pytest.raises(InputError, match=r"bare\.pb: feature 'x' has no state.*TFDV writes none"):
        Statistics.read(f"{tmp_path}/bare.pb")
    (tmp_path / "text.pb").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pb: the file is no serialized"):
        Statistics.read(f"{tmp_path}/text.pb")
    with pytest.raises(InputError, match=r"gone\.pb: the statistics cannot be read"):
        Statistics.read(f"{tmp_path}/gone.pb")
    proto = statistics.to_proto()
    del proto.datasets[0].features[1]
    (tmp_path / "less.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=r"less\.pb: .*features have been taken out or added"):
        Statistics.read(f"{tmp_path}/less.pb")
    with pytest.raises(ConfigError, match="no files of statistics to merge"):
        merge_statistics([])


def test_other_options_do_not_merge(tmp_path):
    one(x=[1]).write(f"{tmp_path}/a.pb")
    compute_statistics([pa.record_batch({"x": [1]})], StatisticsOptions(label="x")).write(f"{tmp_path}/b.pb")
    with pytest.raises(ConfigError, match=r"b\.pb, beside .*a\.pb: .*label is None in one and 'x' in the other"):
        merge_statistics([f"{tmp_path}/a.pb", f"{tmp_path}/b.pb"])


def test_files_without_a_column_in_common_do_not_merge(tmp_path):
    def merged(*parts):
        for name, statistics in zip("abc", parts, strict=False):
            statistics.write(f"{tmp_path}/{name}.pb")
        return merge_statistics([f"{tmp_path}/{name}.pb" for name in "abc"[: len(parts)]])

    with pytest.raises(
        ConfigError,
        match=r"c\.pb, beside .*a\.pb: they have no column in common: u, v, beside x, y, z; merge statistics",
    ):
        merged(one(x=[1], y=[1]), one(y=[1], z=[1]), one(u=[1], v=[1]))
    assert {*merged(one(x=[1]), one(y=[1]), one(x=[1], y=[1])).tables["All Examples"].features} == {"x", "y"}
    assert merged(one(x=[1]), Statistics(), one(x=[1])).tables["All Examples"].rows == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_by": "x"}, "slice_by must be a tuple"),
        ({"slice_by": ("x", "x")}, "names a column twice"),
        ({"weight": "_split"}, "a column of Penstock's own"),
        ({"label": ""}, "label must name columns"),
        ({"top_values": 0}, "top_values must be a whole number >= 1, got 0"),
        ({"histogram_buckets": 5000}, "histogram_buckets must be at most 1000"),
        ({"weight": "w", "slice_by": ("w",)}, "the column of weights"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        StatisticsOptions(**options)
