import dataclasses
import json
import os
import pathlib

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.portability.api import beam_runner_api_pb2

from penstock.io.beam import progress
from penstock.io.beam.windows import FlushWindows, parse_window
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.manifest import ShardIndex
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed import publish as publish_windows
from penstock.io.dataset.windowed import seal, sweep
from penstock.io.dataset.windowed.chunks import Chunk
from penstock.io.dataset.windowed.manifest import (
    PartWindow,
    WindowManifest,
    WindowSet,
    WindowShard,
    window_manifest_path,
    window_set_path,
)
from penstock.io.dataset.windowed.publish import WindowPublisher, verdict
from penstock.io.dataset.windowed.seal import PaneProgress, SealedWindow, SealingProgress, SealingRules
from penstock.io.dataset.windowed.shards import HeaderReport, RejectsReport, Report, ShardReport, StagedShard
from penstock.io.dataset.windowed.sweep import Sweeper
from penstock.io.dataset.windowed.tasks import PaneHeader, Task, TooLateTask
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError
from penstock.io.files.atomic import conditional
from penstock.io.files.folders import list_files
from penstock.io.kernel import crc32c
from penstock.io.reasons import Note

SECOND = 1_000_000
TENS = parse_window("fixed:10s")
NAME = "19700101T000000Z_19700101T000010Z"
SPEC = DatasetSpec("out", 1, compression="none", splits=("train", "eval"), max_reject_fraction=0.2)
RULES = SealingRules(TENS, SPEC)


def publisher(output, run_id="r1"):
    return WindowPublisher(Staging(str(output), run_id), TENS)


def shard_report(output, split, pane, records, attempt="1", window=0):
    prefix = "late" if pane == "late" else "part"
    staged = pathlib.Path(output, ".tmp-r1", "shards", TENS.name(window * SECOND), f"{split}-{pane}-{attempt}")
    staged.parent.mkdir(parents=True, exist_ok=True)
    staged.write_bytes(b"x" * records)
    path = f"{split}/{TENS.name(window * SECOND)[:16]}/{prefix}-00000-of-00001.tfrecord"
    checksum = f"{crc32c.extend(0, staged.read_bytes()):08x}"
    shard = WindowShard(path, split, records, records, records, checksum, attempt, None, pane)
    return ShardReport(pane, StagedShard(str(staged), shard))


def reject_report(output, name, records):
    staged = pathlib.Path(output, ".tmp-r1", "dead_letters", name)
    staged.parent.mkdir(parents=True, exist_ok=True)
    staged.write_text("{}\n" * records)
    return RejectsReport("on_time", DeadLetterFile(str(staged), records, {"late": records}, {"write": records}))


def header(pane, shards, rejects=0, rows=0, final=False, run_id="r1"):
    return HeaderReport(pane, PaneHeader(run_id, final, rejects, shards, rows))


def on_time(output, attempt="1", rows=5, final=False, run_id="r1"):
    shards = [
        shard_report(output, "train", "on_time", rows, attempt),
        shard_report(output, "eval", "on_time", 0, attempt),
    ]
    return [header("on_time", 2, 1, rows, final, run_id), *shards, reject_report(output, f"{attempt}.jsonl", 1)]


def late(output, attempt="1"):
    return [header("late", 1, 0, 2, True), shard_report(output, "train", "late", 2, attempt)]


@pytest.mark.parametrize(("foreign", "status"), [(True, "published"), (False, "quarantined")])
def test_foreign_rejects_are_no_fault_of_a_window(tmp_path, foreign, status):
    header_report, *others, rejects = on_time(tmp_path)
    rejects = dataclasses.replace(rejects, rejects=dataclasses.replace(rejects.rejects, records=9, foreign=foreign))
    rejects.rejects.stages["write"] = 9
    manifest = RULES.seal(0, [header_report, *others, rejects]).manifest
    assert (manifest.status, manifest.rows_in, manifest.rows_rejected) == (status, 14, 9)
    assert manifest.rows_foreign == (9 if foreign else 0)
    assert manifest.rejected_by_stage == {"write": 9}


def manifest_in(output):
    return WindowManifest.read(window_manifest_path(str(output), NAME))


