"""Runs `fit` after its command line is checked: one pipeline, and one before it that infers a missing schema."""

import time

from penstock.io.dataset.layout import SCHEMA
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.schema import load_schema
from penstock.transforms._named import FITTED_FEATURES
from penstock.transforms.features.engine import fitted_engine
from pipelines._cli.options import StreamOptions, TransformOptions, resolved, source_request
from pipelines._options.fit import FitOptions
from pipelines._plan.fitting import fit_features
from pipelines._plan.inferred import infer_schema
from pipelines._plan.input import look_at, open_input
from pipelines._plan.plan import Plan
from pipelines._plan.recipe import Recipe
from pipelines._report.process import job_started
from pipelines._report.progress import showing_progress
from pipelines._report.result import DescribedResult, FitResult
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
        fitted = fit_features(plan, options.beam, output)
    result = FitResult(
        job=options.name,
        seconds=time.monotonic() - started,
        output=output,
        features=str(options.graph.features),
        input=source.describe(),
        **{**vars(fitted), "notes": plan.notes + fitted.notes},
        schema=schema_path,
        transform=output,
        features_engine=fitted_engine(output),
    )
    return tell(result, options.run.json)


def _described(options: FitOptions, seconds: float) -> DescribedResult:
    flags = resolved(options.input, options.checks, options.split, options.graph)
    first = () if options.checks.schema else ("infer the schema from the whole input",)
    return DescribedResult(job=options.name, seconds=seconds, flags=flags, stages=(*first, *_STAGES))
