"""Events of OpenLineage as JSON has them: a run with its job, what it reads and what it writes.

The spec is 2-0-2, https://openlineage.io/spec/2-0-2/OpenLineage.json; each facet names the version of its own.
"""

import dataclasses
import datetime
import json
import logging
import operator
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock import __version__
from pipelines._lineage.names import DatasetName, Read

_LOGGER = logging.getLogger(__name__)

EventType = Literal["START", "RUNNING", "COMPLETE", "ABORT", "FAIL"]
State = Literal["CREATE", "OVERWRITE", "ALTER"]
Facet = dict[str, Any]

_SPEC = "https://openlineage.io/spec"
PRODUCER = f"urn:penstock:{__version__}"

# The namespace of the ids that runs have there, which must be UUIDs.
_RUNS = uuid.UUID("6f0f5a4e-3f0c-5a53-9b59-0f6d3f1f7c55")

_VERSIONS = {
    "DataQualityMetricsDatasetFacet": "1-0-1",
    "DataQualityMetricsInputDatasetFacet": "1-0-3",
    "DatasetVersionDatasetFacet": "1-0-1",
    "ErrorMessageRunFacet": "1-0-1",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "LifecycleStateChangeDatasetFacet": "1-0-1",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SchemaDatasetFacet": "1-2-0",
    "SourceCodeJobFacet": "1-0-1",
}


def run_uuid(run_id: str) -> str:
    """The id that events have of a run; equal for equal run ids, so that a manifest leads to its events.

    >>> run_uuid("20261128T010203Z-0a1b2c3d")
    'ac0f04fd-5302-50f2-988c-98d95105da06'
    """
    return str(uuid.uuid5(_RUNS, run_id))


def facet(kind: str, **fields: Any) -> Facet:
    """A facet with the fields that are not None."""
    there = {name: value for name, value in fields.items() if value is not None}
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/{_VERSIONS[kind]}/{kind}.json#/$defs/{kind}", **there}


@dataclasses.dataclass(frozen=True)
class RunOfJob:
    """What all events of a run share.

    Attributes:
      run_id: of the run, as manifests have it.
      namespace, name: of the job.
      flags: those of the job, as far as they may be shown.
      streaming: whether its input has no end.
      engine: name and version of what runs the pipeline.
      parent: what started the run, as `NAMESPACE/NAME/RUN_ID`.
    """

    run_id: str
    namespace: str
    name: str
    flags: Mapping[str, Any]
    streaming: bool
    engine: tuple[str, str]
    parent: str | None = None

    def event(
        self,
        kind: EventType,
        inputs: Sequence[Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]],
        error: str | None = None,
    ) -> dict[str, Any]:
        """An event of this moment."""
        facets = {
            "processing_engine": facet(
                "ProcessingEngineRunFacet",
                name=self.engine[0],
                version=self.engine[1],
                openlineageAdapterVersion=__version__,
            ),
            **self._parent(),
        }
        if error is not None:
            facets["errorMessage"] = facet("ErrorMessageRunFacet", message=error, programmingLanguage="PYTHON")
        return {
            "eventType": kind,
            "eventTime": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "producer": PRODUCER,
            "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {"runId": run_uuid(self.run_id), "facets": facets},
            "job": {"namespace": self.namespace, "name": self.name, "facets": self._of_job()},
            "inputs": list(inputs),
            "outputs": list(outputs),
        }

    def _of_job(self) -> Facet:
        kind = "STREAMING" if self.streaming else "BATCH"
        flags = {name: value for name, value in self.flags.items() if value not in (None, [], "", False)}
        code = json.dumps(flags, indent=2, ensure_ascii=False)
        return {
            "jobType": facet("JobTypeJobFacet", processingType=kind, integration="PENSTOCK", jobType="JOB"),
            "sourceCode": facet("SourceCodeJobFacet", language="JSON", sourceCode=code),
        }

    def _parent(self) -> Facet:
        if self.parent is None:
            return {}
        job, _, run = self.parent.rpartition("/")
        namespace, _, name = job.rpartition("/")
        try:
            uuid.UUID(run)
        except ValueError:
            name = ""
        if not namespace or not name:
            _LOGGER.warning("OPENLINEAGE_PARENT_ID is not NAMESPACE/JOB/RUN_ID with a UUID at its end, and is left out")
            return {}
        return {"parent": facet("ParentRunFacet", run={"runId": run}, job={"namespace": namespace, "name": name})}


