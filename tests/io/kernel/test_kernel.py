"""The choice between the compiled modules and their twins."""

import functools
import importlib
import inspect
import os
import subprocess
import sys

import pytest
from kernel_cases import twins

from penstock.io import kernel
from penstock.io.kernel import compiled, native

NAMES = sorted(kernel._CHOICES)
# For its own tests.
ONLY_COMPILED = {"extend_by_table"}


@pytest.mark.parametrize("name", NAMES)
def test_every_caller_gets_the_module_that_was_chosen(name):
    chosen = importlib.import_module(f"penstock.io.kernel.native._{name}") if native.ENABLED else twins.pure(name)
    assert getattr(kernel, name) is chosen
    assert getattr(kernel, name) is chosen, "the second time it is there"


def test_every_compiled_module_but_the_one_of_all_others_is_a_choice():
    assert {f"_{name}" for name in NAMES} == set(compiled.MODULES) - {"_columns"}


def public(module):
    """What callers may use of a module of the kernel, and the parameters of that; of a class its methods."""
    found = {}
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__ or name in ONLY_COMPILED:
            continue
        names = [name]
        if inspect.isclass(value):
            names = [f"{name}.{method}" for method in vars(value) if not method.startswith("_")]
        for one in names:
            function = functools.reduce(getattr, one.split("."), module)
            found[one] = list(inspect.signature(function).parameters)
    return found


@pytest.mark.skipif(not native.ENABLED, reason="compares the kernel with its twins")
@pytest.mark.parametrize("name", NAMES)
def test_both_modules_have_the_same_functions(name):
    ours, theirs = (public(module) for module in twins.both(name))
    assert ours == theirs
    assert ours


def test_there_is_nothing_else():
    with pytest.raises(AttributeError, match=r"'penstock\.io\.kernel' has no attribute 'columns'"):
        kernel.columns  # noqa: B018


def test_to_ask_for_the_kernel_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from penstock.io.kernel import compiled\n"
        "compiled.load_error()\n"
        "print([name for name in ('numpy', 'pyarrow', 'penstock.io.kernel.native') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("switch", ["on", "off"])
def test_the_environment_chooses(switch):
    code = (
        "from penstock.io.kernel import csv, native\n"
        "print(csv.__name__.removeprefix('penstock.io.kernel.'), native.ENABLED)"
    )
    environment = {**os.environ, "PENSTOCK_KERNEL": switch}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    is_compiled = switch == "on" and compiled.load_error() is None
    assert done.stdout.split() == ["native._csv" if is_compiled else "pure.csv", str(is_compiled)]
