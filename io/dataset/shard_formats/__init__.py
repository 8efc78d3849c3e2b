"""Shard formats: each is one module and one line here. The command line reads that line without importing the module.

To add a format, write a `penstock.io.dataset.shard_formats.base.ShardFormat` and register it in `SHARD_FORMATS`.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from penstock.io.errors import ConfigError
from penstock.io.files.extras import ARRAYRECORD, Extra

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.io.dataset.shard_formats.base import ShardFormat


@dataclasses.dataclass(frozen=True)
class ShardKind:
    """What is known about a shard format before its module is imported.

    Attributes:
      implementation: a module in this package, and a class in it without the ending `Shards`.
      suffixes: file suffix by compression; the first compression is the default.
      media_type: media type of the files.
      has_columns: whether the files have columns of Arrow types.
      needs_columns: whether the columns must be declared, since they say how rows are written.
      extra: the extra that must be installed.
      marks_missing: whether a column that always has a value is written in another way.
      has_index: whether a file lists the shards of a split, so that all of them are published at once.
      may_index: whether an index of each shard can say where its records begin: the file is the records one after the
        other, where it is not compressed.
    """

    implementation: str
    suffixes: Mapping[str, str]
    media_type: str
    has_columns: bool = False
    needs_columns: bool = False
    extra: Extra | None = None
    marks_missing: bool = False
    has_index: bool = False
    may_index: bool = False


_TFRECORD = {"gzip": ".tfrecord.gz", "zlib": ".tfrecord.zlib", "none": ".tfrecord"}
_PARQUET = dict.fromkeys(("zstd", "snappy", "gzip", "none"), ".parquet")
_TAR = {"none": ".tar", "gzip": ".tar.gz"}
_MDS = {"none": ".mds", "zstd": ".mds.zstd"}
_ARRAYRECORD = dict.fromkeys(("zstd", "brotli", "snappy", "none"), ".array_record")

SHARD_FORMATS: Mapping[str, ShardKind] = {
    "tfrecord": ShardKind("tfrecord:TFRecord", _TFRECORD, "application/x-tfrecord", may_index=True),
    "parquet": ShardKind("parquet:Parquet", _PARQUET, "application/vnd.apache.parquet", True, needs_columns=True),
    "sequence_example": ShardKind(
        "sequence_example:SequenceExample", _TFRECORD, "application/x-tfrecord", needs_columns=True, may_index=True
    ),
    "arrayrecord": ShardKind("arrayrecord:ArrayRecord", _ARRAYRECORD, "application/x-arrayrecord", extra=ARRAYRECORD),
    "webdataset": ShardKind("webdataset:WebDataset", _TAR, "application/x-tar", True, needs_columns=True),
    "mds": ShardKind(
        "mds:Mds", _MDS, "application/x-mds", True, needs_columns=True, marks_missing=True, has_index=True
    ),
}

# The compressions of all formats, for a flag.
COMPRESSIONS = tuple(dict.fromkeys(name for kind in SHARD_FORMATS.values() for name in kind.suffixes))


def shard_kind(name: str) -> ShardKind:
    """Returns the format of that name.

    Raises:
      ConfigError: if there is none.
      MissingExtraError: if it needs an extra that is not installed.
    """
    if name not in SHARD_FORMATS:
        raise ConfigError(f"format must be one of {', '.join(SHARD_FORMATS)}, got {name!r}")
    kind = SHARD_FORMATS[name]
    if kind.extra is not None:
        kind.extra.require(f"the output format {name}")
    return kind


def known_compression(name: str, compression: str | None) -> str:
    """Returns a compression of the format of that name: the given one, or the format's default.

    Raises:
      ConfigError: if the format is unknown, or does not support the compression.
      MissingExtraError: see `shard_kind`.
    """
    suffixes = shard_kind(name).suffixes
    if compression is None:
        return next(iter(suffixes))
    if compression not in suffixes:
        raise ConfigError(
            f"compression must be one of {', '.join(suffixes)} for the format {name}, got {compression!r}"
        )
    return compression


def load_format(name: str, compression: str, columns: "pa.Schema | None" = None) -> "ShardFormat":
    """Returns the implementation of a format, with its options.

    Raises:
      ConfigError: for columns that its files cannot hold.
    """
    module, _, implementation = shard_kind(name).implementation.partition(":")
    kind = getattr(importlib.import_module(f"{__name__}.{module}"), f"{implementation}Shards")
    made: ShardFormat = kind(compression, columns)
    return made
