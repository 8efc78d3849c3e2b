"""Which reader a dataset needs, with which columns."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from penstock.io.columns.of_schema import ORIGIN_FEATURES
from penstock.io.dataset.load.shards.contents import Contents
from penstock.io.dataset.load.shards.files import join, open_stored
from penstock.io.dataset.load.shards.readers import ArrayRecordReader, ExampleReader, Loss, ParquetReader, ShardReader
from penstock.io.dataset.load.shards.samples import MdsShardReader, mds_schema
from penstock.io.dataset.load.shards.tars import SampleReader, tar_schema
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.reserved import ORIGIN_NAMES
from penstock.io.schema import Feature, Kind, find_feature

_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}


def open_reader(contents: Contents, columns: Sequence[str] | None, lost: Callable[[Loss], None] | None) -> ShardReader:
    """Returns the reader of a dataset; `columns` are names in the order that batches have, None for all.

    Raises:
      ConfigError: for a column that the dataset does not have, or a dataset of tf.Examples without a schema.
      InputError: when the first shard of a dataset of Parquet, WebDataset or MDS cannot be read.
    """
    if contents.format == "parquet":
        schema = _chosen(_parquet_schema(contents), columns, contents)
        return ParquetReader(contents.directory, schema, lost, columns is None)
    if contents.format == "webdataset":
        return SampleReader(contents.directory, _chosen(tar_schema(contents), columns, contents), lost)
    if contents.format == "mds":
        return MdsShardReader(contents.directory, _chosen(mds_schema(contents), columns, contents), lost)
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


def _parquet_schema(contents: Contents) -> pa.Schema:
    import pyarrow.parquet as pq

    if not contents.shards:
        raise DataError(f"{contents.directory}: has no shards")
    shard = contents.shards[0]
    path = join(contents.directory, shard.path)
    with open_stored(path, shard.bytes) as stored:
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
