"""Findings: what is wrong with a dataset, the gravest first, and the same as TFDV's `Anomalies`."""

import dataclasses
import difflib
import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from penstock.io.errors import ConfigError
from penstock.transforms.anomalies.edits import Edit
from penstock.transforms.anomalies.measures.views import Path, path_text

Info: TypeAlias = anomalies_pb2.AnomalyInfo
Reason = anomalies_pb2.AnomalyInfo.Type
Measurement = anomalies_pb2.DriftSkewInfo.Measurement

Key = TypeVar("Key")
Item = TypeVar("Item")

# What TFDV calls an anomaly with more than one reason.
_MULTIPLE = "Multiple errors"


class Severity(enum.IntEnum):
    """How grave a finding is, with TFDV's numbers."""

    WARNING = Info.WARNING
    ERROR = Info.ERROR


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
      path: of the feature; empty for the dataset.
      code: what it is, such as `schema.presence` or `drift.nulls`.
      reason: TFDV's type of reason; `CUSTOM_VALIDATION` for what TFDV does not look for.
      title: a few words.
      expected: what was expected, in words.
      seen: what was seen.
      severity: whether it is an error.
      size: how large the effect is, from 0 to 1; findings of one severity are sorted by it.
      rows: about how many rows it is about; None if statistics do not tell.
      example: a value, where there is one.
      edits: of the schema, which make it go away.
      fix: the line of the schema, or the threshold, that would have to change.
      dataset: the split or slice.
    """

    path: Path
    code: str
    reason: int
    title: str
    expected: str
    seen: str
    severity: Severity = Severity.ERROR
    size: float = 1.0
    rows: int | None = None
    example: str = ""
    edits: tuple[Edit, ...] = ()
    fix: str = ""
    dataset: str = ""

    @property
    def subject(self) -> str:
        """The feature, as TFDV spells its path, or `dataset`."""
        return path_text(self.path) if self.path else "dataset"

    @property
    def text(self) -> str:
        """What is wrong, in full: what was expected, seen, in how many rows, an example, what to change."""
        parts = [f"expected {self.expected}; seen: {self.seen}"]
        if self.rows is not None:
            parts.append(f"about {self.rows:,} {'row' if self.rows == 1 else 'rows'}")
        if self.example:
            parts.append(f"such as {self.example}")
        if self.fix:
            parts.append(f"to accept it: {self.fix}")
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class Distances:
    """How far a feature lies from the same feature of another dataset; what cannot be measured is None.

    Attributes:
      dataset, path: the feature.
      against: `drift` from the previous span, or `skew` to what is served.
      kolmogorov_smirnov, wasserstein: of numbers (`measures.distances`).
      psi: of numbers or values.
      jensen_shannon: of numbers or values, in bits.
      l_infinity: of values.
      missing: share of rows without a value, in the other dataset and in this one.
    """

    dataset: str
    path: Path
    against: str
    kolmogorov_smirnov: float | None = None
    wasserstein: float | None = None
    psi: float | None = None
    jensen_shannon: float | None = None
    l_infinity: float | None = None
    missing: tuple[float, float] = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class CorrelationChange:
    """Pearson's correlation of two features in both datasets.

    Attributes:
      dataset: the split or slice.
      paths: the features.
      against: `drift` from the previous span, or `skew` to what is served.
      before, now: in the other dataset, and in this one, from -1 to 1.
    """

    dataset: str
    paths: tuple[Path, Path]
    against: str
    before: float
    now: float


@dataclasses.dataclass(frozen=True)
class Measured:
    """A distance that a comparator of the schema limits."""

    dataset: str
    path: Path
    against: str
    kind: int
    value: float
    threshold: float


@dataclasses.dataclass(frozen=True)
class Findings:
    """What `check_statistics` finds, the gravest first.

    Attributes:
      findings: errors before warnings, then by size; then by feature.
      schema: which they were checked with; edits apply to it.
      datasets: names of those that were checked.
      empty: names of those without a row.
      measured: distances that the schema limits, as in TFDV's `drift_skew_info`.
      distances: of all features that were compared.
      correlations: of all pairs of features that were compared, in each dataset those first that changed most.
    """

    findings: tuple[Finding, ...] = ()
    schema: schema_pb2.Schema = dataclasses.field(default_factory=schema_pb2.Schema)
    datasets: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()
    distances: tuple[Distances, ...] = ()
    correlations: tuple[CorrelationChange, ...] = ()

    def __iter__(self) -> Iterator[Finding]:
        """Yields the findings, the gravest first."""
        return iter(self.findings)

    def __len__(self) -> int:
        """Counts the findings."""
        return len(self.findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those that are errors."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def of(self, dataset: str) -> "Findings":
        """Returns what was found in one dataset.

        Raises:
          ConfigError: for a dataset that was not checked.
        """
        if dataset not in self.datasets:
            raise ConfigError(f"no dataset {dataset!r} was checked; there are {', '.join(map(repr, self.datasets))}")
        return Findings(
            tuple(finding for finding in self.findings if finding.dataset == dataset),
            self.schema,
            (dataset,),
            tuple(name for name in self.empty if name == dataset),
            tuple(found for found in self.measured if found.dataset == dataset),
            tuple(found for found in self.distances if found.dataset == dataset),
            tuple(found for found in self.correlations if found.dataset == dataset),
        )

    def to_proto(self, with_diff: bool = False) -> anomalies_pb2.Anomalies:
        """Returns the same as TFDV's message.

        One anomaly for each feature, with all its reasons, the gravest first. Of several datasets, the first step of
        each path says which, as in TFDV's `validate_corresponding_slices`: `slice(train)::feature`.

        Args:
          with_diff: whether each anomaly has the lines of the schema that its edits change.
        """
        proto = anomalies_pb2.Anomalies(anomaly_name_format=anomalies_pb2.Anomalies.SERIALIZED_PATH)
        proto.baseline.CopyFrom(self.schema)
        proto.data_missing = bool(self.empty) and len(self.empty) == len(self.datasets)
        for path, group in self._by_path().items():
            info = proto.anomaly_info[path_text(path)] if path else proto.dataset_anomaly_info
            _fill(info, path, group)
            if with_diff:
                info.diff_regions.extend(schema_diff(self.schema, group))
        for path, found in _grouped((self._path(found), found) for found in self.measured).items():
            _fill_measured(proto.drift_skew_info.add(), path, found)
        return proto

    def _path(self, found: "Finding | Measured") -> Path:
        if len(self.datasets) < 2 or not found.path:
            return found.path
        return (f"slice({found.dataset})::{found.path[0]}", *found.path[1:])

    def _by_path(self) -> dict[Path, list[Finding]]:
        return _grouped((self._path(finding), finding) for finding in self.findings)


def joined(parts: Iterable[Findings]) -> Findings:
    """Returns what checks of several datasets have found as one."""
    parts = list(parts)
    return Findings(
        in_order(finding for part in parts for finding in part),
        parts[0].schema if parts else schema_pb2.Schema(),
        tuple(name for part in parts for name in part.datasets),
        tuple(name for part in parts for name in part.empty),
        tuple(found for part in parts for found in part.measured),
        tuple(found for part in parts for found in part.distances),
        tuple(found for part in parts for found in part.correlations),
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sorts findings: errors before warnings, then by size of the effect, then by name."""
    return tuple(
        sorted(findings, key=lambda found: (-found.severity, -found.size, found.dataset, found.path, found.code))
    )


