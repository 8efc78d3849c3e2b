import os
import sys

import pytest
from benchmarks.measure import adopt_orphans, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def measured(tmp_path, script, timeout=60.0):
    return run([sys.executable, "-c", script], os.environ, tmp_path / "out", tmp_path / "error", timeout)


def test_output_and_exit_code(tmp_path):
    usage = measured(tmp_path, "import sys; print('said'); sys.exit('complained')")
    assert usage.code == 1
    assert (tmp_path / "out").read_text() == "said\n"
    assert (tmp_path / "error").read_text() == "complained\n"


def test_time_of_a_child_counts(tmp_path):
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    usage = measured(tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])")
    assert usage.cpu_seconds > 0.5
    assert usage.wall_seconds > 0.5


def test_an_orphan_counts_and_is_waited_for(tmp_path):
    adopt_orphans()
    busy = "import time; time.sleep(0.5)\nwhile time.process_time() < 0.5: pass"
    usage = measured(tmp_path, f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}])")
    assert usage.cpu_seconds > 0.5


def test_a_child_that_nobody_waits_for_counts(tmp_path):
    busy = "import time\nwhile time.process_time() < 0.8: pass"
    script = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {busy!r}])
while os.path.exists(f"/proc/{{child.pid}}"):
    time.sleep(0.05)
"""
    usage = measured(tmp_path, script)
    assert usage.cpu_seconds > 0.5


def test_memory_of_children_adds_up(tmp_path):
    big = "kept = b'1' * 100_000_000; print(flush=True); input()"
    start = f"subprocess.Popen([sys.executable, '-c', {big!r}], stdin=-1, stdout=-1)"
    script = f"""
import subprocess, sys, time
children = [{start} for _ in "ab"]
for child in children:
    child.stdout.readline()
time.sleep(1)
for child in children:
    child.communicate(b"end")
"""
    assert 200e6 < measured(tmp_path, script).peak_bytes < 300e6


def test_what_takes_too_long_is_killed(tmp_path):
    usage = measured(tmp_path, "import time; time.sleep(60)", timeout=0.3)
    assert usage.code == -9
    assert usage.wall_seconds < 20
