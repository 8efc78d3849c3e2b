"""The main job on Spark, in threads of this machine: batch only, since Beam has no Python streams there."""

import pathlib

import pytest

from penstock.io.dataset.manifest import read_manifest
from pipelines.prepare import run

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

TIPS = pathlib.Path(__file__).parents[2] / "examples" / "tips" / "tips.csv"


def test_spark_writes_the_bytes_that_fn_api_runner_writes(tmp_path, monkeypatch, spark_jar, worker_pool):
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    spark = ["--runner=SparkRunner", f"--spark_job_server_jar={spark_jar}", "--spark_master_url=local[2]"]
    _, workers = worker_pool()
    for name, flags in (("here", []), ("there", [*spark, *workers])):
        inputs = [f"--input={TIPS}", "--split=train=0.8,eval=0.2", "--num_shards=2"]
        assert run([*inputs, f"--output={tmp_path}/{name}", *flags]) == 0
    here, there = (read_manifest(f"{tmp_path}/{name}") for name in ("here", "there"))
    assert here.rows_out > 0
    assert (there.dataset_id, there.shards) == (here.dataset_id, here.shards)
