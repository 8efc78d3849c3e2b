"""How a stream begins, or goes on from the windows that its output holds."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from penstock.io.beam.durations import duration_text
from penstock.io.dataset.layout import check_output
from penstock.io.dataset.windowed.resume import Resumption, check_settings, find_point
from penstock.io.errors import ConfigError
from penstock.io.schema import schema_fingerprint
from penstock.io.sources.base import PositionedSource
from penstock.transforms.features.apply import transform_fingerprint
from pipelines._options.dataset import DatasetJobOptions
from pipelines._plan.plan import Plan
from pipelines._report.process import say
from pipelines._run.flink_job import FlinkJob
from pipelines._run.running import make_way


def begin_stream(
    options: DatasetJobOptions, plan: Plan, run_id: str, running: FlinkJob | None
) -> tuple[Plan, Resumption | None]:
    """Begins a stream, or goes on with the one that the output holds; first ends the job that `running` is.

    Returns:
      As `_way_on`.

    Raises:
      ConfigError: as `_way_on`, with nothing ended, or as `make_way`.
      RunnerError: as `make_way`.
    """
    begun = _way_on(options, plan, run_id)
    if running is not None:
        make_way(running, str(options.output.output), options.stop.on_running)
        begun = _way_on(options, plan, run_id)  # it has published more until then
    resumption = begun[1]
    if resumption is not None and resumption.file.generation > 1:
        say(f"Going on with {len(resumption.windows):,} windows of {options.output.output}.")
    return begun


def _way_on(options: DatasetJobOptions, plan: Plan, run_id: str) -> tuple[Plan, Resumption | None]:
    """How a stream begins, or goes on that the output holds: from its windows, or from a savepoint.

    Returns:
      The plan, whose source reads what is still to be read; and what to know of earlier starts, None with a savepoint.

    Raises:
      ConfigError: if the output holds something else, or a stream that cannot go on so.
    """
    output, source = str(options.output.output), plan.source
    check_output(output, overwrite=False, resume=True)
    settings = stream_settings(options, plan)
    if options.beam_flags.savepoint_path:
        check_settings(output, settings)
        return plan, None
    point = find_point(output, settings)
    if point is None:
        check_output(output, overwrite=False)
    elif not isinstance(source, PositionedSource):
        raise ConfigError(f"--output {output}: only streams of Kafka go on from their windows; name another folder")
    began: Mapping[str, int] = {}
    identities: Mapping[str, str] = {}
    if isinstance(source, PositionedSource) and plan.is_traced:
        identities = source.identities({} if point is None else point.identities)
        source = source if point is None else source.at(point.resume_at)
        began = source.positions()
    return dataclasses.replace(plan, source=source), Resumption.begin(point, run_id, settings, began, identities)


def stream_settings(options: DatasetJobOptions, plan: Plan) -> dict[str, Any]:
    """What a stream has in common at each of its starts: the flags that its windows depend on, as JSON values."""
    flags, graph, source = options.resolved(), options.transform.transform, plan.source
    names = ("num_shards", "seed", "split_hash", "output_format", "compression")
    settings = {
        "input": source.name if isinstance(source, PositionedSource) else flags["input"],
        "event_time": plan.recipe.event_time,
        # When windows of processing time end may change from start to start.
        "window": "flush" if options.stream.is_flushed else str(options.stream.windows),
        "allowed_lateness": duration_text(options.dataset_spec().lateness),
        "splits": sorted(options.split.names()),
        "split": plan.recipe.split_kind().describe(),
        **{name: flags[name] for name in names},
        "schema": schema_fingerprint(plan.row_schema),
        "transform": transform_fingerprint(graph) if graph else None,
        # Statistics of other options do not merge. Streams of before there were any had neither.
        **({"slice_by": options.statistics.slice_by} if options.statistics.slice_by else {}),
        **({"keep_origin": True} if options.output.keep_origin else {}),
        **({"statistics": "all"} if options.statistics.statistics == "all" else {}),
    }
    stored: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return stored
