"""Reports results: a table, JSON and a chart."""

import dataclasses
import html
import json
from collections.abc import Sequence
from typing import Any, Self

OK = "ok"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a contestant: seconds of the job, and of its whole process with imports."""

    setting: str
    seconds: float
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """The results of a contestant.

    Attributes:
      status: `ok`, or why there is no time: skipped, not installed, failed, wrong.
      note: details of the status.
      runs: all runs; the fastest counts.
      failed: settings with which it failed.
      computed: which of the numbers that the check knows it found; of statistics.
    """

    name: str
    title: str
    status: str = OK
    note: str = ""
    runs: tuple[Run, ...] = ()
    rows_out: int = 0
    bytes_out: int = 0
    shards: int = 0
    digest: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()

    @property
    def best(self) -> Run | None:
        """The fastest run, if the contestant succeeded."""
        return min(self.runs, key=lambda run: run.seconds) if self.status == OK and self.runs else None


@dataclasses.dataclass(frozen=True)
class Result:
    """The results of all contestants on the same rows.

    Attributes:
      product: what they made of them, in a word or two.
      base: the name of the one with which the others are compared.
    """

    scenario: str
    title: str
    rows: int
    bad_rows: int
    bytes_in: int
    created: str
    machine: dict[str, Any]
    entries: tuple[Entry, ...]
    product: str = "TFRecord"
    base: str = "floor"

    @property
    def name(self) -> str:
        """The name of the result's files."""
        return f"{self.scenario}-{self.rows}"

    def best_of(self, name: str) -> Run | None:
        """Returns the fastest run of a contestant."""
        return next((entry.best for entry in self.entries if entry.name == name), None)

    def to_json(self) -> str:
        """Returns indented JSON, with the best run of each contestant spelled out."""
        fields = dataclasses.asdict(self)
        for entry, values in zip(self.entries, fields["entries"], strict=True):
            if entry.best:
                values["best"] = dataclasses.asdict(entry.best) | {"rows_per_second": self.rows / entry.best.seconds}
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads the result from a JSON text."""
        fields = json.loads(text)
        entries = []
        for values in fields.pop("entries"):
            values.pop("best", None)
            tuples = {name: tuple(values.pop(name, ())) for name in ("failed", "computed")}
            entries.append(Entry(runs=tuple(Run(**run) for run in values.pop("runs")), **tuples, **values))
        return cls(entries=tuple(entries), **fields)


_HEADER = ("", "rows/s", "seconds", "x {}", "CPU s", "x {}", "peak MB", "MB out", "")


def _header(result: Result, times: str) -> tuple[str, ...]:
    return tuple(cell.format(result.base).replace("x ", f"{times} ") for cell in _HEADER)


def _cells(result: Result) -> list[tuple[str, ...]]:
    base = result.best_of(result.base)
    rows = []
    for entry in sorted(result.entries, key=lambda entry: entry.best.seconds if entry.best else float("inf")):
        if not (run := entry.best):
            rows.append((entry.title, *[""] * (len(_HEADER) - 2), f"{entry.status}: {entry.note}"))
            continue
        rows.append(
            (
                entry.title,
                f"{result.rows / run.seconds:,.0f}",
                f"{run.seconds:.2f}",
                f"{run.seconds / base.seconds:.1f}" if base else "",
                f"{run.cpu_seconds:.1f}",
                f"{run.cpu_seconds / base.cpu_seconds:.1f}" if base and base.cpu_seconds else "",
                f"{run.peak_bytes / 1e6:,.0f}",
                f"{entry.bytes_out / 1e6:,.1f}",
                run.setting,
            )
        )
    return rows


def heading(result: Result) -> str:
    """Returns one line that says what was done."""
    bad = f", {result.bad_rows:,} bad" if result.bad_rows else ""
    return (
        f"{result.title}: {result.rows:,} rows ({result.bytes_in / 1e6:,.0f} MB{bad}) to {result.product}; "
        f"{result.machine.get('cpu', '')}, {result.machine.get('cores', '?')} cores"
    )


def table(result: Result) -> str:
    """Returns the table for a terminal, fastest first."""
    rows = [_header(result, "x"), *_cells(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]]).rstrip() for row in rows
    ]
    return "\n".join([heading(result), "", *lines])


def markdown(result: Result) -> str:
    """Returns the table for a README, fastest first."""
    header = (*_header(result, "×")[:-1], "note")
    rows = [header, ("---",) + ("---:",) * (len(_HEADER) - 2) + ("---",), *_cells(result)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


# Sizes of the chart, in pixels.
_WIDTH, _LABEL, _NUMBER, _BAR, _GAP, _TOP = 760, 250, 110, 22, 10, 44

_COLORS = {"penstock": "#0969da", "floor": "#8c959f"}
_PEER_COLOR = "#bf8700"


def chart(result: Result) -> str:
    """Draws an SVG of rows per second, a bar for each contestant; it is legible on light and dark pages."""
    done = sorted((entry for entry in result.entries if entry.best), key=lambda entry: entry.best.seconds)
    height = _TOP + len(done) * (_BAR + _GAP)
    most = max((result.rows / entry.best.seconds for entry in done), default=1.0)
    bars = "".join(_bar(entry, result.rows / entry.best.seconds, most, index) for index, entry in enumerate(done))
    title = html.escape(f"Rows per second: {result.title}, {result.rows:,} rows, {result.machine.get('cores')} cores")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="13">\n'
        f"<title>{title}</title>\n"
        "<style>text { fill: #1f2328 } @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }</style>\n"
        f'<text x="0" y="18" font-weight="600">{title}</text>\n{bars}</svg>\n'
    )


def _bar(entry: Entry, speed: float, most: float, index: int) -> str:
    y = _TOP + index * (_BAR + _GAP)
    length = max(1.0, (_WIDTH - _LABEL - _NUMBER) * speed / most)
    color = _COLORS.get(entry.name.partition("-")[0], _PEER_COLOR)
    middle = y + _BAR * 0.7
    return (
        f'<text x="{_LABEL - 8}" y="{middle:.0f}" text-anchor="end">{html.escape(entry.title)}</text>\n'
        f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="3" fill="{color}"/>\n'
        f'<text x="{_LABEL + length + 8:.1f}" y="{middle:.0f}">{speed:,.0f}</text>\n'
    )


def wrong_digests(entries: Sequence[Entry]) -> set[str]:
    """Returns the names of contestants whose content differs from what most wrote."""
    digests = [entry.digest for entry in entries if entry.status == OK]
    if not digests:
        return set()
    common = max(digests, key=digests.count)
    return {entry.name for entry in entries if entry.status == OK and entry.digest != common}
