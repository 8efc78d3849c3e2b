"""OpenLineage's own classes take the events of a run: they know what is required, and nothing that is not theirs.

The package's client is not imported, which needs more packages than its classes.
"""

import functools
import os
import subprocess
import sys

import pytest
from helpers import job, write_csv

from pipelines._lineage import track
from pipelines._lineage.transport import Delivery

pytestmark = pytest.mark.integration

# Makes an object of each part of an event; a class refuses what lacks a field, and fields that it does not have.
PROGRAM = """
import importlib, json, pathlib, sys, types

for name in ("openlineage", "openlineage.client"):
    module = types.ModuleType(name)
    module.__path__ = [str(pathlib.Path(sys.argv[1], *name.split(".")))]
    sys.modules[name] = module

from openlineage.client.generated import base

FACETS = {}
for path in pathlib.Path(sys.argv[1], "openlineage", "client", "generated").glob("*.py"):
    module = importlib.import_module(f"openlineage.client.generated.{path.stem}")
    for name in dir(module):
        if name.endswith("Facet"):
            FACETS[name] = (module, getattr(module, name))

PARTS = {
    "SchemaDatasetFacet": lambda m, f: {**f, "fields": [m.SchemaDatasetFacetFields(**one) for one in f["fields"]]},
    "ParentRunFacet": lambda m, f: {"run": m.Run(**f["run"]), "job": m.Job(**f["job"])},
    "LifecycleStateChangeDatasetFacet": lambda m, f: {k: m.LifecycleStateChange(v) for k, v in f.items()},
    "DataQualityMetricsDatasetFacet": lambda m, f: {
        **f, "columnMetrics": {k: m.ColumnMetrics(**v) for k, v in f["columnMetrics"].items()}
    },
}
PARTS["DataQualityMetricsInputDatasetFacet"] = PARTS["DataQualityMetricsDatasetFacet"]


def facets(found, kind):
    made = {}
    for key, facet in (found or {}).items():
        fields = dict(facet)
        producer, url = fields.pop("_producer"), fields.pop("_schemaURL")
        module, cls = FACETS[url.rpartition("/")[2]]
        fields = PARTS.get(cls.__name__, lambda m, f: f)(module, fields)
        made[key] = cls(**fields, producer=producer)
        assert isinstance(made[key], kind), (key, kind)
        assert made[key]._schemaURL == url, (made[key]._schemaURL, url)
    return made


def dataset(found, kind, own, own_kind):
    return kind(
        namespace=found["namespace"], name=found["name"], facets=facets(found["facets"], base.DatasetFacet),
        **{own: facets(found[own], own_kind)},
    )


for line in pathlib.Path(sys.argv[2]).read_text().splitlines():
    event = json.loads(line)
    run, job = event.pop("run"), event.pop("job")
    inputs, outputs, url = event.pop("inputs"), event.pop("outputs"), event.pop("schemaURL")
    made = base.RunEvent(
        **{**event, "eventType": base.EventType(event["eventType"])},
        run=base.Run(runId=run["runId"], facets=facets(run["facets"], base.RunFacet)),
        job=base.Job(**{**job, "facets": facets(job["facets"], base.JobFacet)}),
        inputs=[dataset(one, base.InputDataset, "inputFacets", base.InputDatasetFacet) for one in inputs],
        outputs=[dataset(one, base.OutputDataset, "outputFacets", base.OutputDatasetFacet) for one in outputs],
    )
    assert made.schemaURL == url
    print(made.eventType.value)
"""


def test_the_classes_of_openlineage_take_all_events(tmp_path, openlineage, monkeypatch):
    monkeypatch.setattr(track, "Delivery", functools.partial(Delivery, finish_seconds=60))  # of a busy machine
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", "airflow/daily.prepare/8f1d3c0e-5d8a-4f0e-9b37-0a3b1c2d3e4f")
    rows = [{"x": number, "name": f"n{number}", "y": None if number % 4 else number / 8} for number in range(40)]
    events = tmp_path / "events.jsonl"
    write_csv(tmp_path / "in.csv", rows, ["x", "name", "y"])
    write_csv(tmp_path / "bad.csv", [{"x": "no"}], ["x"])
    (tmp_path / "schema.pbtxt").write_text('feature { name: "x" type: INT }')
    schema = ("--schema", tmp_path / "schema.pbtxt")
    for name, code, more in (("in.csv", 0, ()), ("bad.csv", 1, schema)):
        flags = ("--input", tmp_path / name, "--output", tmp_path / name[:-4] / "out", "--openlineage_file", events)
        assert job(*flags, *more)[0] == code
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(openlineage), str(events)],
        env={**os.environ, "PYTHONPATH": str(openlineage)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["START", "COMPLETE", "START", "FAIL"]
