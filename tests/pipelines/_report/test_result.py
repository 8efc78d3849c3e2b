"""How a job ends, for programs (--json) and for people."""

import contextlib
import dataclasses
import inspect
import io
import json
import pathlib
import tempfile
from typing import get_args

import pytest
from helpers import FLAGS, dead_letters, manifest_of, run_prepare, write_schema_file
from terminal import lines_of, on_a_terminal

from penstock.io.beam.durations import parse_duration
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.dead_letters.replay.claims import Claim, claim_files
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.files.inputs import match_files
from penstock.io.reasons import Note
from pipelines import fit, prepare, replay, verify
from pipelines._cli.command import main
from pipelines._jobs.replay import watch
from pipelines._options.replay import ReplayOptions
from pipelines._plan.plan import Plan
from pipelines._report.result import DatasetResult, JobStatus, Result, RunFailedError, SplitResult, UsageError, failure
from pipelines._report.summary import tell

JOBS = {"prepare": prepare, "fit": fit, "replay": replay, "verify": verify}

# Programs read these: a name that goes, or means something else, breaks them.
BASE = ["job", "status", "exit_code", "error", "seconds"]
DATASET = [
    *BASE,
    *("output", "run_id", "dataset_id", "manifest", "windows"),
    *("rows_in", "rows_out", "rows_rejected", "rows_on_time", "rows_late"),
    *("splits", "rejected_by_reason", "notes", "dead_letters", "schema", "transform", "features_engine"),
    *("saved_model", "read_twice", "statistics", "report", "drift", "anomalies", "load", "letters"),
    *("span", "version", "whole", "skipped", "openlineage"),
]
LETTERS = ["files", "replayed_before", "claimed", "repaired", "rejected", "parked"]
FIT = [
    *BASE,
    *("output", "features", "input", "rows_in", "rows_rejected", "rows_fitted"),
    *("schema", "transform", "features_engine", "saved_model", "notes", "report"),
]
PROFILE = [*BASE, "input", "output", "report", "rows_unread", "unread_for", "datasets"]
CHECK = [*BASE, "checked", "schema", "baseline", "serving", "rows", "findings", "anomalies", "report"]
COMPARE = [*BASE, "a", "b", "datasets", "report"]
RELAX = [*BASE, "schema", "output", "rows_in", "rows_unread", "changes", "difference"]
VERIFY = [
    *BASE,
    "dataset",
    "good",
    "faults",
    "leftovers",
    "cleaned",
    "rows_out",
    "shards",
    "windows",
    "bytes",
    "report",
]


