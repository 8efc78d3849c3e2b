"""What the main job leaves behind when it does not succeed, and with which exit code."""

import os
import pathlib
import re
import signal
import subprocess
import time

import forked
import pytest
from forked import Program
from helpers import (
    dataset_files,
    dead_letters,
    examples,
    job,
    manifest_of,
    run_prepare,
    tree,
    write_csv,
    write_schema_file,
)

import penstock
from penstock.io.errors import DataError
from penstock.io.sources.files import FileSource
from penstock.transforms.verify import verify_dataset
from pipelines._jobs import prepare as _prepare
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE

OTHER_SIGNALS = [pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGHUP)]
ROWS = [{"a": row, "b": f"x{row}"} for row in range(20)]

# When a job is killed that writes shards of some format: after it has begun on some file, by 30 ms.
MOMENTS = [
    ("tfrecord", "train/*", 0),
    ("tfrecord", "train/*", 9),
    ("mds", "train/*", 2),
    ("mds", "train/index.json", 0),
]
OTHER_MOMENTS = [
    *(("tfrecord", "train/*", delay) for delay in (3, 6, 12, 15)),
    *(("mds", "train/*", 0), ("mds", "train/index.json", 2)),
]


@pytest.fixture
def good(tmp_path):
    return write_csv(tmp_path / "good.csv", ROWS, "ab")


@pytest.fixture
def schema(tmp_path):
    return write_schema_file(tmp_path / "schema.pbtxt", a="INT", b="BYTES")


FILES = {
    "sql.yaml": "rules:\n- {name: near, sql: 'a >'}\n",
    "column.yaml": "rules:\n- {name: near, sql: 'aa > 1'}\n",
    "text.yaml": "near",
    "op.yaml": "features:\n  a: {ops: [scale_to_z_scor]}\n",
    "input.yaml": "features:\n  c: {}\n",
    "label.yaml": "features:\n  a: {}\n",
    "bad.pbtxt": 'feature { nam: "a" }',
}

