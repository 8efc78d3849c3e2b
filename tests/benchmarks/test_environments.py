import sys

import pytest
from benchmarks import environments
from benchmarks.environments import InstallError, python_of, version_of

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("text", "version"),
    [("a==1\n", OWN), ("# python 3.11\na==1\n", "3.11"), ("# of python 3.11 and others\na==1\n", OWN)],
    ids=["own", "asked", "prose"],
)
def test_the_version_is_that_of_the_requirements(text, version):
    assert version_of(text) == version


def test_a_python_that_is_not_here_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "CACHE", tmp_path)
    (tmp_path / "old.txt").write_text("# python 3.0\na==1\n")
    with pytest.raises(InstallError, match=r"there is no python3\.0 here"):
        python_of(tmp_path / "old.txt")
