"""Rolling features: against plain Python, on bounded input, on streams."""

import datetime
import pathlib
import random
import uuid

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_stream as beam_stream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from depth import scaled
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from rolling_rows import FEATURES, NAMES, ROLLING, ROWS, SECOND, SPEC, batch_of, expected, table
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import RecordBatchCoder, origin_array, set_column
from penstock.io.errors import ConfigError, DataError
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import Feature, Kind, schema_features
from penstock.transforms.rolling import transform
from penstock.transforms.rolling.file import parse_rolling
from penstock.transforms.rolling.rows import bind_rolling
from penstock.transforms.rolling.transform import RollingFeatures, rolling_features, rolling_history, rolling_schema

SCHEMA = """
feature { name: "card" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "amount" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "points" type: INT value_count { min: 1 max: 1 } }
feature { name: "merchant" type: BYTES }
"""


def a_row(time=0, card="a", amount=1.0, points=1, merchant="x"):
    return {"card": card, "time": round(time * SECOND), "amount": amount, "points": points, "merchant": merchant}


def features(rows, history=None):
    return rolling_features(history, batch_of(rows), ROLLING).select(NAMES).to_pydict()


def many_rows(count, seed=7):
    draw = random.Random(seed)
    return [
        a_row(
            draw.randrange(600) + draw.choice([0, 0.25]),
            f"card {draw.randrange(9)}" if draw.random() > 0.05 else None,
            draw.choice([None, round(draw.lognormvariate(3, 2), 2), 0.1]),
            draw.choice([None, draw.randrange(-9, 9)]),
            draw.choice([None, "x", "y", "z"]),
        )
        for _ in range(count)
    ]


@given(ROWS)
def test_features_are_those_of_plain_python(rows):
    assert table([rolling_features(None, batch_of(rows), ROLLING)]) == expected(rows)


@given(ROWS, st.randoms())
@settings(max_examples=scaled(40))
def test_the_order_of_arrival_does_not_matter(rows, order):
    shuffled = order.sample(rows, len(rows))
    results = [table([rolling_features(None, batch_of(some), ROLLING)]) for some in (rows, shuffled)]
    assert results[0] == results[1]


@given(ROWS, st.integers(0, 60))
@settings(max_examples=scaled(40))
def test_history_and_rows_give_what_all_rows_give(rows, second):
    old = [row for row in rows if row["time"] < second * SECOND]
    new = [row for row in rows if row["time"] >= second * SECOND]
    first = rolling_features(None, batch_of(old), ROLLING)
    second = rolling_features(rolling_history(batch_of(old), ROLLING), batch_of(new), ROLLING)
    assert table([first, second]) == expected(rows)


def test_a_window_ends_with_the_row_and_leaves_out_what_is_as_old_as_itself():
    found = features([a_row(0), a_row(9.999999), a_row(10), a_row(19.999998)])
    assert found["n"] == [1, 2, 2, 3]


def test_rows_keep_their_order_and_all_columns():
    batch = batch_of([a_row(5), a_row(1), a_row(3)])
    batch = set_column(batch, "_origin", origin_array("file", np.arange(3)))
    found = rolling_features(None, batch, ROLLING)
    assert found.select(batch.schema.names) == batch
    assert found.schema.names == [*batch.schema.names, *NAMES]
    assert found.column("n").to_pylist() == [3, 1, 2]


def test_rows_of_one_time_see_those_before_them_in_an_order_of_their_content():
    rows = [a_row(0, amount=amount) for amount in (1.0, 2.0, 4.0)]
    found = {tuple(row) for row in [features(rows)["total"], features(rows[::-1])["total"][::-1]]}
    assert len(found) == 1
    assert sorted(features(rows)["n"]) == [1, 2, 3]


def test_rows_that_differ_beyond_float32_have_one_order():
    rows = [a_row(0, amount=16777216.0), a_row(0, amount=16777217.0)]
    assert features(rows)["total"] == features(rows[::-1])["total"][::-1]


def test_nulls_are_left_out_of_values_and_counted_as_rows():
    found = features([a_row(0, amount=None, points=None, merchant=None), a_row(1, amount=3.0)])
    assert found["n"] == [1, 2]
    assert found["total"] == found["average"] == found["least"] == [None, 3.0]
    assert found["merchants"] == [0, 1]
    assert found["points_total"] == [None, 1]


def test_a_row_without_key_has_no_features():
    found = features([a_row(0, card=None), a_row(1, card=None), a_row(2)])
    assert found["n"] == [None, None, 1]
    assert found["merchants"][0] is None


