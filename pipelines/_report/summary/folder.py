"""Summaries of `verify` and `status`: what lies in the folder of a dataset."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from penstock.io.files.sizes import byte_text
from pipelines._report.result import StatusResult, VerifyResult
from pipelines._report.summary.parts import counted, listed, new_table, percent, time_range, told_reasons


def told_verified(result: VerifyResult) -> str:
    """The faults, or the sizes of a dataset that has none."""
    from penstock.transforms.leftovers import LEFTOVER
    from penstock.transforms.verify import Fault

    lines = [f"{name}: deleted" for name in result.cleaned] + [f"{name}: {LEFTOVER}" for name in result.leftovers]
    if result.faults:
        lines += [str(Fault(**fault)) for fault in result.faults]
        return "\n".join([*lines, f"{result.dataset}: {result.error}"])
    windows = "" if result.windows is None else f" of {counted(result.windows, 'window')}"
    records = f"{result.rows_out or 0:,} records in {counted(result.shards or 0, 'shard')}{windows}"
    return "\n".join([*lines, f"{result.dataset}: good: {records}, {byte_text(result.bytes or 0)}"])


def told_status(result: StatusResult) -> Iterator[RenderableType]:
    """The state, the rows, and what one may have to look at; nothing of what is as it should be."""
    yield Text("\n").join([Text(result.output, "bold"), *map(Text, _state(result))])
    if result.state != "unpublished":
        yield _status_rows(result)
    if result.rejected_by_reason:
        yield told_reasons(result.rows_in, result.rejected_by_reason)
    yield from listed(
        "gaps, in which no window is published", [time_range(gap["start"], gap["end"]) for gap in result.gaps]
    )
    yield from listed("windows that are not final yet", [time_range(*window) for window in result.not_final])
    yield from listed("windows with too many rejects", map(_quarantined, result.quarantined))
    title = "windows with anomalies" if result.window_count is not None else "unusual about the rows"
    yield from listed(title, map(_unusual, result.unusual))
    yield from listed("folders of runs", map(_staged, result.staging))
    if result.earlier_files:
        files = counted(result.earlier_files, "file")
        size = byte_text(result.earlier_bytes)
        yield f"{files} that were replaced ({size}); penstock verify --clean deletes them"
    title = f"files that no manifest names ({byte_text(result.unknown_bytes)})"
    yield from listed(title, result.unknown)
    yield from listed("files that are missing", result.missing)
    yield from listed("files that cannot be read", [f"{one['path']}: {one['detail']}" for one in result.damaged])


def _state(result: StatusResult) -> Iterator[str]:
    match result.state:
        case "unpublished":
            yield "nothing is published yet"
        case "whole":
            yield "a dataset without windows"
            if result.spans:
                spans = counted(len(result.spans), "span")
                yield f"version {result.version}, {spans}, the newest {result.spans[-1]['name']}"
        case _:
            span = time_range(
                *(window[end] for end, window in enumerate((result.first_window, result.last_window)) if window)
            )
            yield f"{counted(result.window_count or 0, 'window')}, {span}"
    if result.stream is not None and "generation" in result.stream:
        started = result.stream.get("started", "an unknown time")
        yield f"a stream, started {counted(result.stream['generation'], 'time')}, the last time at {started}"
    if result.last_event_time:
        yield f"last event {result.last_event_time}"
    if result.last_published:
        yield f"last published {result.last_published}"


def _status_rows(result: StatusResult) -> Table:
    table = new_table("rows", "", "")
    table.add_row("in", f"{result.rows_in:,}", "")
    counts = {"on time": result.rows_on_time, "late": result.rows_late, "rejected": result.rows_rejected}
    if result.state == "whole":
        counts = {"out": result.rows_out, "rejected": result.rows_rejected}
    for name, rows in counts.items():
        table.add_row(name, f"{rows:,}", percent(rows, result.rows_in))
    return table


def _quarantined(window: Mapping[str, Any]) -> str:
    reasons = sorted(window["rejected_by_reason"].items(), key=lambda item: (-item[1], item[0]))[:3]
    why = ", ".join(f"{reason} {rows:,}" for reason, rows in reasons)
    return (
        f"{time_range(*window['window'])}: {window['rows_rejected']:,} of {window['rows_in']:,} rows rejected ({why})"
    )


def _unusual(window: Mapping[str, Any]) -> str:
    first, *more = window["anomalies"]
    of = f"{first['feature']}: " if first["feature"] else ""
    others = f" (and {len(more)} more)" if more else ""
    where = f"{time_range(*window['window'])}: " if window["window"] else ""
    return f"{where}{first['severity']}: {of}{first['description']}{others}"


_OWNERS = {
    "running": "a run is at work in it",
    "ended": "its run has ended, and the next run removes it",
    "unknown": "whose run is not known: on a cluster or another machine it may go on",
}


def _staged(folder: Mapping[str, Any]) -> str:
    age = datetime.timedelta(seconds=int(folder["age_seconds"]))
    text = f"{folder['name']}: {counted(folder['files'], 'file')}, {byte_text(folder['bytes'])}, last written {age} ago"
    orphaned = folder["orphaned"]
    if orphaned["files"]:
        text += f", of which {counted(orphaned['files'], 'chunk')} ({byte_text(orphaned['bytes'])}) nobody needs"
    return f"{text}; {_OWNERS[folder['owner']]}"
