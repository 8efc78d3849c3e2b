"""What runners promise: stable input, bundles that are tried once, and watermarks that wait.

The Python SDK has no name for stable input, though runners honour it (https://github.com/apache/beam/issues/19446 is
theirs; for the Python SDK none is filed).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.portability import common_urns

# PortableRunner stands for a job server, of Flink for instance; Prism, which is one as well, has a name of its own.
_RUNNERS = frozenset({"FlinkRunner", "PortableRunner", "DataflowRunner"})


class StableParDo(beam.ParDo):
    """A ParDo that a runner tries again with the very same elements: those that are in a checkpoint."""

    def expand(self, pcoll: Any) -> Any:
        """Sees to it that a copy of the pipeline asks for stable input too."""
        _keep_stable_input()
        return super().expand(pcoll)

    def to_runner_api_parameter(self, context: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """With the requirement."""
        payload: Any
        urn, payload = super().to_runner_api_parameter(context, **kwargs)
        payload.requires_stable_input = True
        context.add_requirement(common_urns.requirements.REQUIRES_STABLE_INPUT.urn)
        return urn, payload


def _keep_stable_input() -> None:
    """Has Beam read a ParDo of a graph as a `StableParDo` where it asks for stable input: Beam would forget it.

    `Pipeline.run` makes a pipeline of its own graph for runners such as Dataflow's, and runs that. Beam knows one
    handler for all ParDos of a process. It is wrapped when a pipeline gets its first `StableParDo`, not before, and
    what does not ask for stable input is as the handler that was there made it.
    """
    kind, handler = beam.PTransform._known_urns[common_urns.primitives.PAR_DO.urn]
    if not isinstance(handler, _StableHandler):
        beam.PTransform._known_urns[common_urns.primitives.PAR_DO.urn] = kind, _StableHandler(handler)


@dataclasses.dataclass(frozen=True)
class _StableHandler:
    """The handler that was there before, and what it forgets."""

    handler: Callable[[Any, Any, Any], beam.ParDo]

    def __call__(self, transform: Any, payload: Any, context: Any) -> beam.ParDo:
        pardo = self.handler(transform, payload, context)
        if payload.requires_stable_input:
            pardo.__class__ = StableParDo
        return pardo


def has_stable_input(pipeline: beam.Pipeline) -> bool:
    """Whether the pipeline's runner knows stable input; others refuse a pipeline that asks for it."""
    return type(pipeline.runner).__name__ in _RUNNERS


def tries_once(pipeline: beam.Pipeline) -> bool:
    """Whether the pipeline's runner never repeats a bundle: where one fails, the pipeline does."""
    return type(pipeline.runner).__name__ == "FnApiRunner"


def knows_watermarks(pipeline: beam.Pipeline) -> bool:
    """Whether a timer at the end of the stream fires when all elements are through: local runners may be early."""
    return type(pipeline.runner).__name__ in _RUNNERS
