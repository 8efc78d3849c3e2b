"""Splits on a stream, on Prism: each row is in the split that the same rows have as bounded input."""

import contextlib
import datetime
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from forked import Program
from helpers import run_prepare, window_examples, write_schema_file
from mock_kafka import EPOCH, PARTITIONS, json_messages, mock_kafka

from penstock.io.dataset.windowed.manifest import read_window_manifests

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ROWS = 600
# Seconds after the first row.
ENDS = {"train": 200, "eval": 400}
GAP = 20

KINDS = {
    "time": ("--split_time={train}, {eval}, test", f"--split_gap={GAP}s"),
    "key": ("--split=6,2,2", "--split_key=user"),
}


def flags_of(kind: str) -> list[str]:
    at = {name: datetime.datetime.fromtimestamp(EPOCH / 1000 + end, datetime.UTC) for name, end in ENDS.items()}
    ends = {name: f"{name}<{moment.isoformat()}" for name, moment in at.items()}
    return [flag.format(**ends) for flag in KINDS[kind]]


def rows() -> Iterator[dict[str, Any]]:
    """Rows in disorder within each minute, and then one for each partition, whose hour closes the windows before it."""
    for number in range(ROWS):
        second = number // 60 * 60 + number * 7 % 60
        yield {"id": number, "user": f"u{number % 23}", "t": EPOCH // 1000 + second}
    for number in range(ROWS, ROWS + PARTITIONS):
        yield {"id": number, "user": "u0", "t": EPOCH // 1000 + 3600}


def split_by_id(dataset) -> dict[int, str]:
    """The split of each row in windows that have closed; a row that is there twice fails."""
    found: dict[int, str] = {}
    for manifest in read_window_manifests(str(dataset)):
        for split in manifest.splits:
            for row in window_examples(dataset, manifest, split):
                assert row["id"][0] not in found, row
                found[row["id"][0]] = split
    return {number: split for number, split in found.items() if number < ROWS}


@contextlib.contextmanager
def stream(*argv: object) -> Iterator[subprocess.Popen[bytes]]:
    """A job that goes on until the block is left, with Prism, which is its child."""
    command = ["-m", "pipelines.prepare", *argv]
    job = Program(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield job
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()


def settled(dataset) -> int:
    """Rows of published windows."""
    return sum(manifest.rows_in for manifest in read_window_manifests(str(dataset)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_stream_is_in_the_split_that_it_has_in_a_bounded_read(tmp_path, prism, kind):
    whole = "value_count { min: 1 max: 1 } presence { min_fraction: 1 }"
    schema = write_schema_file(tmp_path / "schema.pbtxt", id=f"INT {whole}", user=f"BYTES {whole}", t=f"INT {whole}")
    common = ["--schema", schema, "--window=fixed:60s", "--num_shards=1", "--event_time=t:s", *flags_of(kind)]
    bounded, streamed = tmp_path / "bounded", tmp_path / "streamed"
    with mock_kafka() as broker:
        broker.send("events", json_messages(rows()))
        where = broker.uri("events", stop="latest")
        assert run_prepare("--input", where, "--output", bounded, *common, "--max_reject_fraction=1") == 0
        expected, known = split_by_id(bounded), list(rows())[:ROWS]
        there = (
            "--runner=PrismRunner",
            f"--prism_location={prism}",
            "--allowed_lateness=2m",
            "--max_reject_fraction=1",
        )
        with stream("--input", broker.uri("events", readers=1), "--output", streamed, *common, *there) as job:
            deadline = time.monotonic() + 120
            while settled(streamed) < ROWS:
                assert job.poll() is None, "the job has ended"
                assert time.monotonic() < deadline, f"{settled(streamed)} of {ROWS} rows are in windows"
                time.sleep(0.5)
    assert split_by_id(streamed) == expected
    assert set(expected.values()) == {"train", "eval", "test"}
    if kind == "time":
        assert expected == {row["id"]: split for row in known if (split := split_at(row["t"] - EPOCH // 1000))}
    else:
        of_users = {(row["user"], expected[row["id"]]) for row in known}
        assert len(of_users) == len({user for user, _ in of_users}), "a user is in two splits"


def split_at(second: int) -> str | None:
    """By time; None in a gap."""
    split = next((name for name, end in ENDS.items() if second < end), "test")
    return None if split in ENDS and second >= ENDS[split] - GAP else split
