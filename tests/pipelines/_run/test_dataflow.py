"""What Dataflow would get: the graph of a batch and of a streaming job, translated and not submitted."""

import base64
import bz2
import json
import operator
import pathlib
import pickletools
import subprocess
import sys

import forked
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from helpers import job as run_job
from helpers import write_csv, write_schema_file
from mock_kafka import json_messages, mock_kafka

from pipelines import fit, prepare, replay
from pipelines._report.result import WRONG_USAGE

TESTS = pathlib.Path(__file__).parents[2]

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


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    return write_schema_file(tmp_path_factory.mktemp("schema") / "schema.pbtxt", id="INT", amount="FLOAT")


@pytest.fixture(scope="module")
def translated(tmp_path_factory, schema):
    """The options and graphs of jobs that Dataflow would get, by their names; twice, each time by another process."""
    folder = tmp_path_factory.mktemp("graphs")
    rows = write_csv(folder / "rows.csv", [{"id": i, "amount": i / 2} for i in range(10)], ("id", "amount"))
    with mock_kafka() as broker:
        broker.send("events", json_messages({"id": i, "amount": i / 2} for i in range(10)))
        inputs = {"batch": ("--input", rows), "stream": ("--input", broker.uri("events"), "--window=fixed:60s")}
        both = [translate(run, folder, inputs, "--schema", schema) for run in (forked.run, _anew)]
    return {name: [jobs[name] for jobs in both] for name in inputs}


def _anew(arguments):
    return subprocess.run([sys.executable, *arguments], cwd=TESTS, capture_output=True, text=True, check=False)


def translate(run, folder, inputs, *flags):
    """What one process makes of the jobs with these inputs."""
    command = []
    for name, own in inputs.items():
        command += ["--", folder / name, *own, *flags, "--output", folder / "out", *COMMON, *FLAGS]
    done = run(["-m", "translate", *map(str, command)])
    assert done.stdout.count("nothing was written") == len(inputs), done.stderr
    assert (done.returncode, (folder / "out").exists()) == (0, False), done.stderr
    return {name: read_graph(folder / name) for name in inputs}


def read_graph(path):
    options = json.loads(path.with_name(f"{path.name}.json").read_text())
    return options, beam_runner_api_pb2.Pipeline.FromString(path.read_bytes())


@pytest.fixture
def batch(translated):
    """Two translations of a batch job."""
    return translated["batch"]


@pytest.fixture
def stream(translated):
    """Two translations of a streaming job."""
    return translated["stream"]


@pytest.fixture(params=["batch", "stream"])
def job(translated, request):
    return translated[request.param]


def pardos(proto):
    """The functions of the graph by their labels, as pickles."""
    found = {}
    for transform in proto.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            found[transform.unique_name] = bz2.decompress(base64.b64decode(payload.do_fn.payload))
    return found


def test_labels_are_unique_and_the_same_each_time(job):
    labels = [sorted(one.unique_name for one in graph.components.transforms.values()) for _, graph in job]
    assert len(set(labels[0])) == len(labels[0])
    assert labels[0] == labels[1]


def test_nothing_of_the_main_program_is_pickled(job):
    options, graph = job[0]
    assert not options["save_main_session"]
    functions = pardos(graph)
    assert any("WriteDataset" in label for label in functions)
    # Beam's own steps, such as `Distinct`, may have no function.
    for label, pickled in filter(operator.itemgetter(1), functions.items()):
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


def test_rows_are_moved_as_arrow(job):
    _, graph = job[0]
    outputs = {one.unique_name: dict(one.outputs) for one in graph.components.transforms.values()}
    for label in ("Read", "ValidateRecords", "AssignSplit"):
        assert any("RecordBatchCoder" in coder_names(graph, output) for output in outputs[label].values()), label


def test_what_a_stream_keeps_has_a_form_of_its_own(stream):
    _, graph = stream[0]
    # Beam's reshuffle has pickled timestamps around the elements.
    fallbacks = {
        transform.unique_name
        for transform in graph.components.transforms.values()
        for output in transform.outputs.values()
        if FALLBACK in coder_names(graph, output)
        and not transform.unique_name.endswith(("/Map(reify_metadata_default_window)", "/GroupByKey"))
    }
    assert not fallbacks


def test_a_stream_asks_for_what_it_needs(stream):
    options, graph = stream[0]
    assert options["streaming"]
    assert common_urns.requirements.REQUIRES_STABLE_INPUT.urn in graph.requirements
    assert common_urns.requirements.REQUIRES_SPLITTABLE_DOFN.urn in graph.requirements
    assert common_urns.requirements.REQUIRES_STATEFUL_PROCESSING.urn in graph.requirements


def test_a_batch_job_has_an_end(batch):
    options, graph = batch[0]
    assert not options["streaming"]
    unbounded = beam_runner_api_pb2.IsBounded.UNBOUNDED
    assert all(one.is_bounded != unbounded for one in graph.components.pcollections.values())


REFUSED = [
    (prepare.run, ["--schema=s.pbtxt"], "--dry_run=True is known to DataflowRunner, and all others would run the job"),
    (prepare.run, [*FLAGS], "--dry_run=True reads nothing, so that no schema can be inferred: pass --schema"),
    (prepare.run, [*FLAGS, "--schema=s.pbtxt", "--features=f.yaml"], "no features can be fitted: pass --transform"),
    (fit.run, [*FLAGS, "--features=f.yaml"], "--dry_run=True is for prepare; --dry_run alone shows"),
]


@pytest.mark.parametrize(("run", "flags", "message"), REFUSED, ids=range(len(REFUSED)))
def test_a_translation_that_would_run_something_is_refused(tmp_path, run, flags, message):
    rows = write_csv(tmp_path / "rows.csv", [{"id": 1}], ["id"])
    code, stderr = run_job("--input", rows, "--output", tmp_path / "out", "--dry_run=True", *flags, run=run)
    assert (code, message in stderr) == (WRONG_USAGE, True), stderr
    assert not (tmp_path / "out").exists()


def test_a_replay_is_not_translated_since_it_would_claim_its_letters(tmp_path):
    letters = tmp_path / "a.jsonl"
    letters.write_text("")
    code, stderr = run_job("--dead_letters", letters, "--output", tmp_path / "out", *FLAGS, run=replay.run)
    assert (code, "--dry_run=True is for prepare" in stderr) == (WRONG_USAGE, True), stderr
    assert list(tmp_path.iterdir()) == [letters]
