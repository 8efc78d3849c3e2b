"""A module as a file: it is imported with the other modules of its folder, here and, by its sources, on workers.

A folder is what TFX packs for its `module_file`: the modules in it import each other by their plain names, whatever the
Python path has. They are in `sys.modules` only while they run, so that the modules of two folders may have the same
names.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import pkgutil
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.io.errors import ConfigError
from penstock.io.files.paths import is_local
from penstock.io.files.temporary import process_folder
from penstock.io.files.yaml_files import read_text
from penstock.transforms.features.code.absent_tfx import placeholders

# A file of sources by its path in the folder, such as `features.py`.
Sources = tuple[tuple[str, bytes], ...]

# Names that a module of the folder cannot take from those who have them: of Python, and of who imports it.
_NOT_OURS = sys.stdlib_module_names | {"penstock", "pipelines"}

_lock = threading.RLock()
_files: dict[str, "ModuleFile"] = {}
_carried: dict[str, "ModuleFile"] = {}


@dataclasses.dataclass(eq=False)
class ModuleFile:
    """A module that is imported from its file.

    Attributes:
      path: of the file, on this machine.
    """

    path: str
    # The modules of the folder that were imported, by name; their files as they were then, by path in the folder.
    _imported: dict[str, types.ModuleType] = dataclasses.field(default_factory=dict)
    _read: dict[str, "_Source"] = dataclasses.field(default_factory=dict)
    _running: bool = False

    @property
    def folder(self) -> str:
        """The folder of the file."""
        return os.path.dirname(self.path)

    @property
    def name(self) -> str:
        """The module's name, as the others of its folder import it."""
        stem = os.path.basename(self.path).removesuffix(".py")
        return f"_penstock_{stem}" if stem in _NOT_OURS else stem

    @property
    def module(self) -> types.ModuleType:
        """The module, imported again if a file of its folder that it needs has changed.

        Raises:
          Exception: whatever its import raises.
        """
        with self.importing():
            if self.name not in self._imported or any(source.has_changed for source in self._read.values()):
                for name in self._imported:
                    sys.modules.pop(name, None)
                self._read.clear()
                self._import()
            return sys.modules[self.name]

    def _import(self) -> None:
        spec = importlib.util.spec_from_file_location(self.name, self.path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{self.path} is no file of Python")
        module = sys.modules[self.name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[self.name]
            raise

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Puts the modules of the folder in the place of others with their names, for imports in the block."""
        with _lock:
            if self._running:
                yield
                return
            before = self._in_reach()
            for name in before:
                del sys.modules[name]
            sys.modules.update(self._imported)
            sys.path.insert(0, self.folder)
            self._running = True
            try:
                with placeholders():
                    yield
            finally:
                self._running = False
                sys.path.remove(self.folder)
                self._imported = self._in_reach()
                self._note_sources()
                for name in self._imported:
                    del sys.modules[name]
                sys.modules.update(before)

    def _in_reach(self) -> dict[str, types.ModuleType]:
        """The modules that have a name of the folder's, wherever they are from."""
        names = {self.name, *(found.name for found in pkgutil.iter_modules([self.folder]))} - _NOT_OURS
        return {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in names}

    def _note_sources(self) -> None:
        for module in self._imported.values():
            path = getattr(module, "__file__", None)
            if path and path.endswith(".py") and os.path.exists(path):
                self._read.setdefault(os.path.relpath(path, self.folder), _Source.of(path))

    def sources(self) -> Sources:
        """The files that were imported, its own first, so that another machine can import them."""
        own = os.path.basename(self.path)
        return tuple(
            (name, self._read[name].content) for name in sorted(self._read, key=lambda name: (name != own, name))
        )


@dataclasses.dataclass(frozen=True)
class _Source:
    path: str
    stamp: tuple[int, int]
    content: bytes

    @classmethod
    def of(cls, path: str) -> "_Source":
        with open(path, "rb") as file:
            return cls(path, _stamp(path), file.read())

    @property
    def has_changed(self) -> bool:
        """Whether the file is another one now; one that is gone has not changed."""
        return os.path.exists(self.path) and _stamp(self.path) != self.stamp


def _stamp(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size


def open_module(path: str, what: str, hint: str) -> ModuleFile:
    """The module of a file; one that lies in a store is fetched, without the others of its folder.

    Raises:
      ConfigError: when it cannot be read; `what` is said of it, and the hint.
    """
    text = read_text(path, what, hint)
    if not is_local(path):
        return _unpack(((path.rpartition("/")[2], text.encode()),))
    with _lock:
        return _files.setdefault(os.path.abspath(path), ModuleFile(os.path.abspath(path)))


def _unpack(sources: Sources) -> ModuleFile:
    """The module of these sources, the first of which is its own; in the process that packed them, the one it has."""
    with _lock:
        return _carried.get(_digest(sources)) or _carried.setdefault(_digest(sources), _written(sources))


def _digest(sources: Sources) -> str:
    return hashlib.sha256(repr(sources).encode()).hexdigest()


def _written(sources: Sources) -> ModuleFile:
    folder = os.path.join(process_folder(), f"module-{_digest(sources)[:16]}")
    for name, content in sources:
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    return ModuleFile(os.path.join(folder, sources[0][0]))


@dataclasses.dataclass(frozen=True)
class FileFunction:
    """A function of a module file. It can be pickled: the sources go along, and are imported where it is called."""

    file: ModuleFile
    name: str
    arguments: Mapping[str, Any]

    def __call__(self, inputs: Any) -> Any:
        """Calls it, with the modules of its folder in reach of its own imports.

        Raises:
          ConfigError: when a worker lacks what the file imports; where it was loaded first, the import did not fail.
        """
        try:
            function = getattr(self.file.module, self.name)
        except ImportError as error:
            raise ConfigError(
                f"on a worker, --features {os.path.basename(self.file.path)}:{self.name}: cannot be imported: {error}; "
                "the modules beside the file are carried there, and what else it imports must be installed there"
            ) from error
        with self.file.importing():
            return function(inputs, **self.arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        sources = self.file.sources()
        with _lock:
            _carried[_digest(sources)] = self.file
        return _carried_function, (sources, self.name, dict(self.arguments))


def _carried_function(sources: Sources, name: str, arguments: Mapping[str, Any]) -> FileFunction:
    return FileFunction(_unpack(sources), name, arguments)
