"""How TensorFlow is imported: late, quietly, and with a message that says what to install."""

import importlib.util
import os
import subprocess
import sys
import threading
import time

import pytest

from penstock.transforms.features.apply import check_transform
from penstock.transforms.features.tensorflow import _quiet_start, check_tensorflow, import_tensorflow

NEEDED = r"^feature transformation needs tensorflow-transform: pip install '.\[tft\]'$"


@pytest.mark.slow
def test_starts_without_a_word_and_beside_our_own_examples():
    pytest.importorskip("tensorflow_transform")
    code = """
import sys
from penstock.io.kernel.pure.decode import _message_class
from penstock.transforms.features.tensorflow import import_tensorflow
def read_ours():
    assert _message_class(False).FromString(b"\\n\\x05\\n\\x03\\n\\x01n").features.feature[0].key == "n"
read_ours()
tensorflow = import_tensorflow()
tensorflow.tf.train.Example.FromString(b"")
read_ours()
tensorflow.tf.constant(1) + 1
print(tensorflow.tf.function(lambda x: x + 1)(tensorflow.tf.ones([1])).numpy())
assert import_tensorflow() == tensorflow
print("stderr works", file=sys.stderr)
"""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}  # and nothing that sets its log level
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2.]\n", "stderr works\n")


@pytest.fixture
def not_yet_started(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow_transform.beam", raising=False)


def test_what_was_printed_is_shown_if_it_cannot_be_imported(not_yet_started, capfd):
    @_quiet_start()
    def broken():
        os.write(2, b"libx.so: undefined symbol\n")
        assert capfd.readouterr().err == ""
        raise ImportError("broken")

    with pytest.raises(ImportError, match="broken"):
        broken()
    assert capfd.readouterr().err == "libx.so: undefined symbol\n"


def test_threads_that_start_it_at_once_leave_stderr_as_it_was(not_yet_started, capfd):
    def start(seconds):
        time.sleep(seconds)
        with _quiet_start():
            os.write(2, b"noise\n")
            time.sleep(0.04)

    threads = [threading.Thread(target=start, args=[number / 50]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"the end\n")
    assert capfd.readouterr().err == "the end\n"


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_transform", None)
    (tmp_path / "transformed_metadata").mkdir()
    (tmp_path / "transformed_metadata" / "schema.pbtxt").touch()
    for needs_it in (import_tensorflow, lambda: check_transform(str(tmp_path))):
        with pytest.raises(ImportError, match=NEEDED):
            needs_it()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=NEEDED):
        import_tensorflow()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=NEEDED):
        check_tensorflow()


def test_a_broken_dependency_of_it_is_not_taken_for_a_missing_extra(tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text("import no_such_module_of_tensorflow\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_tensorflow") as error:
        import_tensorflow()
    assert error.value.name == "no_such_module_of_tensorflow"
