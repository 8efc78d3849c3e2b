"""The kernel: the hot path's work on bytes, compiled, with a twin in Python for where it is not compiled.

`from penstock.io.kernel import csv` gives the compiled module (`native/_csv.pyx`) or its twin (`pure/csv.py`), which
has the same functions and gives the same results, slower. `penstock.io.kernel.native` chooses once for the process,
when the first module is imported. The package itself imports nothing, for commands that only check which modules are
compiled (`penstock.io.kernel.compiled`).

Twins use only numpy, Arrow, the libraries for CRC32C, XXH64 and protobuf, and `penstock.io.kernel.shared`, which both
sides and their callers share.
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
    from penstock.io.kernel.pure import json as json
    from penstock.io.kernel.pure import lines as lines
    from penstock.io.kernel.pure import runs as runs
    from penstock.io.kernel.pure import statistics as statistics

_CHOICES = frozenset(
    {"crc32c", "csv", "decode", "examples", "frames", "grammar", "hashing", "json", "lines", "runs", "statistics"}
)


def __getattr__(name: str) -> ModuleType:
    if name not in _CHOICES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    native = importlib.import_module(f"{__name__}.native")
    module = importlib.import_module(f"{__name__}.native._{name}" if native.ENABLED else f"{__name__}.pure.{name}")
    globals()[name] = module
    return module
