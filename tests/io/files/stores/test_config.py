"""How stores are found: flags, environment, the options of a pipeline; and what is said where that fails."""

import apache_beam as beam
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.stores import config
from penstock.io.files.stores.config import StoreConfig, check_no_secrets
from pipelines import verify


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch, tmp_path):
    for prefix in ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_"):
        for name, _ in config.environment(prefix):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(config, "_configured", None)
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)


def test_flags_among_others():
    arguments = ["--runner", "FlinkRunner", "--s3_endpoint_url=http://x", "--s3_region_name", "eu", "--project=p"]
    found = StoreConfig.from_arguments([*arguments, "--anonymous_stores", "--unknown=3"])
    assert found == StoreConfig(s3_endpoint_url="http://x", s3_region_name="eu", project="p", anonymous_stores=True)
    assert StoreConfig.from_arguments([]) == StoreConfig()


def test_workers_know_the_options_of_their_pipeline():
    beam.Pipeline(options=PipelineOptions(["--s3_endpoint_url=http://x"]))
    assert config.current() == StoreConfig(s3_endpoint_url="http://x")
    # As a worker gets them.
    shipped = PipelineOptions(["--s3_region_name=eu", "--anonymous_stores"]).get_all_options(
        drop_default=True, retain_unknown_options=True
    )
    beam.Pipeline(options=PipelineOptions.from_dictionary(shipped))
    assert config.current() == StoreConfig(s3_region_name="eu", anonymous_stores=True)
    config.configure(StoreConfig(s3_endpoint_url="http://y"))
    assert config.current().s3_endpoint_url == "http://y"
    config.configure(StoreConfig())
    assert config.current().s3_region_name == "eu"


@pytest.mark.parametrize(
    "flag", ["--s3_access_key_id", "--s3_secret_access_key", "--s3_session_token", "--azure_connection_string"]
)
def test_secrets_are_refused(flag):
    with pytest.raises(ConfigError, match=rf"^{flag}: others can see a command line.*in the environment") as raised:
        check_no_secrets([f"{flag}=hidden"])
    assert "hidden" not in str(raised.value)
    with pytest.raises(ConfigError, match=flag):
        verify.run(["--dataset=s3://b/x", flag, "hidden"])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://b/x", r"^s3://b: no credentials were found; set AWS_ACCESS_KEY_ID"),
        ("az://b/x", r"^az://b: names no account: set AZURE_STORAGE_ACCOUNT, or write azfs://ACCOUNT/b$"),
        ("azfs://b", r"^azfs://b: names no bucket; write it as azfs://ACCOUNT/CONTAINER/path$"),
        ("s3://", r"^s3://: names no bucket; write it as s3://BUCKET/path$"),
    ],
)
def test_who_has_no_credentials_is_told(url, message):
    with pytest.raises(ConfigError, match=message):
        stores.files_below(url)


def test_a_profile_that_is_not_there(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match=r"^s3://b: no credentials: .*nobody.*; set AWS_ACCESS_KEY_ID"):
        stores.files_below("s3://b/x")


def test_google_without_credentials(monkeypatch):
    from google.auth.exceptions import DefaultCredentialsError

    from penstock.io.files.stores import gcs

    def default(scopes):
        raise DefaultCredentialsError("none here")

    monkeypatch.setattr(gcs, "default", default)
    with pytest.raises(ConfigError, match=r"^gs://b: no credentials were found; log in \(gcloud auth"):
        stores.files_below("gs://b/x")


def test_a_package_that_is_missing_is_named(monkeypatch):
    def import_module(name):
        raise ModuleNotFoundError("obstore")

    monkeypatch.setattr(stores.importlib, "import_module", import_module)
    stores._store.cache_clear()
    with pytest.raises(ConfigError, match=r"^s3:// needs obstore: pip install '\.\[aws\]'$"):
        stores.exists("s3://b/x")
