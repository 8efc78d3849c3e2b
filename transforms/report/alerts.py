"""Findings of a check, the gravest first, and how far datasets are apart."""

import collections
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

from tensorflow_metadata.proto.v0 import anomalies_pb2

from penstock.io.dataset.observer import Anomaly
from penstock.transforms.anomalies.findings import Finding, Findings, Severity
from penstock.transforms.report.features import path_name
from penstock.transforms.report.text import visible

# A description may list what rows hold; beyond this nobody reads on.
_MAX_CHARACTERS = 2_000

_Info: TypeAlias = anomalies_pb2.AnomalyInfo
_Measurement = anomalies_pb2.DriftSkewInfo.Measurement

_MEASURES = {_Measurement.L_INFTY: "l_infinity", _Measurement.JENSEN_SHANNON_DIVERGENCE: "jensen_shannon"}


# What `Distances` measures without a threshold, by the keys of the definitions.
_UNLIMITED = ("kolmogorov_smirnov", "wasserstein", "psi", "jensen_shannon", "l_infinity")

# TFDV's path of a feature of one of several datasets.
_SLICE = re.compile(r"slice\(.*?\)::", re.DOTALL)


class Alert(NamedTuple):
    """One finding: `severity` is `error` or `warning`, `path` is the feature, or empty for a whole dataset."""

    severity: str
    path: str
    name: str
    title: str
    text: str
    reasons: tuple[tuple[str, str, str], ...]


class FileFault(Protocol):
    """What is wrong with a file of a dataset: a stable code, the path of the file, and a sentence."""

    @property
    def code(self) -> str:
        """Such as `shard.crc32c`."""

    @property
    def path(self) -> str:
        """Relative to the dataset."""

    @property
    def detail(self) -> str:
        """What is wrong."""


class Distance(NamedTuple):
    """How far two datasets are apart in a feature: `kind` is `drift` or `skew`, `measure` a key of the definitions."""

    path: str
    name: str
    kind: str
    measure: str
    value: float
    threshold: float | None

    @property
    def excess(self) -> float:
        """The value as a multiple of its threshold; the value itself where there is none."""
        return self.value / self.threshold if self.threshold else self.value


def alerts_of_faults(faults: Iterable[FileFault]) -> list[Alert]:
    """Faults of files, all of them errors, in their own order."""
    return [
        Alert("error", "", "", visible(fault.path), _long(fault.detail), ((fault.code, "", _long(fault.detail)),))
        for fault in faults
    ]


class Recorded(NamedTuple):
    """An anomaly as a manifest has it, and the start and end of its window, if it is of one."""

    anomaly: Anomaly
    window: tuple[str, str] | None = None


def alerts_of_recorded(recorded: Iterable[Recorded], known: Iterable[Alert] = ()) -> list[Alert]:
    """What manifests tell is unusual, errors first, in their own order; without those that are known already."""
    told = {(alert.path, f"{alert.title}: {alert.text}") for alert in known}
    found = [_alert_of_recorded(*one) for one in recorded]
    found = [alert for alert in found if (alert.path, f"{alert.title}: {alert.text}") not in told]
    return sorted(found, key=lambda alert: alert.severity != "error")


def _alert_of_recorded(anomaly: Anomaly, window: tuple[str, str] | None) -> Alert:
    title, colon, text = anomaly.description.partition(": ")
    title, text = (title, text) if colon else ("Unusual", title)
    path = _plain_path(anomaly.feature)
    where = [f"({anomaly.dataset})"] if anomaly.dataset and window else []
    when = [f"in {window[0]} to {window[1]}"] if window else []
    against = f" Compared with {anomaly.against}." if anomaly.against else ""
    return Alert(
        severity="error" if anomaly.severity == "error" else "warning",
        path=path,
        name=visible(path) if path else "",
        title=visible(" ".join([title, *where, *when]), _MAX_CHARACTERS),
        text=_long(text),
        reasons=((anomaly.reason, visible(title), _long(f"{text}{against}")),),
    )


def _plain_path(spelled: str) -> str:
    """The path of a feature, from how TFDV spells it: a step with dots stands in quotes there."""
    quoted = len(spelled) > 1 and spelled.startswith("'") and spelled.endswith("'")
    return spelled[1:-1].replace("''", "'") if quoted else spelled


