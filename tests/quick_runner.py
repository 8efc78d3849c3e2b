"""Beam's local runner, a second faster: beside what our jobs do (`less_overhead`), it does not do again what it did.

What is replaced here of Beam 2.77, while it runs, is replaced for tests alone: they build a thousand small pipelines.
"""

import argparse
import contextlib
import functools
import inspect
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from apache_beam.internal import pickler
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.worker import bundle_processor
from apache_beam.transforms import core, ptransform
from apache_beam.typehints import decorators

from penstock.io.beam.local.overhead import less_overhead

_Hints = decorators.IOTypeHints | None

_KEPT = 4096  # answers of each kind


@contextlib.contextmanager
def quick_runner() -> Iterator[None]:
    """Where pipelines are built and run by workers that are threads of this process."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(less_overhead())
        for module, name, value in (
            (core, "_get_function_body_without_inners", _once(core._get_function_body_without_inners)),
            (decorators, "traceback", SimpleNamespace(format_stack=_short_stack)),
            (decorators.IOTypeHints, "from_callable", staticmethod(_read_once(decorators.IOTypeHints.from_callable))),
            (pipeline_options, "_BeamArgumentParser", _Parser),
            (PipelineOptions, "get_all_options", _but_for_warnings(PipelineOptions.get_all_options)),
            (PipelineOptions, "_visible_option_list", _visible_options),
            (pickler, "loads", _with_windowing(pickler.loads)),
            (bundle_processor, "pickler", _PicklesOnce()),
            (ptransform, "pickler", _CopiesWhatIsThere()),
        ):
            stack.enter_context(_replaced(module, name, value))
        yield


def _once(answer: Callable[[Any], str]) -> Callable[[Any], str]:
    """`answer` for the source of a function: the same for each instance that a method is bound to."""
    remembered = functools.lru_cache(_KEPT)(answer)
    return lambda function: remembered(getattr(function, "__func__", function))


def _short_stack(limit: int) -> list[str]:
    """Where a type hint was given. `traceback.format_stack` asks the disk for each file again."""
    frames = traceback.walk_stack(inspect.currentframe().f_back)  # type: ignore[union-attr]
    lines = [f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n' for frame, line in frames]
    return lines[limit - 1 :: -1] if len(lines) >= limit else lines[::-1]


def _read_once(from_callable: Callable[[Any], _Hints]) -> Callable[[Any], _Hints]:
    """`from_callable`, the hints in annotations, which reads those of a method once; of other callables each time."""
    known: dict[Any, _Hints] = {}

    def of(function: Any) -> _Hints:
        if not inspect.ismethod(function):
            return from_callable(function)
        if function.__func__ not in known:
            known[function.__func__] = from_callable(function)
        hints = known[function.__func__]
        return hints and hints._replace(origin=list(hints.origin))

    return of


class _Parser(pipeline_options._BeamArgumentParser):
    """For each pipeline, Beam makes a parser of its 300 options, and argparse a formatter of help for each of them."""

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        self._get_formatter = lambda: _FORMATTER
        try:
            return super().add_argument(*args, **kwargs)
        finally:
            del self._get_formatter


_FORMATTER = argparse.HelpFormatter("")


def _but_for_warnings(all_options: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`all_options` that does nothing before a pipeline runs, when Beam asks again, to warn of flags that it lacks."""

    def of(self: PipelineOptions, *args: Any, display_warnings: bool = False, **kwargs: Any) -> dict[str, Any]:
        return {} if display_warnings else all_options(self, *args, **kwargs)

    return of


def _visible_options(self: PipelineOptions) -> list[str]:
    """The options of a view. Beam lists them for each one that is read, and each time all that a namespace has."""
    return sorted(name for name in vars(self._visible_options) if name[0] != "_")


class _Fn(tuple[Any, ...]):
    """A DoFn and its arguments, as they were unpickled, with the bytes that they were unpickled from."""

    pickled: bytes

    @classmethod
    def of(cls, values: tuple[Any, ...], pickled: bytes) -> "_Fn":
        fn = cls(values)
        fn.pickled = pickled
        return fn

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _Fn.of(found, self.pickled) if isinstance(found, tuple) and key == slice(None, -1) else found

    def __add__(self, other: Any) -> "_Fn":
        return _Fn.of(super().__add__(other), self.pickled)


class _Windowed(bytes):
    """A DoFn as it is in the graph, and beside it the windowing that a worker adds."""

    windowing: Any


class _Pickler:
    def __getattr__(self, name: str) -> Any:
        return getattr(pickler, name)


class _PicklesOnce(_Pickler):
    """A worker unpickles each DoFn, adds the windowing to it, pickles it, and unpickles that."""

    def loads(self, pickled: bytes) -> Any:
        found = pickler.loads(pickled)
        return _Fn.of(found, pickled) if type(found) is tuple else found

    def dumps(self, value: Any) -> bytes:
        if not isinstance(value, _Fn):
            return pickler.dumps(value)
        windowed = _Windowed(value.pickled)
        windowed.windowing = value[-1]
        return windowed


def _with_windowing(loads: Callable[..., Any]) -> Callable[..., Any]:
    def of(pickled: bytes, *args: Any, **kwargs: Any) -> Any:
        found = loads(pickled, *args, **kwargs)
        return (*found[:-1], pickled.windowing) if isinstance(pickled, _Windowed) else found

    return of


class _CopiesWhatIsThere(_Pickler):
    """Each step pickles and unpickles its arguments, which are mostly none."""

    def roundtrip(self, value: Any) -> Any:
        return type(value)() if type(value) in (tuple, dict) and not value else pickler.roundtrip(value)


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    original = inspect.getattr_static(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)