def _grouped(pairs: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for key, item in pairs:
        groups.setdefault(key, []).append(item)
    return groups


def _fill(info: anomalies_pb2.AnomalyInfo, path: Path, findings: Sequence[Finding]) -> None:
    if path:
        info.path.step.extend(path)
    info.severity = max(finding.severity for finding in findings)
    for finding in findings:
        info.reason.add(type=finding.reason, short_description=finding.title, description=finding.text)
    info.short_description = findings[0].title if len(findings) == 1 else _MULTIPLE
    info.description = " ".join(finding.text for finding in findings)


def _fill_measured(info: anomalies_pb2.DriftSkewInfo, path: Path, measured: Iterable[Measured]) -> None:
    info.path.step.extend(path)
    for found in measured:
        side = info.drift_measurements if found.against == "drift" else info.skew_measurements
        side.add(type=found.kind, value=found.value, threshold=found.threshold)


def schema_diff(schema: schema_pb2.Schema, findings: Iterable[Finding]) -> list[anomalies_pb2.DiffRegion]:
    """Returns the regions of the schema's text that edits change, with lines numbered from 1 on both sides."""
    edited = schema_pb2.Schema()
    edited.CopyFrom(schema)
    for finding in findings:
        for edit in finding.edits:
            edit.apply(edited)
    old, new = (text_format.MessageToString(side, as_utf8=True).splitlines() for side in (schema, edited))
    if old == new:
        return []
    opcodes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [_region(tag, old[a:b], new[c:d], a + 1, c + 1) for tag, a, b, c, d in opcodes]


def _region(tag: str, old: list[str], new: list[str], left: int, right: int) -> anomalies_pb2.DiffRegion:
    region = anomalies_pb2.DiffRegion()
    match tag:
        case "equal":
            region.unchanged.left_start, region.unchanged.right_start = left, right
            region.unchanged.contents.extend(old)
        case "delete":
            region.removed.start = left
            region.removed.contents.extend(old)
        case "insert":
            region.added.start = right
            region.added.contents.extend(new)
        case _:
            region.changed.left_start, region.changed.right_start = left, right
            region.changed.left_contents.extend(old)
            region.changed.right_contents.extend(new)
    return region


def update_schema(schema: schema_pb2.Schema, findings: Iterable[Finding]) -> schema_pb2.Schema:
    """Returns a schema that accepts what was found: these findings' edits, one after the other.

    Findings without an edit, such as a drift that no comparator limits, change nothing. Statistics that were checked
    raise no finding of the same kind under the new schema.

    Args:
      schema: which they were found with.
      findings: all that `check_statistics` found, or some of them.

    Raises:
      ConfigError: if the schema lacks what an edit changes.
    """
    updated = schema_pb2.Schema()
    updated.CopyFrom(schema)
    for finding in findings:
        for edit in finding.edits:
            edit.apply(updated)
    return updated
