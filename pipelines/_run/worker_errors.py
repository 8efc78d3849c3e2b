"""The error that a worker raised, found in the text that a runner makes of it."""

import re

from penstock.io import errors
from penstock.io.errors import DataError, PenstockError, RunnerError, StorageError
from penstock.io.files.system_errors import explained, out_of_memory

# The last of the errors in a text is the outermost; of older ones only the text of their cause remains.
_RAISED = re.compile(
    r"penstock\.io\.errors\.(?P<name>\w+): "
    r"|\b\w+: \[Errno (?P<errno>\d+)\] "
    r"|^(?P<memory>(?:\w+\.)*(?:\w*MemoryError|OutOfMemoryException|ResourceExhaustedError)\b:?|.*std::bad_alloc)",
    re.MULTILINE,
)
_FILENAME = re.compile(r": '(?P<path>.*)'$")
_STEP = re.compile(r"\[while running '(?P<step>[^\n]*?)'\]")
# What Beam says of a job whose Java has failed, where no Python worker raised anything.
_JAVA = re.compile(r"Pipeline \S+ failed in state \w+: (?=(?:java|org)\.)")
_OF_PYTHON = ("Traceback (most recent call last)", "Error received from SDK harness")
_AFTER_MESSAGE = re.compile(r"\n\n(?:During handling of|The above exception)|\n\s*(?:at |Traceback \()")


def worker_error(error: BaseException) -> PenstockError | None:
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
        return _java_error(text)
    rest = text[raised[-1].end() :]
    if raised[-1]["memory"]:
        return _memory_error(rest)
    if raised[-1]["errno"]:
        return _system_error(int(raised[-1]["errno"]), _message(rest))
    kind: type[PenstockError] = getattr(errors, raised[-1]["name"])
    return kind(_message(rest))


def _java_error(text: str) -> RunnerError | None:
    found = _JAVA.match(text)
    if found is None or any(mark in text for mark in _OF_PYTHON):
        return None
    return RunnerError(f"the runner has failed the job: {_message(text[found.end() :])}; its own log may say more")


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