def test_versions_of_a_window(tmp_path):
    reports = on_time(tmp_path)
    first = publisher(tmp_path).publish(RULES.seal(0, reports))
    assert (first.sequence, first.final, first.rows_in, first.rows_out, first.rows_rejected) == (1, False, 6, 5, 1)
    assert (first.status, first.splits) == ("published", {"train": 5, "eval": 0})
    second = publisher(tmp_path).publish(RULES.seal(0, reports + late(tmp_path)))
    assert (second.sequence, second.final, second.rows_on_time, second.rows_late) == (2, True, 5, 2)
    assert manifest_in(tmp_path) == second
    assert set(list_files(str(tmp_path))) == {
        f"windows/{NAME}.json", "dead_letters/19700101T000000Z/part-00000-of-00001.jsonl",
        "train/19700101T000000Z/part-00000-of-00001.tfrecord", "train/19700101T000000Z/late-00000-of-00001.tfrecord",
        "eval/19700101T000000Z/part-00000-of-00001.tfrecord",
    }  # fmt: skip


def with_index(reports):
    """The same, each shard with an index that is staged beside it."""
    for report in reports:
        if isinstance(report, ShardReport):
            staged, content = report.shard, b"index of " + report.shard.path.encode()
            pathlib.Path(f"{staged.path}.index").write_bytes(content)
            checksum = f"{crc32c.extend(0, content):08x}"
            index = ShardIndex(f"_index/{staged.shard.path}.index", len(content), checksum)
            report = ShardReport(report.pane, StagedShard(staged.path, dataclasses.replace(staged.shard, index=index)))
        yield report


def test_indexes_are_published_with_their_shards(tmp_path):
    """Also by an attempt that finds some of them moved; one that another attempt wrote otherwise is an error."""
    reports = [*with_index(on_time(tmp_path))]
    sealed = coders.registry.get_coder(SealedWindow).decode(
        coders.registry.get_coder(SealedWindow).encode(RULES.seal(0, reports))
    )
    (staged, index), *_ = [(path, name) for path, name in sealed.moves.items() if name.startswith("_index/train/")]
    assert len(sealed.moves) == 4
    (tmp_path / index).parent.mkdir(parents=True)
    content = pathlib.Path(staged).read_bytes()
    os.replace(staged, tmp_path / index)
    (tmp_path / index).write_bytes(content[::-1])
    with pytest.raises(DataError, match=rf"{index} must have the CRC32C"):
        publisher(tmp_path).publish(sealed)
    (tmp_path / index).write_bytes(content)
    first = publisher(tmp_path).publish(sealed)
    second = publisher(tmp_path).publish(RULES.seal(0, [*reports, *with_index(late(tmp_path))]))
    assert manifest_in(tmp_path) == second
    assert len({*second.files()} - {*first.files()}) == 2
    assert set(list_files(str(tmp_path))) == {f"windows/{NAME}.json", *second.files()}


def test_too_many_rejects_quarantine_a_window(tmp_path):
    assert RULES.seal(0, on_time(tmp_path, rows=3)).manifest.status == "quarantined"
    assert RULES.seal(0, on_time(tmp_path, rows=4)).manifest.status == "published"


@pytest.mark.parametrize(
    ("order", "counted"),
    [
        ([0, 1], {"windows": 1, "final": 1}),
        ([0, 0], {"windows": 1}),
        ([1, 0], {"windows": 1, "final": 1}),
        ([0, 1, 1, 0], {"windows": 1, "final": 1}),
    ],
    ids=["its late rows come", "twice", "overtaken", "again"],
)
def test_a_window_is_counted_once(tmp_path, order, counted):
    reports = on_time(tmp_path)
    sealed = [RULES.seal(0, reports), RULES.seal(0, reports + late(tmp_path))]
    progress.reset()
    for number in order:
        publisher(tmp_path).publish(sealed[number])
    assert {name: count for name, count in progress.snapshot().done.items() if count} == counted
    progress.reset()


