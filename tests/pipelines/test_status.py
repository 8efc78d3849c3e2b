"""What `status` tells of a dataset: whole, in windows, at work, damaged."""

import json
import os
import re
import time

import pytest
from helpers import run_prepare, write_csv

from penstock.io.files.owned import owning
from pipelines import status
from pipelines._cli.command import main
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE

START = 1_700_000_040
FLAGS = ("--event_time=time:s", "--window=fixed:60s", "--num_shards=1", "--max_reject_fraction=0.4")
FIRST, LAST = "20231114T221400Z_20231114T221500Z", "20231114T221700Z_20231114T221800Z"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Windows at minutes 0, 1 and 3, of which the last has too many rejects."""
    folder = tmp_path_factory.mktemp("status")
    rows = [{"id": i, "time": START + 60 * minute + i} for minute in (0, 1, 3) for i in range(4)]
    rules = folder / "rules.yaml"
    rules.write_text(f"rules:\n  - {{name: early, sql: 'time < {START + 181}'}}\n")
    source = write_csv(folder / "rows.csv", rows, ("id", "time"))
    assert run_prepare("--input", source, "--rules", rules, "--output", folder / "out", *FLAGS) == DONE
    return folder / "out"


@pytest.fixture
def windows(written, tmp_path):
    """A copy, which a test may change."""
    for path in written.rglob("*"):
        if path.is_file():
            copy = tmp_path / "out" / path.relative_to(written)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path / "out"


def told(capsys, output, *flags):
    code = main("status", status.run, ["--output", str(output), *map(str, flags)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def found(capsys, output):
    code, out, _ = told(capsys, output, "--json")
    return code, json.loads(out)


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_windows(written, capsys):
    code, result = found(capsys, written)
    assert (code, result["status"], result["state"], result["window_count"]) == (DONE, "done", "windows", 3)
    assert [result[name] for name in ("rows_in", "rows_out", "rows_on_time", "rows_late", "rows_rejected")] == [
        *(12, 9, 9, 0, 3)
    ]
    assert result["rejected_by_reason"] == {"rule.early": 3}
    assert result["last_event_time"] == "2023-11-14T22:17:00.000000Z"
    assert result["gaps"] == [{"start": "2023-11-14T22:16:00Z", "end": "2023-11-14T22:17:00Z"}]
    assert [(one["rows_rejected"], one["rejected_by_reason"]) for one in result["quarantined"]] == [
        (3, {"rule.early": 3})
    ]
    assert (result["not_final"], result["missing"], result["unknown"], result["staging"]) == ([], [], [], [])


def test_windows_for_a_person(written, capsys):
    code, out, _ = told(capsys, written)
    assert code == DONE
    assert "3 windows, 2023-11-14T22:14:00.000000Z to 2023-11-14T22:18:00.000000Z" in out
    assert re.search(r"rejected +3 +25.00%", out)
    assert "gaps, in which no window is published: 1\n  2023-11-14T22:16:00Z to 2023-11-14T22:17:00Z" in out
    assert re.search(r"windows with too many rejects: 1\n  2023-.*: 3 of \d rows rejected \(rule.early 3\)", out)
    assert "folders of runs" not in out, "nothing is said of what there is not"


def test_a_window_that_is_not_final_and_the_stream(windows, capsys):
    change(windows / "windows" / f"{FIRST}.json", final=False)
    (windows / "stream.json").write_text(json.dumps({"generation": 2, "started": "2026-01-01T00:00:00Z"}))
    _, result = found(capsys, windows)
    assert result["not_final"] == [["2023-11-14T22:14:00.000000Z", "2023-11-14T22:15:00.000000Z"]]
    assert result["stream"]["generation"] == 2
    code, out, _ = told(capsys, windows)
    assert code == DONE
    assert "windows that are not final yet: 1" in out
    assert "a stream, started 2 times, the last time at 2026-01-01T00:00:00Z" in out


def test_a_window_with_anomalies_and_statistics(windows, capsys):
    anomaly = {"feature": "id", "reason": "HIGH_L_INF", "severity": "error", "description": "too far"}
    anomaly |= {"against": "b", "dataset": ""}
    statistics = f"statistics/{FIRST}.2.pb"
    manifest = windows / "windows" / f"{FIRST}.json"
    change(manifest, statistics=statistics, anomalies=[anomaly, anomaly | {"feature": "x"}])
    assert told(capsys, windows)[0] == DATA_FAILED, "its statistics are missing"
    for suffix in ("pb", "json"):
        (windows / "statistics" / f"{FIRST}.1.{suffix}").rename(windows / "statistics" / f"{FIRST}.2.{suffix}")
    code, result = found(capsys, windows)
    assert (code, result["unknown"]) == (DONE, [])
    (unusual,) = result["unusual"]
    assert (unusual["anomalies"][0], len(unusual["anomalies"])) == (anomaly, 2)
    out = told(capsys, windows)[1]
    assert re.search(r"windows with anomalies: 1\n  2023-.*: error: id: too far \(and 1 more\)", out)


def test_a_run_at_work(windows, capsys):
    folder = windows / ".tmp-run"
    with owning(str(folder)):
        os.makedirs(folder / "chunks" / FIRST)
        os.makedirs(folder / "chunks" / "20300101T000000Z_20300101T000100Z")
        (folder / "chunks" / FIRST / "a").write_bytes(b"12345")
        (folder / "chunks" / "20300101T000000Z_20300101T000100Z" / "b").write_bytes(b"123")
        _, result = found(capsys, windows)
        (staging,) = result["staging"]
        assert (staging["name"], staging["owner"], staging["files"]) == (".tmp-run", "running", 3)
        assert (staging["chunks"], staging["orphaned"]) == ({"files": 2, "bytes": 8}, {"files": 1, "bytes": 5})
        assert staging["age_seconds"] < 60
        assert "1 chunk (5 B) nobody needs; a run is at work in it" in told(capsys, windows)[1]


def test_a_run_that_was_killed(windows, capsys):
    with owning(str(windows / ".tmp-run")):
        lock = (windows / ".tmp-run" / "owner.lock").read_text()
    chunk = windows / ".tmp-run" / "chunks" / "20300101T000000Z_20300101T000100Z" / "b"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"123")
    (windows / ".tmp-run" / "owner.lock").write_text(lock)
    old = time.time() - 7200
    for path in (chunk, windows / ".tmp-run" / "owner.lock"):
        os.utime(path, (old, old))
    (staging,) = found(capsys, windows)[1]["staging"]
    assert (staging["owner"], staging["orphaned"]["files"]) == ("ended", 1)
    assert staging["age_seconds"] == pytest.approx(7200, abs=60)
    assert "last written 2:00:" in told(capsys, windows)[1]


def test_a_run_elsewhere(windows, capsys):
    (windows / ".tmp-run").mkdir()
    (windows / ".tmp-run" / "x").write_bytes(b"")
    assert found(capsys, windows)[1]["staging"][0]["owner"] == "unknown"
    assert "on a cluster or another machine it may go on" in told(capsys, windows)[1]


def test_files_that_no_manifest_names(windows, capsys):
    (windows / "train" / "stray").write_bytes(b"123")
    letters = next((windows / "dead_letters").rglob("part-*"))
    letters.with_name(f"{letters.name}.claim-20260101T000000Z-00000000").write_bytes(b"{}")
    code, result = found(capsys, windows)
    assert (code, result["unknown"], result["unknown_bytes"]) == (DONE, ["train/stray"], 3)
    assert "files that no manifest names (3 B): 1\n  train/stray" in told(capsys, windows)[1]


def test_a_file_that_is_missing(windows, capsys):
    shard = sorted((windows / "train").rglob("part-*"))[0]
    shard.unlink()
    code, result = found(capsys, windows)
    path = str(shard.relative_to(windows))
    assert (code, result["status"], result["missing"]) == (DATA_FAILED, "faulty", [path])
    assert result["error"] == f"1 file of manifests missing ({path})"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        pytest.param("{", "Expecting property name", id="cut"),
        pytest.param("[]", "not a manifest: TypeError", id="a list"),
        pytest.param('{"version": 9}', "manifest version must be 1, got 9", id="another version"),
        pytest.param('{"version": 1}', "not a manifest: KeyError", id="empty"),
    ],
)
def test_a_damaged_manifest_is_named(windows, capsys, content, detail):
    path = f"windows/{LAST}.json"
    (windows / path).write_text(content)
    code, result = found(capsys, windows)
    assert (code, result["window_count"], [one["path"] for one in result["damaged"]]) == (DATA_FAILED, 2, [path])
    assert detail in result["damaged"][0]["detail"]
    assert f"files that cannot be read: 1\n  {path}: " in told(capsys, windows)[1]


def test_a_damaged_stream_file_is_named(windows, capsys):
    (windows / "stream.json").write_text("[]")
    assert found(capsys, windows)[1]["damaged"] == [{"path": "stream.json", "detail": "not an object"}]


def test_a_whole_dataset(tmp_path, capsys):
    source = write_csv(tmp_path / "rows.csv", [{"id": 1}], ("id",))
    assert run_prepare("--input", source, "--output", tmp_path / "out") == DONE
    capsys.readouterr()
    code, result = found(capsys, tmp_path / "out")
    assert (code, result["state"], result["rows_out"], result["window_count"]) == (DONE, "whole", 1, None)
    code, out, _ = told(capsys, tmp_path / "out")
    assert (code, "a dataset without windows" in out) == (DONE, True)


def test_nothing_is_published_yet(tmp_path, capsys):
    (tmp_path / ".tmp-run").mkdir()
    (tmp_path / ".tmp-run" / "x").write_bytes(b"")
    code, out, _ = told(capsys, tmp_path)
    assert (code, "nothing is published yet" in out) == (DONE, True)


def test_no_dataset(tmp_path, capsys):
    code, _, err = told(capsys, tmp_path / "none")
    assert (code, "no such folder, or it is empty" in err) == (WRONG_USAGE, True)
    (tmp_path / "notes.txt").write_text("")
    code, _, err = told(capsys, tmp_path)
    assert (code, "holds no dataset, but files such as notes.txt; name the folder that a job writes" in err) == (
        *(WRONG_USAGE, True),
    )
    code, _, err = told(capsys, tmp_path / "notes.txt")
    assert (code, "is a file; name the folder of a dataset" in err) == (WRONG_USAGE, True)


def test_the_folder_may_stand_without_its_flag(tmp_path, capsys):
    assert main("status", status.run, [str(tmp_path / "none")]) == WRONG_USAGE
    assert f"--output {tmp_path / 'none'}: no such folder" in capsys.readouterr().err


def test_an_output_is_required(capsys):
    code = main("status", status.run, [])
    assert (code, "DATASET is required: the folder that a job writes" in capsys.readouterr().err) == (
        WRONG_USAGE,
        True,
    )


def test_a_report_shows_windows_and_what_is_wrong(windows, tmp_path, capsys):
    (windows / "windows" / f"{FIRST}.json").write_text("{")
    report = tmp_path / "report.html"
    code, out, _ = told(capsys, windows, "--report", report)
    assert (code, f"the report: {report}" in out) == (DATA_FAILED, True)
    page = report.read_text()
    assert f"windows/{FIRST}.json" in page
    assert "too many rejects" in page
    assert "rule.early 3" in page
    code, out, _ = told(capsys, windows, "--report", report, "--json")
    assert json.loads(out)["report"] == str(report)


def test_a_report_in_the_dataset_or_of_nothing_is_refused(windows, tmp_path, capsys):
    code, _, error = told(capsys, windows, "--report", windows / "report.html")
    assert (code, "lies in --output" in error) == (WRONG_USAGE, True)
    (tmp_path / "new" / ".tmp-run-1").mkdir(parents=True)
    (tmp_path / "new" / ".tmp-run-1" / "x").write_text("x")
    code, _, error = told(capsys, tmp_path / "new", "--report", tmp_path / "report.html")
    assert (code, "nothing is published there yet" in error) == (WRONG_USAGE, True)
