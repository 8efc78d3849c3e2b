"""The kernel in Cython, on Arrow's and numpy's buffers and without the GIL; optional.

`ENABLED` chooses between the kernel and its twins in Python, once for the process (`penstock.io.kernel`).
`PENSTOCK_KERNEL=off` in the environment chooses Python even if the kernel is compiled.
"""

import importlib
import logging

from penstock.io.kernel.compiled import MODULES, is_off

_LOGGER = logging.getLogger(__name__)


def _load() -> bool:
    if is_off():
        return False
    try:
        for module in MODULES:
            importlib.import_module(f"{__name__}.{module}")
    except ImportError as error:
        _LOGGER.warning(
            "Penstock runs without its compiled kernel, several times slower, with the same results (%s); install a C "
            "compiler and then penstock again",
            error,
        )
        return False
    return True


ENABLED = _load()
