"""Shares that changed: of nulls, of NaN and infinities, of texts of one form."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from penstock.transforms.anomalies.drift.changes import Change, Comparison
from penstock.transforms.anomalies.measures.bounds import cohens_h, share_evidence
from penstock.transforms.anomalies.measures.views import FeatureView, Path


@dataclasses.dataclass(frozen=True)
class _Share:
    """Hits among rows, now and before."""

    path: Path
    code: str
    name: str
    hits: float
    rows: float
    hits_before: float
    rows_before: float


def share_changes(comparison: Comparison) -> list[Change]:
    """Returns shares that changed by more than chance and a threshold; of texts, the form that changed most."""
    shares = list(_shares(comparison))
    if not shares:
        return []
    columns = np.array([(s.hits, s.rows, s.hits_before, s.rows_before) for s in shares], np.float64)
    hits, rows, hits_before, rows_before = columns.T
    effect = np.abs(cohens_h(hits / rows, hits_before / rows_before))
    evidence = share_evidence(hits, rows, hits_before, rows_before)
    found = (effect >= comparison.thresholds.shares) & (evidence > np.log(2 / comparison.chance))
    strongest: dict[tuple[Path, str], tuple[float, _Share]] = {}
    for index in np.flatnonzero(found):
        share, size = shares[index], float(effect[index])
        if size > strongest.get((share.path, share.code), (0.0, share))[0]:
            strongest[share.path, share.code] = size, share
    return [_change(comparison, share, size) for size, share in strongest.values()]


def _change(comparison: Comparison, share: _Share, effect: float) -> Change:
    now, before = share.hits / share.rows, share.hits_before / share.rows_before
    return Change(
        share.path, share.code, f"{share.name} in {before:.3%}", f"in {now:.3%}", abs(now - before),
        effect / max(comparison.thresholds.shares, 1e-9), "shares", abs(now - before) * share.rows,
    )  # fmt: skip


def _shares(comparison: Comparison) -> Iterator[_Share]:
    rows, rows_before = comparison.now.proto.num_examples, comparison.before.proto.num_examples
    if not rows or not rows_before:
        return
    for view in comparison.now.leaves():
        other = comparison.before.features.get(view.path)
        if other is None or comparison.ignores(view.path) or not other.proto.WhichOneof("stats"):
            continue
        missing, missing_before = view.common.num_missing, other.common.num_missing
        yield _Share(view.path, "nulls", "no value", missing, rows, missing_before, rows_before)
        present, present_before = view.common.num_non_missing, other.common.num_non_missing
        if not present or not present_before or view.schema_type != other.schema_type:
            continue
        for code, name, hits, hits_before in _of_values(view, other):
            yield _Share(view.path, code, name, hits * present, present, hits_before * present_before, present_before)


def _of_values(view: FeatureView, other: FeatureView) -> Iterator[tuple[str, str, float, float]]:
    """Yields code, name and share of the values in both."""
    names = {"nan": ("num_nan",), "infinity": ("num_positive_infinity", "num_negative_infinity")}
    for code, statistics in names.items():
        yield code, "NaN" if code == "nan" else "infinite", _share_of(view, statistics), _share_of(other, statistics)
    forms, forms_before = _forms(view), _forms(other)
    for form in sorted({*forms, *forms_before}) if forms or forms_before else ():
        yield "patterns", f"texts of the form {form}", forms.get(form, 0.0), forms_before.get(form, 0.0)


def _share_of(view: FeatureView, names: tuple[str, ...]) -> float:
    total = view.common.tot_num_values
    return min(sum(view.custom[name].num for name in names if name in view.custom) / total, 1.0) if total else 0.0


def _forms(view: FeatureView) -> dict[str, float]:
    total = view.common.tot_num_values
    if "patterns" not in view.custom or not total:
        return {}
    buckets = view.custom["patterns"].rank_histogram.buckets
    return {bucket.label: min(bucket.sample_count / total, 1.0) for bucket in buckets}
