"""Metrics of a job for Prometheus, over HTTP: the counters of this process (`penstock.io.beam.progress`).

docs/metrics.md has their names, which are stable.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import penstock
from penstock.io.beam import progress
from penstock.io.beam.progress import Counts
from penstock.io.errors import ConfigError
from penstock.io.files.extras import METRICS
from pipelines._report.process import say

# Name without `_total`, what is counted, and the counter.
_COUNTERS = (
    ("rows_in", "Rows that were read; a retried bundle counts again.", "rows"),
    ("rows_rejected", "Rows that became dead letters.", "rejected"),
    ("rows_late", "Rows that came late or too late for their window.", "late"),
    ("windows_published", "Windows that were published.", "windows"),
    ("windows_final", "Windows that were published and take no more rows.", "final"),
    ("windows_quarantined", "Published windows with too many rejects.", "bad"),
)
_GAUGES = (
    ("windows_open", "Windows that wait for rows.", "open"),
    ("rows_waiting", "Rows in the open window of processing time (--flush_rows, --flush_every).", "waiting"),
    ("last_published_timestamp_seconds", "When a window was published last, seconds since 1970.", "published_at"),
)
_PARTITION = "partition"


def metric_families(counts: Counts) -> Iterator[Any]:
    """Yields the metrics that some counters make, as the client of Prometheus has them; labels may be any text."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    info = GaugeMetricFamily("penstock_build_info", "1, with the version of Penstock.", labels=["version"])
    info.add_metric([penstock.__version__], 1)
    yield info
    for name, text, counter in _COUNTERS:
        yield CounterMetricFamily(f"penstock_{name}", text, value=counts.done.get(counter, 0))
    for name, text, gauge in _GAUGES:
        if gauge in counts.values:
            yield GaugeMetricFamily(f"penstock_{name}", text, value=counts.values[gauge])
    yield from _partition_families(counts)


def _partition_families(counts: Counts) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    families = {
        "watermark_timestamp_seconds": "Event time up to which the rows of a partition are expected to have come.",
        "next_offset": "The offset of a partition that is read next.",
        "lag_offsets": "Offsets of a partition that are left to read.",
        "partition_idle": "1 if a partition holds no window open, since nothing has come from it for so long.",
    }
    made = {name: GaugeMetricFamily(f"penstock_{name}", text, labels=[_PARTITION]) for name, text in families.items()}
    for uri, found in counts.positions.items():
        values = {
            "watermark_timestamp_seconds": None if found.watermark is None else found.watermark / 1e6,
            "next_offset": found.position,
            "lag_offsets": found.lag,
            "partition_idle": int(found.is_idle),
        }
        for name, value in values.items():
            if value is not None:
                made[name].add_metric([uri], value)
    yield from made.values()


class _Collector:
    """Reads the counters whenever Prometheus asks."""

    def __init__(self, counts: Callable[[], Counts]):
        self._counts = counts

    def collect(self) -> Iterable[Any]:
        """Returns the metrics of this moment."""
        return metric_families(self._counts())


@contextlib.contextmanager
def serving_metrics(
    host: str, port: int | None, counts: Callable[[], Counts] = progress.snapshot
) -> Iterator[int | None]:
    """Serves the metrics at `http://HOST:PORT/metrics` for the block, and says so; yields the port.

    Args:
      host: the address to listen on.
      port: the port; 0 for any that is free, None for no metrics.
      counts: the counters.

    Raises:
      ConfigError: when nothing can listen there.
      MissingExtraError: without the extra `metrics`.
    """
    if port is None:
        yield None
        return
    METRICS.require("--metrics_port")
    server, thread = _started(host, port, counts)
    try:
        say(f"Metrics: http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics")
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _started(host: str, port: int, counts: Callable[[], Counts]) -> tuple[Any, Any]:
    from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collector(counts))
    try:
        return start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--metrics_port {port}: cannot listen on {host}:{port}: {error}; pass another port, or 0 for any free one"
        ) from error
