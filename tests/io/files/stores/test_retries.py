"""Which requests are tried again, for how long, and what is said."""

import threading

import pytest

from penstock.io.errors import MissingFileError, StorageError
from penstock.io.files.stores import retries
from penstock.io.files.stores.retries import Refused, Requests

NEEDS = {"read": "get", "list": "ls", "write": "put", "delete": "rm"}
URL = "s3://bucket/a/b"


@pytest.fixture
def clock(monkeypatch):
    """A clock that sleeping alone moves."""
    now = [100.0]
    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture
def requests():
    return Requests("S3", NEEDS, "log in")


def failing(*kinds):
    """A request that fails so, one time after the other, and then returns 7."""
    left = list(kinds)

    def request():
        if left:
            raise Refused(left.pop(0), "503 SlowDown")
        return 7

    return request


def test_what_is_busy_is_tried_again(clock, requests, caplog):
    assert requests.run("read", URL, failing(*["busy"] * 20)) == 7
    assert 60 < clock[0] - 100 < 300
    told = [record.getMessage() for record in caplog.records]
    assert 2 <= len(told) <= 5  # one a minute
    assert told[0] == f"{URL}: S3 does not serve (503 SlowDown); tried again"


def test_patience_ends(clock, requests):
    with pytest.raises(StorageError, match=rf"^{URL}: S3 has not served for \d+ s \(503 SlowDown\); try again when"):
        requests.run("read", URL, failing(*["busy"] * 1000))
    assert 250 < clock[0] - 100 <= 300


def test_who_never_answered_is_given_up_soon(clock, requests):
    with pytest.raises(StorageError, match="S3 has not served for"):
        requests.run("read", URL, failing(*["silent"] * 1000))
    assert clock[0] - 100 <= 2
    assert requests.run("read", URL, failing()) == 7
    assert requests.run("read", URL, failing(*["silent"] * 10)) == 7


@pytest.mark.parametrize(
    ("kind", "action", "error", "message"),
    [
        ("missing", "read", MissingFileError, "no such object in S3"),
        ("missing", "copy", MissingFileError, "no such object in S3"),
        ("missing", "list", MissingFileError, "s3://bucket does not exist in S3; correct its name"),
        ("no_bucket", "read", MissingFileError, "s3://bucket does not exist in S3; correct its name"),
        ("denied", "write", StorageError, r"access denied \(403\); the credentials need put there"),
        ("denied", "copy", StorageError, r"access denied \(403\); the credentials need get and put there"),
        ("unknown", "read", StorageError, r"the credentials are not accepted \(403\); log in"),
        ("other", "delete", StorageError, "S3 refuses to delete it: 403"),
    ],
)
def test_what_cannot_pass_is_told_at_once(clock, requests, kind, action, error, message):
    def request():
        raise Refused(kind, "403")

    with pytest.raises(error, match=f"^{URL}: {message}$"):
        requests.run(action, URL, request)
    assert clock[0] == 100


def test_a_condition_that_is_not_met_is_for_the_caller(clock, requests):
    with pytest.raises(Refused, match="changed"):
        requests.run("write", URL, failing("changed"))


def test_threads_tell_one_line(requests, caplog, monkeypatch):
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.01)
    threads = [threading.Thread(target=requests.run, args=("read", URL, failing("busy"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caplog.records) == 1
