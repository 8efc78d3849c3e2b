"""A job as a command: its flags, its name in messages, its first line, its failures as one line and an exit code.

None of this needs Beam, which a job imports after it has checked its command line.
"""

import contextlib
import dataclasses
import functools
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO, TypeVar

import penstock
from penstock.io.errors import remedies_of
from penstock.io.files.extras import check_runner
from penstock.io.files.stores.config import StoreConfig, check_no_secrets, configure
from pipelines._cli.flags import BeamFlags, Options, Parser, asks_for, flag_names, job_parser, parse_job
from pipelines._cli.named import Named
from pipelines._report.crash import keep_traceback
from pipelines._report.logging import is_verbose, set_up_logging, without_worker_tracebacks
from pipelines._report.printable import printable, printable_lines
from pipelines._report.process import end as end
from pipelines._report.process import (
    end_beside_threads,
    is_started_for_a_job,
    job_started,
    program,
    say,
    started_for_a_job,
)
from pipelines._report.result import DATA_FAILED, DatasetResult, Result, UsageError, failure
from pipelines._report.signals import Stopped, ended_by, ending_cleanly, job_has_ended

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

# The exit code of a program that SIGPIPE ends.
UNREAD = 141

_T = TypeVar("_T")

Run = Callable[[Sequence[str] | None], int]


def announce(job: str, task: str) -> None:
    """Says on stderr, before the first seconds pass in silence, what a process that was started for a job will do."""
    if is_started_for_a_job():
        say(f"penstock {penstock.__version__}: {job} {printable(task)}")


def shown(inputs: Sequence[str]) -> str:
    """The first of some inputs, for `announce`.

    >>> shown(["a.csv", "b.csv", "c.csv", "d.csv"])
    'a.csv, b.csv, c.csv, ...'
    """
    return ", ".join([*inputs[:3], *(["..."] if len(inputs) > 3 else [])])


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """All flags of a job, by family, and Beam's.

    Attributes:
      elsewhere: flags that only other jobs have, each with what to say where it is given.
      given: the names of the flags that the command line or the config file has.
      beam_flags: what is for Beam.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    examples: ClassVar[str]
    elsewhere: ClassVar[Mapping[str, str]] = {}

    given: frozenset[str] = dataclasses.field(default=frozenset(), kw_only=True)
    beam_flags: BeamFlags = dataclasses.field(default=BeamFlags(), kw_only=True)

    @classmethod
    def families(cls) -> dict[str, type[Options]]:
        """The families of flags by the names of their fields."""
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Options)}

    @classmethod
    def parser(cls) -> Parser:
        """The parser of the job's flags."""
        parser = job_parser(program(cls.name), cls.description, cls.examples, cls.families().values())
        parser.elsewhere = cls.elsewhere
        return parser

    @classmethod
    def parse(cls, argv: Sequence[str] | None = None) -> Self:
        """Parses a command line, without looking for the files that it names.

        Raises:
          SystemExit: 0 after --help, 2 for an unknown flag or a bad value.
          ConfigError: for flags that are missing or do not go together.
        """
        parser = cls.parser()
        remedies_of({*flag_names(parser), *(["--direct_num_workers"] if "run" in cls.families() else [])})
        namespace, beam_flags = parse_job(parser, sys.argv[1:] if argv is None else argv)
        values: dict[str, Any] = {name: kind.from_namespace(namespace) for name, kind in cls.families().items()}
        options = cls(**values, given=frozenset(vars(namespace)), beam_flags=beam_flags)
        options.check()
        return options

    def check(self) -> None:
        """Refuses flags that are missing or do not go together.

        Raises:
          ConfigError: names them.
        """

    def find(self, may_be_missing: Collection[str] = ()) -> None:
        """Checks that what the flags name is there: runner, files, folders, topics. It needs no Beam.

        Args:
          may_be_missing: names of flags whose files may come later.

        Raises:
          ConfigError: when something cannot be reached or is not there.
          InputError: when an input is not there.
        """
        check_no_secrets(self.beam_flags.arguments)
        configure(StoreConfig.from_arguments(self.beam_flags.arguments))
        if self.beam_flags.runner:
            check_runner(self.beam_flags.runner)
        named = self.named()
        for flag, kind, value in named:
            kind.reach(value, kind.shown(flag, value))
        for flag, kind, value in named:
            if flag not in may_be_missing:
                kind.find(value, kind.shown(flag, value))
        self.check_apart()

    def named(self) -> list[tuple[str, Named, str]]:
        """Lists what the flags name: each flag, and each of its values."""
        return [item for family in self.families() for item in getattr(self, family).named()]

    def check_apart(self) -> None:
        """Refuses inputs that lie in the output, and an output among the inputs.

        Raises:
          ConfigError: names both.
        """

    def with_flags(self, values: Mapping[str, Any]) -> Self:
        """The same with other values for some flags, by name; names that no family has are ignored."""
        changed: dict[str, Any] = {name: getattr(self, name).with_flags(values) for name in self.families()}
        return dataclasses.replace(self, **changed)

    @functools.cached_property
    def beam(self) -> "PipelineOptions":
        """Beam's options; imports Beam.

        Raises:
          ConfigError: for a value that Beam does not take.
        """
        from pipelines._cli.beam import beam_options

        return beam_options(self.beam_flags.arguments)


