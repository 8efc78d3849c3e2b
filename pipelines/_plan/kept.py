"""Rows that are read and checked once: kept as columns on this machine's disk, while features are fitted to them.

What comes out of the checks of a job is of two kinds, the rows and the rejects of each step. Bundles append both to
files, and only references to files leave them. A file is a sequence of Arrow streams of one batch each, since batches
of one input may differ in their columns and notes; rejects are written as their coder has them.
"""

import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.error_handling import ErrorHandler
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import in_global_window
from penstock.io.beam import progress
from penstock.io.beam.stable_input import tries_once
from penstock.io.dead_letters.first import FirstRejects
from penstock.io.dead_letters.handler import BatchErrorHandler, rejected_batch
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, RejectedBatchCoder
from penstock.io.files.system_errors import SPILL_REMEDY, writing

# A file is what a worker takes at once when the rows are read again.
_MAX_FILE_BYTES = 64 << 20

_INDEX = "kept.json"
_ROWS, _REJECTS = ".rows", ".rejects"
_SIZE_BYTES = 8


@dataclasses.dataclass(frozen=True)
class KeptRows:
    """Rows in a folder, which is removed when they are no longer needed (`remove`).

    Attributes:
      folder: on a disk that all workers share.
    """

    folder: str

    def keep(self, rows_in: beam.PCollection[int], rows: beam.PCollection[pa.RecordBatch], by: "KeepRejects") -> None:
        """Keeps rows, the rejects that a handler was given, and how many rows were read."""
        files = [rows | "KeepRows" >> beam.ParDo(_KeepRowsFn(self.folder)).with_output_types(str), *by.files]
        named = [
            each | f"OfStep{step}" >> beam.Map(_named, step).with_output_types(tuple[int, str])
            for step, each in enumerate(files)
        ]
        total = beam.pvalue.AsSingleton(rows_in | "AddUp" >> beam.CombineGlobally(sum))
        listed = named | "AllFiles" >> beam.Flatten() | "List" >> beam.combiners.ToList()
        _ = listed | "WriteIndex" >> beam.Map(_write_index, total, len(by.files), self.folder)

    def read(self, pipeline: beam.Pipeline, handler: ErrorHandler) -> tuple[Any, beam.PCollection[pa.RecordBatch]]:
        """Returns how many rows were read, in parts, and the rows; the handler takes the rejects, step by step."""
        with open(os.path.join(self.folder, _INDEX), encoding="utf-8") as file:
            index = json.load(file)
        once = tries_once(pipeline)
        steps: list[list[str]] = [[] for _ in range(index["steps"] + 1)]
        for step, path in index["files"]:
            steps[step].append(path)
        for step, paths in enumerate(steps[1:]):
            read = beam.ParDo(_ReadRejectsFn(once)).with_output_types(RejectedBatch)
            handler.add_error_pcollection(_spread(pipeline, f"Rejects{step}", paths) | f"ReadRejects{step}" >> read)
        progress.plan(kept=len(steps[0]))
        batches = beam.ParDo(_ReadRowsFn(once)).with_output_types(pa.RecordBatch)
        rows = _spread(pipeline, "Rows", steps[0]) | "ReadRows" >> batches
        return pipeline | "RowsIn" >> beam.Create([index["rows_in"]], reshuffle=False), rows

    def rejects(self) -> FirstRejects:
        """Returns the first of the rejects, also of a pipeline that failed."""
        found = FirstRejects()
        for name in sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else ():
            if name.endswith(_REJECTS):
                for batch in _read_rejects(os.path.join(self.folder, name)):
                    found = found.merge(FirstRejects.of(batch))
        return found

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class KeepRejects(BatchErrorHandler):
    """Keeps rejected rows in a folder, apart for each step that rejects them.

    Attributes:
      files: of each step, the names of its files.
    """

    def __init__(self, folder: str):
        super().__init__(consumer=None)
        self._folder = folder
        self.files: list[beam.PCollection[str]] = []

    def add_error_pcollection(self, pcoll: beam.PCollection[Any]) -> None:
        """Takes the rejects of one step."""
        keep = beam.ParDo(_KeepRejectsFn(self._folder)).with_output_types(str)
        self.files.append(pcoll | f"KeepRejects{len(self.files)}" >> keep)


def _named(path: str, step: int) -> tuple[int, str]:
    return step, path


def _write_index(files: list[tuple[int, str]], rows_in: int, steps: int, folder: str) -> None:
    path = os.path.join(folder, _INDEX)
    os.makedirs(folder, exist_ok=True)
    with writing(path, SPILL_REMEDY), open(path, "w", encoding="utf-8") as file:
        json.dump({"rows_in": rows_in, "steps": steps, "files": sorted(files)}, file)


def _spread(pipeline: beam.Pipeline, name: str, paths: list[str]) -> beam.PCollection[str]:
    made = pipeline | name >> beam.Create(paths, reshuffle=False).with_output_types(str)
    return made | f"Spread{name}" >> beam.Reshuffle()


class _KeepFn(beam.DoFn):
    """Appends elements to files; gives the name of each file when it is closed."""

    suffix: str

    def __init__(self, folder: str):
        self._folder = folder

    def start_bundle(self) -> None:
        self._file: Any = None

    def process(self, element: Any) -> Iterator[str]:
        if self._file is None:
            os.makedirs(self._folder, exist_ok=True)
            self._path = os.path.join(self._folder, f"{uuid.uuid4().hex}{self.suffix}")
            with writing(self._path, SPILL_REMEDY):
                self._file = pa.OSFile(self._path, "wb")
        with writing(self._path, SPILL_REMEDY):
            self._append(element)
            full = self._file.tell() >= _MAX_FILE_BYTES
        if full:
            yield self._closed()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._file is not None:
            yield in_global_window(self._closed())

    def _append(self, element: Any) -> None:
        raise NotImplementedError

    def _closed(self) -> str:
        with writing(self._path, SPILL_REMEDY):
            self._file.close()
        self._file = None
        return self._path


class _KeepRowsFn(_KeepFn):
    suffix = _ROWS

    def _append(self, element: pa.RecordBatch) -> None:
        with pa.ipc.new_stream(self._file, element.schema) as writer:
            writer.write_batch(element)


class _KeepRejectsFn(_KeepFn):
    suffix = _REJECTS

    def _append(self, element: RejectedBatch | DeadLetter) -> None:
        content = RejectedBatchCoder().encode(rejected_batch(element))
        self._file.write(len(content).to_bytes(_SIZE_BYTES, "little") + content)


class _ReadFn(beam.DoFn):
    """Reads files; with `once`, each is deleted when its elements are passed on, so that its place is free at once."""

    def __init__(self, once: bool):
        self._once = once

    def process(self, path: str) -> Iterator[Any]:
        yield from self._elements(path)
        if self._once:
            os.remove(path)

    def _elements(self, path: str) -> Iterable[Any]:
        raise NotImplementedError


class _ReadRowsFn(_ReadFn):
    def _elements(self, path: str) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(path) as file:  # not mapped: mapped pages count as memory of the process
            while file.tell() < file.size():
                yield from pa.ipc.open_stream(file)
        progress.add(kept=1)


class _ReadRejectsFn(_ReadFn):
    def _elements(self, path: str) -> Iterator[RejectedBatch]:
        return _read_rejects(path)


def _read_rejects(path: str) -> Iterator[RejectedBatch]:
    with open(path, "rb") as file:
        while size := file.read(_SIZE_BYTES):
            yield RejectedBatchCoder().decode(file.read(int.from_bytes(size, "little")))