def test_publishing_twice_is_harmless(tmp_path):
    sealed = RULES.seal(0, on_time(tmp_path))
    publisher(tmp_path).publish(sealed)
    before = {path: (tmp_path / path).read_bytes() for path in list_files(str(tmp_path))}
    assert publisher(tmp_path).publish(sealed) == sealed.manifest
    assert {path: (tmp_path / path).read_bytes() for path in list_files(str(tmp_path))} == before


def test_older_version_never_replaces_a_newer_one(tmp_path):
    reports = on_time(tmp_path)
    old, new = RULES.seal(0, reports), RULES.seal(0, reports + late(tmp_path))
    publisher(tmp_path).publish(new)
    assert publisher(tmp_path).publish(old) == new.manifest
    assert manifest_in(tmp_path) == new.manifest


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_crash_between_renames_and_manifest(tmp_path, monkeypatch, renames):
    sealed = RULES.seal(0, on_time(tmp_path))
    moved = []
    real = publish_windows.move_files

    def crash(moves):
        if len(moved) == renames:
            raise OSError("killed")
        moved.append(moves)
        real(moves)

    monkeypatch.setattr(publish_windows, "move_files", crash)
    monkeypatch.setattr(conditional, "move_files", crash)
    with pytest.raises(OSError, match="killed"):
        publisher(tmp_path).publish(sealed)
    assert manifest_in(tmp_path) is None
    monkeypatch.undo()
    publisher(tmp_path).publish(sealed)
    assert manifest_in(tmp_path) == sealed.manifest
    assert all((tmp_path / path).is_file() for path in sealed.manifest.files())


def test_without_stable_input_shards_and_manifest_are_of_one_attempt(tmp_path):
    first = RULES.seal(0, on_time(tmp_path, "1"))
    publisher(tmp_path).publish(first)
    again = RULES.seal(0, on_time(tmp_path, "2", rows=7))
    publisher(tmp_path).publish(again)
    assert manifest_in(tmp_path).rows_out == 7
    assert len((tmp_path / manifest_in(tmp_path).shards[0].path).read_bytes()) == 7


@pytest.mark.parametrize(("final", "joins"), [(True, True), (True, False), (False, True)])
def test_a_final_window_that_is_in_a_set_stays_as_it_was_read(tmp_path, final, joins):
    first = publisher(tmp_path).publish(RULES.seal(0, on_time(tmp_path, "1", final=final)))
    shared = {
        name: getattr(first, name) for name in ("windows", "compression", "shuffle", "seed", "format", "media_type")
    }
    part = PartWindow(NAME if joins else f"{NAME[:16]}_19700101T000020Z", "id", 5)
    day = ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z")
    found = WindowSet("r2", "id", day[0], day, rows_out=5, splits={"train": 5}, shards=(), parts=(part,), **shared)
    path = pathlib.Path(window_set_path(str(tmp_path), found.name))
    path.parent.mkdir()
    path.write_text(found.to_json())
    again = publisher(tmp_path).publish(RULES.seal(0, on_time(tmp_path, "2", rows=7, final=final)))
    assert manifest_in(tmp_path) == again
    assert again.rows_out == (5 if final and joins else 7)
    assert all((tmp_path / shard.path).stat().st_size == shard.bytes for shard in again.shards)


def test_what_becomes_of_a_new_version(tmp_path):
    reports = on_time(tmp_path)
    first, second = (RULES.seal(0, found).manifest for found in (reports, reports + late(tmp_path)))
    retried = dataclasses.replace(first, created="later")
    divided = RULES.seal(0, on_time(tmp_path, "2", rows=7)).manifest
    other = dataclasses.replace(first, run_id="r2")
    cases = {
        "nothing is published": (None, first, "publish"),
        "a higher sequence": (first, second, "publish"),
        "a lower sequence": (second, first, "keep"),
        "a lower sequence with other content": (second, divided, "keep"),
        "the same": (first, first, "keep"),
        "the same, sealed again": (first, retried, "keep"),
        "the same sequence with other content": (first, divided, "publish"),
        "another run": (first, other, "refuse"),
        "another run with a higher sequence": (other, second, "refuse"),
    }
    assert {name: verdict(current, new) for name, (current, new, _) in cases.items()} == {
        name: due for name, (*_, due) in cases.items()
    }


