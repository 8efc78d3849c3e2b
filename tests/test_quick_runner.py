import apache_beam as beam
import pytest
from apache_beam.runners.worker import statesampler
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import core, userstate
from quick_runner import quick_runner


class AddOne(beam.DoFn):
    def process(self, value, step=1):
        yield value + step


COUNT = beam.DoFn.StateParam(userstate.CombiningValueStateSpec("count", sum))


class Count(beam.DoFn):
    def process(self, item, count=COUNT):
        count.add(1)
        yield item[0], count.read()


def test_a_method_is_inspected_once(monkeypatch):
    asked = []
    real = core.get_function_args_defaults
    monkeypatch.setattr(
        core, "get_function_args_defaults", lambda method: (asked.append(method.__func__), real(method))[1]
    )
    with quick_runner():
        for dofn in (AddOne(), AddOne(), Count()):
            assert userstate.is_stateful_dofn(dofn) == isinstance(dofn, Count)
    assert beam.DoFn.display_data in asked
    assert len(asked) == len(set(asked))


def test_what_callers_do_to_an_answer_stays_with_them():
    with quick_runner():
        core.get_function_args_defaults(AddOne().process)[1].clear()
        assert core.get_function_args_defaults(AddOne().process) == (["value", "step"], [1])


def test_beam_is_as_before_afterwards():
    before = core.get_function_args_defaults, statesampler.StateSampler
    with pytest.raises(KeyError), quick_runner():
        raise KeyError
    assert (core.get_function_args_defaults, statesampler.StateSampler) == before


def test_lambdas_and_state_work_beside_each_other():
    with quick_runner(), beam.Pipeline("FnApiRunner") as pipeline:
        rows = pipeline | beam.Create(range(10)) | beam.ParDo(AddOne(), step=5)
        found = rows | beam.Map(lambda value: (value % 2, value)) | beam.ParDo(Count())
        largest = found | beam.CombinePerKey(max)
        assert_that(largest, equal_to([(0, 5), (1, 5)]))
