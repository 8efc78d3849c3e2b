"""Statistics of what a dataset is made of: its rows, those that came in, those that were rejected; and a gate on them.

They are computed while the dataset is written, of rows that pass by anyway. No row is looked at twice for it: the
statistics of the rows that came in are those of the rows that went on, merged with those of the rejected rows.
"""

import collections
import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import apache_beam as beam
import pyarrow as pa
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.io.batches import MAX_BATCH_BYTES, MAX_BATCH_ROWS, concat_alike, in_global_window
from penstock.io.columns.conform import conform_batch
from penstock.io.dataset.layout import HISTORY, STATISTICS, Staging
from penstock.io.dataset.observer import Anomaly, DatasetObserver
from penstock.io.dataset.options import IN_STATISTICS, OUT_STATISTICS, REJECTED_STATISTICS
from penstock.io.dead_letters.handler import rejected_batch
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.schema import Feature
from penstock.transforms.anomalies.check import check_statistics
from penstock.transforms.anomalies.findings import Finding
from penstock.transforms.anomalies.told import anomaly_of, told
from penstock.transforms.history.metrics import metrics_table
from penstock.transforms.history.newest import history_anomalies
from penstock.transforms.history.store import write_file
from penstock.transforms.statistics.files import write_list
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.statistics import ALL_EXAMPLES, Statistics
from penstock.transforms.statistics.table import TableStatistics

# Steps behind the one at which rows are looked at as they came in: what they reject has been counted there.
_LATE_STAGES = frozenset({"transform", "write"})

# Whose statistics there are: rows that came in, that went out, rejects of early and of late steps.
_PASSED, _OUT, _EARLY, _LATE = "passed", "out", "early", "late"

# So many errors of the gate are told.
_MAX_TOLD = 10

_List: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList
# Of whom, and the state of their statistics, which are encoded once however many steps of the runner they pass.
_Part = tuple[str, bytes]


@dataclasses.dataclass(eq=False)
class DatasetStatistics(DatasetObserver):
    """Stages `statistics/in.pb`, `out.pb` and `rejected.pb`, each with the same as `.json`.

    `out` has a dataset for each split. `in` and `rejected` have `All Examples`, and slices of these. A rejected row
    counts with the values that could be read of it under the schema: a line that is no record has none at all, a value
    of a wrong type is missing. So `num_examples` is the number of rows of the manifest.

    Attributes:
      options: of the statistics of rows as they came in.
      features: of rows as they came in.
      splits: of the dataset.
      passed: the rows before something replaced or added columns; None where nothing does, and the rows that are
        written are those that came in.
      out_columns: the columns that are written; None for those that came in.
      baseline: what the rows of the dataset shall be like: a `DatasetFeatureStatisticsList`. With a drift of the
        severity error (`check_statistics`), the dataset is not published.
      against: the name of the baseline, for the manifest.
      history: the severity of a metric that leaves the history of the output; with an error, the dataset is not
        published. The published dataset is in the history. None for no history.
    """

    options: StatisticsOptions
    features: Sequence[Feature]
    splits: Sequence[str]
    passed: beam.PCollection[pa.RecordBatch] | None = None
    out_columns: Sequence[str] | None = None
    baseline: _List | None = None
    against: str = ""
    history: Literal["warning", "error"] | None = None

    extras = (STATISTICS,)

    def observe(
        self,
        staging: Staging,
        written: beam.PCollection[pa.RecordBatch],
        rejected: Sequence[beam.PCollection[Any]],
    ) -> beam.PCollection[Any]:
        """Summarises each bundle, merges the summaries, stages the files, and checks those of `out`."""
        parts = [written | "OfWritten" >> _summarize(_OUT, self._out_options())]
        if self.passed is not None:
            names = [feature.name for feature in self.features]
            parts.append(self.passed | "OfPassed" >> _summarize(_PASSED, self.options, names))
        for index, batches in enumerate(rejected):
            # What the sink rejects of rows that became features has other columns than what came in.
            unknown = () if self.out_columns is None else ("write",)
            summarize = _SummarizeRejectedFn(self.options, self.features, unknown)
            parts.append(batches | f"OfRejected{index}" >> beam.ParDo(summarize).with_output_types(_Part))
        # Without any row there are statistics as well.
        none = [_part(kind, Statistics(self.options)) for kind in (_PASSED, _OUT, _EARLY, _LATE)]
        parts.append(written.pipeline | "NoStatistics" >> beam.Create(none, reshuffle=False).with_output_types(_Part))
        baseline = None if self.baseline is None else (self.against, self.baseline.SerializeToString())
        judge = _Judge(staging, baseline, self.history)
        return (
            parts
            | "Summaries" >> beam.Flatten()
            | "Together" >> beam.Map(lambda part: (0, part)).with_output_types(tuple[int, _Part])
            | "GroupSummaries" >> beam.GroupByKey()
            | "StageStatistics" >> beam.ParDo(_StageFn(staging, tuple(self.splits), self.passed is not None, judge))
        )

    def _out_options(self) -> StatisticsOptions:
        """The options without columns that are not written."""
        if self.out_columns is None:
            return self.options
        known = set(self.out_columns)
        return dataclasses.replace(
            self.options,
            slice_by=tuple(name for name in self.options.slice_by if name in known),
            label=self.options.label if self.options.label in known else None,
            categorical=(),
            images=(),
        )


