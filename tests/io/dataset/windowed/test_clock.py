import dataclasses

import pytest
from apache_beam import coders
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.beam.coverage import InputRange, ReadMark
from penstock.io.beam.durations import ZERO, parse_duration
from penstock.io.beam.json_coder import JsonCoder
from penstock.io.beam.windows import parse_window
from penstock.io.dataset.windowed.arrivals import RejectsArrival, WrittenChunks
from penstock.io.dataset.windowed.chunks import Chunk, ChunkPart
from penstock.io.dataset.windowed.clock import ClockState, ClosingRules, KeptChunk, WindowClock
from penstock.io.dataset.windowed.close import close_bounded
from penstock.io.dataset.windowed.tasks import HeaderTask, RejectsTask, Task, TooLateTask, WriteTask
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError
from penstock.io.reasons import Note

SECOND = 1_000_000
TENS = parse_window("fixed:10s")


def rules_of(windows=TENS, lateness=20, empty_windows=False):
    return ClosingRules(windows, parse_duration(f"{lateness}s"), empty_windows, splits=1, num_shards=2, run_id="r1")


def chunk_of(window, rows=1, path="p", shard=0):
    parts = (ChunkPart(0, shard, 0, 7, rows),)
    return Chunk(window * SECOND, path, rows, parts, (7, 1), (InputRange("u", 0, rows, rows),))


def letters_of(path="d", time=None, **fields):
    return DeadLetterFile(path, 1, {"x": 1}, {"read": 1}, time, **fields)


def of(tasks, kind):
    """The tasks of a kind."""
    return [task for task in tasks if isinstance(task, kind)]


def test_the_header_of_a_pane_sums_the_notes_of_its_chunks():
    chunks = [dataclasses.replace(chunk_of(0, path=f"p{n}"), notes=(Note("c", "x", n, f"d{n}"),)) for n in (2, 1)]
    tasks = close_bounded(rules_of(), [WrittenChunks(tuple(chunks), ())])
    (header,) = of(tasks, HeaderTask)
    assert header.header.notes == (Note("c", "x", 3, "d1"),)
    coder = coders.registry.get_coder(Task)
    assert coder.decode(coder.encode(header)) == header


