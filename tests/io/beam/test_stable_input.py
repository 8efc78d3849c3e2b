import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_stream import TestStream as Stream

from penstock.io.beam.stable_input import StableParDo, has_stable_input
from penstock.io.write import WriteDataset

REQUIREMENT = common_urns.requirements.REQUIRES_STABLE_INPUT.urn


def stable_steps(pipeline):
    proto = pipeline.to_runner_api()
    payloads = {
        step.unique_name: beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
        for step in proto.components.transforms.values()
        if step.spec.urn == common_urns.primitives.PAR_DO.urn
    }
    stable = [name for name, payload in payloads.items() if payload.requires_stable_input]
    return REQUIREMENT in proto.requirements, stable


def test_step_asks_for_stable_input():
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | beam.Create([1]) | "Step" >> StableParDo(beam.DoFn())
    assert stable_steps(pipeline) == (True, ["Step"])


def test_a_pipeline_made_of_a_graph_asks_for_it_again():
    pipeline = beam.Pipeline(runner=FnApiRunner())
    ones = pipeline | beam.Create([1])
    _ = ones | "Step" >> StableParDo(beam.DoFn())
    _ = ones | "Other" >> beam.ParDo(beam.DoFn())
    assert stable_steps(beam.Pipeline.from_runner_api(pipeline.to_runner_api(), FnApiRunner(), PipelineOptions())) == (
        True,
        ["Step"],
    )


def test_windows_are_published_on_stable_input_where_there_is_such(tmp_path):
    publish = "Write/WriteWindows/PublishWindows/Publish"
    for runner, steps in (("FlinkRunner", (True, [publish])), ("PrismRunner", (False, []))):
        pipeline = beam.Pipeline(runner, PipelineOptions(["--streaming"]))
        assert has_stable_input(pipeline) == (runner == "FlinkRunner")
        batches = pipeline | Stream().advance_watermark_to_infinity()
        _ = batches | "Write" >> WriteDataset(str(tmp_path), num_shards=1, window="fixed:1m")
        assert stable_steps(pipeline) == steps


def test_no_element_between_the_stages_of_a_stream_is_pickled(tmp_path):
    pipeline = beam.Pipeline("FlinkRunner", PipelineOptions(["--streaming"]))
    batches = pipeline | Stream().advance_watermark_to_infinity()
    _ = batches | "Write" >> WriteDataset(str(tmp_path), num_shards=1, window="fixed:1m", allowed_lateness="1m")
    proto = pipeline.to_runner_api()
    coders = {proto.components.pcollections[name].coder_id for name in proto.components.pcollections}
    fallbacks = [name for name in coders if "FastPrimitivesCoder" in name or "Pickle" in name]
    own = {
        collection.unique_name: collection.coder_id
        for collection in proto.components.pcollections.values()
        if collection.coder_id in fallbacks
    }
    allowed = ("Once", "Reshuffle", "TestStream", "FailOnRejected")
    assert not [name for name in own if not any(part in name for part in allowed)], own