def _part(kind: str, statistics: Statistics) -> _Part:
    return kind, statistics.to_bytes(complete=True)


def _summarize(kind: str, options: StatisticsOptions, columns: Sequence[str] | None = None) -> beam.ParDo:
    return beam.ParDo(_SummarizeFn(kind, options, columns)).with_output_types(_Part)


class _SummarizeFn(beam.DoFn):
    """Makes one element of the rows of a bundle."""

    def __init__(self, kind: str, options: StatisticsOptions, columns: Sequence[str] | None):
        self._kind = kind
        self._options = options
        self._columns = None if columns is None else frozenset(columns)

    def start_bundle(self) -> None:
        self._statistics = Statistics(self._options)

    def process(self, batch: pa.RecordBatch) -> None:
        if self._columns is not None:
            batch = batch.select([name for name in batch.schema.names if name in self._columns])
        self._statistics.update(batch)

    def finish_bundle(self) -> Iterator[Any]:
        yield in_global_window(_part(self._kind, self._statistics))


class _SummarizeRejectedFn(beam.DoFn):
    """Makes up to two elements of the rejected rows of a bundle: of early steps, and of late ones."""

    def __init__(self, options: StatisticsOptions, features: Sequence[Feature], unknown: Iterable[str]):
        self._options = options
        self._features = tuple(features)
        self._unknown = frozenset(unknown)

    def start_bundle(self) -> None:
        self._parts: dict[str, RejectedRows] = collections.defaultdict(lambda: RejectedRows(self._options))

    def process(self, element: RejectedBatch | DeadLetter) -> None:
        for stage, own in by_stage(rejected_batch(element)):
            part = self._parts[_LATE if stage in _LATE_STAGES else _EARLY]
            part.add(own, () if stage in self._unknown else self._features)

    def finish_bundle(self) -> Iterator[Any]:
        for kind, part in self._parts.items():
            yield in_global_window(_part(kind, part.take()))


def by_stage(batch: RejectedBatch) -> Iterator[tuple[str, RejectedBatch]]:
    """Splits rejected rows by the step that rejected them."""
    stages = batch.lists["stage"]
    for stage in dict.fromkeys(stages):
        is_own = [one == stage for one in stages]
        yield stage, batch if all(is_own) else batch.filter(pa.array(is_own))


class RejectedRows:
    """Gathers rows that were rejected, a few of each batch, until they are worth their columns' time."""

    def __init__(self, options: StatisticsOptions):
        self._statistics = Statistics(options)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: RejectedBatch, features: Sequence[Feature]) -> None:
        """Adds rejected rows with the values that can be read of them under the schema."""
        rows = _readable(batch, features)
        if rows is None:
            options = self._statistics.options
            self._statistics.tables.setdefault(ALL_EXAMPLES, TableStatistics(options)).rows += len(batch)
            return
        self._waiting.append(rows)
        self._rows, self._bytes = self._rows + rows.num_rows, self._bytes + rows.nbytes
        if self._rows >= MAX_BATCH_ROWS or self._bytes >= MAX_BATCH_BYTES:
            self._update()

    def _update(self) -> None:
        for rows in concat_alike(self._waiting):
            self._statistics.update(rows)
        self._waiting, self._rows, self._bytes = [], 0, 0

    def take(self) -> Statistics:
        """Returns the statistics of all rows that were added."""
        self._update()
        return self._statistics


def _readable(batch: RejectedBatch, features: Sequence[Feature]) -> pa.RecordBatch | None:
    """Returns the columns that can be read; None where there are none."""
    if batch.rows is None:
        return None
    try:
        rows = conform_batch(batch.rows, features)[0].replace_schema_metadata(None)
    except ConfigError:  # a column that no feature can hold, which the rows may have been rejected for
        return None
    return rows if rows.num_columns else None


