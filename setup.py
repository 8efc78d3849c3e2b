"""For Beam's ``--setup_file ./setup.py``; everything but the license and the kernel is declared in pyproject.toml.

Beam's workers build the sdist with the setuptools that they have: those before 77 refuse an SPDX license in
pyproject.toml, and those from 77 on call any other form of it deprecated.

The kernel is compiled from Cython, or where there is none from the C that the sdist carries. It is optional: without
a C compiler the package installs without it, and its Python does the same, slower.
"""

import os
import pathlib

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:
    cythonize = None

KERNEL = pathlib.Path("src/penstock/io/kernel/native")


def extensions() -> list[Extension]:
    """One optional module for each source of the kernel."""
    suffix = ".pyx" if cythonize else ".c"
    modules = [
        Extension(
            f"penstock.io.kernel.native.{source.stem}",
            [str(source)],
            include_dirs=[str(KERNEL / "headers")],
            depends=[str(header) for header in sorted(KERNEL.glob("headers/*.h"))],
            extra_compile_args=["-O3", *os.environ.get("PENSTOCK_CFLAGS", "").split()],
        )
        for source in sorted(KERNEL.glob(f"*{suffix}"))
    ]
    modules = cythonize(modules, compiler_directives={"language_level": "3"}) if cythonize else modules
    for module in modules:
        module.optional = True  # Cython does not hand it on
    return modules


setup(license="Apache-2.0", ext_modules=extensions())
