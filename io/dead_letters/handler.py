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
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms import error_handling
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP

from penstock.io.batches import in_global_window
from penstock.io.beam import progress
from penstock.io.beam.json_coder import register_json
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.windows import Windows
from penstock.io.dead_letters.record import (
    DeadLetter,
    RejectedBatch,
)
from penstock.io.errors import RejectedRecordError
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing

REJECTED = "rejected"

# The most window files that a bundle writes at the same time; letters of further windows share one file.
_MAX_FILES = 32


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
      reasons: how often each reason code occurs; a row may have several, so the sum may exceed `records`.
      stages: rows by the stage that rejected them; the sum is `records`.
      time: approximate event time of the rows, microseconds since 1970; None if unknown.
    """

    path: str
    records: int
    reasons: dict[str, int]
    stages: dict[str, int]
    time: int | None = None


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

    def add_error_pcollection(self, pcoll: beam.PCollection[Any]) -> None:
        """Takes the rejects of one step."""
        self._take(pcoll, self._directory)

    def _take(self, rejected: beam.PCollection[Any], directory: str) -> None:
        """Registers rejects to be written to a folder. A subfolder keeps its name when published."""
        super().add_error_pcollection(rejected)  # registers this handler with the pipeline
        self._rejected.append(_Rejected(rejected, directory))

    def close(self, windows: Windows | None = None) -> None:
        """Writes the rejects of all transforms; a second call does nothing.

        With windows, each window has its own files, so that rejects count in the window of their event time.
        """
        if self._files is not None:
            return
        for index, rejected in enumerate(self._rejected):
            for number, sink in enumerate(self._also):
                _ = rejected.batches | f"AlsoDeadLetters{index}To{number}" >> sink
        files = [
            _in_global_window(rejected.batches, index)
            | f"WriteDeadLetters{index}" >> self._writer(rejected.directory, windows).with_output_types(DeadLetterFile)
            for index, rejected in enumerate(self._rejected)
        ]
        self._files = tuple(files) | "DeadLetterFiles" >> beam.Flatten()

    def _writer(self, directory: str, windows: Windows | None) -> beam.ParDo:
        return beam.ParDo(_WriteDeadLettersFn(directory, self._run_id, windows))

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

    def __init__(self, directory: str, run_id: str, windows: Windows | None):
        self._directory = directory
        self._run_id = run_id
        self._windows = windows

    def start_bundle(self) -> None:
        self._files: dict[int | None, _DeadLettersFile] = {}
        self._earliest = MAX_TIMESTAMP

    def process(self, element: RejectedBatch | DeadLetter, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        self._earliest = min(self._earliest, timestamp)
        batch = rejected_batch(element)
        progress.add(rejected=len(batch))
        RowCounters("DeadLetters").add_named(batch.reason_counts())
        for start, part in _by_window(batch, self._windows):
            key = start if start in self._files or len(self._files) < _MAX_FILES else None
            if key not in self._files:
                self._files[key] = _DeadLettersFile(self._directory)
            self._files[key].add(part, self._run_id)

    def finish_bundle(self) -> Iterator[Any]:
        known = None if self._earliest <= MIN_TIMESTAMP else self._earliest.micros
        for start, file in self._files.items():
            yield in_global_window(file.close(known if start is None else start), self._earliest)


class _DeadLettersFile:
    """A dead-letter file that is being written."""

    def __init__(self, directory: str):
        self._path = FileSystems.join(directory, f"{uuid.uuid4().hex}.jsonl")
        with self._writing():
            self._file = FileSystems.create(self._path, "text/plain", compression_type="uncompressed")
        self._records = 0
        self._reasons: collections.Counter[str] = collections.Counter()
        self._stages: collections.Counter[str] = collections.Counter()

    def add(self, batch: RejectedBatch, run_id: str) -> None:
        """Writes a batch."""
        with self._writing():
            self._file.write("".join(f"{line}\n" for line in batch.json_lines(run_id)).encode())
        self._records += len(batch)
        self._stages += batch.stage_counts()
        self._reasons += batch.reason_counts()

    def close(self, time: int | None) -> DeadLetterFile:
        """Closes the file."""
        with self._writing():
            self._file.close()
        return DeadLetterFile(self._path, self._records, dict(self._reasons), dict(self._stages), time)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self._path, OUTPUT_REMEDY)


def write_letters(directory: str, run_id: str, batches: Iterable[RejectedBatch]) -> DeadLetterFile:
    """Writes one staged dead-letter file."""
    file = _DeadLettersFile(directory)
    for batch in batches:
        file.add(batch, run_id)
    return file.close(None)


def _by_window(batch: RejectedBatch, windows: Windows | None) -> Iterator[tuple[int | None, RejectedBatch]]:
    """Splits letters by the start of their window; None for letters without a time."""
    if windows is None or not any(batch.lists["event_time"]):
        yield None, batch
        return
    texts = batch.letters.column("event_time")
    times = texts.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    starts = np.array([None if time is None else windows.latest(time) for time in times.to_pylist()], object)
    for start in dict.fromkeys(starts.tolist()):
        rows = np.flatnonzero(starts == start)
        yield start, RejectedBatch(batch.letters.take(pa.array(rows)))


def split_rejected(results: pvalue.DoOutputsTuple) -> tuple[beam.PCollection[Any], beam.PCollection[RejectedBatch]]:
    """Returns (good, rejected) of a ParDo `.with_outputs(REJECTED, main="out")` whose DoFn yields from `reject`."""
    rejected = results[REJECTED]
    rejected.element_type = RejectedBatch
    return results["out"], rejected
