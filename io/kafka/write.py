"""Writing to a Kafka topic (`target`): rows as JSON or tf.Example, dead letters as JSON, one message each.

Each message is written at least once. A bundle ends when the brokers have all its messages (`acks=all`). It waits for
brokers that are away (`producer`), and fails when one message is not delivered in time. A runner that repeats a bundle
writes its messages again. Within one bundle the idempotent producer writes each message once and in order.

What can never be written does not end a job that has it elsewhere: `CopyToKafka` notes rows that have no message, and a
dead letter that is too large is written without its payload (`short_letter`).

librdkafka takes messages one by one; with their JSON that costs about 6 microseconds for a row of 12 columns.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from penstock.io.batches import feature_names
from penstock.io.beam import cancellation as stopping
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.row_notes import with_row_notes
from penstock.io.columns.values import as_text, column_of, is_list, is_readable, plain
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, rejected_batch, split_rejected
from penstock.io.dead_letters.payloads import row_payloads
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, row_letters
from penstock.io.errors import ConfigError
from penstock.io.examples.encode import try_encode_examples
from penstock.io.kafka.producer import Delivery, look_up
from penstock.io.kafka.target import KafkaTarget
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES
from penstock.io.reasons import Note, Reason
from penstock.io.reserved import ORIGIN

# The code of notes about rows that a copy in Kafka lacks.
NOT_COPIED = "kafka.not_copied"

# What is left of a dead letter that is too large: so many characters of a detail, and so many other reasons.
_SHORT_TEXT, _SHORT_REASONS = 500, 20


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


def short_letter(line: str) -> str:
    """Returns the JSON of a dead letter without what may be large; `payload_omitted` says how many bytes it had.

    >>> short_letter('{"reason": "csv.quote", "detail": "d", "also": [], "payload": "a,b"}')
    '{"reason": "csv.quote", "detail": "d", "also": [], "payload": "", "payload_omitted": 3}'
    """
    letter = json.loads(line)
    letter.pop("payload_columns", None)
    letter["also"] = letter["also"][:_SHORT_REASONS]
    for reason in (letter, *letter["also"]):
        reason["detail"] = reason["detail"][:_SHORT_TEXT]
    letter["payload_omitted"] = len(letter["payload"].encode())
    letter["payload"] = ""
    return json.dumps(letter, ensure_ascii=False)


def letter_messages(
    letters: RejectedBatch,
    run_id: str = "",
    key: str | None = None,
    holds: Callable[[int], bool] = lambda size: True,
) -> Outgoing:
    """Turns dead letters into messages (`DeadLetter.to_json`); the key is one of their fields, such as `uri`.

    A letter becomes a short one where `holds` refuses the bytes of its key and value.

    Raises:
      ConfigError: when there is no such field.
    """
    keys = _keys(letters.letters, key)
    lines = ((line, line.encode()) for line in letters.json_lines(run_id))
    values = [
        value if holds(_size(value, key)) else short_letter(line).encode()
        for (line, value), key in zip(lines, keys, strict=True)
    ]
    return Outgoing(values, keys, {})


def _keys(batch: pa.RecordBatch, key: str | None) -> Sequence[bytes | None]:
    if key is None:
        return [None] * batch.num_rows
    column = column_of(batch, key)
    if column is None:
        raise ConfigError(f"key must be a column of the rows to write: {', '.join(feature_names(batch))}; got {key!r}")
    if is_list(column.type) or not is_readable(column.type):
        raise ConfigError(f"key must be a column of single values; {key!r} is {column.type}")
    return as_text(plain(column)).cast(pa.binary()).to_pylist()


def without_large(outgoing: Outgoing, delivery: Delivery, rows: int) -> Outgoing:
    """Returns the messages that client and topic take; the rows of the others are at fault.

    Args:
      outgoing: the messages of a batch.
      delivery: the producer that knows the limit.
      rows: the number of rows of the batch.
    """
    longest = max(map(len, outgoing.values), default=0) + max((len(key or b"") for key in outgoing.keys), default=0)
    if delivery.holds(longest):
        return outgoing
    pairs = list(zip(outgoing.values, outgoing.keys, strict=True))
    large = {place for place, pair in enumerate(pairs) if not delivery.holds(_size(*pair))}
    if not large:
        return outgoing
    owners = np.delete(np.arange(rows), list(outgoing.faults)).tolist()
    kept = [place for place in range(len(pairs)) if place not in large]
    faults = {owners[place]: [_too_large(len(pairs[place][0]), delivery.max_bytes)] for place in sorted(large)}
    return Outgoing([pairs[place][0] for place in kept], [pairs[place][1] for place in kept], outgoing.faults | faults)


def _size(value: bytes, key: bytes | None) -> int:
    return len(value) + len(key or b"")


def _too_large(size: int, limit: int) -> Reason:
    return Reason(
        "kafka.too_large",
        f"its message would have {size:,} bytes, and the most is {limit:,}: message.max.bytes of the client "
        "(PENSTOCK_KAFKA_MESSAGE_MAX_BYTES), or max.message.bytes of the topic",
    )


def with_copy_notes(batch: pa.RecordBatch, faults: Mapping[int, Sequence[Reason]], uri: str) -> pa.RecordBatch:
    """Returns the rows with a note on those that have no message, by reason; `uri` is the topic."""
    by_code: dict[str, list[int]] = {}
    for row in sorted(faults):
        by_code.setdefault(faults[row][0].code, []).append(row)
    notes = []
    for code, rows in by_code.items():
        origin = batch.column(ORIGIN)[rows[0]].as_py() if ORIGIN in batch.schema.names else None
        where = f"{origin['uri']} at {origin['position']}" if origin else "a row"
        detail = f"{where} is not in the topic ({code}: {faults[rows[0]][0].detail})"
        notes.append((Note(NOT_COPIED, f"{uri} {code}", len(rows), detail), np.array(rows, np.int64)))
    return with_row_notes(batch, notes)


@dataclasses.dataclass(eq=False)
class WriteToKafka(RejectingTransform):
    """Writes rows and dead letters to a Kafka topic, each at least once.

    Elements: RecordBatches, and objects of type `RejectedBatch` or `DeadLetter`.

    Rows that tf.Example cannot hold, or that are larger than a message may be, are rejected; JSON can hold all rows. A
    dead letter that is too large is written without its payload.

    Attributes:
      target: the topic, or its URI; the brokers are asked for it where the pipeline is built (`look_up`).
      run_id: the run that dead letters name.

    Raises:
      ConfigError: when the target or the client's settings are wrong.
      InputError: when no broker answers, or the topic cannot be written to.
      DataError: on the workers, when a message is not delivered; it names the topic, the partition and the reason.
      ImportError: when the extra `kafka` is not installed.
    """

    target: KafkaTarget | str
    run_id: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, elements: beam.PCollection[Any]) -> beam.pvalue.PDone:
        """Writes in one step; a bundle ends when all its messages are written."""
        write = beam.ParDo(_WriteMessagesFn(_checked(self.target), self.run_id))
        _, rejected = split_rejected(elements | "WriteMessages" >> write.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return beam.pvalue.PDone(elements.pipeline)


@dataclasses.dataclass(eq=False)
class CopyToKafka(beam.PTransform[Any, Any]):
    """Writes rows to a Kafka topic, as `WriteToKafka`, and gives all of them on.

    Rows that cannot be written have the note `kafka.not_copied`, which the manifest counts.

    Attributes:
      target: as that of `WriteToKafka`, with its errors.
    """

    target: KafkaTarget | str

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Writes in one step."""
        copy = beam.ParDo(_CopyMessagesFn(_checked(self.target))).with_output_types(pa.RecordBatch)
        return batches | "CopyMessages" >> copy