def test_files_of_an_attempt_that_another_one_replaces_go(tmp_path):
    reports = [*on_time(tmp_path), *late(tmp_path)]
    publisher(tmp_path).publish(RULES.seal(0, reports))
    again = [header("on_time", 2, 0, 7), *on_time(tmp_path, "2", rows=7)[1:3], header("late", 0, 0, 0, True)]
    manifest = publisher(tmp_path).publish(RULES.seal(0, again))
    assert manifest_in(tmp_path) == manifest
    published = {path for path in list_files(str(tmp_path)) if not path.startswith(".tmp-")}
    assert published == {*manifest.files(), f"windows/{NAME}.json"}
    assert len(published) == 3


def test_a_shard_in_the_place_of_one_that_was_moved(tmp_path):
    sealed = RULES.seal(0, on_time(tmp_path))
    shard = sealed.manifest.shards[0]
    os.remove(next(path for path, name in sealed.moves.items() if name == shard.path))
    (tmp_path / shard.path).parent.mkdir(parents=True)
    (tmp_path / shard.path).write_bytes(b"y" * shard.bytes)
    with pytest.raises(
        DataError, match=rf"{shard.path} must have the CRC32C {shard.crc32c}, found [0-9a-f]{{8}}; does"
    ):
        publisher(tmp_path).publish(sealed)
    assert manifest_in(tmp_path) is None


class Overtaken(conditional.LocalFile):
    """A manifest that another process writes whenever this one has read it."""

    times = 0

    def write(self, content, replaces):
        if Overtaken.times:
            Overtaken.times -= 1
            return False
        return super().write(content, replaces)


@pytest.fixture
def overtaken(monkeypatch):
    monkeypatch.setattr(publish_windows, "conditional_file", Overtaken)
    yield Overtaken
    Overtaken.times = 0


def test_a_version_that_is_overtaken_starts_anew(tmp_path, overtaken):
    sealed, overtaken.times = RULES.seal(0, on_time(tmp_path)), 2
    assert publisher(tmp_path).publish(sealed) == manifest_in(tmp_path) == sealed.manifest
    assert overtaken.times == 0


def test_a_version_that_is_overtaken_for_ever(tmp_path, overtaken):
    overtaken.times = 1000
    with pytest.raises(
        DataError, match=rf"{NAME}\.json: others replaced it 10 times while it was written; does another"
    ):
        publisher(tmp_path).publish(RULES.seal(0, on_time(tmp_path)))


def with_rejects(output, *names, records=1):
    """A window with files of dead letters, and a shard."""
    reports = [reject_report(output, name, records) for name in names]
    return [header("on_time", 1, len(names), 5, True), shard_report(output, "train", "on_time", 5), *reports]


def test_dead_letters_of_many_bundles_are_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(seal, "_LETTERS_PER_FILE", 7)
    names = [f"{number}.jsonl" for number in range(5)]
    sealed = RULES.seal(0, with_rejects(tmp_path, *names, "parked/a.jsonl", records=2))
    publisher(tmp_path).publish(sealed)
    folder = "dead_letters/19700101T000000Z"
    expected = {
        f"{folder}/part-00000-of-00002.jsonl": 6,
        f"{folder}/part-00001-of-00002.jsonl": 4,
        f"{folder}/parked/part-00000-of-00001.jsonl": 2,
    }
    manifest = manifest_in(tmp_path)
    assert {file.path: file.records for file in manifest.dead_letters} == expected
    assert {path: (tmp_path / path).read_text().count("{}\n") for path in expected} == expected
    assert set(list_files(str(tmp_path))) == {*manifest.files(), f"windows/{NAME}.json"}


