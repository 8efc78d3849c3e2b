"""Beam's own options: what there are, whether their values are good, and what jobs set of them.

`flags.py` knows their names from a table. For another version of Beam, `python -m pipelines._cli.beam` writes it anew.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from penstock.io.beam.flags import add_beam_flags
from penstock.io.errors import ConfigError
from pipelines._cli import beam_flags as _beam_flags
from pipelines._cli import flink as flink  # Beam finds the options of job servers when their class is there
from pipelines._cli import stores as stores
from pipelines._cli.flags import Parser, flag_names
from pipelines._report.process import is_started_for_a_job

_View = TypeVar("_View", bound=PipelineOptions)

# Threads keep no more than four cores busy, since they share an interpreter lock (docs/performance.md).
_PROCESS_CORES = 8

_TABLE = '''"""The flags of Beam {version} and of its job servers (`flink.py`), by `python -m pipelines._cli.beam`."""

# With one value.
VALUES = [
{values}]

# With one value, or none.
OPTIONAL = [
{optional}]

# Without a value.
SWITCHES = [
{switches}]
'''


class _BeamParser(Parser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def beam_parser() -> Parser:
    """Knows all flags of Beam, with their types and choices; a bad value is a `ConfigError`."""
    parser: Any = _BeamParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    add_beam_flags(parser, without=(_JobOptions,))
    return parser


def flag_table() -> str:
    """The module with the names of all flags of Beam, by the values that they take."""
    parser = beam_parser()
    lines: dict[Any, str] = {None: "", "?": "", 0: ""}
    for name in sorted(flag_names(parser)):
        lines[parser._option_string_actions[name].nargs] += f'    "{name}",\n'
    return _TABLE.format(version=beam.__version__, values=lines[None], optional=lines["?"], switches=lines[0])


def beam_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options from what a job left over; the local runner gets a worker for each core: processes if many.

    A process that was not started for a job has threads of others, and is not forked unless it says so.

    Raises:
      ConfigError: for a value that Beam does not take.
    """
    beam_parser().parse_known_args(list(arguments))
    # Nothing that workers need is defined in the main program, which Beam would pickle for them.
    workers = [f"--direct_num_workers={usable_cores()}"]
    if usable_cores() >= _PROCESS_CORES and is_started_for_a_job():
        workers.append("--direct_running_mode=multi_processing")
    return _JobOptions([*workers, "--no_save_main_session", *arguments])


class _JobOptions(PipelineOptions):
    """Beam's options, with one view of each kind.

    To make a view takes 0.3 ms, since a parser is made for it, and Beam asks for 300 of them for one graph.
    """

    def view_as(self, cls: type[_View]) -> _View:
        """A view, which shares its values with all others."""
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_views"}


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    pathlib.Path(_beam_flags.__file__).write_text(flag_table())
