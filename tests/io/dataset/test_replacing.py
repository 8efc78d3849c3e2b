"""A run that replaces a dataset on a disk is killed at every change that it makes there: old or new, one is whole."""

import contextlib
import errno
import itertools
import math
import os
import pathlib
import shutil
import threading

import pytest
from helpers import job, run_prepare, tree, write_csv

import penstock
from penstock.io.dataset.layout import MANIFEST, Staging, clear_once, lock_path, put_back_ended
from penstock.io.dataset.load.shards.contents import read_contents
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.publish import Publisher
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed import publish as publish_windows
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import ConfigError
from penstock.io.files.atomic.aside import told_of
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import list_files, move_files
from penstock.io.files.owned import owning
from penstock.transforms.verify import verify_dataset
from pipelines._report.result import DONE, WRONG_USAGE
from pipelines._run.staging import remove_staged
from pipelines.show import run as show
from pipelines.status import run as status
from pipelines.verify import run as verify

# What changes a folder.
CHANGES = ("rename", "replace", "remove", "unlink", "rmdir", "mkdir")

ENDED = {"since": math.inf}


class Killed(BaseException):
    """Stands for the end of the process: nothing that handles errors handles it."""


def stops_at(step, action, error=None):
    """Whether an action comes to its nth change of the disk, where its process ends, or it meets an error once."""
    left, thread = step, threading.get_ident()

    def counted(name, real):
        def change(path, *arguments, **options):
            nonlocal left
            if threading.get_ident() == thread and not _is_idle(name, path, options):
                left -= 1
                if left == 0 or (left < 0 and error is None):
                    raise error or Killed
            return real(path, *arguments, **options)

        return change

    with pytest.MonkeyPatch.context() as patched:
        for name in CHANGES:
            patched.setattr(os, name, counted(name, getattr(os, name)))
        with contextlib.suppress(Killed if error is None else OSError):
            action()
    return left <= 0


def _is_idle(name, path, options):
    """Whether a call changes nothing; and of a lock, the system gives it free, and other tests look at its file."""
    if ".tmp-lock-" in str(path):
        return True
    if options.get("dir_fd") is not None:
        return False
    return (name == "mkdir" and os.path.isdir(path)) or (name == "rmdir" and bool(os.listdir(path)))


