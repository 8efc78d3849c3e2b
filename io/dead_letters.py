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
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam import coders, pvalue
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.transforms import error_handling
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP

from penstock.io import progress
from penstock.io.batches import ATTEMPT, EVENT_TIME, ORIGIN, RecordBatchCoder, feature_names, in_global_window
from penstock.io.cells import plain
from penstock.io.errors import RejectedRecordError
from penstock.io.json_coder import register_json
from penstock.io.payloads import json_text, row_payloads
from penstock.io.payloads import row_payload as row_payload
from penstock.io.windows import Windows

REJECTED = "rejected"

PayloadEncoding = Literal["text", "base64", "json"]

_JSON = json.JSONEncoder(ensure_ascii=False)

# Files of a bundle that are written at the same time; letters of further windows share one.
_MAX_FILES = 32

REASON_TYPE = pa.struct([("code", pa.string()), ("detail", pa.string())])

# The columns of a `RejectedBatch`: the fields of a `DeadLetter`.
LETTERS = pa.schema(
    [
        ("reasons", pa.list_(REASON_TYPE)),
        ("stage", pa.string()),
        ("uri", pa.string()),
        ("position", pa.int64()),
        ("payload", pa.string()),
        ("payload_encoding", pa.string()),
        ("attempt", pa.int64()),
        ("event_time", pa.string()),
    ]
)


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
    text, encoding = _as_text(payload)
    return DeadLetter(tuple(reasons), stage, uri, position, text, encoding, event_time=event_time)


def _as_text(payload: bytes) -> tuple[str, PayloadEncoding]:
    try:
        return payload.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode(), "base64"


@dataclasses.dataclass(frozen=True, eq=False)
class RejectedBatch:
    """Dead letters as columns: the element between the transforms that reject and what takes the rejects.

    Iterating over it gives a `DeadLetter` each; it is columns because objects cost ten times as much.

    Attributes:
      letters: the columns of `LETTERS`; `reasons` has at least one a row.
    """

    letters: pa.RecordBatch

    @classmethod
    def of(cls, letters: Iterable[DeadLetter]) -> Self:
        """The columns of some dead letters."""
        letters = list(letters)
        columns = {
            field.name: pa.array([getattr(letter, field.name) for letter in letters], field.type)
            for field in list(LETTERS)[1:]
        }
        reasons = _reason_lists([letter.reasons for letter in letters])
        return cls(pa.RecordBatch.from_arrays([reasons, *columns.values()], schema=LETTERS))

    def __len__(self) -> int:
        """How many rows were rejected."""
        return int(self.letters.num_rows)

    def __iter__(self) -> Iterator[DeadLetter]:
        """One by one."""
        for row in self.letters.to_pylist():
            yield DeadLetter(**row | {"reasons": tuple(Reason(**reason) for reason in row["reasons"])})

    def reason_counts(self) -> collections.Counter[str]:
        """How often each code occurs; a row with two reasons counts for both."""
        return collections.Counter(self.letters.column("reasons").flatten().field("code").to_pylist())

    def stage_counts(self) -> collections.Counter[str]:
        """Rows by the stage that rejected them."""
        return collections.Counter(self.letters.column("stage").to_pylist())

    def json_lines(self, run_id: str = "") -> list[str]:
        """`DeadLetter.to_json` of each row."""
        reasons = self._json_reasons()
        columns = self.letters.to_pydict()
        run = json_text(run_id)
        return [
            f'{{{why}, "stage": {json_text(stage)}, "uri": {json_text(uri)}, "position": {position}, "payload": '
            f'{json_text(payload)}, "payload_encoding": "{encoding}", "attempt": {attempt}, "event_time": '
            f'{"null" if time is None else json_text(time)}, "run_id": {run}}}'
            for why, stage, uri, position, payload, encoding, attempt, time in zip(
                reasons, *(columns[name] for name in LETTERS.names[1:]), strict=True
            )
        ]

    def _json_reasons(self) -> Iterator[str]:
        """`"reason": ..., "detail": ..., "also": [...]` for each row."""
        lists = self.letters.column("reasons")
        reasons = lists.flatten()
        pairs = zip(reasons.field("code").to_pylist(), reasons.field("detail").to_pylist(), strict=True)
        texts = [f'"reason": {json_text(code)}, "detail": {json_text(detail)}' for code, detail in pairs]
        start = 0
        for count in pc.list_value_length(lists).to_pylist():
            also = ", ".join(f"{{{text}}}" for text in texts[start + 1 : start + count]) if count > 1 else ""
            yield f'{texts[start]}, "also": [{also}]'
            start += count


