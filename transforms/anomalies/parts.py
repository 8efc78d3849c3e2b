"""Sparse and weighted features, and what is demanded of the dataset as a whole."""

from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.anomalies.context import Context, dataset_edit, is_deprecated
from penstock.transforms.anomalies.edits import FEATURE, SPARSE, WEIGHTED, Edit
from penstock.transforms.anomalies.findings import Finding, Reason
from penstock.transforms.anomalies.measures.views import DatasetView, FeatureView, Path


def sparse_faults(context: Context, view: FeatureView, sparse: schema_pb2.SparseFeature) -> Iterator[Finding]:
    """Yields rows where values and indices of a sparse feature do not go together, by its custom statistics."""
    edit = _deprecate(SPARSE, view.path)
    value, indices = view.custom.get("missing_value"), view.custom.get("missing_index")
    if value is not None and value.num:
        yield _part(
            context, view, "SPARSE_FEATURE_MISSING_VALUE", f"values of {sparse.value_feature.name}", value.num, edit
        )
    for bucket in indices.rank_histogram.buckets if indices is not None else ():
        if bucket.sample_count:
            what, rows = f"indices {bucket.label}", bucket.sample_count
            yield _part(context, view, "SPARSE_FEATURE_MISSING_INDEX", what, rows, edit)
    for name in ("max_length_diff", "min_length_diff"):
        statistic = view.custom.get(name)
        for bucket in statistic.rank_histogram.buckets if statistic is not None else ():
            if bucket.sample_count:
                expected = f"as many indices {bucket.label} as values"
                reason, seen = "SPARSE_FEATURE_LENGTH_MISMATCH", f"{name} {bucket.sample_count:g}"
                yield _lengths(context, view, reason, expected, seen, edit)


def weighted_faults(context: Context, view: FeatureView, weighted: schema_pb2.WeightedFeature) -> Iterator[Finding]:
    """Yields rows where values and weights of a weighted feature do not go together."""
    edit = _deprecate(WEIGHTED, view.path)
    numbers = {name: statistic.num for name, statistic in view.custom.items()}
    if numbers.get("missing_value"):
        what = f"values of {'.'.join(weighted.feature.step)}"
        yield _part(context, view, "WEIGHTED_FEATURE_MISSING_VALUE", what, numbers["missing_value"], edit)
    if numbers.get("missing_weight"):
        what = f"weights {'.'.join(weighted.weight_feature.step)}"
        yield _part(context, view, "WEIGHTED_FEATURE_MISSING_WEIGHT", what, numbers["missing_weight"], edit)
    least, most = numbers.get("min_weight_length_diff", 0), numbers.get("max_weight_length_diff", 0)
    if least or most:
        seen = f"{least:g} to {most:g} more values than weights"
        yield _lengths(context, view, "WEIGHTED_FEATURE_LENGTH_MISMATCH", "as many weights as values", seen, edit)


def collisions(context: Context, path: Path) -> Iterator[Finding]:
    """Yields that a view has the name of another feature."""
    schema, name = context.schema, path[0]
    if len(path) > 1:
        return
    plain = [message for message in schema.feature if message.name == name and not is_deprecated(message)]
    sparse = [message for message in schema.sparse_feature if message.name == name and not is_deprecated(message)]
    weighted = [message for message in schema.weighted_feature if message.name == name and not is_deprecated(message)]
    if weighted and (plain or sparse):
        reason, places = (
            "WEIGHTED_FEATURE_NAME_COLLISION",
            [WEIGHTED] + [FEATURE] * bool(plain) + [SPARSE] * bool(sparse),
        )
    elif sparse and plain:
        reason, places = "SPARSE_FEATURE_NAME_COLLISION", [SPARSE, FEATURE]
    else:
        return
    edits = [_deprecate(place, path) for place in places]
    expected, seen = "one feature of that name", " and ".join(places)
    yield context.finding(path, "schema.parts", Reason.Value(reason), "Two of one name", expected, seen, edits)


def _deprecate(place: str, path: Path) -> Edit:
    return Edit(place, path, "lifecycle_stage", schema_pb2.DEPRECATED)


def _part(context: Context, view: FeatureView, reason: str, what: str, rows: float, edit: Edit) -> Finding:
    expected, seen = f"{what} wherever the feature has the others", "rows that lack them"
    return context.finding(
        view.path, "schema.parts", Reason.Value(reason), "A part is missing", expected, seen, [edit], rows
    )


def _lengths(context: Context, view: FeatureView, reason: str, expected: str, seen: str, edit: Edit) -> Finding:
    return context.finding(
        view.path, "schema.parts", Reason.Value(reason), "Parts differ in length", expected, seen, [edit]
    )


def dataset_faults(context: Context) -> Iterator[Finding]:
    """Yields that there are too few or too many rows, as such or beside the previous span."""
    constraints, rows = context.schema.dataset_constraints, context.data.examples
    if constraints.HasField("num_examples_drift_comparator") and context.previous is not None:
        yield from _ratio(context, constraints.num_examples_drift_comparator, context.previous)
    if constraints.HasField("min_examples_count") and rows < constraints.min_examples_count:
        edit = dataset_edit("min_examples_count", int(rows))
        expected = f"{constraints.min_examples_count:,} rows or more"
        yield _rows(context, "DATASET_LOW_NUM_EXAMPLES", "Too few rows", expected, f"{rows:,.0f}", edit)
    if constraints.HasField("max_examples_count") and rows > constraints.max_examples_count:
        edit = dataset_edit("max_examples_count", int(rows))
        expected = f"{constraints.max_examples_count:,} rows or fewer"
        yield _rows(context, "DATASET_HIGH_NUM_EXAMPLES", "Too many rows", expected, f"{rows:,.0f}", edit)


def _ratio(context: Context, comparator: schema_pb2.NumericValueComparator, previous: DatasetView) -> Iterator[Finding]:
    """Yields a ratio of numbers of rows beyond the comparator; a previous span without rows is below any ratio."""
    field, rows, before = "num_examples_drift_comparator", context.data.examples, previous.examples
    ratio = rows / before if before else None
    told = f"{rows:,.0f}, {'the previous span has none' if ratio is None else f'{ratio:.6g} times {before:,.0f}'}"
    if comparator.HasField("max_fraction_threshold") and (ratio is None or ratio > comparator.max_fraction_threshold):
        edit = dataset_edit(f"{field}.max_fraction_threshold", ratio)
        expected = f"up to {comparator.max_fraction_threshold:g} times the rows of the previous span"
        yield _rows(context, "COMPARATOR_HIGH_NUM_EXAMPLES", "Many more rows", expected, told, edit)
    if (
        comparator.HasField("min_fraction_threshold")
        and ratio is not None
        and ratio < comparator.min_fraction_threshold
    ):
        edit = dataset_edit(f"{field}.min_fraction_threshold", ratio)
        expected = f"at least {comparator.min_fraction_threshold:g} times the rows of the previous span"
        yield _rows(context, "COMPARATOR_LOW_NUM_EXAMPLES", "Far fewer rows", expected, told, edit)


def _rows(context: Context, reason: str, title: str, expected: str, seen: str, edit: Edit) -> Finding:
    return context.finding((), "schema.examples", Reason.Value(reason), title, expected, seen, [edit])