class Stream:
    """The clock as the DoFn runs it: state through its coder, timers fired in order when the watermark passes them."""

    def __init__(self, rules):
        self.rules = rules
        self.coder = JsonCoder(ClockState)
        self.state = None
        self.kept = []
        self.timers = {}
        self.tasks = []

    def clock(self):
        return WindowClock(self.rules, None if self.state is None else self.coder.decode(self.state))

    def save(self, clock):
        for tag, micros in clock.timers.items():
            assert tag not in self.timers or tag == "end"
            self.timers[tag] = micros
        self.state = self.coder.encode(clock.state())

    def add(self, *chunks):
        for chunk in chunks:
            clock = self.clock()
            pane = clock.take(chunk)
            if pane is None:
                self.tasks.append(clock.file_too_late(chunk))
            else:
                self.kept.append(KeptChunk(pane, chunk))
            self.tasks += clock.file_unfiled()
            self.save(clock)
        return self

    def reject(self, letters):
        clock = self.clock()
        self.tasks += clock.file_rejects(letters)
        self.tasks += clock.file_unfiled()
        self.save(clock)
        return self

    def at(self, seconds):
        for tag, micros in sorted(self.timers.items(), key=lambda timer: timer[1]):
            if micros <= seconds * SECOND:
                del self.timers[tag]
                clock = self.clock()
                tasks, self.kept = clock.fire(tag, self.kept)
                self.tasks += tasks
                self.save(clock)
        return self

    def end(self):
        return self.at(1 << 50)

    def panes(self):
        """(start, pane) -> rows, in the order in which they close."""
        found = [(task.window // SECOND, task.pane, task.header.rows) for task in of(self.tasks, HeaderTask)]
        assert len({(start, pane) for start, pane, _ in found}) == len(found)
        return found

    def rejects(self):
        return [task.window // SECOND for task in of(self.tasks, TooLateTask | RejectsTask)]


def test_rows_are_on_time_late_and_too_late():
    stream = Stream(rules_of()).add(chunk_of(0, 10)).at(12).add(chunk_of(0, 4)).at(15).add(chunk_of(0, 2), chunk_of(30))
    stream.at(29).add(chunk_of(0, 2)).at(35).add(chunk_of(0, 5), chunk_of(10, 6)).end()
    assert stream.panes()[:3] == [(0, "on_time", 10), (0, "late", 8), (10, "on_time", 0)]
    assert set(stream.panes()[3:]) == {(10, "late", 6), (30, "on_time", 1), (30, "late", 0)}
    assert stream.rejects() == [30]
    assert stream.coder.decode(stream.state).windows == {}


def test_pane_on_time_has_all_shards_and_the_late_one_those_with_rows():
    stream = Stream(rules_of()).add(chunk_of(0, shard=1)).at(10).add(chunk_of(0, shard=1, path="q")).end()
    shards = [
        (task.pane, task.shard.shard, [part.path for part in task.shard.parts])
        for task in stream.tasks
        if isinstance(task, WriteTask)
    ]
    assert shards == [("on_time", 0, []), ("on_time", 1, ["p"]), ("late", 1, ["q"])]
    headers = [task.header for task in of(stream.tasks, HeaderTask)]
    assert [(header.shards, header.final, header.run_id) for header in headers] == [(2, False, "r1"), (1, True, "r1")]
    assert headers[0].inputs == (InputRange("u", 0, 1, 1),)


def test_without_lateness_the_pane_on_time_is_final():
    stream = Stream(rules_of(lateness=0)).add(chunk_of(0)).at(10).add(chunk_of(0)).end()
    assert stream.panes() == [(0, "on_time", 1), (10, "on_time", 0)]
    assert [task.header.final for task in of(stream.tasks, HeaderTask)] == [True, True]
    assert stream.rejects() == [10]


def test_headers_count_the_rejects_of_their_window():
    stream = Stream(rules_of()).add(chunk_of(0)).reject(letters_of("a", 3 * SECOND)).reject(letters_of("b"))
    stream.reject(letters_of("c", 25 * SECOND)).at(10).reject(letters_of("d", 3 * SECOND)).end()
    assert stream.rejects() == [0, 0, 20, 10]
    counts = {
        task.window // SECOND: task.header.rejects
        for task in stream.tasks
        if isinstance(task, HeaderTask) and task.pane == "on_time"
    }
    assert counts == {0: 2, 10: 1, 20: 1}


def test_rejects_are_foreign_to_all_windows_but_their_own():
    stream = Stream(rules_of()).add(chunk_of(0)).at(25)
    times = [time * SECOND for time in (0, 20, 29, 40)]
    for time in times:
        stream.reject(letters_of(time=time, dated=True))
    stream.reject(letters_of(time=0)).reject(letters_of(time=40 * SECOND, foreign=True))
    filed = [(task.window // SECOND, task.rejects.foreign) for task in of(stream.tasks, RejectsTask)]
    assert filed == [(10, True), (20, False), (20, False), (40, False), (10, False), (40, True)]


def test_a_reject_of_an_open_window_that_slides_is_filed_in_it():
    stream = Stream(rules_of(parse_window("sliding:20s/10s"))).add(chunk_of(-10)).at(10)
    stream.reject(letters_of(time=9 * SECOND, dated=True))
    assert [(task.window // SECOND, task.rejects.foreign) for task in of(stream.tasks, RejectsTask)] == [(0, False)]


def test_rejects_before_any_time_wait_for_it():
    stream = Stream(rules_of()).reject(letters_of("a")).reject(letters_of("b"))
    assert stream.rejects() == []
    assert stream.add(chunk_of(50)).rejects() == [50, 50]
    assert stream.end().panes() == [(50, "on_time", 1), (50, "late", 0)]


def test_rejects_of_a_stream_without_any_time_are_in_a_window_at_its_end():
    stream = Stream(rules_of()).reject(letters_of("a"))
    assert stream.end().panes() == [(0, "on_time", 0)]
    assert [(task.header.rejects, task.header.final) for task in of(stream.tasks, HeaderTask)] == [(1, True)]


@pytest.mark.parametrize(
    ("starts", "filled"),
    [
        ([0, 30], [0, 10, 20, 30]),
        ([30, 0], [0, 10, 20, 30]),
        ([0, 20, 10], [0, 10, 20]),
        ([20, 0, 40], [0, 10, 20, 30, 40]),
        ([0, 10_000_000, 10, 10_000_010], [0, 10, 10_000_000, 10_000_010]),
    ],
    ids=str,
)
def test_empty_windows_lie_between_those_with_rows(starts, filled):
    stream = Stream(rules_of(empty_windows=True)).add(*(chunk_of(start) for start in starts)).end()
    assert sorted(start for start, pane, _ in stream.panes() if pane == "on_time") == filled
    bounded = close_bounded(rules_of(empty_windows=True), [WrittenChunks((chunk_of(start),), ()) for start in starts])
    assert [task.window // SECOND for task in of(bounded, HeaderTask)] == filled


def test_windows_that_closed_are_not_filled_again():
    stream = Stream(rules_of(empty_windows=True)).add(chunk_of(100)).at(115).add(chunk_of(60)).at(120).add(chunk_of(90))
    stream.end()
    assert sorted(start for start, pane, _ in stream.panes() if pane == "on_time") == [100, 110, 120]
    assert stream.rejects() == [110, 120]


@given(
    st.lists(st.tuples(st.integers(-5, 20), st.integers(1, 3), st.booleans(), st.integers(0, 15)), max_size=25),
    st.sampled_from([0, 10, 25]),
    st.booleans(),
    st.sampled_from(["fixed:10s", "sliding:20s/10s"]),
)
def test_every_row_and_reject_is_in_one_pane(events, lateness, empty_windows, window):
    stream = Stream(rules_of(parse_window(window), lateness, empty_windows))
    watermark = rows = rejects = 0
    for start, count, is_reject, step in events:
        if is_reject:
            stream.reject(letters_of(time=start * 10 * SECOND if count > 1 else None))
            rejects += 1
        else:
            stream.add(chunk_of(start * 10, count))
            rows += count
        watermark += step
        stream.at(watermark)
    stream.end()
    panes = stream.panes()
    too_late = [task.too_late for task in of(stream.tasks, TooLateTask)]
    assert sum(count for _, _, count in panes) + sum(chunk.rows for chunk in too_late) == rows
    assert sum(task.header.rejects for task in of(stream.tasks, HeaderTask)) == rejects + len(too_late)
    assert not stream.kept
    closed = {start: index for index, (start, pane, _) in enumerate(panes) if pane == "on_time"}
    headers = [task for task in of(stream.tasks, HeaderTask)]
    for task in stream.tasks:
        if isinstance(task, TooLateTask | RejectsTask):
            header = headers[closed[task.window // SECOND]]
            assert stream.tasks.index(task) < stream.tasks.index(header)


def test_a_pane_does_not_cover_what_waits_for_a_later_one():
    """With a lateness of two windows, the end of one is that of the lateness of another, whose timer fires first."""
    clock = WindowClock(dataclasses.replace(rules_of(), initial=ClockState("r1", str(rules_of()))), None)
    early, late = (
        dataclasses.replace(chunk_of(20, 2), inputs=(InputRange("u", first, first + 1, 2),)) for first in (0, 2)
    )
    kept = [KeptChunk(clock.take(early), early)]
    clock.take(chunk_of(0))
    clock.fire("close 0", ())
    clock.fire("final 0", ())
    kept.append(KeptChunk(clock.take(late), late))
    assert [one.pane for one in kept] == ["on_time", "late"]
    clock.read(ReadMark({"u": (0, 4)}, {"u": 4}, began={"u": 0}))
    clock.come([*early.inputs, *late.inputs])
    tasks, left = clock.fire(f"close {20 * SECOND}", kept)
    (on_time,) = of(tasks, HeaderTask)
    assert on_time.header.covered == {"u": ((0, 2),)}
    assert on_time.header.closing.resume_at == {"u": 2}
    tasks, _ = clock.fire(f"final {20 * SECOND}", left)
    (final,) = of(tasks, HeaderTask)
    assert (final.header.covered, final.header.closing.resume_at) == ({"u": ((0, 4),)}, {"u": 4})


def test_a_row_joins_the_last_pane_of_its_window_until_that_closes():
    """The timer of another window may be of the same moment and fire first: the pane would cover what it lacks."""
    clock = WindowClock(rules_of(), None)
    clock.take(chunk_of(0))
    clock.fire("close 0", ())
    clock.take(chunk_of(20))
    clock.fire(f"close {20 * SECOND}", ())
    assert clock.take(chunk_of(0)) == "late"
    clock.fire("final 0", ())
    assert clock.take(chunk_of(0)) is None


def test_a_row_of_a_window_that_was_published_before_any_time_passed_goes_to_the_next():
    """An earlier start has published it for good, and nothing before it."""
    rules = dataclasses.replace(rules_of(), initial=ClockState("r1", str(rules_of()), sealed=(20 * SECOND,)))
    clock = WindowClock(rules, None)
    assert clock.take(chunk_of(20)) is None
    assert clock.file_too_late(chunk_of(20)).window == 30 * SECOND


def test_state_holds_references_and_no_rows():
    stream = Stream(rules_of()).add(*(chunk_of(0, 10**6, path=str(i)) for i in range(1000)))
    assert len(stream.state) < 300
    assert max(len(JsonCoder(KeptChunk).encode(kept)) for kept in stream.kept) < 300


def test_state_does_not_grow_with_rows_that_steps_of_others_drop():
    clock = WindowClock(rules_of(), None)
    for start in range(0, 10_000, 10):
        clock.read(ReadMark({"u": (start, start + 10)}, {"u": 10}))
        clock.come([InputRange("u", start, start + 5, 5)])
    assert len(JsonCoder(ClockState).encode(clock.state())) < 200


def test_a_run_that_goes_on_keeps_the_name_of_the_first():
    stream = Stream(rules_of()).add(chunk_of(0))
    stream.rules = dataclasses.replace(rules_of(), run_id="r2", empty_windows=True)
    assert next(task.header.run_id for task in stream.end().tasks if isinstance(task, HeaderTask)) == "r1"


@pytest.mark.parametrize(
    "change", [{"lateness": ZERO}, {"num_shards": 3}, {"windows": parse_window("fixed:5s")}], ids=str
)
def test_a_run_that_goes_on_with_other_rules_is_refused(change):
    stream = Stream(rules_of()).add(chunk_of(0))
    stream.rules = dataclasses.replace(rules_of(), **change)
    with pytest.raises(DataError, match="had fixed:10s with lateness 20s, 1 splits of 2 shards, this one has fixed:"):
        stream.add(chunk_of(0))


def test_bounded_input_is_on_time_and_its_order_does_not_matter():
    arrivals = [WrittenChunks((chunk_of(start, path=path),), ()) for start, path in ((30, "b"), (0, "c"), (30, "a"))]
    arrivals += [RejectsArrival(letters_of("x", 14 * SECOND)), RejectsArrival(letters_of("y"))]
    tasks = list(close_bounded(rules_of(), arrivals))
    assert tasks == list(close_bounded(rules_of(), arrivals[::-1]))
    headers = [(task.window // SECOND, task.header.rows, task.header.rejects) for task in of(tasks, HeaderTask)]
    assert headers == [(0, 1, 1), (10, 0, 1), (30, 2, 0)]
    assert all(task.header.final for task in of(tasks, HeaderTask))
