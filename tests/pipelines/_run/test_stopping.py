"""A job that fails on one worker thread while another one has much to do."""

import gzip
import time

import pytest
from helpers import job


@pytest.fixture
def inputs(tmp_path):
    """A file that is truncated, and some that take a while."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x\n" + b"".join(b"%d\n" % i for i in range(10_000)))[:-100])
    for name in "bcd":
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(b"x\n" + b"1234\n" * 3_000_000, 1))
    return f"{tmp_path}/*.csv.gz"


def test_the_other_workers_end_and_nothing_is_left(tmp_path, inputs):
    (tmp_path / "schema.pbtxt").write_text('feature { name: "x" type: INT }')
    schema = f"--schema={tmp_path}/schema.pbtxt"
    code, message = job(f"--input={inputs}", f"--output={tmp_path}/out", schema, "--direct_num_workers=2")
    assert code == 1
    assert "a.csv.gz: the gzip stream is truncated" in message
    assert not (tmp_path / "out").exists()
    time.sleep(1)
    assert not (tmp_path / "out").exists(), "a worker went on"
