import datetime
from fractions import Fraction

import pytest

from penstock.io.errors import ConfigError
from penstock.transforms.splits.registry import split_kind, split_names
from penstock.transforms.splits.spelling import (
    check_ratios,
    fold_ratios,
    parse_column,
    parse_patterns,
    parse_split,
    parse_times,
)

TENTHS = {"train": Fraction(8, 10), "eval": Fraction(1, 10), "test": Fraction(1, 10)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train=1", {"train": 1}),
        ("1", {"train": 1}),
        ("train=0.8,eval=0.1,test=0.1", TENTHS),
        ("8,1,1", TENTHS),
        ("80, 10, 10", TENTHS),
        ("train=8,eval=1,test=1", TENTHS),
        ("80%,10%,10%", TENTHS),
        ("train=80 %,eval=1/10,test=.1", TENTHS),
        ("2/3,1/3", {"train": Fraction(2, 3), "eval": Fraction(1, 3)}),
        ("b=1,a=2", {"b": Fraction(1, 3), "a": Fraction(2, 3)}),
        ("33.3%,66.7%", {"train": Fraction(333, 1000), "eval": Fraction(667, 1000)}),
        (" train = .5 , my-eval_2 = 5e-1 ", {"train": Fraction(1, 2), "my-eval_2": Fraction(1, 2)}),
    ],
)
def test_parts_are_exact(text, expected):
    parsed = parse_split(text)
    assert parsed == expected
    assert list(parsed) == list(expected)


def test_parts_as_they_round_sum_to_1():
    assert list(parse_split("a=0.3333333333,b=0.3333333333,c=0.3333333334")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must look like train=0.8,eval=0.2 or 8,1,1, got ''"),
        ("train", "must look like"),
        ("train=1,", "must look like"),
        ("train=x", "train: the ratio must be a number, such as 0.8, 80%, 4/5 or 8, got 'x'"),
        ("train=1/0", "must be a number, .* got '1/0'"),
        ("train=1e999999999", "must be a number"),
        ("train=nan", "must be a number, .* got 'nan'"),
        ("8,eval=2", "must name all of its parts or none, got '8,eval=2'"),
        ("1,1,1,1", r"names for up to 3 parts \(train, eval, test\); name each of these 4"),
        ("8,0,2", "eval: the ratio must be above 0"),
        ("80,20%", r"train: the ratio must be above 0 and at most 1, got 80"),
        ("train=0.5,train=0.5", "names 'train' twice"),
        ("train=0.8,eval=0.1", r"must sum to 1, got 0.8 \+ 0.1 = 0.9"),
        ("1/3,1/3", r"must sum to 1, got 1/3 \+ 1/3 = 0.66"),
        ("train=0.8,eval=0.2,test=0.1", "must sum to 1"),
        ("train=1.1,eval=-0.1", "train: the ratio must be above 0 and at most 1, got 1.1"),
        ("train=1,eval=0", "eval: the ratio must be above 0"),
        ("Train=1", "lower-case letters.* got 'Train'"),
        ("../x=1", "got '../x'"),
        ("=1", "got ''"),
        ("train=0.5,dead_letters=0.5", "'dead_letters' is a folder of the dataset; the reserved names are"),
    ],
)
def test_wrong_parts_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_split(text)


def test_no_split_is_refused():
    with pytest.raises(ConfigError, match="at least one split"):
        check_ratios({})


@pytest.mark.parametrize("text", ["1", "0", "-2", "x", "1001", "2.0", "99999999999"])
def test_wrong_folds_are_refused(text):
    with pytest.raises(ConfigError, match="--folds must be a whole number from 2 to 1000"):
        fold_ratios(text)


def micros(text):
    return int(datetime.datetime.fromisoformat(text).timestamp()) * 1_000_000


def test_times_are_utc_unless_they_say_another_offset():
    parsed = parse_times("train<2026-06-01 ,eval<2026-07-01T01:00:00+01:00,test", "7d")
    expected = {"train": micros("2026-06-01T00:00:00Z"), "eval": micros("2026-07-01T00:00:00Z"), "test": None}
    assert parsed == expected


