"""The modules of the kernel in their two forms, for tests that hold one against the other."""

import importlib
from types import ModuleType

import pytest

from penstock.io.kernel import native


def pure(name: str) -> ModuleType:
    """The module in Python."""
    return importlib.import_module(f"penstock.io.kernel.pure.{name}")


def both(name: str) -> tuple[ModuleType, ModuleType]:
    """The compiled module and the one in Python; skips the module of tests where there is no kernel."""
    if not native.ENABLED:
        pytest.skip("compares the kernel with its twin", allow_module_level=True)
    return importlib.import_module(f"penstock.io.kernel.native._{name}"), pure(name)


def each(name: str) -> list[ModuleType]:
    """The modules that there are, for tests of either."""
    return list(both(name)) if native.ENABLED else [pure(name)]
