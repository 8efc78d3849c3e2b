"""What every job does alike: choose the runner, run a pipeline with a progress bar, find the error of a worker."""

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from penstock.io import errors
from penstock.io.beam.cancellation import stoppable
from penstock.io.beam.local_runner import local_runner
from penstock.io.beam.stable_input import tries_once
from penstock.io.errors import ConfigError, DataError, PenstockError, StorageError
from penstock.io.files.system_errors import explained, out_of_memory
from pipelines._report.logging import without_worker_tracebacks
from pipelines._report.phases import Phase
from pipelines._report.progress import progress_bar
from pipelines._report.signals import take_signals
from pipelines._run.stream import StreamRunner, stream_runner, wait_for_stream

# Beam's DirectRunner fetches and uses Prism where it can and falls back to this one where it cannot: what a user runs
# would depend on the network. The local runner is therefore pinned; Prism is one flag away (--runner=PrismRunner).
_LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner")


def is_local(options: PipelineOptions) -> bool:
    """Whether the workers share this machine's disk."""
    runner = options.view_as(StandardOptions).runner
    return runner in (*_LOCAL_RUNNERS, "PrismRunner")


@contextlib.contextmanager
def run_pipeline(
    options: PipelineOptions, title: str, phases: Sequence[Phase] = (), streaming: bool = False
) -> Iterator[beam.Pipeline]:
    """A pipeline to build in the `with` block; it runs to its end, with a progress bar, when the block is left.

    It sets the options that the runner of a stream needs, and tells the user how to stop the stream.

    Args:
      options: Beam's.
      title: what the pipeline does.
      phases: what it does one after the other, as far as that can be shown.
      streaming: whether its input has no end.

    Raises:
      ConfigError: for a runner or pipeline option that Beam, or a stream, does not take.
      PenstockError: the worker's own error, where a worker raised one, without Beam's wrapping.
      StorageError: for an error of the operating system on a worker, such as a full disk.
      DataError: also when memory ran out on a worker.
    """
    stream = stream_runner(options) if streaming else None
    try:
        pipeline = beam.Pipeline(runner=stream.name if stream else _runner(options), options=options)
    except ValueError as error:
        raise ConfigError(f"Beam refuses the pipeline options: {error}") from error
    together = stoppable() if tries_once(pipeline) else contextlib.nullcontext()
    # Rows of a stream elsewhere are not counted here.
    bar = progress_bar(title, phases) if stream is None or stream.is_local else contextlib.nullcontext()
    with bar, without_worker_tracebacks(), together:
        yield pipeline
        _run(pipeline, stream)


def _run(pipeline: beam.Pipeline, stream: StreamRunner | None) -> None:
    try:
        pipeline.result = result = pipeline.run()
        take_signals()
        if stream is not None:
            wait_for_stream(result, stream)
        else:
            result.wait_until_finish()
    except Exception as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        raised = _worker_error(error)
        if raised is None:
            raise
        raise raised from error
    finally:
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)  # Beam leaves it behind


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: Beam wraps it like any other where it meets a worker in this thread."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _runner(options: PipelineOptions) -> beam.runners.PipelineRunner | str:
    name = options.view_as(StandardOptions).runner
    if name not in _LOCAL_RUNNERS:
        return name
    return local_runner(options)


# The last of the errors in a text is the outermost; of older ones only the text of their cause remains.
_RAISED = re.compile(
    r"penstock\.io\.errors\.(?P<name>\w+): "
    r"|\b\w+: \[Errno (?P<errno>\d+)\] "
    r"|^(?P<memory>(?:\w+\.)*(?:\w*MemoryError|OutOfMemoryException|ResourceExhaustedError)\b:?|.*std::bad_alloc)",
    re.MULTILINE,
)
_FILENAME = re.compile(r": '(?P<path>.*)'$")
_STEP = re.compile(r"\[while running '(?P<step>[^\n]*?)'\]")
_AFTER_MESSAGE = re.compile(r"\n\n(?:During handling of|The above exception)|\n\s*(?:at |Traceback \()")


def _worker_error(error: BaseException) -> PenstockError | None:
    """The error that a worker raised, in one line, found in the text that runners make of it; None for any other."""
    if isinstance(error, PenstockError):
        return type(error)(_message(str(error)))
    if isinstance(error, MemoryError):
        return _memory_error(str(error))
    text = str(error)
    if "\n" not in text:  # some runners escape line ends
        text = text.replace("\\n", "\n")
    raised = list(_RAISED.finditer(text))
    if not raised:
        return None
    rest = text[raised[-1].end() :]
    if raised[-1]["memory"]:
        return _memory_error(rest)
    if raised[-1]["errno"]:
        return _system_error(int(raised[-1]["errno"]), _message(rest))
    kind: type[PenstockError] = getattr(errors, raised[-1]["name"])
    return kind(_message(rest))


def _memory_error(text: str) -> DataError:
    """The error of a worker without memory; what its allocator said, and the step that Beam adds, are in a text."""
    step = _STEP.search(text)
    detail = _message(text) if text.strip() else ""
    return DataError(out_of_memory("" if detail.startswith("[while ") else detail, step["step"] if step else ""))


def _system_error(number: int, text: str) -> StorageError:
    found = _FILENAME.search(text)
    return StorageError(explained(OSError(number, text, found["path"] if found else None)))


def _message(text: str) -> str:
    """The message at the start of a text, in one line, without the step that Beam adds."""
    message = _AFTER_MESSAGE.split(text, 1)[0].rstrip()
    if message.endswith("']"):
        message = message.rpartition(" [while running '")[0] or message
    return " ".join(line.strip() for line in message.splitlines())
