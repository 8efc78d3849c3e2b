"""The phases of a job, and how far the current one is, from process-local counters.

A phase begins with its first piece of work, or when the phase before it is complete, so that a full bar goes on to the
next phase. On a runner whose workers are elsewhere the counters of this process stay at 0, and no phase is shown.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from penstock.io.beam.progress import Counts, ReadPosition
from penstock.io.files.sizes import byte_text

# A rate over a shorter time says little.
_MIN_RATE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Phase:
    """What a pipeline does for a while, and the counters (`penstock.io.beam.progress`) that tell how far it is.

    Attributes:
      name: as it is shown.
      pieces: the counter of what it does one by one: when all that is planned is done, so is the phase.
      unit: what the pieces are called where their number is shown.
      amount: the counter of bytes, which runs more smoothly.
      rows: whether the rows of the input are those of this phase.
      endless: whether it is a stream, which has no total, and has begun with its pipeline.
    """

    name: str
    pieces: str | None = None
    unit: str | None = None
    amount: str | None = None
    rows: bool = False
    endless: bool = False

    def named(self, name: str) -> "Phase":
        """The same under another name."""
        return dataclasses.replace(self, name=name)

    def has_begun(self, counts: Counts) -> bool:
        """Whether any of its work is done."""
        names = (self.pieces, self.amount, "rows" if self.rows else None)
        return self.endless or any(counts.done.get(name, 0) for name in names if name)

    def is_complete(self, counts: Counts) -> bool:
        """Whether all of its work is done."""
        return _part_of(counts, self.pieces) == 1

    def fraction(self, counts: Counts) -> float | None:
        """How much is done, from 0 to 1; None if the total is not known.

        Some bytes of a file are never read, and some are read twice, so that only the pieces say when all is done.
        """
        pieces, amount = _part_of(counts, self.pieces), _part_of(counts, self.amount)
        if pieces is None or amount is None:
            return amount if pieces is None else pieces
        return 1.0 if pieces == 1 else max(pieces, min(amount, 0.99))


READ = Phase("reading", pieces="parts", amount="bytes", rows=True)
COMPARE = Phase("looking for duplicates", pieces="compared", unit="rows")
ROLL = Phase("rolling features", pieces="rolled", unit="rows")
APPLY = Phase("applying the features", pieces="kept", unit="parts")
WRITE = Phase("writing shards", pieces="shards", unit="shards", amount="written")
PUBLISH = Phase("publishing")
PUBLISH_WINDOWS = Phase("publishing", pieces="windows", unit="windows")
STREAM = Phase("streaming", pieces="windows", rows=True, endless=True)
VERIFY = Phase("verifying", amount="bytes", rows=True)


def current_phase(phases: Sequence[Phase], counts: Counts) -> Phase | None:
    """The phase that a pipeline is in; None before anything is known of any."""
    found = None
    for number, phase in enumerate(phases):
        if phase.has_begun(counts) or (number and phases[number - 1].is_complete(counts)):
            found = phase
    return found


def _part_of(counts: Counts, name: str | None) -> float | None:
    planned = counts.planned.get(name, 0) if name else 0
    return min(counts.done.get(name or "", 0) / planned, 1.0) if planned else None


@dataclasses.dataclass(frozen=True)
class Field:
    """One item of a status.

    Attributes:
      is_bad: bad news.
      is_minor: a bar shows it too.
    """

    text: str
    is_bad: bool = False
    is_minor: bool = False


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a job is at one moment.

    Attributes:
      name: of the phase, or of the pipeline.
      fraction: of the phase, 0 to 1; None if it is not known.
      fields: the other items, the most important first.
      seconds: since the job began.
    """

    name: str
    fraction: float | None
    fields: tuple[Field, ...]
    seconds: float

    @classmethod
    def of(
        cls,
        title: str,
        phase: Phase | None,
        counts: Counts,
        seconds: float,
        phase_seconds: float,
        rate: float | None = None,
    ) -> "Status":
        """The status of a pipeline: `title` names it while no phase is known, `rate` is that of a stream, rows/s."""
        if phase is None:
            return cls(title, None, (), seconds)
        if phase.endless:
            return cls(phase.name, None, tuple(_stream_fields(counts, rate)), seconds)
        return cls(phase.name, phase.fraction(counts), tuple(_fields(phase, counts, phase_seconds)), seconds)

    @property
    def percent(self) -> str | None:
        """The fraction as text; 100% is all of it."""
        return None if self.fraction is None else f"{int(self.fraction * 100)}%"

    @property
    def elapsed(self) -> str:
        """Hours, minutes and seconds."""
        return str(datetime.timedelta(seconds=int(self.seconds)))

    def __str__(self) -> str:
        told = (self.percent, *(field.text for field in self.fields), self.elapsed)
        return f"{self.name}: {', '.join(filter(None, told))}"


