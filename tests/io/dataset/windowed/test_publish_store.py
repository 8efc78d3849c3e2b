"""Publication of windows in an object store, on moto's S3: all is written once, and manifests name it."""

import dataclasses
import os
import textwrap
import time

import forked
import pytest
from store_fixtures import bucket, emulator  # noqa: F401

from penstock.io.beam.windows import parse_window
from penstock.io.dataset import run_folder
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.observer import Judgement
from penstock.io.dataset.run_folder import Turn
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed import publish as publish_windows
from penstock.io.dataset.windowed.manifest import WindowManifest, WindowShard, read_window_manifests
from penstock.io.dataset.windowed.publish import WindowPublisher
from penstock.io.dataset.windowed.seal import SealingRules
from penstock.io.dataset.windowed.shards import HeaderReport, RejectsReport, ShardReport, StagedShard, SummaryReport
from penstock.io.dataset.windowed.tasks import PaneHeader
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.dead_letters.replay.named import NamedLetters
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.io.files.inputs import match_files
from penstock.transforms.dataset_status import dataset_status
from pipelines._inspect.clean import clean

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SECOND = 1_000_000
TENS = parse_window("fixed:10s")
START = "19700101T000000Z"
NAME = f"{START}_19700101T000010Z"


@pytest.fixture
def output(bucket):  # noqa: F811
    return f"{bucket}/out"


@dataclasses.dataclass(frozen=True)
class Lines:
    """Summaries that are the states put together."""

    rejected = None

    def merge(self, states):
        return b"".join(states)

    def files(self, state):
        return {".pb": state, ".json": b"{}"}

    def restore(self, content):
        return content

    def judge(self, version, state, published):
        return Judgement()


class Run:
    """A start that has written what its windows need."""

    def __init__(self, output, run_id="r1", **options):
        self.staging = Staging(output, run_id)
        spec = DatasetSpec(output, 1, compression="none", splits=("train",), max_reject_fraction=1.0)
        self.rules = SealingRules(TENS, spec, self.staging)
        self.publisher = WindowPublisher(self.staging, TENS, summaries=Lines(), **options)

    def shard(self, pane, records, attempt="1a2b3c4d", window=0):
        prefix = "late" if pane == "late" else "part"
        folder = TENS.name(window * SECOND).partition("_")[0]
        path = f"{self.staging.name}/train/{folder}/{prefix}-00000-of-00001-{attempt}.tfrecord"
        url = f"{self.staging.output}/{path}"
        stores.write_file(url, b"x" * records)
        shard = WindowShard(path, "train", records, records, records, "0" * 8, attempt, None, pane)
        return ShardReport(pane, StagedShard(url, shard))

    def letters(self, name, folder=None):
        path = stores.join(folder or self.staging.dead_letters, name)
        stores.write_file(path, b"{}\n")
        stores.write_file(f"{path}.summary", b"state")
        file = DeadLetterFile(path, 1, {"late": 1}, {"write": 1}, summary=f"{path}.summary")
        return RejectsReport("on_time", file)

    def summary(self, pane):
        path = self.staging.temporary("shards", NAME, pane)
        stores.write_file(path, pane.encode())
        return SummaryReport(pane, path)

    def on_time(self, *letters, attempt="1a2b3c4d", rows=5, final=False, window=0):
        letters = letters or (self.letters("a.jsonl"), self.letters("b.jsonl"))
        header = PaneHeader("r1", final, len(letters), 1, rows, summaries=1)
        shard = self.shard("on_time", rows, attempt, window)
        return [HeaderReport("on_time", header), shard, self.summary("on_time"), *letters]

    def late(self):
        header = PaneHeader("r1", True, 0, 1, 2, summaries=1)
        return [HeaderReport("late", header), self.shard("late", 2), self.summary("late")]

    def publish(self, reports, window=0):
        return self.publisher.publish(self.rules.seal(window * SECOND, reports))


def is_whole(output):
    """Whether there are windows, and all files that their manifests name."""
    windows, present = list(read_window_manifests(output)), list_files(output)
    assert all(present[shard.path] == shard.bytes for window in windows for shard in window.shards)
    assert all(path in present for window in windows for path in window.files())
    return bool(windows)


def in_runs(output):
    return {path for path in list_files(output) if path.startswith("run-")}


