"""What windows say of their rows beside them: it is of the rows that are in their shards, whatever happens."""

import dataclasses
import datetime
import json
import pathlib

import pyarrow as pa
import pytest
from window_sinks import Events, batch_of, ids, write_bounded, write_stream

from penstock.io.beam.windows import parse_window
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.observer import Anomaly, Judgement
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed.chunks import Chunk
from penstock.io.dataset.windowed.clock import ClosingRules
from penstock.io.dataset.windowed.manifest import Closing, read_window_manifests, window_manifest_path
from penstock.io.dataset.windowed.publish import WindowPublisher
from penstock.io.dataset.windowed.seal import SealingRules
from penstock.io.dataset.windowed.shards import HeaderReport, ShardReport, StagedShard, SummaryReport
from penstock.io.dataset.windowed.tasks import PaneHeader, SummaryTask
from penstock.transforms.verify import verify_dataset

SECOND = 1_000_000
TENS = parse_window("fixed:10s")


class Ids:
    """A summary: the ids of the rows."""

    def __init__(self):
        self.found = []

    def add(self, rows: pa.RecordBatch) -> None:
        self.found += rows.column("id").to_pylist()

    def to_bytes(self) -> bytes:
        return encoded(self.found)


def encoded(found):
    return json.dumps(sorted(found)).encode()


@dataclasses.dataclass(frozen=True)
class IdSummaries:
    """Sums ids up, and finds fault with windows that have more rows than the one before."""

    rejected = None

    def begin(self):
        return Ids()

    def merge(self, states):
        return encoded(number for state in states for number in json.loads(state))

    def files(self, state):
        return {".pb": b"PB" + state, ".json": state}

    def restore(self, content):
        assert content.startswith(b"PB")
        return content[2:]

    def judge(self, version, state, published):
        before = published(version.start - 10 * SECOND)
        if before is None:
            return Judgement()
        rows, path = len(json.loads(before[0])), before[1]
        grown = len(json.loads(state)) - rows
        anomalies = (Anomaly("", "GREW", "warning", f"{grown} more", path),) if grown > 0 else ()
        return Judgement(anomalies, (path,))


def said(output, manifest):
    """The ids of the published files of a window, which say the same."""
    content = (output / manifest.statistics).read_bytes()
    text = (output / manifest.statistics).with_suffix(".json").read_text()
    assert content == b"PB" + text.encode()
    return json.loads(text)


def published(output):
    return sorted(path.name for path in (output / "statistics").iterdir())


def test_both_panes_of_a_window_and_not_what_came_too_late(tmp_path):
    events = Events().add(batch_of(range(10), 5)).at(12).add(batch_of(range(10, 14), 5), batch_of([20], 15)).at(32)
    events = events.add(batch_of([30], 5), batch_of([40], 35))
    windows = write_stream(tmp_path, events, allowed_lateness="10s", summaries=IdSummaries())
    for start in (0, 10, 30):
        assert said(tmp_path, windows[start]) == ids(tmp_path, windows[start])
    assert said(tmp_path, windows[0]) == list(range(14))
    assert windows[0].statistics == "statistics/19700101T000000Z_19700101T000010Z.2.pb"
    assert len(published(tmp_path)) == 6, "files of earlier versions are deleted"
    assert {fault.code for fault in verify_dataset(str(tmp_path))} == {"statistics.broken"}  # these are none of TFDV


def test_a_window_is_judged_beside_those_before_it(tmp_path):
    events = Events().add(batch_of([0], 5)).at(12).add(batch_of([1, 2, 3], 15)).at(25).add(batch_of([4], 25))
    windows = write_stream(tmp_path, events, summaries=IdSummaries())
    first, second, third = (windows[start] for start in (0, 10, 20))
    assert (first.anomalies, first.compared_with) == ((), ())
    assert second.anomalies == (Anomaly("", "GREW", "warning", "2 more", first.statistics),)
    assert (third.anomalies, third.compared_with) == ((), (second.statistics,))


def test_bounded_windows_and_windows_that_overlap(tmp_path):
    windows = write_bounded(tmp_path, [batch_of([0, 1], [1, 11]), batch_of([2], 6)], window="sliding:10s/5s",
                            summaries=IdSummaries())  # fmt: skip
    assert {start: said(tmp_path, manifest) for start, manifest in windows.items()} == {
        -5: [0], 0: [0, 2], 5: [1, 2], 10: [1],
    }  # fmt: skip


