"""Guarantees of runners: stable input, bundles that are never retried, and watermarks that wait.

The Python SDK has no API for stable input, though runners support it (https://github.com/apache/beam/issues/19446 is
about runners; for the Python SDK no issue is filed).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.portability import common_urns

# PortableRunner stands for a job server, such as Flink's; Prism is one too, but has its own name.
_RUNNERS = frozenset({"FlinkRunner", "PortableRunner", "DataflowRunner"})

_PRISM = frozenset({"PrismRunner", "SwitchingDirectRunner"})


class StableParDo(beam.ParDo):
    """A ParDo that a runner retries with exactly the same elements: those in a checkpoint."""

    def expand(self, pcoll: Any) -> Any:
        """Expands as `ParDo`; makes copies of the pipeline ask for stable input too."""
        _keep_stable_input()
        return super().expand(pcoll)

    def to_runner_api_parameter(self, context: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Encodes as `ParDo`, with the requirement of stable input."""
        payload: Any
        urn, payload = super().to_runner_api_parameter(context, **kwargs)
        payload.requires_stable_input = True
        context.add_requirement(common_urns.requirements.REQUIRES_STABLE_INPUT.urn)
        return urn, payload


def _keep_stable_input() -> None:
    """Makes Beam read a ParDo of a graph as a `StableParDo` if it asks for stable input; Beam alone drops that request.

    For runners such as Dataflow's, `Pipeline.run` makes a new pipeline from its own graph and runs that. Beam has one
    handler for all ParDos of a process. It is wrapped when a pipeline gets its first `StableParDo`, not before. The
    wrapper does not change a ParDo that does not ask for stable input.
    """
    kind, handler = beam.PTransform._known_urns[common_urns.primitives.PAR_DO.urn]
    if not isinstance(handler, _StableHandler):
        beam.PTransform._known_urns[common_urns.primitives.PAR_DO.urn] = kind, _StableHandler(handler)


@dataclasses.dataclass(frozen=True)
class _StableHandler:
    """Wraps the handler that was registered before, and restores the request that it drops."""

    handler: Callable[[Any, Any, Any], beam.ParDo]

    def __call__(self, transform: Any, payload: Any, context: Any) -> beam.ParDo:
        pardo = self.handler(transform, payload, context)
        if payload.requires_stable_input:
            pardo.__class__ = StableParDo
        return pardo


def has_stable_input(pipeline: beam.Pipeline) -> bool:
    """Returns whether the pipeline's runner supports stable input; others reject a pipeline that asks for it."""
    return type(pipeline.runner).__name__ in _RUNNERS


def tries_once(pipeline: beam.Pipeline) -> bool:
    """Returns whether the pipeline's runner never retries a bundle: if one fails, the pipeline fails."""
    return any(kind.__name__ == "FnApiRunner" for kind in type(pipeline.runner).__mro__)


def knows_watermarks(pipeline: beam.Pipeline) -> bool:
    """Returns whether a timer at the end of the stream fires only after all elements; local runners may be early."""
    return type(pipeline.runner).__name__ in _RUNNERS


def keeps_each_watermark(pipeline: beam.Pipeline) -> bool:
    """Returns whether the watermark of a splittable DoFn is the least of those of its elements.

    On Prism it is that of whichever element is ahead: each bundle that ends sets the estimate of the whole stage
    (sdks/go/pkg/beam/runners/prism/internal/engine/elementmanager.go, `PersistBundle`; no issue is filed), and the
    output watermark never goes back. Beam's DirectRunner chooses Prism for a stream.
    """
    return not any(kind.__name__ in _PRISM for kind in type(pipeline.runner).__mro__)
