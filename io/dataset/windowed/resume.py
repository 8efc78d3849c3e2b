"""Goes on with a stream from the windows that it has published: the dataset is its checkpoint.

A runner's own checkpoint, such as a savepoint of Flink, knows more: the rows of windows that are open. Where there is
none, a new start reads these again. For that, each closing of a pane says where a start would have to read on if this
closing and all before it are published (`Closing`). So the start takes the last such closing, and

* reads each partition from there on;
* leaves out what windows published after it hold already, since they say what they cover (`SeenRows`);
* keeps such windows closed, and those on time open for late rows (`ClockState`).

`OUTPUT/stream.json` is written at each start, before anything is read. It says what stream this is, so that another
one is refused, and which start is the last one: what an earlier one still publishes is refused too.
"""

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import apache_beam as beam
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from penstock.io.beam import progress
from penstock.io.beam.coverage import Covered, ReadPositions, SeenPositions, greatest, merge_covered
from penstock.io.beam.durations import micros
from penstock.io.beam.json_coder import JsonCoder, from_fields, register_json
from penstock.io.dataset.layout import STREAM, WINDOWS, Staging, lock_path
from penstock.io.dataset.windowed.chunks import SeenRows
from penstock.io.dataset.windowed.clock import ClockState, ClosingRules, OpenWindow
from penstock.io.dataset.windowed.flush import FlushRules, FlushState
from penstock.io.dataset.windowed.manifest import Closing, WindowManifest, read_window_manifests, window_settings
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.atomic.conditional import conditional_file

_ELSEWHERE = "go on from a savepoint (--savepoint_path), or name another folder"


