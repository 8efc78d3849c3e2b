"""What Beam's graphs and workers cost beside the work, made less while a job runs.

Beam does again what it has done: for each step while it builds and translates a graph, and for each step, stage and
worker, with the interpreter lock held. No issue is filed for any of it.

- **Signatures and state.** It looks for state and timers in the signatures of all methods of a DoFn, inherited ones
  too (`get_dofn_specs` in apache_beam/transforms/userstate.py): 10,000 calls of `inspect.signature` for the 54 steps of
  a dataset, a third of the time that planning takes.
- **Packing.** It packs each DoFn with bz2 for each worker, and unpacks it three times (`dumps` and `loads` in
  apache_beam/internal/cloudpickle_pickler.py), though it has had the same bytes before.
- **Sampler.** A thread samples in which step a worker is, at intervals that grow to 200 ms, and a bundle does not end
  before that thread has woken up (`StateSampler.stop` in apache_beam/runners/worker/statesampler_fast.pyx): a tenth of
  a second for each stage, on the slowest of all workers.
- **Sizes.** It measures what it read of a side input, to keep it, and for that looks at the globals of all modules,
  of which nothing is in there (`get_deep_size` in apache_beam/runners/worker/statecache.py): 6 ms, and more in a fork,
  which then has 10 MB of its parent's memory for its own.
"""

import bz2
import contextlib
import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from types import MethodType, SimpleNamespace
from typing import Any

from apache_beam.internal import cloudpickle_pickler
from apache_beam.runners.worker import statecache, statesampler
from apache_beam.transforms import core, userstate

# The names of the arguments of a function, and the values of those that have defaults.
_Arguments = tuple[list[str], list[Any]]

# Specifications of state, and of timers.
_Specs = tuple[set[Any], set[Any]]

_SAMPLED_EVERY_MS = 10

# What is packed and unpacked is kept up to this size and number; DoFns are a few kB.
_KEPT_BYTES, _KEPT = 1 << 16, 1024

_LOCK = threading.Lock()
_inside = 0
_beams: list[Any] = []


@contextlib.contextmanager
def less_overhead() -> Iterator[None]:
    """Makes Beam remember, and end a bundle soon; it is as it was when nobody is inside any more."""
    global _inside
    with _LOCK:
        if not _inside:
            _beams[:] = [getattr(module, name) for module, name, _ in _REPLACED]
            for (module, name, make), original in zip(_REPLACED, _beams, strict=True):
                setattr(module, name, make(original))
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                for (module, name, _), original in zip(_REPLACED, _beams, strict=True):
                    setattr(module, name, original)


# Two threads may both not find an answer, and then keep the same: a lock here could be held while workers fork.


def _arguments_once(beams: Callable[[Any], _Arguments]) -> Callable[[Any], _Arguments]:
    """Beam's `get_function_args_defaults`, which of a method depends on its function alone."""
    known: weakref.WeakKeyDictionary[types.FunctionType, _Arguments] = weakref.WeakKeyDictionary()

    def arguments(function: Any) -> _Arguments:
        plain = function.__func__ if isinstance(function, MethodType) else None
        if type(plain) is not types.FunctionType:
            return beams(function)
        found = known.get(plain)
        if found is None:
            found = known[plain] = beams(function)
        return list(found[0]), list(found[1])

    return arguments


def _specs_once(beams: Callable[[core.DoFn], _Specs]) -> Callable[[core.DoFn], _Specs]:
    """Beam's `get_dofn_specs`, which looks once in a class.

    A DoFn of a function, as `beam.Map` makes it, has what the function's defaults ask for, and an instance may have
    methods of its own: such are looked at each time.
    """
    known: weakref.WeakKeyDictionary[type[core.DoFn], _Specs] = weakref.WeakKeyDictionary()

    def specs(dofn: core.DoFn) -> _Specs:
        wraps = isinstance(dofn, core.CallableWrapperDoFn) and core.get_function_arguments(dofn, "process")[1]
        if wraps or any(isinstance(value, MethodType) for value in vars(dofn).values()):
            return beams(dofn)
        found = known.get(type(dofn))
        if found is None:
            found = known[type(dofn)] = beams(dofn)
        return set(found[0]), set(found[1])

    return specs


def _packed_once(_: Any) -> SimpleNamespace:
    """The functions of bz2 that Beam calls."""
    compress, decompress = functools.lru_cache(_KEPT)(bz2.compress), functools.lru_cache(_KEPT)(bz2.decompress)

    def packed(data: bytes, compresslevel: int) -> bytes:
        if len(data) > _KEPT_BYTES:
            return bz2.compress(data, compresslevel)
        found: bytes = compress(data, compresslevel)
        decompress(found)  # workers that are forked later find it, and need not do it each
        return found

    def unpacked(data: bytes) -> bytes:
        return (decompress if len(data) <= _KEPT_BYTES else bz2.decompress)(data)

    return SimpleNamespace(compress=packed, decompress=unpacked)


def _sampled_often(beams: type[statesampler.StateSampler]) -> type[statesampler.StateSampler]:
    class OftenSampled(beams):  # type: ignore[misc, valid-type]
        def __init__(self, prefix: str, counter_factory: Any, sampling_period_ms: int = _SAMPLED_EVERY_MS):
            super().__init__(prefix, counter_factory, sampling_period_ms)

    return OftenSampled


def _measured_alone(beams: Any) -> SimpleNamespace:
    """The function of objsize that Beam calls; Beam's own filter leaves out functions, and with them their globals.

    Beam takes objsize 0.6 too, which cannot be told so.
    """
    setting = "exclude_modules_globals"
    settings = {setting: False} if setting in inspect.signature(beams.get_deep_size).parameters else {}
    return SimpleNamespace(get_deep_size=functools.partial(beams.get_deep_size, **settings))


_REPLACED: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (core, "get_function_args_defaults", _arguments_once),
    (userstate, "get_dofn_specs", _specs_once),
    (cloudpickle_pickler, "bz2", _packed_once),
    (statesampler, "StateSampler", _sampled_often),
    (statecache, "objsize", _measured_alone),
)
