"""Which window of processing time takes what comes, and when it ends; streams that end anywhere: test_resume.py."""

import dataclasses

import pytest

from penstock.io.beam.coverage import InputRange, ReadMark, ReadPositions
from penstock.io.beam.json_coder import JsonCoder
from penstock.io.beam.windows import FlushWindows
from penstock.io.dataset.windowed.arrivals import ReadArrival, RejectsArrival, WrittenChunks
from penstock.io.dataset.windowed.chunks import KEPT_SECONDS, Chunk
from penstock.io.dataset.windowed.flush import FlushClock, FlushRules, FlushState, UsedChunks
from penstock.io.dataset.windowed.tasks import HeaderTask, RejectsTask, WriteTask
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError

SECOND = 1_000_000
RULES = FlushRules(FlushWindows(rows=10, every="30s"), splits=1, num_shards=2, run_id="r1")
READ = FlushState("r1", str(RULES), read=ReadPositions({"k": 0}))


def rows(first, last, path=None):
    """What the writer of a bundle gives: one chunk with the rows of some positions."""
    inputs = (InputRange("k", first, last, last - first + 1),)
    return WrittenChunks((Chunk(0, path or f"c{first}", inputs[0].rows, (), (0, 0), inputs),), inputs)


def rejects(*positions):
    inputs = (InputRange("k", min(positions), max(positions), len(positions)),)
    return RejectsArrival(DeadLetterFile(f"d{positions[0]}", len(positions), {}, {}, inputs=inputs))


def mark(start, stop, count=None):
    return ReadArrival(ReadMark({"k": (start, stop)}, {"k": stop - start if count is None else count}))


class Step:
    """A clock whose state goes through its coder between arrivals, as that of a runner does."""

    def __init__(self, rules=RULES, state=None):
        self.rules, self.state, self.bag, self.used = rules, state, [], []
        self.timers = {}

    def clock(self, now):
        state = self.state and JsonCoder(FlushState).decode(JsonCoder(FlushState).encode(self.state))
        return FlushClock(self.rules, state, int(now * SECOND))

    def take(self, arrival, now):
        clock = self.clock(now)
        chunks, tasks = clock.take(arrival)
        self.bag += chunks
        self.state = clock.state()
        self.timers |= clock.timers
        return clock.is_full, list(tasks)

    def end(self, now):
        """The header of the window that ends, or None."""
        clock = self.clock(now)
        tasks, self.used = clock.end(self.bag, self.used)
        self.state, self.bag = clock.state(), []
        return next((task.header for task in tasks if isinstance(task, HeaderTask)), None)


def test_a_window_takes_what_comes_until_it_is_full():
    step = Step()
    assert step.take(rows(0, 5), 1.5) == (False, [])
    assert step.take(rows(6, 8), 2.5) == (False, [])
    is_full, (task,) = step.take(rejects(9), 3.5)
    assert (is_full, type(task), task.window) == (True, RejectsTask, 1_500_000)
    header = step.end(3.5)
    assert (header.rows, header.rejects, header.final, header.end, header.number) == (9, 1, True, 3_500_000, 1)
    assert step.take(rows(10, 10), 4.5)[0] is False
    assert step.state.filling.start == 4_500_000


def test_a_window_is_old_so_long_after_its_first_rows():
    step = Step()
    step.take(rows(0, 0), 1.5)
    step.take(rows(1, 1), 9.5)
    assert step.timers == {"1500000": 31_500_000}
    assert step.clock(31.5).is_open("1500000")
    assert step.end(31.5).rows == 2
    assert not step.clock(32).is_open("1500000"), "its timer fires for a window that has ended"
    step.take(rows(2, 2), 32.5)
    assert not step.clock(32).is_open("1500000"), "its timer fires for another window"


@pytest.mark.parametrize(
    ("windows", "timers", "is_full"),
    [(FlushWindows(rows=3), {}, True), (FlushWindows(every="1s"), {"1500000": 2_500_000}, False)],
    ids=["rows", "every"],
)
def test_a_window_may_end_by_one_of_the_two(windows, timers, is_full):
    step = Step(dataclasses.replace(RULES, windows=windows))
    assert (step.take(rows(0, 2), 1.5)[0], step.timers) == (is_full, timers)


def test_each_shard_is_written_though_it_has_no_rows():
    step = Step()
    step.take(rejects(0), 1.5)
    tasks, _ = step.clock(2).end([], [])
    assert [(task.shard.split, task.shard.shard) for task in tasks if isinstance(task, WriteTask)] == [(0, 0), (0, 1)]


