"""Names of TFX where it is not installed: a module that only annotates with them is imported all the same.

A module of a TFX pipeline says `from tfx import v1 as tfx`, or `from tfx.components.trainer.fn_args_utils import
FnArgs`, for the types of what its trainer takes; its `preprocessing_fn` needs none of them. `placeholders` lets such
imports succeed. What they give is a class that may stand in annotations, and fails with a message wherever else it is
used.
"""

import contextlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from penstock.io.errors import ConfigError

RECIPE = "docs/tfx.md says what to write instead"

_TFX = "tfx"


def is_placeholder(value: object) -> bool:
    """Whether a value is a name of TFX without TFX."""
    return isinstance(value, _Placeholder)


@contextlib.contextmanager
def placeholders() -> Iterator[None]:
    """Makes names of TFX importable in the block, unless it is installed; the placeholders leave with it."""
    finder = _Finder()
    sys.meta_path.append(finder)  # the last: an installed TFX is found before
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


class _Placeholder(type):
    """The class of names of TFX: they can be annotations, alone, in `Optional[...]` and beside `|`, no more."""

    def __getattr__(cls, name: str) -> "_Placeholder":
        if name.startswith("__"):
            raise AttributeError(name)
        return _placeholder(f"{cls.__qualname__}.{name}")

    def _refuse(cls, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError(
            f"{cls.__qualname__} is used, and TFX is not installed: without it, its names can only be annotations; "
            f"{RECIPE}"
        )

    __call__ = __iter__ = __len__ = __getitem__ = __add__ = __radd__ = _refuse


def _placeholder(path: str) -> _Placeholder:
    return _Placeholder(path, (), {"__module__": path.rpartition(".")[0], "__qualname__": path})


class _Module(types.ModuleType):
    """A module of TFX, every name of which is a placeholder."""

    def __getattr__(self, name: str) -> _Placeholder:
        if name.startswith("__"):
            raise AttributeError(name)
        return _placeholder(f"{self.__name__}.{name}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module of TFX.

    Attributes:
      made: the names of those that it found.
    """

    def __init__(self) -> None:
        self.made: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module of TFX; None for others, and for those that an installed TFX lacks."""
        parent = sys.modules.get(_TFX)
        if fullname.partition(".")[0] != _TFX or not (parent is None or isinstance(parent, _Module)):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """An empty module of placeholders."""
        self.made.append(spec.name)
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""
