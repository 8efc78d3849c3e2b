"""Statistics of each window of a dataset, and what is unusual about it.

They are of the rows in the shards of the window, as they are written: each bundle summarises its own, and the sink
merges these summaries as it publishes the window, and again when late rows come (`penstock.io.dataset.observer`).
"""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.io.beam.durations import micros
from penstock.io.beam.windows import AnyWindows, FlushWindows
from penstock.io.dataset.observer import Anomaly, Judgement, Published, Summary, WindowVersion
from penstock.io.dead_letters.record import RejectedBatch
from penstock.io.errors import ConfigError
from penstock.io.schema import Feature
from penstock.transforms.anomalies.check import check_statistics
from penstock.transforms.anomalies.told import anomaly_of, told
from penstock.transforms.dataset_statistics import RejectedRows, by_stage
from penstock.transforms.history.metrics import metrics_table
from penstock.transforms.history.newest import history_anomalies
from penstock.transforms.history.store import append_table
from penstock.transforms.statistics.files import list_files
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.statistics import Statistics

Before = Literal["previous", "week"]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_WEEK = datetime.timedelta(weeks=1)

_List: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList


@dataclasses.dataclass(frozen=True)
class WindowHistory:
    """The history to which each version of a window is appended.

    Attributes:
      path: its folder.
      severity: of a metric that leaves it; None where nothing is said, as of windows that are published in any order.
    """

    path: str
    severity: Literal["warning", "error"] | None = None


@dataclasses.dataclass(frozen=True)
class WindowStatistics:
    """Publishes `statistics/<window>.<version>.pb` and `.json` for each window, and judges it in its manifest.

    Attributes:
      options: of the statistics.
      windows: of the dataset.
      schema: what the rows as a whole are checked with, in serialised form; None for nothing.
      baseline: what each window shall be like: a serialised `DatasetFeatureStatisticsList`; None for nothing.
      before: the earlier window that each one shall be like: the one before it, or the one a week before it. Where that
        is not published, nothing is compared. In processing time, the one before is the last that is published.
      history: of the dataset; None for none.
      rejected: of the rows in the dead letters; None for none.

    Raises:
      ConfigError: where no window begins a week before another.
    """

    options: StatisticsOptions
    windows: AnyWindows
    schema: bytes | None = None
    baseline: tuple[str, bytes] | None = None
    before: Before | None = None
    history: WindowHistory | None = None
    rejected: "RejectedStatistics | None" = None

    def __post_init__(self) -> None:
        if self.before != "week":
            return
        if isinstance(self.windows, FlushWindows):
            raise ConfigError(
                "windows of processing time cannot be compared with those of a week before: they begin at any time; "
                "compare each with the previous one, or with fixed statistics"
            )
        if _WEEK % self.windows.period:
            raise ConfigError(
                f"windows of {self.windows} do not begin at the same times each week: compare each with the previous "
                "one, or use windows that divide a week"
            )

    def begin(self) -> Summary:
        """Begins the statistics of no rows."""
        return _Summary(self.options)

    def merge(self, states: Iterable[bytes]) -> bytes:
        """Merges states."""
        return _merged(self.options, states)

    def files(self, state: bytes) -> Mapping[str, bytes]:
        """Returns `.pb` and `.json`; equal rows give equal bytes."""
        return list_files(Statistics.from_bytes(state).to_proto())

    def restore(self, content: bytes) -> bytes:
        """Returns the state in a `.pb`."""
        return Statistics.from_proto(_List.FromString(content)).to_bytes(complete=True)

    def judge(self, version: WindowVersion, state: bytes, published: Published) -> Judgement:
        """Checks a window with the schema, and compares it with the baseline, the window before it and the history.

        Then it is in the history itself, in the place of its earlier version.
        """
        found = Statistics.from_bytes(state).to_proto(state=False)
        anomalies: list[Anomaly] = []
        if self.schema is not None:
            schema = schema_pb2.Schema.FromString(self.schema)
            anomalies += map(anomaly_of, check_statistics(found, schema=schema))
        compared = []
        for path, other in self._others(version.start, published):
            compared.append(path)
            anomalies += (anomaly_of(finding, path) for finding in check_statistics(found, baseline=other))
        if self.history is not None:
            anomalies += self._remember(self.history, version, found)
        return Judgement(tuple(told(anomalies)), tuple(compared))

    def _remember(self, history: WindowHistory, version: WindowVersion, found: _List) -> list[Anomaly]:
        """Appends a version to the history; returns what is unlike it.

        A version that is tried again has the same time, so that it is the same file. Windows of processing time are of
        any length, and are points like runs: each is named by its window.
        """
        created = datetime.datetime.fromisoformat(version.created)
        if isinstance(self.windows, FlushWindows):
            own = metrics_table(found, version.name, created)
        else:
            own = metrics_table(found, version.run_id, created, (_moment(version.start), _moment(version.end)))
        unlike = [] if history.severity is None else history_anomalies(history.path, own, history.severity)
        append_table(history.path, own)
        return unlike

    def _others(self, window: int, published: Published) -> Iterator[tuple[str, _List]]:
        if self.baseline is not None:
            yield self.baseline[0], _List.FromString(self.baseline[1])
        if self.before is not None:
            earlier = published(self._start_before(window))
            if earlier is not None:
                yield earlier[1], Statistics.from_bytes(earlier[0]).to_proto(state=False)

    def _start_before(self, window: int) -> int:
        """When the window began with which one is compared, or until when it did, in processing time."""
        if isinstance(self.windows, FlushWindows):
            return window - 1
        return window - micros(self.windows.period if self.before == "previous" else _WEEK)


