import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import xxhash
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline as testing
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import origin_array
from penstock.io.errors import ConfigError
from penstock.io.reserved import ORIGIN, SPLIT
from penstock.io.schema import Feature, Kind
from penstock.transforms.shuffle_key import assign_shuffle_key
from penstock.transforms.splits.assign import AssignSplit
from penstock.transforms.splits.by_hash import SplitByHash, assign_split, check_key, split_codes

RATIOS = {"train": 0.8, "eval": 0.1, "test": 0.1}


def splits(batch, ratios=RATIOS, columns=None, seed=0):
    return assign_split(batch, ratios, columns, seed).column(SPLIT).to_pylist()


def test_key_columns_must_exist():
    features = [Feature("user_id", Kind.INT), Feature("fare", Kind.FLOAT)]
    check_key(["user_id", "fare"], features)
    hint = r"split key 'userid' is not a feature of .*; did you mean 'user_id'\? the features"
    with pytest.raises(ConfigError, match=hint):
        check_key(["fare", "userid"], features)
    with pytest.raises(ConfigError, match="'_origin' is reserved"):
        AssignSplit(RATIOS, key=["_origin"])


def test_bounds_are_exact():
    top = 2**64
    bounds = [top * 8 // 10, top * 9 // 10]
    edges = np.array([0, bounds[0] - 1, bounds[0], bounds[1] - 1, bounds[1], top - 1], np.uint64)
    assert split_codes(edges, [0.8, 0.1, 0.1]).tolist() == [0, 0, 1, 1, 2, 2]
    assert split_codes(edges, [1.0]).tolist() == [0] * 6


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=6), st.integers(0, 2**64 - 1))
def test_every_hash_has_the_split_that_exact_arithmetic_gives(weights, value):
    ratios = [weight / sum(weights) for weight in weights]
    code = split_codes(np.array([value], np.uint64), ratios)[0]
    reached = [sum(weights[: index + 1]) / sum(weights) for index in range(len(weights))]
    share = value / 2**64
    assert code == 0 or share >= reached[code - 1] - 1e-12
    assert code == len(weights) - 1 or share <= reached[code] + 1e-12


ROWS = st.lists(st.tuples(st.none() | st.integers(0, 50), st.none() | st.text(max_size=3)), min_size=1, max_size=50)


@given(ROWS, st.integers(1, 50), st.randoms(use_true_random=False))
def test_a_row_keeps_its_split_in_any_batch_and_order(rows, size, random):
    def batch_of(some):
        users, names = zip(*some, strict=True)
        return pa.record_batch({"user": pa.array(users, pa.int64()), "name": pa.array(names, pa.string())})

    expected = dict(zip(rows, splits(batch_of(rows)), strict=True))
    shuffled = random.sample(rows, len(rows))
    batch = batch_of(shuffled)
    found = [split for start in range(0, len(rows), size) for split in splits(batch.slice(start, size))]
    assert [expected[row] for row in shuffled] == found


def test_ratios_hold_and_do_not_depend_on_the_shuffle():
    batch = pa.record_batch({"id": np.arange(100_000)})
    codes = assign_split(batch, RATIOS, None).column(SPLIT).indices.to_numpy()
    shares = np.bincount(codes) / len(codes)
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.004)
    keys = assign_shuffle_key(batch).column("_shuffle_key").to_numpy()
    shards = (keys >> np.uint64(61)).astype(np.int64)
    for code in range(3):
        sizes = np.bincount(shards[codes == code], minlength=8)
        np.testing.assert_allclose(sizes, sizes.mean(), rtol=0.1)


def test_rows_of_one_key_stay_together():
    rng = np.random.default_rng(7)
    users = rng.integers(0, 500, 20_000)
    batch = pa.record_batch({"user": users, "fare": rng.normal(size=20_000)})
    by_user = {}
    for user, split in zip(users.tolist(), splits(batch, columns=["user"]), strict=True):
        assert by_user.setdefault(user, split) == split
    assert set(by_user.values()) == set(RATIOS)
    assert len({(user, split) for user, split in zip(users.tolist(), splits(batch), strict=True)}) > 500


def test_several_key_columns_in_any_order():
    batch = pa.record_batch({"a": np.arange(200) % 20, "b": [str(n % 30) for n in range(200)], "c": np.arange(200)})
    assert splits(batch, columns=["a", "b"]) == splits(batch, columns=["b", "a"])
    assert splits(batch, columns=["a", "b"]) == splits(batch.drop_columns(["c"]))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda keys: pa.array(keys, pa.int32()), id="int32"),
        pytest.param(lambda keys: pa.array(keys, pa.uint16()), id="uint16"),
        pytest.param(lambda keys: pa.array([[key] for key in keys]), id="list_of_one"),
    ],
)
def test_a_key_is_the_same_in_any_type_of_its_kind(other):
    keys = list(range(300))
    expected = splits(pa.record_batch({"key": pa.array(keys, pa.int64())}), columns=["key"])
    assert splits(pa.record_batch({"key": other(keys)}), columns=["key"]) == expected


