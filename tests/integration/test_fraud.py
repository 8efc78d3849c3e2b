"""The fraud example: from a topic on Flink and from a file, with equal features; and a model that profits from them."""

import contextlib
import pathlib
import subprocess
import sys
import time

import forked
import pytest

from penstock.io.dataset.windowed.manifest import read_window_manifests

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).parents[2]
ROWS = 20_000
FLAGS = ["--config=examples/fraud/job.yaml", "--window=fixed:2h"]


def run(*command: object) -> str:
    """What a program of the example prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def generate(output: object) -> None:
    run("examples/fraud/generate.py", f"--output={output}", f"--rows={ROWS}", "--cards=400")


def stream_to(output: pathlib.Path, uri: str, cluster, rows: int) -> None:
    """Prepares a stream until all rows are in windows that are final."""
    flags = ["--idle_timeout=5s", "--parallelism=2", "--checkpointing_interval=2000", *cluster.flags()]
    command = ["-m", "pipelines.prepare", *FLAGS, f"--input={uri}", f"--output={output}", *flags]
    known = {job["jid"] for job in cluster.rest.jobs()}
    with (output.parent / "prepare.log").open("wb") as log:
        process = forked.Program(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 900
        while sum(manifest.rows_out for manifest in read_window_manifests(str(output)) if manifest.final) < rows:
            assert process.poll() is None, (output.parent / "prepare.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (output.parent / "prepare.log").read_text()[-3000:]
            time.sleep(1)
    finally:
        for job in {job["jid"] for job in cluster.rest.jobs()} - known:
            with contextlib.suppress(OSError):
                cluster.rest.cancel(job)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> pathlib.Path:
    """The dataset of a file of them, which lies beside it."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("fraud")
    generate(folder / "cards.jsonl")
    prepare = ["-m", "pipelines.prepare", *FLAGS, f"--input={folder}/cards.jsonl", f"--output={folder}/batch"]
    forked.run(prepare, cwd=ROOT, check=True)
    return folder / "batch"


def test_a_stream_on_flink_and_its_file_give_equal_features(tmp_path, batch, kafka, flink_cluster):
    generate(f"kafka://{kafka.address}/fraud")
    rows = len((batch.parent / "cards.jsonl").read_text().splitlines())
    stream_to(tmp_path / "stream", f"kafka://{kafka.address}/fraud", flink_cluster, rows)
    printed = run("examples/fraud/compare.py", tmp_path / "stream", batch)
    assert f"{rows:,} are equal to the last bit" in printed
    assert "12 of 12 windows are equal" in printed


def test_the_model_is_better_for_the_rolling_features(batch):
    lines = run("examples/fraud/train.py", "--dataset", batch).splitlines()
    alone, rolling = (float(line.split()[-1]) for line in lines[-2:])
    assert rolling > alone + 0.3
