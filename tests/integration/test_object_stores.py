"""The stores that tests run on behave as those that they stand for, and planned faults look real to their clients."""

import base64
import concurrent.futures
import datetime

import pytest
from services.fault_proxy.plan import Fault

# What the clients leave open of connections that were cut is theirs.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

BODY = bytes(range(256)) * 1000
_RETRIES = 3


class ExistsError(Exception):
    """The object is there already."""


class ObstoreClient:
    """S3 and Azure, by the library that Penstock has for them."""

    def __init__(self, bucket, **settings):
        obstore = pytest.importorskip("obstore")
        self._exists = obstore.exceptions.AlreadyExistsError
        pause = {"init_backoff": datetime.timedelta(milliseconds=10), "max_backoff": datetime.timedelta(seconds=1)}
        retries = {"max_retries": _RETRIES, "backoff": {**pause, "base": 2}}
        make = obstore.store.S3Store if bucket.url.startswith("s3:") else obstore.store.AzureStore
        self._store = make(bucket.bucket, client_options={"allow_http": True}, retry_config=retries, **settings)

    def put(self, name, body, create=False):
        try:
            self._store.put(name, body, mode="create" if create else "overwrite")
        except self._exists as error:
            raise ExistsError from error

    def get(self, name):
        return self._store.get(name).bytes().to_bytes()

    def get_range(self, name, start, length):
        return self._store.get_range(name, start=start, length=length).to_bytes()

    def names(self, prefix):
        return sorted(found["path"] for found in self._store.list(prefix).collect())

    def copy(self, name, to):
        self._store.copy(name, to)

    def delete(self, *names):
        self._store.delete(list(names))


class GoogleClient:
    """Google's own library."""

    def __init__(self, bucket):
        storage = pytest.importorskip("google.cloud.storage")
        from google.auth.credentials import AnonymousCredentials

        options = {"api_endpoint": bucket.env["STORAGE_EMULATOR_HOST"]}
        client = storage.Client("penstock-tests", AnonymousCredentials(), client_options=options)
        self._bucket = client.bucket(bucket.bucket)
        self._retry = storage.retry.DEFAULT_RETRY.with_delay(0.01, 0.1).with_timeout(1)

    def put(self, name, body, create=False):
        from google.api_core.exceptions import PreconditionFailed

        condition = {"if_generation_match": 0} if create else {}
        try:
            self._bucket.blob(name).upload_from_string(body, retry=self._retry, **condition)
        except PreconditionFailed as error:
            raise ExistsError from error

    def get(self, name):
        return self._bucket.get_blob(name).download_as_bytes(retry=self._retry)

    def get_range(self, name, start, length):
        return self._bucket.blob(name).download_as_bytes(start=start, end=start + length - 1, retry=self._retry)

    def names(self, prefix):
        return sorted(blob.name for blob in self._bucket.list_blobs(prefix=prefix, retry=self._retry))

    def copy(self, name, to):
        self._bucket.copy_blob(self._bucket.blob(name), self._bucket, to, retry=self._retry)

    def delete(self, *names):
        for name in names:
            self._bucket.blob(name).delete(retry=self._retry)


def make_client(bucket, emulator):
    if bucket.url.startswith("gs:"):
        return GoogleClient(bucket)
    if bucket.url.startswith("s3:"):
        names = {"AWS_ACCESS_KEY_ID": "access_key_id", "AWS_SECRET_ACCESS_KEY": "secret_access_key"}
        settings = {name: bucket.env[variable] for variable, name in names.items()}
        region = {"region": bucket.env["AWS_REGION"], "endpoint": bucket.env["AWS_ENDPOINT_URL"]}
        return ObstoreClient(bucket, **settings, **region, virtual_hosted_style_request=False)
    account = {"account_name": emulator.account, "account_key": emulator.key}
    return ObstoreClient(bucket, **account, endpoint=f"{bucket.endpoint}/{emulator.account}")


@pytest.fixture
def client(bucket, emulator):
    return make_client(bucket, emulator)


def test_objects(client, proxy):
    for name, body in {"a/empty": b"", "a/full": BODY, "a/näme of ours": b"x", "b/other": b"y"}.items():
        client.put(name, body)
        assert client.get(name) == body
    assert client.get_range("a/full", 300, 700) == BODY[300:1000]
    assert client.names("a/") == ["a/empty", "a/full", "a/näme of ours"]
    client.copy("a/full", "b/full")
    client.delete("a/empty", "a/full")
    assert (client.names("a/"), client.names("b/")) == (["a/näme of ours"], ["b/full", "b/other"])
    assert client.get("b/full") == BODY
    passed = proxy.passed()
    assert passed.failures == []
    counts = {"put": 4, "list": 3, "copy": 1}
    assert {kind: passed.requests[kind] for kind in counts} == counts
    assert passed.requests.keys() <= {*counts, "get", "head", "delete", "batch", "bucket"}
    assert passed.bytes_in > len(BODY)


