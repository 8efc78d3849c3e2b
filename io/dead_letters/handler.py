"""Dead letters: one replayable record shape for all rejected rows, in batch and stream.

A dead letter is one rejected row with all its reasons. On disk, each is one line with a JSON object::

    {"reason": "schema.type", "detail": "...", "also": [{"reason": "rule.fare", "detail": "..."}], "stage": "read",
     "uri": "/data/a.csv", "position": 1042, "payload": "7,x,9", "payload_encoding": "text", "attempt": 1,
     "event_time": null, "run_id": "20260101T000000Z-1a2b3c4d"}

`payload` is what was read, whichever step rejected it: the original bytes as `text`, or as `base64` if they are not
UTF-8, or the row as `json` if its source has types and no bytes for a row (`penstock.io.dead_letters.source`). Letters
of such rows, and of CSV, also have `payload_columns` (`DeadLetter`). `position` has the unit of the source
(`ReadRecords`).
"""

import collections
import contextlib
import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam import pvalue
from apache_beam.transforms import error_handling
from apache_beam.transforms.window import GlobalWindows, TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP

from penstock.io.batches import in_global_window
from penstock.io.beam import progress
from penstock.io.beam.coverage import InputRange, SeenPositions
from penstock.io.beam.json_coder import register_json
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.windows import Windows
from penstock.io.columns.event_times import FUTURE
from penstock.io.dead_letters.record import (
    DeadLetter,
    RejectedBatch,
)
from penstock.io.dead_letters.summaries import RejectSummaries
from penstock.io.errors import RejectedRecordError
from penstock.io.files import stores
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.reasons import Reason

REJECTED = "rejected"

# The most files that a bundle writes at the same time.
_MAX_FILES = 32

# Where letters are filed: the start of the window that they are of, if they are of one, and whether they are foreign
# to any (`DeadLetterFile`).
_Place = tuple[int | None, bool]


def reject(letters: RejectedBatch | Iterable[DeadLetter]) -> Iterator[Any]:
    """Yields the output of a DoFn for rejected rows: `yield from reject(row_letters(batch, reasons, "validate"))`.

    It is one element for all rows; none if there are no rows.
    """
    batch = letters if isinstance(letters, RejectedBatch) else RejectedBatch.of(letters)
    if len(batch):
        yield pvalue.TaggedOutput(REJECTED, batch)


class RejectingTransform(beam.PTransform[Any, Any]):
    """Base of the transforms that may reject rows.

    It follows Beam's convention `with_error_handler`. Without a handler, the first bad record fails the pipeline with
    `RejectedRecordError`. An `apache_beam.transforms.error_handling.ErrorHandler` gets each bad record as a
    `DeadLetter`. A `BatchErrorHandler`, such as `DeadLetterHandler`, gets a `RejectedBatch` at a time.
    """

    _error_handler: error_handling.ErrorHandler | None = None

    def with_error_handler(self, error_handler: error_handling.ErrorHandler | None) -> Self:
        """Sends rejected rows to `error_handler`; with None, the first one fails the pipeline again."""
        self._error_handler = error_handler
        return self

    def _reject(self, rejected: beam.PCollection[Any]) -> None:
        """Passes rejected records to the error handler; call it once for each rejecting step in `expand`.

        An element is a `RejectedBatch`, as `reject` yields it, or a single `DeadLetter`.
        """
        steps = len(rejected.producer.parts) if rejected.producer else 0
        if self._error_handler is None:
            _ = rejected | f"FailOnRejected{steps}" >> beam.Map(_fail)
        elif isinstance(self._error_handler, BatchErrorHandler):
            self._error_handler.add_error_pcollection(rejected)
        else:
            letters = rejected | f"Letters{steps}" >> beam.FlatMap(_dead_letters).with_output_types(DeadLetter)
            self._error_handler.add_error_pcollection(letters)


class BatchErrorHandler(error_handling.ErrorHandler):
    """Base of the error handlers that take batches of rejected rows (`RejectedBatch`), not single dead letters."""


def rejected_batch(element: RejectedBatch | DeadLetter) -> RejectedBatch:
    """Converts an element of a `BatchErrorHandler` to a batch: third-party transforms may reject single letters."""
    return element if isinstance(element, RejectedBatch) else RejectedBatch.of([element])


