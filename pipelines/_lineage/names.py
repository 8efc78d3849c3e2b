"""Names of datasets as OpenLineage has them, so that what one tool writes and another one reads is the same dataset.

The rules: https://openlineage.io/docs/spec/naming

=====================================  ==================================================  ==========
what Penstock calls it                 namespace                                           name
=====================================  ==================================================  ==========
`/data/flights`                        `file`                                              its path, from the root
`s3://bucket/key`, `gs://bucket/key`   `s3://bucket`, `gs://bucket`                        `key`
`azfs://account/container/path`        `abfss://container@account.dfs.core.windows.net`    `path`
`kafka://host:port/topic/partition`    `kafka://host:port` of the first broker             `topic`
=====================================  ==================================================  ==========

`az://container/path` has the account that the environment names.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from penstock.io.files.paths import fixed_folder, is_local, is_pattern

_LIST = "@"

_KAFKA = "kafka"
_ACCOUNTS = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")


class DatasetName(NamedTuple):
    """A dataset of OpenLineage."""

    namespace: str
    name: str


class Read(NamedTuple):
    """What is read of a dataset: how many files with how many bytes; None of a topic."""

    files: int | None
    bytes: int | None


def dataset_name(uri: str) -> DatasetName:
    """Names what a path or URI stands for; of a partition of Kafka, its topic.

    >>> dataset_name("s3://bucket/in/flights/"), dataset_name("kafka://a:9092,b:9092/trips/3")
    (DatasetName(namespace='s3://bucket', name='in/flights'), DatasetName(namespace='kafka://a:9092', name='trips'))
    >>> dataset_name("azfs://account/container/in/x.csv")
    DatasetName(namespace='abfss://container@account.dfs.core.windows.net', name='in/x.csv')
    """
    if is_local(uri):
        return DatasetName("file", os.path.abspath(uri))
    scheme, _, rest = uri.partition("://")
    place, _, path = rest.partition("/")
    path = path.rstrip("/")
    if scheme == _KAFKA:
        return DatasetName(f"{scheme}://{place.partition(',')[0]}", path.partition("?")[0].partition("/")[0])
    account = next(filter(None, map(os.environ.get, _ACCOUNTS)), None) if scheme == "az" else None
    if scheme == "azfs":
        account, (place, _, path) = place, path.partition("/")
    if account is not None:
        scheme, place = "abfss", f"{place}@{account}.dfs.core.windows.net"
    return DatasetName(f"{scheme}://{place}", path or "/")


def datasets_read(inputs: Iterable[Mapping[str, Any]], given: Sequence[str] = ()) -> dict[DatasetName, Read]:
    """Groups the inputs of a run to datasets.

    A dataset is what the command line names: a file, a folder, or the folder that a pattern spells. So its name stays
    the same when files are added. What only a list names is grouped by its folders.

    Args:
      inputs: as a manifest has them, each with its `uri`, and the `size` of a file.
      given: the files, folders and patterns of the command line.
    """
    entries = list(inputs)
    files = {entry["uri"] for entry in entries if "size" in entry}
    roots = sorted(_roots(given, files), key=len, reverse=True)
    found: dict[DatasetName, Read] = {}
    for entry in entries:
        uri = str(entry["uri"])
        name = dataset_name(_root_of(uri, roots))
        if "size" not in entry:
            found[name] = Read(None, None)
            continue
        before = found.get(name, Read(0, 0))
        found[name] = Read((before.files or 0) + 1, (before.bytes or 0) + int(entry["size"]))
    return found


def _roots(given: Sequence[str], files: set[str]) -> Iterator[str]:
    for value in given:
        if not value.startswith(_LIST) and not value.startswith(f"{_KAFKA}://"):
            yield value if value in files or not is_pattern(value) else fixed_folder(value)


def _root_of(uri: str, roots: Sequence[str]) -> str:
    """The dataset that a file is of: what was given, or else its folder."""
    if uri.startswith(f"{_KAFKA}://"):
        return uri
    whole = _whole(uri)
    for root in roots:
        folder = _whole(root)
        if whole == folder or whole.startswith(f"{folder.rstrip('/')}/"):
            return root
    return fixed_folder(uri) if is_pattern(uri) else uri.rpartition("/")[0] or uri


def _whole(path: str) -> str:
    return os.path.abspath(path) if is_local(path) else path.rstrip("/")