class RejectedBatchCoder(coders.Coder):
    """Rejected batches cross stages as Arrow."""

    def encode(self, value: RejectedBatch) -> bytes:
        """An Arrow IPC stream."""
        return RecordBatchCoder().encode(value.letters)

    def decode(self, encoded: bytes) -> RejectedBatch:
        """The inverse of `encode`."""
        return RejectedBatch(RecordBatchCoder().decode(encoded))

    def is_deterministic(self) -> bool:
        """False: see `RecordBatchCoder`."""
        return False

    def to_type_hint(self) -> type:
        """The element type."""
        return RejectedBatch


coders.registry.register_coder(RejectedBatch, RejectedBatchCoder)


def row_letters(
    batch: pa.RecordBatch,
    reasons: Mapping[int, Iterable[Reason]],
    stage: str,
    payload: Callable[[int], bytes] | None = None,
) -> RejectedBatch:
    """Dead letters for the rows of `batch` named in `reasons` (row index -> its reasons), in row order.

    Args:
      batch: the rows; uri and position come from `_origin` ("" and -1 without it), the time from
        `_event_time`, the attempt from `_attempt` (1 without it).
      reasons: row index to reasons, at least one each.
      stage: name of the step that rejects: read, validate, split, transform, write.
      payload: the original bytes of a row, where the caller has them; else the row goes along as JSON.
    """
    rows = sorted(reasons)
    wanted = [name for name in (ORIGIN, EVENT_TIME, ATTEMPT) if name in batch.schema.names]
    features = [] if payload else feature_names(batch)
    taken = batch.select([*features, *wanted]).take(pa.array(rows, pa.int64()))
    if payload:
        texts = [_as_text(payload(row)) for row in rows]
    else:
        texts = [(text, "json") for text in row_payloads(taken.select(features))]
    columns = [
        _reason_lists([tuple(reasons[row]) for row in rows]),
        pa.repeat(stage, len(rows)),
        *_places(taken, len(rows)),
        pa.array([text for text, _ in texts], pa.string()),
        pa.array([encoding for _, encoding in texts], pa.string()),
        _attempts(taken, len(rows)),
        _iso_times(taken, len(rows)),
    ]
    return RejectedBatch(pa.RecordBatch.from_arrays(columns, schema=LETTERS))


def _reason_lists(rows: Sequence[Sequence[Reason]]) -> pa.ListArray:
    reasons = [reason for row in rows for reason in row]
    texts = [[reason.code for reason in reasons], [reason.detail for reason in reasons]]
    structs = pa.StructArray.from_arrays([pa.array(text, pa.string()) for text in texts], fields=list(REASON_TYPE))
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *map(len, rows)]), pa.int32()), structs)


def _places(batch: pa.RecordBatch, rows: int) -> tuple[pa.Array, pa.Array]:
    """Uri and position of each row."""
    if ORIGIN not in batch.schema.names:
        return pa.repeat("", rows), pa.repeat(pa.scalar(-1, pa.int64()), rows)
    origin = batch.column(ORIGIN)
    return plain(origin.field("uri")), origin.field("position")


def _attempts(batch: pa.RecordBatch, rows: int) -> pa.Array:
    return batch.column(ATTEMPT) if ATTEMPT in batch.schema.names else pa.repeat(pa.scalar(1, pa.int64()), rows)


def _iso_times(batch: pa.RecordBatch, rows: int) -> pa.Array:
    if EVENT_TIME not in batch.schema.names:
        return pa.nulls(rows, pa.string())
    return pc.strftime(batch.column(EVENT_TIME), format="%Y-%m-%dT%H:%M:%SZ")


def reject(letters: RejectedBatch | Iterable[DeadLetter]) -> Iterator[Any]:
    """What a DoFn yields for rejected rows: `yield from reject(row_letters(batch, reasons, "validate"))`.

    One element for all of them; none where there is no row.
    """
    batch = letters if isinstance(letters, RejectedBatch) else RejectedBatch.of(letters)
    if len(batch):
        yield pvalue.TaggedOutput(REJECTED, batch)


