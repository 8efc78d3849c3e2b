"""Jobs on object stores that fail, are slow, or are not there; jobs that are killed, and two of them at once.

Each ends with the right dataset or the old one, which is none only at first. `PENSTOCK_TEST_FAULTS=full` has the
numbers of runs that a release is tested with; by default there are some of them, on each store others.
"""

import os
import pathlib
import random
import re
import subprocess
import time

import apache_beam as beam
import pyarrow as pa
import pytest
from dealt import STORES, dealt, on_stores
from deploy.flink.service import free_port
from forked import Program
from services.fault_proxy.plan import Fault
from window_sinks import Events, batch_of, same, stream_pipeline

from penstock.io.beam.windows import parse_window
from penstock.io.dataset.manifest import read_manifest
from penstock.io.errors import PenstockError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.io.write import WriteDataset
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.window_statistics import WindowStatistics
from pipelines import check, compare, fit, history, prepare, profile, relax, replay, status, verify

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

IS_FULL = os.environ.get("PENSTOCK_TEST_FAULTS") == "full"
FAULTY_RUNS, KILLS = (100, 20) if IS_FULL else (2, 1)
ROWS = "".join(f"{i},näme {i % 7},{i / 2}\n" for i in range(2000))

# One request in twenty.
FAULTS = (
    Fault("status", status=503, rate=0.01),
    Fault("status", status=429, rate=0.01, retry_after=0.1),
    Fault("reset_before", rate=0.01),
    Fault("reset_after", rate=0.01),
    Fault("reset_during", kinds=("put", "part"), size=100, rate=0.02),
    Fault("truncate", kinds=("get",), size=100, rate=0.02),
    Fault("reset_body", kinds=("get", "list"), size=50, rate=0.02),
)


@pytest.fixture
def inputs(bucket, monkeypatch) -> str:
    """The folder of the inputs in the bucket, which this process reaches through the proxy."""
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    write_inputs(f"{bucket.url}/in")
    return f"{bucket.url}/in"


def write_inputs(folder):
    for part in range(2):
        stores.write_file(f"{folder}/{part}.csv", f"id,name,score\n{ROWS}".encode())