@pytest.mark.parametrize(
    ("text", "gap", "message"),
    [
        ("train", None, "--split_time must look like 'train<2026-06-01, eval<2026-07-01, test'"),
        ("train<2026-06-01", None, "must look like"),
        ("train,test<2026-06-01", None, "must look like"),
        ("train<2026-06-01,test<2026-07-01", None, "the last one without"),
        ("train<June,test", None, "a time must be ISO 8601, .* got 'June'"),
        ("train<20260601,test", None, "a time must be ISO 8601"),
        ("train<2026-13-01,test", None, "a time must be ISO 8601, .* got '2026-13-01'"),
        ("train<2026-06-01,eval<2026-06-01,test", None, "'eval' must end after 'train'"),
        ("train<2026-06-01,train<2026-06-02,test", None, "names a split twice"),
        ("Train<2026-06-01,test", None, "lower-case letters"),
        ("train<2026-06-01,eval<2026-06-03,test", "2d", "--split_gap 2d leaves no time to 'eval'"),
        ("train<2026-06-01,eval<2026-06-03,test", "x", "a duration must be"),
        ("train<2026-06-01,eval<2026-06-03,test", "0s", "--split_gap must be longer than 0"),
    ],
)
def test_wrong_times_are_refused(text, gap, message):
    with pytest.raises(ConfigError, match=message):
        parse_times(text, gap)


@pytest.mark.parametrize("text", ["", "train", "train=", "train=a/*,eval", "=a"])
def test_wrong_patterns_are_refused(text):
    with pytest.raises(ConfigError, match=r"--split_from must look like|split names are"):
        parse_patterns(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("use", ("use", {"train": "train", "eval": "eval", "test": "test"})),
        ("use:a,b", ("use", {"a": "a", "b": "b"})),
        ("use: train = TRAINING, train=1, eval=2", ("use", {"TRAINING": "train", "1": "train", "2": "eval"})),
    ],
)
def test_columns_name_splits(text, expected):
    assert parse_column(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [(":train", "must be COLUMN or"), ("c:A", "got 'A'"), ("c:train=1,eval=1", "gives the value '1' twice")],
)
def test_wrong_columns_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_column(text)


TOGETHER = {
    "kinds": ({"split": "1,1", "folds": 2}, "--split and --folds each say what the splits are"),
    "all_kinds": (
        {"split_time": "a<2026-01-01,b", "split_from": "a=b", "split_column": "c"},
        "and --split_column each",
    ),
    "gap_of_ratios": ({"split": "1,1", "split_gap": "1d"}, "--split_gap does not go with --split: time has no part"),
    "gap_alone": ({"split_gap": "1d"}, "--split_gap is about several splits: pass --split_time too"),
    "stratify_alone": ({"split_stratify": "c"}, "--split_stratify is about several splits: pass --split or --folds"),
    "key_of_time": (
        {"split_time": "a<2026-01-01,b", "split_key": ("c",)},
        "--split_key does not go with --split_time: the time of a row decides",
    ),
    "key_of_files": ({"split_from": "a=b", "split_key": ("c",)}, "--split_key does not go with --split_from: the file"),
    "key_of_column": (
        {"split_column": "c", "split_key": ("c",)},
        "does not go with --split_column: the column decides",
    ),
    "hash_of_time": ({"split_time": "a<2026-01-01,b", "split_hash": 1}, "--split_hash does not go with --split_time"),
    "stratify_of_time": ({"split_time": "a<2026-01-01,b", "split_stratify": "c"}, "--split_stratify does not go with"),
}


@pytest.mark.parametrize(("flags", "message"), TOGETHER.values(), ids=TOGETHER)
def test_flags_that_do_not_go_together(flags, message):
    for read in (split_names, split_kind):
        with pytest.raises(ConfigError, match=message):
            read(flags)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"split_key": ("a",), "split_hash": 1},
        {"split": "8,1,1", "split_key": ("a",), "split_stratify": "b", "split_hash": 1, "seed": 3},
        {"folds": 3},
        {"split_time": "train<2026-01-01, test", "split_gap": "1h"},
        {"split_from": "train=a/*,eval=b/*,train=c/*"},
        {"split_column": "use:train=1,eval=2,train=3"},
    ],
    ids=["none", "key", "ratios", "folds", "time", "files", "column"],
)
def test_a_kind_has_the_names_that_are_known_before_it_is_made(flags):
    assert split_kind(flags).names == split_names(flags)
