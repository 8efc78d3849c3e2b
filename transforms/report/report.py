"""The report on data: one HTML file that needs nothing else.

Formulas of what it shows stand in the page itself, under "How each number is defined".
"""

import dataclasses
import html
import itertools
import os
import pathlib
import tempfile
import uuid
import webbrowser
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import pyarrow as pa
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from penstock.io.dataset.manifest import ManifestFile
from penstock.io.dataset.observer import Anomaly
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.folders import delete_files, replace_file
from penstock.transforms.anomalies.findings import Findings
from penstock.transforms.report import page
from penstock.transforms.report.alerts import (
    Alert,
    Distance,
    FileFault,
    Recorded,
    alerts_by_path,
    alerts_of,
    alerts_of_faults,
    alerts_of_findings,
    alerts_of_recorded,
    distances_of,
    distances_of_findings,
)
from penstock.transforms.report.charts import draw_line
from penstock.transforms.report.features import Dataset, Feature, datasets_of, features_of
from penstock.transforms.report.history_lines import Line, changing, lines_of
from penstock.transforms.report.relations import correlation_changes, heat_map, missing_together
from penstock.transforms.report.rows import Letter, Rows, rows_of
from penstock.transforms.report.schema_table import schema_rows
from penstock.transforms.report.text import visible
from penstock.transforms.report.windows import sums_of, window_lines, window_rows

_M = TypeVar("_M", bound=Message)

# With more features than this, only those that findings name show their history: it would be most of the page.
_FEATURES_WITH_HISTORY = 200

# A stream may have any number of windows with findings.
_MAX_ALERTS = 500


