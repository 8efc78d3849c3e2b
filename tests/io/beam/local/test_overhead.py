import inspect
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.runners.common import MethodWrapper
from apache_beam.runners.worker import statecache, statesampler
from apache_beam.transforms import core, userstate
from apache_beam.utils.counters import CounterFactory

from penstock.io.beam.local import overhead
from penstock.io.beam.local.overhead import less_overhead

TOTAL = beam.DoFn.StateParam(userstate.CombiningValueStateSpec("sum", beam.coders.VarIntCoder(), sum))


class AddFn(beam.DoFn):
    def process(self, element, key=beam.DoFn.KeyParam, total=TOTAL):
        yield element


class AddTwiceFn(AddFn):
    def process(self, element, *rest, window=beam.DoFn.WindowParam):
        yield element


@pytest.fixture(autouse=True)
def beam_as_it_is(monkeypatch):
    """Beam without what the other tests run with."""
    for (module, name, _), original in zip(overhead._REPLACED, overhead._beams, strict=overhead._inside > 0):
        monkeypatch.setattr(module, name, original)
    monkeypatch.setattr(overhead, "_inside", 0)
    monkeypatch.setattr(overhead, "_beams", [])


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
        userstate.get_dofn_specs(AddFn())[0].clear()
        assert userstate.is_stateful_dofn(AddFn())


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


def test_a_class_is_asked_once_for_its_state_and_a_method_for_its_own(monkeypatch):
    asked, beams = [], userstate.get_dofn_specs
    monkeypatch.setattr(userstate, "get_dofn_specs", lambda dofn: asked.append(type(dofn)) or beams(dofn))
    own = core.DoFn()
    own.process = AddFn().process
    with less_overhead():
        for _ in range(2):
            assert userstate.get_dofn_specs(AddFn())[0] == {TOTAL.state_spec}
            assert not userstate.is_stateful_dofn(core.DoFn())
            assert userstate.is_stateful_dofn(own)
            assert not userstate.is_stateful_dofn(beam.Map(str).fn)
            assert userstate.is_stateful_dofn(beam.FlatMap(AddFn().process).fn)
    assert [asked.count(kind) for kind in (AddFn, core.DoFn)] == [1, 3]


def test_what_is_packed_can_be_read_by_any_beam():
    values = {"a": [1, 2]}, {"large": bytes(overhead._KEPT_BYTES)}
    texts = [pickler.dumps(value) for value in values]
    with less_overhead():
        for value, text in zip(values, texts, strict=True):
            assert [pickler.dumps(value) for _ in range(2)] == [text, text]
            assert pickler.loads(text) == pickler.loads(text) == value
            assert pickler.loads(text) is not pickler.loads(text)
    assert [pickler.loads(text) for text in texts] == list(values)


def test_what_is_packed_is_not_unpacked_by_each_worker(monkeypatch):
    unpacked, decompress = [], overhead.bz2.decompress
    monkeypatch.setattr(overhead.bz2, "decompress", lambda data: unpacked.append(data) or decompress(data))
    with less_overhead():
        text = pickler.dumps({"a": [1, 2]})
        assert len(unpacked) == 1, "by the job, before there are workers"
        assert pickler.loads(text) == {"a": [1, 2]}
    assert len(unpacked) == 1


def test_a_bundle_ends_soon():
    with less_overhead():
        assert statesampler.StateSampler("step", CounterFactory()).sampling_period_ms == 10
        assert statesampler.StateSampler("step", CounterFactory(), sampling_period_ms=7).sampling_period_ms == 7
    assert statesampler.StateSampler("step", CounterFactory()).sampling_period_ms == 200


class Kept(statecache.CacheAware):
    def get_referents_for_cache(self):
        return [bytes(5)]


@pytest.mark.parametrize("value", [[(b"key", [1, 2.5])] * 9, {"run": Kept()}, [overhead, len, AddFn().process]])
def test_a_side_input_is_as_large_as_beam_says(monkeypatch, value):
    expected = statecache.get_deep_size(value)
    with less_overhead():
        monkeypatch.setattr("objsize.traverse._iter_modules_globals", lambda: pytest.fail("looked at modules"))
        assert statecache.get_deep_size(value) == expected > 0


def test_an_objsize_that_knows_no_globals_is_called_as_beam_calls_it(monkeypatch):
    def get_deep_size(*values, get_size_func, get_referents_func, filter_func):  # as objsize 0.6.1 has it
        return 8 * len(values)

    monkeypatch.setattr(statecache, "objsize", SimpleNamespace(get_deep_size=get_deep_size))
    with less_overhead():
        assert statecache.get_deep_size(1, 2) == 16


def test_beam_is_as_it_was_behind_the_last_run():
    def of_beam():
        return [getattr(module, name) for module, name, _ in overhead._REPLACED]

    beams = of_beam()
    with less_overhead():
        with pytest.raises(KeyError):
            fail_inside()
        assert not any(now is before for now, before in zip(of_beam(), beams, strict=True))
    assert of_beam() == beams


def fail_inside():
    with less_overhead():
        raise KeyError
