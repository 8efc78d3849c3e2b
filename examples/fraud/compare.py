"""Compares two datasets of the same transactions, such as one from a stream and one from its replay as files.

Each record is a tf.Example in canonical form, so equal records have equal features, to the last bit. Exits with 1 when
any record is in one dataset only.
"""

import argparse
import collections
import json
import pathlib
import sys
from collections.abc import Iterator

import tensorflow as tf


def records(dataset: pathlib.Path) -> Iterator[bytes]:
    """Yields all records of all windows."""
    for path in sorted((dataset / "windows").glob("*.json")):
        for shard in json.loads(path.read_text())["shards"]:
            compression = "GZIP" if shard["path"].endswith(".gz") else ""
            yield from tf.data.TFRecordDataset(str(dataset / shard["path"]), compression).as_numpy_iterator()


def same_windows(first: pathlib.Path, second: pathlib.Path) -> tuple[int, int]:
    """Counts the windows whose digest is equal in both datasets, order of records included, and all windows."""
    found = [
        {path.name: json.loads(path.read_text())["dataset_id"] for path in (dataset / "windows").glob("*.json")}
        for dataset in (first, second)
    ]
    names = found[0].keys() | found[1].keys()
    return sum(found[0].get(name) == found[1].get(name) for name in names), len(names)


def differences(only: collections.Counter[bytes], other: collections.Counter[bytes]) -> Iterator[str]:
    """Describes how records that are in only one dataset differ, by the transaction's id."""
    others = {parsed["id"]: parsed for parsed in map(_parse, other)}
    for record in only:
        parsed = _parse(record)
        counterpart = others.get(parsed["id"])
        if counterpart is None:
            yield f"{parsed['id']}: is not in the other dataset"
        else:
            names = [name for name in parsed | counterpart if parsed.get(name) != counterpart.get(name)]
            yield f"{parsed['id']}: " + ", ".join(
                f"{name} {parsed.get(name)} {counterpart.get(name)}" for name in names
            )


def _parse(record: bytes) -> dict[str, object]:
    example = tf.train.Example.FromString(record)
    return {
        name: next(iter(getattr(feature, feature.WhichOneof("kind")).value))
        for name, feature in example.features.feature.items()
    }


def main() -> None:
    """Prints how many records are equal, and the first that differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", type=pathlib.Path, nargs=2)
    first, second = parser.parse_args().datasets
    left, right = collections.Counter(records(first)), collections.Counter(records(second))
    equal = (left & right).total()
    print(f"{first}: {left.total():,} records, {second}: {right.total():,}; {equal:,} are equal to the last bit")
    print("{} of {} windows are equal, the order of their records included".format(*same_windows(first, second)))
    for line in list(differences(left - right, right - left))[:5]:
        print(line)
    if left != right:
        sys.exit(1)


if __name__ == "__main__":
    main()
