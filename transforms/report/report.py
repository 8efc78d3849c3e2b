"""The report on data: one HTML file that needs nothing else.

Formulas of what it shows stand in the page itself, under "How each number is defined".
"""

import dataclasses
import html
import os
import pathlib
import tempfile
import uuid
import webbrowser
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

import pyarrow as pa
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from penstock.io.dataset.manifest import ManifestFile
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.folders import delete_files, replace_file
from penstock.transforms.anomalies.findings import Findings
from penstock.transforms.report import page
from penstock.transforms.report.alerts import (
    Alert,
    Distance,
    alerts_by_path,
    alerts_of,
    alerts_of_findings,
    distances_of,
    distances_of_findings,
)
from penstock.transforms.report.charts import draw_line
from penstock.transforms.report.features import Dataset, Feature, datasets_of, features_of
from penstock.transforms.report.history_lines import Line, changing, lines_of
from penstock.transforms.report.relations import heat_map, missing_together
from penstock.transforms.report.rows import Letter, rows_of
from penstock.transforms.report.schema_table import schema_rows
from penstock.transforms.report.text import visible

_M = TypeVar("_M", bound=Message)

# With more features than this, only those that findings name show their history: it would be most of the page.
_FEATURES_WITH_HISTORY = 200


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
      manifest: of the dataset or of one window, as it is read or as a dict.
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
        object.__setattr__(self, "_rows", rows_of(self.manifest, self.dead_letters))

    def to_html(self) -> str:
        """Returns the page. It follows from the arguments alone: there is no time or path in it."""
        statistics = _proto("statistics", self.statistics, statistics_pb2.DatasetFeatureStatisticsList)
        baseline = _proto_or_none("baseline", self.baseline, statistics_pb2.DatasetFeatureStatisticsList)
        datasets = datasets_of(statistics, baseline)
        features = features_of(datasets)
        alerts, distances = self._found()
        counts = alerts_by_path(alerts)
        lines = lines_of(self.history) if self.history is not None else {}
        return page.render(
            visible(self.title),
            datasets,
            features,
            counts,
            distances,
            _shown_lines(features, counts, lines),
            checked=self.anomalies is not None,
            alerts=alerts,
            left_out=_left_out(datasets, statistics, baseline),
            what_became=self._rows,  # type: ignore[attr-defined]
            heat=heat_map(datasets),
            together=missing_together(datasets[0]) if datasets else [],
            schema=schema_rows(self.schema) if self.schema else None,
            drawn=[draw_line(line) for line in changing(lines.get("", ()))],
            history=self.history is not None,
        )

    def _found(self) -> tuple[list[Alert], list[Distance]]:
        """The findings, the gravest first, and the distances. A proto has less to tell, and no order."""
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
