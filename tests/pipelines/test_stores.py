"""Every job from and to object stores, beside the same on this machine; the main one on each store."""

import json
import pathlib
import re
from dataclasses import replace

import pytest
from dealt import on_stores
from store_fixtures import bucket, emulator  # noqa: F401

from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from pipelines import check, fit, prepare, profile, replay, status, verify

FEATURES = """
features:
  scaled:
    input: score
    ops: [scale_to_z_score]
  term:
    input: name
    ops: [{compute_and_apply_vocabulary: {top_k: 5}}]
"""

SCHEMA = """
feature { name: "id" type: INT presence { min_fraction: 1 } shape {} }
feature { name: "name" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "score" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "day" type: INT presence { min_fraction: 1 } shape {} }
"""


# Files whose names each run chooses.
NAMED_ANEW = re.compile("dead_letters/|_history/")


def fill(root):
    for day in range(2):
        lines = "".join(f"{i + 400 * day},näme {i % 7},{i / 2}\n" for i in range(400))
        stores.write_file(f"{root}/in/day={day}/data.csv", f"id,name,score\n{lines}x\n".encode())
    stores.write_file(f"{root}/schema.pbtxt", SCHEMA.encode())
    stores.write_file(f"{root}/features.yaml", FEATURES.encode())


def args(root, output="out"):
    return [f"--input={root}/in/**/*.csv", f"--output={root}/{output}", "--split=train=0.8,eval=0.2", "--num_shards=2"]


@pytest.fixture
def local(tmp_path):
    fill(str(tmp_path))
    return str(tmp_path)


@pytest.fixture
def store(bucket):  # noqa: F811
    fill(f"{bucket}/däta")
    return f"{bucket}/däta"


def published(root):
    """The files of a dataset by name; those of the history are named by the time of the run."""
    return sorted(
        re.sub(r"L0-\d+-\w+", "L0", name) if name.startswith("_history/") else name
        for name in list_files(root)
        if ".tmp-" not in name
    )


def test_a_dataset_is_the_same_as_on_a_disk(local, store):
    for root in (local, store):
        assert prepare.run(args(root)) == 0
        assert verify.run([f"--dataset={root}/out"]) == 0
    here, there = read_manifest(f"{local}/out"), read_manifest(f"{store}/out")
    run = f"run-{there.run_id}/"
    assert there.dataset_id == here.dataset_id
    assert [replace(shard, path=shard.path.removeprefix(run)) for shard in there.shards] == list(here.shards)
    names = {name.removeprefix(run) for name in list_files(f"{store}/out")}
    assert {name for name in names if not NAMED_ANEW.match(name)} == {
        name for name in published(f"{local}/out") if not NAMED_ANEW.match(name)
    }
    assert {run + name for name in names if name.startswith("dead_letters/")} == {f.path for f in there.dead_letters}
    for shard in here.shards:
        assert stores.read_file(f"{store}/out/{run}{shard.path}") == pathlib.Path(local, "out", shard.path).read_bytes()
    with pytest.raises(ConfigError, match=rf"--output {store}/out: is not empty"):
        prepare.run(args(store))
    # The same again, with other options.
    assert prepare.run([*args(store), "--overwrite", "--seed=1"]) == 0
    assert read_manifest(f"{store}/out").dataset_id != here.dataset_id
    assert verify.run([f"--dataset={store}/out"]) == 0
    assert status.run([f"--output={store}/out"]) == 0
    new = read_manifest(f"{store}/out")
    assert not [name for name in list_files(f"{store}/out") if run in name]
    assert {name.split("/")[0] for name in list_files(f"{store}/out")} == {
        "manifest.json", "README.md", "_history", f"run-{new.run_id}",
    }  # fmt: skip