@dataclasses.dataclass(frozen=True)
class Ended:
    """A job that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self):
        """The one line that it printed."""
        assert self.stdout.count("\n") == 1, self.stdout
        assert self.stdout.isascii()
        assert self.stdout.endswith("}\n")
        found = json.loads(self.stdout)
        assert found["exit_code"] == self.code
        assert found["seconds"] >= 0
        return found


def run(name, *flags):
    """Runs a job as its command line does."""
    stdout, stderr = io.StringIO(), io.StringIO()
    common = () if name == "verify" else FLAGS
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            code = main(name, JOBS[name].run, [*common, *map(str, flags)])
        except SystemExit as error:
            code = int(error.code or 0)
    return Ended(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def rows(tmp_path):
    """Ten rows with a time, and two that are none."""
    path = tmp_path / "in.csv"
    path.write_text("id,time\n" + "".join(f"{row},{1_700_000_000 + 30 * row}\n" for row in range(10)) + "1,2,3\n4\n")
    return path


@pytest.fixture
def schema(tmp_path):
    one = "presence { min_fraction: 1 } value_count { min: 1 max: 1 }"
    return write_schema_file(tmp_path / "schema.pbtxt", id=f"INT {one}", time=f"INT {one}")


@pytest.fixture
def dataset(rows, schema, tmp_path):
    flags = ("--schema", schema, "--max_reject_fraction=0.5", "--num_shards=2", "--split=train=0.6,eval=0.4")
    assert run_prepare("--input", rows, "--output", tmp_path / "out", *flags) == 0
    return tmp_path / "out"


def test_every_field_and_status_is_documented():
    page = (pathlib.Path(__file__).parents[3] / "docs" / "jobs.md").read_text()
    names = {*DATASET, *LETTERS, *FIT, *PROFILE, *CHECK, *COMPARE, *RELAX, *VERIFY, "flags", "stages"}
    names |= {*get_args(JobStatus)}
    assert {name for name in names if f"`{name}`" not in page} == set()


class TestPrepare:
    def test_a_dataset(self, rows, schema, tmp_path):
        flags = ("--schema", schema, "--max_reject_fraction=0.5", "--num_shards=2", "--split=train=0.6,eval=0.4")
        ended = run("prepare", "--input", rows, "--output", f"{tmp_path}/out/", *flags, "--json")
        found, manifest, out = ended.json, manifest_of(tmp_path / "out"), str(tmp_path / "out")
        assert list(found) == DATASET
        assert (found["job"], found["status"], found["error"]) == ("prepare", "done", None)
        assert (found["run_id"], found["dataset_id"]) == (manifest.run_id, manifest.dataset_id)
        assert read_manifest(found["manifest"].removesuffix("/manifest.json")) == manifest
        assert (found["rows_in"], found["rows_out"], found["rows_rejected"]) == (12, 10, 2)
        assert {name: split["rows"] for name, split in found["splits"].items()} == dict(manifest.splits)
        assert {split["shards"] for split in found["splits"].values()} == {2}
        assert sum(split["bytes"] for split in found["splits"].values()) == sum(one.bytes for one in manifest.shards)
        assert found["rejected_by_reason"] == {"csv.column_count": 2}
        assert found["load"][1].startswith(f"loaded = penstock.load('{out}', split='train')")
        assert (found["dead_letters"], found["schema"]) == (f"{out}/dead_letters", f"{out}/schema.pbtxt")
        assert [found[name] for name in ("windows", "rows_on_time", "rows_late", "transform", "letters")] == [None] * 5
        assert ended.stderr == ""

    def test_what_there_is_not_is_null(self, rows, schema, tmp_path):
        (tmp_path / "good.csv").write_text("id,time\n1,2\n")
        flags = ("--input", tmp_path / "good.csv", "--schema", schema, "--output", tmp_path / "out")
        assert run("prepare", *flags, "--json").json["dead_letters"] is None

    def test_windows(self, rows, schema, tmp_path):
        flags = ("--schema", schema, "--max_reject_fraction=0.3", "--num_shards=1")
        windows = ("--event_time=time:s", "--window=fixed:60s")
        found = run("prepare", "--input", rows, "--output", tmp_path / "out", *flags, *windows, "--json").json
        manifests = list(read_window_manifests(str(tmp_path / "out")))
        assert list(found) == DATASET
        assert (found["manifest"], found["dataset_id"]) == (None, None)
        for window, manifest in zip(found["windows"], manifests, strict=True):
            assert list(window) == ["window", "manifest", "dataset_id", "status", "final"]
            assert type(manifest).read(window["manifest"]) == manifest
            assert (window["window"], window["dataset_id"]) == (list(manifest.window), manifest.dataset_id)
        assert {window["status"] for window in found["windows"]} == {"published", "quarantined"}
        assert found["run_id"] == manifests[0].run_id
        assert (found["rows_in"], found["rows_on_time"], found["rows_late"], found["rows_rejected"]) == (12, 10, 0, 2)
        assert found["splits"]["train"]["rows"] == found["rows_out"] == 10
        assert found["splits"]["train"]["shards"] == len(manifests)

    def test_too_many_rejects(self, rows, schema, tmp_path):
        ended = run("prepare", "--input", rows, "--schema", schema, "--output", tmp_path / "out", "--json")
        found = ended.json
        assert list(found) == DATASET
        assert (ended.code, found["status"]) == (1, "too_many_rejects")
        assert found["error"].startswith("2 of 12 rows were rejected, more than --max_reject_fraction 0.05 allows")
        assert ended.stderr == f"python -m pipelines.prepare: error: {found['error']}\n"
        assert (found["manifest"], found["dataset_id"], found["splits"]) == (None, None, {})
        assert (found["rows_rejected"], found["rejected_by_reason"]) == (2, {"csv.column_count": 2})
        assert found["dead_letters"] == f"{tmp_path}/out/dead_letters"
        assert len(dead_letters(tmp_path / "out")) == 2

    @pytest.mark.parametrize(
        ("flags", "code", "status", "message"),
        [
            pytest.param(["--inptu=x"], 2, "wrong_usage", "unknown flag --inptu; did you mean --input?", id="flag"),
            pytest.param(["--num_shards=x"], 2, "wrong_usage", "must be a whole number of at least 1", id="value"),
            pytest.param(
                ["--input=empty.csv", "--span=x"], 2, "wrong_usage", "names what --append adds", id="flags together"
            ),
            pytest.param(["--config=no.yaml"], 2, "wrong_usage", "--config no.yaml: cannot be read", id="config"),
            pytest.param(["--input=empty.csv", "--schema=no.pbtxt"], 2, "wrong_usage", "no.pbtxt", id="schema"),
            pytest.param(["--input=no.csv"], 1, "failed", "no file matches no.csv", id="input"),
            pytest.param(["--input=empty.csv"], 1, "failed", "the input has no rows", id="no rows"),
        ],
    )
    def test_failures(self, tmp_path, monkeypatch, schema, flags, code, status, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty.csv").write_text("id,time\n")
        ended = run("prepare", "--schema=schema.pbtxt", "--output=out", *flags, "--json")
        assert list(ended.json) == BASE
        assert (ended.code, ended.json["status"], message in ended.json["error"]) == (code, status, True)
        assert ended.json["error"] in ended.stderr, "people read it too"
        without = run("prepare", "--schema=schema.pbtxt", "--output=out", *flags)
        assert (without.code, without.stdout, without.stderr) == (code, "", ended.stderr)

    @pytest.mark.parametrize(
        ("raised", "code", "status", "message"),
        [
            pytest.param(KeyboardInterrupt(), 130, "interrupted", "interrupted; nothing was published", id="Ctrl-C"),
            pytest.param(OSError("disk full"), 1, "failed", "disk full", id="disk"),
        ],
    )
    def test_interrupts_and_system_errors(self, rows, schema, tmp_path, monkeypatch, raised, code, status, message):
        def fails(*_, **__):
            raise raised

        monkeypatch.setattr(Plan, "read", fails)
        ended = run("prepare", "--input", rows, "--schema", schema, "--output", tmp_path / "out", "--json")
        assert (ended.code, ended.json["status"], ended.json["error"]) == (code, status, message)

    def test_a_fault_of_the_job_itself(self, rows, schema, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise ZeroDivisionError("how odd")

        monkeypatch.setattr(Plan, "read", fails)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        ended = run("prepare", "--input", rows, "--schema", schema, "--output", tmp_path / "out", "--json")
        assert (ended.code, ended.json["status"], ended.json["exit_code"]) == (1, "crashed", 1)
        assert ended.json["error"] == "ZeroDivisionError: how odd"
        assert "Traceback" not in ended.stderr
        (kept,) = tmp_path.glob("penstock-crash-*.txt")
        assert f"please report it, with its traceback ({kept})" in ended.stderr

    @pytest.mark.parametrize("text", ["json: true\n", "json: true\nnosuch: 1\n", "json: true\nnum_shards: 0\n"])
    def test_asked_for_in_a_config_file(self, rows, schema, tmp_path, text):
        (tmp_path / "job.yaml").write_text(text)
        flags = ("--input", rows, "--schema", schema, "--max_reject_fraction=0.5", "--output", tmp_path / "out")
        assert run("prepare", "--config", tmp_path / "job.yaml", *flags).json["job"] == "prepare"

    def test_a_dry_run(self, rows, tmp_path):
        found = run("prepare", "--input", rows, "--output", tmp_path / "out", "--dry_run", "--json").json
        assert list(found) == [*BASE, "flags", "stages"]
        assert found["status"] == "described"
        assert (found["flags"]["input"], found["flags"]["compression"]) == ([str(rows)], "gzip")
        assert found["stages"][0] == "infer the schema from the whole input"
        assert found["stages"][-1] == "write shards, publish the dataset"
        assert not (tmp_path / "out").exists()


class TestReplay:
    def letters(self, dataset):
        return f"--dead_letters={dataset}/dead_letters/*.jsonl"

    def test_a_replay(self, dataset, tmp_path):
        found = run("replay", self.letters(dataset), "--output", tmp_path / "again", "--max_attempts=2", "--json").json
        assert list(found) == DATASET
        assert list(found["letters"]) == LETTERS
        files = len(list(dataset.glob("dead_letters/*.jsonl")))
        assert found["letters"] == {
            **{"files": files, "replayed_before": 0, "claimed": {}},
            **{"repaired": 0, "rejected": 0, "parked": 2},
        }
        assert (found["job"], found["status"], found["rows_in"]) == ("replay", "done", 2)

    def test_what_was_replayed_before_or_is_claimed(self, dataset, tmp_path):
        first, *others = match_files([f"{dataset}/dead_letters/*.jsonl"])
        claim_files([first], Claim("other", str(tmp_path / "other"), is_local=False))
        run("replay", self.letters(dataset), "--output", tmp_path / "again", "--json")
        ended = run("replay", self.letters(dataset), "--output", tmp_path / "once more", "--json")
        assert ended.json["status"] == "nothing_to_do"
        assert ended.json["letters"]["claimed"] == {first.uri: "other"}
        assert ended.json["letters"]["replayed_before"] == len(others)

    def test_one_that_fails(self, dataset, tmp_path):
        flags = (self.letters(dataset), "--output", tmp_path / "again", "--max_reject_fraction=0", "--json")
        found = run("replay", *flags).json
        assert (found["job"], found["status"], found["rows_rejected"]) == ("replay", "too_many_rejects", 2)

    def test_watching_gives_a_line_for_each_batch(self, dataset, tmp_path, capsys):
        class _EnoughError(Exception):
            pass

        (tmp_path / "new").mkdir()
        letters = sorted(dataset.glob("dead_letters/*.jsonl"))[0].read_bytes()
        names = iter(["a", "", "b", "", None])

        def sleep(_):
            name = next(names)
            if name is None:
                raise _EnoughError
            if name:
                (tmp_path / "new" / f"{name}.jsonl").write_bytes(letters)

        flags = [f"--dead_letters={tmp_path}/new/*.jsonl", f"--output={tmp_path}/out2", "--format=csv", "--json"]
        with pytest.raises(_EnoughError):
            watch(
                ReplayOptions.parse([*FLAGS, *flags, f"--schema={tmp_path}/schema.pbtxt"]),
                parse_duration("1s"),
                sleep,
            )
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["job"] for one in found] == ["replay"] * 2
        assert {one["output"] for one in found} == {str(path) for path in (tmp_path / "out2").iterdir()}

    def test_a_dry_run(self, dataset, tmp_path):
        found = run("replay", self.letters(dataset), "--output", tmp_path / "again", "--dry_run", "--json").json
        assert (found["job"], found["status"]) == ("replay", "described")


class TestFit:
    FEATURES = "features:\n  id: {ops: [scale_to_z_score]}\n"

    def flags(self, folder, rows, *more):
        (folder / "features.yaml").write_text(self.FEATURES)
        return ("--input", rows, f"--features={folder}/features.yaml", f"--output={folder}/graph", *more, "--json")

    def test_a_graph(self, rows, schema, tmp_path):
        flags = ("--schema", schema, "--split=train=0.6,eval=0.4")
        found = run("fit", *self.flags(tmp_path, rows, *flags)).json
        assert list(found) == FIT
        assert (found["job"], found["status"]) == ("fit", "done")
        assert (found["rows_in"], found["rows_rejected"]) == (12, 2)
        assert run_prepare("--input", rows, *flags, f"--output={tmp_path}/out", "--max_reject_fraction=1") == 0
        assert found["rows_fitted"] == manifest_of(tmp_path / "out").splits["train"]
        assert (found["schema"], found["transform"]) == (str(schema), f"{tmp_path}/graph")
        assert found["features_engine"] == "arrow"

    def test_an_inferred_schema_lies_beside_it(self, rows, tmp_path):
        assert run("fit", *self.flags(tmp_path, rows)).json["schema"] == f"{tmp_path}/graph/schema.pbtxt"

    def test_a_failure(self, tmp_path):
        ended = run("fit", *self.flags(tmp_path, "no.csv"))
        assert (ended.json["job"], ended.json["status"], ended.code) == ("fit", "failed", 1)

    def test_a_dry_run(self, rows, tmp_path):
        found = run("fit", *self.flags(tmp_path, rows, "--dry_run")).json
        assert found["stages"][-1] == "write the graph"


class TestVerify:
    def test_a_good_dataset(self, dataset):
        found = run("verify", "--dataset", dataset, "--json").json
        assert list(found) == VERIFY
        assert (found["job"], found["status"], found["good"], found["faults"]) == ("verify", "done", True, [])
        assert (found["rows_out"], found["shards"], found["windows"]) == (10, 4, None)
        files = [path for path in dataset.rglob("*") if path.is_file() and path.parent.name != "_history"]
        assert found["bytes"] == sum(path.stat().st_size for path in files)

    def test_faults(self, dataset):
        (dataset / "notes").write_text("")
        found = run("verify", "--dataset", dataset, "--json").json
        assert list(found) == VERIFY
        assert (found["status"], found["exit_code"], found["error"]) == ("faulty", 1, "1 fault")
        assert found["faults"] == [{"code": "file.orphan", "path": "notes", "detail": "is not in the manifest"}]

    def test_no_dataset(self):
        assert run("verify", "--dataset=nowhere", "--json").json["status"] == "wrong_usage"


@pytest.fixture(scope="module")
def told():
    """What a terminal is sent, by its columns and the length of the output's name."""
    _, *parts = on_a_terminal("-c", _TELL).split("width: ")
    return {tuple(map(int, part.split()[:2])): part.partition("\n")[2] for part in parts}


