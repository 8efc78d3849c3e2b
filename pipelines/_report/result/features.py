"""What jobs give back that fit features, export them, and relax a schema."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from penstock.io.reasons import Note
from pipelines._report.result.base import Result


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult(Result):
    """What `fit` wrote.

    Attributes:
      output: the folder of the graph.
      features: what was fitted, as the flag has it.
      input: what it was fitted on, in words.
      rows_in: that were read; None, as for the others, where the runner does not count.
      rows_rejected: that were left out.
      rows_fitted: of the train split.
      schema: that was given, or inferred.
      transform: the folder of the graph.
      features_engine: what fitted the features: arrow or tft.
      saved_model: the folder of their SavedModel.
      notes: what a schema that was inferred does to values, what the fit loses, and which rows only warned.
      report: the file of the report.
    """

    output: str
    features: str
    input: str
    rows_in: int | None
    rows_rejected: int | None
    rows_fitted: int | None
    schema: str
    transform: str
    features_engine: str
    saved_model: str | None = None
    notes: tuple[Note, ...] = ()
    report: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportResult(Result):
    """What `export` wrote: the folder of the features, and that of the graph."""

    transform: str
    output: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelaxResult(Result):
    """What `relax` found and wrote.

    Attributes:
      schema: that was given.
      output: the file of the relaxed schema.
      rows_in: that were read.
      rows_unread: that no schema makes readable, such as lines that are no records.
      changes: each with `subject` (a feature, struct or view), `code` of the reason, `rows` that break it, an `example`
        in words, and the `change` of the schema.
      difference: of the schemas in text format: the name of each part, and its lines with - and +.
    """

    schema: str
    output: str
    rows_in: int
    rows_unread: int
    changes: tuple[Mapping[str, Any], ...] = ()
    difference: tuple[str, ...] = ()