@on_stores("s3")
def test_what_is_damaged_is_found(store, capsys):
    assert prepare.run(args(store)) == 0
    shard = read_manifest(f"{store}/out").shards[0].path
    stores.write_file(f"{store}/out/{shard}", stores.read_file(f"{store}/out/{shard}")[:-9])
    stores.write_file(f"{store}/out/notes", b"")
    assert verify.run([f"--dataset={store}/out", "--json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {fault["code"] for fault in found["faults"]} == {"shard.bytes", "shard.broken", "file.orphan"}


@on_stores("az")
def test_features_are_fitted_and_applied(local, store):
    for root in (local, store):
        common = [f"--input={root}/in/**/*.csv", f"--schema={root}/schema.pbtxt", "--split=train=0.8,eval=0.2"]
        assert fit.run([*common, f"--features={root}/features.yaml", f"--output={root}/graph"]) == 0
        transform = f"--transform={root}/graph"
        assert prepare.run([*common, transform, f"--output={root}/out", "--num_shards=2"]) == 0
        assert verify.run([f"--dataset={root}/out"]) == 0
    here, there = read_manifest(f"{local}/out"), read_manifest(f"{store}/out")
    assert there.dataset_id == here.dataset_id
    names = set(list_files(f"{store}/graph"))
    assert names == set(list_files(f"{local}/graph"))
    assert {"features.json", "metadata/schema.pbtxt"} <= names
    # Fitted and applied at once.
    features = [f"--features={store}/features.yaml", f"--output={store}/both", "--num_shards=2"]
    common = [f"--input={store}/in/**/*.csv", f"--schema={store}/schema.pbtxt", "--split=train=0.8,eval=0.2"]
    assert prepare.run([*common, *features]) == 0
    assert read_manifest(f"{store}/both").dataset_id == here.dataset_id
    assert not [name for name in list_files(store) if ".tmp-" in name]


@on_stores("gs")
def test_rejected_rows_are_replayed(local, store):
    narrow = SCHEMA.replace('"name" type: BYTES', '"name" type: INT')
    for root in (local, store):
        stores.write_file(f"{root}/narrow.pbtxt", narrow.encode())
        assert prepare.run([*args(root), f"--schema={root}/narrow.pbtxt", "--max_reject_fraction=1"]) == 0
        letters = f"--dead_letters={root}/out/**/dead_letters/*.jsonl"
        mended = [f"--schema={root}/schema.pbtxt", f"--output={root}/mended", "--num_shards=2"]
        assert replay.run([letters, *mended, "--max_reject_fraction=1"]) == 0
        assert verify.run([f"--dataset={root}/mended"]) == 0
    here, there = read_manifest(f"{local}/mended"), read_manifest(f"{store}/mended")
    assert (there.dataset_id, there.rows_out) == (here.dataset_id, 800)


@on_stores("az")
def test_statistics_are_written_and_checked(local, store):
    for root in (local, store):
        out = [f"--output={root}/statistics.pb", f"--report={root}/report.html"]
        assert profile.run([f"--input={root}/in/**/*.csv", *out]) == 0
        schema = f"--schema={root}/schema.pbtxt"
        assert check.run([f"--statistics={root}/statistics.pb", schema, f"--anomalies_output={root}/anomalies.pb"]) in (
            0,
            1,
        )
    assert stores.read_file(f"{store}/statistics.pb") == stores.read_file(f"{local}/statistics.pb")
    assert b"<html" in stores.read_file(f"{store}/report.html")


@on_stores("s3", "gs")
def test_windows_are_the_same_as_on_a_disk(local, store):
    ids = []
    for root in (local, store):
        lines = "".join(f"{i},{1_700_000_040 + i}\n" for i in range(200))
        stores.write_file(f"{root}/times.csv", f"id,time\n{lines}".encode())
        out = f"--output={root}/windows"
        flags = [
            f"--input={root}/times.csv",
            "--event_time=time:s",
            "--window=fixed:60s",
            "--num_shards=2",
            out,
            "--index",
        ]
        assert prepare.run(flags) == 0
        assert verify.run([f"--dataset={root}/windows"]) == 0
        assert prepare.run([*flags, "--overwrite"]) == 0
        windows = list(read_window_manifests(f"{root}/windows"))
        assert sum(window.rows_out for window in windows) == 200
        shards = [shard.placed(lambda _: "") for window in windows for shard in window.shards]
        ids.append(([(window.name, window.dataset_id) for window in windows], shards))
    assert ids[0] == ids[1]
    # Of the two runs into the store, the second one is all there is, and has said so.
    (run,) = {shard.path.split("/")[0] for window in windows for shard in window.shards}
    assert run.startswith("run-")
    tops = {name.split("/")[0] for name in list_files(f"{store}/windows")}
    assert tops == {"windows", "README.md", "_history", run, ".tmp-lock-dataset"}
    named = {name for window in windows for name in window.files()}
    assert {name for name in list_files(f"{store}/windows") if name.startswith("run-")} == named
