"""Runs `fit` after its command line is checked: one pipeline, and one before it that infers a missing schema."""

import time
from typing import Any

from penstock.io.dataset.layout import SCHEMA
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.schema import load_schema
from penstock.transforms._named import FITTED_FEATURES
from penstock.transforms.features.engine import fitted_engine
from penstock.transforms.features.exported.export import export_saved_model
from penstock.transforms.splits.registry import TRAIN
from penstock.transforms.statistics.options import StatisticsOptions
from pipelines._cli.options import TransformOptions, resolved
from pipelines._cli.streams import StreamOptions, source_request
from pipelines._jobs.statistics import write_report
from pipelines._options.fit import FitOptions
from pipelines._plan.fitting import Fitted, fit_features
from pipelines._plan.inferred import infer_schema
from pipelines._plan.input import look_at, open_input
from pipelines._plan.plan import Plan
from pipelines._plan.recipe import Recipe
from pipelines._report.process import job_started
from pipelines._report.progress import showing_progress
from pipelines._report.result import DescribedResult, FitResult
from pipelines._report.result.of_manifests import saved_model
from pipelines._report.summary import tell

_STAGES = ("read, validate and split the rows", "fit the features on the train split", "write the graph")


def run(options: FitOptions) -> int:
    """Runs the job, as `pipelines.fit.run` does."""
    started = job_started()
    _ = options.beam  # Beam refuses a wrong option here, before anything is read
    output = str(options.graph.output)
    options.input.check_given()
    source = open_input(source_request(options.input, StreamOptions()), output)
    transform = TransformOptions(
        features=options.graph.features,
        custom_config=options.graph.custom_config,
        features_engine=options.graph.features_engine,
        export_saved_model=options.graph.export_saved_model,
    )
    recipe = Recipe.load(options.input, options.checks, options.split, transform)
    recipe.check_source(source)
    if options.run.is_described:
        return tell(_described(options, time.monotonic() - started), options.run.json)
    held = (stores.join(output, name) for name in ("transform_fn", FITTED_FEATURES))
    if any(map(stores.exists, held)) and not options.graph.overwrite:
        raise ConfigError(f"--output {output} holds a graph already; pass --overwrite to replace it")
    schema_path = options.checks.schema or stores.join(output, SCHEMA)
    plan = Plan.bind(source, recipe, load_schema(schema_path)) if options.checks.schema else None
    look_at(source)
    if not stores.exists(output):
        stores.make_folder(output)
    with showing_progress():
        if plan is None:
            inferred = infer_schema(source, options.beam, schema_path)
            plan = Plan.bind(source, recipe, inferred.schema, inferred.notes)
        of_rows = StatisticsOptions(label=plan.recipe.label).with_schema(plan.schema) if options.graph.report else None
        fitted = fit_features(plan, options.beam, output, of_rows)
        if options.graph.export_saved_model and fitted_engine(output) == "arrow":
            export_saved_model(output)
    result = FitResult(
        job=options.name,
        seconds=time.monotonic() - started,
        output=output,
        features=str(options.graph.features),
        input=source.describe(),
        rows_in=fitted.rows_in,
        rows_rejected=fitted.rows_rejected,
        rows_fitted=fitted.rows_fitted,
        notes=plan.notes + fitted.notes,
        schema=schema_path,
        transform=output,
        features_engine=fitted_engine(output),
        saved_model=saved_model(output),
        report=_report(options, plan, fitted),
    )
    return tell(result, options.run.json)


def _report(options: FitOptions, plan: Plan, fitted: Fitted) -> str | None:
    """Writes the report on the rows that were fitted; returns its path."""
    if fitted.statistics is None:
        return None
    return write_report(
        options.graph.report,
        statistics=fitted.statistics,
        schema=plan.row_schema,
        manifest=_counts(fitted, plan),
        dead_letters=fitted.rejects.letters.values(),
        title=f"Fit of {options.graph.features} on {plan.source.describe()}",
    )


def _counts(fitted: Fitted, plan: Plan) -> dict[str, Any] | None:
    """What became of the rows, as a manifest has it; None where the runner does not count."""
    if fitted.rows_in is None or fitted.rows_rejected is None or fitted.rows_fitted is None:
        return None
    rows_out = fitted.rows_in - fitted.rows_rejected
    return {
        "rows_in": fitted.rows_in,
        "rows_out": rows_out,
        "rows_rejected": fitted.rows_rejected,
        "splits": {TRAIN: fitted.rows_fitted, "other splits": rows_out - fitted.rows_fitted},
        "rejected_by_reason": fitted.rejects.reasons,
        "notes": plan.notes + fitted.notes,
    }


def _described(options: FitOptions, seconds: float) -> DescribedResult:
    flags = resolved(options.input, options.checks, options.split, options.graph)
    first = () if options.checks.schema else ("infer the schema from the whole input",)
    return DescribedResult(job=options.name, seconds=seconds, flags=flags, stages=(*first, *_STAGES))
