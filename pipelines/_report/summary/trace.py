"""The summary of `trace`: where a record came from."""

from collections.abc import Iterator

from pipelines._report.result import TraceResult


def told_trace(result: TraceResult) -> Iterator[str]:
    """Lines: the record, what it was read from, and the row there."""
    yield f"record {result.record:,} of {result.dataset}/{result.shard}"
    if result.uri is not None:
        line = "" if result.line is None else f", line {result.line}"
        yield f"  from {result.uri}, {result.unit} {result.position}{line}"
    if result.text is not None:
        yield f"  {result.text}" if result.encoding != "base64" else f"  in base64: {result.text}"
    if result.why is not None:
        yield f"  {result.why}"
