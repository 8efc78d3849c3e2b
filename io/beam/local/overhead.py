"""What Beam's workers and graphs cost beside the work, made less while a job of ours runs.

- **Signatures.** Beam looks for state and timers in the signatures of all methods of a DoFn, inherited ones too: six
  times while it builds a graph, and once more for each worker and stage, with the interpreter lock held
  (`get_dofn_specs` in apache_beam/transforms/userstate.py; no issue is filed). That is 10,000 calls of
  `inspect.signature` for the 54 steps of a dataset, a third of the time that planning takes.
- **Sampler.** A thread samples in which step a worker is, at intervals that grow to 200 ms, and a bundle does not end
  before that thread has woken up (`StateSampler.stop` in apache_beam/runners/worker/statesampler_fast.pyx): a tenth of
  a second for each stage, on the slowest of all workers.
"""

import contextlib
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.transforms import core

# The names of the arguments of a function, and the values of those that have defaults.
_Arguments = tuple[list[str], list[Any]]

_SAMPLED_EVERY_MS = 10

_KNOWN: weakref.WeakKeyDictionary[types.FunctionType, _Arguments] = weakref.WeakKeyDictionary()

_LOCK = threading.Lock()
_inside = 0
_beams: Callable[[Any], _Arguments] = core.get_function_args_defaults
_beams_interval = StateSampler.__init__.__defaults__


@contextlib.contextmanager
def less_overhead() -> Iterator[None]:
    """Makes Beam look up a signature once, and end a bundle soon; it is as it was when nobody is inside any more."""
    global _inside, _beams
    with _LOCK:
        if not _inside:
            _beams = core.get_function_args_defaults
        _inside += 1
        core.get_function_args_defaults = _arguments  # type: ignore[assignment]
        StateSampler.__init__.__defaults__ = (_SAMPLED_EVERY_MS,)
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                core.get_function_args_defaults = _beams  # type: ignore[assignment]
                StateSampler.__init__.__defaults__ = _beams_interval


def _arguments(function: Any) -> _Arguments:
    """Does what Beam's `get_function_args_defaults` does; of a method, it depends on its function alone."""
    plain = function.__func__ if isinstance(function, types.MethodType) else None
    if type(plain) is not types.FunctionType:
        return _beams(function)
    known = _KNOWN.get(plain)
    if known is None:  # two threads may both look, and find the same; a lock here could be held while workers fork
        known = _KNOWN[plain] = _beams(function)
    return list(known[0]), list(known[1])
