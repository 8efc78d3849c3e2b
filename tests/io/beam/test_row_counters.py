import pickle

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter

from penstock.io.beam.row_counters import RowCounters


class _CountFn(beam.DoFn):
    def __init__(self):
        self._counters = RowCounters("ReadThings")

    def process(self, rows):
        self._counters.add(in_batches=1, in_rows=rows, bad_rows=0)
        self._counters.add_named({"warn-a_b": rows})


def test_counters_have_the_names_that_dashboards_ask_for():
    with beam.Pipeline() as pipeline:
        _ = pipeline | beam.Create([2, 3]) | beam.ParDo(_CountFn())
    found = pipeline.result.metrics().query(MetricsFilter().with_namespace("ReadThings"))["counters"]
    counts = {item.key.metric.name: item.result for item in found}
    assert counts == {"in-batches": 2, "in-rows": 5, "bad-rows": 0, "warn-a_b": 5}


def test_they_pickle():
    assert pickle.loads(pickle.dumps(RowCounters("A"))) == RowCounters("A")
