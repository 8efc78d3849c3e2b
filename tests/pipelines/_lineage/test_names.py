"""Names of datasets, as other tools have them."""

import pytest

from pipelines._lineage.names import DatasetName, Read, dataset_name, datasets_read


def file(uri, size=10):
    return {"uri": uri, "size": size}


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("/data/../data/x.csv", "file", "/data/x.csv"),
        ("gs://bucket/a/b/", "gs://bucket", "a/b"),
        ("s3://bucket", "s3://bucket", "/"),
        ("hdfs://node:8020/in/x", "hdfs://node:8020", "in/x"),
        ("kafka://[::1]:9092/events?start=latest", "kafka://[::1]:9092", "events"),
    ],
)
def test_a_dataset_is_named_by_its_scheme(uri, namespace, name):
    assert dataset_name(uri) == DatasetName(namespace, name)


def test_a_relative_path_is_named_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dataset_name("in/x.csv") == DatasetName("file", f"{tmp_path}/in/x.csv")


def test_a_container_of_azure_has_the_account_of_the_environment(monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert dataset_name("az://container/x") == DatasetName("az://container", "x")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    assert dataset_name("az://container/x") == DatasetName("abfss://container@me.dfs.core.windows.net", "x")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["/in/a/*.csv"], ["/in/a"]),
        (["/in"], ["/in"]),
        (["/in/a/1.csv", "/in/a/2.csv"], ["/in/a/1.csv", "/in/a/2.csv"]),
        (["@files.txt"], ["/in/a"]),
        (["/in/a/1.csv", "/in/**"], ["/in/a/1.csv", "/in"]),
    ],
    ids=["pattern", "folder", "files", "list", "both"],
)
def test_inputs_are_the_datasets_that_the_command_line_names(given, names):
    found = datasets_read([file("/in/a/1.csv"), file("/in/a/2.csv", 5)], given)
    assert [name.name for name in found] == names
    assert sum(read.files for read in found.values()) == 2
    assert sum(read.bytes for read in found.values()) == 15


def test_the_pattern_of_a_stream_is_the_folder_that_it_spells():
    assert datasets_read([{"uri": "/in/*/x.csv"}], ["/in/*/x.csv"]) == {DatasetName("file", "/in"): Read(None, None)}


def test_a_folder_is_not_the_one_whose_name_begins_so():
    assert {*datasets_read([file("/in2/x.csv")], ["/in"])} == {DatasetName("file", "/in2")}


def test_the_partitions_of_a_topic_are_one_dataset():
    inputs = [{"uri": f"kafka://a:1,b:2/events/{number}", "start": 0, "stop": None} for number in range(3)]
    assert datasets_read(inputs, ["kafka://a:1,b:2/events"]) == {DatasetName("kafka://a:1", "events"): Read(None, None)}