class RejectingTransform(beam.PTransform[Any, Any]):
    """Base of the transforms that may reject rows; follows Beam's `with_error_handler` convention.

    Without a handler the first bad record fails the pipeline with `RejectedRecordError`. With an
    `apache_beam.transforms.error_handling.ErrorHandler` it goes there as a `DeadLetter`; a `BatchErrorHandler`, such as
    `DeadLetterHandler`, gets whole `RejectedBatch`es.
    """

    _error_handler: error_handling.ErrorHandler | None = None

    def with_error_handler(self, error_handler: error_handling.ErrorHandler | None) -> Self:
        """Sends rejected rows to `error_handler`; None restores failing on the first."""
        self._error_handler = error_handler
        return self

    def _reject(self, rejected: beam.PCollection[Any]) -> None:
        """Hands the rejected records of this transform over; call it once for each rejecting step in `expand`.

        Elements are `RejectedBatch`es, as `reject` gives them; single `DeadLetter`s do as well.
        """
        steps = len(rejected.producer.parts) if rejected.producer else 0
        if self._error_handler is None:
            _ = rejected | f"FailOnRejected{steps}" >> beam.ParDo(_FailFn())
        elif isinstance(self._error_handler, BatchErrorHandler):
            self._error_handler.add_error_pcollection(rejected)
        else:
            letters = rejected | f"Letters{steps}" >> beam.ParDo(_LettersFn()).with_output_types(DeadLetter)
            self._error_handler.add_error_pcollection(letters)


class BatchErrorHandler(error_handling.ErrorHandler):
    """Base of the error handlers that take `RejectedBatch`es from Penstock's transforms, instead of single letters."""


def rejected_batch(element: RejectedBatch | DeadLetter) -> RejectedBatch:
    """What a `BatchErrorHandler` is given, as a batch: transforms of others may reject single letters."""
    return element if isinstance(element, RejectedBatch) else RejectedBatch.of([element])


class _LettersFn(beam.DoFn):
    def process(self, element: RejectedBatch | DeadLetter) -> Iterator[DeadLetter]:
        return iter(rejected_batch(element))


class _FailFn(beam.DoFn):
    def process(self, element: RejectedBatch | DeadLetter) -> None:
        letter = next(iter(rejected_batch(element)))
        reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in letter.reasons)
        raise RejectedRecordError(
            f"{letter.uri or 'a record'} at {letter.position}, rejected by stage {letter.stage}: {reasons}; "
            "to collect bad records instead of failing, give the transform an error handler (with_error_handler)"
        )


@register_json
@dataclasses.dataclass(frozen=True)
class DeadLetterFile:
    """One staged file of dead letters.

    Attributes:
      path: where it is staged.
      records: rows in it.
      reasons: how often each reason code occurs; they overlap, so their sum may exceed `records`.
      stages: rows by the stage that rejected them; the sum is `records`.
      time: about when they happened, microseconds since 1970; None where nothing tells.
    """

    path: str
    records: int
    reasons: dict[str, int]
    stages: dict[str, int]
    time: int | None = None


class DeadLetterHandler(BatchErrorHandler):
    """An error handler that writes dead letters as JSON Lines files below `directory`.

    Each rejecting step is followed by its own writer, so that rejects stay inside that step's stage and only
    references to files (`DeadLetterFile`, from `output()` after `close()`) cross to the next: a local runner holds
    no reject in memory.
    """

    def __init__(self, directory: str, run_id: str):
        super().__init__(consumer=None)
        self._directory = directory
        self._run_id = run_id
        self._windows: Windows | None = None
        self._also: list[beam.PTransform[Any, Any]] = []

    def also_to(self, sink: beam.PTransform[Any, Any]) -> Self:
        """Gives what each step rejects to `sink` as well, such as a `WriteToKafka`: `RejectedBatch`es."""
        self._also.append(sink)
        return self

    def close(self, windows: Windows | None = None) -> None:
        """Writes what all the transforms rejected; a second call does nothing.

        With windows, each has its own files, so that rejects are counted where their event times lie.
        """
        if self._closed:
            return
        self._windows = windows
        for index, rejected in enumerate(self._error_pcolls):
            for number, sink in enumerate(self._also):
                _ = rejected | f"AlsoDeadLetters{index}To{number}" >> sink
        files = [
            _in_global_window(rejected, index)
            | f"WriteDeadLetters{index}" >> self._writer(index).with_output_types(DeadLetterFile)
            for index, rejected in enumerate(self._error_pcolls)
        ]
        self._output = tuple(files) | "DeadLetterFiles" >> beam.Flatten()
        self._closed = True

    def _writer(self, index: int) -> beam.ParDo:
        return beam.ParDo(_WriteDeadLettersFn(self._folder(index), self._run_id, self._windows))

    def _folder(self, index: int) -> str:
        """Where the rejects of one step are written; a folder inside the directory keeps its name when published."""
        return self._directory

    def output(self) -> beam.PCollection[DeadLetterFile]:
        """The staged files; available after `close`."""
        return super().output()


