"""Virtual environments, one for each requirements file, made when they are first needed."""

import pathlib
import subprocess
import sys

CACHE = pathlib.Path(__file__).parent / ".cache"


class InstallError(Exception):
    """An environment could not be made; the message is the last part of pip's output."""


def python_of(requirements: pathlib.Path) -> str:
    """Returns the Python of an environment that has the requirements; makes one if there is none.

    Raises:
      InstallError: when it cannot be made.
    """
    folder = CACHE / "venvs" / f"{requirements.stem}-{sys.version_info.major}.{sys.version_info.minor}"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        print(f"installing {requirements.name} into {folder}, once", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])
        stamp.write_text(requirements.read_text())
    return str(python)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InstallError(" ".join(line.strip() for line in lines[-3:]))