def each_kill(begin, by=1):
    """Begins runs, and kills each of them at a later change of its publication, until one comes to its end."""
    for step in itertools.count(1, by):
        if not stops_at(step, begin().publish):
            assert step > 20
            return
        yield step


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two datasets without windows and one with them, by their names; no file of one is as in another."""
    folder, flags = (
        tmp_path_factory.mktemp("made"),
        ("--index", "--num_shards=1", "--split=train=0.7,eval=0.3", "--statistics=none"),
    )
    for first, name in enumerate(("old", "new")):
        path = write_csv(folder / f"{name}.csv", [{"id": 100 * first + i} for i in range(40 + first)], ["id"])
        assert run_prepare("--input", path, "--output", folder / name, *flags) == DONE
    times = [{"id": 200 + i, "time": 1_700_000_000 + 60 * (i % 2)} for i in range(30)]
    path = write_csv(folder / "windows.csv", times, ("id", "time"))
    flags = ("--event_time=time:s", "--window=fixed:60s", "--num_shards=1", "--statistics=none")
    assert run_prepare("--input", path, "--output", folder / "windows", *flags) == DONE
    for name in ("croissant.json", "statistics/out.pb", "_versions/000001.json.gz"):
        write(folder / "old" / name, "")
    return folder


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def rows(folder):
    """The ids in all splits."""
    splits = [penstock.load(folder, split) for split in read_contents(str(folder)).splits]
    return sorted(value for loaded in splits for batch in loaded.batches(1000) for value in batch["id"].to_pylist())


def visible(folder):
    """The files that a reader may see, with their content; of the manifest of a run that is killed, its name."""
    files = {path: content for path, content in tree(folder).items() if not path.startswith((".", "_history/"))}
    return files | ({MANIFEST: b"new"} if b'"run_id": "new"' in files.get(MANIFEST, b"") else {})


class Whole:
    """A run that replaces what is in a folder by the dataset `new`."""

    name = "new"

    def __init__(self, made, out, run_id="new"):
        self.source, self.out, self.staging = made / "new", out, Staging(str(out), run_id)

    def stage(self):
        folder = pathlib.Path(self.staging.directory)
        shutil.copytree(
            self.source,
            folder,
            copy_function=os.link,
            ignore=shutil.ignore_patterns(MANIFEST, "README.md", "dead_letters"),
        )
        write(folder / "dead_letters" / "a.jsonl", "")
        write(folder / "_history" / f"{self.staging.run_id}.parquet", "a point")

    def publish(self):
        manifest = read_manifest(str(self.source))
        spec = DatasetSpec(
            str(self.out), splits=tuple(manifest.splits), compression=manifest.compression, overwrite=True,
            max_reject_fraction=0.5, extras=("schema.pbtxt",),
        )  # fmt: skip
        letters = DeadLetterFile(self.staging.path("dead_letters", "a.jsonl"), 0, {}, {})
        Publisher(self.staging, spec).publish(list(manifest.shards), [letters], manifest.rows_out)


class Windowed(Whole):
    """The same with `windows`: their steps, and renames in the order in which windows are published."""

    name = "windows"

    def __init__(self, made, out, run_id="new"):
        super().__init__(made, out, run_id)
        self.source = made / self.name

    def stage(self):
        shutil.copytree(self.source, self.staging.directory, copy_function=os.link)

    def publish(self):
        staged = sorted(list_files(self.staging.directory), key=lambda path: path.startswith("windows/"))
        names = [path for path in staged if path.startswith(("windows/", "train/", "schema.pbtxt"))]
        publish_windows._clear(2, self.staging, True)
        for name in names:
            move_files({self.staging.path(*name.split("/")): str(self.out / name)})
        publish_windows._clean_up(2, self.staging)


CASES = [
    pytest.param("old", Whole, id="whole_by_whole"),
    pytest.param("windows", Whole, id="windows_by_whole"),
    pytest.param("old", Windowed, id="whole_by_windows"),
]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "link" / "out"


def begin(made, out, old, kind, run_id="new"):
    """An old dataset in a folder that is reached by a link, and a run that has staged all that replaces it."""
    shutil.rmtree(out.parent.parent / "disk", ignore_errors=True)
    disk = out.parent.parent / "disk"
    shutil.copytree(made / old, disk / "out", copy_function=os.link)
    if not out.parent.exists():
        out.parent.symlink_to(disk)
    write(out / "_history" / "old.parquet", "a point")
    run = kind(made, out, run_id)
    run.stage()
    return run


WAITS = "the run new was to replace the dataset and has not ended; the old one is kept in .replaced-new"


def read(out, trees):
    """Which dataset a reader meets: one of these, to the byte; None if a line says where the old one is."""
    if told_of(str(out)) and not (out / MANIFEST).exists():
        with pytest.raises(ConfigError, match=WAITS):
            read_contents(str(out))  # the first step of `penstock.load`
        return None
    read_contents(str(out))
    return next(name for name, files in trees.items() if files == visible(out))


@pytest.fixture
def trees(made, out):
    """What the files of an old dataset and of a new one are, where nothing is killed."""

    def of(old, kind):
        found = {}
        run = begin(made, out, old, kind)
        for name, source in (("old", made / old), ("new", made / kind.name)):
            if name == "new":
                run.publish()
            found[name] = visible(out)
            assert rows(out) == rows(source)
        assert not list(verify_dataset(str(out)))
        return found

    return of


def left(out):
    """Files of runs, and empty folders."""
    return [path for path in out.rglob("*") if path.name[0] == "." or (path.is_dir() and not os.listdir(path))]


@pytest.mark.parametrize(("old", "kind"), CASES)
def test_killed_at_any_change_it_is_the_old_or_the_new_one(made, out, trees, old, kind):
    there, seen = trees(old, kind), set()
    for _ in each_kill(lambda: begin(made, out, old, kind)):
        between = read(out, there)
        put_back_ended(str(out), **ENDED)
        shutil.rmtree(out / ".tmp-new", ignore_errors=True)
        found = read(out, there)
        assert found == (between or "old")
        points = {"old.parquet", "new.parquet"} if found == "new" and kind is Whole else {"old.parquet"}
        assert (left(out), {*os.listdir(out / "_history")}) == ([], points)
        seen.add((between, found))
    assert read(out, there) == "new"
    assert seen == {("old", "old"), (None, "old"), ("new", "new")}


def test_killed_at_each_change_as_it_is_put_back_it_is_put_back_in_the_end(made, out, trees):
    there = trees("old", Whole)
    for again in itertools.count(1):
        killed(made, out, full=True)
        was_killed = stops_at(again, lambda: put_back_ended(str(out)))
        assert read(out, there) in ("old", None)
        put_back_ended(str(out))
        assert read(out, there) == "old"
        if not was_killed:
            assert again > 10
            return


def test_the_next_run_replaces_all_wherever_one_was_killed(made, out, trees):
    there = trees("old", Whole)
    for _ in each_kill(lambda: begin(made, out, "old", Whole), by=3):
        following = Whole(made, out, "next")
        following.stage()
        following.publish()
        assert read_manifest(str(out)).run_id == "next"
        assert visible(out).keys() == there["new"].keys()
        assert not [path for path in tree(out) if path.startswith(".")]


def test_a_run_that_meets_an_error_at_any_change_leaves_one_of_them_at_once(made, out, trees):
    there = trees("old", Whole)
    for step in itertools.count(1, 2):
        run = begin(made, out, "old", Whole)
        was_met = stops_at(step, run.publish, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        remove_staged(run.staging)
        found = read(out, there)
        put_back_ended(str(out))  # deletes what could not be deleted
        assert found == "new" or was_met
        assert not [path for path in tree(out) if path.startswith(".")]
        if not was_met:
            return


def killed(made, out, full):
    """A run that is killed when all old files are set aside, or some; it owned its folder, as runs of jobs do."""
    staging = begin(made, out, "old", Whole).staging
    write(out / ".tmp-new" / "owner.lock", f"{os.uname().nodename}\n")
    assert stops_at(math.inf if full else 8, lambda: clear_once(staging, overwrite=True)) != full
    if full:
        move_files({staging.path("schema.pbtxt"): str(out / "schema.pbtxt")})


@pytest.mark.parametrize("full", [False, True])
def test_readers_say_what_has_happened_and_a_job_puts_the_old_one_back(made, out, full, capsys):
    killed(made, out, full)
    assert (out / f".replaced-new{'' if full else '.part'}").is_dir()
    with pytest.raises(ConfigError, match=WAITS):
        penstock.load(out)
    for run, *flags in ((show, out), (verify, "--dataset", out), (status, "--output", out)):
        _, stderr = job(*flags, run=run)
        assert "the old one is kept in .replaced-new" in stderr + capsys.readouterr().out
    _, stderr = job("--dataset", out, "--clean", run=verify)
    assert f"put back the dataset in {out}: the run new was killed as it replaced it" in stderr
    assert rows(out) == rows(made / "old")

    killed(made, out, full)
    code, stderr = job("--input", made / "new.csv", "--output", out)
    assert (code, "is not empty" in stderr) == (WRONG_USAGE, True), stderr
    assert f"put back the dataset in {out}: the run new was killed as it replaced it" in stderr
    assert visible(out) == visible(made / "old")


def test_a_run_at_work_is_left_alone(made, out):
    begin(made, out, "old", Whole)
    with owning(str(out / ".tmp-new")):
        clear_once(Staging(str(out), "new"), overwrite=True)
        assert put_back_ended(str(out), **ENDED) == []
        assert told_of(str(out)) == "the run new is replacing the dataset: wait until it has ended"


def test_a_run_that_may_be_at_work_elsewhere_is_left_alone_until_its_files_are_old(made, out):
    begin(made, out, "old", Whole)
    clear_once(Staging(str(out), "new"), overwrite=True)
    assert put_back_ended(str(out)) == []
    code, stderr = job("--input", made / "new.csv", "--output", out)
    assert (code, "the run new was to replace the dataset and has not ended" in stderr) == (WRONG_USAGE, True), stderr
    assert put_back_ended(str(out), **ENDED) == ["new"]


def test_a_run_that_is_not_to_replace_anything_leaves_alone_what_another_one_has_set_aside(made, out):
    begin(made, out, "old", Whole)
    clear_once(Staging(str(out), "new"), overwrite=True)
    shutil.rmtree(out / ".tmp-new")
    with pytest.raises(ConfigError, match=r"was filled while the job ran \(.*replaced-new\); nothing is published"):
        clear_once(Staging(str(out), "later"), overwrite=False)
    assert put_back_ended(str(out)) == ["new"]


def test_what_somebody_put_in_the_place_of_an_old_file_is_not_overwritten(made, out):
    killed(made, out, full=False)
    (place,) = [path for path in list_files(str(out / ".replaced-new.part")) if path == MANIFEST]
    write(out / place, "theirs")
    with pytest.raises(ConfigError, match=r"cannot be put back: .*manifest.json: is there already"):
        put_back_ended(str(out))
    assert (out / place).read_text() == "theirs"


def test_files_that_are_no_part_of_a_dataset_are_not_deleted(made, out):
    killed(made, out, full=True)
    write(out / "notes.txt", "mine")
    with pytest.raises(ConfigError, match=r"holds files that are no part of a dataset \(notes.txt\)"):
        put_back_ended(str(out))
    (out / "notes.txt").unlink()
    assert put_back_ended(str(out)) == ["new"]


@pytest.mark.parametrize("is_aside", [False, True])
def test_a_refused_run_leaves_old_windows_as_they_were(made, out, is_aside):
    run = begin(made, out, "windows", Whole, "later")
    if is_aside:  # by a run that may be at work elsewhere
        clear_once(Staging(str(out), "new"), overwrite=True)
        run.stage()
    spec = DatasetSpec(str(out), splits=("train",), overwrite=True)
    letters = DeadLetterFile(run.staging.path("dead_letters", "a.jsonl"), 1, {"x": 1}, {"validate": 1})
    outcome = Publisher(run.staging, spec).publish([], [letters], 1)
    assert (outcome.status, outcome.dead_letters) == ("too_many_rejects", run.staging.dead_letters)
    assert (
        visible(out / ".replaced-new" if is_aside else out).items()
        >= {path: content for path, content in visible(made / "windows").items() if path != "README.md"}.items()
    )


def test_two_that_put_back_at_once_do_so_once(made, out):
    killed(made, out, full=True)
    back = []
    with alone(lock_path(str(out))):
        threads = [threading.Thread(target=lambda: back.extend(put_back_ended(str(out)))) for _ in range(2)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert back == ["new"]
    assert rows(out) == rows(made / "old")
