"""Folders of processes that were killed are told from those of processes that run."""

import errno
import os
import pathlib
import subprocess

import pytest
from forked import Program

from penstock.io.files import owned
from penstock.io.files.owned import is_abandoned, owning, remove_abandoned

OWNS = """
import sys
from penstock.io.files.owned import owning
with owning(sys.argv[1]):
    print("owns", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    """A process that owns a folder with a file in it."""
    folder = tmp_path / "folder"
    process = Program(["-c", OWNS, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"owns\n"
    (folder / "inner").mkdir()
    (folder / "inner" / "a.run").write_bytes(b"12345")
    yield process
    process.kill()
    process.communicate()


def abandoned(folder: pathlib.Path) -> pathlib.Path:
    """A folder as a killed process leaves it."""
    with owning(str(folder)):
        content = (folder / "owner.lock").read_bytes()
    (folder / "owner.lock").write_bytes(content)
    return folder


def test_a_folder_is_abandoned_when_its_owner_was_killed(owner, tmp_path):
    folder = str(tmp_path / "folder")
    assert not is_abandoned(folder)
    assert remove_abandoned([folder]) == {}
    owner.kill()
    owner.wait()
    assert is_abandoned(folder)
    lock = os.path.getsize(os.path.join(folder, "owner.lock"))
    assert remove_abandoned([folder]) == {folder: 5 + lock}
    assert not os.path.exists(folder)


def test_an_owner_that_ends_takes_its_mark_along(owner, tmp_path):
    owner.communicate()
    assert not is_abandoned(str(tmp_path / "folder"))
    assert (tmp_path / "folder" / "inner" / "a.run").exists()


def test_two_processes_cannot_own_one_folder(owner, tmp_path):
    with pytest.raises(BlockingIOError), owning(str(tmp_path / "folder")):
        pass
    assert owner.poll() is None


@pytest.mark.parametrize("content", [b"", b"another\nboot\n", b"\n\n", b"\xff"])
def test_what_another_machine_owns_or_nobody_yet_is_left_alone(tmp_path, content):
    folder = abandoned(tmp_path / "folder")
    (folder / "owner.lock").write_bytes(content)
    assert not is_abandoned(str(folder))


@pytest.mark.parametrize("part", [0, 1], ids=["the host", "the kernel"])
def test_one_machine_has_several_names(tmp_path, part):
    folder = abandoned(tmp_path / "folder")
    names = (folder / "owner.lock").read_text().split("\n")
    if not names[part]:
        pytest.skip("this system has no number of its start")
    names[1 - part] = "other"
    (folder / "owner.lock").write_text("\n".join(names))
    assert is_abandoned(str(folder))


def test_what_is_no_folder_of_ours_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "plain").mkdir()
    real = abandoned(tmp_path / "real")
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "linked lock").mkdir()
    (tmp_path / "linked lock" / "owner.lock").symlink_to(real / "owner.lock")
    names = [str(tmp_path / name) for name in ("file", "plain", "link", "linked lock", "none")]
    assert remove_abandoned(names) == {}
    monkeypatch.setattr(owned.os, "geteuid", lambda: os.getuid() + 1)
    assert remove_abandoned([str(real)]) == {}
    assert real.exists()


def test_links_in_a_folder_are_removed_and_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("x")
    folder = abandoned(tmp_path / "folder")
    (folder / "link").symlink_to(tmp_path / "mine")
    assert list(remove_abandoned([str(folder)])) == [str(folder)]
    assert (tmp_path / "mine" / "kept").read_text() == "x"


def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/x/owner\.lock'"), owning(f"{tmp_path}/x"):
        pass
