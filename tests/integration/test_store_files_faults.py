"""Files in stores whose requests fail in each way: all comes right, and what was done twice is done once."""

import os

import pytest
from dealt import dealt
from services.fault_proxy.plan import Fault

from penstock.io.errors import StorageError
from penstock.io.files import stores

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

SMALL, LARGE = os.urandom(200_000), os.urandom(20_000_000)

EACH_FIRST_REQUEST = [
    Fault("status", status=503, first=1),
    Fault("status", status=500, first=1),
    Fault("status", status=429, first=1, retry_after=0.1),
    Fault("reset_before", first=1),
    Fault("reset_after", first=1),
    Fault("reset_during", size=100, first=1),
    Fault("hang", seconds=0.2, first=1),
    Fault("truncate", size=50, first=1),
    Fault("reset_body", size=50, first=1),
]


@pytest.fixture
def url(bucket, monkeypatch) -> str:
    """The URL of a folder of the bucket, which this process reaches through the proxy."""
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    for name in ("small", "other"):
        stores.write_file(f"{bucket.url}/a/{name}", SMALL)
    return f"{bucket.url}/a"


def each_fault(first):
    """Each of them on one store, the stores in turn from one that is another in each test."""
    return dealt("fail", EACH_FIRST_REQUEST, first, lambda fault: f"{fault.action}-{fault.status}", indirect=True)


@pytest.fixture
def fail(request, proxy):
    """The next request fails so."""
    yield lambda: proxy.plan(request.param)
    assert proxy.passed().faults == {request.param.action: proxy.passed().faults[request.param.action]}
    assert proxy.passed().failures == []


@each_fault("s3")
def test_reading(url, fail):
    for read, right in (
        (lambda: stores.read_file(f"{url}/small"), SMALL),
        (lambda: stores.stat(f"{url}/small").size, len(SMALL)),
        (lambda: stores.exists(f"{url}/small"), True),
        (lambda: stores.exists(f"{url}/none"), False),
        (lambda: sorted(entry.path for entry in stores.files_below(url)), [f"{url}/other", f"{url}/small"]),
        (lambda: stores.read_versioned(f"{url}/small").content, SMALL),
    ):
        fail()
        assert read() == right


@each_fault("az")
def test_reading_in_the_middle(url, fail):
    with stores.open_file(f"{url}/small", len(SMALL)) as file:
        file.seek(100_000)
        fail()
        assert file.read(50_000) == SMALL[100_000:150_000]


@each_fault("gs")
def test_writing(url, fail, proxy):
    fail()
    stores.write_file(f"{url}/new", SMALL)
    fail()
    stores.move({f"{url}/new": f"{url}/moved"})
    fail()
    stores.delete([f"{url}/other", f"{url}/small", f"{url}/none"])
    proxy.plan()
    assert [entry.path for entry in stores.files_below(url)] == [f"{url}/moved"]
    assert stores.read_file(f"{url}/moved") == SMALL


@each_fault("s3")
def test_writing_in_pieces(url, fail, proxy):
    """obstore asks S3 once only to begin an upload, if it is the answer that is cut off: then there is no object."""
    fail()
    failed = ""
    try:
        stores.write_file(f"{url}/large", LARGE)
    except StorageError as error:
        failed = str(error)
    proxy.plan()
    if failed:
        assert url.startswith("s3:")
        assert failed == f"{url}/large: S3 refuses to write it: request or response body error"
        assert not stores.exists(f"{url}/large")
    else:
        assert stores.read_file(f"{url}/large") == LARGE


@each_fault("az")
def test_a_conditional_write_knows_its_own(url, fail, proxy):
    fail()
    assert stores.write_if(f"{url}/manifest", b"first", None)
    proxy.plan()
    first = stores.read_versioned(f"{url}/manifest")
    assert first.content == b"first"
    fail()
    assert not stores.write_if(f"{url}/manifest", b"of another run", None)
    fail()
    assert stores.write_if(f"{url}/manifest", b"second", first)
    proxy.plan()
    fail()
    assert not stores.write_if(f"{url}/manifest", b"third", first)
    proxy.plan()
    assert stores.read_file(f"{url}/manifest") == b"second"
