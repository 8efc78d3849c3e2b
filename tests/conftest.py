"""Set-up of all tests."""

import contextlib
import gc
import itertools
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

SOURCES = pathlib.Path(__file__).parent.parent / "src"

# Programs that tests start find the packages too, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH")]))
# TensorFlow reads these when it is imported, by whichever test comes first.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Programs that tests start need not compile our modules anew, each of them, on machines where Python keeps no bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What ran this in the background may have it ignore signals, and so would each program that tests start and signal.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Times vary too much on a shared machine to be an examples' limit.
settings.register_profile("full", max_examples=100, deadline=None, print_blob=True)
# What decides whether a change lands is to be about the change: quickly, input is made up the same each time.
settings.register_profile("quick", settings.get_profile("full"), max_examples=20, derandomize=True)
settings.load_profile("quick")  # pytest reads --hypothesis-profile=full later than this


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What comes with all tests stays: not to look at these 800,000 objects for garbage saves a tenth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory):
    """A job removes what killed ones left in the temporary folder, and says so: those of other test processes too."""
    folder = tmp_path_factory.mktemp("tmp")
    with temporary_folder(folder):
        yield folder


@pytest.fixture(scope="session")
def empty_folders(own_temporary_folder) -> Iterator[pathlib.Path]:
    """Gives the same folder as long as nothing is left in it: thousands of them take time to make and to remove."""

    def given() -> Iterator[pathlib.Path]:
        for number in itertools.count():
            folder = own_temporary_folder / str(number)
            folder.mkdir()
            while not os.listdir(folder):
                yield folder

    return given()


@pytest.fixture(autouse=True)
def own_temporary_folder_of_the_test(empty_folders):
    """What one test kills is not found by the jobs of the next ones."""
    with temporary_folder(next(empty_folders)):
        yield


@contextlib.contextmanager
def temporary_folder(folder: pathlib.Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session", autouse=True)
def beam_of_the_tests():
    """With PENSTOCK_PLAIN_BEAM, as in `make integration`, pipelines of tests meet Beam as it is."""
    # It brings Beam, which the process that only hands out tests need not import.
    from quick_runner import quick_runner

    with contextlib.nullcontext() if os.environ.get("PENSTOCK_PLAIN_BEAM") else quick_runner():
        yield


@pytest.fixture(scope="session")
def emulator_of(tmp_path_factory) -> Iterator[Callable[[str], Any]]:
    """An object store by its scheme, which runs from when it is first asked for; a test takes a bucket of its own."""
    from services.object_stores import emulators  # needs deploy/, which few tests do

    with emulators(tmp_path_factory.mktemp("stores")) as found:
        yield found
