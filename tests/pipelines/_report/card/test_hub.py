"""The metadata of a card names exactly the shards of each split."""

import glob
import os

import pytest
import yaml

from penstock.io.dataset.manifest import Shard
from pipelines._report.card.hub import front_matter, split_patterns

SHARDS = [
    ("train", "train/part-00000-of-00002.parquet"),
    ("train", "train/part-00001-of-00002.parquet"),
    ("eval", "eval/part-00000-of-00001.parquet"),
    ("train", "run-r2/train/part-00000-of-00001.parquet"),
]


def shard(split, path):
    return Shard(path, split, 1, 1, 1, "00000000", "0")


def test_patterns_find_the_shards_of_the_split_and_no_others(tmp_path):
    others = ["dead_letters/part-00000-of-00001.jsonl", "run-r1/train/part-00000-of-00001.parquet", "eval/x.parquet"]
    for path in [path for _, path in SHARDS] + others:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    for split, patterns in split_patterns([shard(*one) for one in SHARDS]).items():
        found = {os.path.relpath(path, tmp_path) for one in patterns for path in glob.glob(f"{tmp_path}/{one}")}
        assert found == {path for name, path in SHARDS if name == split}


def test_the_fields_are_those_of_the_hub():
    text = front_matter("parquet", {"train": 3, "eval": 1}, [shard(*one) for one in SHARDS])
    assert (text[:4], text[-5:]) == ("---\n", "---\n\n")
    assert yaml.safe_load(text.strip("-\n")) == {
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": ["train/part-*.parquet", "run-r2/train/part-*.parquet"]},
                    {"split": "eval", "path": "eval/part-*.parquet"},
                ],
            }
        ]
    }


@pytest.mark.parametrize(
    ("format", "shards"),
    [
        pytest.param("tfrecord", SHARDS[:1], id="a_format_that_datasets_does_not_read"),
        pytest.param("parquet", [("fold-1", "fold-1/part-00000-of-00001.parquet")], id="no_name_of_a_split_there"),
        pytest.param("parquet", [("a", f"a{n}/part-00000-of-00001.parquet") for n in range(1001)], id="many_folders"),
    ],
)
def test_there_is_none_for(format, shards):
    found = [shard(*one) for one in shards]
    assert front_matter(format, {one.split: 1 for one in found}, found) == ""