def _dead_letters(element: RejectedBatch | DeadLetter) -> Iterator[DeadLetter]:
    return iter(rejected_batch(element))


def _fail(element: RejectedBatch | DeadLetter) -> None:
    letter = next(iter(rejected_batch(element)))
    reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in letter.reasons)
    raise RejectedRecordError(
        f"{letter.uri or 'a record'} at {letter.position}, rejected by stage {letter.stage}: {reasons}; "
        "to collect bad records instead of failing, give the transform an error handler (with_error_handler)"
    )


@register_json
@dataclasses.dataclass(frozen=True)
class DeadLetterFile:
    """One staged dead-letter file.

    Attributes:
      path: path at which it is staged.
      records: number of rows.
      reasons: rows by reason code; a row may have several, so the sum may exceed `records`.
      stages: rows by the stage that rejected them; the sum is `records`.
      time: approximate event time of the rows, microseconds since 1970; None if unknown.
      summary: path of the state of a summary of its rows; empty for none.
      inputs: where the rows are, in any number of parts; also those that were left out, since the dataset has them
        already. If these are all, there is no file: `path` is empty.
      dated: whether `time` is the start of the window that the rows are of.
      foreign: whether the rows are no fault of the window that they are filed in: they are of another one, which has
        closed, or of none.
    """

    path: str
    records: int
    reasons: dict[str, int]
    stages: dict[str, int]
    time: int | None = None
    dated: bool = False
    foreign: bool = False
    inputs: tuple[InputRange, ...] = ()
    summary: str = ""


class DeadLetterHandler(BatchErrorHandler):
    """Writes dead letters as JSON Lines files below `directory`.

    Each rejecting step has its own writer, so rejects stay inside the stage of that step. Only references to files
    (`DeadLetterFile`, from `output()` after `close()`) pass to the next stage: a local runner holds no rejects in
    memory.
    """

    def __init__(self, directory: str, run_id: str):
        super().__init__(consumer=None)
        self._directory = directory
        self._run_id = run_id
        self._also: list[beam.PTransform[Any, Any]] = []
        self._rejected: list[_Rejected] = []
        self._files: beam.PCollection[DeadLetterFile] | None = None

    def also_to(self, sink: beam.PTransform[Any, Any]) -> Self:
        """Also passes each `RejectedBatch` of each step to `sink`, for example a `WriteToKafka`."""
        self._also.append(sink)
        return self

    @property
    def run_id(self) -> str:
        """The run that the dead letters name."""
        return self._run_id

    @property
    def sinks(self) -> Sequence[beam.PTransform[Any, Any]]:
        """The sinks that were given to `also_to`."""
        return tuple(self._also)

    @property
    def rejected(self) -> Sequence[beam.PCollection[Any]]:
        """What each step has rejected so far."""
        return [rejected.batches for rejected in self._rejected]

    def add_error_pcollection(self, pcoll: beam.PCollection[Any]) -> None:
        """Takes the rejects of one step."""
        self._take(pcoll, self._directory)

    def _take(self, rejected: beam.PCollection[Any], directory: str) -> None:
        """Registers rejects to be written to a folder. A subfolder keeps its name when published."""
        super().add_error_pcollection(rejected)  # registers this handler with the pipeline
        self._rejected.append(_Rejected(rejected, directory))

    def close(
        self,
        windows: Windows | None = None,
        seen: SeenPositions | None = None,
        summaries: RejectSummaries | None = None,
    ) -> None:
        """Writes the rejects of all transforms; a second call does nothing.

        With windows, each window has its own files, so that rejects count in the window of their event time. Letters of
        rows that are `seen` are left out: the dataset has them. With summaries, each file has one beside it.
        """
        if self._files is not None:
            return
        for index, rejected in enumerate(self._rejected):
            for number, sink in enumerate(self._also):
                _ = rejected.batches | f"AlsoDeadLetters{index}To{number}" >> sink
        files = [
            _in_global_window(rejected.batches, index)
            | f"WriteDeadLetters{index}"
            >> self._writer(rejected.directory, windows, seen, summaries).with_output_types(DeadLetterFile)
            for index, rejected in enumerate(self._rejected)
        ]
        self._files = tuple(files) | "DeadLetterFiles" >> beam.Flatten()

    def _writer(
        self,
        directory: str,
        windows: Windows | None,
        seen: SeenPositions | None,
        summaries: RejectSummaries | None,
    ) -> beam.ParDo:
        return beam.ParDo(_WriteDeadLettersFn(directory, self._run_id, windows, seen, summaries))

    def output(self) -> beam.PCollection[DeadLetterFile]:
        """The staged files; available after `close`.

        Raises:
          RuntimeError: before `close`.
        """
        if self._files is None:
            raise RuntimeError("the files of dead letters are known when their handler is closed: call close() before")
        return self._files

    def verify_closed(self) -> None:
        """Checks that rejects are not lost; Beam calls this when the pipeline runs.

        Raises:
          RuntimeError: if the handler was not closed, so that nothing writes the rejects.
        """
        if self._files is None:
            raise RuntimeError(
                f"the dead letters of {len(self._rejected)} steps would be lost: call close() on their handler, or "
                "give it to WriteDataset(dead_letters=...)"
            )


