"""The core installs, and makes a dataset of each format, on every Python that we name: from the wheel, from the sdist,
and without a compiler; with the locked versions, and with the oldest that pyproject.toml allows."""

import functools
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
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


def run(*command: object, **variables: str) -> str:
    """What a command prints; its output is shown when it fails. No variable of ours leads it to the checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PENSTOCK_KERNEL")}
    done = subprocess.run(
        [str(part) for part in command], env={**kept, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def uv(*arguments: object, **variables: str) -> str:
    """Runs uv as it is locked, beside this Python."""
    return run(pathlib.Path(sys.executable).with_name("uv"), *arguments, **variables)


@pytest.fixture
def environment(tmp_path):
    """Makes an empty virtual environment of a Python, and gives its interpreter."""

    def make(version: str) -> pathlib.Path:
        uv("venv", "--quiet", "--python", interpreter(version), tmp_path / "venv")
        return tmp_path / "venv" / "bin" / "python"

    return make


def install(python: pathlib.Path, *arguments: object, **variables: str) -> None:
    """Installs into an environment; what is built is built anew, and quickly."""
    build = ("--build-constraints", CONSTRAINTS, "--refresh-package", "penstock")
    uv("pip", "install", "--quiet", "--python", python, *build, *arguments, PENSTOCK_CFLAGS="-O0", **variables)


def has_kernel(python: pathlib.Path) -> bool:
    """Whether the kernel was compiled."""
    return run(python, "-c", "from penstock.io import kernel; print(kernel.ENABLED)").strip() == "True"


def size(directory: pathlib.Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("artifact", ["wheel", "sdist", "sdist_without_compiler"])
def test_the_core_alone_makes_a_dataset_of_each_format(artifact, version, sdist, environment, tmp_path):
    python, variables, what = environment(version), {}, sdist
    if artifact == "wheel":
        what = build_wheel(sdist, python, tmp_path)
    elif artifact == "sdist_without_compiler":
        variables = {"CC": "no-such-compiler"}
    install(python, "--constraint", CONSTRAINTS, what, **variables)
    assert run(python, SMOKE).splitlines()[-1] == "good: csv, jsonl, avro, parquet, tfrecord"
    assert has_kernel(python) == (artifact != "sdist_without_compiler")
    assert size(python.parent.parent) < _MAX_CORE_BYTES


def build_wheel(sdist: pathlib.Path, python: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The wheel of an sdist for a Python."""
    options = ("--build-constraints", CONSTRAINTS, "--python", python, "--out-dir", target / "wheel")
    uv("build", "--quiet", "--wheel", *options, sdist, PENSTOCK_CFLAGS="-O0")
    return next((target / "wheel").glob("*.whl"))


def test_the_oldest_versions_that_are_allowed_do(sdist, environment):
    """Among them the duckdb of another minor version: what is a rule there is one here."""
    python = environment(VERSIONS[0])
    install(python, "--resolution", "lowest-direct", sdist)
    assert run(python, SMOKE).splitlines()[-1].startswith("good: csv")
    install(python, "--constraint", CONSTRAINTS, "pytest", "hypothesis")
    tests = [ROOT / "tests" / "transforms" / f"test_{name}.py" for name in ("predicates", "rules")]
    assert " passed" in run(python, "-m", "pytest", "-q", "--rootdir", ROOT, "-c", ROOT / "pyproject.toml", *tests)