def alerts_of_findings(findings: Findings) -> list[Alert]:
    """All findings in their own order, which is the gravest first."""
    return [_alert_of(finding, several=len(findings.datasets) > 1) for finding in findings]


def _alert_of(finding: Finding, several: bool) -> Alert:
    path = ".".join(finding.path)
    return Alert(
        severity="error" if finding.severity is Severity.ERROR else "warning",
        path=path,
        name=visible(path) if path else "",
        title=visible(f"{finding.title} ({finding.dataset})" if several and finding.dataset else finding.title),
        text=_long(finding.text),
        reasons=((finding.code, visible(finding.title), _long(finding.text)),),
    )


def alerts_of(anomalies: anomalies_pb2.Anomalies) -> list[Alert]:
    """All findings: errors before warnings, the whole dataset before features, greater distances first."""
    distances = {one.path: one.excess for one in reversed(distances_of(anomalies))}
    found = [(path, info) for path, info in anomalies.anomaly_info.items()]
    features = [_alert(_path(name, info), info) for name, info in found]
    features.sort(key=lambda alert: (-distances.get(alert.path, 0.0), alert.path))
    whole = [_alert("", anomalies.dataset_anomaly_info)] if anomalies.HasField("dataset_anomaly_info") else []
    missing = [Alert("error", "", "", "No data", "The statistics hold no rows.", ())] if anomalies.data_missing else []
    return sorted([*missing, *whole, *features], key=lambda alert: alert.severity != "error")


def _path(name: str, info: _Info) -> str:
    return _bare(path_name(info.path)) if info.path.step else name


def _bare(path: str) -> str:
    """A path without the dataset that TFDV puts in front of it."""
    return _SLICE.sub("", path, count=1) if _SLICE.match(path) else path


def _alert(path: str, info: _Info) -> Alert:
    reasons = tuple(
        (_Info.Type.Name(reason.type), visible(reason.short_description), _long(reason.description))
        for reason in info.reason
    )
    return Alert(
        severity="error" if info.severity == _Info.ERROR else "warning",
        path=path,
        name=visible(path) if path else "",
        title=visible(info.short_description) if info.short_description else "Finding",
        text=_long(info.description),
        reasons=reasons,
    )


def _long(text: str) -> str:
    return visible(text, _MAX_CHARACTERS) if text else ""


def alerts_by_path(alerts: Iterable[Alert]) -> Mapping[str, int]:
    """How many findings name each feature: reasons, since one finding of a feature may have several."""
    counts: collections.Counter[str] = collections.Counter()
    for alert in alerts:
        if alert.path:
            counts[alert.path] += max(1, len(alert.reasons))
    return counts


def distances_of(anomalies: anomalies_pb2.Anomalies) -> list[Distance]:
    """All distances of features, the greatest excess over its threshold first."""
    found = [
        Distance(
            _bare(path_name(info.path)),
            visible(path_name(info.path)),
            kind,
            _MEASURES.get(measured.type, _Measurement.Type.Name(measured.type).lower()),
            measured.value,
            measured.threshold if measured.HasField("threshold") else None,
        )
        for info in anomalies.drift_skew_info
        for kind, measurements in (("drift", info.drift_measurements), ("skew", info.skew_measurements))
        for measured in measurements
    ]
    return _by_excess(found)


def distances_of_findings(findings: Findings) -> list[Distance]:
    """All distances of features: those with a threshold first, the greatest excess over it before others."""
    limited = distances_of(findings.to_proto())
    known = {(one.path, one.kind, one.measure) for one in limited}
    others = [
        Distance(".".join(one.path), visible(".".join(one.path)), one.against, measure, value, None)
        for one in findings.distances
        for measure in _UNLIMITED
        if (value := getattr(one, measure)) is not None
    ]
    unlimited = [one for one in others if (one.path, one.kind, one.measure) not in known]
    return [*limited, *_by_excess(unlimited)]


def _by_excess(found: Iterable[Distance]) -> list[Distance]:
    return sorted(found, key=lambda one: (-one.excess, one.path, one.kind, one.measure))