def _moment(micros_since_1970: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=micros_since_1970)


@dataclasses.dataclass(frozen=True)
class RejectedStatistics:
    """Statistics of the dead letters of each window: `statistics/<window>.<version>.rejected.pb` and `.json`.

    A rejected row counts with the values that could be read of it under the schema, as in `DatasetStatistics`. One that
    came too late counts without values, since its letter keeps it as it was read.

    Attributes:
      options: of the statistics of rows as they came in.
      features: of rows as they came in.
      unknown: the steps that reject rows of other columns, of which nothing is read.
    """

    options: StatisticsOptions
    features: tuple[Feature, ...]
    unknown: tuple[str, ...] = ()

    def begin(self) -> "_RejectSummary":
        """Begins the statistics of no rows."""
        return _RejectSummary(self)

    def merge(self, states: Iterable[bytes]) -> bytes:
        """Merges states."""
        return _merged(self.options, states)

    def files(self, state: bytes) -> Mapping[str, bytes]:
        """Returns `.pb` and `.json`; equal rows give equal bytes."""
        return list_files(Statistics.from_bytes(state).to_proto())


class _RejectSummary:
    """The statistics of a file of dead letters."""

    def __init__(self, what: RejectedStatistics):
        self._rows = RejectedRows(what.options)
        self._what = what

    def add(self, rejected: RejectedBatch) -> None:
        """Adds rejected rows."""
        for stage, part in by_stage(rejected):
            self._rows.add(part, () if stage in self._what.unknown else self._what.features)

    def to_bytes(self) -> bytes:
        """Returns the state."""
        return self._rows.take().to_bytes(complete=True)


def _merged(options: StatisticsOptions, states: Iterable[bytes]) -> bytes:
    merged = Statistics(options)
    for state in states:
        merged.merge(Statistics.from_bytes(state))
    return merged.to_bytes(complete=True)


class _Summary:
    """The statistics of a chunk."""

    def __init__(self, options: StatisticsOptions):
        self._statistics = Statistics(options)

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds rows."""
        self._statistics.update(rows)

    def to_bytes(self) -> bytes:
        """Returns the state."""
        return self._statistics.to_bytes(complete=True)
