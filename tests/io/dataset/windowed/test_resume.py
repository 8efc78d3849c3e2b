"""Streams that go on from their windows: a model of reader, clock and publication that may end at any moment."""

import collections
import dataclasses
import itertools
import json
import pathlib
import zlib

import numpy as np
import pytest
from depth import scaled

from penstock.io.beam.coverage import InputRange, ReadMark, ReadPositions, contains, merge_ranges, without
from penstock.io.beam.durations import parse_duration
from penstock.io.beam.json_coder import JsonCoder
from penstock.io.beam.windows import FlushWindows, parse_window
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.manifest import PublishedDeadLetters
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed.arrivals import Arrival, ReadArrival, RejectsArrival, WrittenChunks
from penstock.io.dataset.windowed.chunks import Chunk
from penstock.io.dataset.windowed.clock import ClockState, ClosingRules, KeptChunk, WindowClock
from penstock.io.dataset.windowed.flush import FlushClock, FlushRules, FlushState, UsedChunks
from penstock.io.dataset.windowed.manifest import Closing, WindowManifest, read_window_manifests, window_manifest_path
from penstock.io.dataset.windowed.resume import (
    PublishedClosings,
    Resumption,
    StreamFile,
    _own_closings,
    check_generation,
    check_settings,
    find_point,
)
from penstock.io.dataset.windowed.seal import SealingRules
from penstock.io.dataset.windowed.shards import HeaderReport, RejectsReport
from penstock.io.dataset.windowed.tasks import HeaderTask, RejectsTask, TooLateTask
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import ConfigError, DataError

SECOND = 1_000_000
TENS = parse_window("fixed:10s")
SETTINGS = {"num_shards": 1, "window": "fixed:10s"}


@dataclasses.dataclass(frozen=True)
class Event:
    """An event of a partition; a `bad` one is rejected."""

    seconds: int
    bad: bool


