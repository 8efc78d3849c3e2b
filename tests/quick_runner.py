"""Beam's local runner, a second faster: it does not wait for its sampler, nor do the same work again for each pipeline.

What is replaced here of Beam 2.77, while it runs, is replaced for tests alone: they build a thousand small pipelines.
"""

import argparse
import bz2
import contextlib
import functools
import inspect
import traceback
from collections.abc import Callable, Iterator
from types import MethodType, SimpleNamespace
from typing import Any

from apache_beam.internal import cloudpickle_pickler
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.worker import statecache, statesampler
from apache_beam.transforms import core, userstate
from apache_beam.typehints import decorators

_Arguments = tuple[list[str], list[Any]]
_Specs = tuple[set[Any], set[Any]]
_Hints = decorators.IOTypeHints | None

_KEPT = 4096  # answers of each kind


@contextlib.contextmanager
def quick_runner() -> Iterator[None]:
    """Where pipelines are built and run by workers that are threads of this process."""
    with contextlib.ExitStack() as stack:
        for module, name, value in (
            (statesampler, "StateSampler", _StateSampler),
            (core, "get_function_args_defaults", _remembered(core.get_function_args_defaults)),
            (core, "_get_function_body_without_inners", _once(core._get_function_body_without_inners)),
            (userstate, "get_dofn_specs", _by_class(userstate.get_dofn_specs)),
            (cloudpickle_pickler, "bz2", _packing()),
            (statecache, "get_deep_size", lambda *values: 8 * len(values)),
            (decorators, "traceback", SimpleNamespace(format_stack=_short_stack)),
            (decorators.IOTypeHints, "from_callable", staticmethod(_read_once(decorators.IOTypeHints.from_callable))),
            (pipeline_options, "_BeamArgumentParser", _Parser),
            (PipelineOptions, "get_all_options", _but_for_warnings(PipelineOptions.get_all_options)),
        ):
            stack.enter_context(_replaced(module, name, value))
        yield


class _StateSampler(statesampler.StateSampler):
    """Beam samples what its workers do, and before a bundle ends it waits for the sampler to wake up: soon, here."""

    def __init__(self, prefix: str, counter_factory: Any):
        super().__init__(prefix, counter_factory, sampling_period_ms=10)  # Beam's default is 200


def _remembered(arguments: Callable[[Any], _Arguments]) -> Callable[[Any], _Arguments]:
    """`arguments` that inspects a method once, not once for each DoFn that has it.

    Beam asks for those of all 30 methods of a DoFn, most of them inherited, each time it wants to know whether the DoFn
    has state: six times while a graph is built and translated, and twice for each of its workers.
    """
    known: dict[Any, _Arguments] = {}

    def of(function: Any) -> _Arguments:
        if not inspect.ismethod(function):
            return arguments(function)
        if function.__func__ not in known:
            known[function.__func__] = arguments(function)
        names, defaults = known[function.__func__]
        return list(names), list(defaults)

    return of


def _by_class(specs: Callable[[core.DoFn], _Specs]) -> Callable[[core.DoFn], _Specs]:
    """`specs` that looks for state and timers once in a class, not in each of its instances.

    A DoFn of a function, as `beam.Map` makes it, has what the function's defaults ask for, and an instance may have
    methods of its own: such are looked at each time.
    """
    known: dict[type[core.DoFn], _Specs] = {}

    def of(dofn: core.DoFn) -> _Specs:
        wraps = isinstance(dofn, core.CallableWrapperDoFn) and core.get_function_arguments(dofn, "process")[1]
        if wraps or any(isinstance(value, MethodType) for value in vars(dofn).values()):
            return specs(dofn)
        if type(dofn) not in known:
            known[type(dofn)] = specs(dofn)
        states, timers = known[type(dofn)]
        return set(states), set(timers)

    return of


def _once(answer: Callable[[Any], str]) -> Callable[[Any], str]:
    """`answer` for the source of a function: the same for each instance that a method is bound to."""
    remembered = functools.lru_cache(_KEPT)(answer)
    return lambda function: remembered(getattr(function, "__func__", function))


def _packing() -> SimpleNamespace:
    """bz2 that does not pack the same DoFn again, which Beam does for each pipeline, stage and worker that has it."""
    packed = functools.lru_cache(_KEPT)(bz2.compress)
    return SimpleNamespace(compress=packed, decompress=functools.lru_cache(_KEPT)(bz2.decompress))


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


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    original = inspect.getattr_static(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)
