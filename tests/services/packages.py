"""Packages that only some tests need, in folders of their own that are made once."""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "penstock-tests"


def package_folder(
    cache: pathlib.Path, packages: Sequence[str], finish: Callable[[pathlib.Path], None] = lambda folder: None
) -> pathlib.Path:
    """Returns a folder with packages, to be named in PYTHONPATH; makes it where it is not there yet.

    Args:
      cache: where such folders are.
      packages: as `pip` takes them, without what they depend on; the first one gives the folder its name.
      finish: what else is done before the folder counts as made.
    """
    folder = cache / f"{'-'.join(packages[0].split('=='))}-{sys.implementation.cache_tag}"
    if not folder.exists():
        making = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        flags = ["--quiet", "--no-cache-dir", "--no-deps", "--target", str(making)]
        subprocess.run([sys.executable, "-m", "pip", "install", *flags, *packages], check=True)
        finish(making)
        making.rename(folder)
    return folder
