import inspect

import apache_beam as beam
import pytest
from apache_beam.runners.common import MethodWrapper
from apache_beam.transforms import core, userstate

from penstock.io.beam.local.overhead import less_overhead

TOTAL = beam.DoFn.StateParam(userstate.CombiningValueStateSpec("sum", beam.coders.VarIntCoder(), sum))


class AddFn(beam.DoFn):
    def process(self, element, key=beam.DoFn.KeyParam, total=TOTAL):
        yield element


class AddTwiceFn(AddFn):
    def process(self, element, *rest, window=beam.DoFn.WindowParam):
        yield element


def methods_of(*objects):
    return [getattr(each, name) for each in objects for name in dir(each) if inspect.isroutine(getattr(each, name))]


def test_arguments_are_those_that_beam_finds():
    methods = [*methods_of(AddFn(), AddTwiceFn(), core.CallableWrapperDoFn(lambda one, two=2: [one])), AddFn.process]
    expected = list(map(core.get_function_args_defaults, methods))
    with less_overhead():
        for _ in range(2):
            assert [core.get_function_args_defaults(method) for method in methods] == expected


def test_what_is_returned_may_be_changed():
    with less_overhead():
        first = core.get_function_arguments(AddFn(), "process")
        first[0].clear()
        first[1].clear()
        assert core.get_function_arguments(AddFn(), "process")[0] == ["element", "key", "total"]


def test_each_method_is_looked_at_once(monkeypatch):
    seen, beams = [], core.get_function_args_defaults
    monkeypatch.setattr(core, "get_function_args_defaults", lambda function: seen.append(function) or beams(function))

    class OnceFn(beam.DoFn):
        def process(self, element):
            yield element

        def own(self, one):
            pass

    with less_overhead():
        for _ in range(3):
            assert not userstate.is_stateful_dofn(OnceFn())
            assert MethodWrapper(OnceFn(), "own").args == ["one"]
            assert userstate.is_stateful_dofn(AddFn())
    assert [function.__name__ for function in seen if "OnceFn" in function.__qualname__] == ["own", "process"]


def test_beam_is_as_it_was_behind_the_last_run():
    beams = core.get_function_args_defaults
    with less_overhead():
        with pytest.raises(KeyError):
            fail_inside()
        assert core.get_function_args_defaults is not beams
    assert core.get_function_args_defaults is beams


def fail_inside():
    with less_overhead():
        raise KeyError
