"""What a check of one feature against a schema knows, and how it says what it found."""

import dataclasses
from collections.abc import Sequence

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.anomalies.edits import DATASET, FEATURE, Edit
from penstock.transforms.anomalies.findings import Finding
from penstock.transforms.anomalies.measures.views import DatasetView, FeatureView, Path


@dataclasses.dataclass(frozen=True)
class Context:
    """A dataset that is held against a schema.

    Attributes:
      schema: as it was given.
      data: the dataset.
      previous: the previous span, for `drift_comparator`.
      serving: what is served, for `skew_comparator`.
      environment: where the rows come from.
    """

    schema: schema_pb2.Schema
    data: DatasetView
    previous: DatasetView | None = None
    serving: DatasetView | None = None
    environment: str | None = None

    def expects(self, message: schema_pb2.Feature) -> bool:
        """Whether the environment expects a feature."""
        name = self.environment
        if name is None or name in message.in_environment:
            return True
        return name not in message.not_in_environment and name in self.schema.default_environment

    def requires(self, message: schema_pb2.Feature) -> bool:
        """Whether some row must have a value of a feature."""
        presence = message.presence
        demands = presence.min_count > 0 or presence.min_fraction > 0
        return not is_deprecated(message) and demands and self.expects(message)

    def finding(
        self,
        path: Path,
        code: str,
        reason: int,
        title: str,
        expected: str,
        seen: str,
        edits: Sequence[Edit] = (),
        rows: float | None = None,
        example: str = "",
    ) -> Finding:
        """Makes an error of what breaks the schema; its size is the part of the rows that it is about."""
        examples = self.data.examples
        size = 1.0 if rows is None or not examples else min(rows / examples, 1.0)
        fix = "; ".join(edit.text(self.schema) for edit in edits)
        count = None if rows is None else round(rows)
        return Finding(
            path, code, reason, title, expected, seen, size=size, rows=count, example=example, edits=tuple(edits),
            fix=fix, dataset=self.data.name,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FeatureContext:
    """One feature that is held against its message in the schema.

    Attributes:
      context: the dataset.
      view: its statistics.
      message: a copy of its message; what a check cannot use is removed from it, so that later checks do not see it.
    """

    context: Context
    view: FeatureView
    message: schema_pb2.Feature

    def edit(self, field: str, value: object = None, removed: tuple[str, ...] = ()) -> Edit:
        """Returns an edit of the feature."""
        return Edit(FEATURE, self.view.path, field, value, removed)

    def finding(
        self,
        code: str,
        reason: int,
        title: str,
        expected: str,
        seen: str,
        edits: Sequence[Edit] = (),
        rows: float | None = None,
        example: str = "",
    ) -> Finding:
        """Makes an error of what breaks the schema."""
        return self.context.finding(self.view.path, code, reason, title, expected, seen, edits, rows, example)


def dataset_edit(field: str, value: object = None) -> Edit:
    """Returns an edit of the dataset's constraints."""
    return Edit(DATASET, (), field, value)


_UNREAD_STAGES = frozenset(
    {schema_pb2.PLANNED, schema_pb2.ALPHA, schema_pb2.DEPRECATED, schema_pb2.DEBUG_ONLY, schema_pb2.DISABLED}
)


def is_deprecated(message: schema_pb2.Feature | schema_pb2.SparseFeature | schema_pb2.WeightedFeature) -> bool:
    """Whether a feature or view is not used, so that nothing of it is checked.

    The stages are TFDV's. Features that only validation derives are checked.
    """
    return getattr(message, "deprecated", False) or message.lifecycle_stage in _UNREAD_STAGES
