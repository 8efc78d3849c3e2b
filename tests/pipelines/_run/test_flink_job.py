"""A job of a Flink cluster, as its REST interface shows it."""

import pytest
from flink_rest import JOB, flink_rest

from pipelines._run.flink_job import FlinkJob, reason_of, repeated_failure

_AT = "\n\tat org.apache.flink.X(X.java:1)"
DISK = f"org.x.JobException: recovery{_AT}\nCaused by: java.io.IOException: No space left{_AT}"
WORKER = (
    "java.lang.RuntimeError: Error received from SDK harness for instruction 5: Traceback (most recent call last):\n"
    "  File x, line 3, in process\npenstock.io.errors.InputError: kafka://a:1/t: gone [while running 'Read']\n"
    f"{_AT}"
)


@pytest.fixture
def cluster():
    with flink_rest() as cluster:
        yield cluster


def test_state_checkpoint_and_failures(cluster):
    job = FlinkJob(cluster.address, JOB)
    assert (job.page, job.state()) == (f"{cluster.address}/#/job/b", "RUNNING")
    assert (job.last_checkpoint(), job.failures()) == (None, [])
    cluster.answers["/jobs/b/checkpoints"] = [{"latest": {"completed": {"external_path": "s3://c/chk-7"}}}]
    cluster.answers["/jobs/b/exceptions"] = [{"exceptionHistory": {"entries": [{"stacktrace": DISK}]}}]
    assert (job.last_checkpoint(), job.failures()) == ("s3://c/chk-7", [DISK])
    nowhere = "<checkpoint-not-externally-addressable>"
    cluster.answers["/jobs/b/checkpoints"] = [{"latest": {"completed": {"external_path": nowhere}}}]
    assert job.last_checkpoint() is None


def test_a_job_that_the_cluster_does_not_know(cluster):
    with pytest.raises(OSError, match=r"404 Not Found: Not found\."):
        FlinkJob(cluster.address, "c").state()


def test_what_is_no_flink(cluster):
    cluster.answers["/jobs/b"] = [(500, "<html>")]
    with pytest.raises(OSError, match='500 Internal Server Error: "<html>"'):
        FlinkJob(cluster.address, JOB).state()


def test_cancelling_waits_for_the_end(cluster):
    cluster.answers["/jobs/b"] = [None, {"state": "CANCELLING"}, {"state": "CANCELED"}]
    FlinkJob(cluster.address, JOB).cancel()
    assert cluster.asked == [("PATCH", "/jobs/b", None)]
    cluster.answers["/jobs/b"] = [None, {"state": "RUNNING"}]
    with pytest.raises(RuntimeError, match=r"it is RUNNING after 0\.1 s"):
        FlinkJob(cluster.address, JOB).cancel(0.1)


@pytest.mark.parametrize("folder", [None, "s3://savepoints"])
def test_a_savepoint(cluster, folder):
    cluster.answers["/jobs/b/stop"] = [{"request-id": "r"}]
    cluster.answers["/jobs/b/savepoints/r"] = [
        {"status": {"id": "IN_PROGRESS"}},
        {"status": {"id": "COMPLETED"}, "operation": {"location": "s3://savepoints/1"}},
    ]
    assert FlinkJob(cluster.address, JOB).stop(folder) == "s3://savepoints/1"
    assert cluster.asked == [("POST", "/jobs/b/stop", {"targetDirectory": folder, "drain": False})]


def test_no_savepoint(cluster):
    job = FlinkJob(cluster.address, JOB)
    cluster.answers["/jobs/b/stop"] = [{"request-id": "r"}]
    cluster.answers["/jobs/b/savepoints/r"] = [{"status": {"id": "IN_PROGRESS"}}]
    with pytest.raises(RuntimeError, match=r"no savepoint after 0\.1 s"):
        job.stop(None, 0.1)
    failed = {"failure-cause": {"class": "x", "stack-trace": DISK}}
    cluster.answers["/jobs/b/savepoints/r"] = [{"status": {"id": "COMPLETED"}, "operation": failed}]
    with pytest.raises(RuntimeError, match=r"no savepoint: java\.io\.IOException: No space left$"):
        job.stop(None)
    cluster.answers["/jobs/b/stop"] = [(400, {"errors": ["Bad request.", DISK]})]
    with pytest.raises(OSError, match=r"400 Bad Request: java\.io\.IOException: No space left$"):
        job.stop(None)


@pytest.mark.parametrize(
    ("stacktrace", "reason"),
    [
        pytest.param(DISK, "java.io.IOException: No space left", id="cause"),
        pytest.param(WORKER, "kafka://a:1/t: gone", id="of a worker"),
        pytest.param(f"x.Exception: alone{_AT}", "x.Exception: alone", id="alone"),
        pytest.param("", "", id="empty"),
    ],
)
def test_the_reason_in_a_stack_trace(stacktrace, reason):
    assert reason_of(stacktrace) == reason


def test_only_failures_for_one_reason_count_together():
    assert repeated_failure([], 1) is None
    assert repeated_failure([DISK, WORKER, DISK], 3) is None
    assert repeated_failure([DISK, WORKER, DISK, DISK], 3) == "java.io.IOException: No space left"
    files = [f"java.io.IOException: {name}/x: No space left" for name in ("c0c904ec5c1f4cce", "3ebd22aea9004aa4")]
    assert repeated_failure(files, 2) == files[0], "the newest file stands for all"
