"""Runs `fit` after its command line is checked: one pipeline, and one before it that infers a missing schema."""

import time

from apache_beam.io.filesystems import FileSystems

from penstock.io.dataset.layout import SCHEMA
from penstock.io.errors import ConfigError
from penstock.io.files.apart import check_outside
from penstock.io.schema import load_schema
from penstock.io.sources.files import FileSource
from penstock.io.sources.registry import open_source
from pipelines._cli.options import StreamOptions, TransformOptions, resolved, source_request
from pipelines._options.fit import FitOptions
from pipelines._plan import Plan, Recipe, infer_schema, look_at
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
    source = open_source(source_request(options.input, StreamOptions()))
    if isinstance(source, FileSource):
        check_outside((file.uri for file in source.files), "--input", output)
    transform = TransformOptions(features=options.graph.features, custom_config=options.graph.custom_config)
    recipe = Recipe.load(options.input, options.checks, options.split, transform)
    recipe.check_source(source)
    if options.run.is_described:
        return tell(_described(options, time.monotonic() - started), options.run.json)
    if FileSystems.exists(FileSystems.join(output, "transform_fn")) and not options.graph.overwrite:
        raise ConfigError(f"--output {output} holds a graph already; pass --overwrite to replace it")
    schema_path = options.checks.schema or FileSystems.join(output, SCHEMA)
    plan = Plan.bind(source, recipe, load_schema(schema_path)) if options.checks.schema else None
    look_at(source)
    if not FileSystems.exists(output):
        FileSystems.mkdirs(output)
    with showing_progress():
        if plan is None:
            inferred = infer_schema(source, options.beam, schema_path)
            plan = Plan.bind(source, recipe, inferred.schema, inferred.notes)
        fitted = plan.fit(options.beam, output)
    result = FitResult(
        job=options.name,
        seconds=time.monotonic() - started,
        output=output,
        features=str(options.graph.features),
        input=source.describe(),
        **{**vars(fitted), "notes": plan.notes + fitted.notes},
        schema=schema_path,
        transform=output,
    )
    return tell(result, options.run.json)


def _described(options: FitOptions, seconds: float) -> DescribedResult:
    flags = resolved(options.input, options.checks, options.split, options.graph)
    first = () if options.checks.schema else ("infer the schema from the whole input",)
    return DescribedResult(job=options.name, seconds=seconds, flags=flags, stages=(*first, *_STAGES))