class HasProto(Protocol):
    """What can be turned into a proto: `Statistics`, `Findings`."""

    def to_proto(self) -> Message:
        """Returns the proto."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """A report on one or two sets of data, as one HTML file; nothing is fetched when it is opened.

    It shows what it is given, and leaves out the rest: alerts first, then rows, features, how far datasets are apart,
    correlation, what is missing together, the schema, history, and a definition of each number. Examples of rejected
    rows and frequent values are shown as they are: treat the file as you treat the data.

    Attributes:
      statistics: of the data, a dataset for each split or slice, of which the first 6 are shown; the proto,
        or anything whose `to_proto()` gives it, such as `Statistics`.
      baseline: statistics to compare with, drawn over the others.
      schema: what the data should be.
      anomalies: what a check has found: `Findings`, whose order is kept, or the proto.
      manifest: of the dataset or of one window, as it is read or as a dict. What it tells of anomalies is an alert too.
      windows: manifests of the windows of a dataset, in the order of time, in place of `manifest`: a table of them,
        lines of their rows and of their rejects by reason, their sums, and their anomalies, those of the newest first.
      faults: of files, such as `verify_dataset` finds, before all other alerts; none if it found none, None if nobody
        has looked.
      history: metrics of earlier runs, a row for each value (`lines_of` says which columns).
      dead_letters: rejected rows, as `DeadLetter` or as the dicts that their files hold; three examples of each reason
        are shown. The report is immutable, so an iterator is read when the report is made.
      title: of the page.

    Raises:
      ConfigError: if an argument is of a wrong kind.
    """

    statistics: statistics_pb2.DatasetFeatureStatisticsList | HasProto
    baseline: statistics_pb2.DatasetFeatureStatisticsList | HasProto | None = None
    schema: schema_pb2.Schema | None = None
    anomalies: anomalies_pb2.Anomalies | HasProto | None = None
    manifest: ManifestFile | Mapping[str, Any] | None = None
    windows: Iterable[WindowManifest] = ()
    faults: Iterable[FileFault] | None = None
    history: pa.Table | None = None
    dead_letters: Iterable[Letter] = ()
    title: str = "Data report"

    def __post_init__(self) -> None:
        """Checks the kinds of all arguments, and gathers from what can be read only once."""
        _proto("statistics", self.statistics, statistics_pb2.DatasetFeatureStatisticsList)
        _proto_or_none("baseline", self.baseline, statistics_pb2.DatasetFeatureStatisticsList)
        _proto_or_none("schema", self.schema, schema_pb2.Schema)
        _proto_or_none("anomalies", self.anomalies, anomalies_pb2.Anomalies)
        if self.history is not None:
            lines_of(self.history.slice(0, 0))
        object.__setattr__(self, "windows", tuple(self.windows))
        if self.manifest is not None and self.windows:
            raise ConfigError("a report is of a dataset or of its windows: pass manifest or windows")
        object.__setattr__(self, "faults", None if self.faults is None else tuple(self.faults))
        object.__setattr__(self, "_rows", _gathered(self.manifest, self._windows, self.dead_letters))

    def to_html(self) -> str:
        """Returns the page. It follows from the arguments alone: there is no time or path in it."""
        statistics = _proto("statistics", self.statistics, statistics_pb2.DatasetFeatureStatisticsList)
        baseline = _proto_or_none("baseline", self.baseline, statistics_pb2.DatasetFeatureStatisticsList)
        datasets = datasets_of(statistics, baseline)
        features = features_of(datasets)
        alerts, distances = self._found()
        alerts, more = alerts[:_MAX_ALERTS], alerts[_MAX_ALERTS:]
        counts = alerts_by_path(alerts)
        lines = lines_of(self.history) if self.history is not None else {}
        return page.render(
            visible(self.title),
            datasets,
            features,
            counts,
            distances,
            _shown_lines(features, counts, lines),
            checked=self.anomalies is not None or self.faults is not None or bool(self.windows or alerts),
            alerts=alerts,
            more_alerts=len(more),
            left_out=_left_out(datasets, statistics, baseline),
            what_became=self._rows,  # type: ignore[attr-defined]
            windows=window_rows(self._windows),
            window_count=len(self._windows),
            heat=heat_map(datasets),
            changed=correlation_changes(datasets),
            together=missing_together(datasets[0]) if datasets else [],
            schema=schema_rows(self.schema) if self.schema else None,
            drawn=[draw_line(line) for line in changing([*window_lines(self._windows), *lines.get("", ())])],
            history=self.history is not None or len(self._windows) > 1,
        )

    @property
    def _windows(self) -> tuple[WindowManifest, ...]:
        return tuple(self.windows)

    def _found(self) -> tuple[list[Alert], list[Distance]]:
        """The alerts, the gravest first, and the distances."""
        found, distances = self._checked()
        faults = alerts_of_faults(self.faults or ())
        recorded = alerts_of_recorded(self._recorded(), found)
        order = sorted([*found, *recorded], key=lambda alert: alert.severity != "error")
        return [*faults, *order], distances

    def _recorded(self) -> Iterable[Recorded]:
        """What manifests tell, that of the newest window first."""
        anomalies = self.manifest.get("anomalies", ()) if isinstance(self.manifest, Mapping) else ()
        if isinstance(self.manifest, ManifestFile):
            anomalies = getattr(self.manifest, "anomalies", ())
        own = (Recorded(one if isinstance(one, Anomaly) else Anomaly(**one)) for one in anomalies)
        newest = (Recorded(one, window.window) for window in reversed(self._windows) for one in window.anomalies)
        return itertools.chain(own, newest)

    def _checked(self) -> tuple[list[Alert], list[Distance]]:
        """What a check has found. A proto has less to tell, and no order."""
        if isinstance(self.anomalies, Findings):
            return alerts_of_findings(self.anomalies), distances_of_findings(self.anomalies)
        anomalies = _proto_or_none("anomalies", self.anomalies, anomalies_pb2.Anomalies)
        return (alerts_of(anomalies), distances_of(anomalies)) if anomalies else ([], [])

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the page to a file, here or in a store. A file that is there is replaced at once, or not at all.

        Raises:
          StorageError: if it cannot be written.
        """
        target = os.fspath(path)
        folder, name = stores.split(target)
        part = f".{name}.{uuid.uuid4().hex}.part"
        staged = stores.join(folder, part) if folder else part
        content = self.to_html().encode()
        try:
            replace_file(target, content, staged, "text/html")
        except BaseException:
            delete_files(folder, [part])
            raise

    def show(self) -> str:
        """Opens the page in the browser of this machine; returns the path of its file, which stays for the browser."""
        with tempfile.NamedTemporaryFile("wb", prefix="penstock-report-", suffix=".html", delete=False) as file:
            file.write(self.to_html().encode())
        webbrowser.open(pathlib.Path(file.name).as_uri())
        return file.name

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks: its styles and ids do not meet those of the notebook."""
        return (
            f'<iframe title="{html.escape(visible(self.title))}" sandbox="allow-scripts" width="100%" height="800" '
            f'style="border: 0" srcdoc="{html.escape(self.to_html())}"></iframe>'
        )


def _gathered(
    manifest: ManifestFile | Mapping[str, Any] | None, windows: Sequence[WindowManifest], letters: Iterable[Letter]
) -> Rows | None:
    """What became of the rows of a dataset, or of all windows."""
    return rows_of(sums_of(windows) if manifest is None else manifest, letters)


def _proto(name: str, given: object, kind: type[_M]) -> _M:
    found = given.to_proto() if hasattr(given, "to_proto") else given
    if not isinstance(found, kind):
        raise ConfigError(
            f"{name} must be a {kind.__name__}, or have a to_proto() that returns one, got {given!r:.200}"
        )
    return found


def _proto_or_none(name: str, given: object, kind: type[_M]) -> _M | None:
    return None if given is None else _proto(name, given, kind)


def _left_out(
    datasets: list[Dataset],
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    baseline: statistics_pb2.DatasetFeatureStatisticsList | None,
) -> int:
    """How many datasets are not shown."""
    return len(statistics.datasets) + (len(baseline.datasets) if baseline else 0) - len(datasets)


def _shown_lines(
    features: list[Feature], counts: Mapping[str, int], lines: Mapping[str, list[Line]]
) -> Mapping[str, list[Line]]:
    """The lines of features that have room in the page."""
    shown = {path: changing(found) for path, found in lines.items() if path}
    if len(features) > _FEATURES_WITH_HISTORY:
        shown = {path: found for path, found in shown.items() if path in counts}
    return shown
