"""Prints the result of a job: for a person the numbers of rows, the paths and the next step; for a program JSON."""

from collections.abc import Sequence

import yaml
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment, Segments

from pipelines._report.printable import mapped, printable
from pipelines._report.result import (
    CheckResult,
    CompareResult,
    DatasetResult,
    DescribedResult,
    ExportResult,
    FitResult,
    HistoryResult,
    ProfileResult,
    RelaxResult,
    Result,
    ShowResult,
    SpansResult,
    StatusResult,
    TraceResult,
    VerifyResult,
)
from pipelines._report.signals import job_has_ended
from pipelines._report.summary.dataset import INDENT, told_dataset, told_letters
from pipelines._report.summary.folder import told_status, told_verified
from pipelines._report.summary.history import told_history
from pipelines._report.summary.parts import counted, told_notes, told_reasons, told_report
from pipelines._report.summary.relaxed import told_relaxed
from pipelines._report.summary.show import told_records
from pipelines._report.summary.spans import told_spans
from pipelines._report.summary.statistics import told_statistics
from pipelines._report.summary.trace import told_trace

# Paths and commands are for copying: a terminal wraps what is too long for it, nothing is cut.
_WIDTH = 10_000


def tell(result: Result, as_json: bool) -> int:
    """Prints how a job ended, to stdout, and gives its exit code; there must be nothing else to do."""
    job_has_ended()
    if as_json:
        print(result.to_json())
    else:
        output = result.output if isinstance(result, DatasetResult) else ""
        _print_text(mapped(result, printable), output)
    return result.exit_code


def _why_nothing(skipped: Sequence[str]) -> str:
    return f"{counted(len(skipped), 'input')} that the dataset has or had" if skipped else "the input has no rows"


_NO_SAVED_MODEL = "; not as a SavedModel (--export_saved_model, or penstock export)"


def _print_text(result: Result, output: str) -> None:
    """Prints a result without control characters; `output` is its folder as it is, for a command."""
    match result:
        case DatasetResult(status="too_many_rejects" | "too_much_drift"):
            if result.rejected_by_reason:
                _print(told_reasons(result.rows_in, result.rejected_by_reason))
        case DatasetResult(status="translated"):
            print("The graph was translated and not submitted; nothing was written.")
        case DatasetResult(status="nothing_to_do"):
            print("nothing to replay" if result.letters else f"nothing to add: {_why_nothing(result.skipped)}")
        case DatasetResult():
            _print(*told_dataset(result, output))
            if result.letters is not None:
                print(told_letters(result.letters))
        case FitResult():
            rows = "" if result.rows_fitted is None else f"{result.rows_fitted:,} rows of "
            print(f"fitted {result.features} ({result.features_engine}) on {rows}{result.input}; ", end="")
            print(f"they are in {result.transform}{'' if result.saved_model else _NO_SAVED_MODEL}")
            _print(*told_notes(result.notes), *told_report(result.report))
        case ExportResult():
            print(f"exported {result.transform} as a SavedModel: tft.TFTransformOutput loads {result.output}")
        case RelaxResult():
            _print(*told_relaxed(result))
        case ProfileResult() | CheckResult() | CompareResult():
            _print(*told_statistics(result))
        case VerifyResult():
            print(told_verified(result))
            _print(*told_report(result.report))
        case StatusResult():
            _print(*told_status(result), *told_report(result.report))
        case HistoryResult():
            _print(*told_history(result))
        case SpansResult():
            _print(*told_spans(result))
        case ShowResult():
            _print(*told_records(result))
        case TraceResult():
            print("\n".join(told_trace(result)))
        case DescribedResult():
            print(_described(result))


def _print(*parts: RenderableType) -> None:
    """Prints parts with an empty line after each, and no space at the end of any line."""
    console = Console(highlight=False, markup=False, emoji=False, width=_WIDTH)  # brackets are part of names
    padded = (Padding(part, (0, 0, 1, INDENT), expand=False) for part in parts)
    for line in console.render_lines(Group(*padded), pad=False):
        console.print(Segments([*_stripped(line), Segment.line()]), end="")


def _stripped(line: list[Segment]) -> list[Segment]:
    """A line without the spaces that it ends in."""
    line = list(line)
    while line and not line[-1].text.rstrip():
        line.pop()
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []


def _described(result: DescribedResult) -> str:
    stages = "\n".join(f"  {number}. {stage}" for number, stage in enumerate(result.stages, 1))
    flags = yaml.safe_dump(dict(result.flags), sort_keys=False, allow_unicode=True)
    return f"{flags}\nstages:\n{stages}\n\nNothing was read or written."
