"""What a person reads when `prepare` is done: how many rows went where, and what to do next."""

import shlex
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from penstock.io.layout import DEAD_LETTERS, MANIFEST, SCHEMA, TRANSFORM
from penstock.io.manifest import Manifest, sum_counts
from penstock.io.windowed.manifest import WindowManifest

_MAX_REASONS = 12

# Paths and commands are for copying: a terminal wraps what is too long for it, nothing is cut.
_WIDTH = 10_000


def print_summary(manifest: Manifest, output: str, seconds: float) -> None:
    """Prints the summary of a published dataset to stdout."""
    _print(*_parts(manifest, output.rstrip("/"), seconds))


def print_rejects(rows_in: int, rejected: Mapping[str, int]) -> None:
    """Prints the rejects by reason, for a run that failed over them."""
    _print(_reasons(rows_in, rejected))


def print_windows(manifests: Iterable[WindowManifest], output: str, seconds: float) -> None:
    """Prints the summary of all windows of a dataset to stdout."""
    windows = list(manifests)
    rejected = sum_counts(window.rejected_by_reason for window in windows)
    rows_in = sum(window.rows_in for window in windows)
    table = _table("windows", f"{len(windows):,}", "")
    table.add_row("in", f"{rows_in:,}", "")
    for name in ("rows_on_time", "rows_late", "rows_rejected"):
        rows = sum(getattr(window, name) for window in windows)
        table.add_row(name.removeprefix("rows_").replace("_", " "), f"{rows:,}", _percent(rows, rows_in))
    quarantined = sum(window.status == "quarantined" for window in windows)
    table.add_row("windows with too many rejects", f"{quarantined:,}", _percent(quarantined, len(windows)))
    reasons = (_reasons(rows_in, rejected),) if rejected else ()
    _print(
        f"Done in {seconds:,.1f} s, {rows_in / seconds:,.0f} rows/s",
        table,
        *reasons,
        f"Next: check every byte\n  penstock verify --dataset {shlex.quote(output)}",
    )


def _print(*parts: RenderableType) -> None:
    padded = (Padding(part, (0, 0, 1, 2), expand=False) for part in parts)
    Console(highlight=False, width=_WIDTH).print(Group(*padded))


def _parts(manifest: Manifest, output: str, seconds: float) -> Iterator[RenderableType]:
    yield f"Done in {seconds:,.1f} s, {manifest.rows_in / seconds:,.0f} rows/s"
    yield _rows(manifest)
    yield _splits(manifest)
    if manifest.rejected_by_reason:
        yield _reasons(manifest.rows_in, manifest.rejected_by_reason)
    yield _places(manifest, output)
    yield f"Next: check every byte\n  penstock verify --dataset {shlex.quote(output)}"


def _rows(manifest: Manifest) -> Table:
    table = _table("rows", "", "")
    table.add_row("in", f"{manifest.rows_in:,}", "")
    table.add_row("out", f"{manifest.rows_out:,}", _percent(manifest.rows_out, manifest.rows_in))
    table.add_row("rejected", f"{manifest.rows_rejected:,}", _percent(manifest.rows_rejected, manifest.rows_in))
    return table


def _splits(manifest: Manifest) -> Table:
    table = _table("split", "rows", "shards", "bytes")
    for name, rows in manifest.splits.items():
        shards = [shard for shard in manifest.shards if shard.split == name]
        table.add_row(name, f"{rows:,}", str(len(shards)), byte_text(sum(shard.bytes for shard in shards)))
    return table


def _reasons(rows_in: int, rejected: Mapping[str, int]) -> Table:
    table = _table("rejected for (a row may have several reasons)", "rows", "")
    ranked = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    for reason, rows in ranked[:_MAX_REASONS]:
        table.add_row(reason, f"{rows:,}", _percent(rows, rows_in))
    if len(ranked) > _MAX_REASONS:
        table.add_row(f"and {len(ranked) - _MAX_REASONS} more", "", "")
    return table


def _places(manifest: Manifest, output: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("where", style="bold")
    table.add_column("")
    for name in manifest.splits:
        table.add_row(f"{output}/{name}/", "TFRecord shards of tf.Example")
    table.add_row(f"{output}/{MANIFEST}", "counts, digests, inputs, options, versions")
    if SCHEMA in manifest.extras:
        table.add_row(f"{output}/{SCHEMA}", "the schema of the rows; curate it and pass it back with --schema")
    if TRANSFORM in manifest.extras:
        table.add_row(f"{output}/{TRANSFORM}/", "the graph of the features; --transform applies it to other rows")
    if manifest.dead_letters:
        table.add_row(f"{output}/{DEAD_LETTERS}/", "rejected rows with all their reasons")
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column(first)
    for number in numbers:
        table.add_column(number, justify="right")
    return table


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else ""


def byte_text(count: int) -> str:
    """A number of bytes as people read it.

    >>> byte_text(134217728)
    '128.0 MiB'
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
