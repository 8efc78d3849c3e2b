"""Runs `prepare` as a program for Dataflow, and keeps the graph that would be submitted::

    python tests/translate.py GRAPH FLAGS... [-- GRAPH FLAGS...]...

Each graph goes to the file GRAPH, and what matters of Beam's options to GRAPH.json.
"""

import itertools
import json
import pathlib
import runpy
import sys

from apache_beam.options.pipeline_options import SetupOptions, StandardOptions
from apache_beam.runners.dataflow.internal import apiclient

from pipelines._cli import command


class _Job(apiclient.Job):
    graph = ""  # where the next one goes

    def __init__(self, options, proto_pipeline):
        kept = {
            "streaming": options.view_as(StandardOptions).streaming,
            "save_main_session": options.view_as(SetupOptions).save_main_session,
        }
        pathlib.Path(self.graph).write_bytes(proto_pipeline.SerializeToString())
        pathlib.Path(f"{self.graph}.json").write_text(json.dumps(kept))
        super().__init__(options, proto_pipeline)


def _translate(graph: str, *flags: str) -> None:
    _Job.graph = graph
    sys.argv = ["prepare", *flags]
    try:
        # A script's own folder comes first, and here it holds the tests' helpers only.
        runpy.run_module("pipelines.prepare", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    apiclient.Job = _Job
    command.end = sys.exit  # this process goes on
    for last, arguments in itertools.groupby(sys.argv[1:], "--".__eq__):
        if not last:
            _translate(*arguments)
