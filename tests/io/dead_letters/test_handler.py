import collections
import decimal
import json
import math

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import ErrorHandler
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import origin_array
from penstock.io.beam.windows import parse_window
from penstock.io.dead_letters import handler as handler_module
from penstock.io.dead_letters.handler import (
    REJECTED,
    DeadLetterHandler,
    DiscardingHandler,
    RejectingTransform,
    reject,
    split_rejected,
)
from penstock.io.dead_letters.payloads import row_payload, row_payloads
from penstock.io.dead_letters.record import (
    DeadLetter,
    DeadLetterCoder,
    RejectedBatch,
    RejectedBatchCoder,
    raw_letter,
    row_letters,
)
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME, ORIGIN

BAD = (Reason("schema.type", "x is not a number"), Reason("rule.x", "x > 1"))


@pytest.mark.parametrize(
    ("payload", "text", "encoding"),
    [(b"7,x", "7,x", "text"), ("señal".encode(), "señal", "text"), (b"\xff\x00", "/wA=", "base64"), (b"", "", "text")],
)
def test_raw_payload_is_text_where_it_is_utf8_else_base64(payload, text, encoding):
    letter = raw_letter(BAD, "read", "a.csv", 12, payload)
    assert (letter.payload, letter.payload_encoding) == (text, encoding)


def test_letter_round_trips_as_json_and_keeps_all_reasons():
    letter = raw_letter(BAD, "read", "a.csv", 12, b"7,\xc3\xb1,9")
    line = letter.to_json("run-1")
    assert json.loads(line)["reason"] == "schema.type"
    assert json.loads(line)["also"] == [{"reason": "rule.x", "detail": "x > 1"}]
    assert json.loads(line)["run_id"] == "run-1"
    assert DeadLetter.from_json(line) == letter
    assert DeadLetterCoder().decode(DeadLetterCoder().encode(letter)) == letter


def test_row_payload_is_json_that_can_be_read_back():
    row = {"i": 2**63 - 1, "f": float("nan"), "g": float("-inf"), "n": None, "b": b"\xff", "t": b"ok", "l": [1.5, None]}
    assert json.loads(row_payload(row)) == {
        "i": 2**63 - 1, "f": "NaN", "g": "-Infinity", "b": {"base64": "/w=="}, "t": "ok", "l": [1.5, None]
    }  # fmt: skip


def test_row_letters_name_place_time_and_row():
    batch = pa.record_batch(
        {
            "x": pa.array([1, 2, 3]),
            ORIGIN: origin_array("a.csv", np.array([0, 10, 20])),
            EVENT_TIME: pa.array([None, 1_500_000, 0], pa.timestamp("us", "UTC")),
        }
    )
    late, early = row_letters(batch, {2: BAD[:1], 1: BAD}, "validate")
    assert (late.uri, late.position, late.payload, late.reasons) == ("a.csv", 10, '{"x": 2}', BAD)
    assert late.event_time is not None
    assert late.event_time.startswith("1970-01-01T00:00:01.5")
    assert (early.position, early.payload, early.payload_encoding) == (20, '{"x": 3}', "json")


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([1], pa.timestamp("s")), "1970-01-01T00:00:01"),
        (pa.array([10**15], pa.timestamp("s")), 10**15),
        (pa.array([10**18 + 1], pa.timestamp("ns", "UTC")), None),
        (pa.array([[10**15, None]], pa.list_(pa.timestamp("s"))), [10**15, None]),
        (pa.array([1], pa.date32()), "1970-01-02"),
        (pa.array([decimal.Decimal("1.50")]), "1.50"),
        (pa.array([{"a": [1]}]), {"a": [1]}),
    ],
)
def test_values_that_json_does_not_know_are_kept(column, text):
    (letter,) = row_letters(pa.record_batch({"x": column}), {0: BAD}, "validate")
    value = json.loads(letter.payload)["x"]
    assert value == text or (text is None and (value == 10**18 + 1 or value.startswith("2001-09-09T01:46:40.0")))


