"""What a person reads when `prepare` is done: how many rows went where, and what to do next."""

import shlex
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table

from penstock.io.layout import TRANSFORM, Manifest

_MAX_REASONS = 12


def print_summary(manifest: Manifest, output: str, seconds: float) -> None:
    """Prints the summary of a published dataset to stdout."""
    Console(highlight=False, soft_wrap=True).print(Group(*_parts(manifest, output, seconds)))


def print_rejects(rows_in: int, rejected: Mapping[str, int]) -> None:
    """Prints the rejects by reason, for a run that failed over them."""
    Console(highlight=False, soft_wrap=True).print(_reasons(rows_in, rejected))


def _parts(manifest: Manifest, output: str, seconds: float) -> Iterator[RenderableType]:
    yield ""
    yield _totals(manifest, seconds)
    yield _splits(manifest)
    if manifest.rejected_by_reason:
        yield _reasons(manifest.rows_in, manifest.rejected_by_reason)
    yield _places(manifest, output)
    yield f"Next: check every byte of it\n  python -m pipelines.verify --dataset {shlex.quote(output)}\n"


def _totals(manifest: Manifest, seconds: float) -> Table:
    table = _table("", ("rows", "right"), ("", "right"), title="Dataset")
    table.add_row("in", f"{manifest.rows_in:,}", "")
    table.add_row("out", f"{manifest.rows_out:,}", _percent(manifest.rows_out, manifest.rows_in))
    table.add_row("rejected", f"{manifest.rows_rejected:,}", _percent(manifest.rows_rejected, manifest.rows_in))
    table.caption = f"{seconds:,.1f} s in all, {manifest.rows_in / seconds:,.0f} rows/s"
    return table


def _splits(manifest: Manifest) -> Table:
    table = _table("split", ("rows", "right"), ("shards", "right"), ("bytes", "right"), title="Splits")
    for name in manifest.splits:
        shards = [shard for shard in manifest.shards if shard.split == name]
        rows = sum(shard.records for shard in shards)
        table.add_row(name, f"{rows:,}", str(len(shards)), byte_text(sum(shard.bytes for shard in shards)))
    return table


def _reasons(rows_in: int, rejected: Mapping[str, int]) -> Table:
    table = _table("reason", ("rows", "right"), ("", "right"), title="Rejected (a row may have several reasons)")
    ranked = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    for reason, rows in ranked[:_MAX_REASONS]:
        table.add_row(reason, f"{rows:,}", _percent(rows, rows_in))
    if len(ranked) > _MAX_REASONS:
        table.add_row(f"and {len(ranked) - _MAX_REASONS} more, see manifest.json", "", "")
    return table


def _places(manifest: Manifest, output: str) -> Table:
    table = _table("in " + output, ("", "left"), title="Where things are")
    table.add_row("manifest.json", "the whole story: counts, digests, inputs, options, versions")
    table.add_row("schema.pbtxt", "the schema of the rows; curate it and pass it back with --schema")
    for name in manifest.splits:
        table.add_row(f"{name}/", "TFRecord shards of tf.Example")
    if TRANSFORM in manifest.extras:
        table.add_row("transform/", "the fitted graph: tft.TFTransformOutput, or --transform of another run")
    if manifest.rows_rejected:
        table.add_row("dead_letters/", "rejected rows with all their reasons, JSON Lines")
    return table


def _table(first: str, *columns: tuple[str, str], title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", caption_justify="left")
    table.add_column(first)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left")
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