@pytest.mark.parametrize("is_published", [True, False])
@pytest.mark.parametrize("deleted", [0, 1, 3])
def test_crash_while_dead_letters_are_deleted_that_were_joined(tmp_path, monkeypatch, deleted, is_published):
    sealed = RULES.seal(0, with_rejects(tmp_path, "a.jsonl", "b.jsonl", "c.jsonl"))
    (staged,) = sealed.letters.values()

    def crash(paths):
        for path in paths[:deleted]:
            os.remove(path)
        raise OSError("killed")

    monkeypatch.setattr(publish_windows, "_delete_joined", lambda sealed: crash(*sealed.letters.values()))
    with pytest.raises(OSError, match="killed"):
        publisher(tmp_path).publish(sealed)
    monkeypatch.undo()
    if not is_published:  # as a release before this one left it
        os.remove(window_manifest_path(str(tmp_path), NAME))
    publisher(tmp_path).publish(sealed)
    ((path, records),) = ((file.path, file.records) for file in manifest_in(tmp_path).dead_letters)
    assert ((tmp_path / path).read_text(), records) == ("{}\n" * 3, 3)
    assert len(staged) == 3
    assert not any(map(os.path.exists, staged))


def test_dead_letters_that_another_attempt_joins_and_deletes_meanwhile(tmp_path, monkeypatch):
    sealed = RULES.seal(0, with_rejects(tmp_path, "a.jsonl", "b.jsonl"))
    real = publish_windows.WindowPublisher._write_joined

    def overtaken(self, staged, path):
        real(self, staged, path)
        os.remove(staged[1])
        real(self, staged, path)

    monkeypatch.setattr(publish_windows.WindowPublisher, "_write_joined", overtaken)
    publisher(tmp_path).publish(sealed)
    ((path, records),) = ((file.path, file.records) for file in manifest_in(tmp_path).dead_letters)
    assert ((tmp_path / path).read_text(), records) == ("{}\n" * 2, 2)


def test_joined_dead_letters_of_another_attempt(tmp_path):
    """The parts are gone, and the file in their place has other rows."""
    sealed = RULES.seal(0, with_rejects(tmp_path, "a.jsonl", "b.jsonl"))
    ((path, staged),) = sealed.letters.items()
    os.remove(staged[0])
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("{}\n")
    with pytest.raises(DataError, match=r"part-00000-of-00001\.jsonl: its parts are gone"):
        publisher(tmp_path).publish(sealed)
    assert manifest_in(tmp_path) is None


def test_dead_letters_that_are_gone(tmp_path):
    sealed = RULES.seal(0, with_rejects(tmp_path, "a.jsonl", "b.jsonl"))
    os.remove(tmp_path / ".tmp-r1" / "dead_letters" / "b.jsonl")
    with pytest.raises(DataError, match=r"part-00000-of-00001\.jsonl: its parts are gone, .*a\.jsonl"):
        publisher(tmp_path).publish(sealed)
    assert manifest_in(tmp_path) is None


def test_file_that_is_gone(tmp_path):
    sealed = RULES.seal(0, on_time(tmp_path))
    os.remove(next(path for path, name in sealed.moves.items() if "train" in name))
    with pytest.raises(DataError, match=r"train/.* must have 5 bytes, found no file; does another job write"):
        publisher(tmp_path).publish(sealed)
    assert manifest_in(tmp_path) is None


def test_window_of_another_run(tmp_path):
    publisher(tmp_path).publish(RULES.seal(0, on_time(tmp_path)))
    with pytest.raises(DataError, match="was published by the run r1, this one is r2: a job goes on into its output"):
        publisher(tmp_path).publish(RULES.seal(0, on_time(tmp_path, "2", run_id="r2")))


def test_rows_that_are_in_no_shard(tmp_path):
    reports = [header("on_time", 1, rows=6, final=True), shard_report(tmp_path, "train", "on_time", 5)]
    with pytest.raises(DataError, match=f"window {NAME}: 6 rows came and 5 are in its shards; it is not published"):
        RULES.seal(0, reports)


def test_extras_are_published_once(tmp_path):
    staging = Staging(str(tmp_path), "r1")
    for name in ("schema.pbtxt", "transform/graph"):
        path = pathlib.Path(staging.path(*name.split("/")))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    publishing = dataclasses.replace(publisher(tmp_path), extras=("schema.pbtxt", "transform"))
    publishing.publish_extras()
    publishing.publish_extras()
    assert set(list_files(str(tmp_path))) == {"schema.pbtxt", "transform/graph"}


