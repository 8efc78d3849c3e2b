"""Writing to a Kafka topic (`target`): rows as JSON or tf.Example, dead letters as JSON, one message each.

Each message is written at least once. A bundle ends when the brokers have all its messages (`acks=all`), and fails when
one is not delivered. A runner that repeats a bundle writes its messages again. Within one bundle the idempotent
producer writes each message once and in order.

librdkafka takes messages one by one; with their JSON that costs about 6 microseconds for a row of 12 columns.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from penstock.io.batches import feature_names
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.values import as_text, column_of, is_list, is_readable, plain
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, rejected_batch, split_rejected
from penstock.io.dead_letters.payloads import row_payloads
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, row_letters
from penstock.io.errors import ConfigError
from penstock.io.examples.encode import try_encode_examples
from penstock.io.kafka.producer import Delivery
from penstock.io.kafka.target import KafkaTarget
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES
from penstock.io.reasons import Reason


@dataclasses.dataclass(frozen=True, eq=False)
class Outgoing:
    """Messages to write.

    Attributes:
      values: one for each message.
      keys: one for each message; None for a message without key.
      faults: the reasons of rows that have no value in this format, by index; such rows have no message.
    """

    values: Sequence[bytes]
    keys: Sequence[bytes | None]
    faults: dict[int, list[Reason]]


def messages_of(batch: pa.RecordBatch, format: str = "json", key: str | None = None) -> Outgoing:
    """Turns rows into messages, in order, without their reserved columns.

    Raises:
      ConfigError: when the key is not a column of the batch or holds lists, or the format cannot hold a column.
    """
    keys = _keys(batch, key)
    if format == "json":
        values = [text.encode() for text in row_payloads(batch.select(feature_names(batch)))]
        return Outgoing(values, keys, {})
    encoded, faults = try_encode_examples(batch)
    data = encoded.data.tobytes()
    starts, ends = encoded.offsets[:-1] + HEADER_BYTES, encoded.offsets[1:] - FOOTER_BYTES
    values = [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return Outgoing(values, [keys[row] for row in np.delete(np.arange(batch.num_rows), list(faults))], faults)


def letter_messages(letters: RejectedBatch, run_id: str = "", key: str | None = None) -> Outgoing:
    """Turns dead letters into messages (`DeadLetter.to_json`); the key is one of their fields, such as `uri`.

    Raises:
      ConfigError: when there is no such field.
    """
    return Outgoing([line.encode() for line in letters.json_lines(run_id)], _keys(letters.letters, key), {})


def _keys(batch: pa.RecordBatch, key: str | None) -> Sequence[bytes | None]:
    if key is None:
        return [None] * batch.num_rows
    column = column_of(batch, key)
    if column is None:
        raise ConfigError(f"key must be a column of the rows to write: {', '.join(feature_names(batch))}; got {key!r}")
    if is_list(column.type) or not is_readable(column.type):
        raise ConfigError(f"key must be a column of single values; {key!r} is {column.type}")
    return as_text(plain(column)).cast(pa.binary()).to_pylist()


@dataclasses.dataclass(eq=False)
class WriteToKafka(RejectingTransform):
    """Writes rows and dead letters to a Kafka topic, each at least once.

    Elements: RecordBatches, and objects of type `RejectedBatch` or `DeadLetter`.

    Rows that tf.Example cannot hold are rejected; JSON can hold all rows. If `WriteDataset` writes the same rows, it
    rejects the same ones: use a `DiscardingHandler` here.

    Attributes:
      target: the topic, or its URI.
      run_id: the run that dead letters name.

    Raises:
      ConfigError: when the target or the client's settings are wrong.
      DataError: on the workers, when a message is not delivered; it names the topic, the partition and the reason.
      ImportError: when the extra `kafka` is not installed.
    """

    target: KafkaTarget | str
    run_id: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, elements: beam.PCollection[Any]) -> beam.pvalue.PDone:
        """Writes in one step; a bundle ends when all its messages are written."""
        target = KafkaTarget.parse(self.target) if isinstance(self.target, str) else self.target
        Delivery.of(target)  # raises for wrong settings
        write = beam.ParDo(_WriteMessagesFn(target, self.run_id))
        _, rejected = split_rejected(elements | "WriteMessages" >> write.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return beam.pvalue.PDone(elements.pipeline)


class _WriteMessagesFn(beam.DoFn):
    def __init__(self, target: KafkaTarget, run_id: str):
        self._target = target
        self._run_id = run_id
        self._delivery: Delivery | None = None
        self._counters = RowCounters("WriteToKafka")

    def start_bundle(self) -> None:
        self._count = 0

    def process(self, element: pa.RecordBatch | RejectedBatch | DeadLetter) -> Iterator[Any]:
        outgoing = self._outgoing(element)
        if self._delivery is None:
            self._delivery = Delivery.of(self._target)
        self._delivery.send(outgoing.values, outgoing.keys)
        self._count += len(outgoing.values)
        if outgoing.faults:
            yield from reject(row_letters(element, outgoing.faults, "write"))

    def _outgoing(self, element: pa.RecordBatch | RejectedBatch | DeadLetter) -> Outgoing:
        if isinstance(element, pa.RecordBatch):
            return messages_of(element, self._target.format, self._target.key)
        return letter_messages(rejected_batch(element), self._run_id, self._target.key)

    def finish_bundle(self) -> None:
        if self._count and self._delivery is not None:
            self._delivery.flush()
            self._counters.add(out_rows=self._count)

    def teardown(self) -> None:
        if self._delivery is not None:
            self._delivery.discard()
            self._delivery = None
