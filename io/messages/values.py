"""Turns the values of messages into rows, whichever source they come from: one message is one row or one dead letter.

===========  =================================================  =======================================================
format       the value                                          dead letters
===========  =================================================  =======================================================
`json`       one JSON object, on any number of lines            `jsonl.*` (`penstock.io.formats.json.format`)
`csv`        one CSV record, with or without a line end         `csv.*`, and `csv.several_records`
`avro`       Avro binary, with or without the id of a schema    `avro.*`, `kafka.schema_id`, `kafka.schema`
             registry (`penstock.io.messages.avro`)
`tfexample`  a serialized tf.Example                            `tfrecord.parse`
`raw`        anything: the column `value`, binary               none
===========  =================================================  =======================================================

A null value (a tombstone) becomes the dead letter `kafka.tombstone`, whose payload is the message's key. The payload of
all other dead letters is the message's value, unchanged. Each message appears once, as a row or as a dead letter; with
`explode`, JSON objects have a row for each item of a list, and rows that are rejected later are dead letters by
themselves, in JSON.

Values are decoded a poll at a time and column by column, except Avro and messages with a fault.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from penstock.io.batches import as_untyped, check_column_names, origin_array, with_notes
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError
from penstock.io.formats.base import Parsed
from penstock.io.messages.base import Decoder, Messages
from penstock.io.messages.registry import find_decoder
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN, RESERVED, SOURCE
from penstock.io.schema import Feature

_TOMBSTONE = Reason("kafka.tombstone", "the value is null (a tombstone); the payload is the message's key")


class Values(Protocol):
    """Turns messages into rows; pickles as long as it has not parsed."""

    def parse(self, messages: Messages) -> Parsed:
        """Parses messages into rows, in order and with `_origin`, and into dead letters.

        Raises:
          DataError: when a schema registry does not answer.
        """


def values_of(
    format_name: str,
    features: Sequence[Feature] | None = None,
    key: str | None = None,
    headers: Sequence[str] = (),
    **options: Any,
) -> Values:
    """Returns the decoder of one format's values, with columns for key and headers.

    Args:
      format_name: a name of `penstock.io.messages.registry.DECODERS`.
      features: the features to read; None for all columns.
      key: the column for the messages' keys, binary; needs `Messages.keys`.
      headers: columns for the headers of these names, binary; if a message has a name twice, the last one counts.
      **options: options of the format: csv has `column_names`, `delimiter`, `quoting`, `trim` and `null_values`; avro
        has `schema_registry` (URL) and `config` (`penstock.io.kafka.client`), or `avro_schema` (file).

    Raises:
      ConfigError: when the format is unknown, or an option is wrong.
      InputError: when CSV columns lack one that the schema requires.
    """
    entry = find_decoder(format_name)
    if clash := [name for name in (key, *headers) if name in RESERVED]:
        raise ConfigError(f"column name {clash[0]!r} is reserved by Penstock; name the key or header otherwise")
    beside = {name for name in (key, *headers) if name is not None}
    wanted = None if features is None else [feature for feature in features if feature.name not in beside]
    return MessageValues(entry.make(wanted, **options), key, tuple(headers))


@dataclasses.dataclass(frozen=True, eq=False)
class MessageValues:
    """Decodes values of one format, and adds columns for key and headers."""

    make_decoder: Callable[[], Decoder]
    key: str | None = None
    headers: tuple[str, ...] = ()

    @functools.cached_property
    def _decoder(self) -> Decoder:
        return self.make_decoder()

    def parse(self, messages: Messages) -> Parsed:
        """See `Values`."""
        present = np.flatnonzero(messages.values.is_valid().to_numpy(zero_copy_only=False))
        decoded = self._decoder.decode(messages.values.drop_null())
        rows = present[decoded.indices]
        faults = {int(present[index]): reasons for index, reasons in decoded.faults.items()}
        if len(present) < len(messages.values):
            nulls = np.setdiff1d(np.arange(len(messages.values)), present)
            faults |= dict.fromkeys(nulls.tolist(), (_TOMBSTONE,))
        columns = {**decoded.columns, **self._beside(messages, rows, decoded.columns)}
        check_column_names(list(columns), messages.uri)
        origin = origin_array(messages.uri, messages.positions[rows])
        batch = pa.RecordBatch.from_arrays([*columns.values(), origin], names=[*columns, ORIGIN])
        batch = batch if decoded.is_typed else as_untyped(batch, decoded.columns)
        batch = with_notes(batch, decoded.notes) if decoded.notes else batch
        source = None if decoded.explodes else messages.source(rows)
        if not faults:
            return Parsed(batch, source=source)
        places = [origin_array(messages.uri, messages.positions), messages.source()]
        rejected = row_letters(pa.RecordBatch.from_arrays(places, names=[ORIGIN, SOURCE]), faults, "read")
        return Parsed(batch, rejected, source)

    def _beside(self, messages: Messages, rows: np.ndarray, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """Makes the columns for key and headers."""
        found: dict[str, pa.Array] = {}
        if self.key is not None and messages.keys is not None:
            found[self.key] = messages.keys.take(pa.array(rows)).cast(pa.binary())
        if self.headers:
            by_name = [dict(messages.headers[row] or ()) if messages.headers else {} for row in rows.tolist()]
            for name in self.headers:
                found[name] = pa.array([headers.get(name) for headers in by_name], pa.binary())
        for name in found:
            if name in columns:
                raise ConfigError(
                    f"{messages.uri}: the values have a column {name!r} too; name key or header otherwise"
                )
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