def test_panes_are_ready_when_all_reports_are_there(tmp_path):
    progress = SealingProgress()
    seen = []
    for report in [*late(tmp_path), *on_time(tmp_path)[::-1]]:
        progress = progress.add(report)
        seen.append(progress.ready())
    assert seen == [(), (), (), (), (), ("on_time", "late")]
    progress = SealingProgress()
    for report in on_time(tmp_path)[:3]:
        progress = progress.add(report)
    assert progress.missing() == "3 of 4 reports of its on-time pane are there"
    progress = progress.add(on_time(tmp_path)[3])
    assert progress.ready() == ("on_time",)
    assert progress.sealed().ready() == ()
    assert progress.sealed().missing() == "nothing of its late pane is there"
    assert dataclasses.replace(progress, is_final=True).missing() is None
    assert not PaneProgress().is_complete


@pytest.fixture
def old_temporaries(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "KEPT_SECONDS", 0.0)
    paths = {}
    for window in (0, 10, 70):
        for run, kind in (("r0", "chunks"), ("r1", "chunks"), ("r1", "shards")):
            path = tmp_path / f".tmp-{run}" / kind / TENS.name(window * SECOND) / "file"
            path.parent.mkdir(parents=True)
            path.write_text("x")
            os.utime(path, (1, 1))
            paths[run, kind, window] = path
    return paths


def publish_final(output, window):
    reports = [header("on_time", 1, rows=1, final=True), shard_report(output, "train", "on_time", 1, window=window)]
    publisher(output).publish(RULES.seal(window * SECOND, reports))


def test_temporaries_of_a_final_window_go_when_three_more_are(tmp_path, old_temporaries):
    sweeper = Sweeper(Staging(str(tmp_path), "r1"), TENS)
    for count, window in enumerate((0, 20, 30), 1):
        publish_final(tmp_path, window)
        assert sum(path.exists() for path in old_temporaries.values()) == 9, count
        sweeper.sweep(window * SECOND)
    left = {window for (_, _, window), path in old_temporaries.items() if path.exists()}
    assert left == {10, 70}
    publish_final(tmp_path, 10)
    Sweeper(Staging(str(tmp_path), "r1"), TENS).sweep(10 * SECOND)
    sweeper.sweep(40 * SECOND)
    assert {window for (_, _, window), path in old_temporaries.items() if path.exists()} == {70}


def test_chunks_of_windows_of_processing_time_go_once_those_are_published(tmp_path):
    windows, start = FlushWindows(rows=9), 1_500_000
    chunks = [tmp_path / ".tmp-r1" / "chunks" / "arriving" / name for name in "abc"]
    chunks[0].parent.mkdir(parents=True)
    for chunk in chunks:
        chunk.write_text("x")
    sweeper = Sweeper(Staging(str(tmp_path), "r1"), windows)
    sweeper.sweep(9_500_000, {str(start): tuple(map(str, chunks[:2]))})
    assert all(chunk.exists() for chunk in chunks), "their window is not published"
    rules = SealingRules(windows, SPEC)
    sealed = rules.seal(start, [HeaderReport("on_time", PaneHeader("r1", True, end=2_000_000, number=3))])
    WindowPublisher(Staging(str(tmp_path), "r1"), windows).publish(sealed)
    manifest = WindowManifest.read(str(tmp_path / "windows" / "19700101T000001.500000Z.json"))
    assert (manifest.window[1], manifest.number) == ("1970-01-01T00:00:02.000000Z", 3)
    sweeper.sweep(9_600_000)
    assert [chunk.exists() for chunk in chunks] == [False, False, True]


def test_chunks_that_have_just_come_for_a_window_that_is_final_stay(tmp_path, old_temporaries, monkeypatch):
    monkeypatch.setattr(sweep, "KEPT_SECONDS", 120.0)
    new = old_temporaries["r1", "chunks", 0].with_name("new")
    new.write_text("too late rows")
    sweeper = Sweeper(Staging(str(tmp_path), "r1"), TENS)
    for window in (0, 20, 30, 40, 50):
        publish_final(tmp_path, window)
        sweeper.sweep(window * SECOND)
    assert new.exists()
    assert not old_temporaries["r1", "chunks", 0].exists()