@dataclasses.dataclass(frozen=True)
class _Rejected:
    """The rejects of one step, and the folder that they are written to."""

    batches: beam.PCollection[Any]
    directory: str


def _in_global_window(rejected: beam.PCollection[Any], index: int) -> beam.PCollection[Any]:
    if isinstance(rejected.windowing.windowfn, GlobalWindows):
        return rejected
    return rejected | f"InGlobalWindow{index}" >> beam.WindowInto(GlobalWindows())


class DiscardingHandler(BatchErrorHandler):
    """Drops rejected rows, for a pass over input whose rejects another pass records."""

    def __init__(self) -> None:
        super().__init__(consumer=None)

    def add_error_pcollection(self, pcoll: beam.PCollection[Any]) -> None:
        """Ignores the rejects: nothing consumes them."""


class _WriteDeadLettersFn(beam.DoFn):
    """Writes one file per bundle, or one for each window in it.

    A retried bundle leaves an unreferenced file behind, which is deleted with the staging folder.
    """

    def __init__(
        self,
        directory: str,
        run_id: str,
        windows: Windows | None,
        seen: SeenPositions | None = None,
        summaries: RejectSummaries | None = None,
    ):
        self._directory = directory
        self._summaries = summaries
        self._run_id = run_id
        self._windows = windows
        self._seen = seen

    def start_bundle(self) -> None:
        self._files: dict[_Place, _DeadLettersFile] = {}
        self._skipped: list[InputRange] = []
        self._earliest = MAX_TIMESTAMP

    def process(self, element: RejectedBatch | DeadLetter, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        self._earliest = min(self._earliest, timestamp)
        batch = rejected_batch(element)
        if self._seen is not None:
            batch, skipped = _unseen(batch, self._seen)
            self._skipped += _inputs(skipped)
            if not len(batch):
                return
        progress.add(rejected=len(batch))
        RowCounters("DeadLetters").add_named(batch.reason_counts())
        for place, part in _by_place(batch, self._windows):
            if place not in self._files:
                if len(self._files) == _MAX_FILES:
                    yield TimestampedValue(self._close(next(iter(self._files))), self._earliest)
                self._files[place] = _DeadLettersFile(self._directory, self._summaries)
            self._files[place].add(part, self._run_id)

    def finish_bundle(self) -> Iterator[Any]:
        for place in list(self._files):
            yield in_global_window(self._close(place), self._earliest)
        if self._skipped:
            yield in_global_window(DeadLetterFile("", 0, {}, {}, inputs=tuple(self._skipped)), self._earliest)

    def _close(self, place: _Place) -> DeadLetterFile:
        """Closes the file of a place; letters that are of no window have the time at which they came."""
        start, is_foreign = place
        came = None if self._earliest <= MIN_TIMESTAMP else self._earliest.micros
        closed = self._files.pop(place).close(came if start is None else start)
        return dataclasses.replace(closed, dated=start is not None, foreign=is_foreign)


def _unseen(batch: RejectedBatch, seen: SeenPositions) -> tuple[RejectedBatch, RejectedBatch]:
    """Returns the letters that are not seen, and those that are."""
    uris, positions = np.array(batch.lists["uri"], object), np.array(batch.lists["position"], np.int64)
    is_seen = np.zeros(len(batch), bool)
    for uri in seen.uris & set(uris):
        own = uris == uri
        is_seen[own] = seen.contains(uri, positions[own])
    return _filtered(batch, ~is_seen), _filtered(batch, is_seen)


def _filtered(batch: RejectedBatch, rows: np.ndarray) -> RejectedBatch:
    return batch.filter(pa.array(rows))


def _inputs(batch: RejectedBatch) -> Iterator[InputRange]:
    uris, positions = batch.lists["uri"], batch.lists["position"]
    for uri in dict.fromkeys(uris):
        own = [position for name, position in zip(uris, positions, strict=True) if name == uri]
        yield InputRange(uri, min(own), max(own), len(own))


class _DeadLettersFile:
    """A dead-letter file that is being written."""

    def __init__(self, directory: str, summaries: RejectSummaries | None = None):
        self._summary = None if summaries is None else summaries.begin()
        self._path = stores.join(directory, f"{uuid.uuid4().hex}.jsonl")
        with self._writing():
            self._file = stores.create_file(self._path, "text/plain")
        self._records = 0
        self._reasons: collections.Counter[str] = collections.Counter()
        self._stages: collections.Counter[str] = collections.Counter()
        self._inputs: list[InputRange] = []

    def add(self, batch: RejectedBatch, run_id: str) -> None:
        """Writes a batch."""
        with self._writing():
            self._file.write("".join(f"{line}\n" for line in batch.json_lines(run_id)).encode())
        self._records += len(batch)
        self._stages += batch.stage_counts()
        self._reasons += batch.reason_counts()
        self._inputs += _inputs(batch)
        if self._summary is not None:
            self._summary.add(batch)

    def close(self, time: int | None) -> DeadLetterFile:
        """Closes the file."""
        with self._writing():
            self._file.close()
        return DeadLetterFile(
            self._path,
            self._records,
            dict(self._reasons),
            dict(self._stages),
            time,
            inputs=tuple(self._inputs),
            summary=self._summarized(),
        )

    def _summarized(self) -> str:
        """Writes the summary beside the file; returns its path."""
        if self._summary is None:
            return ""
        path = f"{self._path}.summary"
        with writing(path, OUTPUT_REMEDY), stores.create_file(path) as file:
            file.write(self._summary.to_bytes())
        return path

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self._path, OUTPUT_REMEDY)


