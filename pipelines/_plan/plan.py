"""A recipe that is bound to its source and schema: how rows are read, checked and split."""

import dataclasses
import logging
from collections.abc import Iterable
from typing import Self

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.error_handling import ErrorHandler
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.beam.durations import ZERO, AnyDuration
from penstock.io.columns.event_times import LetterTimes, check_event_time
from penstock.io.dead_letters.handler import RejectingTransform
from penstock.io.errors import ConfigError
from penstock.io.reasons import Note
from penstock.io.schema import Feature, find_feature, schema_features
from penstock.io.sources.base import Source
from penstock.transforms.checks.environment import in_environment, unexpected_features
from penstock.transforms.checks.unchecked import unchecked_text
from penstock.transforms.checks.unique.keys import check_unique
from penstock.transforms.checks.unique.transform import RejectDuplicates
from penstock.transforms.checks.validate import ValidateRecords
from penstock.transforms.event_time import AssignEventTime
from penstock.transforms.features.fit import check_preprocessing
from penstock.transforms.rolling.transform import RollingFeatures, rolling_schema
from penstock.transforms.splits.assign import AssignSplit
from pipelines._plan.recipe import Recipe

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A recipe bound to its source and schema.

    Attributes:
      whole_schema: the schema as it was given or inferred.
      schema: of the rows, as their environment sees it.
      features: its features, in its order.
      notes: what an inferred schema does to values, or what of a given one is not checked.
      demanded_by_fit: what of the schema rows must meet to be fitted on, whatever the severity.
    """

    source: Source
    recipe: Recipe
    whole_schema: schema_pb2.Schema
    schema: schema_pb2.Schema
    features: tuple[Feature, ...]
    notes: tuple[Note, ...] = ()
    demanded_by_fit: tuple[str, ...] = ()

    @classmethod
    def bind(
        cls, source: Source, recipe: Recipe, schema: schema_pb2.Schema, inferred: tuple[Note, ...] | None = None
    ) -> Self:
        """Checks the recipe against the schema, and says once what of a schema that is given is not checked.

        Args:
          source: of the rows.
          recipe: what is done with them.
          schema: of the rows, in all environments.
          inferred: what the schema does to values, if it was inferred from the rows; None if it is given.

        Raises:
          ConfigError: when a rule, feature, label, key, event time, environment or severity does not fit the schema.
        """
        seen = in_environment(schema, recipe.environment)
        plan = cls(source, recipe, schema, seen, schema_features(seen), inferred or ())
        check_unique(recipe.checks.unique, plan.features, recipe.windows)
        recipe.split_kind().bind(plan.features)
        if recipe.split.split_stratify:
            find_feature(recipe.split.split_stratify, plan.features, "--split_stratify")
        if recipe.event_time:
            check_event_time(recipe.event_time, plan.features)
        if recipe.rolling and not (recipe.event_time or source.has_event_times):
            raise ConfigError("--rolling looks back in event time: pass --event_time COLUMN")
        if recipe.preprocessing is not None:
            plan = plan._fitted_by(check_preprocessing(recipe.preprocessing, plan.row_schema))
        unchecked = plan.validation().unchecked
        if inferred is not None or not unchecked:
            return plan
        _LOGGER.warning("%s", unchecked_text(unchecked))
        return dataclasses.replace(plan, notes=unchecked)

    def _fitted_by(self, demands: Iterable[str]) -> Self:
        """The same with the demands of a fit, without those on rolling features, which are as they are computed."""
        computed = {feature.name for feature in self.recipe.rolling.features} if self.recipe.rolling else set()
        ours = tuple(item for item in demands if item.rpartition(".")[0] not in computed)
        return dataclasses.replace(self, demanded_by_fit=ours)

    @property
    def row_schema(self) -> schema_pb2.Schema:
        """The schema of the rows behind `check_and_split`: the columns that are read, and the rolling features."""
        return rolling_schema(self.schema, self.recipe.rolling) if self.recipe.rolling else self.schema

    def validation(self, for_fit: bool = False) -> ValidateRecords:
        """The transform that checks rows; making it checks rules, label and severity against the schema.

        A fit stops at a row that the graph cannot take, so `for_fit` rejects it whatever the severity.
        """
        recipe, severity = self.recipe, self.recipe.severity
        if for_fit:
            severity = severity.rejecting(self.demanded_by_fit)
        rules, label, environment = recipe.checks.rules, recipe.label, recipe.environment
        return ValidateRecords(self.whole_schema, rules, label, environment, severity).told()

    @property
    def is_traced(self) -> bool:
        """Whether a window can tell which rows of a stream it covers: no step on the way keeps rows for later ones."""
        is_row_by_row = self.recipe.rolling is None and not self.recipe.checks.unique
        return is_row_by_row and not self.source.is_bounded

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns of the schema."""
        return tuple(feature.name for feature in self.features)

    def read(self, order_key: bool = False, keep_source: bool = False) -> RejectingTransform:
        """The transform that reads all of the source, typed by the schema; the arguments are those of `Source.read`.

        What the environment does not expect is read too: whoever validates the rows says that it is there.
        """
        may_lack = self.recipe.severity.may_lack(self.schema)
        expected = (
            dataclasses.replace(feature, required=False) if feature.name in may_lack else feature
            for feature in self.features
        )
        unexpected = unexpected_features(self.whole_schema, self.schema)
        return self.source.read((*expected, *unexpected), order_key, keep_source)

    def check_and_split(
        self,
        rows: beam.PCollection[pa.RecordBatch],
        handler: ErrorHandler,
        lateness: AnyDuration = ZERO,
        spill: str | None = None,
        for_fit: bool = False,
    ) -> beam.PCollection[pa.RecordBatch]:
        """Validates rows and adds event time, rolling features and split; the handler takes the rejected rows.

        What repeats a key is rejected when the rows have their event times, before any feature is computed.

        Args:
          rows: as they are read.
          handler: of rejects.
          lateness: how late a row of a stream may come and see all of its past (`RollingFeatures`).
          spill: a folder for bounded input that is grouped by key, where all workers share this machine's disk.
          for_fit: whether features are fitted to the rows.
        """
        recipe, validation = self.recipe, self.validation(for_fit)
        if recipe.event_time and not self.source.has_event_times:
            validation = validation.dating(LetterTimes(recipe.event_time, recipe.max_ahead))
        rows = rows | "ValidateRecords" >> validation.with_error_handler(handler)
        if recipe.event_time and not self.source.has_event_times:
            assign = AssignEventTime(recipe.event_time, recipe.max_ahead).with_error_handler(handler)
            rows = rows | "AssignEventTime" >> assign
        for key in recipe.checks.unique:
            once = RejectDuplicates(key, recipe.windows, lateness, spill).with_error_handler(handler)
            rows = rows | f"RejectDuplicates {key.name}" >> once
        if recipe.rolling:
            rows = rows | "RollingFeatures" >> RollingFeatures(recipe.rolling, self.features, lateness, spill=spill)
        split = AssignSplit(by=recipe.split_kind(self.columns), notes_null_keys=recipe.has_windows)
        split = split.with_error_handler(handler)
        return rows | "AssignSplit" >> split
