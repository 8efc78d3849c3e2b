"""Findings as a manifest tells them."""

from collections.abc import Iterator, Sequence

from penstock.io.dataset.observer import Anomaly
from penstock.transforms.anomalies.findings import Finding, Reason

# A manifest holds no more anomalies than this; the statistics tell the rest.
_MAX_TOLD = 100


def anomaly_of(finding: Finding, against: str = "") -> Anomaly:
    """Returns a finding as an anomaly, and what it was compared with."""
    return Anomaly(
        finding.subject if finding.path else "",
        Reason.Name(finding.reason),
        finding.severity.name.lower(),
        f"{finding.title}: {finding.text}",
        against,
        finding.dataset,
    )


def told(anomalies: Sequence[Anomaly]) -> Iterator[Anomaly]:
    """Yields errors first; of too many, the last one says how many more there are."""
    ordered = sorted(anomalies, key=lambda anomaly: anomaly.severity != "error")
    yield from ordered[:_MAX_TOLD]
    if left := ordered[_MAX_TOLD:]:
        worst = left[0].severity
        yield Anomaly("", "CUSTOM_VALIDATION", worst, f"and {len(left):,} anomalies more: see the statistics")