def _fields(phase: Phase, counts: Counts, seconds: float) -> list[Field]:
    done, planned = counts.done, counts.planned
    fields = []
    if phase.unit and phase.pieces and (phase.pieces in done or phase.pieces in planned):
        total = f"/{planned[phase.pieces]:,}" if phase.pieces in planned else ""
        fields.append(Field(f"{done.get(phase.pieces, 0):,}{total} {phase.unit}"))
    if phase.rows:
        fields.append(Field(f"{done.get('rows', 0):,} rows"))
    if rejected := done.get("rejected"):
        fields.append(Field(f"{rejected:,} rejected", is_bad=True))
    if phase.rows and seconds >= _MIN_RATE_SECONDS:
        fields.append(Field(f"{done.get('rows', 0) / seconds:,.0f} rows/s"))
    if phase.amount and phase.amount in planned:
        total_bytes = planned[phase.amount]
        bytes_done = byte_text(min(done.get(phase.amount, 0), total_bytes))
        fields.append(Field(f"{bytes_done} of {byte_text(total_bytes)}", is_minor=True))
    return fields


def _stream_fields(counts: Counts, rate: float | None) -> Iterator[Field]:
    done, values = counts.done, counts.values
    if rate is not None:
        yield Field(f"{rate:,.0f} rows/s")
    if "waiting" in values:
        yield Field(f"{values['waiting']:,} rows waiting")
    elif "open" in values:
        yield Field(f"{values['open']:,} windows open")
    yield Field(f"{done.get('windows', 0):,} published")
    if waiting := done.get("windows", 0) - done.get("final", 0):
        yield Field(f"{waiting:,} not final")
    if bad := done.get("bad"):
        yield Field(f"{bad:,} with too many rejects", is_bad=True)
    if rejected := done.get("rejected"):
        yield Field(f"{rejected:,} rejected", is_bad=True)
    if late := done.get("late"):
        yield Field(f"{late:,} late", is_bad=True)
    if lags := [found.lag for found in counts.positions.values() if found.lag is not None]:
        yield Field(f"lag {sum(lags):,}")
    if counts.positions and "waiting" not in values:
        yield Field(_watermark(counts.positions))
    if "up_to" in values:
        yield Field(f"published up to {time_text(values['up_to'])}")
    yield Field(f"{done.get('rows', 0):,} rows")


def _watermark(positions: Mapping[str, ReadPosition]) -> str:
    """The least watermark of the partitions that hold windows open, and which one that is."""
    holding = {uri: found.watermark for uri, found in positions.items() if not found.is_idle}
    if not holding:
        return "all partitions idle"
    known = {uri: time for uri, time in holding.items() if time is not None}
    if len(known) < len(holding):
        uri, *others = [uri for uri in holding if uri not in known]
        more = f" and {len(others)} more" if others else ""
        return f"no watermark: no good row yet of {_partition(uri)}{more}"
    uri = min(known, key=lambda one: known[one])
    return f"watermark {time_text(known[uri])} ({_partition(uri)})"


def _partition(uri: str) -> str:
    """Topic and number.

    >>> _partition("kafka://a:9092,b:9092/events/3")
    'events/3'
    """
    return uri.partition("://")[2].partition("/")[2] or uri


def time_text(micros: int) -> str:
    """A time in ISO 8601, UTC, to the second.

    >>> time_text(1_500_000)
    '1970-01-01T00:00:01Z'
    """
    return f"{np.datetime64(micros // 1_000_000, 's')}Z"