def test_time_since_last_is_null_where_the_last_row_is_older_than_the_window():
    assert features([a_row(0), a_row(39.5), a_row(79.5)])["gap"] == [None, 39.5, None]


def test_an_integer_sum_beyond_int64_is_null():
    found = features([a_row(0, points=2**63 - 1), a_row(1, points=1), a_row(2, points=-2)])
    assert found["points_total"] == [2**63 - 1, None, 2**63 - 2]


def test_sums_of_what_is_not_finite():
    amounts = [1.0, float("inf"), float("-inf"), float("nan"), 1.0]
    found = features([a_row(second * 6, amount=amount) for second, amount in enumerate(amounts)])["total"]
    assert str(found) == "[1.0, inf, nan, nan, nan]"


def test_several_columns_as_key_and_numbers_as_key():
    spec = parse_rolling("rolling: {key: [card, points], window: 1m, features: {n: {op: count}}}")
    rolling = bind_rolling(spec, FEATURES)
    rows = [a_row(0, "a", points=1), a_row(1, "a", points=2), a_row(2, "a", points=1), a_row(3, None, points=1)]
    assert rolling_features(None, batch_of(rows), rolling).column("n").to_pylist() == [1, 1, 2, None]


def test_lists_of_one_value_stand_for_it_and_others_for_none():
    batch = batch_of([a_row(0), a_row(1), a_row(2)])
    lists = pa.array([[5.0], [1.0, 2.0], []], pa.list_(pa.float64()))
    batch = set_column(batch, "amount", lists)
    found = rolling_features(None, batch, ROLLING)
    assert found.column("average").to_pylist() == [5.0, 5.0, 5.0]


def test_an_absent_column_is_null_and_binary_is_text():
    rows = [a_row(0), a_row(1)]
    batch = batch_of(rows).drop_columns(["merchant", "points"])
    batch = set_column(batch, "card", batch.column("card").cast(pa.binary()))
    found = rolling_features(None, batch, ROLLING)
    assert found.column("merchants").to_pylist() == [0, 0]
    assert found.column("n").to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (batch_of([a_row()]).drop_columns([EVENT_TIME]), "need _event_time in every row; put AssignEventTime before"),
        (set_column(batch_of([a_row()]), "amount", pa.array(["x"])), "'amount' is string, and the schema says FLOAT"),
    ],
    ids=["no_time", "other_kind"],
)
def test_rows_that_cannot_be_computed(batch, message):
    with pytest.raises(DataError, match=message):
        rolling_features(None, batch, ROLLING)


def test_the_schema_of_what_comes_out():
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    found = schema_features(rolling_schema(schema, SPEC))
    by_name = {feature.name: feature for feature in found}
    assert [feature.name for feature in found] == ["card", "amount", "points", "merchant", *NAMES]
    assert by_name["n"] == Feature("n", Kind.INT, multivalued=False, required=True, complete=True)
    assert by_name["total"] == Feature("total", Kind.FLOAT, multivalued=False)
    assert by_name["points_total"].kind is Kind.INT


# Bounded input.