def test_elements_between_the_stages_are_json(tmp_path):
    sealed = RULES.seal(0, on_time(tmp_path) + late(tmp_path))
    values = [
        sealed,
        sealed.manifest,
        late(tmp_path)[1],
        late(tmp_path)[0],
        TooLateTask(1, Chunk(0, "p", 1, (), (0, 1))),
    ]
    for kind, value in zip((SealedWindow, type(sealed.manifest), Report, Report, Task), values, strict=True):
        coder = coders.registry.get_coder(kind)
        assert coder.decode(coder.encode(value)) == value
        assert coder.encode(value).startswith(b"{")
        assert coder.is_deterministic()


def test_state_of_a_stream_that_runs_is_read():
    """What a release before this one wrote, when a report was one class with optional fields."""
    coder = coders.registry.get_coder(Report)
    text = b'{"pane":"late","header":{"shards":2,"rejects":0,"rows":7,"inputs":[],"final":true,"run_id":"r1"}}'
    assert coder.decode(text) == header("late", 2, rows=7, final=True)
    assert json.loads(coder.encode(header("late", 2, rows=7, final=True))) == {
        "pane": "late",
        "header": {"run_id": "r1", "final": True, "shards": 2, "rows": 7},
    }
    letters = b'{"pane":"on_time","rejects":{"path":"p","records":1,"reasons":{"late":1},"stages":{"write":1}}}'
    assert coder.decode(letters) == RejectsReport("on_time", DeadLetterFile("p", 1, {"late": 1}, {"write": 1}))
    assert coder.encode(coder.decode(letters)) == letters


def test_notes_of_both_panes_are_in_the_manifest_of_a_window(tmp_path):
    def noted(report, count):
        notes = (Note("float32.rounded", "x", count, f"such as {count}"),)
        return dataclasses.replace(report, header=dataclasses.replace(report.header, notes=notes))

    reports = [noted(item, 2) if isinstance(item, HeaderReport) else item for item in on_time(tmp_path)]
    reports += [noted(item, 1) if isinstance(item, HeaderReport) else item for item in late(tmp_path)]
    known = Note("left_out", "y", 7, "a list")
    rules = SealingRules(TENS, dataclasses.replace(SPEC, notes=(known,)))
    manifest = publisher(tmp_path).publish(rules.seal(0, reports))
    assert manifest.notes == (known, Note("float32.rounded", "x", 3, "such as 1"))
    assert WindowManifest.read(window_manifest_path(str(tmp_path), NAME)) == manifest


@pytest.mark.parametrize(("runner", "has_state"), [("FnApiRunner", True), ("FlinkRunner", False)])
def test_versions_are_published_one_by_one(runner, has_state):
    """State makes a runner process the versions of a window one after the other; Flink does so without."""
    pipeline = beam.Pipeline(runner=runner)
    unbounded = beam.pvalue.PCollection(pipeline, element_type=tuple[int, SealedWindow], is_bounded=False)
    unbounded.producer = (pipeline | beam.Impulse()).producer
    _ = unbounded | "Windows" >> publish_windows.PublishWindows(publisher("out"), overwrite=False)
    payloads = [
        beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
        for step in pipeline.to_runner_api().components.transforms.values()
        if step.unique_name == "Windows/Publish"
    ]
    assert [(bool(payload.state_specs), payload.requires_stable_input) for payload in payloads] == [
        (has_state, not has_state)
    ]


def test_another_run_has_cleared_the_folder(tmp_path):
    """Two runs with --overwrite end at once: what the second one staged went with the old dataset."""
    first, second = Staging(str(tmp_path), "r1"), Staging(str(tmp_path), "r2")
    for staging in (first, second):
        pathlib.Path(staging.path("shards")).mkdir(parents=True)
        pathlib.Path(staging.path("shards", "a")).write_text("x")
    for _ in range(2):
        publish_windows._clear(1, first, True)
    with pytest.raises(DataError, match="another run has replaced what is there while this one ran; nothing is publis"):
        publish_windows._clear(1, second, True)
    assert list_files(first.directory)
