"""What is built, once for each worker of the tests."""

import pathlib
import shutil
import sys

import pytest
from apache_beam.runners.portability.stager import Stager
from builds import FOLDERS, QUICK_BUILD, ROOT, run


@pytest.fixture(scope="session")
def sdist(tmp_path_factory) -> pathlib.Path:
    """Built by Beam itself, as `--setup_file ./setup.py` has it, from a copy: building writes into the sources."""
    copy, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("sdist")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    for name in (*FOLDERS, "src", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "*.c", "*.so")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    return pathlib.Path(Stager._build_setup_package(str(copy / "setup.py"), str(target)))


@pytest.fixture(scope="session")
def wheel(sdist, tmp_path_factory) -> pathlib.Path:
    """Built from the sdist, with the setuptools that is installed here."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["-w", str(target), str(sdist)]
    done = run(*command, **QUICK_BUILD)
    assert "eprecat" not in done.stdout + done.stderr
    return next(target.glob("*.whl"))
