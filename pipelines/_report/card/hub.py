"""The metadata at the head of a card: which files a split has, as the hub of Hugging Face and `datasets` take it.

Source: the fields of `configs` in the hub's "Data files configuration".
"""

import re
from collections.abc import Mapping, Sequence

import yaml

from penstock.io.dataset.manifest import Shard

# What `datasets` reads by itself: of each format the name of its builder is known by the suffix of the files.
_FORMATS = frozenset({"parquet", "webdataset"})

# Its names of splits.
_SPLIT = re.compile(r"\w+(\.\w+)*")

# A stream may have so many folders that nobody wants a list of them.
_MAX_FOLDERS = 1_000


def split_patterns(shards: Sequence[Shard]) -> dict[str, list[str]]:
    """Returns patterns for the shards of each split, relative to the dataset: one for each folder that they are in.

    A folder is of one version or of none, so that each pattern finds shards of the split only.
    """
    found: dict[str, dict[str, None]] = {}
    for shard in shards:
        folder, _, name = shard.path.rpartition("/")
        suffix = name.partition(".")[2]
        found.setdefault(shard.split, {})[f"{folder}/part-*.{suffix}"] = None
    return {split: list(patterns) for split, patterns in found.items()}


def front_matter(format: str, splits: Mapping[str, int], shards: Sequence[Shard]) -> str:
    """Returns the metadata as YAML between its marks; empty for what `datasets` does not read.

    Args:
      format: shard format.
      splits: rows by split, in their order.
      shards: all of the dataset.
    """
    patterns = split_patterns(shards)
    folders = sum(map(len, patterns.values()))
    if format not in _FORMATS or folders > _MAX_FOLDERS or not all(map(_SPLIT.fullmatch, patterns)):
        return ""
    files = [
        {"split": split, "path": found if len(found) > 1 else found[0]}
        for split in splits
        if (found := patterns.get(split))
    ]
    text = yaml.safe_dump(
        {"configs": [{"config_name": "default", "data_files": files}]}, sort_keys=False, allow_unicode=True
    )
    return f"---\n{text}---\n\n"
