"""What a program that is forked has in common with one that is started."""

import json
import os
import signal
import subprocess
import sys

import forked
import pytest

_TELLS = """
import atexit, json, os, sys, threading
atexit.register(print, "at exit")
threading.Timer(0.05, print, ["from a thread"]).start()
print(json.dumps([sys.argv, os.getcwd(), os.environ["TOLD"], sys.stdin.read(), __name__, sys.path[0]]))
print("to stderr", file=sys.stderr)
class Own: pass
assert sys.modules[Own.__module__].Own is Own
sys.exit(3)
"""


@pytest.mark.parametrize("forks", [False, True])
def test_a_program_has_arguments_streams_a_folder_and_an_end(tmp_path, forks):
    arguments = ["-c", _TELLS, "a", "ü b"]
    options = {"cwd": tmp_path, "env": {**os.environ, "TOLD": "x"}, "input": "given"}
    if forks:
        done = forked.run(arguments, **options)
    else:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)
    told, *others = done.stdout.splitlines()
    assert json.loads(told) == [["-c", "a", "ü b"], str(tmp_path), "x", "given", "__main__", ""]
    assert (others, done.stderr, done.returncode) == (["from a thread", "at exit"], "to stderr\n", 3)


def test_a_module_is_run_as_a_program(tmp_path):
    (tmp_path / "told.py").write_text("import sys; print(__name__, sys.argv[1:])")
    assert forked.run(["-m", "told", "a"], cwd=tmp_path, check=True).stdout == "__main__ ['a']\n"


def test_an_error_is_that_of_the_program():
    failed = forked.run(["-c", "raise ValueError('broken')"])
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "ValueError: broken")
    with pytest.raises(subprocess.CalledProcessError):
        forked.run(["-c", "raise ValueError('broken')"], check=True)


def test_a_program_is_ended_by_signals_as_others_are():
    process = forked.Program(["-c", "import time; print('begun', flush=True); time.sleep(60)"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"begun\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(["-c", "import time; time.sleep(60)"], timeout=0.1)


def test_one_that_nobody_waits_for_any_more_is_gone():
    process = forked.Program(["-c", "pass"])
    assert process.wait(60) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_program_may_have_a_session_of_its_own():
    code = "import os; print(os.getsid(0) == os.getpid())"
    assert forked.run(["-c", code], start_new_session=True, check=True).stdout == "True\n"
    assert forked.run(["-c", code], check=True).stdout == "False\n"


@pytest.mark.skipif(sys.platform != "linux", reason="a process of its own, which knows them")
@pytest.mark.parametrize("options", [{"umask": 0}, {"pass_fds": (0,)}, {"process_group": 0}])
def test_options_that_a_fork_does_not_know_are_refused(options):
    with pytest.raises(NotImplementedError, match="use subprocess"):
        forked.Program(["-c", "pass"], **options)
