"""What needs an extra says which, before anything is read; what nobody knows is told too."""

import pickle

import apache_beam as beam
import pytest
from apache_beam.io.localfilesystem import LocalFileSystem

from penstock.io import ReadFromCsv, WatchFiles, WriteDataset, load_schema
from penstock.io.errors import ConfigError, MissingExtraError
from penstock.io.files import extras
from penstock.io.files.extras import AZURE, GCP, KAFKA, TFT, check_filesystem, check_runner
from penstock.io.files.folders import list_files
from penstock.io.files.inputs import match_files
from penstock.io.messages.avro import read_schema
from penstock.io.messages.properties import read_properties
from penstock.transforms.checks.file import load_rules
from penstock.transforms.features.apply import transformed_schema
from penstock.transforms.features.functions import load_features
from penstock.transforms.rolling.transform import load_rolling


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(extras, "_is_found", lambda _: False)


SCHEMES = {
    "gs": r"needs Google's libraries: pip install '\.\[gcp\]'",
    "s3": r"needs obstore and boto3: pip install '\.\[aws\]'",
    "az": r"needs obstore and azure-identity: pip install '\.\[azure\]'",
    "azfs": r"needs obstore and azure-identity: pip install '\.\[azure\]'",
    "hdfs": r"needs the package hdfs: pip install 'apache-beam\[hadoop\]'",
}


@pytest.mark.parametrize(("scheme", "message"), SCHEMES.items(), ids=SCHEMES)
def test_a_scheme_names_its_extra(nothing_installed, scheme, message):
    with pytest.raises(MissingExtraError, match=rf"^{scheme}://b/x: {scheme}:// {message}$"):
        check_filesystem(f"{scheme}://b/x")
    with pytest.raises(ImportError, match=rf"^--schema {scheme}://b/x: {scheme}:// {message}$"):
        check_filesystem(f"{scheme}://b/x", f"--schema {scheme}://b/x")


@pytest.mark.parametrize("path", ["x.csv", "/a/b", "", "a:b", "c:\\x", "1://x", "a b://x"])
def test_local_paths_need_nothing(nothing_installed, path):
    check_filesystem(path)


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("nope://b/x", r"known are local paths, gs://, s3://, az://, azfs://, hdfs://$"),
        ("abfss://b/x", r"did you mean az://\?"),
        ("s3a://b/x", r"did you mean s3://\?"),
        ("gcs://b/x", r"did you mean gs://\?"),
        ("hdf://b/x", r"did you mean hdfs://\?"),
        ("file:///b/x", r"name a local file by its path alone"),
        ("kafka://a:1/t", r"known are"),
    ],
)
def test_a_scheme_that_nobody_knows_is_told(uri, hint):
    with pytest.raises(ConfigError, match=rf"^{uri}: no filesystem is known for \w+://; .*{hint}"):
        check_filesystem(uri)


class _OwnFileSystem(LocalFileSystem):
    @classmethod
    def scheme(cls):
        return "own"


def test_a_filesystem_of_the_program_is_known():
    check_filesystem("own://x")


PLACES = {
    "match_files": lambda uri: match_files([uri]),
    "list_files": list_files,
    "ReadFromCsv": lambda uri: beam.Pipeline() | ReadFromCsv([uri]),
    "WatchFiles": lambda uri: WatchFiles([uri], "1s", None),
    "WriteDataset": lambda uri: beam.Pipeline() | beam.Create([]) | WriteDataset(uri),
    "load_schema": load_schema,
    "load_features": load_features,
    "load_rolling": load_rolling,
    "load_rules": load_rules,
    "read_schema": read_schema,
    "read_properties": read_properties,
    "transformed_schema": transformed_schema,
}


@pytest.mark.parametrize("place", PLACES)
def test_whoever_reads_or_writes_says_so(nothing_installed, place):
    with pytest.raises(MissingExtraError, match=r"gs://b/x: gs:// needs Google's libraries"):
        PLACES[place]("gs://b/x")
    with pytest.raises(ConfigError, match="nope://b/x: no filesystem is known for nope://"):
        PLACES[place]("nope://b/x")


def test_dataflow_needs_googles_libraries(nothing_installed):
    for name in ("DataflowRunner", "dataflowrunner", "apache_beam.runners.DataflowRunner"):
        with pytest.raises(MissingExtraError, match=rf"--runner={name} needs Google's libraries: pip install .*gcp"):
            check_runner(name)
    check_runner("FlinkRunner")


def test_a_folder_of_that_name_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "boto3_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not extras._is_found("boto3_of_mine")
    assert not extras._is_found("boto3_of_mine.client")
    assert not extras._is_found("no_such_package.inside")
    assert extras._is_found("json")


def test_messages_are_of_one_kind():
    messages = [str(extra.missing("This")) for extra in (GCP, AZURE, KAFKA, TFT)]
    assert messages == [
        "This needs Google's libraries: pip install '.[gcp]'",
        "This needs obstore and azure-identity: pip install '.[azure]'",
        "This needs confluent-kafka: pip install '.[kafka]'",
        "This needs tensorflow-transform: pip install '.[tft]'",
    ]


def test_the_error_of_a_worker_can_be_sent():
    error = pickle.loads(pickle.dumps(KAFKA.missing("Kafka")))
    assert (type(error), str(error)) == (
        MissingExtraError,
        "Kafka needs confluent-kafka: pip install '.[kafka]'",
    )


@pytest.mark.parametrize("uri", ["s3://me:secret@bucket/x", "gs://:secret@b", "hdfs://me:secret@host:9000/x"])
@pytest.mark.parametrize("what", ["", "--input "])
def test_a_password_in_a_url_is_refused_and_not_repeated(uri, what):
    with pytest.raises(ConfigError, match=r"must not hold a password.*take it out of the URL") as raised:
        check_filesystem(uri, f"{what}{uri}" if what else "")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("uri", ["hdfs://me@host:9000/x", "gs://b/a:b@c"])
def test_a_user_or_a_name_is_no_password(uri, monkeypatch):
    monkeypatch.setattr(extras.Extra, "require", lambda *_: None)
    check_filesystem(uri)
