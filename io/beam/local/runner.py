"""Beam's local runner, FnApiRunner, with the options of its pipeline; its workers are threads or forked processes.

Its constructor, the encoding of options for workers and how it gives work to them are internal to Beam. Beam makes such
a runner only through `DirectRunner`, which uses Prism if it can fetch it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    BundleManager,
    ExtendedProvisionInfo,
    FnApiRunner,
    ParallelBundleManager,
)
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from penstock.io.beam.local.worker_processes import WorkerProcesses, can_fork
from penstock.io.errors import ConfigError

# In this mode a timer flushes the output of workers while they write to it, and what they write in between is lost
# (apache_beam/runners/worker/data_plane.py, TimeBasedBufferingClosableOutputStream; no other mode uses the timer; no
# issue is filed at Beam).
_LOSSY_MODE = "multi_threading"

# Beam's names of the modes that it has here.
_THREADS, _PROCESSES = "in_memory", "multi_processing"


class _LocalRunner(FnApiRunner):
    """FnApiRunner; a stage sets up as many workers as it has elements, and they may be processes."""

    def __init__(self, at_end: Callable[[], object], **options: Any):
        super().__init__(**options)
        self._at_end = at_end
        self._processes: WorkerProcesses | None = None

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Any:
        """Runs a pipeline; workers of Beam's mode `multi_processing` are forked, where Beam would start programs."""
        direct = options.view_as(DirectOptions)
        if direct.direct_running_mode != _PROCESSES:
            return super().run_pipeline(pipeline, options)
        self._processes = WorkerProcesses(self._at_end)
        direct.direct_running_mode = _THREADS
        try:
            return super().run_pipeline(pipeline, options)
        finally:
            direct.direct_running_mode = _PROCESSES
            self._processes.close()

    def _get_bundle_manager(self, bundle_context_manager: Any) -> BundleManager:
        manager = super()._get_bundle_manager(bundle_context_manager)
        return _BusyWorkers(manager, self._processes) if isinstance(manager, ParallelBundleManager) else manager


class _BusyWorkers(ParallelBundleManager):
    """Gives bundles to the workers that have elements, and to the first.

    Beam gives a bundle to every worker, empty or not, and a worker sets up all steps of a stage for its first bundle,
    with the interpreter lock held: 16 workers took 2 s of it in a job of 1,000 rows, which now takes 0.3 s.
    """

    def __init__(self, manager: ParallelBundleManager, processes: WorkerProcesses | None):
        super().__init__(
            manager.bundle_context_manager,
            manager._progress_frequency,
            cache_token_generator=manager._cache_token_generator,
        )
        self._processes = processes

    def process_bundle(
        self,
        inputs: Mapping[str, Any],
        expected_outputs: Any,
        fired_timers: Any,
        expected_output_timers: Any,
        dry_run: bool = False,
    ) -> Any:
        """Runs a stage once over its inputs, by Beam's arguments; the only worker of a stage is a thread."""
        workers = self._num_workers
        parts = {name: buffer.partition(workers) for name, buffer in inputs.items()}
        busy = [i for i in range(workers) if i == 0 or any(any(part[i]) for part in parts.values())]
        shared: dict[str, Any] = {name: _Partitioned([part[i] for i in busy]) for name, part in parts.items()}
        if self._processes is not None and len(busy) > 1 and can_fork():
            self._processes.serve(self.bundle_context_manager.worker_handlers, len(busy))
        self._num_workers = len(busy)
        try:
            return super().process_bundle(
                shared, expected_outputs, fired_timers, expected_output_timers, dry_run=dry_run
            )
        finally:
            self._num_workers = workers


class _Partitioned:
    """The input of a stage, in parts already."""

    def __init__(self, parts: list[list[bytes]]):
        self._parts = parts

    def partition(self, n: int) -> list[list[bytes]]:
        return self._parts


def local_runner(options: PipelineOptions, at_end: Callable[[], object] = lambda: None) -> FnApiRunner:
    """Makes the runner; its workers see the options.

    Args:
      options: Beam's.
      at_end: what a worker that is a process does before it ends: exit handlers of this process are not its own.

    Raises:
      ConfigError: when the running mode loses rows, or for a number of workers below 0.
    """
    workers = options.view_as(DirectOptions).direct_num_workers
    if workers is not None and workers < 0:
        raise ConfigError(f"--direct_num_workers must be at least 1, or 0 for one for each core, got {workers}")
    if options.view_as(DirectOptions).direct_running_mode == _LOSSY_MODE:
        raise ConfigError(
            f"--direct_running_mode={_LOSSY_MODE} loses rows with Beam 2.77; take {_THREADS} for threads of this "
            f"process or {_PROCESSES} for processes, one for each core or as many as --direct_num_workers says"
        )
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    return _LocalRunner(
        at_end, provision_info=ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    )
