"""The compiled modules of the kernel (`penstock.io.kernel`): which there are, and whether they can be loaded."""

import importlib.machinery
import importlib.util
import os
import pathlib

MODULES = ("_columns", "_crc32c", "_csv", "_decode", "_examples", "_frames", "_grammar", "_hashing", "_lines", "_runs")

FOLDER = pathlib.Path(__file__).parent / "native"


def is_off() -> bool:
    """Whether the environment chooses Python where the kernel is there (`PENSTOCK_KERNEL=off`)."""
    return os.environ.get("PENSTOCK_KERNEL", "on") == "off"


def load_error() -> ImportError | None:
    """Why the compiled modules cannot be loaded; None when they can.

    They are loaded, so that a file for another Python or machine is found out, and not run: that would import numpy.
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
