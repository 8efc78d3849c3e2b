"""The summary of `relax`."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from pipelines._report.result import RelaxResult

_MAX_LINES = 100


def told_relaxed(result: RelaxResult) -> Iterator[RenderableType]:
    """What rows break, what became of the schema, and the lines that differ."""
    if not result.changes:
        yield f"{result.rows_in:,} rows meet {result.schema}; {result.output} is the same"
    else:
        lines = [
            Text.assemble(
                (f"{change['code']} {change['subject']}", "bold"),
                f"   {change['rows']:,} of {result.rows_in:,} rows\n  {change['example']}\n  -> {change['change']}",
            )
            for change in result.changes
        ]
        yield Text("\n").join([Text(f"what rows break of {result.schema}", "bold"), *lines])
    if result.rows_unread:
        yield f"{result.rows_unread:,} rows cannot be read, whatever the schema says; prepare rejects them"
    if result.difference:
        shown = result.difference[:_MAX_LINES]
        more = (
            [f"and {len(result.difference) - len(shown):,} lines more"] if len(shown) < len(result.difference) else []
        )
        yield Text("\n").join([Text("difference", "bold"), *map(Text, [*shown, *more])])
    yield f"the relaxed schema: {result.output}"
