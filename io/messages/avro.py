"""Avro messages, with the id of a schema in a schema registry, or without.

With a registry a value is `0 | id (4 bytes, big-endian) | Avro binary`, and the schema of each id is fetched once.
Without one it is Avro binary alone, of one schema that the user gives. `penstock.io.formats.avro.schema` lists the
column types. A feature without a field in the schema is null in its rows. Messages of several schemas make one batch,
typed by the features.

====================  ================================================================================================
dead letter           the message
====================  ================================================================================================
`kafka.schema_id`     does not begin with a schema id, or the registry has no Avro schema of that id
`kafka.schema`        has a schema that is not a record, or cannot give the features their values
`avro.decode`         is cut off, has bytes after its row, or does not match its schema
`avro.utf8`           has a text that is not UTF-8
`avro.value`          has a value beyond the range of its type
====================  ================================================================================================

As in `penstock.io.formats.avro.format`, fastavro decodes row by row.
"""

import dataclasses
import functools
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from penstock.io.columns.conform import check_type, conform_batch
from penstock.io.columns.flatten import flatten_schema
from penstock.io.columns.values import is_list
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import unreadable
from penstock.io.formats.avro.format import Columns
from penstock.io.formats.avro.schema import arrow_schema
from penstock.io.messages.base import DecodedMessages, Decoder, binary_layout
from penstock.io.messages.schema_registry import SchemaFault, SchemaRegistry
from penstock.io.reasons import Reason
from penstock.io.schema import Feature

# The magic byte and the id.
_HEADER_BYTES = 5

# When the registry has no schema of an id, the id is looked up again after this time.
_UNKNOWN_SECONDS = 60.0

_NO_ID = Reason("kafka.schema_id", "the message does not begin with 0 and the id of a schema")


