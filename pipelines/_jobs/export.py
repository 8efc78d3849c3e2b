"""Runs `export` after its command line is checked."""

import time

from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.transforms._named import FITTED_FEATURES
from penstock.transforms.features.engine import fitted_engine
from penstock.transforms.features.exported.export import export_saved_model
from pipelines._options.export import ExportOptions
from pipelines._report.process import job_started
from pipelines._report.result import ExportResult
from pipelines._report.summary import tell


def run(options: ExportOptions) -> int:
    """Runs the job, as `pipelines.export.run` does."""
    started, graph = job_started(), options.graph
    transform, output = str(graph.transform), str(graph.output)
    if fitted_engine(transform) == "tft":
        raise ConfigError(f"--transform {transform}: is a SavedModel already: it has no {FITTED_FEATURES}")
    held = (stores.join(output, name) for name in ("transform_fn", FITTED_FEATURES))
    if any(map(stores.exists, held)) and not graph.overwrite:
        raise ConfigError(f"--output {output} holds a graph already; pass --overwrite to replace it")
    export_saved_model(transform, output)
    seconds = time.monotonic() - started
    result = ExportResult(job=options.name, seconds=seconds, transform=transform, output=output)
    return tell(result, graph.json)