def start(*arguments: str, **env: str) -> Program:
    """A job in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return Program(["-m", "penstock", *arguments], env=os.environ | env, **pipes)


def finished(process: Program) -> tuple[int, str]:
    """Its exit code, and what it wrote to stderr."""
    said = process.communicate(timeout=300)[1]
    return process.returncode, said


def flags(inputs, output, *more, shards=2):
    return [f"--input={inputs}/*.csv", f"--output={output}", f"--num_shards={shards}", *more]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """By seed, the id that the dataset has on this machine."""
    local, ids = tmp_path_factory.mktemp("expected"), {}
    write_inputs(f"{local}/in")
    for seed in (0, 1):
        assert prepare.run(flags(f"{local}/in", f"{local}/out{seed}", f"--seed={seed}")) == 0
        ids[seed] = read_manifest(f"{local}/out{seed}").dataset_id
    assert ids[0] != ids[1]
    return ids


def dataset(output) -> str | None:
    """The id of the dataset that is there, all of whose files are as its manifest says."""
    manifest = read_manifest(output)
    if manifest is None:
        return None
    assert verify.run([f"--dataset={output}", "--json"]) in (0, 1)
    for shard in manifest.shards:
        assert len(stores.read_file(f"{output}/{shard.path}")) == shard.bytes
    return manifest.dataset_id


@pytest.fixture
def number(request) -> int:
    """Of the store among all."""
    return STORES.index(request.node.callspec.params["emulator"])


def test_a_request_in_twenty_fails(inputs, bucket, proxy, expected, caplog, number):
    output, old, hit = f"{bucket.url}/out", None, 0
    for run in range(number * FAULTY_RUNS, (number + 1) * FAULTY_RUNS):
        seed = run % 2
        proxy.plan(*FAULTS, seed=run)
        proxy.count_anew()
        lines = []
        try:
            ended = prepare.run(flags(inputs, output, f"--seed={seed}", "--overwrite"))
        except PenstockError as error:
            ended, lines = 1, str(error).splitlines()
        finally:
            proxy.plan()
        assert len(lines) <= 1
        hit += sum(proxy.passed().faults.values())
        assert proxy.passed().failures == []
        found = dataset(output)
        assert found in ({expected[seed]} if ended == 0 else {expected[seed], old}), f"run {run}"
        old = found
    assert hit, "the plan has hit nothing"
    assert not [record for record in caplog.records if record.exc_info]


def test_a_job_that_is_killed_goes_right_the_next_time(inputs, bucket, expected, tmp_path, capsys, number):
    """At moments that are spread over its time, those of all stores taken together."""
    output, temporary = f"{bucket.url}/out", tmp_path / "tmp"
    temporary.mkdir()
    job, own = ["prepare", *flags(inputs, output, "--overwrite")], {"TMPDIR": str(temporary)}
    assert start("--version", **own).wait(300) == 0  # what the next ones are forks of is there from now on
    began = time.monotonic()
    assert finished(start(*job, **own))[0] == 0
    lasts = time.monotonic() - began
    chance, old = random.Random(os.environ.get("PENSTOCK_TEST_SEED", 0)), expected[0]
    for kill in range(KILLS):
        seed = (kill + 1) % 2
        process = start(*job, f"--seed={seed}", **own)
        moment = (kill + (number + chance.random()) / len(STORES)) / KILLS
        time.sleep(lasts * (0.1 + 0.9 * moment))
        process.kill()
        process.communicate()
        assert dataset(output) in {expected[seed], old}
        assert_all_is_named(output, capsys)
        code, said = finished(start(*job, f"--seed={seed}", **own))
        assert (code, said.count("Traceback")) == (0, 0), said
        assert dataset(output) == expected[seed]
        assert_all_is_named(output, capsys)
        assert [path.name for path in temporary.iterdir()] == []
        old = expected[seed]


def assert_all_is_named(output, capsys):
    """Each object is one that the manifest knows, the card, one of the history, or one that `verify` names."""
    manifest = read_manifest(output)
    known = {"manifest.json", "README.md", "_history", *manifest.files(), *manifest.extras} if manifest else set()
    verify.run([f"--dataset={output}"]) if manifest else None
    said = capsys.readouterr()
    for name in list_files(output) if manifest else ():
        folders = {str(folder) for folder in pathlib.PurePath(name).parents}
        assert {name, *folders} & known or name in said.out or name.split("/")[0] in said.out, name


def test_of_two_that_overwrite_at_once_one_wins(inputs, bucket, expected):
    output = f"{bucket.url}/out"
    assert prepare.run(flags(inputs, output)) == 0
    runs = [start("prepare", *flags(inputs, output, f"--seed={seed}", "--overwrite")) for seed in (0, 1)]
    ended, said = zip(*map(finished, runs), strict=True)
    assert 0 in ended, said
    assert not [text for text in said if "Traceback" in text]
    found = dataset(output)
    assert found in {expected[seed] for seed in (0, 1) if ended[seed] == 0}
    assert verify.run([f"--dataset={output}"]) == 0
    for code, text in zip(ended, said, strict=True):
        assert code == 0 or output in text


# What a job of two inputs may need.
_REQUESTS = {"fresh": 60, "overwriting": 80, "verify": 40}


@on_stores("s3", "gs")
def test_requests_of_sixteen_shards(inputs, bucket, proxy):
    output, counts = f"{bucket.url}/out", {}
    for name, seed in (("fresh", 0), ("overwriting", 1)):
        proxy.count_anew()
        assert prepare.run(flags(inputs, output, f"--seed={seed}", "--overwrite", shards=16)) == 0
        counts[name] = proxy.count_anew()
    assert verify.run([f"--dataset={output}"]) == 0
    counts["verify"] = proxy.count_anew()
    too_many = {name: passed.requests for name, passed in counts.items() if passed.total > _REQUESTS[name]}
    assert too_many == {}


# For a window of two shards with statistics, on time alone and with late rows, in a stream.
_REQUESTS_OF_WINDOWS = {"on time": 17, "late": 36}


@dealt("kind", list(_REQUESTS_OF_WINDOWS))
def test_requests_of_windows(inputs, bucket, proxy, kind):
    totals, seconds = {}, 4 if kind == "late" else 0
    for count in (2, 4):
        events = Events()
        for number in range(count):
            events = events.add(batch_of(range(50), 10 * number + 5)).at(10 * number + 11)
            if seconds:
                events = events.add(batch_of(range(50, 60), 10 * number + 5)).at(10 * number + 15)
        proxy.count_anew()
        sink = WriteDataset(
            f"{bucket.url}/{count}",
            num_shards=2,
            window="fixed:10s",
            allowed_lateness=f"{seconds}s",
            summaries=WindowStatistics(StatisticsOptions(), parse_window("fixed:10s")),
        )
        with stream_pipeline() as pipeline:
            _ = pipeline | events.end() | beam.Map(same).with_output_types(pa.RecordBatch) | sink
        totals[count] = proxy.count_anew().total
    assert (totals[4] - totals[2]) / 2 <= _REQUESTS_OF_WINDOWS[kind]


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_write_is_told_what_is_needed(inputs, bucket, proxy, status):
    proxy.plan(Fault("status", status=status, kinds=("put", "start", "part")))
    began = time.monotonic()
    with pytest.raises(PenstockError, match=rf"{bucket.url}/.*credentials") as refused:
        prepare.run(flags(inputs, f"{bucket.url}/out"))
    assert "\n" not in str(refused.value)
    assert proxy.passed().faults["status"] < 10
    assert time.monotonic() - began < 30


def test_who_may_not_read_is_told_so_at_once(inputs, bucket, proxy):
    proxy.plan(Fault("status", status=403))
    began = time.monotonic()
    with pytest.raises(PenstockError, match=rf"{bucket.url}.*credentials need") as refused:
        prepare.run(flags(inputs, f"{bucket.url}/out"))
    assert "\n" not in str(refused.value)
    assert time.monotonic() - began < 5


def test_a_bucket_that_is_not_there(inputs, bucket):
    there = re.sub(r"penstock-\d+$", "penstock-none", bucket.url)
    began = time.monotonic()
    with pytest.raises(PenstockError, match=f"{there}.* does not exist"):
        prepare.run(flags(f"{there}/in", f"{bucket.url}/out"))
    with pytest.raises(PenstockError, match=f"{there}.* does not exist"):
        prepare.run(flags(inputs, f"{there}/out"))
    assert time.monotonic() - began < 10


@on_stores("az")
def test_a_store_that_is_not_there(emulator, bucket):
    """A process that it has never answered waits for it a short while only."""
    gone = emulator.at(f"http://127.0.0.1:{free_port()}", bucket.bucket)
    began = time.monotonic()
    code, said = finished(start("verify", f"--dataset={gone.url}/out", **gone.env))
    assert code != 0
    assert "Traceback" not in said
    assert re.search(rf"{gone.url}/out.* has not served", said), said
    assert time.monotonic() - began < 40


CREDENTIALS = re.compile(r"AWS_|AZURE_|STORAGE_EMULATOR_HOST|GOOGLE_")
JOBS = {
    prepare: "--input={url}/in/*.csv --output={url}/out",
    fit: "--input={url}/in/*.csv --output={url}/out --features={url}/features.yaml",
    verify: "--dataset={url}/out",
    replay: "--dead_letters={url}/in/*.jsonl --output={url}/out",
    profile: "--input={url}/in/*.csv --output={url}/statistics.pb",
    check: "--statistics={url}/statistics.pb --schema={url}/schema.pbtxt",
    compare: "{url}/before.pb {url}/now.pb",
    relax: "--input={url}/in/*.csv --schema={url}/schema.pbtxt --output={url}/relaxed.pbtxt",
    status: "--output={url}/out",
    history: "--dataset={url}/out",
}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
@pytest.mark.parametrize(
    "url", ["s3://penstock-none", "az://penstock-none", "azfs://penstock/none", "gs://penstock-none"]
)
def test_who_has_no_credentials_is_told_so_within_five_seconds(monkeypatch, tmp_path, url, job):
    for name in filter(CREDENTIALS.match, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(PenstockError):  # the first time imports what it needs, which takes its time on a busy machine
        job.run(JOBS[job].format(url=url).split())
    began = time.monotonic()
    with pytest.raises(PenstockError, match=rf"^{url[:2]}.*://.*(no credentials were found|names no account)") as told:
        job.run(JOBS[job].format(url=url).split())
    assert "\n" not in str(told.value)
    assert time.monotonic() - began < 5
