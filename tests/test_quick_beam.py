import argparse

from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, StandardOptions
from quick_beam import quick_beam


def test_flags_are_parsed_once_for_each_class_of_options(monkeypatch):
    parsed = []
    real = argparse.ArgumentParser.parse_known_args
    monkeypatch.setattr(
        argparse.ArgumentParser, "parse_known_args", lambda *args: (parsed.append(args[1]), real(*args))[1]
    )
    flags = ["--streaming", "--experiments=a"]
    with quick_beam():
        options = PipelineOptions(flags)
        for _ in range(3):
            assert options.view_as(StandardOptions).streaming
            assert options.view_as(DebugOptions).experiments == ["a"]
    assert parsed == [flags] * 3, "those of the options themselves, and of two views"


def test_views_of_the_same_options_share_their_values_and_no_others():
    with quick_beam():
        one, other = PipelineOptions(["--experiments=a"]), PipelineOptions(["--experiments=a"])
        one.view_as(DebugOptions).add_experiment("b")
        one.view_as(StandardOptions).view_as(DebugOptions).add_experiment("c")
        assert one.view_as(DebugOptions).experiments == ["a", "b", "c"]
        assert other.view_as(DebugOptions).experiments == ["a"]
    assert one.view_as(DebugOptions).experiments == ["a", "b", "c"]


def test_beam_is_as_before_afterwards():
    before = PipelineOptions.view_as
    with quick_beam():
        assert PipelineOptions.view_as is not before
    assert PipelineOptions.view_as is before
