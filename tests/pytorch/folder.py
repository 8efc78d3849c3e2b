"""PyTorch for tests, in a folder of its own that is made once: without the libraries of a GPU.

The wheel for Linux is built for CUDA, and loads libraries of 3 GB more, of which it calls nothing without a GPU.
So only PyTorch itself is installed (1.3 GB, two minutes), and a library of stubs stands in for them, which a C compiler
makes out of the names that PyTorch asks for. Each of its functions returns 100, `cudaErrorNoDevice`.
"""

import collections
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

from services.packages import package_folder

# Beside what the tests have: PyTorch, what its import needs, and the loader whose state it does not have itself.
PACKAGES = (
    "torch==2.15.0",
    "sympy==1.14.0",
    "mpmath==1.3.0",
    "networkx==3.6.1",
    "filelock==3.20.0",
    "torchdata==0.11.0",
)

_NO_DEVICE = 100
_OF_A_GPU = re.compile(r"lib(cu|nccl|nv)")
_FUNCTION_OF_A_GPU = re.compile(r"cu|CU|nccl|nv|__cuda|__nv")


def pytorch_folder(cache: pathlib.Path) -> pathlib.Path:
    """Returns the folder, to be named in PYTHONPATH; makes it where it is not there yet."""
    return package_folder(cache, PACKAGES, lambda folder: _stub(folder / "torch" / "lib"))


def _stub(libraries: pathlib.Path) -> None:
    """Makes one library with all that is missing, under each name by which it is asked for; elsewhere nothing is."""
    if sys.platform != "linux":
        return
    needed: set[str] = set()
    defined: set[str] = set()
    missing: dict[str, tuple[str, str]] = {}
    for library in libraries.glob("*.so*"):
        needed.update(re.findall(r"\(NEEDED\).*\[(.*)\]", _readelf("-d", library)))
        for name, version, kind, is_defined in _symbols(library):
            if is_defined:
                defined.add(name)
            elif _FUNCTION_OF_A_GPU.match(name):
                missing[name] = (kind, version)
    stubs = {name: found for name, found in missing.items() if name not in defined}
    versions = collections.defaultdict(list)
    for name, (_, version) in stubs.items():
        versions[version].append(name)
    source, script = libraries / "stubs.c", libraries / "stubs.map"
    source.write_text("\n".join(_stub_of(name, kind) for name, (kind, _) in stubs.items()))
    script.write_text("".join(f"{key} {{ global: {'; '.join(names)}; }};\n" for key, names in versions.items() if key))
    command = ["cc", "-w", "-shared", "-fPIC", f"-Wl,--version-script={script}", "-o", libraries / "stubs.so", source]
    subprocess.run(command, check=True)
    for name in needed:
        if _OF_A_GPU.match(name) and not (libraries / name).exists():
            (libraries / name).symlink_to("stubs.so")


def _stub_of(name: str, kind: str) -> str:
    return f"char {name}[4096];" if kind == "OBJECT" else f"int {name}(void) {{ return {_NO_DEVICE}; }}"


def _symbols(library: pathlib.Path) -> Iterator[tuple[str, str, str, bool]]:
    """Name, version, kind, and whether it is defined there, of each symbol that is shared."""
    for line in _readelf("--dyn-syms", library).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[0][:-1].isdigit():
            name, _, version = fields[7].partition("@")
            yield name, version.lstrip("@"), fields[3], fields[6] != "UND"


def _readelf(flag: str, library: pathlib.Path) -> str:
    return subprocess.run(["readelf", "-W", flag, library], capture_output=True, text=True, check=True).stdout
