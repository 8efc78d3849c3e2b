import contextlib
from collections.abc import Iterator

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.worker import bundle_processor
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import core, ptransform, userstate
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.typehints import decorators
from quick_runner import quick_runner


class AddOne(beam.DoFn):
    def process(self, value, step=1):
        yield value + step


class Hinted(beam.DoFn):
    def process(self, value: int) -> Iterator[int]:
        yield value


COUNT = beam.DoFn.StateParam(userstate.CombiningValueStateSpec("count", sum))


class Count(beam.DoFn):
    def process(self, item, count=COUNT):
        count.add(1)
        yield item[0], count.read()


@pytest.mark.parametrize("quick", [False, True])
def test_a_type_hint_knows_where_it_was_given(quick):
    with quick_runner() if quick else contextlib.nullcontext():
        origin = beam.Map(str).with_output_types(int).get_type_hints().origin
    lines = [line for line in origin if "test_quick_runner.py" in line]
    assert lines
    assert "in test_a_type_hint_knows_where_it_was_given" in lines[0]


def test_annotations_of_a_method_are_read_once_and_those_of_functions_each_time(monkeypatch):
    asked = []
    real = decorators.IOTypeHints.from_callable
    monkeypatch.setattr(
        decorators.IOTypeHints, "from_callable", staticmethod(lambda each: (asked.append(each), real(each))[1])
    )
    with quick_runner():
        hints = [decorators.IOTypeHints.from_callable(Hinted().process) for _ in range(2)]
        for function in (str.upper, len):
            assert decorators.IOTypeHints.from_callable(function) == real(function)
        assert decorators.IOTypeHints.from_callable(AddOne().process) is None
    assert hints == [real(Hinted().process)] * 2
    assert [each.__name__ for each in asked] == ["process", "upper", "len", "process"]


def test_options_are_parsed_as_before_and_help_is_told():
    flags = ["--streaming", "--direct_num_workers=3", "--no_such_flag=1"]
    plain = PipelineOptions(flags).get_all_options(drop_default=True)
    with quick_runner():
        options = PipelineOptions(flags)
        assert options.get_all_options(drop_default=True) == plain
        assert options.view_as(DirectOptions).direct_num_workers == 3
        parser = pipeline_options._BeamArgumentParser(prog="job")
        DirectOptions._add_argparse_args(parser)
        assert "--direct_num_workers DIRECT_NUM_WORKERS" in parser.format_help()


def test_what_callers_do_to_an_answer_stays_with_them():
    with quick_runner():
        decorators.IOTypeHints.from_callable(Hinted().process).origin.clear()
        assert decorators.IOTypeHints.from_callable(Hinted().process).origin


def test_beam_is_as_before_afterwards():
    modules = (core, decorators, pipeline_options, decorators.IOTypeHints, PipelineOptions)
    modules += (pickler, bundle_processor, ptransform)
    before = [dict(vars(module)) for module in modules]
    with pytest.raises(KeyError), quick_runner():
        raise KeyError
    assert [dict(vars(module)) for module in modules] == before


def test_lambdas_and_state_work_beside_each_other():
    with quick_runner(), beam.Pipeline("FnApiRunner") as pipeline:
        rows = pipeline | beam.Create(range(10)) | beam.ParDo(AddOne(), step=5)
        found = rows | beam.Map(lambda value: (value % 2, value)) | beam.ParDo(Count())
        largest = found | beam.CombinePerKey(max)
        assert_that(largest, equal_to([(0, 5), (1, 5)]))


class Closes(beam.DoFn):
    def process(self, value, window=beam.DoFn.WindowParam):
        yield value, float(window.end)


def test_a_worker_knows_the_windows_of_each_step():
    with quick_runner(), beam.Pipeline("FnApiRunner") as pipeline:
        rows = pipeline | beam.Create(range(4)) | beam.Map(lambda value: TimestampedValue(value, value))
        for seconds, ends in ((2, [2, 2, 4, 4]), (3, [3, 3, 3, 6])):
            found = (
                rows | str(seconds) >> beam.WindowInto(FixedWindows(seconds)) | f"{seconds}s" >> beam.ParDo(Closes())
            )
            assert_that(found, equal_to(list(enumerate(ends))), label=f"of {seconds} s", reify_windows=False)
