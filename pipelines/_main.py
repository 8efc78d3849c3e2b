"""The command `penstock`: its jobs by name, its own help, what is installed, and completion for shells."""

import argparse
import difflib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping, Sequence

import penstock
from penstock.io.kernel import compiled
from pipelines import (
    check,
    compare,
    croissant,
    export,
    fit,
    history,
    prepare,
    profile,
    relax,
    replay,
    show,
    spans,
    status,
    trace,
    verify,
)
from pipelines._cli.command import JobOptions, Run, command, printed
from pipelines._cli.flags import Parser
from pipelines._cli.named import NAMED
from pipelines._options.check import CheckStatisticsOptions
from pipelines._options.compare import CompareOptions
from pipelines._options.croissant import CroissantOptions
from pipelines._options.export import ExportOptions
from pipelines._options.fit import FitOptions
from pipelines._options.history import HistoryOptions
from pipelines._options.prepare import PrepareOptions
from pipelines._options.profile import ProfileOptions
from pipelines._options.relax import RelaxOptions
from pipelines._options.replay import ReplayOptions
from pipelines._options.show import ShowOptions
from pipelines._options.spans import (
    CompactOptions,
    DiffOptions,
    DropSpanOptions,
    LogOptions,
    RetainOptions,
    SpansOptions,
)
from pipelines._options.status import StatusOptions
from pipelines._options.trace import TraceOptions
from pipelines._options.verify import VerifyOptions
from pipelines._report.result import DONE, WRONG_USAGE

JOBS: Mapping[str, tuple[type[JobOptions], Run]] = {
    "prepare": (PrepareOptions, prepare.run),
    "profile": (ProfileOptions, profile.run),
    "check": (CheckStatisticsOptions, check.run),
    "compare": (CompareOptions, compare.run),
    "fit": (FitOptions, fit.run),
    "export": (ExportOptions, export.run),
    "relax": (RelaxOptions, relax.run),
    "show": (ShowOptions, show.run),
    "verify": (VerifyOptions, verify.run),
    "status": (StatusOptions, status.run),
    "history": (HistoryOptions, history.run),
    "replay": (ReplayOptions, replay.run),
    "spans": (SpansOptions, spans.run),
    "log": (LogOptions, spans.log),
    "diff": (DiffOptions, spans.diff),
    "drop-span": (DropSpanOptions, spans.drop_span),
    "retain": (RetainOptions, spans.retain),
    "compact": (CompactOptions, spans.compact),
    "trace": (TraceOptions, trace.run),
    "croissant": (CroissantOptions, croissant.run),
}

_COMPLETION = "completion"

_DESCRIPTION = """Turns raw records into training data: files or Kafka topics in; checked, split, transformed
and shuffled TFRecord shards out, with every row accounted for in a manifest."""

_EXAMPLES = """examples:
  a dataset of some CSV files, and a look at every byte of it
    penstock prepare --input 'data/*.csv' --output dataset
    penstock show dataset
    penstock verify --dataset dataset

  what is in them, and whether new ones are like them
    penstock profile --input 'data/*.csv' --output data.pb
    penstock check --input 'new/*.csv' --baseline data.pb

  what a job can do, and more examples
    penstock prepare --help

  completion of jobs, flags and files, in this shell (~/.bashrc keeps it)
    source <(penstock completion bash)

exit codes: 0 done; 1 the data failed; 2 wrong usage or configuration;
130, 143, 129 interrupted (Ctrl-C, SIGTERM, SIGHUP)"""


def main(argv: Sequence[str] | None = None, program: str = "penstock") -> int:
    """Runs the job that a command line names; `program` is what the user typed before it."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in JOBS:
        return command(argv[0], JOBS[argv[0]][1], f"{program} ", argv[1:])
    return printed(program, lambda: _answer(_parser(program), argv))


def _answer(parser: Parser, argv: Sequence[str]) -> int:
    """Answers a command line that names no job: help, versions, completion, mistakes."""
    if not argv:
        parser.print_help(sys.stderr)
        return WRONG_USAGE
    if not argv[0].startswith("-") and argv[0] != _COMPLETION:
        nearest = difflib.get_close_matches(argv[0].lower(), [*JOBS, _COMPLETION], n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the jobs are {', '.join(JOBS)}"
        parser.error(f"unknown job {argv[0]!r}; {hint}")
    given = parser.parse_args(list(argv))
    print(_completion(given.shell) if given.job == _COMPLETION else _versions())
    return DONE


def _parser(program: str) -> Parser:
    """Knows all jobs and flags, for help and completion; each job parses its own command line."""
    parser = Parser(
        prog=program,
        usage=f"{program} JOB [flags]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.hint = "Try --help for the jobs."
    parser.add_argument("--version", action="store_true", help="print what is installed")
    jobs = parser.add_subparsers(title="jobs", dest="job", metavar="JOB")
    for name, (options, _) in JOBS.items():
        job = options.parser()
        jobs.add_parser(name, parents=[job], add_help=False, help=options.description, description=options.description)
    shells = jobs.add_parser(_COMPLETION, help="Prints a script that completes jobs, flags and files in a shell.")
    shells.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")
    return parser


def _completion(shell: str) -> str:
    """The script for a shell: it is static, so that completion starts no Python."""
    import shtab

    parser = _parser("penstock")
    kinds = {"file": shtab.FILE, "directory": shtab.DIRECTORY}
    for action in _actions(parser):
        named = getattr(action, NAMED, None)
        if named is not None and named.completion:
            setattr(action, "complete", kinds[named.completion])  # noqa: B010  shtab's, not argparse's
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All flags of a parser, those of its jobs too."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for job in action.choices.values():
                yield from _actions(job)


def _versions() -> str:
    """The versions of Penstock and its main dependencies, and whether the kernel is used; it imports none of them."""
    return (
        f"penstock {penstock.__version__} (Apache Beam {_version('apache-beam')}, Arrow {_version('pyarrow')}, "
        f"Python {sys.version.split()[0]}, kernel: {_kernel()})"
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _kernel() -> str:
    if compiled.is_off():
        return "no, PENSTOCK_KERNEL=off"
    error = compiled.load_error()
    return "yes" if error is None else f"no, {error}"
