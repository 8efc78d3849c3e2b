"""Holds a dataset against a schema, feature by feature, in the order of TFDV 1.16."""

from collections.abc import Iterable, Iterator

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.anomalies.comparators import compare
from penstock.transforms.anomalies.context import Context, FeatureContext, is_deprecated
from penstock.transforms.anomalies.demands import (
    faults_of_counts,
    faults_of_environment,
    faults_of_presence,
    faults_of_shape,
    faults_of_type,
    faults_of_uniqueness,
)
from penstock.transforms.anomalies.domains import faults_of_domain
from penstock.transforms.anomalies.edits import FEATURE, Edit, find_feature_message
from penstock.transforms.anomalies.findings import Finding, Measured, Reason
from penstock.transforms.anomalies.measures.views import FeatureView, Path, Stats
from penstock.transforms.anomalies.parts import collisions, dataset_faults, sparse_faults, weighted_faults
from penstock.transforms.anomalies.specification import faults_of_specification


def schema_faults(context: Context) -> Iterator[Finding | Measured]:
    """Yields what of a dataset breaks its schema, and the distances that comparators limit."""
    closed: set[Path] = set()
    for path, view in sorted(context.data.features.items()):
        if any(path[:end] in closed for end in range(1, len(path))):
            continue
        found = list(_feature(context, view))
        yield from found
        if _is_closed(context, path, found):
            closed.add(path)
    yield from _missing_columns(context)
    yield from dataset_faults(context)


def _is_closed(context: Context, path: Path, found: Iterable[Finding | Measured]) -> bool:
    """Whether nothing is said of the fields of a feature: it is new, unused, not there, or no struct."""
    message = find_feature_message(context.schema.feature, path)
    if message is None or is_deprecated(message):
        return True
    return any(isinstance(one, Finding) and one.code in ("schema.type", "schema.missing_column") for one in found)


def _feature(context: Context, view: FeatureView) -> Iterator[Finding | Measured]:
    path, schema = view.path, context.schema
    message = find_feature_message(schema.feature, path)
    clash = list(collisions(context, path))
    sparse = next((one for one in schema.sparse_feature if (one.name,) == path), None)
    weighted = next((one for one in schema.weighted_feature if (one.name,) == path), None)
    if clash:
        yield from clash
    elif weighted is not None:
        yield from () if is_deprecated(weighted) else weighted_faults(context, view, weighted)
    elif sparse is not None and not is_deprecated(sparse):
        yield from sparse_faults(context, view, sparse)
    elif message is not None and not is_deprecated(message):
        copy = schema_pb2.Feature()
        copy.CopyFrom(message)
        yield from _known(FeatureContext(context, view, copy))
    elif message is None and sparse is None:
        yield _new_column(context, view)


def _known(feature: FeatureContext) -> Iterator[Finding | Measured]:
    """Yields the faults of a feature that the schema has."""
    context = feature.context
    yield from faults_of_specification(feature)
    if not feature.view.present:
        if context.requires(feature.message):
            yield _dropped(context, feature.view.path, "FEATURE_TYPE_NOT_PRESENT", "a column without a value")
        return
    yield from faults_of_environment(feature)
    yield from faults_of_counts(feature)
    yield from faults_of_shape(feature)
    yield from faults_of_presence(feature)
    yield from faults_of_type(feature)
    yield from faults_of_domain(feature)
    yield from faults_of_uniqueness(feature)
    yield from compare(feature)


def _dropped(context: Context, path: Path, reason: str, seen: str) -> Finding:
    edit = Edit(FEATURE, path, "lifecycle_stage", schema_pb2.DEPRECATED)
    return context.finding(
        path, "schema.missing_column", Reason.Value(reason), "Column missing", "a column with values", seen, [edit],
        context.data.examples,
    )  # fmt: skip


def _missing_columns(context: Context) -> Iterator[Finding]:
    """Yields features that some row must have, and of which there are no statistics at all."""
    for path in _required(context, context.schema.feature, ()):
        if path not in context.data.features:
            yield _dropped(context, path, "SCHEMA_MISSING_COLUMN", "no such column")


def _required(context: Context, messages: Iterable[schema_pb2.Feature], prefix: Path) -> Iterator[Path]:
    for message in messages:
        path = (*prefix, message.name)
        if context.requires(message):
            yield path
        if not is_deprecated(message):
            yield from _required(context, message.struct_domain.feature, path)


def _new_column(context: Context, view: FeatureView) -> Finding:
    message = _described(context, view)
    edit = Edit(FEATURE, view.path, "", message)
    expected = "no such column, since the schema has none"
    seen = f"values in {view.present:,.0f} rows"
    reason = Reason.Value("SCHEMA_NEW_COLUMN")
    return context.finding(view.path, "schema.new_column", reason, "New column", expected, seen, [edit], view.present)


def _described(context: Context, view: FeatureView) -> schema_pb2.Feature:
    """Returns a feature that holds what was seen, with the fields of a struct."""
    message = schema_pb2.Feature(name=view.path[-1], type=view.schema_type)
    message.presence.min_count = 1 if view.present >= 1 else 0
    if view.present and not view.missing:
        message.presence.min_fraction = 1.0
    least, most = view.value_counts[0]
    if view.present and len(view.value_counts) == 1 and least:
        message.value_count.min = least
        if least == most:
            message.value_count.max = most
    if view.type == Stats.STRUCT:
        message.struct_domain.SetInParent()
    for path, child in context.data.features.items():
        if path[:-1] == view.path:
            message.struct_domain.feature.append(_described(context, child))
    return message
