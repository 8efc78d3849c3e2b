"""How TensorFlow is imported: late, quietly, and with a message that says what to install."""

import importlib.util
import os
import subprocess
import sys

import pytest

from penstock.transforms._tensorflow import check_tensorflow, import_tensorflow


def _stderr_of(code: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_starts_without_a_word():
    pytest.importorskip("tensorflow_transform")
    code = (
        "import sys; from penstock.transforms._tensorflow import import_tensorflow\n"
        "tensorflow = import_tensorflow()\n"
        "tensorflow.tf.constant(1) + 1\n"
        "assert import_tensorflow() == tensorflow\n"
        "print('stderr works', file=sys.stderr)"
    )
    assert _stderr_of(code) == (0, "stderr works\n")


def test_what_was_printed_is_shown_if_it_cannot_be_imported():
    code = (
        "import os, sys; from penstock.transforms import _tensorflow\n"
        "try:\n"
        "    with _tensorflow._quiet_start():\n"
        "        os.write(2, b'libx.so: undefined symbol\\n')\n"
        "        raise ImportError('broken')\n"
        "except ImportError as error: print(error, file=sys.stderr)"
    )
    assert _stderr_of(code) == (0, "libx.so: undefined symbol\nbroken\n")


def test_threads_that_start_it_at_once_leave_stderr_as_it_was():
    code = (
        "import os, sys, threading, time; from penstock.transforms import _tensorflow\n"
        "def start(seconds):\n"
        "    time.sleep(seconds)\n"
        "    with _tensorflow._quiet_start():\n"
        "        os.write(2, b'noise\\n'); time.sleep(0.2)\n"
        "threads = [threading.Thread(target=start, args=[number / 10]) for number in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "os.write(2, b'the end\\n')"
    )
    assert _stderr_of(code) == (0, "the end\n")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs tensorflow-transform: pip install 'penstock\[tft\]'"):
        check_tensorflow()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"needs tensorflow-transform: pip install 'penstock\[tft\]'"):
        import_tensorflow()


def test_a_broken_dependency_of_it_is_not_taken_for_a_missing_extra(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import no_such_module_of_tensorflow\n")
    code = (
        "from penstock.transforms._tensorflow import import_tensorflow\n"
        "try: import_tensorflow()\n"
        "except ModuleNotFoundError as error: print(error.name)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "no_such_module_of_tensorflow\n"
