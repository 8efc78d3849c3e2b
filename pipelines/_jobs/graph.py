"""The features of a dataset that is written: fitted, with or without a reading of their own, or taken from a folder."""

import contextlib
import os
from collections.abc import Iterator

from penstock.io.dataset.layout import TRANSFORM, Staging
from penstock.io.dataset.shuffle import spill_directory
from penstock.io.files.folders import copy_folder
from penstock.io.schema import schema_features
from penstock.transforms.checks.environment import unexpected_features
from penstock.transforms.features.apply import (
    check_transform,
    transformed_schema,
)
from penstock.transforms.features.engine import fitted_engine
from penstock.transforms.features.exported.export import export_saved_model
from penstock.transforms.features.left_out import leave_out
from pipelines._options.dataset import DatasetJobOptions
from pipelines._plan.fitting import fit_and_keep, fit_features, reads_twice
from pipelines._plan.kept import KeptRows
from pipelines._plan.plan import Plan


def why_twice(options: DatasetJobOptions, plan: Plan) -> str | None:
    """Why the input is read once more after the fit; None where it is not, or nothing is fitted."""
    if not options.transform.features:
        return None
    return reads_twice(plan, options.beam, options.stream.windows is not None)


@contextlib.contextmanager
def fitted(
    options: DatasetJobOptions, plan: Plan, staging: Staging, twice: str | None
) -> Iterator[tuple[str | None, KeptRows | None]]:
    """The graph to apply, if there is one, and the rows, where the fit has read and checked them."""
    directory = staging.path(TRANSFORM)
    if not options.transform.features or twice:
        yield graph_of(options, plan, directory), None
        return
    kept, stream = KeptRows(os.path.join(spill_directory(staging), "kept")), options.stream
    try:
        fit_and_keep(plan, options.beam, directory, kept, options.output.shuffle == "none", stream.allowed_lateness)
        _export(options, directory)
        yield directory, kept
    finally:
        kept.remove()


def graph_of(options: DatasetJobOptions, plan: Plan, directory: str) -> str | None:
    """The folder of the graph to apply: fitted now, or a copy of the one given; None without features."""
    if options.transform.transform:
        outputs = left_out(options.transform.transform, plan)
        copy_folder(options.transform.transform, directory)
        if outputs:
            leave_out(directory, outputs, transformed_schema(directory))
    elif plan.recipe.preprocessing is not None:
        fit_features(plan, options.beam, directory)
        _export(options, directory)
    else:
        return None
    return directory


def _export(options: DatasetJobOptions, directory: str) -> None:
    if options.transform.export_saved_model and fitted_engine(directory) == "arrow":
        export_saved_model(directory)


def left_out(graph: str, plan: Plan) -> dict[str, tuple[str, ...]]:
    """The outputs of a graph that need what the environment does not expect; checks that it can be applied."""
    unexpected = {feature.name for feature in unexpected_features(plan.whole_schema, plan.schema)}
    return check_transform(graph, schema_features(plan.row_schema), unexpected)
