"""A `preprocessing_fn` by the name of its module or the path of its file, and what is bound to it."""

import dataclasses
import difflib
import importlib
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from penstock.io.errors import ConfigError
from penstock.transforms._named import FEATURES_HINT, FUNCTION
from penstock.transforms.features.code.absent_tfx import RECIPE, is_placeholder, placeholders
from penstock.transforms.features.code.module_file import FileFunction, ModuleFile, open_module

_CONFIG = "custom_config"


@dataclasses.dataclass(frozen=True)
class FeatureFunction:
    """A `preprocessing_fn`, by where it is.

    A module is searched on the Python path, and then in the working directory, which only `python -m` puts on the
    path; workers must have it, too. A file imports the other modules of its folder by their plain names, and all of
    them are carried to the workers.

    Attributes:
      module: the name of a module, or the path of a `.py` file.
      function: its name there.
      custom_config: what the function gets as `custom_config`, as from TFX's `Transform`. Without it, a function that
        takes one with the default None gets `{}`, and another default stays.
    """

    module: str
    function: str = FUNCTION
    custom_config: Mapping[str, Any] | None = None

    def load(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """Imports the function and binds `custom_config`.

        Raises:
          ConfigError: when module or function cannot be imported, the function is not callable, or takes no
            `custom_config`, or needs one.
        """
        file = open_module(self.module, self.flag, FEATURES_HINT) if self.module.endswith(".py") else None
        function = self._function_of(self.imported(file))
        arguments = self._arguments(function)
        if file is not None:
            return FileFunction(file, self.function, arguments)
        return ModuleFunction(self, arguments)

    @property
    def flag(self) -> str:
        """What messages call it."""
        return f"--features {self.module}:{self.function}"

    def imported(self, file: ModuleFile | None = None) -> types.ModuleType:
        """Imports the module, as that of a file if one is given.

        Raises:
          ConfigError: when that fails.
        """
        _see_working_directory()
        try:
            if file is not None:
                return file.module
            with placeholders():
                return importlib.import_module(self.module)
        except ConfigError as error:
            raise ConfigError(f"{self.flag}: cannot be imported: {error}") from error
        except ImportError as error:
            raise ConfigError(f"{self.flag}: cannot import {self.module!r}: {error}; {self._remedy(error)}") from error
        except Exception as error:
            raise ConfigError(
                f"{self.flag}: {self.module!r} fails when imported: {type(error).__name__}: {error}"
            ) from error

    def _remedy(self, error: ImportError) -> str:
        missing = error.name or ""
        if missing.partition(".")[0] == "tfx":
            return RECIPE
        if "relative import" in str(error):
            return f"a file is in no package: import what lies beside it by its plain name; {RECIPE}"
        if missing and not f"{self.module}.".startswith(f"{missing}."):
            return (
                f"install {missing.partition('.')[0]!r}, or put the function into a module that does not import it; if "
                "it is your own, it must lie beside the file, in the working directory or on the Python path "
                "(PYTHONPATH)"
            )
        return "the module must be in the working directory or on the Python path (PYTHONPATH)"

    def _function_of(self, module: types.ModuleType) -> Callable[..., Any]:
        function: Any = getattr(module, self.function, None)
        if is_placeholder(function):
            raise ConfigError(
                f"{self.flag}: is {function.__qualname__}, and TFX is not installed: copy the file of the function "
                f"beside the module, and import it from there; {RECIPE}"
            )
        if callable(function):
            return function
        nearest = difflib.get_close_matches(self.function, dir(module), n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest and function is None else ""
        raise ConfigError(f"{self.flag}: module {self.module!r} has no function {self.function!r}{hint}")

    def _arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """What is bound to the function beside its inputs."""
        parameter = _parameter(function)
        if parameter is None:
            if self.custom_config is not None:
                raise ConfigError(f"{self.flag}: takes no {_CONFIG}; leave --{_CONFIG} out, or add the parameter")
            return {}
        if self.custom_config is not None:
            return {_CONFIG: dict(self.custom_config)}
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise ConfigError(f"{self.flag}: needs a {_CONFIG}; pass --{_CONFIG}, '{{}}' for an empty one")
        return {_CONFIG: {}} if parameter.default is None else {}


@dataclasses.dataclass(frozen=True)
class ModuleFunction:
    """A function of a module that is on the Python path. It can be pickled: it is imported again where it is called.

    Attributes:
      feature: where it is.
      arguments: what is bound to it.
      is_carried: whether another process has loaded it first.
    """

    feature: FeatureFunction
    arguments: Mapping[str, Any]
    is_carried: bool = False

    def __call__(self, inputs: Any) -> Any:
        """Calls it.

        Raises:
          ConfigError: when a worker does not have the module.
        """
        try:
            module = self.feature.imported()
        except ConfigError as error:
            if not self.is_carried:
                raise
            stem = self.feature.module.rpartition(".")[2]
            raise ConfigError(
                f"on a worker, {error}; or pass the file, {stem}.py:{self.feature.function}, whose source is carried "
                "to the workers"
            ) from error
        return getattr(module, self.feature.function)(inputs, **self.arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return ModuleFunction, (self.feature, dict(self.arguments), True)


def _parameter(function: Callable[..., Any]) -> inspect.Parameter | None:
    """The parameter that takes a `custom_config`, if there is one."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # of a function in C
        return None
    any_name = next((item for item in parameters.values() if item.kind is item.VAR_KEYWORD), None)
    return parameters.get(_CONFIG, any_name)


def _see_working_directory() -> None:
    """Adds the working directory to this process's path, also for the module's later imports; last, to hide nothing."""
    if not sys.flags.safe_path and "" not in sys.path:
        sys.path.append("")
