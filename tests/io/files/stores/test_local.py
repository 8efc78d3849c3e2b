"""Files of the local disk, by the functions that serve every store."""

import pathlib

import pytest

from penstock.io.files import stores


@pytest.mark.parametrize("name", ["a", "[x]", "x?", "x*", "[", "[!x]", "ü ?[a-z]*"])
def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path, name):
    mine, other = tmp_path / name / name, tmp_path / "x!" / "x!"
    for file in (mine, other):
        stores.write_file(str(file), b"1")
    assert [entry.path for entry in stores.files_below(str(mine.parent))] == [str(mine)]
    stores.delete([str(mine), str(mine)])
    assert not mine.exists()
    assert other.exists()


def test_a_file_that_is_gone_is_no_error(tmp_path):
    there = pathlib.Path(tmp_path, "there")
    there.touch()
    stores.delete([str(tmp_path / "gone"), str(there)])
    assert not there.exists()