texts = st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(['"', "\\", "\n\x00\x7f\u2028é😀"])
letters = st.builds(
    DeadLetter,
    reasons=st.lists(st.builds(Reason, texts, texts), min_size=1, max_size=3).map(tuple),
    stage=st.sampled_from(["read", "validate"]),
    uri=texts,
    position=st.integers(-1, 2**63 - 1),
    payload=texts,
    payload_encoding=st.sampled_from(["text", "base64", "json"]),
    attempt=st.integers(1, 5),
    event_time=st.none() | texts,
    payload_columns=st.none() | texts,
)


@given(st.lists(letters, max_size=5), texts)
def test_a_batch_of_letters_is_what_they_are_one_by_one(found, run_id):
    batch = RejectedBatch.of(found)
    crossed = RejectedBatchCoder().decode(RejectedBatchCoder().encode(batch))
    for same in (batch, RejectedBatch(batch.letters), crossed, RejectedBatch(crossed.letters.slice(0))):
        assert (list(same), len(same)) == (found, len(found))
        assert same.json_lines(run_id) == [letter.to_json(run_id) for letter in found]
        assert same.reason_counts() == collections.Counter(
            c for each in found for c in {one.code for one in each.reasons}
        )
        assert same.stage_counts() == collections.Counter(letter.stage for letter in found)
        assert same.letters.equals(batch.letters)
    assert list(RejectedBatch(crossed.letters[1:])) == found[1:]


@given(st.lists(st.none() | st.floats(), min_size=1), st.lists(st.none() | st.binary(max_size=3), min_size=1))
def test_columns_of_payloads_are_rows_of_payloads(numbers, content):
    size = min(len(numbers), len(content))
    batch = pa.record_batch({'x"': pa.array(numbers[:size], pa.float64()), "b": pa.array(content[:size], pa.binary())})
    assert row_payloads(batch) == [row_payload(row) for row in batch.to_pylist()]


def test_rejected_rows_are_one_element_and_none_without_any():
    found = raw_letter(BAD, "read", "a.csv", 12, b"7")
    assert [list(output.value) for output in reject([found, found])] == [[found, found]]
    assert list(reject([])) == []
    assert list(reject(row_letters(pa.record_batch({"x": [1]}), {}, "read"))) == []


class _RejectOddFn(beam.DoFn):
    def process(self, number):
        if number % 2:
            yield beam.pvalue.TaggedOutput(REJECTED, raw_letter(BAD, "test", "n", number, str(number).encode()))
        else:
            yield number


class RejectOdd(RejectingTransform):
    def expand(self, numbers):
        good, rejected = split_rejected(numbers | beam.ParDo(_RejectOddFn()).with_outputs(REJECTED, main="out"))
        rejected.element_type = DeadLetter
        self._reject(rejected)
        return good


def test_without_a_handler_the_first_bad_record_fails_the_pipeline():
    with (
        pytest.raises(Exception, match=r"n at 1, rejected by stage test: schema.type: x is not a number; rule.x"),
        beam.Pipeline(runner=FnApiRunner()) as pipeline,
    ):
        _ = pipeline | beam.Create([0, 1]) | RejectOdd()


def test_beams_own_error_handler_gets_dead_letters():
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        with ErrorHandler(beam.Map(lambda letter: letter.position)) as handler:
            good = pipeline | beam.Create([0, 1, 2, 3]) | RejectOdd().with_error_handler(handler)
        assert_that(good, equal_to([0, 2]), label="good")
        assert_that(handler.output(), equal_to([1, 3]), label="bad")


class _RejectBatchFn(beam.DoFn):
    def process(self, batch):
        yield from reject(row_letters(batch, {0: BAD, 2: BAD[:1]}, "test"))
        yield batch