def test_files_stay_where_they_were_written(output, monkeypatch):
    monkeypatch.setattr(publish_windows, "move_files", lambda moves: pytest.fail(f"moves {moves}"))
    run = Run(output)
    reports = run.on_time()
    first = run.publish(reports)
    assert (first.sequence, first.rows_in, first.rows_rejected) == (1, 7, 2)
    assert [file.path for file in first.dead_letters] == [f"run-r1/dead_letters/{name}.jsonl" for name in "ab"]
    assert in_runs(output) == {*first.files()}
    second = run.publish([*reports, *run.late()])
    assert (second.sequence, second.final, second.rows_late) == (2, True, 2)
    assert in_runs(output) == {*second.files()}
    assert first.statistics != second.statistics
    assert stores.read_file(f"{output}/{second.statistics}") == b"lateon_time"
    assert run.publish(reports) == second == WindowManifest.read(f"{output}/windows/{NAME}.json")
    assert in_runs(output) == {*second.files()}


def test_an_old_version_is_whole_until_the_new_one_is(output, monkeypatch):
    run, real, seen = Run(output), stores.write_if, []
    run.publish(run.on_time())

    def watched(*given):
        seen.append(is_whole(output))
        is_done = real(*given)
        seen.append(is_whole(output))
        return is_done

    monkeypatch.setattr(stores, "write_if", watched)
    # Without stable input another attempt may have other content.
    manifest = run.publish(run.on_time(attempt="5e6f7a8b", rows=7))
    assert (seen, manifest.rows_out) == ([True, True], 7)
    assert in_runs(output) == {*manifest.files()}


KILLED = """
    import os, signal, sys
    sys.path[:0] = [{tests!r}, {here!r}]
    from penstock.io.dataset.windowed import publish
    from penstock.io.files import stores
    import test_publish_store as tests
    run = tests.Run({output!r})
    sealed = run.rules.seal(0, [*run.on_time(), *run.late()])
    real = {step}
    def killed(*given):
        {before}real(*given)
        os.kill(os.getpid(), signal.SIGKILL)
    {step} = killed
    run.publisher.publish(sealed)
"""


@pytest.mark.parametrize(
    ("step", "before", "sequence"),
    [
        ("publish.replace_file", "", 1),
        ("stores.write_if", "# ", 1),
        ("stores.write_if", "", 2),
        ("publish.delete_files", "# ", 2),
        ("publish._delete_joined", "# ", 2),
    ],
    ids=["statistics", "before the manifest", "after the manifest", "before the old files go", "before summaries go"],
)
def test_a_publication_that_is_killed_is_done_once(output, step, before, sequence):
    run = Run(output)
    run.publish(run.on_time(run.letters("a.jsonl"), run.letters("b.jsonl")))
    here = os.path.dirname(__file__)
    tests = os.path.dirname(os.path.dirname(os.path.dirname(here)))
    program = textwrap.dedent(KILLED).format(output=output, step=step, before=before, here=here, tests=tests)
    done = forked.run(["-c", program], timeout=120)
    assert done.returncode == -9, done.stderr
    (left,) = read_window_manifests(output)
    assert (is_whole(output), left.sequence) == (True, sequence)
    known = {*left.files(), f"windows/{NAME}.json"}
    staged = tuple(f"{folder.name}/" for folder in dataset_status(output, 0).staging)
    assert [path for path in list_files(output) if path not in known and not path.startswith(staged)] == []
    # As a runner does that has the input of the step.
    manifest = run.publish([*run.on_time(), *run.late()])
    assert (is_whole(output), manifest.sequence) == (True, 2)
    # What is left is named, and goes when it is old.
    assert clean(output, (), time.time() - 3600) == []
    stores.write_file(f"{output}/stream.json", b"{}")
    clean(output, (), time.time() + 60)
    assert is_whole(output)
    assert {path for path in in_runs(output) if "dead_letters" not in path} <= {*manifest.files()}


def test_letters_of_another_folder_are_joined(output, bucket):  # noqa: F811
    run = Run(output)
    foreign = [run.letters(f"{name}.jsonl", f"{bucket}/letters") for name in "xy"]
    manifest = run.publish(run.on_time(run.letters("a.jsonl"), *foreign))
    joined = f"run-r1/dead_letters/{START}/part-00000-of-00001.jsonl"
    assert {file.path: file.records for file in manifest.dead_letters} == {"run-r1/dead_letters/a.jsonl": 1, joined: 2}
    assert stores.read_file(f"{output}/{joined}") == b"{}\n{}\n"
    assert list_files(f"{bucket}/letters") == {}


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (f"train/{START}/part-00000-of-00001-1a2b3c4d.tfrecord", "must have 5 bytes, found no file"),
        ("dead_letters/b.jsonl", r"dead_letters/b\.jsonl is gone"),
    ],
)
def test_a_file_that_is_gone(output, gone, message):
    run = Run(output)
    sealed = run.rules.seal(0, run.on_time())
    stores.delete([f"{output}/run-r1/{gone}"])
    with pytest.raises(DataError, match=message):
        run.publisher.publish(sealed)
    assert not is_whole(output)


