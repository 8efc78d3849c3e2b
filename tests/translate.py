"""Runs `prepare` as a program for Dataflow, and keeps the graph that would be submitted::

    python tests/translate.py GRAPH FLAGS...

The graph goes to the file GRAPH, and what matters of Beam's options to GRAPH.json.
"""

import json
import pathlib
import runpy
import sys

from apache_beam.options.pipeline_options import SetupOptions, StandardOptions
from apache_beam.runners.dataflow.internal import apiclient

_GRAPH = sys.argv[1]


class _Job(apiclient.Job):
    def __init__(self, options, proto_pipeline):
        kept = {
            "streaming": options.view_as(StandardOptions).streaming,
            "save_main_session": options.view_as(SetupOptions).save_main_session,
        }
        pathlib.Path(_GRAPH).write_bytes(proto_pipeline.SerializeToString())
        pathlib.Path(f"{_GRAPH}.json").write_text(json.dumps(kept))
        super().__init__(options, proto_pipeline)


if __name__ == "__main__":
    apiclient.Job = _Job
    sys.argv = ["prepare", *sys.argv[2:]]
    # A script's own folder comes first, and here it holds the tests' helpers only.
    runpy.run_module("pipelines.prepare", run_name="__main__", alter_sys=True)
