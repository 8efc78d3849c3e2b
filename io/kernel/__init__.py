"""The kernel: what the hot path does to bytes, compiled, and the same in Python where it is not.

`from penstock.io.kernel import csv` gives the compiled module (`native/_csv.pyx`) or its twin (`pure/csv.py`), which
has the same functions and gives the same results, slower. `penstock.io.kernel.native` decides which, once for the
process, when the first of them is asked for: the package itself imports nothing, for commands that only want to know
what is there (`penstock.io.kernel.compiled`).

Twins stand on numpy, Arrow and `penstock.io.kernel.shared` alone, which holds what both sides and their callers share.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.io.kernel.pure import crc32c as crc32c
    from penstock.io.kernel.pure import csv as csv
    from penstock.io.kernel.pure import decode as decode
    from penstock.io.kernel.pure import examples as examples
    from penstock.io.kernel.pure import frames as frames
    from penstock.io.kernel.pure import grammar as grammar
    from penstock.io.kernel.pure import hashing as hashing
    from penstock.io.kernel.pure import lines as lines
    from penstock.io.kernel.pure import runs as runs

_CHOICES = frozenset({"crc32c", "csv", "decode", "examples", "frames", "grammar", "hashing", "lines", "runs"})


def __getattr__(name: str) -> ModuleType:
    if name not in _CHOICES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    native = importlib.import_module(f"{__name__}.native")
    module = importlib.import_module(f"{__name__}.native._{name}" if native.ENABLED else f"{__name__}.pure.{name}")
    globals()[name] = module
    return module
