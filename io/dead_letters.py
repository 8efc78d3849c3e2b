"""Dead letters: one record shape for everything that is rejected, in batch and stream, replayable.

A dead letter is one rejected row with all its reasons. On disk it is one JSON object a line::

    {"reason": "schema.type", "detail": "...", "also": [{"reason": "rule.fare", "detail": "..."}], "stage": "read",
     "uri": "/data/a.csv", "position": 1042, "payload": "7,x,9", "payload_encoding": "text", "attempt": 1,
     "event_time": null, "run_id": "20260101T000000Z-1a2b3c4d"}

`payload` is what was rejected: the original bytes as `text`, or as `base64` where they are not UTF-8, or the row as
`json` (see `row_payload`). `position` has the unit of the source (`ReadRecords`).
"""

import base64
import collections
import dataclasses
import datetime
import json
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Self

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam import coders, pvalue
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.transforms import error_handling

from penstock.io import progress
from penstock.io.batches import EVENT_TIME, ORIGIN, feature_names, in_global_window
from penstock.io.cells import plain
from penstock.io.errors import RejectedRecordError

REJECTED = "rejected"

PayloadEncoding = Literal["text", "base64", "json"]

_JSON = json.JSONEncoder(ensure_ascii=False)

# What a read under a schema gives becomes Python values several times faster by way of numpy.
_NUMBERS = (pa.int64(), pa.float64())


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a row is rejected: a stable code such as `schema.type`, and a sentence with column and value."""

    code: str
    detail: str


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """One rejected row; `reasons` holds at least one."""

    reasons: tuple[Reason, ...]
    stage: str
    uri: str
    position: int
    payload: str
    payload_encoding: PayloadEncoding
    attempt: int = 1
    event_time: str | None = None

    def to_json(self, run_id: str = "") -> str:
        """The JSON object, without a line break."""
        first, *others = self.reasons
        return _JSON.encode(
            {
                "reason": first.code,
                "detail": first.detail,
                "also": [{"reason": other.code, "detail": other.detail} for other in others],
                "stage": self.stage,
                "uri": self.uri,
                "position": self.position,
                "payload": self.payload,
                "payload_encoding": self.payload_encoding,
                "attempt": self.attempt,
                "event_time": self.event_time,
                "run_id": run_id,
            }
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """The dead letter of one line; `run_id` is not kept."""
        fields = json.loads(line)
        first = Reason(fields["reason"], fields["detail"])
        others = (Reason(other["reason"], other["detail"]) for other in fields["also"])
        return cls(
            reasons=(first, *others),
            stage=fields["stage"],
            uri=fields["uri"],
            position=fields["position"],
            payload=fields["payload"],
            payload_encoding=fields["payload_encoding"],
            attempt=fields["attempt"],
            event_time=fields["event_time"],
        )


class DeadLetterCoder(coders.Coder):
    """Dead letters cross stages as their JSON."""

    def encode(self, value: DeadLetter) -> bytes:
        """UTF-8 JSON; lone surrogates cannot occur, since payloads are decoded strictly."""
        return value.to_json().encode()

    def decode(self, encoded: bytes) -> DeadLetter:
        """The inverse of `encode`."""
        return DeadLetter.from_json(encoded)

    def is_deterministic(self) -> bool:
        """True: the fields are written in one order."""
        return True

    def to_type_hint(self) -> type:
        """The element type."""
        return DeadLetter


coders.registry.register_coder(DeadLetter, DeadLetterCoder)


def raw_letter(
    reasons: Iterable[Reason], stage: str, uri: str, position: int, payload: bytes, event_time: str | None = None
) -> DeadLetter:
    """A dead letter whose payload is the original bytes, as text where they are UTF-8, else as base64."""
    encoding: PayloadEncoding = "text"
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(payload).decode(), "base64"
    return DeadLetter(tuple(reasons), stage, uri, position, text, encoding, event_time=event_time)


def row_letters(
    batch: pa.RecordBatch,
    reasons: Mapping[int, Iterable[Reason]],
    stage: str,
    payload: Callable[[int], bytes] | None = None,
) -> Iterator[DeadLetter]:
    """Dead letters for the rows of `batch` named in `reasons` (row index -> its reasons), in row order.

    Per-row Python: fine for rejects, which a job stops at 5 %.

    Args:
      batch: the rows; uri and position come from `_origin` ("" and -1 without it), the time from `_event_time`.
      reasons: row index to reasons, at least one each.
      stage: name of the step that rejects: read, validate, split, transform, write.
      payload: the original bytes of a row, where the caller has them; else the row goes along as JSON.
    """
    rows = sorted(reasons)
    taken = batch.take(pa.array(rows, pa.int64()))
    places = _places(taken)
    times = _iso_times(taken)
    if payload is None:
        payloads = _row_payloads(taken.select(feature_names(taken)))
        for row, (uri, position), text, time in zip(rows, places, payloads, times, strict=True):
            yield DeadLetter(tuple(reasons[row]), stage, uri, position, text, "json", event_time=time)
    else:
        for row, (uri, position), time in zip(rows, places, times, strict=True):
            yield raw_letter(reasons[row], stage, uri, position, payload(row), time)


def _places(batch: pa.RecordBatch) -> list[tuple[str, int]]:
    """Uri and position of each row."""
    if ORIGIN not in batch.schema.names:
        return [("", -1)] * batch.num_rows
    origin = batch.column(ORIGIN)
    return list(zip(*(_python_values(plain(origin.field(name))) for name in ("uri", "position")), strict=True))


def _row_payloads(batch: pa.RecordBatch) -> list[str]:
    """`row_payload` of each row, column by column."""
    names, columns = batch.schema.names, [_json_values(column) for column in batch.columns]
    rows = zip(*columns, strict=True) if columns else [()] * batch.num_rows
    return [
        _JSON.encode({name: value for name, value in zip(names, row, strict=True) if value is not None}) for row in rows
    ]


def _json_values(column: pa.Array) -> list[Any]:
    values = _python_values(column)
    return values if column.type in (pa.int64(), pa.string()) else list(map(_json_value, values))


def _python_values(column: pa.Array) -> list[Any]:
    if column.type in (pa.string(), pa.binary()) or (column.type in _NUMBERS and not column.null_count):
        return column.to_numpy(zero_copy_only=False).tolist()
    if column.type in _NUMBERS:
        values = column.fill_null(0).to_numpy().astype(object)
        values[column.is_null().to_numpy(zero_copy_only=False)] = None
        return values.tolist()
    try:
        return column.to_pylist()
    except (OverflowError, ValueError, ImportError):
        # Python's datetime ends with the year 9999 and with microseconds: such times stay numbers.
        inner = column.type.value_type if pa.types.is_list(column.type) else column.type
        number = pa.int32() if inner.bit_width == 32 else pa.int64()
        return column.cast(pa.list_(number) if pa.types.is_list(column.type) else number).to_pylist()


def _iso_times(batch: pa.RecordBatch) -> list[str | None]:
    if EVENT_TIME not in batch.schema.names:
        return [None] * batch.num_rows
    return pc.strftime(batch.column(EVENT_TIME), format="%Y-%m-%dT%H:%M:%SZ").to_pylist()


def row_payload(row: Mapping[str, Any]) -> str:
    """A row as JSON that the JSON Lines reader takes back: nulls left out, bytes as text where they are UTF-8.

    Bytes that are not UTF-8 become `{"base64": "..."}`, floats without a JSON spelling the strings NaN, Infinity and
    -Infinity, dates and times their ISO 8601 form, decimals and the rest their text.
    """
    return _JSON.encode({name: _json_value(value) for name, value in row.items() if value is not None})


def _json_value(value: Any) -> Any:
    match value:
        case str() | int():
            return value
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return str(value).replace("inf", "Infinity").replace("nan", "NaN")
        case None | float():
            return value
        case datetime.date() | datetime.time():
            return value.isoformat()
        case list():
            return [_json_value(item) for item in value]
        case dict():
            return {key: _json_value(item) for key, item in value.items()}
        case _:
            return str(value)


class RejectingTransform(beam.PTransform[Any, Any]):
    """Base of the transforms that may reject rows; follows Beam's `with_error_handler` convention.

    Without a handler the first bad record fails the pipeline with `RejectedRecordError`. With one, an
    `apache_beam.transforms.error_handling.ErrorHandler` or a `DeadLetterHandler`, it goes there as a `DeadLetter`.
    """

    _error_handler: error_handling.ErrorHandler | None = None

    def with_error_handler(self, error_handler: error_handling.ErrorHandler | None) -> Self:
        """Sends rejected rows to `error_handler`; None restores failing on the first."""
        self._error_handler = error_handler
        return self

    def _reject(self, rejected: beam.PCollection[DeadLetter]) -> None:
        """Hands the rejected records of this transform over; call it once for each rejecting step in `expand`."""
        if self._error_handler is None:
            steps = len(rejected.producer.parts) if rejected.producer else 0
            _ = rejected | f"FailOnRejected{steps}" >> beam.ParDo(_FailFn())
        else:
            self._error_handler.add_error_pcollection(rejected)


class _FailFn(beam.DoFn):
    def process(self, letter: DeadLetter) -> None:
        reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in letter.reasons)
        raise RejectedRecordError(
            f"{letter.uri or 'a record'} at {letter.position}, rejected by stage {letter.stage}: {reasons}; "
            "to collect bad records instead of failing, give the transform an error handler (with_error_handler)"
        )


@dataclasses.dataclass(frozen=True)
class DeadLetterFile:
    """One staged file of dead letters.

    Attributes:
      path: where it is staged.
      records: rows in it.
      reasons: how often each reason code occurs; they overlap, so their sum may exceed `records`.
      stages: rows by the stage that rejected them; the sum is `records`.
    """

    path: str
    records: int
    reasons: dict[str, int]
    stages: dict[str, int]


class DeadLetterHandler(error_handling.ErrorHandler):
    """An error handler that writes dead letters as JSON Lines files below `directory`.

    Each rejecting step is followed by its own writer, so that rejects stay inside that step's stage and only
    references to files (`DeadLetterFile`, from `output()` after `close()`) cross to the next: a local runner holds
    no reject in memory.
    """

    def __init__(self, directory: str, run_id: str):
        super().__init__(consumer=None)
        self._directory = directory
        self._run_id = run_id

    def close(self) -> None:
        """Writes what all the transforms rejected; a second call does nothing."""
        if self._closed:
            return
        writer = beam.ParDo(_WriteDeadLettersFn(self._directory, self._run_id))
        files = [
            rejected | f"WriteDeadLetters{index}" >> writer.with_output_types(DeadLetterFile)
            for index, rejected in enumerate(self._error_pcolls)
        ]
        self._output = tuple(files) | "DeadLetterFiles" >> beam.Flatten()
        self._closed = True

    def output(self) -> beam.PCollection[DeadLetterFile]:
        """The staged files; available after `close`."""
        return super().output()


class DiscardingHandler(error_handling.ErrorHandler):
    """Drops rejected rows: for a pass over input whose rejects another pass records."""

    def __init__(self) -> None:
        super().__init__(consumer=None)

    def add_error_pcollection(self, pcoll: beam.PCollection[DeadLetter]) -> None:
        """Nothing consumes them."""


class _WriteDeadLettersFn(beam.DoFn):
    """One file a bundle; a retried bundle leaves an unreferenced file behind, which goes with the staging folder."""

    def __init__(self, directory: str, run_id: str):
        self._directory = directory
        self._run_id = run_id

    def start_bundle(self) -> None:
        self._file: Any = None

    def process(self, letter: DeadLetter) -> None:
        if self._file is None:
            self._path = FileSystems.join(self._directory, f"{uuid.uuid4().hex}.jsonl")
            self._file = FileSystems.create(self._path, "text/plain", compression_type="uncompressed")
            self._records = 0
            self._reasons: collections.Counter[str] = collections.Counter()
            self._stages: collections.Counter[str] = collections.Counter()
        self._file.write(letter.to_json(self._run_id).encode() + b"\n")
        self._records += 1
        progress.add(rejected=1)
        self._stages[letter.stage] += 1
        for reason in letter.reasons:
            self._reasons[reason.code] += 1
            Metrics.counter("DeadLetters", reason.code).inc()

    def finish_bundle(self) -> Iterator[Any]:
        if self._file is None:
            return
        self._file.close()
        file = DeadLetterFile(self._path, self._records, dict(self._reasons), dict(self._stages))
        yield in_global_window(file)


def split_rejected(results: pvalue.DoOutputsTuple) -> tuple[beam.PCollection[Any], beam.PCollection[DeadLetter]]:
    """(good, rejected) of a ParDo made with `.with_outputs(REJECTED, main="out")`."""
    return results["out"], results[REJECTED]