def test_text_and_bytes_are_one_key():
    texts = [f"é{number}" for number in range(300)]
    expected = splits(pa.record_batch({"key": texts}))
    assert splits(pa.record_batch({"key": [text.encode() for text in texts]})) == expected
    assert splits(pa.record_batch({"key": pa.array(texts).dictionary_encode()})) == expected


def test_null_keys_share_a_split():
    batch = pa.record_batch({"key": pa.nulls(100, pa.int64()), "n": np.arange(100)})
    assert len(set(splits(batch, columns=["key"]))) == 1
    assert splits(batch, columns=["key"]) == splits(batch.select(["n"]), columns=["key"])


def test_the_seed_changes_the_splits():
    batch = pa.record_batch({"id": np.arange(1000)})
    assert splits(batch, seed=0) == splits(batch, seed=0)
    assert splits(batch, seed=0) != splits(batch, seed=1)


def test_a_row_stays_when_only_later_splits_change():
    batch = pa.record_batch({"id": np.arange(5000)})
    before, after = splits(batch), splits(batch, {"train": 0.8, "eval": 0.15, "test": 0.05})
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {("test", "eval")}


def test_known_splits_do_not_change_between_releases():
    batch = pa.record_batch({"id": list(range(40))})
    codes = assign_split(batch, RATIOS, None, seed=0).column(SPLIT).indices.to_pylist()
    assert "".join(map(str, codes)) == "0000000000020001001000000000000002000000"
    # The same by hand: kind 1, one value, int64; the bounds as exact parts of 2 ** 64.
    seed = xxhash.xxh64_intdigest(b"split:0")
    hashes = [xxhash.xxh64_intdigest(b"\1\1\0\0\0" + number.to_bytes(8, "little"), seed) for number in range(40)]
    assert codes == [(value >= 2**64 * 8 // 10) + (value >= 2**64 * 9 // 10) for value in hashes]


def test_version_2_keeps_integers_and_texts_where_they_were():
    batch = pa.record_batch({"i": list(range(300)), "t": [f"u{number}" for number in range(300)]})
    assert chosen(SplitByHash(RATIOS, ("i", "t"), version=1), batch) == chosen(SplitByHash(RATIOS, ("i", "t")), batch)


def test_a_key_is_the_same_as_integer_text_and_float():
    numbers = list(range(300))
    kind, old = SplitByHash(RATIOS, ("key",)), SplitByHash(RATIOS, ("key",), version=1)
    typed = [numbers, [str(number) for number in numbers], [float(number) for number in numbers]]
    batches = [pa.record_batch({"key": keys}) for keys in typed]
    assert chosen(kind, batches[0]) == chosen(kind, batches[1]) == chosen(kind, batches[2])
    assert chosen(old, batches[0]) != chosen(old, batches[1])


def chosen(kind, batch):
    return kind.choose(batch).codes.tolist()


def test_an_unknown_version_is_refused():
    with pytest.raises(ConfigError, match="version of the hash must be 1 or 2, got 3"):
        SplitByHash(RATIOS, version=3)


def test_one_split_needs_no_hash():
    assert splits(pa.record_batch({"x": pa.array([{"a": 1}])}), {"train": 1.0}) == ["train"]


def test_pipeline():
    batch = pa.record_batch({"id": np.arange(50), ORIGIN: origin_array("a", np.arange(50))})
    expected = dict(zip(range(50), splits(batch, columns=["id"], seed=3), strict=True))
    with testing.TestPipeline(runner=FnApiRunner()) as pipeline:
        assigned = (
            pipeline
            | beam.Create([batch.slice(start, 10) for start in range(0, 50, 10)])
            | AssignSplit(RATIOS, seed=3, columns=["id"])
        )
        assert assigned.element_type is pa.RecordBatch
        pairs = assigned | beam.FlatMap(
            lambda out: zip(out.column("id").to_pylist(), out.column(SPLIT).to_pylist(), strict=True)
        )
        assert_that(pairs, equal_to(list(expected.items())))


def test_ratios_are_checked_when_the_graph_is_built():
    with pytest.raises(ConfigError, match="must sum to 1"):
        AssignSplit({"train": 0.5})
