"""What Dataflow would get: the graph of a batch and of a streaming job, translated and not submitted."""

import base64
import bz2
import pickletools

import pytest
from apache_beam.options.pipeline_options import SetupOptions, StandardOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.internal import apiclient
from helpers import run_prepare, write_csv, write_schema_file
from mock_kafka import json_messages, mock_kafka

FLAGS = (
    "--runner=DataflowRunner",
    "--dry_run=True",
    "--no_auth",
    "--project=a-project",
    "--region=europe-west1",
    "--temp_location=gs://bucket/temp",
)
COMMON = ("--num_shards=2", "--split=train=0.5,eval=0.5")

# Pickles what it does not know: another version could not read what a stream keeps.
FALLBACK = "FastPrimitivesCoder"


@pytest.fixture
def schema(tmp_path):
    return write_schema_file(tmp_path / "schema.pbtxt", id="INT", amount="FLOAT")


@pytest.fixture
def translated(monkeypatch):
    """Runs `prepare`, and gives the job that Dataflow would get."""
    jobs = []

    class Job(apiclient.Job):
        def __init__(self, options, proto_pipeline):
            jobs.append((options, proto_pipeline))
            super().__init__(options, proto_pipeline)

    monkeypatch.setattr(apiclient, "Job", Job)

    def translate(*flags):
        run_prepare(*flags, *COMMON, *FLAGS)
        return jobs.pop()

    return translate


@pytest.fixture
def batch(tmp_path, schema):
    rows = write_csv(tmp_path / "rows.csv", [{"id": i, "amount": i / 2} for i in range(10)], ("id", "amount"))
    return ("--input", rows, "--schema", schema, "--output", tmp_path / "out")


@pytest.fixture
def stream(tmp_path, schema):
    with mock_kafka() as broker:
        broker.send("events", json_messages({"id": i, "amount": i / 2} for i in range(10)))
        yield ("--input", broker.uri("events"), "--schema", schema, "--output", tmp_path / "out", "--window=fixed:60s")


@pytest.fixture(params=["batch", "stream"])
def flags(request):
    return request.getfixturevalue(request.param)


def pardos(proto):
    """The functions of the graph by their labels, as pickles."""
    found = {}
    for transform in proto.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            found[transform.unique_name] = bz2.decompress(base64.b64decode(payload.do_fn.payload))
    return found


def test_labels_are_unique_and_the_same_each_time(translated, flags):
    graphs = [translated(*flags)[1] for _ in range(2)]
    labels = [sorted(one.unique_name for one in graph.components.transforms.values()) for graph in graphs]
    assert len(set(labels[0])) == len(labels[0])
    assert labels[0] == labels[1]


def test_nothing_of_the_main_program_is_pickled(translated, flags):
    options, graph = translated(*flags)
    assert not options.view_as(SetupOptions).save_main_session
    functions = pardos(graph)
    assert any("WriteDataset" in label for label in functions)
    for label, pickled in functions.items():
        texts = {argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)}
        assert "__main__" not in texts, label


def coder_names(graph, pcollection):
    """A coder, and all that it is made of, as texts."""
    waiting, names = [graph.components.pcollections[pcollection].coder_id], []
    while waiting:
        coder = graph.components.coders[waiting.pop()]
        names += [coder.spec.urn, repr(coder.spec.payload)]
        waiting += coder.component_coder_ids
    return " ".join(names)


def test_rows_are_moved_as_arrow(translated, flags):
    graph = translated(*flags)[1]
    outputs = {one.unique_name: dict(one.outputs) for one in graph.components.transforms.values()}
    for label in ("Read", "ValidateRecords", "AssignSplit"):
        assert any("RecordBatchCoder" in coder_names(graph, output) for output in outputs[label].values()), label


def test_what_a_stream_keeps_has_a_form_of_its_own(translated, stream):
    graph = translated(*stream)[1]
    # Beam's reshuffle has pickled timestamps around the elements.
    fallbacks = {
        transform.unique_name
        for transform in graph.components.transforms.values()
        for output in transform.outputs.values()
        if FALLBACK in coder_names(graph, output)
        and not transform.unique_name.endswith(("/Map(reify_metadata_default_window)", "/GroupByKey"))
    }
    assert not fallbacks


def test_a_stream_asks_for_what_it_needs(translated, stream):
    options, graph = translated(*stream)
    assert options.view_as(StandardOptions).streaming
    assert common_urns.requirements.REQUIRES_STABLE_INPUT.urn in graph.requirements
    assert common_urns.requirements.REQUIRES_SPLITTABLE_DOFN.urn in graph.requirements
    assert common_urns.requirements.REQUIRES_STATEFUL_PROCESSING.urn in graph.requirements


def test_a_batch_job_has_an_end(translated, batch):
    options, graph = translated(*batch)
    assert not options.view_as(StandardOptions).streaming
    unbounded = beam_runner_api_pb2.IsBounded.UNBOUNDED
    assert all(one.is_bounded != unbounded for one in graph.components.pcollections.values())
