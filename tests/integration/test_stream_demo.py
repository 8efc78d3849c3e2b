"""`make stream-demo`, shortened: on its own it starts all, accounts for each payment, and leaves nothing running."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from deploy.flink.service import children

from penstock.io.dataset.windowed.manifest import read_window_manifests

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "penstock-tests"


@pytest.fixture
def demo(tmp_path, prism, kafka_jars):
    """Starts the demo; nothing of it is left after the test."""
    started = []

    def start(*flags: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "examples.stream.demo", f"--output={tmp_path}/demo", f"--cache={CACHE}"]
        command += [f"--prism_location={prism}", *flags]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start
    for one in started:
        one.terminate()
        one.wait(60)


def test_each_payment_is_accounted_for(demo, tmp_path):
    printed, _ = (process := demo("--rate=400", "--seconds=10")).communicate(timeout=300)
    assert process.returncode == 0, printed
    (line,) = re.findall(r"([\d,]+) in = ([\d,]+) on time \+ ([\d,]+) late \+ ([\d,]+) rejected", printed)
    whole, *parts = (int(number.replace(",", "")) for number in line)
    assert whole == sum(parts) == 4_000
    on_time, _, rejected = parts  # a machine that is busy reads all before a window closes: then none is late
    assert min(on_time, rejected) > 0
    assert ": good: " in printed
    manifests = list(read_window_manifests(str(tmp_path / "demo" / "dataset")))
    counts = [(manifest.rows_on_time, manifest.rows_late, manifest.rows_rejected) for manifest in manifests]
    assert list(map(sum, zip(*counts, strict=True))) == parts
    assert sum(manifest.rows_in for manifest in manifests) == 4_000
    assert all(manifest.final for manifest in manifests)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_what_it_has_started_ends_with_it(demo, number, code):
    process = demo("--seconds=60")
    for line in process.stdout:
        if "penstock prepare" in line:
            break
    deadline = time.monotonic() + 60
    while len(started := children(process.pid)) < 2:
        assert time.monotonic() < deadline, "neither broker nor job"
        time.sleep(0.1)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == code, printed
    assert "Traceback" not in printed
    deadline = time.monotonic() + 30
    while left := running(started):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def running(groups: list[int]) -> list[str]:
    """What runs of some groups of processes; in a container nobody asks for the exit codes of orphans, which stay."""
    command = ["ps", "-A", "-ww", "-o", "pgid=,stat=,command="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in listed]
    return [" ".join(row) for row in rows if int(row[0]) in groups and not row[1].startswith("Z")]
