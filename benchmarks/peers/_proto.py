"""What `DatasetFeatureStatisticsList` says of each column, for the check: Penstock's, and TFDV's own."""

from collections.abc import Iterator
from typing import Any


def columns(statistics: Any) -> dict[str, Any]:
    """Rows, and numbers by column."""
    (dataset,) = statistics.datasets
    found = {feature.path.step[0]: dict(_numbers(feature)) for feature in dataset.features}
    return {"rows": dataset.num_examples, "columns": found}


def _numbers(feature: Any) -> Iterator[tuple[str, float]]:
    stats = getattr(feature, feature.WhichOneof("stats"))
    yield "missing", stats.common_stats.num_missing
    for custom in feature.custom_stats:  # TFDV has it for texts only
        if custom.name == "distinct":
            yield "distinct", custom.num
    if feature.HasField("string_stats"):
        yield "distinct", stats.unique
        if stats.top_values:  # there are none where all values are different
            yield "top", stats.top_values[0].frequency
    if feature.HasField("num_stats"):
        for name in ("mean", "min", "max", "median"):
            yield name, getattr(stats, name)
        yield "deviation", stats.std_dev
        yield "zeros", stats.num_zeros
