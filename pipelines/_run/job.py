"""What every job does alike: choose the runner, run a pipeline with a progress bar, find the error of a worker."""

import contextlib
import dataclasses
import gc
import shutil
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions
from apache_beam.runners.portability.portable_runner import PortableRunner

from penstock.io.beam.cancellation import stoppable
from penstock.io.beam.local.overhead import less_overhead
from penstock.io.beam.local.prism import OwnPrismRunner
from penstock.io.beam.local.runner import local_runner
from penstock.io.beam.local.stopping import stream
from penstock.io.beam.runner_jobs import job_id
from penstock.io.beam.stable_input import tries_once
from penstock.io.errors import ConfigError, RunnerError
from penstock.io.files.temporary import remove_process_folder
from pipelines._report.logging import without_worker_tracebacks
from pipelines._report.phases import Phase
from pipelines._report.process import end_if_asked, leave_threads
from pipelines._report.progress import progress_bar
from pipelines._report.signals import ending_with_us, take_signals
from pipelines._run.stopping import Stopping, check_stopping
from pipelines._run.stream import StreamRunner, is_interrupt, stream_runner, wait_for_stream
from pipelines._run.unreachable import JobServer, of_prism, of_server
from pipelines._run.worker_errors import worker_error

# Beam's DirectRunner fetches and uses Prism where it can and falls back to this one where it cannot: what a user runs
# would depend on the network. The local runner is therefore pinned; Prism is one flag away (--runner=PrismRunner).
_LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner")
_PRISM = "PrismRunner"


def is_local(options: PipelineOptions) -> bool:
    """Whether the workers share this machine's disk."""
    runner = options.view_as(StandardOptions).runner
    return runner in (*_LOCAL_RUNNERS, _PRISM)


@contextlib.contextmanager
def run_pipeline(
    options: PipelineOptions,
    title: str,
    phases: Sequence[Phase] = (),
    streaming: bool = False,
    stopping: Stopping | None = None,
) -> Iterator[beam.Pipeline]:
    """A pipeline to build in the `with` block; it runs to its end, with a progress bar, when the block is left.

    It sets the options that the runner of a stream needs, and tells the user how to stop the stream.

    Args:
      options: Beam's.
      title: what the pipeline does.
      phases: what it does one after the other, as far as that can be shown.
      streaming: whether its input has no end.
      stopping: what Ctrl-C and SIGTERM do to a stream, and what is said of it then.

    Raises:
      ConfigError: for a runner or pipeline option that Beam, or a stream, does not take.
      PenstockError: the worker's own error, where a worker raised one, without Beam's wrapping.
      StorageError: for an error of the operating system on a worker, such as a full disk.
      DataError: also when memory ran out on a worker.
      RunnerError: when what runs the pipeline has died, or cannot be reached.
      Stopped: when a signal has stopped a stream.
    """
    where = stream_runner(options) if streaming else None
    if where and stopping:
        check_stopping(stopping, where.flink)
    server = JobServer.of(options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_imports_at_rest())
        stack.enter_context(less_overhead())
        stack.enter_context(without_worker_tracebacks())  # bundles may still fail while the runner is closed
        runner = _runner(options, where.name if where else None)
        if isinstance(runner, OwnPrismRunner):
            stack.enter_context(contextlib.closing(runner))
        try:
            pipeline = beam.Pipeline(runner=runner, options=options)
        except ValueError as error:
            raise ConfigError(f"Beam refuses the pipeline options: {error}") from error
        if isinstance(pipeline.runner, PortableRunner):
            leave_threads()
        # Rows of a stream elsewhere are not counted here.
        if where is None or where.is_local:
            stack.enter_context(progress_bar(title, phases))
            stack.enter_context(without_worker_tracebacks())  # above the bar, which cuts what is printed into lines
        if tries_once(pipeline):
            stack.enter_context(stoppable())
        name = stack.enter_context(stream()) if streaming else ""
        yield pipeline
        _run(pipeline, server, where, dataclasses.replace(stopping or Stopping(), stream=name))


@contextlib.contextmanager
def _imports_at_rest() -> Iterator[None]:
    """Keeps the garbage collector from what is there already.

    A full collection walks over the 260,000 objects of Beam and its imports, with the interpreter lock held: 0.14 s.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _run(pipeline: beam.Pipeline, server: JobServer, where: StreamRunner | None, stopping: Stopping) -> None:
    end_if_asked()
    try:
        pipeline.result = result = pipeline.run()
        take_signals()
        with ending_with_us(_prism(pipeline)):
            if where is not None:
                wait_for_stream(result, where, stopping)
            else:
                result.wait_until_finish()
                _keep_metrics(pipeline)
    except Exception as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        raised = _runner_error(error, pipeline, server, where, stopping) or worker_error(error)
        if raised is None:
            raise
        raise raised from error
    finally:
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)  # Beam leaves it behind


def _keep_metrics(pipeline: beam.Pipeline) -> None:
    """Keeps the metrics of a pipeline whose runner ends with it."""
    if isinstance(pipeline.runner, OwnPrismRunner):
        metrics = pipeline.result.metrics()
        pipeline.result.metrics = lambda: metrics  # type: ignore[method-assign]


def _prism(pipeline: beam.Pipeline) -> int | None:
    """The process of the Prism that runs a pipeline."""
    return pipeline.runner.server.pid if isinstance(pipeline.runner, OwnPrismRunner) else None


def _runner_error(
    error: Exception, pipeline: beam.Pipeline, server: JobServer, where: StreamRunner | None, stopping: Stopping
) -> RunnerError | None:
    """What has died, if that is why a pipeline has failed."""
    if isinstance(pipeline.runner, OwnPrismRunner):
        return of_prism(error, pipeline.runner.server, stopping.way_on(0) if where else None)
    job = job_id(pipeline.result) if hasattr(pipeline, "result") else ""
    checkpoint = where.checkpoint if where else None
    return of_server(error, server, job, where is not None, checkpoint)


def _runner(options: PipelineOptions, name: str | None = None) -> beam.runners.PipelineRunner | str:
    """The runner of a name, or that of the options."""
    name = name or options.view_as(StandardOptions).runner
    if name == _PRISM and not options.view_as(PortableOptions).job_endpoint:
        return OwnPrismRunner(options)
    return local_runner(options, remove_process_folder) if name in _LOCAL_RUNNERS else str(name)
