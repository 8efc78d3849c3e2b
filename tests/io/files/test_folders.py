import os

import pytest

from penstock.io.errors import StorageError
from penstock.io.files import folders
from penstock.io.files.folders import copy_folder, delete_files, list_files, move_files, remove_folder


@pytest.fixture
def folder(tmp_path):
    """A folder with files whose names Beam would take for patterns."""
    root = tmp_path / "a [b]"
    (root / "x" / "y").mkdir(parents=True)
    (root / "empty").mkdir()
    for name in ("1", "x/2*", "x/y/3?", "ü"):
        (root / name).write_text(name)
    return root


def test_files_are_listed_with_their_sizes(folder):
    assert list_files(str(folder)) == list_files(f"{folder}/") == {"1": 1, "x/2*": 4, "x/y/3?": 6, "ü": 2}
    assert list_files(f"{folder}/nothing") == {}
    assert list_files(f"{folder}/1") == {}


def test_folder_is_listed_relative_to_itself(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert list_files(".") == list_files("x/..") == list_files(str(folder))


def test_links_are_listed_and_not_followed(folder, tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_text("")
    (folder / "to_folder").symlink_to(tmp_path / "big")
    (folder / "to_file").symlink_to(folder / "ü")
    (folder / "to_nothing").symlink_to(folder / "gone")
    found = list_files(str(folder))
    assert {name: found.get(name) for name in ("to_folder", "to_file", "to_nothing")} == {
        "to_folder": 0,
        "to_file": 2,
        "to_nothing": 0,
    }
    assert "to_folder/file" not in found


def test_folder_that_may_not_be_read_is_an_error(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(folders.os, "scandir", refuse)
    with pytest.raises(PermissionError):
        list_files(str(folder))


def test_deleting_takes_folders_along_that_it_leaves_empty_and_no_others(folder):
    delete_files(str(folder), ["x/y/3?", "gone", "x/gone"])
    assert set(list_files(str(folder))) == {"1", "x/2*", "ü"}
    assert sorted(os.listdir(folder)) == ["1", "empty", "x", "ü"]
    assert os.listdir(folder / "x") == ["2*"]
    delete_files(str(folder), ["x/2*"])
    assert sorted(os.listdir(folder)) == ["1", "empty", "ü"]


def test_moving_makes_folders_and_replaces(folder):
    move_files({f"{folder}/1": f"{folder}/new/deep/1", f"{folder}/ü": f"{folder}/x/2*"})
    assert list_files(str(folder)) == {"new/deep/1": 1, "x/2*": 2, "x/y/3?": 6}
    move_files({})
    with pytest.raises(StorageError, match="/2: No such file or directory"):
        move_files({f"{folder}/1": f"{folder}/2"})


def test_removing_a_folder(folder):
    remove_folder(str(folder))
    assert not folder.exists()
    remove_folder(str(folder))


def test_files_are_listed_copied_and_removed_with_their_folders(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x[1]").write_bytes(b"12")
    (tmp_path / "a" / ".tmp-1").write_bytes(b"")
    copy_folder(f"{tmp_path}/a", f"{tmp_path}/copy")
    assert list_files(f"{tmp_path}/copy") == list_files(f"{tmp_path}/a/") == {"b/x[1]": 2, ".tmp-1": 0}
    remove_folder(f"{tmp_path}/copy")
    remove_folder(f"{tmp_path}/copy")
    assert list_files(f"{tmp_path}/copy") == {}
