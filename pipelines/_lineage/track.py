"""Tells who wants to know (`LineageTarget`) that a run begins, how far it is, and how it ends."""

import contextlib
import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import StandardOptions

from penstock.io.dataset.load.shards.choose import open_reader
from penstock.io.dataset.load.shards.contents import read_contents
from penstock.io.dataset.options import IN_STATISTICS, OUT_STATISTICS
from penstock.io.files import stores
from penstock.io.sources.base import Source
from penstock.transforms.statistics.files import read_list
from penstock.transforms.statistics.statistics import ALL_EXAMPLES
from pipelines._lineage.events import (
    EventType,
    Facet,
    RunOfJob,
    State,
    Written,
    input_dataset,
    merge_metrics,
    output_dataset,
    quality_metrics,
)
from pipelines._lineage.names import dataset_name, datasets_read
from pipelines._lineage.transport import Delivery, FileTransport, HttpTransport, Transport
from pipelines._options.dataset import DatasetJobOptions
from pipelines._options.lineage import LineageTarget
from pipelines._report.printable import mapped, masked
from pipelines._report.result import DatasetResult, failure
from pipelines._report.windows import PublishedWindows
from pipelines._run.job import is_local

_LOGGER = logging.getLogger(__name__)

_T = TypeVar("_T")

# How often a stream is looked at; each look that finds something new is an event.
_LOOK_SECONDS = 10.0


class Tracked:
    """A run of which somebody may be told; its result says so when it has ended well."""

    def ended(self, result: DatasetResult) -> DatasetResult:
        """Tells how the run ended, and returns its result with who was told."""
        return result


@contextlib.contextmanager
def tracking(options: DatasetJobOptions, source: Source, run_id: str) -> Iterator[Tracked]:
    """Tells that a run begins and, where the block fails, how it failed; `Tracked.ended` tells that it has not.

    A stream that goes on elsewhere when this process ends has no end to be told of.
    """
    target = None if options.run.is_translated else LineageTarget.of(options.lineage)
    if target is None:
        yield Tracked()
        return
    told = _Told(options, source, run_id, target)
    told.begin()
    try:
        yield told
    except BaseException as error:
        told.failed(error)
        raise


class _Told(Tracked):
    def __init__(self, options: DatasetJobOptions, source: Source, run_id: str, target: LineageTarget):
        self._options, self._target = options, target
        self._output = str(options.output.output)
        self._streams = not source.is_bounded
        self._run = RunOfJob(
            run_id=run_id,
            namespace=target.namespace,
            name=target.job or f"{options.name}.{self._output.rstrip('/').rpartition('/')[2]}",
            flags=mapped(options.resolved(), masked),
            streaming=self._streams,
            engine=(f"Apache Beam, {_runner_of(options)}", beam.__version__),
            parent=target.parent,
        )
        given: Sequence[str] = getattr(options.input, "input", ()) or getattr(options.input, "dead_letters", ())
        self._inputs = _tried(lambda: datasets_read(source.inputs(), given)) or {}
        self._done = threading.Event()
        self._result: DatasetResult | None = None
        self._delivery = Delivery(_transports(target))

    def begin(self) -> None:
        self._put(lambda: self._event("START"))
        if self._streams:
            threading.Thread(target=self._look_on, name="openlineage-windows", daemon=True).start()

    def ended(self, result: DatasetResult) -> DatasetResult:
        self._done.set()
        self._result = result
        self._put(lambda: self._event("COMPLETE"))
        return dataclasses.replace(result, openlineage=self._target.described if self._delivery.finish() else None)

    def failed(self, error: BaseException) -> None:
        self._done.set()
        if self._result is not None:
            return  # it is published, and only the telling was interrupted
        if isinstance(error, KeyboardInterrupt) and self._goes_on():
            self._delivery.finish()
            return
        kind: EventType = "ABORT" if isinstance(error, KeyboardInterrupt) else "FAIL"
        said = masked(failure(self._options.name, error, 0.0).error or type(error).__name__)
        self._put(lambda: self._event(kind, error=said))
        self._delivery.finish()

    def _goes_on(self) -> bool:
        """Whether an interrupt has ended this program, and not the run: on a cluster that is not asked to stop."""
        return self._streams and not is_local(self._options.beam) and self._options.stop.stop_with in (None, "leave")

    def _put(self, make: Callable[[], Facet]) -> None:
        event = _tried(make)
        if event is not None:
            self._delivery.put(event)

    def _event(self, kind: EventType, error: str | None = None, written: Written | None = None) -> Facet:
        result = self._result
        alone = len(self._inputs) == 1
        read = _metrics(result, IN_STATISTICS) if alone else None
        inputs = [
            input_dataset(name, one, result.rows_in if alone and result is not None else None, read)
            for name, one in self._inputs.items()
        ]
        if result is not None:
            splits = result.splits.values()
            written = Written(result.rows_out, sum(one.bytes for one in splits), sum(one.shards for one in splits))
        output = output_dataset(
            dataset_name(self._output),
            state=None if error else self._state(),
            columns=None if result is None else _tried(lambda: _columns(self._output)),
            version=None if result is None else result.dataset_id,
            written=written,
            quality=_metrics(result, OUT_STATISTICS),
        )
        return self._run.event(kind, inputs, [output], error)

    def _state(self) -> State:
        flags = self._options.output
        return "OVERWRITE" if flags.overwrite else "ALTER" if flags.append or flags.resume else "CREATE"

    def _look_on(self) -> None:
        """Tells what a stream has published, until it ends; what it had published before counts too."""
        windows = PublishedWindows(self._output)
        known: int | None = None
        while not self._done.wait(_LOOK_SECONDS):
            with contextlib.suppress(Exception):  # a look that fails is followed by another one
                windows.look()
                rows = windows.rows_out()
                if known is not None and rows != known:
                    written = Written(rows)
                    self._put(functools.partial(self._event, "RUNNING", written=written))
                known = rows


def _transports(target: LineageTarget) -> list[Transport]:
    made: list[Transport] = []
    if target.url is not None:
        made.append(HttpTransport(target.url, target.api_key))
    if target.file is not None:
        made.append(FileTransport(target.file))
    return made


def _runner_of(options: DatasetJobOptions) -> str:
    return str(options.beam.view_as(StandardOptions).runner or "DirectRunner")


def _columns(output: str) -> pa.Schema:
    contents = read_contents(output)
    return open_reader(contents, None, None).schema


def _metrics(result: DatasetResult | None, name: str) -> Facet | None:
    """The metrics of the rows that came in or went out, where there are statistics."""
    if result is None or result.statistics is None:
        return None
    folder = result.statistics
    return _tried(lambda: _read_metrics(stores.join(folder, name)))


def _read_metrics(path: str) -> Facet:
    datasets = read_list(path).datasets
    whole = [one for one in datasets if one.name == ALL_EXAMPLES]
    return merge_metrics(quality_metrics(one) for one in whole or datasets)


def _tried(make: Callable[[], _T]) -> _T | None:
    """What an event says, unless that cannot be found out: events are not worth the end of a job."""
    try:
        return make()
    except Exception as error:
        _LOGGER.warning("OpenLineage: something is left out of an event: %s", masked(str(error)))
        return None
