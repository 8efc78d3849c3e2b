"""The core installs, and makes a dataset of each format, on every Python that we name: from the wheel, from the sdist,
and without a compiler; with the locked versions, and with the oldest that pyproject.toml allows."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from builds import QUICK_BUILD, ROOT, run
from requirements.newest import RULE_TESTS

CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
SMOKE = pathlib.Path(__file__).with_name("smoke.py")
VERSIONS = ("3.11", "3.12", "3.13")
_MAX_CORE_BYTES = 500 << 20

pytestmark = pytest.mark.packaging


@functools.cache
def interpreter(version: str) -> str:
    """A Python of a version: in the PATH, or one that pyenv keeps; without one, the test is skipped."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    for candidate in (shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")):
        if candidate is not None and _version(str(candidate)) == version:
            return str(candidate)
    message = f"there is no Python {version} here"
    return pytest.fail(message) if "PENSTOCK_NO_SKIP" in os.environ else pytest.skip(message)


def _version(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def uv(*arguments: object, **variables: str) -> str:
    """What uv prints, the one that is locked, beside this Python."""
    return run(pathlib.Path(sys.executable).with_name("uv"), *arguments, **variables).stdout


@pytest.fixture
def environment(tmp_path):
    """Makes an empty virtual environment of a Python, and gives its interpreter."""

    def make(version: str) -> pathlib.Path:
        uv("venv", "--quiet", "--python", interpreter(version), tmp_path / "venv")
        return tmp_path / "venv" / "bin" / "python"

    return make


def install(python: pathlib.Path, *arguments: object, **variables: str) -> None:
    """Installs into an environment; what must be built for it is built quickly."""
    options = ("--quiet", "--python", python, "--build-constraints", CONSTRAINTS)
    uv("pip", "install", *options, *arguments, **QUICK_BUILD, **variables)


def said(python: pathlib.Path, *arguments: str, code: int = 0) -> str:
    """What the command `penstock` of an environment prints, to either stream."""
    done = run(python.with_name("penstock"), *arguments, cwd=python.parent, code=code)
    return done.stdout + done.stderr


def size(directory: pathlib.Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if not path.is_dir())


# A wheel is made of the sdist by each Python, so what is left to show of the sdist does not depend on it: without a
# compiler here, with one below.
@pytest.mark.parametrize(
    ("artifact", "version"),
    [*(("wheel", version) for version in VERSIONS), ("sdist_without_compiler", VERSIONS[-1])],
)
def test_the_core_alone_makes_a_dataset_of_each_format(artifact, version, sdist, environment, tmp_path):
    python, variables = environment(version), {}
    what = pathlib.Path(shutil.copy(sdist, tmp_path))  # from another path it is built again, and not taken from a cache
    if artifact == "wheel":
        what = build_wheel(what, python, tmp_path)
    elif artifact == "sdist_without_compiler":
        variables = {"CC": "no-such-compiler"}
    install(python, "--constraint", CONSTRAINTS, what, **variables)
    assert run(python, SMOKE).stdout.splitlines()[-1] == "good: csv, jsonl, avro, parquet, orc, tfrecord, text"
    kernel = "no" if artifact == "sdist_without_compiler" else "yes"
    versions = rf"penstock \S+ \(Apache Beam 2\S+, Arrow \S+, Python {version}\S+, kernel: {kernel}"
    assert re.match(versions, said(python, "--version"))
    assert "pip install '.[gcp]'" in said(python, "prepare", "--input=gs://b/x.csv", "--output=x", code=2)
    assert size(python.parent.parent) < _MAX_CORE_BYTES


def build_wheel(sdist: pathlib.Path, python: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The wheel of an sdist for a Python."""
    options = ("--build-constraints", CONSTRAINTS, "--python", python, "--out-dir", target / "wheel")
    uv("build", "--quiet", "--wheel", *options, sdist, **QUICK_BUILD)
    return next((target / "wheel").glob("*.whl"))


def test_the_oldest_versions_that_are_allowed_do(sdist, environment):
    """Among them the duckdb of another minor version: what is a rule there is one here."""
    python = environment(VERSIONS[0])
    install(python, "--resolution", "lowest-direct", sdist)
    assert run(python, SMOKE).stdout.splitlines()[-1].startswith("good: csv")
    assert "kernel: yes" in said(python, "--version")
    install(python, "--constraint", CONSTRAINTS, "pytest", "hypothesis")
    assert " passed" in run(python, "-m", "pytest", "-q", *RULE_TESTS, cwd=ROOT).stdout