# What libraries read from it when they are imported; what the user has set is left. A job uses its cores by threads of
# its own. Those that OpenBLAS starts in each of them, for the small matrices of statistics, take twice the CPU.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "OPENBLAS_NUM_THREADS": "1"}


def command(job: str, run: Run, prefix: str = "python -m pipelines.", argv: Sequence[str] | None = None) -> int:
    """Runs the job that this process was started for; `prefix` is what the user typed before its name."""
    given = sys.argv[1:] if argv is None else argv
    with without_worker_tracebacks():  # bundles may still fail while the job, which has failed, cleans up
        with started_for_a_job(prefix, [job, *given]) as process, ending_cleanly():
            code = printed(program(job), lambda: main(job, run, argv))
        if process.leaves_threads.is_set():
            end_beside_threads(code)
    return code


def main(job: str, run: Run, argv: Sequence[str] | None = None) -> int:
    """Runs a job and turns its failures into a message and an exit code, and into JSON where that is asked for."""
    given = sys.argv[1:] if argv is None else argv
    set_up_logging(asks_for("verbose", given))
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    started = job_started()
    try:
        return run(argv)
    except (Exception, UsageError, KeyboardInterrupt) as error:
        if isinstance(error, OSError) and error is getattr(sys.stdout, "error", None):
            raise  # of stdout, not of the data
        # A signal may end what the job waits for first, such as a job server, and the job fails over that.
        ended = error if ended_by() is None or isinstance(error, KeyboardInterrupt) else KeyboardInterrupt()
        result = failure(job, ended, time.monotonic() - started)
        job_has_ended()
        _tell_failure(result, given)
        if isinstance(error, UsageError):
            raise  # argparse has printed what is wrong with the command line
        if isinstance(error, Stopped):
            say(printable_lines(str(error)))
            return result.exit_code
        return _fail(program(job), f"{result.error}{_show_traceback(error, result)}", result.exit_code)
    finally:
        remedies_of(None)


def _show_traceback(error: BaseException, result: Result) -> str:
    """Prints the traceback of a failure where that is asked for; returns where that of a crash is else."""
    if is_verbose():
        say("\n".join(map(printable, "".join(traceback.format_exception(error)).splitlines())))
    if result.status != "crashed":
        return ""
    where = "above" if is_verbose() else keep_traceback(error) or "--verbose shows it"
    return f"; this is a fault of Penstock: please report it, with its traceback ({where})"


def _tell_failure(result: Result, argv: Sequence[str]) -> None:
    """Prints a failure as JSON where that is asked for, else what the run counted."""
    if asks_for("json", argv):
        print(result.to_json())
    elif isinstance(result, DatasetResult):
        from pipelines._report.summary import tell

        tell(result, as_json=False)


def printed(name: str, answer: Callable[[], int]) -> int:
    """Runs a function that prints and gives an exit code, also if nobody reads (`| head`) or the disk is full."""
    if sys.stdout is None:
        return answer()
    stdout = _Stdout(sys.stdout)
    try:
        with contextlib.redirect_stdout(stdout):
            code = answer()
    except SystemExit as end:  # of argparse
        if not isinstance(end.code, int):
            raise
        code = end.code
    except OSError as error:
        if error is not stdout.error:
            raise
        code = UNREAD
    with contextlib.suppress(OSError):  # it is remembered
        stdout.flush()
    if stdout.error is not None:
        # Python would write again when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        if not isinstance(stdout.error, BrokenPipeError):
            return _fail(name, f"the output cannot be written: {stdout.error}", DATA_FAILED)
    return code


class _Stdout:
    """Stdout that remembers its own errors, to tell them from errors of the data."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """As the stream does."""
        return self._tried(lambda: self._stream.write(text))

    def flush(self) -> None:
        """As the stream does."""
        self._tried(self._stream.flush)

    def _tried(self, step: Callable[[], _T]) -> _T:
        try:
            return step()
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _fail(name: str, error: object, code: int) -> int:
    say(f"{name}: error: {printable_lines(str(error))}")
    return code
