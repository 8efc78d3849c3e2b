"""Runs the pages of docs/tutorials/: what a page says its code prints is what the code prints.

    python tests/tutorials/page.py docs/tutorials/first_model.md           # in an empty folder
    python tests/tutorials/page.py docs/tutorials/first_model.md --update  # and writes what was printed into the page

Blocks of `sh` and `python` run in the order of the page, in the working directory. A block of `text` behind one is what
that one prints to stdout; see `agrees` for what may differ. The `python` blocks share their names, as in one session.
"""

import argparse
import contextlib
import dataclasses
import io
import linecache
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from typing import Any

# A block, and behind a block of code the block of what it prints.
_BLOCK = re.compile(
    r"^```(?P<language>sh|python)\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<printed>.*?)^```$)?", re.M | re.S
)

# `penstock` is the package under test, installed as a command or not; PRISM is where tests have the runner of streams.
_COMMAND = """#!/bin/sh
exec "{python}" -c 'import sys; from penstock.__main__ import main; sys.exit(main())' \\
    "$@" ${{PRISM:+--prism_location="$PRISM"}}
"""

# With job control, what a block starts in the background can be interrupted, as in a terminal.
_PROLOGUE = "set -euo pipefail -m\n"


@dataclasses.dataclass(frozen=True)
class Block:
    """Some code of a page.

    Attributes:
      language: `sh` or `python`.
      code: the lines.
      printed: what the page says that the code prints; None where it says nothing.
      line: of the page, where the code begins.
      span: where `printed` stands in the page; empty where it does not.
    """

    language: str
    code: str
    printed: str | None
    line: int
    span: tuple[int, int]


def blocks(text: str) -> list[Block]:
    """The blocks of a page that are run."""
    return [
        Block(
            found["language"],
            found["code"],
            found["printed"],
            text[: found.start("code")].count("\n") + 1,
            found.span("printed"),
        )
        for found in _BLOCK.finditer(text)
    ]


def run(text: str, path: str) -> Iterator[tuple[Block, str]]:
    """Each block of a page with what it printed, one after the other, in the working directory.

    Raises:
      RuntimeError: when a block fails; names the page and the line, with what it said.
    """
    with tempfile.TemporaryDirectory() as folder, _session() as names:
        command = pathlib.Path(folder, "penstock")
        command.write_text(_COMMAND.format(python=sys.executable))
        command.chmod(0o755)
        for block in blocks(text):
            where = f"{path}:{block.line}"
            yield (
                block,
                _run_shell(block, where, folder) if block.language == "sh" else _run_python(block, where, names),
            )


@contextlib.contextmanager
def _session() -> Iterator[dict[str, Any]]:
    """The names of a module that is the main one meanwhile: classes of a page can be pickled, as those of a script."""
    before, session = sys.modules["__main__"], types.ModuleType("__main__")
    sys.modules["__main__"] = session
    try:
        yield session.__dict__
    finally:
        sys.modules["__main__"] = before


def _run_shell(block: Block, where: str, programs: str) -> str:
    # A file takes what the block prints to stderr: a job that it leaves in the background would hold a pipe open.
    with open("stderr.txt", "w+") as errors:
        done = subprocess.run(
            ["bash", "-c", _PROLOGUE + block.code],
            env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        errors.seek(0)
        if done.returncode:
            raise RuntimeError(f"{where}: exit code {done.returncode}\n{done.stdout}{errors.read()}")
    return done.stdout


def _run_python(block: Block, where: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    # TensorFlow reads the source of functions that it compiles; tracebacks show it too.
    linecache.cache[where] = (len(block.code), None, block.code.splitlines(keepends=True), where)
    with contextlib.redirect_stdout(printed):
        exec(compile(block.code, where, "exec"), names)
    return printed.getvalue()


def agrees(printed: str, said: str) -> bool:
    """Whether a page says what was printed, but for times, speeds, sizes of compressed files and width of columns.

    These differ from one machine to the next. So do the last digits of a trained model: its predictions are minutes.

    >>> agrees("3 rows  in 2.1 s", "3 rows in 4.0 s"), agrees("4 rows", "3 rows")
    (True, False)
    """
    return _plain(printed) == _plain(said)


def _plain(text: str) -> str:
    return re.sub(r"\b\d[\d,.]*(?= (?:s|rows/s|KiB|minutes)\b)", "N", " ".join(text.split()))


def check(path: pathlib.Path) -> None:
    """Runs a page and compares.

    Raises:
      AssertionError: for the first block that prints something else than the page says.
    """
    for block, printed in run(path.read_text(), str(path)):
        if block.printed is not None and not agrees(printed, block.printed):
            raise AssertionError(f"{path}:{block.line} prints\n{printed}\nbut the page says\n{block.printed}")


def update(path: pathlib.Path) -> None:
    """Runs a page and writes into it what was printed where it says something else."""
    text = path.read_text()
    done = [(block, printed) for block, printed in run(text, str(path)) if block.printed is not None]
    for block, printed in reversed(done):
        if not agrees(printed, block.printed):
            text = text[: block.span[0]] + printed.strip("\n") + "\n" + text[block.span[1] :]
    path.write_text(text)


def main() -> None:
    """One page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    (update if arguments.update else check)(arguments.page.resolve())


if __name__ == "__main__":
    main()