def read_schema(path: str) -> Any:
    """Reads an Avro schema from a JSON file.

    Raises:
      ConfigError: when the file cannot be read, or is not JSON.
    """
    what = f"--avro_schema {path}"
    check_filesystem(path, what)
    try:
        with stores.open_unpacked(path) as file:
            return json.loads(file.read())
    except OSError as error:
        raise unreadable(what, error) from error
    except ValueError as error:
        raise ConfigError(f"{what}: an Avro schema must be JSON: {error}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class AvroRowReader:
    """Decodes the rows of one schema."""

    schema: Any
    columns: Columns

    @classmethod
    def of(cls, schema: Any, features: Sequence[Feature] | None, name: str) -> "AvroRowReader":
        """Makes a reader for the features that the schema has.

        Raises:
          InputError: when the schema is not valid, or not a record.
          ConfigError: when the schema cannot give a feature its values.
        """
        avro = arrow_schema(schema, name)
        names = [name for name in avro.names if features is None]
        for feature in features or ():
            if feature.name in avro.names:
                names.append(feature.name)
        row_type = avro.select(names, name)
        types = flatten_schema(avro.fields, name)
        for feature in features or ():
            if feature.name in names:
                check_type(types.field(feature.name).type, feature)
        return cls(avro.decoding, Columns(name, row_type, names))

    def read(self, values: Sequence[bytes]) -> tuple[pa.RecordBatch, dict[int, list[Reason]]]:
        """Decodes values; returns the columns of the rows, and the reasons of values that are not rows, by index."""
        rows: list[dict[str, Any]] = []
        faults: dict[int, list[Reason]] = {}
        for index, value in enumerate(values):
            stream = io.BytesIO(value)
            try:
                row: Any = fastavro.schemaless_reader(
                    stream, self.schema, None, handle_unicode_errors="surrogateescape"
                )
            except Exception as error:  # fastavro raises errors of many types for damaged bytes
                faults[index] = [Reason("avro.decode", f"the message is not of its Avro schema: {error!r}")]
                continue
            if stream.tell() != len(value):
                taken = f"the row takes {stream.tell()} of {len(value)} bytes"
                faults[index] = [Reason("avro.decode", f"the message is not of its Avro schema: {taken}")]
                continue
            rows.append(row)
        batch, unfaithful = self.columns.build(rows)
        places = np.delete(np.arange(len(values)), list(faults))
        return batch, faults | {int(places[row]): reasons for row, reasons in unfaithful.items()}


def avro_decoder(
    features: Sequence[Feature] | None,
    schema_registry: str | None = None,
    config: str | None = None,
    avro_schema: str | None = None,
) -> Callable[[], Decoder]:
    """Returns a maker of `AvroDecoder`s, from a registry's URL and its settings file, or from a schema file.

    Raises:
      ConfigError: when both or neither are given, or a file cannot be used.
    """
    if (schema_registry is None) == (avro_schema is None):
        raise ConfigError(
            "Avro messages need either schema_registry=URL, for messages with the id of a schema, or "
            "--avro_schema FILE, for messages without"
        )
    if schema_registry is not None:
        return functools.partial(AvroDecoder, features, SchemaRegistry(schema_registry, config))
    reader = AvroRowReader.of(read_schema(str(avro_schema)), features, f"--avro_schema {avro_schema}")
    return functools.partial(AvroDecoder, features, reader)


class AvroDecoder:
    """Decodes Avro binary, by the schemas of a registry, or by one reader."""

    def __init__(self, features: Sequence[Feature] | None, source: "SchemaRegistry | AvroRowReader"):
        self._features = features
        self._source = source
        self._known: dict[int, tuple[AvroRowReader | Reason, float]] = {}

    def decode(self, values: pa.Array) -> DecodedMessages:
        """See `penstock.io.messages.base.Decoder`.

        Raises:
          DataError: when the registry does not answer.
        """
        faults: dict[int, Sequence[Reason]] = {}
        pieces: list[tuple[np.ndarray, pa.RecordBatch]] = []
        for indices, rows, reader in self._groups(values):
            if isinstance(reader, Reason):
                faults |= dict.fromkeys(indices.tolist(), (reader,))
                continue
            batch, bad = reader.read(rows)
            faults |= {int(indices[row]): reasons for row, reasons in bad.items()}
            pieces.append((np.delete(indices, list(bad)), batch))
        return self._merged(pieces, faults)

    def _groups(self, values: pa.Array) -> Iterator[tuple[np.ndarray, list[bytes], AvroRowReader | Reason]]:
        """Groups messages by schema: indices, rows in Avro, and their reader or the reason why there is none."""
        if isinstance(self._source, AvroRowReader):
            yield np.arange(len(values)), values.to_numpy(zero_copy_only=False).tolist(), self._source
            return
        data, starts, ends = binary_layout(values)
        for schema_id, indices in _by_schema(np.frombuffer(data, np.uint8), starts, ends).items():
            reader = self._reader_of(schema_id, self._source) if schema_id >= 0 else _NO_ID
            spans = zip((starts[indices] + _HEADER_BYTES).tolist(), ends[indices].tolist(), strict=True)
            yield indices, [bytes(data[start:end]) for start, end in spans], reader

    def _reader_of(self, schema_id: int, registry: SchemaRegistry) -> AvroRowReader | Reason:
        known, expires = self._known.get(schema_id, (None, 0.0))
        if known is None or time.monotonic() >= expires:
            known, expires = self._fetch(schema_id, registry)
            self._known[schema_id] = known, expires
        return known

    def _fetch(self, schema_id: int, registry: SchemaRegistry) -> tuple[AvroRowReader | Reason, float]:
        """Returns the reader of an id's messages, or the reason why there is none, and when that answer expires."""
        try:
            schema = registry.schema(schema_id)
        except SchemaFault as fault:
            return Reason("kafka.schema_id", str(fault)), time.monotonic() + _UNKNOWN_SECONDS
        try:
            return AvroRowReader.of(schema, self._features, f"schema {schema_id} of {registry.url}"), math.inf
        except (InputError, ConfigError) as error:
            return Reason("kafka.schema", str(error)), math.inf

    def _merged(
        self, pieces: list[tuple[np.ndarray, pa.RecordBatch]], faults: dict[int, Sequence[Reason]]
    ) -> DecodedMessages:
        """Merges the rows of several schemas, in the order of the messages."""
        if self._features is not None and len(pieces) > 1:
            pieces = [self._typed(indices, batch, faults) for indices, batch in pieces]
        indices = np.concatenate([np.empty(0, np.int64), *(found for found, _ in pieces)])
        order = np.argsort(indices)
        names = dict.fromkeys(name for _, batch in pieces for name in batch.schema.names)
        columns = {name: _column(name, [batch for _, batch in pieces]) for name in names}
        if len(pieces) > 1:
            columns = {name: column.take(pa.array(order)) for name, column in columns.items()}
        return DecodedMessages(indices[order], columns, faults)

    def _typed(
        self, indices: np.ndarray, batch: pa.RecordBatch, faults: dict[int, Sequence[Reason]]
    ) -> tuple[np.ndarray, pa.RecordBatch]:
        """Converts rows to the types of the features, so rows of several schemas share them."""
        typed, reasons = conform_batch(batch, self._features or ())
        faults |= {int(indices[row]): found for row, found in reasons.items()}
        kept = np.delete(np.arange(len(indices)), list(reasons))
        return indices[kept], typed.take(pa.array(kept)) if reasons else typed


def _column(name: str, batches: Sequence[pa.RecordBatch]) -> pa.Array:
    """Joins one column of several batches; it is null for a batch without a column of that name.

    Raises:
      DataError: when no type holds all values.
    """
    arrays = [batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows) for batch in batches]
    if any(is_list(array.type) for array in arrays):
        arrays = [_as_lists(array) for array in arrays]
    schemas = [pa.schema([(name, array.type)]) for array in arrays]
    try:
        common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        return pa.concat_arrays([array.cast(common) for array in arrays])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        types = " and ".join(sorted({str(array.type) for array in arrays}))
        raise DataError(f"column {name!r} is {types}, by messages; pass a schema that says which it is") from error


def _as_lists(array: pa.Array) -> pa.Array:
    """Turns scalars into lists of one; a null stays null."""
    if is_list(array.type):
        return array
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(valid)))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), array.drop_null(), mask=pa.array(~valid))


def _by_schema(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> dict[int, np.ndarray]:
    """Groups the indices of messages by schema id; -1 for messages without an id."""
    # A message has an id when it is long enough and begins with 0. The four bytes after that are the digits of the id
    # in base 256, most significant first.
    headed = ends - starts >= _HEADER_BYTES
    headed[headed] = data[starts[headed]] == 0
    ids = np.full(len(starts), -1, np.int64)
    digits = data[starts[headed][:, None] + np.arange(1, _HEADER_BYTES)].astype(np.int64)
    ids[headed] = digits @ (256 ** np.arange(_HEADER_BYTES - 2, -1, -1))
    return {int(schema_id): np.flatnonzero(ids == schema_id) for schema_id in np.unique(ids)}
