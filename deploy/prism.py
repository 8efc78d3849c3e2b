"""Prism, Beam's runner of streams on one machine, built with Go where it cannot be fetched."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable

_MODULE = "github.com/apache/beam/sdks/v2/go/cmd/prism"


def prism_binary(folder: pathlib.Path, says: Callable[[str], None] = lambda line: None) -> pathlib.Path:
    """The program of the version of Beam that is installed, in a folder; built there once: about two minutes, 66 MB.

    `says` gets a line for the user before that.

    Raises:
      RuntimeError: when Go is missing, or fails.
    """
    version = importlib.metadata.version("apache-beam")
    binary = folder.resolve() / f"prism-{version}"
    if binary.exists():
        return binary
    if shutil.which("go") is None:
        raise RuntimeError("Prism is built with Go: install Go so that go is in the PATH")
    says(f"Building Prism {version}, once: takes about two minutes ...")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as build:
        command = ["go", "install", f"{_MODULE}@v{version}"]
        environment = {**os.environ, "GOBIN": str(pathlib.Path(build).resolve())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        pathlib.Path(build, "prism").rename(binary)
    return binary
