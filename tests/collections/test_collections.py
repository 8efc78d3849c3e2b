"""The collections of files that others wrote, where a folder with them is named."""

import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("collection_runs.py")


@pytest.mark.skipif(
    "PENSTOCK_COLLECTIONS" not in os.environ, reason="PENSTOCK_COLLECTIONS names no folder of collections"
)
def test_every_file_of_the_collections():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), os.environ["PENSTOCK_COLLECTIONS"]], capture_output=True, text=True, check=False
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert (done.returncode, failed) == (0, []), done.stdout + done.stderr
