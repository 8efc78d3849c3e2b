"""Which requests a plan hits, and what kind of request each of three stores is asked."""

import collections
import dataclasses
import json
import random

import pytest
from services.fault_proxy.kinds import KINDS, kind_of
from services.fault_proxy.plan import Fault, Plan, Request

_AZURE = {"x-ms-version": "2024-11-04"}

S3 = {
    "GET /bucket?list-type=2&prefix=a": "list",
    "GET /bucket/": "list",
    "GET /bucket?location": "bucket",
    "HEAD /bucket": "bucket",
    "PUT /bucket": "bucket",
    "POST /bucket?delete": "delete",
    "GET /bucket/a/b": "get",
    "HEAD /bucket/a/b": "head",
    "PUT /bucket/a": "put",
    "DELETE /bucket/a": "delete",
    "POST /bucket/a?uploads": "start",
    "POST /bucket/a?uploads=": "start",
    "PUT /bucket/a?partNumber=1&uploadId=x": "part",
    "POST /bucket/a?uploadId=x": "complete",
    "DELETE /bucket/a?uploadId=x": "abort",
    "POST /bucket/a?select": "other",
    "GET /": "bucket",
}
AZURE = {
    "GET /account/c?restype=container&comp=list&prefix=a": "list",
    "PUT /account/c?restype=container": "bucket",
    "GET /account/c/a/b": "get",
    "HEAD /account/c/a": "head",
    "PUT /account/c/a": "put",
    "PUT /account/c/a?comp=block&blockid=AAA": "part",
    "PUT /account/c/a?comp=blocklist": "complete",
    "GET /account/c/a?comp=blocklist": "head",
    "PUT /account/c/a?comp=metadata": "other",
    "DELETE /account/c/a": "delete",
    "POST /account/c?restype=container&comp=batch": "batch",
}
GOOGLE = {
    "GET /storage/v1/b/bucket/o?prefix=a": "list",
    "GET /storage/v1/b/bucket": "bucket",
    "POST /storage/v1/b?project=p": "bucket",
    "GET /storage/v1/b/bucket/o/a%2Fb": "head",
    "GET /storage/v1/b/bucket/o/a?alt=media": "get",
    "GET /download/storage/v1/b/bucket/o/a?alt=media": "get",
    "DELETE /storage/v1/b/bucket/o/a?generation=1": "delete",
    "POST /upload/storage/v1/b/bucket/o?uploadType=multipart": "put",
    "POST /upload/storage/v1/b/bucket/o?uploadType=resumable": "start",
    "PUT /upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id=x": "part",
    "DELETE /upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id=x": "abort",
    "POST /storage/v1/b/bucket/o/a/rewriteTo/b/bucket/o/c": "copy",
    "POST /storage/v1/b/bucket/o/a/copyTo/b/bucket/o/c": "copy",
    "POST /storage/v1/b/bucket/o/a/compose": "copy",
    "PATCH /storage/v1/b/bucket/o/a": "other",
    "POST /batch/storage/v1": "batch",
}
CASES = [(line, {}, kind) for line, kind in (S3 | GOOGLE).items()]
CASES += [(line, _AZURE, kind) for line, kind in AZURE.items()]
CASES += [("PUT /bucket/a", {"x-amz-copy-source": "b"}, "copy")]
CASES += [("PUT /account/c/a", {**_AZURE, "x-ms-copy-source": "b"}, "copy")]


@pytest.mark.parametrize(("line", "headers", "kind"), CASES, ids=str)
def test_kinds_of_requests(line, headers, kind):
    assert kind_of(*line.split(" "), headers) == kind
    assert kind in KINDS


def hits(plan, requests):
    return [number for number, request in enumerate(requests) if plan.of(request)]


REQUESTS = [Request("PUT", f"/b/{number % 10}", "put" if number % 2 else "part") for number in range(40)]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("status", first=3), [0, 1, 2]),
        (Fault("status", at=(2, 5)), [1, 4]),
        (Fault("status", kinds=("put",), first=2), [1, 3]),
        (Fault("status", path="/9$"), [9, 19, 29, 39]),
        (Fault("status", methods=("GET",)), []),
        (Fault("status", rate=0), []),
        (Fault("status"), list(range(40))),
    ],
    ids=str,
)
def test_what_a_fault_hits(fault, expected):
    assert hits(Plan(1, [fault]), REQUESTS) == expected


def test_a_rate_is_kept_and_follows_from_the_seed():
    requests = [Request("GET", f"/b/{number}", "get") for number in range(4000)]
    fault = Fault("status", rate=0.05)
    found = {seed: hits(Plan(seed, [fault]), requests) for seed in range(5)}
    assert all(140 < len(each) < 260 for each in found.values())
    assert len(set(map(tuple, found.values()))) == 5
    assert hits(Plan(3, [fault]), requests) == found[3]


def test_the_order_of_requests_does_not_change_what_each_of_them_meets():
    requests = [Request("GET", f"/b/{number % 50}", "get") for number in range(400)]

    def met(order):
        plan, found = Plan(7, [Fault("status", rate=0.3)]), collections.defaultdict(list)
        for request in order:
            found[request].append(bool(plan.of(request)))
        return found

    shuffled = list(requests)
    random.Random(1).shuffle(shuffled)
    assert met(shuffled) == met(requests)


def test_the_stores_own_names_do_not_change_what_a_request_meets():
    def met(upload):
        plan = Plan(7, [Fault("status", rate=0.5)])
        return hits(plan, [Request("PUT", f"/b/k?partNumber={n}&uploadId={upload}", "part") for n in range(50)])

    assert met("abc") == met("xyz")


def test_faults_together():
    delay, slow = Fault("latency", seconds=1), Fault("slow", bytes_per_second=9)
    first, second = Fault("status"), Fault("hang")
    assert Plan(0, [first, delay, second, slow]).of(REQUESTS[0]) == [delay, slow, first]


def test_a_fault_goes_through_json():
    fault = Fault("status", kinds=("put",), at=(1, 2), retry_after=1.5)
    assert Fault.from_json(json.loads(json.dumps(dataclasses.asdict(fault)))) == fault


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"action": "explode"}, r"action must be one of latency, .*, got 'explode'"),
        ({"action": "status", "kinds": ("puts",)}, r"kinds must be of list, .*, got \['puts'\]"),
        ({"action": "status", "rate": 5}, r"rate must be in 0 to 1, got 5"),
        ({"action": "slow"}, r"slow needs bytes_per_second >= 1, got 0"),
    ],
)
def test_faults_that_cannot_be(settings, says):
    with pytest.raises(ValueError, match=says):
        Fault(**settings)
