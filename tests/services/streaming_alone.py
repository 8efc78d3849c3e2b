"""The part of `mosaicml-streaming` that reads files of this machine, without what the package imports besides.

It imports PyTorch and the clients of all clouds, none of which reads a file: they are replaced by modules that can be
imported and do nothing.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from typing import Any

_NOT_NEEDED = {"torch", "PIL", "brotli", "snappy", "zstd", "xxhash", "tqdm", "filelock", "catalogue"}


class _Empty(type):
    """A class of any name, with attributes of any names."""

    def __iter__(cls) -> Any:
        return iter(())

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name, (), {})


class _Nothing(types.ModuleType):
    """A module that has every name."""

    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name, (), {"__class_getitem__": classmethod(lambda cls, item: cls)})


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds such modules for what is not needed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Finds one."""
        is_stub = name.partition(".")[0] in _NOT_NEEDED
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_stub else None

    def create_module(self, spec: Any) -> types.ModuleType:
        """Makes one."""
        return _Nothing(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Does nothing."""


@functools.cache
def local_dataset() -> Any:
    """Returns the class `LocalDataset` of the package, which must be found; for a process that imports no PyTorch."""
    found = importlib.util.find_spec("streaming")
    assert found is not None
    assert found.origin is not None
    sys.meta_path.insert(0, _Stubs())
    for name in ("streaming", "streaming.base"):  # without what they import besides
        module = types.ModuleType(name)
        module.__path__ = [os.path.join(os.path.dirname(found.origin), *name.split(".")[1:])]
        sys.modules[name] = module
    from streaming.base.local import LocalDataset

    return LocalDataset