def rolled(pipeline_rows, tmp_path, **options):
    """The rows of bounded input with their features: batches as files, since they are compared out here."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create([RecordBatchCoder().encode(batch_of(rows)) for rows in pipeline_rows])
            | beam.Map(RecordBatchCoder().decode).with_output_types(pa.RecordBatch)
            | RollingFeatures(SPEC, FEATURES, **options)
            | beam.Map(save, str(out))
        )
    return [RecordBatchCoder().decode(path.read_bytes()) for path in out.iterdir()]


def save(batch, directory):
    pathlib.Path(directory, uuid.uuid4().hex).write_bytes(RecordBatchCoder().encode(batch))


@pytest.mark.parametrize("spilled", [False, True], ids=["runner", "files"])
def test_bounded_input_in_many_batches(tmp_path, spilled):
    rows = many_rows(400)
    parts = [rows[start : start + 37] for start in range(0, len(rows), 37)]
    options = {"spill": str(tmp_path / "spill"), "buckets": 3} if spilled else {}
    assert table(rolled(parts, tmp_path, **options)) == expected(rows)


def test_bounded_input_whose_batches_have_several_schemas(tmp_path):
    rows = many_rows(60)
    origin = origin_array("x", np.arange(20))
    batches = [batch_of(rows[:20]), set_column(batch_of(rows[20:40]), "_origin", origin), batch_of(rows[40:])]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        out = (
            pipeline
            | beam.Create([RecordBatchCoder().encode(batch) for batch in batches])
            | beam.Map(RecordBatchCoder().decode).with_output_types(pa.RecordBatch)
            | RollingFeatures(SPEC, FEATURES)
        )
        _ = out | beam.Map(save, str(tmp_path))
    found = [RecordBatchCoder().decode(path.read_bytes()) for path in tmp_path.iterdir()]
    assert table([batch.select([*batch_of([]).schema.names, *NAMES]) for batch in found]) == expected(rows)
    assert sum(batch.num_rows for batch in found if "_origin" in batch.schema.names) == 20


# Streams.


def stream(events):
    """A stream of lists of rows and watermarks in seconds."""
    test_stream = beam_stream.TestStream(coder=RecordBatchCoder()).with_output_types(pa.RecordBatch)
    for event in events:
        if isinstance(event, list):
            first = min(row["time"] for row in event) / SECOND
            test_stream = test_stream.add_elements([TimestampedValue(batch_of(event), first)])
        else:
            test_stream = test_stream.advance_watermark_to(event)
    return test_stream.advance_watermark_to_infinity()


@pytest.fixture
def timers_without_holds(monkeypatch):
    """What comes out is compared, not whether it is late: only Prism, which knows holds, can tell that."""

    def set_timer(timer, fires, holds):
        timer.set(Timestamp(micros=fires), dynamic_timer_tag=f"{holds}:{fires}")

    monkeypatch.setattr(transform, "set_holding_timer", set_timer)


def test_a_runner_that_would_drop_rows_as_late_is_refused():
    with pytest.raises(ConfigError, match=r"timers .* cannot hold the watermark, .*--runner=PrismRunner"):
        streamed([[a_row(1)]], lambda _: None)


def streamed(events, check, **options):
    with beam.Pipeline(runner=BundleBasedDirectRunner()) as pipeline:
        out = pipeline | stream(events) | RollingFeatures(SPEC, FEATURES, **options)
        assert_that(out, check)


def test_a_stream_gives_what_bounded_input_gives(timers_without_holds):
    rows = sorted(many_rows(300), key=lambda row: row["time"])
    order = random.Random(3)
    arrived = sorted(rows, key=lambda row: row["time"] / SECOND + order.uniform(0, 8))
    events = []
    for start in range(0, len(arrived), 25):
        events.append(arrived[start : start + 25])
        left = [row["time"] / SECOND for row in arrived[start + 25 :]]
        if min(left, default=0) > max((event for event in events if isinstance(event, float)), default=0):
            events.append(min(left))

    def check(batches):
        assert table(batches) == expected(rows)
        assert len(batches) > 5  # they did not all wait for the end

    streamed(events, check, buckets=2)


def test_a_late_row_sees_its_past_and_changes_nothing_that_went_out(timers_without_holds):
    late = parse_rolling("rolling: {key: card, window: 10s, features: {n: {op: count}, late: {op: late}}}")
    events = [[a_row(1), a_row(5)], 20.0, [a_row(4)], [a_row(9), a_row(21)], 40.0]

    def check(batches):
        found = [
            (row["_event_time"].timestamp(), row["n"], row["late"]) for batch in batches for row in batch.to_pylist()
        ]
        assert sorted(found) == [(1, 1, 0), (4, 2, 1), (5, 2, 0), (9, 4, 0), (21, 1, 0)]

    with beam.Pipeline(runner=BundleBasedDirectRunner()) as pipeline:
        assert_that(pipeline | stream(events) | RollingFeatures(late, FEATURES, lateness="20s"), check)


def test_windows_are_refused():
    batches = beam.Pipeline() | beam.Create([batch_of([])]) | beam.WindowInto(FixedWindows(60))
    with pytest.raises(ConfigError, match="takes batches in the global window"):
        _ = batches | RollingFeatures(SPEC, FEATURES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": "0s"}, "every must be at least 1ms"),
        ({"every": datetime.timedelta(microseconds=1500)}, "every must be at least 1ms .* in whole milliseconds, got"),
        ({"lateness": 20}, "lateness must be a duration, .* got 20"),
        ({"lateness": "soon"}, "a duration must be a whole number"),
    ],
    ids=["never", "micros", "negative", "text"],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RollingFeatures(SPEC, FEATURES, **options)


def test_windows_of_a_hundred_years_and_a_key_for_every_row():
    spec = parse_rolling("rolling: {key: points, window: 36500d, features: {n: {op: count}}}")
    rolling = bind_rolling(spec, FEATURES)
    century = 36500 * 86_400
    rows = [a_row(time, points=key) for key in range(3000) for time in (0, century - 1, 2 * century)]
    found = rolling_features(None, batch_of(rows), rolling).column("n").to_pylist()
    assert found == [1, 2, 1] * 3000
