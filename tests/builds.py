"""Programs that build and install Penstock, away from the checkout."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = {"io": "penstock/io", "transforms": "penstock/transforms", "pipelines": "pipelines"}

# What is built in tests need not be fast: without optimization the kernel compiles in a seventh of the time.
QUICK_BUILD = {"PENSTOCK_CFLAGS": "-O0 -g0"}


def run(
    *command: object, cwd: pathlib.Path | None = None, code: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program that finds nothing of the checkout, and ends with `code`; else its output is in the error."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PENSTOCK_KERNEL")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=kept | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done
