"""The summary of `show`: the first records of a dataset as a table."""

import json
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from penstock.io.files.sizes import byte_text
from pipelines._report.result import ShowResult
from pipelines._report.summary.parts import GAP, counted, new_table, told_loading
from pipelines._report.summary.statistics import told_columns

# What is longer is cut; `--json` has all of it.
_MAX_TEXT = 24


def told_records(result: ShowResult) -> Iterator[RenderableType]:
    """Sizes, columns with the first records side by side, their statistics, and the lines that load them."""
    kind = f"{result.format}, {result.compression}"
    windows = "" if len(result.dataset_ids) == 1 else f", {counted(len(result.dataset_ids), 'window')}"
    yield Text("\n").join([Text(result.dataset, "bold"), Text(f"{kind}{windows}")])
    splits = new_table("split", "rows", "shards", "bytes")
    for name, found in result.splits.items():
        splits.add_row(name, f"{found['rows']:,}", f"{found['shards']:,}", byte_text(found["bytes"]))
    yield splits
    yield _records(result)
    if result.statistics:
        yield Text(f"statistics of {result.split}", "bold")
        yield told_columns(result.statistics, result.splits[result.split]["rows"])
    yield told_loading(result.load)


def _records(result: ShowResult) -> Table:
    """A row for each column, so that many columns need no wide terminal: its type, and its first values."""
    made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    made.add_column("column")
    made.add_column("type")
    for number in range(1, len(result.rows) + 1):
        made.add_column(f"{result.split} {number}", justify="right")
    for column in result.columns:
        made.add_row(column["name"], column["type"], *(_value(row[column["name"]]) for row in result.rows))
    return made


def _value(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."
