"""The formats of shards: one module each, and one line here, which the command line reads without importing the module.

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
    """What is known of a format of shards before its module is imported.

    Attributes:
      implementation: module in this package, and the class in it without its `Shards`.
      suffixes: of its files, by the compressions that it has; the first is the default.
      media_type: of its files.
      has_columns: whether its files have columns of Arrow types, which must be declared.
      extra: what must be installed for it.
    """

    implementation: str
    suffixes: Mapping[str, str]
    media_type: str
    has_columns: bool = False
    extra: Extra | None = None


_TFRECORD = {"gzip": ".tfrecord.gz", "zlib": ".tfrecord.zlib", "none": ".tfrecord"}
_PARQUET = dict.fromkeys(("zstd", "snappy", "gzip", "none"), ".parquet")
_ARRAYRECORD = dict.fromkeys(("zstd", "brotli", "snappy", "none"), ".array_record")

SHARD_FORMATS: Mapping[str, ShardKind] = {
    "tfrecord": ShardKind("tfrecord:TFRecord", _TFRECORD, "application/x-tfrecord"),
    "parquet": ShardKind("parquet:Parquet", _PARQUET, "application/vnd.apache.parquet", has_columns=True),
    "arrayrecord": ShardKind("arrayrecord:ArrayRecord", _ARRAYRECORD, "application/x-arrayrecord", extra=ARRAYRECORD),
}

# Of all formats, for a flag.
COMPRESSIONS = tuple(dict.fromkeys(name for kind in SHARD_FORMATS.values() for name in kind.suffixes))


def shard_kind(name: str) -> ShardKind:
    """The format of that name.

    Raises:
      ConfigError: when there is none.
      MissingExtraError: when it needs an extra that is not installed.
    """
    if name not in SHARD_FORMATS:
        raise ConfigError(f"format must be one of {', '.join(SHARD_FORMATS)}, got {name!r}")
    kind = SHARD_FORMATS[name]
    if kind.extra is not None:
        kind.extra.require(f"the output format {name}")
    return kind


def known_compression(name: str, compression: str | None) -> str:
    """A compression of the format of that name: the given one, or its default.

    Raises:
      ConfigError: when the format does not have it, or is not known.
      MissingExtraError: as `shard_kind`.
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
    """The implementation of a format, with its options.

    Raises:
      ConfigError: for columns that its files cannot have.
    """
    module, _, implementation = shard_kind(name).implementation.partition(":")
    kind = getattr(importlib.import_module(f"{__name__}.{module}"), f"{implementation}Shards")
    made: ShardFormat = kind(compression, columns)
    return made
