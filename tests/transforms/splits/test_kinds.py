"""What must hold for each kind of split: no key is in two splits, whatever the batches and their order."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import ORIGIN_TYPE, origin_array, set_column
from penstock.io.errors import ConfigError, DataError
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.io.schema import Feature, Kind
from penstock.transforms.splits.by_column import SplitByColumn
from penstock.transforms.splits.by_file import SplitByFile
from penstock.transforms.splits.by_time import SplitByTime
from penstock.transforms.splits.registry import split_kind

URIS = ("/in/train/a.csv", "/in/eval/a.csv", "/in/eval/b.csv", "gs://b/other/c.csv")
TIME = "train<2026-06-01, eval<2026-07-01, test"
FIRST = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "user": st.none() | st.integers(0, 9),
            "n": st.integers(0, 3),
            "use": st.none() | st.sampled_from(["train", "eval", "test", "tset"]),
            "uri": st.sampled_from(URIS),
            "hour": st.integers(0, 24 * 90),
        }
    ),
    min_size=1,
    max_size=40,
)

# What decides, for each kind.
KINDS = {
    "ratios_of_rows": ({"split": "2/3,1/3"}, lambda row: (row["user"], row["n"], row["use"], row["hour"])),
    "ratios_of_keys": ({"split": "1,1,1", "split_key": ("user",)}, lambda row: row["user"]),
    "old_hash": ({"split": "1,1,1", "split_key": ("user",), "split_hash": 1}, lambda row: row["user"]),
    "stratified": ({"split": "1,1", "split_key": ("user",), "split_stratify": "use"}, lambda row: row["user"]),
    "folds": ({"folds": 5, "split_key": ("user",)}, lambda row: row["user"]),
    "time": ({"split_time": TIME}, lambda row: row["hour"]),
    "time_with_gap": ({"split_time": TIME, "split_gap": "3d"}, lambda row: row["hour"]),
    "file": ({"split_from": "train=train/*,eval=eval/*"}, lambda row: row["uri"]),
    "column": ({"split_column": "use"}, lambda row: row["use"]),
}


def batch_of(rows):
    batch = pa.record_batch(
        {
            "user": pa.array([row["user"] for row in rows], pa.int64()),
            "n": pa.array([row["n"] for row in rows], pa.int64()),
            "use": pa.array([row["use"] for row in rows], pa.string()),
            "hour": pa.array([row["hour"] for row in rows], pa.int64()),
        }
    )
    times = [FIRST + datetime.timedelta(hours=row["hour"]) for row in rows]
    batch = set_column(batch, EVENT_TIME, pa.array(times, pa.timestamp("us", "UTC")))
    uris = pa.array([row["uri"] for row in rows]).dictionary_encode()
    positions = pa.array(range(len(rows)), pa.int64())
    return set_column(batch, ORIGIN, pa.StructArray.from_arrays([uris, positions], fields=list(ORIGIN_TYPE)))


def splits_of(kind, batch):
    """The split of each row, or the code of the reason why it has none."""
    chosen = kind.choose(batch)
    without = {**chosen.faults, **chosen.left_out}
    assert len(without) == len(chosen.faults) + len(chosen.left_out)
    assert len(chosen.codes) == batch.num_rows
    assert chosen.codes.dtype == np.int32
    return [without[row].code if row in without else kind.names[code] for row, code in enumerate(chosen.codes)]


@pytest.mark.parametrize(("flags", "key"), KINDS.values(), ids=KINDS)
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 40))
def test_no_key_is_in_two_splits(flags, key, rows, random, size):
    kind = split_kind(flags)
    found = {}
    for order in (rows, random.sample(rows, len(rows))):
        for start in range(0, len(order), size):
            part = order[start : start + size]
            for row, split in zip(part, splits_of(kind, batch_of(part)), strict=True):
                assert found.setdefault(key(row), split) == split


def at(*times):
    batch = pa.record_batch({"n": list(range(len(times)))})
    moments = [None if time is None else datetime.datetime.fromisoformat(time) for time in times]
    return set_column(batch, EVENT_TIME, pa.array(moments, pa.timestamp("us", "UTC")))


def test_a_split_by_time_ends_before_its_time():
    batch = at("0001-01-01", "2026-05-31T23:59:59.999999", "2026-06-01", "2026-06-30T23:59:59", "2026-07-01", None)
    assert splits_of(SplitByTime.parse(TIME), batch) == ["train", "train", "eval", "eval", "test", "split.no_time"]


def test_a_gap_lies_before_the_end_of_each_split_but_the_last():
    kind = SplitByTime.parse(TIME, "1d")
    batch = at("2026-05-30T23:59:59.999999", "2026-05-31", "2026-06-01", "2026-06-30T12:00", "2026-07-01", "9999-12-31")
    assert splits_of(kind, batch) == ["train", "split.gap", "eval", "split.gap", "test", "test"]
    reason = kind.choose(batch).left_out[1]
    assert reason.detail == "the event time lies within 1d before 2026-06-01T00:00:00Z, where 'eval' begins"


def test_times_in_other_units_are_the_same():
    batch = at("2026-05-31", "2026-06-01")
    seconds = set_column(batch, EVENT_TIME, batch.column(EVENT_TIME).cast(pa.timestamp("s", "UTC")))
    assert splits_of(SplitByTime.parse(TIME), seconds) == ["train", "eval"]


def test_rows_without_what_decides_are_an_error():
    batch = pa.record_batch({"n": [1]})
    with pytest.raises(DataError, match=r"no event time, .* put AssignEventTime before AssignSplit"):
        SplitByTime.parse(TIME).choose(batch)
    with pytest.raises(DataError, match="do not say which file they come from"):
        SplitByFile([("train", "*")]).choose(batch)


@pytest.mark.parametrize(
    "ends", [{}, {"a": None}, {"a": 1, "b": 2}, {"a": 2, "b": 1, "c": None}, {"a": None, "b": None}]
)
def test_ends_that_do_not_ascend_are_refused(ends):
    with pytest.raises(ConfigError, match="each split must end after the one before it"):
        SplitByTime(ends)


@pytest.mark.parametrize(
    ("pattern", "uri", "matches"),
    [
        ("train/*", "/data/train/a.csv", True),
        ("train/*", "train/a.csv", True),
        ("train/*", "gs://bucket/train/a.csv.gz", True),
        ("train/*", "/data/mytrain/a.csv", False),
        ("train/*", "/data/train/2020/a.csv", False),
        ("train/**", "/data/train/2020/a.csv", True),
        ("train/", "/data/train/2020/a.csv", True),
        ("train", "/data/train/a.csv", False),
        ("*_train.csv", "/data/x_train.csv", True),
        ("/data/train/*", "/data/train/a.csv", True),
        ("part-[01].csv", "/data/part-1.csv", True),
        ("**", "/anything", True),
    ],
)
def test_patterns_match_the_end_of_a_path(pattern, uri, matches):
    assert (SplitByFile([("train", pattern)]).split_of(uri) == 0) is matches


def test_the_first_pattern_that_matches_decides():
    kind = SplitByFile([("eval", "eval/*"), ("train", "**"), ("eval", "never/*")])
    assert kind.names == ("eval", "train")
    assert splits_of(kind, batch_of([{"user": 1, "n": 1, "use": "", "hour": 1, "uri": uri} for uri in URIS])) == [
        *("train", "eval", "eval", "train")
    ]


def test_a_file_that_no_pattern_takes_is_named_once(caplog):
    kind = SplitByFile([("train", "train/*"), ("eval", "eval/*")])
    batch = set_column(pa.record_batch({"n": [1, 2]}), ORIGIN, origin_array("/in/new/a.csv", np.arange(2)))
    assert splits_of(kind, batch) == ["split.file"] * 2
    detail = "no pattern of --split_from takes the file /in/new/a.csv: train/*, eval/*"
    assert kind.choose(batch).faults[1].detail == detail
    told = f"{detail}; its rows become dead letters, and a replay with another --split_from takes them"
    assert [record.getMessage() for record in caplog.records] == [told]
    nowhere = set_column(batch, ORIGIN, pa.nulls(2, ORIGIN_TYPE))
    assert "(unknown)" in kind.choose(nowhere).faults[0].detail


def test_files_are_checked_before_they_are_read():
    kind = SplitByFile([("train", "train/*"), ("eval", "eval/*")])
    kind.check_files(URIS[:3])
    with pytest.raises(ConfigError, match=r"takes the file gs://b/other/c.csv: .*; add one, such as train=\*\*"):
        kind.check_files(URIS)
    with pytest.raises(ConfigError, match=r"--split_from eval=eval/\*: no file of the input is of this pattern"):
        kind.check_files(URIS[:1])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["TRAIN", "eval", "x", None]), ["train", "eval", "split.value", "split.value"]),
        (pa.array([b"TRAIN", b"\xff"]), ["train", "split.value"]),
        (pa.array(["TRAIN", None]).dictionary_encode(), ["train", "split.value"]),
        (pa.array([1, 0]), ["train", "split.value"]),
        (pa.array([["TRAIN"], ["eval", "eval"], []]), ["train", "split.value", "split.value"]),
        (pa.nulls(1), ["split.value"]),
    ],
    ids=["texts", "bytes", "dictionary", "integers", "lists", "nulls"],
)
def test_a_column_names_the_split(values, expected):
    kind = SplitByColumn.parse("use:train=TRAIN,eval,train=1")
    assert splits_of(kind, pa.record_batch({"use": values})) == expected
    assert splits_of(kind, pa.record_batch({"n": [1]})) == ["split.value"], "a column that is not there"


def test_a_value_that_names_no_split_is_told():
    kind = SplitByColumn.parse("use")
    (reason,) = kind.choose(pa.record_batch({"use": ["tset"]})).faults.values()
    assert (reason.code, reason.detail) == (
        "split.value",
        "use is 'tset', which names no split; those are train, eval, test",
    )


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([Feature("other", Kind.BYTES)], "--split_column 'use' is not a feature"),
        ([Feature("use", Kind.FLOAT)], "'use' is FLOAT; it must have one text or integer a row"),
        ([Feature("use", Kind.BYTES, multivalued=True)], "'use' is multivalued; it must have one text"),
    ],
    ids=["absent", "float", "multivalued"],
)
def test_a_column_that_cannot_name_splits_is_refused(features, message):
    with pytest.raises(ConfigError, match=message):
        SplitByColumn.parse("use").bind(features)


def test_reserved_columns_are_refused():
    with pytest.raises(ConfigError, match="split column '_split' is reserved"):
        SplitByColumn.parse("_split")


def test_what_the_manifest_says_of_each_kind():
    flags = [
        {"split": "2/3,1/3", "split_key": ["user"]},
        {"split_time": TIME, "split_gap": "1d"},
        {"split_from": "train=a/*"},
        {"split_column": "use:a"},
    ]
    by_hash, by_time, by_file, by_column = (split_kind(some).describe() for some in flags)
    assert by_hash == {"by": "hash", "ratios": {"train": "2/3", "eval": "1/3"}, "key": ["user"], "hash_version": 2}
    ends = {"train": "2026-06-01T00:00:00Z", "eval": "2026-07-01T00:00:00Z", "test": None}
    assert by_time == {"by": "time", "ends": ends, "gap": "1d"}
    assert by_file == {"by": "file", "patterns": ["train=a/*"]}
    assert by_column == {"by": "column", "column": "use", "values": {"a": "a"}}