def _in_global_window(rejected: beam.PCollection[Any], index: int) -> beam.PCollection[Any]:
    if isinstance(rejected.windowing.windowfn, GlobalWindows):
        return rejected
    return rejected | f"InGlobalWindow{index}" >> beam.WindowInto(GlobalWindows())


class DiscardingHandler(BatchErrorHandler):
    """Drops rejected rows: for a pass over input whose rejects another pass records."""

    def __init__(self) -> None:
        super().__init__(consumer=None)

    def add_error_pcollection(self, pcoll: beam.PCollection[Any]) -> None:
        """Nothing consumes them."""


class _WriteDeadLettersFn(beam.DoFn):
    """One file a bundle, or one for each window in it.

    A retried bundle leaves an unreferenced file behind, which goes with the staging folder.
    """

    def __init__(self, directory: str, run_id: str, windows: Windows | None):
        self._directory = directory
        self._run_id = run_id
        self._windows = windows

    def start_bundle(self) -> None:
        self._files: dict[int | None, _LettersFile] = {}
        self._earliest = MAX_TIMESTAMP

    def process(self, element: RejectedBatch | DeadLetter, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        self._earliest = min(self._earliest, timestamp)
        batch = rejected_batch(element)
        progress.add(rejected=len(batch))
        for code, count in batch.reason_counts().items():
            Metrics.counter("DeadLetters", code).inc(count)
        for start, part in _by_window(batch, self._windows):
            key = start if start in self._files or len(self._files) < _MAX_FILES else None
            if key not in self._files:
                self._files[key] = _LettersFile(self._directory)
            self._files[key].add(part, self._run_id)

    def finish_bundle(self) -> Iterator[Any]:
        known = None if self._earliest <= MIN_TIMESTAMP else self._earliest.micros
        for start, file in self._files.items():
            yield in_global_window(file.close(known if start is None else start), self._earliest)


class _LettersFile:
    """A file of dead letters while it is written."""

    def __init__(self, directory: str):
        self._path = FileSystems.join(directory, f"{uuid.uuid4().hex}.jsonl")
        self._file = FileSystems.create(self._path, "text/plain", compression_type="uncompressed")
        self._records = 0
        self._reasons: collections.Counter[str] = collections.Counter()
        self._stages: collections.Counter[str] = collections.Counter()

    def add(self, batch: RejectedBatch, run_id: str) -> None:
        """Writes some more."""
        self._file.write("".join(f"{line}\n" for line in batch.json_lines(run_id)).encode())
        self._records += len(batch)
        self._stages += batch.stage_counts()
        self._reasons += batch.reason_counts()

    def close(self, time: int | None) -> DeadLetterFile:
        """Ends the file."""
        self._file.close()
        return DeadLetterFile(self._path, self._records, dict(self._reasons), dict(self._stages), time)


def write_letters(directory: str, run_id: str, batches: Iterable[RejectedBatch]) -> DeadLetterFile:
    """One staged file of dead letters."""
    file = _LettersFile(directory)
    for batch in batches:
        file.add(batch, run_id)
    return file.close(None)


def _by_window(batch: RejectedBatch, windows: Windows | None) -> Iterator[tuple[int | None, RejectedBatch]]:
    """The letters by the start of their window, None for those without a time."""
    texts = batch.letters.column("event_time")
    if windows is None or texts.null_count == len(texts):
        yield None, batch
        return
    times = texts.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    starts = np.array([None if time is None else windows.latest(time) for time in times.to_pylist()], object)
    for start in dict.fromkeys(starts.tolist()):
        rows = np.flatnonzero(starts == start)
        yield start, RejectedBatch(batch.letters.take(pa.array(rows)))


def split_rejected(results: pvalue.DoOutputsTuple) -> tuple[beam.PCollection[Any], beam.PCollection[RejectedBatch]]:
    """(good, rejected) of a ParDo made with `.with_outputs(REJECTED, main="out")` whose DoFn yields from `reject`."""
    rejected = results[REJECTED]
    rejected.element_type = RejectedBatch
    return results["out"], rejected
