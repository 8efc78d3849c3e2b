"""A fault of the job itself in one line, and its traceback where it can be found."""

import contextlib
import datetime
import os
import tempfile
import traceback

from pipelines._report.printable import masked

_MAX_TEXT = 500

_BEGIN = "Traceback (most recent call last)"


def without_traceback(text: str) -> str:
    """The first line of a text and its last one, if a traceback lies between them; else the text."""
    if _BEGIN not in text:
        return text
    head = text.partition(_BEGIN)[0].strip()
    last = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")][-1].strip()
    return f"{head.splitlines()[0].rstrip(':')}: {last}" if head else last


def in_one_line(error: BaseException) -> str:
    """What an error says, with its kind; runners put whole tracebacks of workers into the text of theirs."""
    text = without_traceback(str(error))
    if text == str(error):
        text = f"{type(error).__name__}: {text}"
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]}..."


def keep_traceback(error: BaseException) -> str | None:
    """Writes the traceback of an error to a new file in the folder for temporary files; returns its path, if it can."""
    now = datetime.datetime.now(datetime.UTC)
    with contextlib.suppress(OSError):
        descriptor, path = tempfile.mkstemp(f"-{now:%Y%m%dT%H%M%SZ}.txt", "penstock-crash-")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(masked("".join(traceback.format_exception(error))))
        return path
    return None
