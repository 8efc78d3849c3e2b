"""Which reader a dataset needs, with which columns."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa

from penstock.io.columns.of_schema import ORIGIN_FEATURES
from penstock.io.dataset.load.shards.checked import checked
from penstock.io.dataset.load.shards.contents import Contents, StoredShard
from penstock.io.dataset.load.shards.files import join, open_stored
from penstock.io.dataset.load.shards.readers import ArrayRecordReader, ExampleReader, Loss, ParquetReader, ShardReader
from penstock.io.dataset.load.shards.samples import MdsShardReader, mds_schema
from penstock.io.dataset.load.shards.tars import SampleReader, tar_schema
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.reserved import ORIGIN_NAMES
from penstock.io.schema import Feature, Kind, find_feature

# Reads the columns of a shard, by its path and size.
_ReadColumns: TypeAlias = Callable[[str, int], pa.Schema]

_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}


def open_reader(contents: Contents, columns: Sequence[str] | None, lost: Callable[[Loss], None] | None) -> ShardReader:
    """Returns the reader of a dataset; `columns` are names in the order that batches have, None for all.

    Raises:
      ConfigError: for a column that the dataset does not have, or a dataset of tf.Examples without a schema.
      InputError: when the first shard of a dataset of Parquet, WebDataset or MDS cannot be read; where rows may be
        lost, when none can.
    """

    def read_by(read: _ReadColumns) -> pa.Schema:
        return _chosen(_columns(contents, read, lost is not None), columns, contents)

    if contents.format == "parquet":
        return ParquetReader(contents.directory, read_by(_parquet_schema), lost, columns is None)
    if contents.format == "webdataset":
        return SampleReader(contents.directory, read_by(tar_schema), lost)
    if contents.format == "mds":
        return MdsShardReader(contents.directory, read_by(mds_schema), lost)
    if contents.features is None:
        raise ConfigError(f"{contents.directory}: has no schema, so that the types of its columns are not known")
    features: Sequence[Feature] = contents.features
    if columns is not None:
        known = [*features, *ORIGIN_FEATURES] if contents.has_origins else features
        features = [find_feature(name, known, f"{contents.directory}: column") for name in columns]
    kind = ArrayRecordReader if contents.format == "arrayrecord" else ExampleReader
    schema = pa.schema([(feature.name, _type(feature)) for feature in features])
    is_sequence = contents.format == "sequence_example"
    is_strict = columns is None and not contents.has_origins
    return kind(contents.directory, schema, lost, features, is_strict, is_sequence)


def _type(feature: Feature) -> pa.DataType:
    item = _TYPES[feature.kind]
    return item if feature.multivalued is False else pa.list_(item)


def _columns(contents: Contents, read: _ReadColumns, may_lose: bool) -> pa.Schema:
    """Returns the columns of a dataset, as its first shard has them; where shards may be lost, as one that is good."""
    if not contents.shards:
        raise DataError(f"{contents.directory}: has no shards")
    if not may_lose:
        shard = contents.shards[0]
        return read(join(contents.directory, shard.path), shard.bytes)
    readable = _readable(contents, read)
    found = list(itertools.islice(readable, 2))
    if len(found) == 1 or found[0][1].equals(found[1][1]):
        return found[0][1]
    # What says the columns has no checksum in Parquet and MDS, so one of the two is damaged.
    for shard, schema in itertools.chain(found, readable):
        with contextlib.suppress(InputError), checked(join(contents.directory, shard.path), shard):
            return schema
    return found[0][1]


def _readable(contents: Contents, read: _ReadColumns) -> Iterator[tuple[StoredShard, pa.Schema]]:
    """Yields the shards whose columns can be read.

    Raises:
      InputError: that of the first shard, when there is none.
    """
    faults, count = [], 0
    for shard in contents.shards:
        try:
            yield shard, read(join(contents.directory, shard.path), shard.bytes)
            count += 1
        except InputError as error:
            faults.append(error)
    if not count:
        raise faults[0]


def _parquet_schema(path: str, size: int) -> pa.Schema:
    import pyarrow.parquet as pq

    with open_stored(path, size) as stored:
        try:
            return pq.ParquetFile(stored).schema_arrow.remove_metadata()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: not a Parquet shard, or it is damaged: {error}") from error


def _chosen(schema: pa.Schema, columns: Sequence[str] | None, contents: Contents) -> pa.Schema:
    if columns is None:
        left_out = ORIGIN_NAMES if contents.has_origins else ()
        return pa.schema([field for field in schema if field.name not in left_out])
    for name in columns:
        if name not in schema.names:
            raise ConfigError(
                f"{contents.directory}: column {name!r} is not a column of the dataset, which has "
                f"{', '.join(schema.names)}"
            )
    return pa.schema([schema.field(name) for name in columns])