def test_nothing_ends_where_nothing_has_come():
    used = UsedChunks(1, 1, 1, ("a",))
    assert Step().clock(1).end([], [used]) == ((), (used,))


def test_the_parts_of_a_bundle_come_into_one_window():
    step = Step(state=READ)
    assert step.take(rows(0, 8), 1.5) == (False, [])
    assert step.take(mark(0, 11), 2.5) == (False, [])
    assert (step.bag, step.state.filling) == ([], None)
    is_full, (task,) = step.take(rejects(9, 10), 3.5)
    assert (is_full, task.window, len(step.bag)) == (True, 3_500_000, 1)
    header = step.end(3.5)
    assert header.covered == {"k": ((0, 11),)}
    assert (header.closing.resume_at, header.closing.last) == ({"k": 11}, {"k": 10})


def test_what_is_not_whole_is_read_again():
    step = Step(state=READ)
    step.take(rows(5, 9), 1.5)
    step.take(mark(0, 5), 1.5)
    step.take(rows(0, 4), 1.5)
    header = step.end(2)
    assert (header.rows, header.covered, header.closing.resume_at) == (5, {"k": ((0, 5),)}, {"k": 5})
    step.take(mark(5, 10), 3.5)
    header = step.end(4)
    assert (header.rows, header.covered, header.closing.number) == (5, {"k": ((5, 10),)}, 2)


def test_positions_without_rows_are_of_the_next_window():
    step = Step(state=READ)
    step.take(mark(0, 4, 0), 1.5)
    assert step.state.filling is None
    step.take(mark(4, 6), 1.5)
    step.take(rows(4, 5), 1.5)
    assert step.end(2).covered == {"k": ((0, 6),)}


def test_positions_that_another_window_has_are_left_out():
    step = Step(state=dataclasses.replace(READ, covered={"k": ((2, 4),)}, number=7, until=9 * SECOND))
    step.take(mark(0, 6), 1.5)
    step.take(WrittenChunks(rows(0, 1).chunks, (InputRange("k", 0, 5, 6),)), 1.5)
    header = step.end(2)
    assert (header.covered, header.number) == ({"k": ((0, 2), (4, 6))}, 8)
    assert header.end == 9_000_002, "windows follow each other, though the clock went back"


def test_where_nobody_knows_what_is_read_nothing_waits():
    step = Step()
    step.take(rows(0, 4), 1.5)
    assert len(step.bag) == 1
    header = step.end(2)
    assert (header.closing, header.covered) == (None, {})


def test_positions_that_begin_anew_end_the_waiting():
    step = Step(state=READ)
    step.take(rows(5, 9), 1.5)
    step.take(ReadArrival(ReadMark({}, {}, anew=("k",))), 2.5)
    assert (len(step.bag), step.end(3).closing) == (1, None)


def test_names_of_windows_sort_as_their_times():
    step, names = Step(), []
    for now in (1, 1.5, 1.5, 0, 2):
        step.take(rows(0, 0), now)
        names.append(RULES.windows.name(step.state.filling.start))
        step.end(now)
    assert names == sorted(set(names))
    assert names[0] == "19700101T000001.000001Z", "without a fraction, it would sort last"


def test_chunk_files_go_with_the_third_window_after_theirs_when_they_are_old():
    step = Step()
    swept = []
    for number in range(6):
        step.take(rows(number, number, f"c{number}"), 1.5 + number * KEPT_SECONDS / 2)
        swept.append(step.end(1.5 + number * KEPT_SECONDS / 2).swept)
    assert swept[:3] == [{}, {}, {}]
    assert [list(paths.values()) for paths in swept[3:]] == [[("c0",)], [("c1",)], [("c2",)]]
    step.take(rows(9, 9, "soon"), 1000)
    for _ in range(5):
        step.end(1000)
        step.take(rows(9, 9, "soon"), 1000)
    assert "soon" in [path for used in step.used for path in used.paths]


def test_another_job_does_not_go_on():
    state = dataclasses.replace(READ, rules="windows of processing time, 1 splits of 4 shards")
    with pytest.raises(DataError, match="had windows of processing time, 1 splits of 4 shards, this one has windows"):
        FlushClock(RULES, state, 0)


def test_windows_may_end_otherwise_in_a_job_that_goes_on():
    FlushClock(dataclasses.replace(RULES, windows=FlushWindows(rows=1)), READ, 0)