def input_dataset(name: DatasetName, read: Read, rows: int | None = None, quality: Facet | None = None) -> Facet:
    """What a run reads; `rows` and `quality`, where they are known of this dataset alone."""
    facets = {}
    if read.files is not None or rows is not None:
        facets["inputStatistics"] = facet(
            "InputStatisticsInputDatasetFacet", rowCount=rows, size=read.bytes, fileCount=read.files
        )
    if quality is not None:
        facets["dataQualityMetrics"] = facet("DataQualityMetricsInputDatasetFacet", **quality)
    return {**name._asdict(), "facets": {}, "inputFacets": facets}


class Written(NamedTuple):
    """What was written: None for what is not known."""

    rows: int
    bytes: int | None = None
    files: int | None = None


def output_dataset(
    name: DatasetName,
    state: State | None = None,
    columns: pa.Schema | None = None,
    version: str | None = None,
    written: Written | None = None,
    quality: Facet | None = None,
) -> Facet:
    """What a run writes.

    Args:
      name: of the dataset.
      state: what becomes of it.
      columns: of the records.
      version: of what is published.
      written: to it by the run, or for a stream so far.
      quality: of its rows.
    """
    facets = {}
    if columns is not None:
        facets["schema"] = facet("SchemaDatasetFacet", fields=_fields(columns))
    if version is not None:
        facets["version"] = facet("DatasetVersionDatasetFacet", datasetVersion=version)
    if state is not None:
        facets["lifecycleStateChange"] = facet("LifecycleStateChangeDatasetFacet", lifecycleStateChange=state)
    if quality is not None:
        facets["dataQualityMetrics"] = facet("DataQualityMetricsDatasetFacet", **quality)
    of_output = {}
    if written is not None:
        of_output["outputStatistics"] = facet(
            "OutputStatisticsOutputDatasetFacet", rowCount=written.rows, size=written.bytes, fileCount=written.files
        )
    return {**name._asdict(), "facets": facets, "outputFacets": of_output}


def _fields(columns: pa.Schema) -> list[dict[str, Any]]:
    return [
        {"name": field.name, "type": str(field.type), "ordinal_position": number}
        for number, field in enumerate(columns, 1)
    ]


def quality_metrics(statistics: statistics_pb2.DatasetFeatureStatistics) -> Facet:
    """The fields of a facet of metrics, from the statistics of some rows."""
    columns = {".".join(one.path.step) or one.name: _column(one) for one in statistics.features}
    return {"rowCount": int(statistics.num_examples), "columnMetrics": columns}


def merge_metrics(parts: Iterable[Facet]) -> Facet:
    """The metrics of several sets of rows together: what sums up, and bounds; nothing that cannot be told of parts."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, found in part["columnMetrics"].items():
            whole = columns.setdefault(name, {})
            for metric, merge in _MERGED.items():
                if metric in found:
                    whole[metric] = merge(whole[metric], found[metric]) if metric in whole else found[metric]
    return {"rowCount": sum(part["rowCount"] for part in parts), "columnMetrics": columns}


_MERGED: Mapping[str, Callable[[float, float], float]] = {
    "nullCount": operator.add,
    "count": operator.add,
    "min": min,
    "max": max,
}


def _column(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, Any]:
    kind = feature.WhichOneof("stats")
    stats = getattr(feature, kind) if kind else None
    if stats is None or kind == "struct_stats":
        return {}
    common = stats.common_stats
    metrics: dict[str, Any] = {"nullCount": int(common.num_missing), "count": int(common.tot_num_values)}
    if kind == "string_stats":
        metrics["distinctCount"] = int(stats.unique)
    elif kind == "num_stats" and common.tot_num_values:
        numbers = {"min": stats.min, "max": stats.max}
        # JSON has no infinity, and no NaN.
        metrics |= {name: value for name, value in numbers.items() if abs(value) < float("inf")}
        if abs(stats.median) < float("inf"):
            metrics["quantiles"] = {"0.5": stats.median}
    return metrics