def _merge(*parts: Statistics) -> Statistics:
    """Merges some into new ones."""
    merged = Statistics(parts[0].options)
    for part in parts:
        merged.merge(part)
    return merged


class _StageFn(beam.DoFn):
    """Writes the files, and yields what is wrong with the rows, and why the dataset must not be published."""

    def __init__(
        self,
        staging: Staging,
        splits: tuple[str, ...],
        has_passed: bool,
        judge: "_Judge",
    ):
        self._staging = staging
        self._splits = splits
        self._has_passed = has_passed
        self._judge = judge

    def process(self, element: tuple[int, Iterable[_Part]]) -> Iterator[str | Anomaly]:
        _, parts = element
        found: dict[str, Statistics] = {}
        for kind, state in parts:
            part = Statistics.from_bytes(state)
            if kind in found:
                found[kind].merge(part)
            else:
                found[kind] = part
        rejected = _merge(found[_EARLY], found[_LATE])
        went_on = [found[_PASSED], found[_EARLY]] if self._has_passed else [found[_OUT], rejected]
        came_in = of_all_rows(went_on[0], self._splits)
        came_in.merge(went_on[1])
        out = found[_OUT].to_proto()
        for name, proto in (
            (IN_STATISTICS, came_in.to_proto()),
            (OUT_STATISTICS, out),
            (REJECTED_STATISTICS, rejected.to_proto()),
        ):
            write_list(proto, self._staging.path(STATISTICS, name))
        yield from self._judge.of(out)


@dataclasses.dataclass(frozen=True)
class _Judge:
    """Holds the rows of a dataset against what came before them.

    Attributes:
      baseline: its name, and its serialised form.
      history: the severity of a metric that leaves it.
    """

    staging: Staging
    baseline: tuple[str, bytes] | None
    history: Literal["warning", "error"] | None

    def of(self, out: _List) -> Iterator[str | Anomaly]:
        """Yields anomalies for the manifest, and why the dataset must not be published.

        It stages the point of the history; what is not published does not come into the history.
        """
        anomalies: list[Anomaly] = []
        if self.baseline is not None:
            findings = check_statistics(out, baseline=_List.FromString(self.baseline[1]))
            yield from refusals(list(findings.errors))
            anomalies += (anomaly_of(finding, self.baseline[0]) for finding in findings)
        if self.history is not None:
            own = metrics_table(out, self.staging.run_id, datetime.datetime.now(datetime.UTC))
            left = history_anomalies(stores.join(self.staging.output, HISTORY), own, self.history)
            if self.history == "error":
                yield from sentences([f"{one.description} [{one.reason}]" for one in left])
            anomalies += left
            write_file(self.staging.path(HISTORY), own)
        yield from told(anomalies)


def of_all_rows(statistics: Statistics, splits: Iterable[str]) -> Statistics:
    """Merges the statistics of splits: those of all rows, and of the slices of all rows."""
    merged, names = Statistics(statistics.options), set(splits)
    for name, table in statistics.tables.items():
        part = Statistics(statistics.options)
        first, _, rest = name.partition("/")
        part.tables = {ALL_EXAMPLES if name in names else rest if first in names and rest else name: table}
        merged.merge(part)
    return merged


def check_baseline(baseline: _List, splits: Sequence[str], what: str) -> None:
    """Checks that each split has a counterpart in the statistics that it shall be like.

    Raises:
      ConfigError: names those that have none.
    """
    names = [dataset.name for dataset in baseline.datasets]
    alone = [split for split in splits if split not in names]
    if alone and len(names) != 1:
        raise ConfigError(
            f"{what}: has statistics of {', '.join(names[:10])}, and none of {', '.join(alone[:10])}: name those of a "
            "dataset with the same splits, or of all rows (penstock profile)"
        )


def refusals(errors: Sequence[Finding]) -> Iterator[str]:
    """Yields why a dataset must not be published, a sentence for each error, the gravest first."""
    wheres = (f" of {finding.dataset}" if finding.dataset else "" for finding in errors)
    yield from sentences(
        [
            f"{finding.subject}{where}: {finding.title} [{finding.code}]: {finding.text}"
            for finding, where in zip(errors, wheres, strict=True)
        ]
    )


def sentences(found: Sequence[str]) -> Iterator[str]:
    """Yields some sentences, and how many more there are."""
    yield from found[:_MAX_TOLD]
    if len(found) > _MAX_TOLD:
        yield f"and {len(found) - _MAX_TOLD} errors more"
