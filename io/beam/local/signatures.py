"""Signatures of the methods of DoFns, looked up once for a run.

Beam looks for state and timers in the signatures of all methods of a DoFn, inherited ones too: six times while it
builds a graph, and once more for each worker and stage, with the interpreter lock held (`get_dofn_specs` in
apache_beam/transforms/userstate.py; no issue is filed). That is 10,000 calls of `inspect.signature` for the 54 steps of
a dataset, a third of the time that planning takes.
"""

import contextlib
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam.transforms import core

# The names of the arguments of a function, and the values of those that have defaults.
_Arguments = tuple[list[str], list[Any]]

_KNOWN: weakref.WeakKeyDictionary[types.FunctionType, _Arguments] = weakref.WeakKeyDictionary()

_LOCK = threading.Lock()
_inside = 0
_beams: Callable[[Any], _Arguments] = core.get_function_args_defaults


@contextlib.contextmanager
def signatures_once() -> Iterator[None]:
    """Makes Beam look up the signature of each method once; Beam is as it was when nobody is inside any more."""
    global _inside, _beams
    with _LOCK:
        if not _inside:
            _beams = core.get_function_args_defaults
        _inside += 1
        core.get_function_args_defaults = _arguments  # type: ignore[assignment]
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                core.get_function_args_defaults = _beams  # type: ignore[assignment]


def _arguments(function: Any) -> _Arguments:
    """Does what Beam's `get_function_args_defaults` does; of a method, it depends on its function alone."""
    plain = function.__func__ if isinstance(function, types.MethodType) else None
    if type(plain) is not types.FunctionType:
        return _beams(function)
    known = _KNOWN.get(plain)
    if known is None:  # two threads may both look, and find the same; a lock here could be held while workers fork
        known = _KNOWN[plain] = _beams(function)
    return list(known[0]), list(known[1])
