"""Beam with less of its own work for each pipeline: half of the time of a test is the building of a small graph."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from unittest import mock

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines._local import quick_runner

_ViewAs = Callable[[PipelineOptions, type[PipelineOptions]], PipelineOptions]


@contextlib.contextmanager
def quick_beam() -> Iterator[None]:
    """Where all pipelines have what local jobs have, and one view of each kind of their options."""
    views = _remembered(PipelineOptions.view_as)
    with quick_runner(), mock.patch.object(PipelineOptions, "view_as", views):
        yield


def _remembered(view_as: _ViewAs) -> _ViewAs:
    """`view_as` that parses the flags once for each class of options, not once for each step of a graph.

    A view holds no values of its own: all views of the same options share them.
    """
    known: weakref.WeakKeyDictionary[PipelineOptions, dict[type, PipelineOptions]] = weakref.WeakKeyDictionary()

    def of(self: PipelineOptions, cls: type[PipelineOptions]) -> PipelineOptions:
        views = known.setdefault(self, {})
        if cls not in views:
            views[cls] = view_as(self, cls)
        return views[cls]

    return of