def test_without_summaries_a_window_says_nothing(tmp_path):
    windows = write_bounded(tmp_path, [batch_of([0], 5)])
    assert (windows[0].statistics, windows[0].anomalies) == (None, ())
    assert not (tmp_path / "statistics").exists()


def chunk(rows, summary):
    return Chunk(0, f"c{rows}", rows, (), (0, 0), summary=(0, summary))


def test_a_pane_with_chunks_of_an_older_version_has_no_summary():
    rules = ClosingRules(TENS, datetime.timedelta(), False, splits=1, num_shards=1, run_id="r1")
    kinds = {number: list(rules.tasks(0, "on_time", chunks, PaneHeader("r1", True)))
             for number, chunks in enumerate([[chunk(1, 5)], [chunk(1, 5), chunk(2, 0)], []])}  # fmt: skip
    assert [any(isinstance(task, SummaryTask) for task in kinds[number]) for number in kinds] == [True, False, False]
    assert [kinds[number][0].header.summaries for number in kinds] == [1, 0, 0]


def closing(number):
    return Closing(2, number, clock=0, resume_at={})


def test_statistics_of_before_are_not_those_of_late_rows_without_any(tmp_path):
    output = tmp_path / "dataset"
    write_bounded(output, [batch_of([0, 1], 5)], run_id="r1", summaries=IdSummaries())
    rules = SealingRules(TENS, DatasetSpec(str(output), num_shards=2, window=TENS))
    header = PaneHeader("r1", True, rows=1, closing=closing(1), is_continued=True)
    shard = dataclasses.replace(next(iter(read_window_manifests(str(output)))).shards[0], records=1, pane="late")
    sealed = rules.seal(0, [HeaderReport("late", header), ShardReport("late", StagedShard("staged", shard))])
    assert (sealed.manifest.rows_late, sealed.summaries, sealed.manifest.statistics) == (1, (), None)


def test_late_rows_are_published_though_it_is_not_known_any_more_what_was_read(tmp_path):
    output = tmp_path / "dataset"
    write_bounded(output, [batch_of([0, 1], 5)], run_id="r1")
    rules = SealingRules(TENS, DatasetSpec(str(output), num_shards=2, window=TENS))
    (before,) = read_window_manifests(str(output))
    path = window_manifest_path(str(output), before.name)
    pathlib.Path(path).write_text(
        dataclasses.replace(before, closings=(closing(1),), covered={"u": ((0, 2),)}).to_json()
    )
    shard = dataclasses.replace(before.shards[0], path="train/late-0", records=1, pane="late")
    header = PaneHeader("r1", True, rows=1, is_continued=True)
    late = [HeaderReport("late", header), ShardReport("late", StagedShard("staged", shard))]
    manifest = rules.seal(0, late).manifest
    assert (manifest.rows_late, manifest.rows_out, manifest.closings, manifest.covered) == (1, 3, (), {})
    pathlib.Path(path).write_text(manifest.to_json())
    assert rules.seal(0, late).manifest == manifest, "an earlier attempt has published it"


@pytest.mark.parametrize("is_known", [True, False])
def test_a_late_pane_continues_what_an_earlier_start_published(tmp_path, is_known):
    output = tmp_path / "dataset"
    write_bounded(output, [batch_of([0, 1], 5)], run_id="r1", summaries=IdSummaries() if is_known else None)
    staging = Staging(str(output), "r1")
    rules = SealingRules(TENS, DatasetSpec(str(output), num_shards=2, window=TENS))
    header = PaneHeader("r1", True, rows=0, closing=closing(1), is_continued=True, summaries=1)
    (tmp_path / "late").write_bytes(encoded([7]))
    sealed = rules.seal(0, [HeaderReport("late", header), SummaryReport("late", str(tmp_path / "late"))])
    publisher = WindowPublisher(staging, TENS, summaries=IdSummaries())
    for _ in range(2):  # the second attempt finds what the first one published
        manifest = publisher.publish(sealed)
    assert [*read_window_manifests(str(output))] == [manifest]
    if is_known:
        assert said(output, manifest) == [0, 1, 7]
        assert published(output) == [f"{manifest.name}.2.json", f"{manifest.name}.2.pb"]
    else:
        assert manifest.statistics is None, "it would be of the late rows alone"
