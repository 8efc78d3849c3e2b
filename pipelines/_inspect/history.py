"""Runs `history` after its command line is checked."""

import dataclasses
import datetime
import difflib
import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.dataset.layout import HISTORY
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.transforms.history.leaving import Leaving, leaving
from penstock.transforms.history.metrics import METRICS
from penstock.transforms.history.store import append, read
from penstock.transforms.statistics.files import read_list
from pipelines._options.history import HistoryOptions, WhichOptions
from pipelines._report.process import job_started
from pipelines._report.result import HistoryResult
from pipelines._report.summary import tell


def run(options: HistoryOptions) -> int:
    """Runs the job, as `pipelines.history.run` does."""
    started, which, findings = job_started(), options.history, options.findings
    path = stores.join(str(which.dataset), HISTORY)
    if which.add:
        _append(path, which.add, which.run)
    whole = read(path)
    if not whole.num_rows:
        raise ConfigError(
            f"--dataset {which.dataset}: has no history ({path}); --add FILE.pb appends the statistics of a run"
        )
    chosen = _chosen(whole, which)
    left = leaving(whole, findings.false_alarms, findings.season, findings.time_zone)  # type: ignore[arg-type]
    return tell(_result(which, chosen, left, time.monotonic() - started), which.json)


def _append(path: str, file: str, run_id: str | None) -> None:
    proto = read_list(file)
    if run_id is None:
        digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()[:12]
        run_id = f"{os.path.basename(file).removesuffix('.pb')}-{digest}"
    append(path, proto, run_id)


def _chosen(whole: pa.Table, which: WhichOptions) -> pa.Table:
    """Returns the rows that are asked for.

    Raises:
      ConfigError: for what the history does not have; the message has the nearest name.
    """
    table = whole
    asked = (("split", which.split), ("feature", which.feature), ("metric", which.metric))
    for column, value in asked:
        if value is None:
            continue
        known = METRICS if column == "metric" else sorted(pc.unique(whole[column]).to_pylist())
        if value not in known:
            raise _unknown(column, value, known)
        table = table.filter(pc.equal(table[column], value))
    if not table.num_rows:
        named = ", ".join(f"--{column} {value}" for column, value in asked if value is not None)
        raise ConfigError(f"{named}: the history has no such metric; without one of these flags, more is shown")
    return table


def _unknown(column: str, value: str, known: Iterable[str]) -> ConfigError:
    names = [name for name in known if name]
    nearest = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return ConfigError(f"--{column} {value}: the history has no such {column}; {hint}it has {', '.join(names[:20])}")


def _result(which: WhichOptions, table: pa.Table, left: Sequence[Leaving], seconds: float) -> HistoryResult:
    newest = table.slice(table.num_rows - 1).to_pylist()[0]
    series = _series(table)
    shown = {(one["split"], one["feature"], one["metric"]) for one in series}
    return HistoryResult(
        job="history",
        seconds=seconds,
        dataset=str(which.dataset),
        run=newest["run"],
        window=(_iso(newest["window_start"]), _iso(newest["window_end"])) if newest["window_start"] else None,
        points=len({time for one in series for time in one["times"]}),
        series=tuple(series),
        left=tuple(_told(one) for one in left if (one.split, one.feature, one.metric) in shown),
    )


def _series(table: pa.Table) -> list[Mapping[str, Any]]:
    """Returns the metrics of each split and feature, in the order of METRICS, those of the dataset first."""
    series: dict[tuple[str, str, str], dict[str, Any]] = {}
    names = ("split", "feature", "metric")
    for row in table.to_pylist():
        key = tuple(row[name] for name in names)
        one = series.setdefault(key, {**dict(zip(names, key, strict=True)), "times": [], "values": []})
        one["times"].append(_iso(row["window_start"] or row["created"]))
        one["values"].append(row["value"])
    order = {name: place for place, name in enumerate(METRICS)}
    return sorted(series.values(), key=lambda one: (one["split"], one["feature"], order.get(one["metric"], len(order))))


def _told(one: Leaving) -> Mapping[str, Any]:
    fields = dataclasses.asdict(one)
    del fields["run"], fields["window_start"], fields["window_end"]
    return {**fields, "since": _iso(one.since) if one.since else None, "text": str(one)}


def _iso(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