class TestForPeople:
    def outputs(self, rows, schema, tmp_path):
        """What each job prints, whatever it does."""
        common = ("--input", rows, "--schema", schema, "--max_reject_fraction=0.5")
        yield run("prepare", *common, "--output", tmp_path / "out")
        yield run("prepare", *common, "--output", tmp_path / "out2", "--dry_run")
        yield run("prepare", *common[:4], "--output", tmp_path / "out3")
        windows = ("--event_time=time:s", "--window=fixed:60s", "--num_shards=1")
        yield run("prepare", *common, "--output", tmp_path / "windows", *windows)
        for _ in range(2):
            letters = f"--dead_letters={tmp_path}/out/dead_letters/*.jsonl"
            yield run("replay", letters, "--output", tmp_path / "again")
        yield run("verify", "--dataset", tmp_path / "out")
        yield run("verify", "--dataset", tmp_path / "out3")

    def test_no_line_ends_in_a_space(self, rows, schema, tmp_path):
        for ended in self.outputs(rows, schema, tmp_path):
            assert ended.stdout
            assert [line for line in ended.stdout.splitlines() if line != line.rstrip()] == []

    def test_no_line_ends_in_a_space_on_a_terminal(self, told):
        assert [line for sent in told.values() for line in lines_of(sent) if line != line.rstrip()] == []
        assert all("\x1b[1m" in sent for sent in told.values()), "headings are bold"

    @pytest.mark.parametrize("length", [3, 200])
    def test_what_lies_where_is_below_its_path_on_a_terminal_that_is_too_narrow(self, told, length):
        lines, output = lines_of(told[80, length]), "o" * length
        assert f"  {output}/train/" in lines, "a path is in one piece, for copying"
        assert "    the shards of this split" in lines
        assert max(len(line) for line in lines if output not in line) <= 80

    def test_what_lies_where_is_a_table_where_there_is_room(self, told):
        assert "  ooo/train/          the shards of this split" in lines_of(told[120, 3])

    def test_notes_say_what_became_of_values(self, capsys):
        notes = tuple(Note("float32.rounded", f"c{number}", 1_000, "1.1 is written as 1.2") for number in range(14))
        tell(dataclasses.replace(_dataset("o"), notes=notes), as_json=False)
        lines = capsys.readouterr().out.splitlines()
        start = lines.index("  not as they were read (no row is rejected for it)")
        assert lines[start + 1 : start + 3] == ["  float32.rounded c0   1,000", "    1.1 is written as 1.2"]
        assert lines[start + 25 : start + 27] == ["  and 2 more, in the manifest", ""]

    def test_a_pipe_has_room(self, capsys):
        tell(_dataset("o" * 200), as_json=False)
        assert f"  {'o' * 200}/train/          the shards of this split" in capsys.readouterr().out.splitlines()


