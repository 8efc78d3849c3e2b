"""Virtual environments, one for each requirements file, made when they are first needed."""

import pathlib
import re
import shutil
import subprocess
import sys

CACHE = pathlib.Path(__file__).parent / ".cache"

# A comment that asks for another Python than the benchmark's.
_PYTHON = re.compile(r"^# python (3\.\d+)$", re.MULTILINE)


class InstallError(Exception):
    """An environment could not be made; the message is the last part of pip's output."""


def python_of(requirements: pathlib.Path) -> str:
    """Returns the Python of an environment that has the requirements; makes one if there is none.

    It is of the version that runs the benchmark, or of the one that a line `# python 3.11` asks for.

    Raises:
      InstallError: when it cannot be made.
    """
    wanted = version_of(requirements.read_text())
    folder = CACHE / "venvs" / f"{requirements.stem}-{wanted}"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        print(f"installing {requirements.name} into {folder}, once", file=sys.stderr, flush=True)
        _run([_interpreter(wanted), "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])
        stamp.write_text(requirements.read_text())
    return str(python)


def version_of(requirements: str) -> str:
    """Returns the version of Python that requirements are for, as in 3.11."""
    asked = _PYTHON.search(requirements)
    return asked.group(1) if asked else _own_version()


def _own_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _interpreter(version: str) -> str:
    if version == _own_version():
        return sys.executable
    if found := shutil.which(f"python{version}"):
        return found
    raise InstallError(f"there is no python{version} here, and it runs on no other")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InstallError(" ".join(line.strip() for line in lines[-3:]))
