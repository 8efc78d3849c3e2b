"""What jobs give back that make statistics, and hold some against others."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines._report.result.base import Result


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileResult(Result):
    """What `profile` found.

    Attributes:
      input: what the statistics are of, in words.
      output: their file; None if none was asked for.
      report: the file of the report.
      rows_unread: that could not be read, and are in no statistics.
      unread_for: their reasons; a row may have several.
      datasets: all rows, splits and slices: of each the `name`, the `rows`, and its `columns`, each with `column`,
        `type`, `rows`, `missing` (a fraction), `distinct`, `min`, `median`, `mean`, `max`, `std_dev`, `zeros`,
        `avg_values`, `avg_length`, and `top`, the most frequent value and its rows; None for what a kind of column has
        not.
    """

    input: str
    output: str | None = None
    report: str | None = None
    rows_unread: int = 0
    unread_for: Mapping[str, int] = dataclasses.field(default_factory=dict)
    datasets: tuple[Mapping[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult(Result):
    """What `check` found.

    Attributes:
      checked: what was checked, in words.
      schema, baseline, serving: what it was held against.
      rows: by the name of the dataset.
      findings: the gravest first, each with `severity` (`error`, `warning`), `subject` (a column, or `dataset`),
        `code`, `title`, what was `expected` and `seen`, in about how many `rows`, an `example`, the `fix` that accepts
        it, and the `dataset` (a split or slice).
      anomalies: the file with the same as tensorflow_metadata's Anomalies.
      report: the file of the report.
    """

    checked: str
    schema: str | None = None
    baseline: str | None = None
    serving: str | None = None
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()
    anomalies: str | None = None
    report: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareResult(Result):
    """What `compare` found.

    Attributes:
      a, b: what was compared.
      datasets: of each pair the `names` and `rows` of both; of `columns` each `column`, the side that it is `only_in`
        (`a`, `b` or null), what `differs`, as the values of both by name, and its `distances`; of `correlations` the
        `columns` and the values `before` and `after`, those first that changed most; and `findings`, what a check of b
        against a says (as of `CheckResult`).
      report: the file of the report.
    """

    a: str
    b: str
    datasets: tuple[Mapping[str, Any], ...] = ()
    report: str | None = None

    def of_differences(self) -> "CompareResult":
        """The same without the columns that do not differ."""
        return dataclasses.replace(self, datasets=of_differences(self.datasets))


def of_differences(datasets: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Returns what `CompareResult.datasets` tells, without the columns that do not differ."""
    return tuple(
        {**one, "columns": [found for found in one["columns"] if found["only_in"] or found["differs"]]}
        for one in datasets
    )
