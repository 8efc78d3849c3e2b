"""Files of statistics: the serialized proto (`.pb`), and the same as JSON for people and jq (`.json`)."""

import uuid

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.io.errors import InputError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.folders import replace_file
from penstock.io.files.system_errors import writing
from penstock.transforms.statistics.readable import to_json

_SUFFIX = ".pb"
_REMEDY = "make room there, or write the statistics elsewhere"


def write_list(proto: statistics_pb2.DatasetFeatureStatisticsList, path: str) -> None:
    """Writes a list to `path`, and as JSON beside it; each file appears as a whole, the JSON first.

    Equal statistics give equal bytes.

    Args:
      proto: the list.
      path: ends in `.pb`, which is added if it does not; the other file ends in `.json` instead. Folders are created.

    Raises:
      StorageError: when it cannot be written.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    check_filesystem(path, path)
    stem = path.removesuffix(_SUFFIX)
    for suffix, content in list_files(proto).items():
        _write(f"{stem}{suffix}", content)


def list_files(proto: statistics_pb2.DatasetFeatureStatisticsList) -> dict[str, bytes]:
    """Returns the contents of the files of a list, by suffix, in the order in which they are written."""
    return {".json": to_json(proto).encode(), _SUFFIX: proto.SerializeToString(deterministic=True)}


def _write(path: str, content: bytes) -> None:
    """Writes a file under another name, and renames it: nobody sees a part of it."""
    staged = f"{path}.{uuid.uuid4().hex}.tmp"
    with writing(path, _REMEDY):
        replace_file(path, content, staged)


def read_list(path: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Reads a `.pb` of statistics, Penstock's, or that of TFDV's `WriteStatisticsToBinaryFile`.

    Raises:
      InputError: when there is no such file, or it holds something else. The message has the path.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    check_filesystem(path, path)
    try:
        with stores.open_file(path) as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"{path}: the statistics cannot be read: {error}") from error
    proto = statistics_pb2.DatasetFeatureStatisticsList()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise InputError(f"{path}: {_FOREIGN}") from error
    if not proto.datasets:
        raise InputError(f"{path}: {_FOREIGN}")
    return proto


_FOREIGN = (
    "the file is no serialized DatasetFeatureStatisticsList; pass the .pb that Penstock writes, or what TFDV's "
    "WriteStatisticsToBinaryFile does, not a text, a TFRecord or the .json beside it"
)