def test_a_large_object_goes_up_in_parts(client, proxy):
    body = BODY * 80
    client.put("a/large", body)
    assert client.get("a/large") == body
    assert proxy.passed().requests.get("part", 0) >= 1
    assert proxy.passed().requests.get("put", 0) == 0


def test_a_missing_object_and_a_missing_bucket(client, emulator):
    with pytest.raises(Exception, match=r"(?i)not found|404"):
        client.get_range("a/none", 0, 10)
    elsewhere = make_client(emulator.at(emulator.endpoint, "penstock-no-bucket"), emulator)
    with pytest.raises(Exception, match=r"(?i)not found|404|NoSuchBucket|does not exist"):
        elsewhere.put("a/key", b"x")


def test_only_the_first_may_create_an_object(client):
    client.put("a/key", b"first", create=True)
    with pytest.raises(ExistsError):
        client.put("a/key", b"second", create=True)
    assert client.get("a/key") == b"first"


def test_one_of_many_at_once_creates_an_object(client):
    def create(number, name):
        try:
            client.put(name, b"%d" % number, create=True)
        except ExistsError:
            return None
        return b"%d" % number

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for name in ("a/1", "a/2", "a/3", "a/4", "a/5"):
            made = [found for found in pool.map(create, range(12), [name] * 12) if found is not None]
            assert made == [client.get(name)]


def test_a_wrong_key_is_refused(azure):
    bucket = azure.new_bucket()
    wrong = {"account_name": azure.account, "account_key": base64.b64encode(b"another key").decode()}
    client = ObstoreClient(bucket, **wrong, endpoint=f"{bucket.endpoint}/{azure.account}")
    with pytest.raises(Exception, match=r"403|AuthorizationFailure"):
        client.put("a/key", b"x")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", kinds=("put",), status=503, first=2),
        Fault("status", kinds=("put",), status=429, first=2, retry_after=0),
        Fault("reset_before", kinds=("put",), first=2),
        Fault("reset_during", kinds=("put",), first=2, size=1000),
    ],
    ids=lambda fault: f"{fault.action}-{fault.status}",
)
def test_clients_try_writes_again(client, proxy, fault):
    proxy.plan(fault)
    client.put("a/key", BODY)
    assert proxy.passed().requests["put"] == 3
    assert proxy.passed().faults == {fault.action: 2}
    proxy.plan()
    assert client.get("a/key") == BODY


def test_a_new_object_may_be_there_after_an_error(client, proxy):
    """Google's client tries again, and is refused by its own object; obstore does not try again."""
    proxy.plan(Fault("reset_after", kinds=("put",), first=1))
    error, says = (ExistsError, None) if isinstance(client, GoogleClient) else (Exception, "error sending request")
    with pytest.raises(error, match=says):
        client.put("a/key", BODY, create=True)
    assert client.get("a/key") == BODY


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=503, kinds=("get",), first=2),
        Fault("reset_before", kinds=("get",), first=2),
        Fault("truncate", kinds=("get",), first=1, size=100),
        Fault("reset_body", kinds=("get",), first=1, size=100),
    ],
    ids=lambda fault: fault.action,
)
def test_clients_try_reads_again(client, proxy, fault):
    client.put("a/key", BODY)
    proxy.plan(fault)
    assert client.get("a/key") == BODY
    assert proxy.passed().faults == {fault.action: fault.first}


@pytest.mark.parametrize("action", ["truncate", "reset_body"])
def test_a_download_that_is_always_cut_off_is_no_short_object(client, proxy, action):
    client.put("a/key", BODY)
    proxy.plan(Fault(action, kinds=("get",), size=0))
    with pytest.raises(Exception, match=r"(?i)body|response|connection|incomplete|read|error"):
        client.get_range("a/key", 0, 5000)
    assert proxy.passed().faults[action] > 1


def test_a_lasting_outage_ends_with_an_error(client, proxy):
    proxy.plan(Fault("status", kinds=("list",)))
    with pytest.raises(Exception, match="503"):
        client.names("a/")
    assert proxy.passed().requests["list"] > 1