# flags, message; what a schema is needed for is found without one as well, after the inference
WRONG = [
    (["--rules=sql.yaml"], r"sql.yaml, line \d: rule 'near', SQL line 1, column 3: syntax error"),
    (
        ["--rules=column.yaml"],
        r"column.yaml, line \d: rule 'near', SQL line 1, column 1: no column 'aa'; did you mean 'a'\?",
    ),
    (["--rules=text.yaml"], r"text.yaml, line 1: must be a mapping of names"),
    (["--rules=none.yaml"], r"none.yaml: cannot be read"),
    (["--features=op.yaml"], r"op.yaml, line 2: feature 'a': unknown operation 'scale_to_z_scor'; did you mean"),
    (["--features=input.yaml"], r"input.yaml, line 2: feature 'c': .*'c'"),
    (["--features=no.such:module"], r"--features no.such:module: cannot import 'no.such'"),
    (
        ["--features=label.yaml", "--split=eval=1"],
        r"--features are fitted on the split 'train', which --split does not",
    ),
    (["--features=label.yaml", "--folds=2"], r"'train', which --folds does not name; fit them apart \(penstock fit\)"),
    (["--transform=."], r"--transform .*: is not a folder with a fitted graph"),
    (["--transform=.", "--features=op.yaml"], r"--features fits a graph and --transform applies a fitted one"),
    (["--label=c"], r"label 'c' is not a feature of the schema"),
    (["--split=train=0.8,eval=0.1"], r"ratios must sum to 1, got 0.8 \+ 0.1"),
    (["--split=train"], r"--split must look like train=0.8,eval=0.2 or 8,1,1, got 'train'"),
    (["--split=Train=1"], r"split names are lower-case"),
    (["--split=transform=1"], r"'transform' is a folder of the dataset"),
    (["--split=1,1", "--folds=2"], r"--split and --folds each say what the splits are: pass one of them"),
    (["--split_time=train<2026-06-01,test"], r"--split_time goes by event time: pass --event_time COLUMN"),
    (["--split_from=train=in/*,eval=**"], r"--split_from train=in/\*: no file of the input is of this pattern"),
    (["--split_from=train=in/*"], r"no pattern of --split_from takes the file .*: in/\*; add one, such as train=\*\*"),
    (["--split_key=c"], r"split key 'c' is not a feature"),
    (["--event_time=c"], r"--event_time 'c' is not a (column|feature)"),
    (["--event_time=a"], r"--event_time 'a' is INT; name its unit"),
    (["--append", "--overwrite"], r"append adds to what overwrite would replace"),
    (["--span", "x"], r"--span x: names what --append adds: pass --append too"),
    (["--num_shards=2", "--shard_bytes=1k"], r"--num_shards and --shard_bytes both set"),
    (["--num_shards=0"], r"--num_shards: must be a whole number of at least 1"),
    (["--num_shard=2"], r"unknown flag --num_shard; did you mean --num_shards\?"),
    (["--max_reject_fraction=2"], r"must be a number from 0 to 1"),
    (["--compression=lz4"], r"--compression: invalid choice"),
    (["--seed=x"], r"--seed: invalid int value"),
    (["--config=none.yaml"], r"--config none.yaml: cannot be read"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG, ids=[" ".join(flags) for flags, _ in WRONG])
def test_a_wrong_configuration_is_told_and_nothing_is_written(tmp_path, monkeypatch, good, schema, flags, message):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    before = tree(tmp_path)
    for given in ((), ("--schema", schema), ("--schema", schema, "--dry_run")):
        code, stderr = job("--input", good, "--output", "out", *flags, *given)
        assert code == WRONG_USAGE
        assert re.search(message, stderr), stderr
        assert tree(tmp_path) == before
        assert not pathlib.Path("out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('feature { nam: "a" }', r"s.pbtxt:1:11 : .*no field named .nam"),
        ('feature { name: "a" }', r"s.pbtxt: feature 'a' has no type"),
        ('feature { name: "_split" type: INT }', r"feature name '_split' is reserved"),
        (None, r"--schema .*s.pbtxt: cannot be read"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told(tmp_path, good, text, message):
    if text is not None:
        (tmp_path / "s.pbtxt").write_text(text)
    code, stderr = job("--input", good, "--output", tmp_path / "out", "--schema", tmp_path / "s.pbtxt")
    assert code == WRONG_USAGE
    assert re.search(message, stderr), stderr
    assert not (tmp_path / "out").exists()


class TestOutput:
    """Folders that cannot take a dataset are refused before anything is read, and stay as they were."""

    def refused(self, tmp_path, good, out, *flags):
        before = tree(tmp_path)
        code, stderr = job("--input", good, "--output", out, *flags)
        assert code == WRONG_USAGE
        assert f"--output {out}: " in stderr
        assert tree(tmp_path) == before
        assert job("--input", good, "--output", out, *flags, "--dry_run")[0] in (WRONG_USAGE, DONE)
        assert tree(tmp_path) == before
        return stderr

    def test_a_file(self, tmp_path, good):
        (tmp_path / "file").write_text("")
        assert "is a file; name a folder" in self.refused(tmp_path, good, tmp_path / "file")

    def test_below_a_file(self, tmp_path, good):
        (tmp_path / "file").write_text("")
        assert "cannot be " in self.refused(tmp_path, good, tmp_path / "file" / "out")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_without_permission(self, tmp_path, good):
        (tmp_path / "closed").mkdir(mode=0o500)
        assert "cannot be written" in self.refused(tmp_path, good, tmp_path / "closed")

    def test_a_folder_with_something_in_it(self, tmp_path, good):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/notes.txt").write_text("mine")
        message = self.refused(tmp_path, good, tmp_path / "out")
        assert "is not empty (notes.txt); pass --overwrite to replace what is there" in message

    def test_foreign_files_even_to_overwrite(self, tmp_path, good):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/notes.txt").write_text("mine")
        message = self.refused(tmp_path, good, tmp_path / "out", "--overwrite")
        assert "holds files that are no part of a dataset (notes.txt)" in message

    def test_an_unknown_filesystem(self, tmp_path, good):
        assert "nope" in self.refused(tmp_path, good, "nope://bucket/out")


def test_a_job_without_input_or_output_says_so(good, tmp_path):
    assert job("--output", tmp_path) == (
        2,
        "python -m pipelines.prepare: error: --input is required: a file, a folder, or a "
        "quoted pattern such as --input 'data/*.csv'\n",
    )
    assert job("--input", good) == (
        2,
        "python -m pipelines.prepare: error: --output is required: the folder of the dataset\n",
    )


def test_a_runner_that_beam_does_not_know_is_told(tmp_path, good, schema):
    code, stderr = job("--input", good, "--schema", schema, "--output", tmp_path / "out", "--runner=Nope")
    assert code == WRONG_USAGE
    assert "Beam refuses the pipeline options: Unexpected pipeline runner: Nope. Valid values are" in stderr
    assert not (tmp_path / "out").exists()


def test_help_is_no_failure(capsys):
    assert job("--help")[0] == DONE
    assert "--max_reject_fraction" in capsys.readouterr().out


class TestTooManyRejects:
    @pytest.fixture
    def bad(self, tmp_path):
        path = tmp_path / "bad.csv"
        path.write_text("a,b\n" + "".join(f"{row},x\n" if row % 10 else "oops,x\n" for row in range(100)))
        return path

    def test_publish_nothing_but_the_dead_letters(self, tmp_path, bad, schema, capsys):
        out = tmp_path / "out"
        code, stderr = job("--input", bad, "--schema", schema, "--output", out)
        assert code == DATA_FAILED
        assert "10 of 100 rows were rejected, more than --max_reject_fraction 0.05 allows" in stderr
        assert f"the rejected rows and why: {out}/dead_letters; 10 for schema.type ({bad}, line 2: column 'a'" in stderr
        assert "schema.type" in capsys.readouterr().out
        assert len(dead_letters(out)) == 10
        assert {path.parent.name for path in out.rglob("*") if path.is_file()} == {"dead_letters", "statistics"}
        assert {child.name for child in out.iterdir()} == {"dead_letters", "statistics"}

    def test_as_many_as_allowed_are_not_too_many(self, tmp_path, bad, schema):
        assert (
            run_prepare("--input", bad, "--schema", schema, "--output", tmp_path / "out", "--max_reject_fraction=0.1")
            == DONE
        )

    def test_another_try_replaces_the_dead_letters(self, tmp_path, bad, schema):
        out = tmp_path / "out"
        job("--input", bad, "--schema", schema, "--output", out)
        (tmp_path / "bad2.csv").write_text("a,b\noops,x\n1,x\n")
        code, stderr = job("--input", tmp_path / "bad2.csv", "--schema", schema, "--output", out, "--overwrite")
        assert (code, "1 of 2 rows" in stderr) == (DATA_FAILED, True)
        assert len(dead_letters(out)) == 1
        flags = ("--overwrite", "--max_reject_fraction=0.1")
        assert job("--input", bad, "--schema", schema, "--output", out, *flags) == (DONE, "")
        assert not list(verify_dataset(str(out)))

    def test_an_old_dataset_stays(self, tmp_path, good, bad, schema):
        out = tmp_path / "out"
        run_prepare("--input", good, "--schema", schema, "--output", out)
        before = tree(out)
        code, stderr = job("--input", bad, "--schema", schema, "--output", out, "--overwrite")
        assert code == DATA_FAILED
        after = tree(out)
        assert {path: after[path] for path in before} == before
        (new,) = {path.split("/")[0] for path in after.keys() - before.keys()}
        assert new.startswith(".tmp-")
        letters = [path for path in after.keys() - before.keys() if path.endswith(".jsonl")]
        assert f"{out}/{new}/dead_letters" in stderr
        assert sum(after[path].count(b"\n") for path in letters) == 10
        assert run_prepare("--input", good, "--schema", schema, "--output", out, "--overwrite") == DONE
        assert not list(verify_dataset(str(out)))


class TestOverwrite:
    def test_replaces_all_of_a_dataset(self, tmp_path, good):
        out = tmp_path / "out"
        run_prepare("--input", good, "--output", out, "--split=train=0.5,eval=0.5", "--num_shards=5")
        assert job("--input", good, "--output", out)[0] == WRONG_USAGE
        run_prepare("--input", good, "--output", out, "--overwrite", "--compression=none")
        statistics = {f"statistics/{name}.{end}" for name in ("in", "out", "rejected") for end in ("json", "pb")}
        assert dataset_files(out) == {
            *("manifest.json", "schema.pbtxt", "train/part-00000-of-00001.tfrecord"),
            *statistics,
        }

    @pytest.mark.parametrize("stage", ["infer_schema", "build"])
    def test_keeps_the_old_dataset_when_the_new_run_fails(self, tmp_path, good, monkeypatch, stage):
        out = tmp_path / "out"
        run_prepare("--input", good, "--output", out)
        before = tree(out)

        def fail(*_):
            raise DataError("out of luck")

        monkeypatch.setattr(_prepare, stage, fail)
        assert job("--input", good, "--output", out, "--overwrite")[0] == DATA_FAILED
        assert tree(out) == before
        assert not list(out.glob(".tmp-*"))

    def test_reads_its_schema_from_the_dataset_that_it_replaces(self, tmp_path, good):
        out = tmp_path / "out"
        run_prepare("--input", good, "--output", out)
        schema = (out / "schema.pbtxt").read_text()
        assert run_prepare("--input", good, "--output", out, "--overwrite", "--schema", out / "schema.pbtxt") == DONE
        assert (out / "schema.pbtxt").read_text() == schema

    def test_does_not_need_a_manifest_that_can_be_read(self, tmp_path, good):
        out = tmp_path / "out"
        run_prepare("--input", good, "--output", out)
        (out / "manifest.json").write_text("{")
        assert run_prepare("--input", good, "--output", out, "--overwrite") == DONE
        assert not list(verify_dataset(str(out)))


def test_an_interrupted_job_leaves_nothing(tmp_path, good, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_prepare, "build", interrupt)
    code, stderr = job("--input", good, "--output", tmp_path / "out")
    assert (code, "interrupted; nothing was published" in stderr) == (130, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "stage", "message"),
    [
        pytest.param((), "read_outcome", "interrupted after .* was published; the dataset is whole", id="dataset"),
        pytest.param(
            ("--window=fixed:60s", "--event_time=a:s", "--num_shards=1"),
            "windows_result",
            "has [0-9]+ whole windows of this run",
            id="windows",
        ),
    ],
)
def test_an_interrupt_after_publication_says_what_is_there(tmp_path, monkeypatch, flags, stage, message):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_prepare, stage, interrupt)
    rows = write_csv(tmp_path / "in.csv", [{"a": row, "b": "x"} for row in range(200)], "ab")
    code, stderr = job("--input", rows, "--output", tmp_path / "out", *flags)
    assert code == 130, stderr
    assert re.search(message, stderr), stderr
    assert not list(verify_dataset(str(tmp_path / "out")))


def test_an_interrupt_over_a_broken_dataset_is_an_interrupt(tmp_path, good, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    assert run_prepare("--input", good, "--output", tmp_path / "out") == DONE
    (tmp_path / "out" / "manifest.json").write_text("{")
    monkeypatch.setattr(_prepare, "build", interrupt)
    code, stderr = job("--input", good, "--output", tmp_path / "out", "--overwrite")
    assert (code, "interrupted; nothing was published" in stderr) == (130, True)


def test_an_output_that_was_there_and_empty_stays(tmp_path, good):
    (tmp_path / "out").mkdir()
    assert job("--input", good, "--output", tmp_path / "out", "--label=c")[0] == WRONG_USAGE
    assert list((tmp_path / "out").iterdir()) == []


def test_what_fills_the_output_while_the_job_runs_is_not_touched(tmp_path, good, monkeypatch):
    out = tmp_path / "out"
    build = _prepare.build

    def fill_and_build(*args, **more):
        build(*args, **more)
        (out / "manifest.json").write_text("{}")
        (out / "mine.txt").write_text("mine")

    monkeypatch.setattr(_prepare, "build", fill_and_build)
    code, stderr = job("--input", good, "--output", out)
    assert (code, "was filled while the job ran" in stderr) == (WRONG_USAGE, True)
    assert tree(out) == {"manifest.json": b"{}", "mine.txt": b"mine"}


def start(*argv):
    """Starts a job."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return Program(["-m", "pipelines.prepare", *argv], text=True, **pipes)


def wait_for(condition, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the job ended too early: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "the job does not come to the point"
        time.sleep(0.005)


class TestKilled:
    """By kill -9, when all but the publication is under way."""

    @pytest.fixture
    def big(self, tmp_path):
        path = tmp_path / "big.csv"
        with path.open("w") as file:
            file.write("a,b\n")
            file.writelines(f"{row},name-{row % 1000}\n" for row in range(300_000))
        return path

    @pytest.mark.parametrize(
        "old", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["into_nothing", "over_a_dataset"]
    )
    def test_leaves_no_half_dataset_and_the_next_run_clears_up(self, tmp_path, big, good, schema, old):
        out = tmp_path / "out"
        if old:
            run_prepare("--input", good, "--schema", schema, "--output", out)
        before = tree(out)
        process = start("--input", big, "--schema", schema, "--output", out, "--overwrite")
        wait_for(lambda: list(out.glob(".tmp-*/runs/*")) or list(out.glob(".tmp-*/train/*")), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left = tree(out)
        assert {path for path in left if not path.startswith(".tmp-")} == set(before)
        assert all(left[path] == before[path] for path in before)
        if not old:
            assert [fault.code for fault in verify_dataset(str(out))] == ["manifest.missing"]
        flags = ("--overwrite",) if old else ()
        code, stderr = job("--input", good, "--schema", schema, "--output", out, *flags)
        assert code == DONE
        assert len(re.findall(rf"^removed what a killed run left in {re.escape(str(out))} \(.*B\)$", stderr, re.M)) == 1
        assert len(examples(out)) == len(ROWS)
        assert not list(verify_dataset(str(out)))
        assert not list(out.glob(".tmp-*"))

    @pytest.mark.parametrize(
        ("shard_format", "staged", "delay"),
        [pytest.param(*moment, marks=pytest.mark.slow) for moment in MOMENTS]
        + [pytest.param(*moment, marks=pytest.mark.soak) for moment in OTHER_MOMENTS],
    )
    def test_at_any_moment_leaves_a_whole_dataset_or_none(self, tmp_path, good, schema, shard_format, staged, delay):
        out = tmp_path / "out"
        flags = ("--schema", schema, "--output", out, "--output_format", shard_format)
        run_prepare("--input", good, *flags, "--num_shards=40")
        old = manifest_of(out).dataset_id
        bigger = write_csv(tmp_path / "bigger.csv", [{"a": row, "b": "x"} for row in range(40_000)], "ab")
        process = start("--input", bigger, *flags, "--overwrite", "--num_shards=300")
        # It may end before anybody has seen that.
        wait_for(lambda: process.poll() is not None or list(out.glob(f".tmp-*/{staged}")), process)
        time.sleep(delay * 0.03)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        faults = [fault for fault in verify_dataset(str(out)) if not fault.path.startswith(".tmp-")]
        if (out / "manifest.json").exists():
            assert faults == []
            assert manifest_of(out).dataset_id == old or manifest_of(out).rows_out == 40_000
        assert run_prepare("--input", good, *flags, "--overwrite", "--num_shards=40") == DONE
        assert manifest_of(out).dataset_id == old
        assert not list(verify_dataset(str(out)))

    # The others come the same way: tests of `_report.signals` send each of them.
    @pytest.mark.parametrize("number", [signal.SIGTERM, *OTHER_SIGNALS], ids=["SIGTERM", "SIGINT", "SIGHUP"])
    def test_by_a_signal_cleans_up_and_says_so(self, tmp_path, big, schema, number):
        out, spill = tmp_path / "out", tmp_path / "spill"
        process = start("--input", big, "--schema", schema, "--output", out, "--spill_dir", spill)
        wait_for(lambda: list(spill.glob("penstock-spill-*/*/*.run")), process)
        process.send_signal(number)
        first, *lines = process.communicate(timeout=60)[1].splitlines()
        assert process.returncode == 128 + number
        assert list(spill.iterdir()) == []
        assert first == f"penstock {penstock.__version__}: prepare {big} -> {out}"
        assert lines == ["python -m pipelines.prepare: error: interrupted; nothing was published"]
        assert not out.exists()

    def test_by_the_kernel_leaves_a_spill_that_the_next_run_removes(self, tmp_path, big, good, schema):
        spill, live = tmp_path / "spill", tmp_path / "live"
        flags = ("--schema", schema, "--spill_dir", spill)
        process = start("--input", big, *flags, "--output", live)
        try:
            wait_for(lambda: _spills(spill) == 1, process)
            process.send_signal(signal.SIGSTOP)  # so that it lives on, whatever the other one takes
            killed = start("--input", big, *flags, "--output", tmp_path / "killed")
            wait_for(lambda: _spills(spill) == 2, killed)
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
            code, stderr = job("--input", good, *flags, "--output", tmp_path / "out")
            assert (code, stderr.count("removed what a killed run left in")) == (DONE, 1)
            process.send_signal(signal.SIGCONT)
            assert process.communicate(timeout=60)[1].count("\n") == 1, "the run beside it keeps its own"
            assert process.returncode == DONE
        finally:
            process.kill()
            process.communicate()


def _spills(folder: pathlib.Path) -> int:
    """How many jobs have spilled into a folder."""
    return len({run.parent.parent for run in folder.glob("penstock-spill-*/*/*.run")})


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, 100 << 10))
runpy.run_module("pipelines.prepare", run_name="__main__", alter_sys=True)
"""


class TestDisk:
    def test_a_spill_that_does_not_fit_is_one_line_with_path_and_remedy(self, tmp_path, schema):
        rows = [{"a": row, "b": "x" * 100} for row in range(2000)]
        write_csv(tmp_path / "in.csv", rows, "ab")
        spill, out = tmp_path / "spill", tmp_path / "out"
        flags = ("--input", tmp_path / "in.csv", "--schema", schema, "--spill_dir", spill, "--output", out)
        limited = forked.run(["-c", LIMITED, *flags], timeout=60)
        _, *lines = limited.stderr.splitlines()
        assert limited.returncode == DATA_FAILED
        (line,) = lines
        assert re.fullmatch(
            rf"python -m pipelines\.prepare: error: {spill}/penstock-spill-\w+/[\w-]+/\w+\.run: File too large: .*; "
            r"make room there, or pass --spill_dir DIR .*",
            line,
        )
        assert not out.exists()
        assert list(spill.iterdir()) == []

    @pytest.mark.parametrize(
        ("folder", "message"),
        [
            ("in.csv", "--spill_dir in.csv: is a file; name a folder"),
            ("in.csv/below", "--spill_dir in.csv/below: .*/in.csv/below: Not a directory"),
            ("gs://b/x", "--spill_dir gs://b/x: must be a folder of this machine"),
        ],
    )
    def test_a_folder_that_cannot_take_the_spill_is_told_first(self, tmp_path, monkeypatch, folder, message):
        monkeypatch.chdir(tmp_path)
        write_csv(tmp_path / "in.csv", ROWS, "ab")
        code, stderr = job("--input", "in.csv", "--output", "out", "--spill_dir", folder)
        assert (code, bool(re.search(message, stderr))) == (WRONG_USAGE, True), stderr
        assert not pathlib.Path("out").exists()


def test_names_that_rewrite_a_terminal_and_passwords_are_told_without(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "a\x1b[2J\n[b]:1.csv"
    write_csv(tmp_path / name, ROWS, "ab")
    out = "o\x1b[2J[red]"
    assert job("--input", name, "--output", out)[0] == DONE
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert r"o\x1b[2J[red]/manifest.json" in told
    assert r"penstock verify --dataset $'o\x1b[2J[red]'" in told
    assert manifest_of(pathlib.Path(out)).provenance["options"]["input"] == [name]


@pytest.mark.parametrize("json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    "given",
    [
        pytest.param(("--input", "s3://me:secret@b/\x1b.csv"), id="store"),
        pytest.param(("--input", "http://me:secret@h/\x1b.csv"), id="no store"),
        pytest.param(("--input", "/none/http://me:secret@h/\x1b.csv"), id="path"),
        pytest.param(("--input", "good.csv", "--schema", "/none/http://me:secret@h/\x1b"), id="schema"),
        pytest.param(("--input", "good.csv", "--nosuch\x1b=http://me:secret@h"), id="flag"),
    ],
)
def test_passwords_and_escapes_of_a_command_line_are_not_told(tmp_path, good, monkeypatch, capsys, given, json):
    monkeypatch.chdir(tmp_path)
    code, stderr = job(*given, "--output", "out", *json)
    told = capsys.readouterr()
    assert code != DONE
    assert stderr + told.err
    assert not re.search("secret|\x1b", told.out + told.err + stderr)


def test_passwords_are_not_stored(tmp_path, good, schema, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FileSource, "inputs", lambda self: [{"uri": "http://me:secret@h/in.csv", "size": 1}])
    assert run_prepare("--input", good, "--schema", schema, "--output", "out") == DONE
    assert manifest_of(tmp_path / "out").provenance["inputs"] == [{"uri": "http://me:***@h/in.csv", "size": 1}]


def test_dead_letters_of_a_published_run_can_be_given_to_the_job_again(tmp_path, schema):
    """Payloads are what stood there: put into a file with the header, they are rejected for the same reasons."""
    (tmp_path / "in.csv").write_bytes(b'a,b\n1,x\nzwei,y\n3\n4,\xff\n5,"open\n6,ok\n')
    out = tmp_path / "out"
    flags = ("--schema", schema, "--max_reject_fraction=1")
    run_prepare("--input", tmp_path / "in.csv", "--output", out, *flags)
    letters = dead_letters(out)
    texts = [letter["payload"] for letter in letters if letter["payload_encoding"] == "text"]
    assert texts == ["zwei,y", "3", '5,"open']
    (tmp_path / "again.csv").write_text("a,b\n" + "\n".join(texts) + "\n")
    run_prepare("--input", tmp_path / "again.csv", "--output", tmp_path / "again", *flags)
    found = dead_letters(tmp_path / "again")
    assert [letter["reason"] for letter in found] == ["schema.type", "csv.column_count", "csv.quote"]
