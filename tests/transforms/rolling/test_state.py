"""The state of rolling features: restored at any moment, bounded, equal to what all rows at once give."""

import random

import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from rolling_rows import FEATURES, ROLLING, ROWS, SECOND, batch_of, expected, table

from penstock.io.batches import RecordBatchCoder, notes_of, with_notes
from penstock.io.beam.durations import ZERO, parse_duration
from penstock.io.reasons import Note
from penstock.transforms.rolling import state as _rolling_state
from penstock.transforms.rolling.file import parse_rolling
from penstock.transforms.rolling.rows import bind_rolling
from penstock.transforms.rolling.state import Bucket, Mark, State, send


class Cell:
    value = None

    def read(self):
        return self.value

    def write(self, value):
        self.value = value


class Bag:
    """Batches as Beam keeps them."""

    def __init__(self):
        self.encoded = []
        self.written = 0

    def read(self):
        return map(RecordBatchCoder().decode, self.encoded)

    def add(self, value):
        self.encoded.append(RecordBatchCoder().encode(value))
        self.written += value.num_rows

    def clear(self):
        self.encoded = []

    @property
    def rows(self):
        return sum(batch.num_rows for batch in self.read())


def rows_of(due, rolling=ROLLING):
    return list(send([due], rolling)) if due else []


def a_state():
    return State(Cell(), Bag(), Bag())


def a_row(time, card="a", amount=1.0):
    return {"card": card, "time": round(time * SECOND), "amount": amount, "points": 1, "merchant": "x"}


@pytest.fixture(autouse=True)
def small_state(monkeypatch):
    monkeypatch.setattr(_rolling_state, "_SMALL", 3)


def test_notes_of_a_batch_go_out_once_also_after_a_restart():
    state, out = a_state(), []
    noted = with_notes(batch_of([a_row(time) for time in range(8)]), [Note("left_out", "x", 8, "a list")])
    bucket = Bucket.load(state, ROLLING, ZERO)
    out += rows_of(bucket.add(noted, state))
    for until in (2, 5, 9):
        out += rows_of(bucket.release(until * SECOND, state))
        bucket = Bucket.load(state, ROLLING, ZERO)
    later = with_notes(batch_of([a_row(3), a_row(20)]), [Note("left_out", "x", 2, "a list")])
    out += rows_of(bucket.add(later, state)) + rows_of(bucket.release(30 * SECOND, state))
    assert sum(batch.num_rows for batch in out) == 10
    assert [note.count for batch in out for note in notes_of(batch)] == [8, 2]


@given(ROWS, st.randoms())
@settings(max_examples=scaled(25))
def test_any_arrival_before_the_watermark_gives_what_all_rows_at_once_give(rows, order):
    state, out = a_state(), []
    bucket = Bucket.load(state, ROLLING, ZERO)
    waiting = sorted(rows, key=lambda row: row["time"] + order.randrange(20 * SECOND))
    while waiting:
        count = order.randrange(1, 6)
        if order.random() < 0.3:
            bucket = Bucket.load(state, ROLLING, ZERO)
        out += rows_of(bucket.add(batch_of(waiting[:count]), state))
        waiting = waiting[count:]
        out += rows_of(bucket.release(min([row["time"] for row in waiting], default=61 * SECOND), state))
    assert table(out) == expected(rows)
    assert bucket.waits is None


@given(ROWS, ROWS)
@settings(max_examples=scaled(15))
def test_late_rows_within_the_lateness_see_all_that_came_before(rows, others):
    state = a_state()
    bucket = Bucket.load(state, ROLLING, parse_duration("60s"))
    bucket.add(batch_of(rows), state)
    bucket.release(60 * SECOND, state)
    seen = [row for row in rows if row["time"] < 60 * SECOND]
    for late in (row for row in others if row["time"] < 60 * SECOND):
        seen.append(late)
        (out,) = rows_of(bucket.add(batch_of([late]), state))
        assert table([out])[0] in expected(seen)


def test_rows_wait_until_they_are_released():
    state = a_state()
    bucket = Bucket.load(state, ROLLING, ZERO)
    assert bucket.add(batch_of([a_row(3), a_row(1), a_row(2)]), state) is None
    assert bucket.waits == (SECOND, 3 * SECOND)
    (out,) = rows_of(bucket.release(2 * SECOND, state))
    assert out.num_rows == 1
    assert Bucket.load(state, ROLLING, ZERO).waits == (2 * SECOND, 3 * SECOND)


def test_what_is_restored_knows_what_went_out():
    state = a_state()
    bucket = Bucket.load(state, ROLLING, ZERO)
    bucket.add(batch_of([a_row(1), a_row(50)]), state)
    bucket.release(20 * SECOND, state)
    restored = Bucket.load(state, ROLLING, ZERO)
    assert restored.mark == bucket.mark == Mark.from_bytes(state.mark.read())
    (late,) = rows_of(restored.add(batch_of([a_row(5)]), state))
    assert late.column("n").to_pylist() == [2]


def test_the_token_changes_with_every_change():
    state = a_state()
    bucket = Bucket.load(state, ROLLING, ZERO)
    tokens = {bucket.mark.token}
    for second in range(5):
        bucket.add(batch_of([a_row(second)]), state)
        tokens.add(bucket.mark.token)
        bucket.release(second * SECOND, state)
        tokens.add(bucket.mark.token)
    assert len(tokens) == 11


def test_state_is_bounded_by_the_windows():
    state = a_state()
    bucket = Bucket.load(state, ROLLING, ZERO)
    most = 0
    for second in range(90):
        bucket.add(batch_of([a_row(second, card=f"card {second % 7}") for _ in range(5)]), state)
        bucket.release((second - 3) * SECOND, state)
        most = max(most, state.history.rows)
        assert state.waiting.rows <= 2 * 4 * 5 + 3 + 5
    # 25 seconds of 5 rows each, and of those before up to 40 seconds the last of each key.
    live = 25 * 5 + 7
    assert live <= most <= 2 * live + 3 + 5
    assert state.history.written < 4 * 450
    assert state.waiting.written < 4 * 450


def test_only_the_last_row_of_a_key_is_kept_for_time_since_last():
    spec = parse_rolling(
        "rolling: {key: card, window: 1s, features: {gap: {op: time_since_last, window: 1h}, n: {op: count}}}"
    )
    rolling = bind_rolling(spec, FEATURES)
    state = a_state()
    bucket = Bucket.load(state, rolling, ZERO)
    draw = random.Random(5)
    for second in range(90):
        bucket.add(batch_of([a_row(second, card=f"card {draw.randrange(4)}") for _ in range(9)]), state)
        bucket.release(second * SECOND, state)
    assert state.history.rows < 40
    restored = Bucket.load(state, rolling, ZERO)
    restored.add(batch_of([a_row(1000, card="card 1")]), state)
    *_, last = rows_of(restored.release(1001 * SECOND, state), rolling)
    assert 900 <= last.column("gap")[last.num_rows - 1].as_py() < 960
