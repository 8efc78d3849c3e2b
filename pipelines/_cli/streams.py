"""The flags of windows and streams, and of the jobs of streams on a cluster."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Literal, get_args

from penstock.io.beam.durations import MAX_AHEAD, parse_duration
from penstock.io.beam.windows import AnyWindows, FlushWindows, parse_window
from penstock.io.errors import ConfigError
from penstock.io.sources.base import SourceRequest
from penstock.io.sources.lists.lines import kind_of_list, list_path
from penstock.io.sources.registry import kind_of
from pipelines._cli.flags import (
    NONE,
    Options,
    duration,
    duration_or_none,
    flag,
    positive,
    seconds,
)
from pipelines._cli.options import InputOptions

StopWith = Literal["savepoint", "cancel", "leave"]
OnRunning = Literal["cancel", "attach", "refuse"]


@dataclasses.dataclass(frozen=True)
class StreamOptions(Options):
    """How time is cut into windows, and when a window of a stream closes."""

    title = "windows and streams"

    window: str | None = flag(
        "write one dataset for each window of event time; a stream needs it, or --flush_rows or --flush_every",
        metavar="fixed:60s|sliding:60s/10s",
    )
    flush_rows: int | None = flag(
        "a stream without event times: write one dataset for every N rows that come, good and rejected together; it "
        "has at least N, and at most those of one more bundle of the reader (about a second)",
        type=positive,
        metavar="N",
    )
    flush_every: str | None = flag(
        "a stream without event times: write one dataset of what comes, so long after the first row of it; beside "
        "--flush_rows, whichever comes first",
        type=duration,
        metavar="DURATION",
    )
    allowed_lateness: str = flag(
        "rows that come up to so long after their window closed are written as its late shards; later ones are "
        "dead letters",
        "0s",
        type=duration,
        metavar="DURATION",
    )
    empty_windows: bool = flag("write a manifest for windows without rows too", False, action="store_true")
    out_of_orderness: str = flag(
        "a window of a stream closes when rows so much younger than its end have come",
        "5s",
        type=duration,
        metavar="DURATION",
    )
    idle_timeout: str | None = flag(
        "without new data for so long, the clock closes windows; Kafka: a partition alone holds no window open "
        "(default: 60s for Kafka, files are waited for)",
        type=duration,
        metavar="DURATION",
    )
    max_ahead: str | None = flag(
        "a row whose event time is further ahead of the clock is a dead letter, future, and moves no watermark; none: "
        "no row is (default: 1h for a stream, none for input with an end)",
        type=duration_or_none,
        metavar="DURATION|none",
    )
    watch: float | None = flag(
        "read files as they come: look for new ones so often, and read each once when it no longer grows",
        type=seconds,
        metavar="SECONDS",
    )

    def guard(self, is_endless: bool) -> datetime.timedelta | None:
        """How far ahead of the clock a row may be; None if a row may have any time."""
        if self.max_ahead is None:
            return MAX_AHEAD if is_endless and not self.is_flushed else None
        return None if self.max_ahead == NONE else parse_duration(self.max_ahead)

    @property
    def is_flushed(self) -> bool:
        """Whether the stream is cut into windows of processing time."""
        return self.flush_rows is not None or self.flush_every is not None

    @property
    def windows(self) -> AnyWindows | None:
        """The windows that the flags ask for.

        Raises:
          ConfigError: for flags out of range.
        """
        if self.is_flushed:
            return FlushWindows(self.flush_rows, self.flush_every)
        return parse_window(self.window) if self.window else None

    def check(self, is_endless: bool) -> None:
        """Refuses flags that do not go together.

        Raises:
          ConfigError: says what to leave out, or to add.
        """
        if self.is_flushed:
            self._check_flushed(is_endless)
        elif self.window is None:
            self._refuse(("allowed_lateness", "empty_windows"), "is about windows: pass --window too")

    def _check_flushed(self, is_endless: bool) -> None:
        given = "flush_rows" if self.flush_rows is not None else "flush_every"
        if self.window is not None:
            raise ConfigError(
                f"--{given} cuts a stream by the time at which rows come, and --window by their event time: pass one "
                "of them"
            )
        if not is_endless:
            raise ConfigError(
                f"--{given} is for a stream, and this input has an end, so that it means nothing when its rows come: "
                "leave it out, or pass --window"
            )
        self._refuse(
            ("allowed_lateness", "empty_windows", "out_of_orderness", "idle_timeout", "max_ahead"),
            f"is about event time, and --{given} takes rows as they come, whatever their times are: leave it out",
        )

    def _refuse(self, names: Sequence[str], why: str) -> None:
        defaults = StreamOptions()
        for name in names:
            if getattr(self, name) != getattr(defaults, name):
                raise ConfigError(f"--{name} {why}")


@dataclasses.dataclass(frozen=True)
class StopOptions(Options):
    """What becomes of the job of a stream on a cluster when its user stops it, or starts it once more."""

    title = "a stream on Flink"

    stop_with: StopWith | None = flag(
        "what Ctrl-C and SIGTERM do to a stream on Flink: end it with a savepoint, cancel it, or leave it running "
        "(default: leave); a stream on this machine is finished and ends",
        choices=get_args(StopWith),
    )
    savepoint_dir: str | None = flag(
        "where --stop_with savepoint writes, as the cluster sees it (default: the cluster's folder for savepoints)",
        metavar="DIR",
    )
    on_running: OnRunning | None = flag(
        "where a job of the same dataset still runs on the cluster: cancel it and go on from its windows, attach to it "
        "and start none, or refuse (default: cancel)",
        choices=get_args(OnRunning),
    )

    def check(self, is_endless: bool, may_be_flink: bool, has_savepoint: bool) -> None:
        """Refuses flags that the job has no use for.

        Raises:
          ConfigError: says what to leave out, or to add.
        """
        if self.on_running is not None and not (is_endless and may_be_flink):
            raise ConfigError("--on_running is for a stream on Flink (--runner FlinkRunner): leave it out")
        if self.on_running == "attach" and has_savepoint:
            raise ConfigError(
                "--on_running attach goes on with the job that runs, and --savepoint_path starts one: leave out one of "
                "them"
            )
        if self.stop_with is not None and not is_endless:
            raise ConfigError("--stop_with is for a stream, and this input has an end: leave it out")
        if self.stop_with is not None and not may_be_flink:
            raise ConfigError(
                "--stop_with is for a stream on Flink (--runner FlinkRunner): leave it out; on this machine, Ctrl-C "
                "finishes what was read and ends the job"
            )
        if self.savepoint_dir is not None and self.stop_with != "savepoint":
            raise ConfigError("--savepoint_dir is where --stop_with savepoint writes: pass that too, or leave it out")


def source_request(options: InputOptions, stream: StreamOptions) -> SourceRequest:
    """What the flags say of the source.

    Raises:
      ConfigError: when its URI is wrong, or flags are for another kind of source.
    """
    lists = (path for path in map(list_path, options.input) if path is not None)
    if options.inventory_columns and not any(kind_of_list(path) == "inventory" for path in lists):
        raise ConfigError("--inventory_columns names those of a CSV file: pass it with --input @FILE.csv")
    request = SourceRequest(
        inputs=options.input,
        format=options.format,
        options=options.format_options(),
        event_time=options.event_time,
        watch=None if stream.watch is None else datetime.timedelta(seconds=stream.watch),
        out_of_orderness=parse_duration(stream.out_of_orderness),
        idle_timeout=None if stream.idle_timeout is None else parse_duration(stream.idle_timeout),
        partitioning=options.partitioning,
        inventory_columns=options.inventory_columns,
    )
    return dataclasses.replace(request, max_ahead=stream.guard(kind_of(*request.inputs).is_endless(request)))


def is_endless(options: InputOptions, stream: StreamOptions) -> bool:
    """Whether the source that the flags name has no end, as far as the flags say.

    Raises:
      ConfigError: when its URI is wrong, or flags are for another kind of source.
    """
    request = source_request(options, stream)
    return kind_of(*request.inputs).is_endless(request)