@dataclasses.dataclass(frozen=True)
class StreamFile:
    """What `stream.json` says.

    Attributes:
      run_id: the run that first wrote into the dataset.
      generation: how often the stream has been started, from 1.
      started: when it was started last, ISO 8601, UTC.
      settings: what must be the same at each start, by name.
      began: for each uri, the position at which the last start began to read.
      clock: the event time that had passed then, microseconds since 1970; None for none.
      reached: the last closing that is published with all before it; None for none of this start.
      identities: for each input, by uri, what tells it from another one of its name.
    """

    run_id: str
    generation: int
    started: str
    settings: Mapping[str, Any]
    began: Mapping[str, int]
    clock: int | None = None
    reached: Closing | None = None
    version: int = 1
    identities: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, output: str) -> Self | None:
        """Reads the file of a dataset; None if there is none.

        Raises:
          DataError: if it cannot be understood.
        """
        path = stores.join(output, STREAM)
        content = stores.read_if_there(path)
        return None if content is None else cls._parse(content, path)

    @classmethod
    def _parse(cls, text: bytes, path: str) -> Self:
        try:
            found: Self = from_fields(cls, json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: does not describe a stream: {error!r}") from error
        if found.version != 1:
            raise DataError(f"{path}: version must be 1, got {found.version}: a newer Penstock wrote it")
        return found

    def write(self, staging: Staging, replaces: int) -> bool:
        """Replaces the file of a dataset.

        Args:
          staging: of this start.
          replaces: the generation that the file has; 0 for no file.

        Returns:
          Whether it had that generation; else nothing is written.
        """
        output = staging.output
        path = stores.join(output, STREAM)
        file = conditional_file(path, lock_path(output, "stream"), staging.temporary(WINDOWS))
        content = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"
        with file.alone():
            found = file.read()
            generation = self._parse(found.content, path).generation if found else 0
            return generation == replaces and file.write(content.encode(), found)


@dataclasses.dataclass(frozen=True)
class StreamPoint:
    """Where a stream goes on.

    Attributes:
      run_id: the run that first wrote into the dataset.
      generation: of the start that goes on.
      resume_at: for each uri, where to read on.
      clock: the event time that has passed.
      windows: those that are published.
      identities: as in `StreamFile`, at the last start.
    """

    run_id: str
    generation: int
    resume_at: Mapping[str, int]
    clock: int | None
    windows: tuple[WindowManifest, ...]
    identities: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find_point(output: str, settings: Mapping[str, Any]) -> StreamPoint | None:
    """Finds where the stream of a dataset goes on; None if none has begun there.

    Raises:
      ConfigError: if the settings are others than before, or the windows do not say what they cover.
      DataError: for a file of the dataset that cannot be read.
    """
    file, windows = StreamFile.read(output), tuple(read_window_manifests(output))
    if file is None and not windows:
        return None
    if file is None:
        raise ConfigError(
            f"--output {output}: has windows, and no {STREAM} that says how far their stream was read; {_ELSEWHERE}"
        )
    check_settings(output, settings)
    untraced = next((window for window in windows if not window.closings), None)
    if untraced is not None or not file.began:
        name = "its stream" if untraced is None else f"window {untraced.name}"
        raise ConfigError(
            f"--output {output}: {name} does not say which positions of the input it covers; {_ELSEWHERE}"
        )
    reached = _last_in_order(file, windows)
    resume_at, clock = (file.began, file.clock) if reached is None else (reached.resume_at, reached.clock)
    return StreamPoint(file.run_id, file.generation + 1, resume_at, clock, windows, file.identities)


def check_settings(output: str, settings: Mapping[str, Any]) -> None:
    """Refuses to go on with other settings than those that a stream began with: a runner would find out too late.

    They are those of `stream.json` or, in a dataset of an earlier release, of a window. What these do not name may be
    anything.

    Raises:
      ConfigError: names them, with both values.
    """
    before = _settings(output)
    names = [name for name in before if before[name] != settings.get(name)]
    if names:
        changes = "; ".join(f"{name} was {before[name]}, is now {settings.get(name)}" for name in names)
        raise ConfigError(
            f"--output {output}: holds a stream with other settings: {changes}; go on with those that were, or name "
            "another folder"
        )


def _settings(output: str) -> Mapping[str, Any]:
    file = StreamFile.read(output)
    if file is not None:
        return file.settings
    first = next(read_window_manifests(output), None)
    return {} if first is None else window_settings(first)


def _last_in_order(file: StreamFile, windows: Iterable[WindowManifest]) -> Closing | None:
    """The last closing of the last start that is published with all before it."""
    own = {
        closing.number: closing
        for window in windows
        for closing in window.closings
        if closing.generation == file.generation
    }
    reached = file.reached
    number = 0 if reached is None else reached.number
    while (following := own.get(number + 1)) is not None:
        reached, number = following, number + 1
    return reached


@dataclasses.dataclass(frozen=True)
class Resumption:
    """What a start needs to know of those before it.

    Attributes:
      file: as it is written before anything is read.
      windows: those that are published.
    """

    file: StreamFile
    windows: tuple[WindowManifest, ...] = ()

    @classmethod
    def begin(
        cls,
        point: StreamPoint | None,
        run_id: str,
        settings: Mapping[str, Any],
        began: Mapping[str, int],
        identities: Mapping[str, str] = {},
    ) -> Self:
        """Begins a stream, or goes on with it.

        Args:
          point: where it goes on; None for a new stream.
          run_id: of this start.
          settings: those that must be the same at each start.
          began: for each uri, where it is read from now on; empty if the source cannot tell.
          identities: of this start, as in `StreamFile`.
        """
        started = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
        if point is None:
            return cls(StreamFile(run_id, 1, started, settings, began, identities=identities))
        file = StreamFile(point.run_id, point.generation, started, settings, began, point.clock, identities=identities)
        return cls(file, point.windows)

    def start(self, staging: Staging) -> None:
        """Writes `stream.json`, so that this is the last start.

        Raises:
          ConfigError: if another start was faster.
        """
        if not self.file.write(staging, replaces=self.file.generation - 1):
            raise ConfigError(f"--output {staging.output}: another job starts this stream, too: stop that one")

    def initial_flush(self, rules: FlushRules) -> FlushState:
        """The state with which windows of processing time begin."""
        clock = self.file.clock or 0
        return FlushState(
            self.file.run_id,
            str(rules),
            until=max([clock, *(window.bounds[1] for window in self.windows)]),
            number=max((window.number for window in self.windows), default=0),
            generation=self.file.generation,
            read=self._read(),
            covered=self._covered(),
        )

    def _read(self) -> ReadPositions:
        return ReadPositions(self.file.began) if self.file.began else ReadPositions.unknown()

    def _covered(self) -> Covered:
        """The positions of windows of processing time that may be read again."""
        reaching = (window.covered for window in self.windows if _reaches(window, self.file.began))
        return functools.reduce(merge_covered, reaching, {})

    def initial(self, rules: ClosingRules) -> ClockState:
        """The state with which windows close."""
        clock = self.file.clock
        ends = {window.bounds[0]: rules.end(window.bounds[0]) for window in self.windows}
        last = max((start for start, end in ends.items() if clock is not None and end <= clock), default=None)
        lateness = micros(rules.lateness)
        return ClockState(
            self.file.run_id,
            str(rules),
            fired=clock,
            windows={
                str(window.bounds[0]): OpenWindow(closed=True, is_continued=True)
                for window in self.windows
                if not window.final
            },
            filled=None if last is None else (last, last),
            sealed=tuple(
                window.bounds[0]
                for window in self.windows
                if window.final and (clock is None or ends[window.bounds[0]] + lateness > clock)
            ),
            generation=self.file.generation,
            read=self._read(),
        )

    def seen(self, output: str) -> SeenRows | None:
        """The rows that are read again and are in the dataset already; None if there cannot be any."""
        began = self.file.began
        windows = [window for window in self.windows if _reaches(window, began)]
        if not windows:
            return None
        if windows[0].is_flushed:
            return SeenRows({}, SeenPositions({}, self._covered()))
        letters = (place for window in windows for place in _letters(output, window))
        return SeenRows(
            {window.bounds[0]: window.covered for window in windows},
            SeenPositions.of((uri, position) for uri, position in letters if position >= began.get(uri, position + 1)),
        )


def _reaches(window: WindowManifest, began: Mapping[str, int]) -> bool:
    """Whether a window may hold rows that are read again."""
    last = greatest(*(closing.last for closing in window.closings))
    return any(uri in began and position >= began[uri] for uri, position in last.items())


def _letters(output: str, window: WindowManifest) -> Iterator[tuple[str, int]]:
    """Yields uri and position of the dead letters of a window."""
    for letters in window.dead_letters:
        with stores.open_file(stores.join(output, *letters.path.split("/"))) as file:
            for line in file.read().splitlines():
                fields = json.loads(line)
                yield fields["uri"], fields["position"]


def check_generation(output: str, manifest: WindowManifest) -> None:
    """Refuses a version of a window if its stream has been started again since.

    Raises:
      DataError: says so.
    """
    file = StreamFile.read(output) if manifest.closings else None
    if file is not None and manifest.closings[-1].generation < file.generation:
        raise DataError(
            f"--output {output}: window {manifest.name} is not published: the stream has been started again at "
            f"{file.started}, and that job goes on with it; this one ends"
        )


@register_json
@dataclasses.dataclass(frozen=True)
class PublishedClosings:
    """How far closings are published without a gap, and those behind a gap, by number."""

    number: int = 0
    waiting: Mapping[str, Closing] = dataclasses.field(default_factory=dict)

    def add(self, closing: Closing) -> "tuple[PublishedClosings, Closing | None]":
        """Returns the state with one more closing, and the last one without a gap if there is a new one.

        A closing may come again, with a later version of its window.
        """
        if closing.number <= self.number:
            return self, None
        waiting, number, last = {**self.waiting, str(closing.number): closing}, self.number, None
        while (following := waiting.pop(str(number + 1), None)) is not None:
            number, last = number + 1, following
        return PublishedClosings(number, waiting), last


class KeepProgress(beam.PTransform[beam.PCollection[WindowManifest], beam.PCollection[int]]):
    """Notes in `stream.json` how far a stream is published, and commits that to its source; gives nothing."""

    def __init__(self, staging: Staging, commit: Callable[[Mapping[str, int]], None] | None = None):
        super().__init__()
        self._keep = _KeepProgressFn(staging, commit)

    def expand(self, published: beam.PCollection[WindowManifest]) -> beam.PCollection[int]:
        """One key, which gets small elements for each version of a window."""
        closings = published | "Closings" >> beam.FlatMap(_own_closings).with_output_types(tuple[int, Closing])
        return closings | "Keep" >> beam.ParDo(self._keep).with_output_types(int)


def _own_closings(manifest: WindowManifest) -> Iterator[tuple[int, Closing]]:
    """Those of the last start: both where the panes were published at once."""
    last = manifest.closings[-1:]
    yield from ((0, own) for own in manifest.closings if own.generation == last[0].generation)


class _KeepProgressFn(beam.DoFn):
    _published = beam.DoFn.StateParam(ReadModifyWriteStateSpec("published", JsonCoder(PublishedClosings)))

    def __init__(self, staging: Staging, commit: Callable[[Mapping[str, int]], None] | None):
        self._staging = staging
        self._commit = commit

    def process(self, element: tuple[int, Closing], published: Any = _published) -> None:
        now, last = (published.read() or PublishedClosings()).add(element[1])
        published.write(now)
        progress.tell(noted=now.number + len(now.waiting))
        file = None if last is None else StreamFile.read(self._staging.output)
        if last is None or file is None or file.generation != last.generation:
            return  # the stream has been started again since
        is_last = dataclasses.replace(file, reached=last).write(self._staging, replaces=last.generation)
        if is_last and self._commit is not None:
            self._commit(last.resume_at)