class Model:
    """A stream of two partitions, and what is published of it: (partition, offset) -> how often.

    It stands for the pipeline, without the files of rows: a chunk is the events of a bundle that lie in one window.
    """

    def __init__(self, output: pathlib.Path, events: dict[str, list[Event]], lateness: int):
        self.output, self.events = str(output), events
        self.rules = ClosingRules(TENS, parse_duration(f"{lateness}s"), False, splits=1, num_shards=1, run_id="r1")
        self.sealing = SealingRules(TENS, DatasetSpec(self.output, num_shards=1, window=TENS, max_reject_fraction=1.0))
        self.published: collections.Counter[tuple[str, int]] = collections.Counter()
        self.files = 0
        self.start()

    def start(self) -> None:
        """Starts or goes on; what was not published is gone."""
        point = find_point(self.output, SETTINGS)
        began = {uri: 0 if point is None else point.resume_at.get(uri, 0) for uri in self.events}
        resumption = Resumption.begin(point, "r1", SETTINGS, began)
        resumption.start(Staging(self.output, "r1"))
        self.begin(resumption)
        self.seen = resumption.seen(self.output)
        self.state: bytes | None = None
        self.timers: dict[str, int] = {}
        self.kept: list[KeptChunk] = []
        self.offsets = dict(began)
        self.waiting: list[Arrival | DeadLetterFile | ReadMark] = []
        self.filed: dict[int, list[DeadLetterFile]] = {}
        self.rows: dict[str, list[tuple[str, int]]] = {}
        self.sealed: list[tuple[int, HeaderReport, list[RejectsReport], list[tuple[str, int]]]] = []

    def begin(self, resumption: Resumption) -> None:
        self.rules = dataclasses.replace(self.rules, initial=resumption.initial(self.rules))

    def clock(self) -> WindowClock:
        return WindowClock(self.rules, self.state and JsonCoder(ClockState).decode(self.state))

    def save(self, clock: WindowClock) -> None:
        self.timers |= clock.timers
        self.state = JsonCoder(ClockState).encode(clock.state())

    def name(self) -> str:
        self.files += 1
        return f"f{self.files}"

    def read(self, uri: str, count: int) -> None:
        """A bundle: its mark, chunks and dead letters are on their way, each by itself."""
        start = self.offsets[uri]
        stop = min(start + count, len(self.events[uri]))
        if start == stop:
            return
        self.offsets[uri] = stop
        good = {offset for offset in range(start, stop) if not self.events[uri][offset].bad}
        bad = set(range(start, stop)) - good
        chunks = []
        for window in {self.window(uri, offset) for offset in good}:
            own = sorted(offset for offset in good if self.window(uri, offset) == window)
            if self.seen is not None:
                covered, letters = self.seen.covered.get(window, {}), self.seen.letters
                known = contains(covered.get(uri, ()), np.array(own)) | letters.contains(uri, np.array(own))
                own = [offset for offset, is_known in zip(own, known, strict=True) if not is_known]
            if own:
                name = self.name()
                self.rows[name] = [(uri, offset) for offset in own]
                chunks.append(Chunk(window, name, len(own), (), (0, 0), (range_of(uri, own),)))
        if good:
            self.waiting.append(WrittenChunks(tuple(chunks), (range_of(uri, good),)))
        if bad:
            is_new = (
                bad if self.seen is None else {x for x in bad if not self.seen.letters.contains(uri, np.array([x]))[0]}
            )
            file = DeadLetterFile(self.name() if is_new else "", len(is_new), {}, {"read": len(is_new)})
            self.rows[file.path] = [(uri, offset) for offset in sorted(is_new)]
            self.waiting.append(dataclasses.replace(file, inputs=(range_of(uri, bad),)))
        self.waiting.append(ReadMark({uri: (start, stop)}, {uri: stop - start}))

    def window(self, uri: str, offset: int) -> int:
        return TENS.latest(self.events[uri][offset].seconds * SECOND)

    def arrive(self, index: int) -> None:
        """One of those on their way arrives, in any order."""
        if not self.waiting:
            return
        clock = self.clock()
        match self.waiting.pop(index % len(self.waiting)):
            case WrittenChunks(chunks, inputs):
                for chunk in chunks:
                    pane = clock.take(chunk)
                    if pane is None:
                        task = clock.file_too_late(chunk)
                        assert isinstance(task, TooLateTask)
                        self.file(task.window, DeadLetterFile(chunk.path, chunk.rows, {}, {"write": chunk.rows}))
                    else:
                        self.kept.append(KeptChunk(pane, chunk))
                clock.come(inputs)
            case DeadLetterFile() as letters:
                for task in clock.file_rejects(letters) if letters.path else ():
                    self.file(task.window, letters)
                clock.come(letters.inputs)
            case ReadMark() as mark:
                clock.read(mark)
        for task in clock.file_unfiled():
            self.file(task.window, task.rejects)
        self.save(clock)

    def file(self, window: int, letters: DeadLetterFile) -> None:
        self.filed.setdefault(window, []).append(letters)

    def pass_time(self, seconds: int, most: int | None = None) -> None:
        """Panes close that end by then, `most` of them, and at one moment in any order; they are not published yet."""
        timers = sorted(self.timers.items(), key=lambda timer: (timer[1], zlib.crc32(f"{timer} {self.files}".encode())))
        for tag, micros in timers[:most]:
            if micros > seconds * SECOND:
                continue
            del self.timers[tag]
            clock = self.clock()
            before = self.kept
            tasks, self.kept = clock.fire(tag, before)
            self.save(clock)
            own = [kept.chunk for kept in before if kept not in self.kept]
            for task in tasks:
                if isinstance(task, RejectsTask):  # at the end of a stream without any time
                    self.file(task.window, task.rejects)
            header = next((task for task in tasks if isinstance(task, HeaderTask)), None)
            if header is None:
                continue
            letters = self.filed.pop(header.window, []) if header.pane == "on_time" else []
            rows = [row for chunk in own for row in self.rows[chunk.path]]
            report = HeaderReport(header.pane, header.header)
            self.sealed.append((header.window, report, [RejectsReport("on_time", file) for file in letters], rows))

    def publish(self, index: int) -> None:
        """One of the panes that have closed is published, a late one after the one on time."""
        panes = [index % len(self.sealed)] if self.sealed else []
        for place in panes:
            window, report, letters, rows = self.sealed[place]
            if report.pane == "late" and any(other[0] == window for other in self.sealed[:place]):
                return
            del self.sealed[place]
            path = pathlib.Path(window_manifest_path(self.output, self.sealing.windows.name(window)))
            before = WindowManifest.read(str(path))
            reports = [report, *letters]
            if report.pane == "late" and not report.header.is_continued:
                # As sealing would, which keeps the reports of the pane on time.
                report = HeaderReport("late", dataclasses.replace(report.header, is_continued=True))
                reports = [report]
            plain = dataclasses.replace(report.header, rows=0)  # there are no shards
            manifest = self.sealing.seal(window, [HeaderReport(report.pane, plain), *reports[1:]]).manifest
            check_generation(self.output, manifest)
            assert before is None or before.sequence < manifest.sequence
            name = f"dead_letters/{window}.jsonl"
            places = [row for letter in letters for row in self.rows[letter.rejects.path]]
            if places:
                target = pathlib.Path(self.output, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text("".join(json.dumps({"uri": uri, "position": at}) + "\n" for uri, at in places))
                manifest = dataclasses.replace(manifest, dead_letters=(PublishedDeadLetters(name, len(places)),))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(manifest.to_json())
            self.published.update([*rows, *places])

    def end(self) -> None:
        """Everything is read, arrives, closes and is published."""
        for uri in self.events:
            self.read(uri, 1_000)
        while self.waiting:
            self.arrive(0)
        self.pass_time(1 << 50)
        while self.sealed:
            self.publish(0)


class FlushModel(Model):
    """The same with windows of processing time; at each start other events may be bad."""

    def __init__(self, output: pathlib.Path, events: dict[str, list[Event]], rows: int | None, seconds: int | None):
        self.now = 0
        self.windows = FlushWindows(rows, None if seconds is None else f"{seconds}s")
        self.flush = FlushRules(self.windows, splits=1, num_shards=1, run_id="r1")
        super().__init__(output, events, lateness=0)
        spec = DatasetSpec(self.output, num_shards=1, window=self.windows, max_reject_fraction=1.0)
        self.sealing = SealingRules(self.windows, spec)

    def begin(self, resumption: Resumption) -> None:
        self.flush = dataclasses.replace(self.flush, initial=resumption.initial_flush(self.flush))
        self.events = {uri: [Event(0, not one.bad) for one in some] for uri, some in self.events.items()}
        self.bag: list[Chunk] = []
        self.used: list[UsedChunks] = []

    def flush_clock(self) -> FlushClock:
        state = self.state and JsonCoder(FlushState).decode(self.state)
        return FlushClock(self.flush, state or None, self.now * SECOND)

    def window(self, uri: str, offset: int) -> int:
        return 0

    def arrive(self, index: int) -> None:
        if not self.waiting:
            return
        match self.waiting.pop(index % len(self.waiting)):
            case DeadLetterFile() as letters:
                arrival: Arrival = RejectsArrival(letters)
            case ReadMark() as mark:
                arrival = ReadArrival(mark)
            case WrittenChunks() as arrival:
                pass
        clock = self.flush_clock()
        chunks, tasks = clock.take(arrival)
        self.bag += chunks
        for task in tasks:
            self.file(task.window, task.rejects)
        if clock.is_full:
            self.end_window(clock)
        self.timers |= clock.timers
        self.state = JsonCoder(FlushState).encode(clock.state())

    def end_window(self, clock: FlushClock) -> None:
        tasks, self.used = clock.end(self.bag, self.used)
        rows = [row for chunk in self.bag for row in self.rows[chunk.path]]
        self.bag = []
        for task in tasks:
            if isinstance(task, HeaderTask):
                letters = [RejectsReport("on_time", file) for file in self.filed.pop(task.window, [])]
                assert len(letters) == task.header.rejects
                self.sealed.append((task.window, HeaderReport("on_time", task.header), letters, rows))

    def pass_time(self, seconds: int) -> None:
        self.now = max(seconds, self.now)
        for tag, micros in sorted(self.timers.items()):
            if micros <= self.now * SECOND:
                del self.timers[tag]
                clock = self.flush_clock()
                if clock.is_open(tag):
                    self.end_window(clock)
                    self.state = JsonCoder(FlushState).encode(clock.state())

    def end(self) -> None:
        for uri in self.events:
            self.read(uri, 1_000)
        while self.waiting:
            self.arrive(0)
        clock = self.flush_clock()
        self.end_window(clock)
        while self.sealed:
            self.publish(0)


def range_of(uri, offsets):
    return InputRange(uri, min(offsets), max(offsets), len(offsets))


def test_each_event_is_published_once_wherever_the_stream_was_killed(tmp_path):
    for seed in range(scaled(100)):
        random = np.random.default_rng(seed)
        steps = [random.choice(["read", "arrive", "close", "publish", "start"], p=STEPS) for _ in range(150)]
        made = {uri: events(random) for uri in ("k/0", "k/1")}
        model = Model(tmp_path / str(seed), made, lateness=int(random.choice([0, 15, 20])))
        for number, step in enumerate(steps):
            match step:
                case "read":
                    model.read(random.choice(["k/0", "k/1"]), int(random.integers(1, 6)))
                case "arrive":
                    model.arrive(int(random.geometric(0.7)) - 1)
                case "close":
                    # Others may arrive between two timers that are due.
                    model.pass_time(number - int(random.integers(0, 40)), int(random.geometric(0.3)))
                case "publish":
                    model.publish(int(random.geometric(0.7)) - 1)
                case "start":
                    model.start()
        model.end()
        everything = [(uri, offset) for uri in made for offset in range(len(made[uri]))]
        assert model.published == collections.Counter(everything), f"seed {seed}"
        assert all(window.final for window in read_window_manifests(model.output))


def test_each_event_is_in_one_window_of_processing_time_wherever_the_stream_was_killed(tmp_path):
    for seed in range(scaled(100)):
        random = np.random.default_rng(seed)
        steps = [random.choice(["read", "arrive", "close", "publish", "start"], p=STEPS) for _ in range(150)]
        made = {uri: events(random) for uri in ("k/0", "k/1")}
        rows, age = random.choice(np.array([(10, 5), (10, None), (None, 5)], object))
        model = FlushModel(tmp_path / str(seed), made, rows, age)
        for step in steps:
            match step:
                case "read":
                    model.read(random.choice(["k/0", "k/1"]), int(random.integers(1, 6)))
                case "arrive":
                    model.arrive(int(random.geometric(0.7)) - 1)
                case "close":
                    model.pass_time(model.now + int(random.integers(0, 10)))
                case "publish":
                    model.publish(int(random.geometric(0.5)) - 1)
                case "start":
                    model.start()
        model.end()
        everything = collections.Counter((uri, offset) for uri in made for offset in range(len(made[uri])))
        assert model.published == everything, f"seed {seed}"
        windows = list(read_window_manifests(model.output))
        assert all(before.window[1] <= after.window[0] for before, after in itertools.pairwise(windows))
        spans = [(uri, *span) for window in windows for uri, ranges in window.covered.items() for span in ranges]
        covered = [(uri, offset) for uri, start, stop in spans for offset in range(start, stop)]
        assert collections.Counter(covered) == everything, f"seed {seed}"


STEPS = (0.3, 0.4, 0.1, 0.17, 0.03)


def events(random):
    """Events of 100 s, one in ten of them up to 40 s late, one in twenty rejected."""
    count = int(random.integers(20, 100))
    late = np.where(random.random(count) < 0.1, random.integers(0, 40, count), random.integers(0, 4, count))
    seconds = np.sort(random.integers(0, 100, count)) - late
    return [Event(int(at), bool(bad)) for at, bad in zip(seconds, random.random(count) < 0.05, strict=True)]


def started(folder, generation=1, **settings):
    """The folder of a stream that has been started so often."""
    file = StreamFile("r1", generation, "2026-01-01T00:00:00Z", {**SETTINGS, **settings}, {"k/0": 5})
    assert file.write(Staging(str(folder), "r1"), replaces=0)
    return str(folder)


def test_a_stream_that_published_nothing_begins_where_it_began(tmp_path):
    point = find_point(started(tmp_path), SETTINGS)
    assert (point.resume_at, point.generation, point.clock, point.windows) == ({"k/0": 5}, 2, None, ())


def test_an_empty_folder_has_no_stream(tmp_path):
    assert find_point(str(tmp_path), SETTINGS) is None


def test_other_settings_are_refused_with_both_values(tmp_path):
    output = started(tmp_path, num_shards=4)
    with pytest.raises(ConfigError, match="num_shards was 4, is now 1; go on with those that were, or"):
        find_point(output, SETTINGS)


def one_window(folder):
    """A stream with one window that is published."""
    model = Model(folder, {"k/0": [Event(1, False)], "k/1": []}, 0)
    model.end()
    return model


def test_windows_of_another_release_are_refused(tmp_path):
    one_window(tmp_path)
    (tmp_path / "stream.json").unlink()
    with pytest.raises(ConfigError, match=r"has windows, and no stream\.json that says how far"):
        find_point(str(tmp_path), SETTINGS)


OF_WINDOW = {
    "window": "fixed:10s",
    "num_shards": 1,
    "splits": ["train"],
    "output_format": "tfrecord",
    "compression": "gzip",
    "seed": 0,
}


@pytest.mark.parametrize(
    ("flags", "change", "difference"),
    [
        ({}, {"num_shards": 4}, "num_shards was 1, is now 4"),
        ({}, {"window": "flush"}, "window was fixed:10s, is now flush"),
        ({}, {"splits": ["eval", "train"]}, r"splits was \['train'\], is now \['eval', 'train'\]"),
        ({}, {"compression": "none"}, "compression was gzip, is now none"),
        ({}, {"output_format": "parquet"}, "output_format was tfrecord, is now parquet"),
        ({}, {"seed": 1}, "seed was 0, is now 1"),
        ({"split": "train=1"}, {}, "split_hash was 1, is now 2"),
        ({"folds": 3, "split_hash": 2}, {"split_hash": 1}, "split_hash was 2, is now 1"),
    ],
)
def test_a_window_says_the_settings_of_a_stream_of_another_release(tmp_path, flags, change, difference):
    one_window(tmp_path)
    (tmp_path / "stream.json").unlink()
    now = {**OF_WINDOW, "split_hash": 2, "schema": "x"}
    check_settings(str(tmp_path), now)
    (window,) = read_window_manifests(str(tmp_path))
    path = pathlib.Path(window_manifest_path(str(tmp_path), window.name))
    path.write_text(dataclasses.replace(window, provenance={"options": flags}).to_json())
    with pytest.raises(ConfigError, match=rf"holds a stream with other settings: {difference}; go on with those"):
        check_settings(str(tmp_path), now | change)


def test_windows_of_processing_time_say_their_settings(tmp_path):
    model = FlushModel(tmp_path, {"k/0": [Event(1, False)], "k/1": []}, 9, None)
    model.end()
    (tmp_path / "stream.json").unlink()
    check_settings(str(tmp_path), {**OF_WINDOW, "window": "flush"})
    with pytest.raises(ConfigError, match="window was flush, is now fixed:10s"):
        check_settings(str(tmp_path), OF_WINDOW)


def test_nothing_says_settings_where_nothing_is(tmp_path):
    check_settings(str(tmp_path), OF_WINDOW)


def test_windows_that_do_not_say_what_they_cover_are_refused(tmp_path):
    one_window(tmp_path)
    (window,) = read_window_manifests(str(tmp_path))
    path = pathlib.Path(window_manifest_path(str(tmp_path), window.name))
    path.write_text(dataclasses.replace(window, closings=()).to_json())
    with pytest.raises(ConfigError, match="window 19700101T000000Z_19700101T000010Z does not say which positions"):
        find_point(str(tmp_path), SETTINGS)


def test_a_damaged_stream_file_is_named(tmp_path):
    (tmp_path / "stream.json").write_text("{}")
    with pytest.raises(DataError, match=r"stream\.json: does not describe a stream"):
        StreamFile.read(str(tmp_path))


def test_a_stream_file_of_a_newer_release_is_refused(tmp_path):
    path = pathlib.Path(started(tmp_path)) / "stream.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(DataError, match="version must be 1, got 2: a newer Penstock wrote it"):
        find_point(str(tmp_path), SETTINGS)


def test_of_two_starts_at_once_one_is_refused(tmp_path):
    output = started(tmp_path)
    point = find_point(output, SETTINGS)
    Resumption.begin(point, "r2", SETTINGS, {"k/0": 5}).start(Staging(output, "r2"))
    with pytest.raises(ConfigError, match="another job starts this stream, too"):
        Resumption.begin(point, "r3", SETTINGS, {"k/0": 5}).start(Staging(output, "r3"))


def test_an_earlier_start_publishes_nothing_more(tmp_path):
    model = Model(tmp_path, {"k/0": [Event(1, False)], "k/1": []}, 0)
    model.read("k/0", 1)
    while model.waiting:
        model.arrive(0)
    model.pass_time(100)
    point = find_point(model.output, SETTINGS)
    Resumption.begin(point, "r2", SETTINGS, {"k/0": 0}).start(Staging(model.output, "r2"))
    with pytest.raises(DataError, match="is not published: the stream has been started again at 20"):
        model.publish(0)


def test_closings_count_once_those_before_them_are_there():
    one, two, three = (Closing(1, number, 0, {"k": number}) for number in (1, 2, 3))
    state, last = PublishedClosings().add(two)
    assert last is None
    state, last = state.add(three)
    assert last is None
    coder = JsonCoder(PublishedClosings)
    state, last = coder.decode(coder.encode(state)).add(one)
    assert last == three
    assert state == PublishedClosings(3, {})
    assert state.add(two) == (state, None), "it comes again with a later version of its window"


def test_closings_of_panes_that_are_published_at_once_count_both(tmp_path):
    """A start that goes on with the window has closings of its own."""
    window = next(read_window_manifests(one_window(tmp_path).output))
    numbers = [(1, 7), (2, 3), (2, 5)]
    manifest = dataclasses.replace(window, closings=tuple(Closing(*number, 0, {"k": 0}) for number in numbers))
    assert [closing.number for _, closing in _own_closings(manifest)] == [3, 5]


def test_what_is_read_is_known_in_any_order():
    mark = ReadMark({"k": (0, 10)}, {"k": 7})
    rows = InputRange("k", 0, 4, 3), InputRange("k", 5, 9, 4)
    for before, after in (((), rows), (rows[:1], rows[1:]), (rows, ())):
        read = ReadPositions({"k": 0}).come(before).mark(mark)
        assert (read.whole == {"k": ((0, 10),)}) == (not after)
        assert read.come(after).reached() == {"k": 10}


def test_rows_of_several_bundles_in_one_cannot_be_told_apart():
    read = ReadPositions({"k": 0}).mark(ReadMark({"k": (0, 5)}, {"k": 5})).mark(ReadMark({"k": (5, 9)}, {"k": 4}))
    assert not read.come([InputRange("k", 0, 8, 9)]).is_known
    assert not read.come([InputRange("k", 0, 4, 6)]).is_known


def test_positions_that_begin_anew_are_known_no_more():
    read = ReadPositions({"k": 0}).mark(ReadMark({"k": (0, 5)}, {"k": 0}))
    assert read.reached() == {"k": 5}
    assert read.mark(ReadMark({}, {}, anew=("k",))) == ReadPositions(is_known=False)


def test_ranges():
    assert merge_ranges([(0, 5), (5, 7), (9, 9), (8, 12), (10, 11)]) == ((0, 7), (8, 12))
    assert (np.flatnonzero(contains(((0, 7), (8, 12)), np.arange(-1, 14))) - 1).tolist() == [*range(7), *range(8, 12)]
    assert not contains((), np.arange(3)).any()


@pytest.mark.parametrize(
    ("holes", "left"),
    [
        ((), ((2, 9), (12, 15))),
        (((0, 2), (9, 12), (15, 20)), ((2, 9), (12, 15))),
        (((0, 3), (8, 13)), ((3, 8), (13, 15))),
        (((3, 4), (5, 6)), ((2, 3), (4, 5), (6, 9), (12, 15))),
        (((2, 9),), ((12, 15),)),
    ],
)
def test_ranges_without_others(holes, left):
    assert without({"k": ((2, 9), (12, 15))}, {"k": holes, "l": ((0, 99),)}) == {"k": left}
    assert without({"k": ((2, 9),)}, {"k": ((0, 99),)}) == {}