def test_what_a_stream_leaves_is_named_and_only_what_is_of_final_windows_goes(output):
    run, later = Run(output), 10
    manifest = run.publish([*run.on_time(), *run.late()])
    open_window = run.publish(run.on_time(run.letters("c.jsonl"), window=later), window=later)
    stores.write_file(f"{output}/stream.json", b"{}")
    Run(output, "r2").shard("on_time", 3, "00000000")  # an attempt whose report is lost
    Run(output, "r2").shard("on_time", 3, "00000000", window=later)  # one that may be published yet
    run.letters("lost.jsonl")
    found = dataset_status(output, time.time())
    assert {(one.name, one.files) for one in found.staging} == {("run-r1", 2), ("run-r2", 2), (".tmp-r1", 2)}
    assert (found.unknown, found.missing) == ((), ())
    deleted = clean(output, (), time.time() + 60)
    assert deleted == [f"run-r2/train/{START}/part-00000-of-00001-00000000.tfrecord"]
    assert {*manifest.files(), *open_window.files()} < in_runs(output)


def test_dead_letters_that_no_window_names_are_not_replayed(output):
    run = Run(output)
    run.letters("lost.jsonl")
    named = NamedLetters()
    files = match_files([f"{output}/**/dead_letters/*.jsonl"])
    assert named.of(files) == files, "of a run without windows"
    run.publish(run.on_time())
    for _ in range(2):
        found = named.of(match_files([f"{output}/**/dead_letters/*.jsonl"]))
        assert [file.uri for file in found] == [f"{output}/run-r1/dead_letters/{name}.jsonl" for name in "ab"]
    run.publish(run.on_time(run.letters("lost.jsonl"), window=10), window=10)
    assert len(named.of(match_files([f"{output}/**/dead_letters/*.jsonl"]))) == 3


def bounded(output, run_id):
    """A run that may replace what is there."""
    return Run(output, run_id, turn=Turn.of(Staging(output, run_id)), replaces=True)


def publish_bounded(run, windows, rows=5):
    replaced = publish_windows._begin(len(windows), run.publisher.turn, True)
    found = []
    for window in windows:
        reports = run.on_time(run.letters(f"{window}.jsonl"), rows=rows, final=True, window=window)
        manifest = dataclasses.replace(run.rules.seal(window * SECOND, reports).manifest, run_id=run.staging.run_id)
        sealed = dataclasses.replace(run.rules.seal(window * SECOND, reports), manifest=manifest)
        found.append(publish_windows._files_of(run.publisher.publish(sealed)))
        assert is_whole(run.staging.output)
    publish_windows._keep(found, run.publisher.turn, True, replaced)


def test_windows_of_bounded_input_replace_those_that_are_there(output, monkeypatch):
    old, new = bounded(output, "old"), bounded(output, "new")
    stores.write_file(old.staging.path("schema.pbtxt"), b"")
    publish_bounded(old, (0, 10, 20))
    assert {path.partition("/")[0] for path in list_files(output)} == {"run-old", "windows", ".tmp-lock-dataset"}
    with pytest.raises(DataError, match="another run has published since this one began; nothing of this one is"):
        publish_bounded(new, (0,))
    new, real, seen = bounded(output, "new"), run_folder.RunFolder.keep_windows, []

    def keep(self, *given):
        seen.extend(manifest.run_id for manifest in read_window_manifests(output))
        real(self, *given)

    monkeypatch.setattr(run_folder.RunFolder, "keep_windows", keep)
    publish_bounded(new, (0, 10), rows=7)
    assert seen == ["new", "new", "old"]
    assert [manifest.rows_out for manifest in read_window_manifests(output)] == [7, 7]
    assert {path.partition("/")[0] for path in list_files(output)} == {"run-new", "windows", ".tmp-lock-dataset"}
    assert dataset_status(output, 0).staging == ()
    with pytest.raises(DataError, match="another run replaces what is there; this one ends"):
        old.publish(old.on_time(final=True))
