"""Fits features alone: raw files in, a TensorFlow graph with the statistics of the train split out.

::

    python -m pipelines.fit --input 'data/*.csv' --schema schema.pbtxt --features features.yaml --output graph
    python -m pipelines.prepare --input 'new/*.csv' --schema schema.pbtxt --transform graph --output dataset

The rows are read, checked and split as `pipelines.prepare` does with the same flags; what is rejected there is left
out here. `tft.TFTransformOutput` loads the graph.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, Self

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from penstock.io.errors import ConfigError
from penstock.io.schema import load_schema
from pipelines._flags import Options, flag, job_parser, parse_job
from pipelines._job import DONE, main
from pipelines._options import (
    CheckOptions,
    InputOptions,
    RunOptions,
    SplitOptions,
    TransformOptions,
    beam_options,
    describe,
    resolved,
)
from pipelines._plan import Plan, Recipe, infer_schema
from pipelines._source import open_source

_EXAMPLES = """examples:
  fit the features on the train split, then apply them to other data
    python -m pipelines.fit --input 'data/*.csv' --schema schema.pbtxt --features features.yaml \\
        --split train=0.8,eval=0.2 --output graph
    python -m pipelines.prepare --input 'new/*.csv' --schema schema.pbtxt --transform graph --output dataset

exit codes: 0 done; 1 the data failed (no rows, a truncated file); 2 wrong usage or configuration"""


_STAGES = ("read, validate and split the rows", "fit the features on the train split", "write the graph")


@dataclasses.dataclass(frozen=True)
class GraphOptions(Options):
    """What is fitted, and where it goes."""

    title = "features and graph (need penstock[tft])"

    features: str | None = flag(
        "features to compute with tensorflow-transform: a YAML file, or a Python function",
        metavar="FILE|MODULE:FUNCTION",
    )
    output: str | None = flag(
        "folder of the graph; without --schema, the inferred schema goes there too", metavar="DIR"
    )
    overwrite: bool = flag("replace a graph that is in OUTPUT", False, action="store_true")


_FAMILIES: dict[str, type[Options]] = {
    "input": InputOptions,
    "checks": CheckOptions,
    "split": SplitOptions,
    "graph": GraphOptions,
    "run": RunOptions,
}


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """All flags of the job, by family, and Beam's."""

    input: InputOptions
    checks: CheckOptions
    split: SplitOptions
    graph: GraphOptions
    run: RunOptions
    beam: PipelineOptions

    @classmethod
    def parse(cls, argv: Sequence[str] | None = None) -> Self:
        """Parses a command line.

        Raises:
          SystemExit: 0 after --help, 2 for an unknown flag or a bad value.
          ConfigError: for a flag that is missing.
        """
        parser = job_parser("fit", "Fits features to the train split.", _EXAMPLES, _FAMILIES.values())
        namespace, rest = parse_job(parser, sys.argv[1:] if argv is None else argv)
        values: dict[str, Any] = {name: family.from_namespace(namespace) for name, family in _FAMILIES.items()}
        options = cls(**values, beam=beam_options(rest, values["run"]))
        options.run.check_runs()
        if not options.graph.features:
            raise ConfigError("--features is required: a YAML file, or a function as module:function")
        if not options.graph.output:
            raise ConfigError("--output is required: the folder of the graph")
        return options


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: an input that cannot be used, or has no row to fit on.
    """
    options = FitOptions.parse(argv)
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


if __name__ == "__main__":
    sys.exit(main("fit", run))
