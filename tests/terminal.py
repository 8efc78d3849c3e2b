"""A real terminal for tests: what a program sends to it, and what a person sees."""

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Sequence

from forked import Program

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(*arguments: object, columns: int = 120, stdout: int | None = None, **variables: str) -> str:
    """What a terminal is sent by Python with these arguments: stdout, unless that goes elsewhere, and stderr.

    Args:
      arguments: of a `Program`.
      columns: of the terminal.
      stdout: a file that takes it.
      variables: of the environment.
    """
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with Program(
        arguments,
        stdin=terminal,
        stdout=terminal if stdout is None else stdout,
        stderr=terminal,
        env={**environment, "TERM": "xterm-256color", **variables},
    ) as process:
        os.close(terminal)
        sent = b"".join(iter(lambda: _read(controller), b""))
        assert process.wait() == 0, sent.decode()
    os.close(controller)
    return sent.decode()


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # how Linux says that the terminal is closed
        return b""


def lines_of(sent: str) -> Sequence[str]:
    """Each line that was shown, those that were overwritten too, without colors."""
    return [line for line in re.split(r"[\r\n]+", _CONTROL.sub("", sent)) if line]
