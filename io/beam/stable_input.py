"""What runners promise: stable input, bundles that are tried once, and watermarks that wait."""

from typing import Any

import apache_beam as beam
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

# PortableRunner stands for a job server, of Flink for instance; Prism, which is one as well, has a name of its own.
_RUNNERS = frozenset({"FlinkRunner", "PortableRunner", "DataflowRunner"})


class StableParDo(beam.ParDo):
    """A ParDo that a runner tries again with the very same elements: those that are in a checkpoint.

    The Python SDK has no name for it, but the runners honour it.
    """

    def to_runner_api_parameter(self, context: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """With the requirement."""
        payload: Any
        urn, payload = super().to_runner_api_parameter(context, **kwargs)
        payload.requires_stable_input = True
        context.add_requirement(common_urns.requirements.REQUIRES_STABLE_INPUT.urn)
        return urn, payload


def _from_runner_api_parameter(transform: Any, payload: Any, context: Any) -> beam.ParDo:
    """A ParDo of a graph, which asks for stable input if it did: Beam would forget it.

    `Pipeline.run` makes a pipeline of its own graph for runners such as Dataflow's, and runs that.
    """
    pardo: beam.ParDo = beam.ParDo.from_runner_api_parameter(transform, payload, context)  # type: ignore[call-arg]
    if payload.requires_stable_input:
        pardo.__class__ = StableParDo
    return pardo


beam.PTransform.register_urn(
    common_urns.primitives.PAR_DO.urn, beam_runner_api_pb2.ParDoPayload, _from_runner_api_parameter
)


def has_stable_input(pipeline: beam.Pipeline) -> bool:
    """Whether the pipeline's runner knows stable input; others refuse a pipeline that asks for it."""
    return type(pipeline.runner).__name__ in _RUNNERS


def tries_once(pipeline: beam.Pipeline) -> bool:
    """Whether the pipeline's runner never repeats a bundle: where one fails, the pipeline does."""
    return type(pipeline.runner).__name__ == "FnApiRunner"


def knows_watermarks(pipeline: beam.Pipeline) -> bool:
    """Whether a timer at the end of the stream fires when all elements are through: local runners may be early."""
    return type(pipeline.runner).__name__ in _RUNNERS