def write_letters(
    directory: str, run_id: str, batches: Iterable[RejectedBatch], summaries: RejectSummaries | None = None
) -> DeadLetterFile:
    """Writes one staged dead-letter file, of rows of windows that have closed."""
    file = _DeadLettersFile(directory, summaries)
    for batch in batches:
        file.add(batch, run_id)
    return dataclasses.replace(file.close(None), foreign=True)


def _by_place(batch: RejectedBatch, windows: Windows | None) -> Iterator[tuple[_Place, RejectedBatch]]:
    """Splits letters by where they are filed."""
    if windows is None or not any(batch.lists["event_time"]):
        yield (None, False), batch
        return
    texts = batch.letters.column("event_time")
    times = texts.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    rows: dict[_Place, list[int]] = {}
    for row, (time, reasons) in enumerate(zip(times.to_pylist(), batch.lists["reasons"], strict=True)):
        if _is_future(reasons):
            place: _Place = (None, True)
        else:
            place = (None if time is None else windows.latest(time), False)
        rows.setdefault(place, []).append(row)
    for place, own in rows.items():
        indices = pa.array(own)
        yield (
            place,
            RejectedBatch(batch.letters.take(indices), None if batch.rows is None else batch.rows.take(indices)),
        )


def _is_future(reasons: Iterable[Reason]) -> bool:
    return any(reason.code == FUTURE for reason in reasons)


def split_rejected(results: pvalue.DoOutputsTuple) -> tuple[beam.PCollection[Any], beam.PCollection[RejectedBatch]]:
    """Returns (good, rejected) of a ParDo `.with_outputs(REJECTED, main="out")` whose DoFn yields from `reject`."""
    rejected = results[REJECTED]
    rejected.element_type = RejectedBatch
    return results["out"], rejected