def _dataset(output):
    return DatasetResult(
        job="prepare",
        seconds=1.5,
        output=output,
        manifest=f"{output}/manifest.json",
        rows_in=1_000_000,
        rows_out=990_000,
        rows_rejected=10_000,
        splits={"train": SplitResult(990_000, 4, 1 << 30, f"{output}/train")},
        rejected_by_reason={f"rule.number_{number}": number for number in range(20)},
        schema=f"{output}/schema.pbtxt",
        dead_letters=f"{output}/dead_letters",
    )


_TELL = f"""
import fcntl, struct, termios
from pipelines._report.result import DatasetResult, SplitResult
from pipelines._report.summary import tell

{inspect.getsource(_dataset)}
for columns, length in (80, 3), (80, 200), (120, 3):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    print(f"width: {{columns}} {{length}}", flush=True)
    tell(_dataset("o" * length), as_json=False)
"""


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        pytest.param(ConfigError("x"), "wrong_usage", 2, "x", id="config"),
        pytest.param(ImportError("needs y"), "wrong_usage", 2, "needs y", id="extra"),
        pytest.param(UsageError("unknown flag"), "wrong_usage", 2, "unknown flag", id="usage"),
        pytest.param(DataError("x"), "failed", 1, "x", id="data"),
        pytest.param(InputError("x"), "failed", 1, "x", id="input"),
        pytest.param(OSError("x"), "failed", 1, "x", id="system"),
        pytest.param(KeyboardInterrupt("the job runs on: 7"), "interrupted", 130, "the job runs on: 7", id="stream"),
        pytest.param(RuntimeError("x"), "crashed", 1, "RuntimeError: x", id="anything else"),
    ],
)
def test_failure(error, status, code, message):
    assert failure("fit", error, 2.5) == Result(job="fit", status=status, exit_code=code, error=message, seconds=2.5)


def test_a_run_that_failed_over_its_data_tells_what_it_counted():
    counted = Result(job="prepare", status="too_many_rejects", exit_code=1, seconds=3)
    assert failure("prepare", RunFailedError("too many", counted), 9) == dataclasses.replace(counted, error="too many")
