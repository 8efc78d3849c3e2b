"""Temporary files of a process lie in one folder, wherever it is asked for, and go with it."""

import os
import pathlib
import subprocess
import tempfile

import pytest
from forked import Program

from penstock.io.files.temporary import (
    default_folder,
    process_folder,
    remove_abandoned_spill,
    remove_process_folder,
    spill_base,
    spilling_to,
    temporary_folder,
)

WAITS = """
import sys
from penstock.io.files.temporary import temporary_folder
with temporary_folder() as folder:
    open(f"{folder}/a.run", "w").write("x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    """The system's folder for temporary files."""
    remove_process_folder()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    remove_process_folder()


def spilling(base: pathlib.Path) -> Program:
    environment = {**os.environ, "TMPDIR": str(base)}
    process = Program(["-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline().startswith(bytes(base))
    return process


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name.partition("-spill-")[0] for path in folder.iterdir())


def test_all_folders_lie_in_one_and_go_with_it(base):
    with temporary_folder() as first, temporary_folder() as second:
        assert first != second
        assert {os.path.dirname(first), os.path.dirname(second)} == {process_folder()}
        assert os.path.dirname(process_folder()) == str(base)
    assert not os.path.exists(first)
    assert os.stat(process_folder()).st_mode & 0o777 == 0o700
    remove_process_folder()
    assert list(base.iterdir()) == []


def test_a_folder_that_is_gone_is_made_again():
    first = process_folder()
    os.rename(first, f"{first}-away")
    assert process_folder() != first
    with temporary_folder() as folder:
        assert os.path.isdir(folder)


def test_another_base_for_a_while(base, tmp_path):
    other = tmp_path / "new" / "disk"
    assert spill_base() is None
    with spilling_to(str(other)):
        assert spill_base() == str(other)
        with temporary_folder() as folder:
            assert folder.startswith(f"{other}/penstock-spill-")
        with spilling_to(None):
            assert spill_base() == str(other)
    with temporary_folder() as folder:
        assert os.path.dirname(os.path.dirname(folder)) == str(base)
    remove_process_folder()
    assert list(other.iterdir()) == []


def test_the_default_of_the_process_is_no_base_of_its_own(base, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    folder = process_folder()
    with default_folder(folder):
        assert os.path.dirname(tempfile.mkdtemp()) == folder == os.environ["TMPDIR"]
        assert process_folder() == folder
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == (str(base), None)


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_else(base):
    (base / "penstock-mine").mkdir()
    live, killed = spilling(base), spilling(base)
    killed.kill()
    killed.communicate()
    assert [size > 1000 for size in remove_abandoned_spill().values()] == [True]
    assert names(base) == ["penstock", "penstock-mine"]
    assert remove_abandoned_spill() == {}
    live.communicate()
    assert live.returncode == 0
    assert names(base) == ["penstock-mine"]