class RejectRows(RejectingTransform):
    def expand(self, batches):
        good, rejected = split_rejected(batches | beam.ParDo(_RejectBatchFn()).with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return good


def test_beams_own_error_handler_gets_the_letters_of_a_batch_one_by_one():
    batch = pa.record_batch({"x": pa.array([1, 2, 3])})
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        with ErrorHandler(beam.Map(lambda letter: (letter.payload, len(letter.reasons)))) as handler:
            _ = pipeline | beam.Create([batch]) | RejectRows().with_error_handler(handler)
        assert_that(handler.output(), equal_to([('{"x": 1}', 2), ('{"x": 3}', 1)]))


def test_without_a_handler_the_first_row_of_a_batch_fails_the_pipeline():
    with (
        pytest.raises(Exception, match=r"a record at -1, rejected by stage test: schema.type: x is not a number"),
        beam.Pipeline(runner=FnApiRunner()) as pipeline,
    ):
        _ = pipeline | beam.Create([pa.record_batch({"x": pa.array([1, 2, 3])})]) | RejectRows()


def test_files_hold_every_rejected_record_of_every_transform(tmp_path):
    handler = DeadLetterHandler(str(tmp_path), "run-1")
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        numbers = pipeline | beam.Create([0, 1, 2, 3])
        _ = numbers | "First" >> RejectOdd().with_error_handler(handler)
        _ = numbers | "Second" >> RejectOdd().with_error_handler(handler)
        handler.close()
        handler.close()
        counts = handler.output() | beam.Map(lambda file: (file.records, file.reasons, file.stages))
        expected = (2, {"schema.type": 2, "rule.x": 2}, {"test": 2})
        assert_that(counts, equal_to([expected, expected]))
    lines = [line for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(json.loads(line)["position"] for line in lines) == [1, 1, 3, 3]
    assert {json.loads(line)["run_id"] for line in lines} == {"run-1"}


def test_no_rejecting_transform_means_no_files(tmp_path):
    handler = DeadLetterHandler(str(tmp_path), "run-1")
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        good = pipeline | beam.Create([0]) | RejectOdd().with_error_handler(handler)
        handler.close()
        assert_that(good, equal_to([0]), label="good")
        assert_that(handler.output(), equal_to([]), label="files")
    assert not list(tmp_path.iterdir())


def test_discarding_handler_drops_rejects():
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        good = pipeline | beam.Create([0, 1]) | RejectOdd().with_error_handler(DiscardingHandler())
        assert_that(good, equal_to([0]))


def test_a_row_is_the_same_json_whatever_its_columns_are():
    batch = pa.record_batch(
        {
            "n": pa.array([2**53 + 1, None, -1]),
            "x": pa.array([math.nan, None, 1.5]),
            "t": pa.array(["ü", None, ""]),
            "b": pa.array([b"\xff", None, b"a"]),
            "narrow": pa.array([1, None, 3], pa.int8()),
            "list": pa.array([[1, None], None, []]),
        }
    )
    letters = row_letters(batch, {row: [Reason("r", "d")] for row in range(3)}, "test")
    assert [letter.payload for letter in letters] == [row_payload(row) for row in batch.to_pylist()]


def files_of(letters, windows=None):
    """The files of one bundle, by their time: records, and whether they are dated and foreign."""
    fn = handler_module._WriteDeadLettersFn("memory", "run", parse_window("fixed:60s") if windows is None else windows)
    fn.start_bundle()
    early = list(fn.process(RejectedBatch.of(letters), Timestamp(30)))
    files = [item.value for item in [*early, *fn.finish_bundle()]]
    return [(file.time // 1_000_000, file.records, file.dated, file.foreign) for file in files]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(handler_module.stores, "join", lambda _, name: str(tmp_path / name))


def letter_at(time, code="schema.type"):
    return DeadLetter((Reason("x", ""), Reason(code, "")), "read", "u", 0, "", "text", event_time=time)


def test_letters_are_filed_by_their_time_unless_it_lies_in_the_future(folder):
    times = ["1970-01-01T00:02:01Z", "1970-01-01T00:02:59.5Z", None, "1970-01-01T00:00:00Z"]
    letters = [*map(letter_at, times), letter_at("2999-01-01T00:00:00Z", "future")]
    assert files_of(letters) == [
        (120, 2, True, False),
        (30, 1, False, False),
        (0, 1, True, False),
        (30, 1, False, True),
    ]


def test_letters_of_more_windows_than_files_are_filed_by_their_time_all_the_same(folder):
    minutes = [*range(40), 0]
    letters = [letter_at(f"1970-01-01T00:{minute:02d}:00Z") for minute in minutes]
    found = files_of(letters)
    assert sorted(found) == [(60 * minute, 1 + (minute == 0), True, False) for minute in range(40)]
