"""A Kafka source bundle by bundle, as a runner runs it: with checkpoints in between, and when the test wants."""

import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.runners import sdf_utils
from apache_beam.utils.timestamp import Duration

from penstock.io.beam.coverage import MARKS, ReadMark
from penstock.io.dead_letters.handler import REJECTED
from penstock.io.kafka.offsets import resolve_offsets
from penstock.io.kafka.read import ReadFromKafka, group_partitions
from penstock.io.kafka.restriction import Spans, SpansCoder, SpansProvider, SpansTracker
from penstock.io.kafka.source import KafkaSource
from penstock.io.kafka.watermark import PartitionWatermarks

Row = dict[str, Any]


class Stream:
    """What a runner does with one group of partitions.

    Attributes:
      restriction: what is left, as of the last checkpoint; a test may turn it back.
      state: that of the watermark.
      watermark: the watermark after the last bundle.
      pause: seconds after which the group wants to go on.
      callbacks: those for bundles that are final.
      letters: all rejected batches.
      marks: what the bundles have read.
    """

    def __init__(self, transform: ReadFromKafka, group: int = 0) -> None:
        assert isinstance(transform.source, str)
        source = KafkaSource.parse(transform.source)
        self.fn = transform._read_fn(source)
        self.element = group_partitions(source, resolve_offsets(source))[group]
        self.restriction = SpansProvider().initial_restriction(self.element)
        self.state = PartitionWatermarks().initial_estimator_state(None, None)
        self.watermark: Any = None
        self.pause = 0.0
        self.callbacks: list[Callable[[], None]] = []
        self.letters: list[Any] = []
        self.marks: list[ReadMark] = []

    def register(self, callback: Callable[[], None]) -> None:
        """For the DoFn: this is its bundle finalizer."""
        self.callbacks.append(callback)

    def finalize(self) -> None:
        """All bundles are final."""
        for callback in self.callbacks:
            callback()

    def bundle(self, cut_after: int | None = None) -> list[Any]:
        """The elements of one bundle; state and restriction pass through their coders.

        `cut_after` so many elements, the runner takes a checkpoint of its own.
        """
        tracker = sdf_utils.ThreadsafeRestrictionTracker(SpansTracker(self.restriction))
        watermark = sdf_utils.ThreadsafeWatermarkEstimator(PartitionWatermarks().create_watermark_estimator(self.state))
        view = sdf_utils.RestrictionTrackerView(tracker)
        outputs, cut = [], None
        for output in self.fn.process(self.element, self, view, watermark):  # type: ignore[call-arg]
            outputs.append(output)
            if len(outputs) == cut_after:
                cut = tracker.try_split(0)
        tracker.check_done()
        left, pause = (cut[1], Duration(0)) if cut else tracker.deferred_status() or (Spans(()), Duration(0))
        self.restriction = SpansCoder().decode(SpansCoder().encode(left))
        coder = PartitionWatermarks().estimator_state_coder()
        self.state = coder.decode(coder.encode(watermark.get_estimator_state()))
        self.pause = pause.micros / 1e6
        self.watermark = watermark.current_watermark()
        tagged = [output for output in outputs if isinstance(output, beam.pvalue.TaggedOutput)]
        self.letters += [output.value.value for output in tagged if output.tag == REJECTED]
        self.marks += [output.value.value for output in tagged if output.tag == MARKS]
        return [output for output in outputs if not isinstance(output, beam.pvalue.TaggedOutput)]

    def until(self, condition: Callable[[list[Row]], object], seconds: float = 60) -> list[Row]:
        """The rows of bundles until a condition holds for all of them."""
        rows: list[Row] = []
        deadline = time.monotonic() + seconds
        while not condition(rows):
            assert time.monotonic() < deadline, f"nothing of the kind has happened: {len(rows)} rows"
            rows += [row for output in self.bundle() for row in output.value.to_pylist()]
        return rows

    def offsets(self) -> dict[tuple[str, int], int]:
        """What comes next."""
        return {(span.topic, span.partition): span.start for span in self.restriction.spans}
