"""The compiled modules of the kernel (`penstock.io.kernel`): their names, and whether they can be loaded."""

import importlib.machinery
import importlib.util
import os
import pathlib

MODULES = (
    "_columns",
    "_crc32c",
    "_csv",
    "_decode",
    "_examples",
    "_frames",
    "_grammar",
    "_hashing",
    "_json",
    "_lines",
    "_runs",
    "_statistics",
)

FOLDER = pathlib.Path(__file__).parent / "native"


def is_off() -> bool:
    """Returns whether the environment turns the compiled kernel off (`PENSTOCK_KERNEL=off`)."""
    return os.environ.get("PENSTOCK_KERNEL", "on") == "off"


def load_error() -> ImportError | None:
    """Returns the error of loading the compiled modules; None when they can be loaded.

    Loading them detects a file for another Python or machine. They are not run, since that would import numpy.
    """
    for name in MODULES:
        full = f"penstock.io.kernel.native.{name}"
        spec = importlib.machinery.PathFinder.find_spec(full, [str(FOLDER)])
        if spec is None or not isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
            return ImportError(f"No module named {full!r}", name=full)
        try:
            importlib.util.module_from_spec(spec)
        except ImportError as error:
            return error
    return None
