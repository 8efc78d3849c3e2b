"""What `fit` does once its command line is found good: one pipeline, and one before it where there is no schema."""

from typing import TYPE_CHECKING

from apache_beam.io.filesystems import FileSystems

from penstock.io.errors import ConfigError
from penstock.io.schema import load_schema
from pipelines._command import DONE
from pipelines._options import TransformOptions, resolved
from pipelines._plan import Plan, Recipe, describe, infer_schema
from pipelines._source import open_source

if TYPE_CHECKING:
    from pipelines.fit import FitOptions

_STAGES = ("read, validate and split the rows", "fit the features on the train split", "write the graph")


def run(options: "FitOptions") -> int:
    """Runs the job, as `pipelines.fit.run` does."""
    _ = options.beam  # what Beam does not take is told before anything is read
    output = str(options.graph.output)
    source = open_source(options.input)
    transform = TransformOptions(features=options.graph.features)
    recipe = Recipe.load(options.input, options.checks, options.split, transform)
    if options.run.is_described:
        flags = resolved(options.input, options.checks, options.split, options.graph)
        print(describe(flags, [None if options.checks.schema else "infer the schema from the whole input", *_STAGES]))
        return DONE
    if FileSystems.exists(FileSystems.join(output, "transform_fn")) and not options.graph.overwrite:
        raise ConfigError(f"--output {output} holds a graph already; pass --overwrite to replace it")
    if not FileSystems.exists(output):
        FileSystems.mkdirs(output)
    if options.checks.schema:
        schema = load_schema(options.checks.schema)
    else:
        schema = infer_schema(source, options.beam, FileSystems.join(output, "schema.pbtxt"))
    plan = Plan.bind(source, recipe, schema)
    plan.fit(options.beam, output)
    print(f"fitted {options.graph.features} on {source.describe()}; the graph is in {output}")
    return DONE
