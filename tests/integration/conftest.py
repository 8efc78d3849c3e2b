"""The runners that integration tests start."""

import os
import pathlib
import shutil
import subprocess

import apache_beam
import pytest

PRISM = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{apache_beam.__version__}"


@pytest.fixture(scope="session")
def prism() -> str:
    """The path of a Prism that was built once."""
    if shutil.which("go") is None:
        pytest.skip("building Prism needs Go")
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "penstock-tests"
    binary = folder / f"prism-{apache_beam.__version__}"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "install", PRISM], env={**os.environ, "GOBIN": str(folder)}, check=True)
        (folder / "prism").rename(binary)
    return str(binary)
