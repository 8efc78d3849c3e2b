"""Runs `compare` after its command line is checked: two files of statistics, column by column."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.transforms.anomalies.check import check_statistics
from penstock.transforms.anomalies.findings import Findings, joined
from penstock.transforms.anomalies.measures.thresholds import Thresholds
from pipelines._jobs.statistics import (
    Dataset,
    Statistics,
    column_summary,
    feature_path,
    finding_fields,
    only,
    pairs,
    read_statistics,
    write_report,
)
from pipelines._options.compare import CompareOptions
from pipelines._report.process import job_started
from pipelines._report.result import CompareResult
from pipelines._report.summary import tell

# What of `column_summary` is compared.
_COMPARED = ("type", "missing", "distinct", "min", "median", "mean", "max", "std_dev", "zeros", "avg_length", "top")

# Numbers that are this near to each other, relative to the larger one, are shown as equal.
_EQUAL = 1e-9


def run(options: CompareOptions) -> int:
    """Runs the job, as `pipelines.compare.run` does."""
    started, flags = job_started(), options.compare
    before, after = (read_statistics(value) for value in flags.compared)
    compared, checked = compared_statistics(before, after, flags.datasets, options.limits.thresholds())
    report = write_report(
        flags.report,
        statistics=after,
        baseline=before,
        anomalies=joined(checked),
        title=f"{flags.compared[1]} compared with {flags.compared[0]}",
    )
    result = CompareResult(
        job=options.name,
        seconds=time.monotonic() - started,
        a=flags.compared[0],
        b=flags.compared[1],
        datasets=compared,
        report=report,
    )
    return tell(result if flags.all else result.of_differences(), flags.json)


def compared_statistics(
    before: Statistics, after: Statistics, names: str | None, thresholds: Thresholds
) -> tuple[tuple[dict[str, Any], ...], list[Findings]]:
    """Compares two lists of statistics; returns what is told of each pair, and what a check of drift finds.

    Raises:
      ConfigError: when they have none that can be compared.
    """
    compared, checked = [], []
    for left, right in pairs(before, after, names):
        checked.append(_checked(left, right, thresholds))
        compared.append(_compared(left, right, checked[-1]))
    return tuple(compared), checked


def _checked(before: Dataset, after: Dataset, thresholds: Thresholds) -> Findings:
    """What a check of drift finds; names of datasets do not matter."""
    before_like = Dataset()
    before_like.CopyFrom(before)
    before_like.name = after.name
    return check_statistics(only(after), baseline=only(before_like), thresholds=thresholds)


def _compared(before: Dataset, after: Dataset, findings: Findings) -> dict[str, Any]:
    """What differs between two datasets: rows, columns, correlations, findings of the check of drift."""
    return {
        "names": [before.name, after.name],
        "rows": [before.num_examples, after.num_examples],
        "columns": list(_columns(before, after, findings)),
        "correlations": [
            {"columns": [".".join(path) for path in one.paths], "before": one.before, "after": one.now}
            for one in findings.correlations
            if not _are_equal(one.before, one.now)
        ],
        "findings": [finding_fields(found) for found in findings],
    }


def _columns(before: Dataset, after: Dataset, findings: Findings) -> Iterator[dict[str, Any]]:
    left, right = ({feature_path(one): column_summary(one) for one in side.features} for side in (before, after))
    distances = {".".join(found.path): _distances(found) for found in findings.distances}
    for name in dict.fromkeys([*left, *right]):
        one, other = left.get(name), right.get(name)
        yield {
            "column": name,
            "only_in": None if one and other else "a" if one else "b",
            "differs": _differences(one, other) if one and other else {},
            "distances": distances.get(name, {}),
        }


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [before[name], after[name]] for name in _COMPARED if not _are_equal(before[name], after[name])}


def _are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) <= _EQUAL * max(abs(one), abs(other)) or (one != one and other != other)
    if isinstance(one, list) and isinstance(other, list):
        return bool(one[0] == other[0])
    return bool(one == other)


def _distances(found: Any) -> dict[str, float]:
    """The distances of a column that could be measured."""
    names = ("kolmogorov_smirnov", "wasserstein", "psi", "jensen_shannon", "l_infinity")
    values = {name: getattr(found, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
