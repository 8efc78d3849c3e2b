import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from helpers import local_pipeline

from penstock.io.dead_letters.handler import BatchErrorHandler, rejected_batch
from penstock.io.errors import ConfigError
from penstock.io.reserved import SPLIT
from penstock.transforms import AssignSplit, SplitByColumn

BY_USE = SplitByColumn.parse("use:train,eval")


def test_ratios_or_another_kind():
    for options in ({}, {"ratios": {"train": 1}, "by": BY_USE}, {"key": ["a"], "by": BY_USE}):
        with pytest.raises(ConfigError, match="AssignSplit takes either ratios, with or without a key, or by"):
            AssignSplit(**options)


def a_batch():
    return pa.record_batch({"n": [0, 1, 2, 3], "use": ["train", "x", "eval", None]})


def created(pipeline, make):
    return pipeline | beam.Create([0]) | beam.Map(lambda _: make()).with_output_types(pa.RecordBatch)


def pairs(batch):
    return zip(batch.column("n").to_pylist(), batch.column(SPLIT).to_pylist(), strict=True)


def test_rows_without_a_split_are_rejected():
    with local_pipeline() as pipeline:
        batches = created(pipeline, a_batch)
        with BatchErrorHandler(beam.FlatMap(_of_letters)) as handler:
            assigned = batches | AssignSplit(by=BY_USE).with_error_handler(handler)
        assert_that(assigned | beam.FlatMap(pairs), equal_to([(0, "train"), (2, "eval")]))
        payloads = ('{"n": 1, "use": "x"}', '{"n": 3}')
        letters = equal_to([("split.value", "split", payload) for payload in payloads])
        assert_that(handler.output(), letters, label="Letters are these")


def _of_letters(rejected):
    return [(letter.reasons[0].code, letter.stage, letter.payload) for letter in rejected_batch(rejected)]


def test_a_batch_without_any_row_left_is_no_batch():
    with local_pipeline() as pipeline:
        batches = created(pipeline, lambda: a_batch()[1:2])
        with BatchErrorHandler(beam.FlatMap(_of_letters)) as handler:
            assert_that(batches | AssignSplit(by=BY_USE).with_error_handler(handler), equal_to([]))


def test_without_a_handler_the_first_of_them_fails_the_pipeline():
    pipeline = local_pipeline()
    _ = created(pipeline, a_batch) | AssignSplit(by=BY_USE)
    with pytest.raises(Exception, match=r"rejected by stage split: split.value: use is 'x'"):
        pipeline.run()