def _checked(target: KafkaTarget | str) -> KafkaTarget:
    return look_up(KafkaTarget.parse(target) if isinstance(target, str) else target)


class _MessagesFn(beam.DoFn):
    """The common part of writing and copying: the producer, and the end of a bundle."""

    def __init__(self, target: KafkaTarget, counters: str):
        self._target = target
        self._pipeline = stopping.pipeline_name()
        self._delivery: Delivery | None = None
        self._counters = RowCounters(counters)

    def start_bundle(self) -> None:
        self._count = 0

    def _send_rows(self, batch: pa.RecordBatch) -> Outgoing:
        outgoing = messages_of(batch, self._target.format, self._target.key)
        outgoing = without_large(outgoing, self._open(), batch.num_rows)
        self._send(outgoing)
        return outgoing

    def _open(self) -> Delivery:
        if self._delivery is None:
            self._delivery = Delivery(self._target, functools.partial(stopping.check, self._pipeline))
        return self._delivery

    def _send(self, outgoing: Outgoing) -> None:
        with self._discarding() as delivery:
            delivery.send(outgoing.values, outgoing.keys)
        self._count += len(outgoing.values)

    def finish_bundle(self) -> None:
        if self._count and self._delivery is not None:
            with self._discarding() as delivery:
                delivery.flush()
            self._counters.add(out_rows=self._count)

    @contextlib.contextmanager
    def _discarding(self) -> Iterator[Delivery]:
        """Lends the producer; after a failure it is discarded, since the bundle begins again with another one."""
        try:
            with stopping.failing_together(self._pipeline):
                yield self._open()
        except BaseException:
            self.teardown()
            raise

    def teardown(self) -> None:
        if self._delivery is not None:
            self._delivery.discard()
            self._delivery = None


class _WriteMessagesFn(_MessagesFn):
    def __init__(self, target: KafkaTarget, run_id: str):
        super().__init__(target, "WriteToKafka")
        self._run_id = run_id

    def process(self, element: pa.RecordBatch | RejectedBatch | DeadLetter) -> Iterator[Any]:
        if not isinstance(element, pa.RecordBatch):
            letters = rejected_batch(element)
            self._send(letter_messages(letters, self._run_id, self._target.key, self._open().holds))
        elif faults := self._send_rows(element).faults:
            yield from reject(row_letters(element, faults, "write"))


class _CopyMessagesFn(_MessagesFn):
    def __init__(self, target: KafkaTarget):
        super().__init__(target, "CopyToKafka")

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        faults = self._send_rows(batch).faults
        yield with_copy_notes(batch, faults, self._target.uri) if faults else batch
