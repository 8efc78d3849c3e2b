"""What it costs in requests to find and read inputs in a store, by way of the proxy that counts them."""

import pytest
from dealt import dealt, on_stores
from services.fault_proxy.plan import Fault

from penstock.io.files import stores
from penstock.io.files.folders import list_files, remove_folder
from penstock.io.files.inputs import find_files
from pipelines import prepare, profile, verify

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FILES = 40
COLUMNS = {
    "s3": "Bucket,Key,Size,LastModifiedDate,ETag",
    "gs": "bucket,name,size,updated,generation",
    "az": "Name,Content-Length,Last-Modified,Etag",
}


@pytest.fixture
def folder(bucket, proxy, monkeypatch):
    """The URL of a folder with small files, which this process reaches through the proxy."""
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    for number in range(FILES):
        stores.write_file(f"{bucket.url}/in/{number}.csv", b"id\n1\n")
    proxy.count_anew()
    return f"{bucket.url}/in"


@pytest.fixture
def requests(proxy):
    """Returns the requests of a run of a job, by kind."""

    def counted(run, *flags):
        proxy.count_anew()
        assert run(list(flags)) == 0
        passed = proxy.count_anew()
        assert passed.failures == []
        return dict(passed.requests)

    return counted


def test_a_pattern_is_listed_once(folder, requests):
    assert requests(profile.run, f"--input={folder}/*.csv") == {"list": 1, "get": FILES}


def test_an_inventory_is_not_listed(folder, requests, tmp_path):
    scheme = folder.partition("://")[0]
    lines = [COLUMNS[scheme]]
    for file in find_files([f"{folder}/"]).files:
        name, _, key = file.uri.partition("://")[2].partition("/")
        tag = file.version.strip('"')
        where = f"{name}/{key}" if scheme == "az" else f"{name},{key}"
        lines.append(f"{where},{file.size},2026-05-01T00:00:00Z,{tag}")
    (tmp_path / "i.csv").write_text("\n".join(lines))
    assert requests(profile.run, f"--input=@{tmp_path}/i.csv") == {"get": FILES}


@on_stores("az")
def test_names_of_a_list_are_asked_for(folder, requests):
    names = "".join(f"{number}.csv\n" for number in range(FILES))
    stores.write_file(f"{folder}/names.txt", names.encode())
    found = requests(profile.run, f"--input=@{folder}/names.txt")
    assert found["head"] <= FILES + 1
    assert found["get"] <= FILES + 4  # some of them are of the list


@on_stores("gs")
def test_a_dataset_is_listed_by_its_folders(folder, bucket, requests):
    dataset = f"{bucket.url}/dataset"
    assert prepare.run([f"--input={folder}/*.csv", f"--output={dataset}", "--num_shards=16"]) == 0
    found = requests(profile.run, f"--input=@{dataset}/manifest.json")
    assert found["list"] == 1
    assert sum(found.values()) <= 16 + 4


@dealt("job", [profile, prepare, verify], first="az", ids=lambda job: job.__name__.rpartition(".")[2])
def test_small_files_and_shards_do_not_wait_for_each_other(folder, bucket, proxy, job):
    """What takes longest is that a store answers, which it does for many at a time."""
    dataset = f"{bucket.url}/dataset"
    flags = {
        profile: [f"--input={folder}/*.csv"],
        prepare: [f"--input={folder}/*.csv", f"--output={dataset}", "--num_shards=64"],
        verify: [f"--dataset={dataset}"],
    }
    if job is verify:
        assert prepare.run(flags[prepare]) == 0
    proxy.plan(Fault("latency", seconds=0.25))
    proxy.count_anew()
    assert job.run(flags[job]) == 0
    assert proxy.passed().most_at_once > 8
    proxy.count_anew()
    remove_folder(dataset)
    assert list_files(dataset) == {}
    assert proxy.passed().total < 10 or proxy.passed().most_at_once > 8
