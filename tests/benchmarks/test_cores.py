import json
import pathlib

import pytest
from benchmarks import cores, run
from benchmarks.cores import Result, Samples, Scaling, Timed
from benchmarks.measure import Usage

BEGIN = "Thread._bootstrap (threading.py);SdkWorker.process_bundle (apache_beam/runners/worker/sdk_worker.py)"
STACKS = [
    f"{BEGIN};ReadPartFn.process (penstock/io/sources/read.py);_LineCutter.feed (penstock/io/formats/lines.py) 3",
    f"{BEGIN};ReadPartFn.process (/checkout/src/penstock/io/sources/read.py) 2",
    f"{BEGIN};_SpillFn.finish_bundle (penstock/io/dataset/shuffle.py);_RunFile.close (penstock/io/sort/runs.py) 4",
    f"{BEGIN};BundleProcessor.__init__ (apache_beam/runners/worker/bundle_processor.py) 5",
    "main (pipelines/prepare.py);ParallelBundleManager.process_bundle (fn_runner.py);wait (threading.py) 90",
]


def test_samples_belong_to_the_innermost_step_of_a_worker():
    assert cores.count_steps(STACKS) == {"ReadPart": 5, "Spill": 4, "Beam, and functions without a DoFn": 5}


def test_a_share_bounds_the_speed_up():
    scaling = Scaling("none", (Timed(1, 4.0, 4.0),), {"a": Samples(60, 15), "b": Samples(40, 10)})
    assert scaling.share == 0.25
    assert scaling.bound(1) == 1.0
    assert scaling.bound(4) == pytest.approx(1 / (0.25 + 0.75 / 4))
    assert scaling.bound(10**9) == pytest.approx(4.0)


def test_without_samples_there_is_no_bound():
    scaling = Scaling("none", (Timed(1, 4.0, 4.0),), {})
    assert (scaling.share, scaling.bound(8)) == (0.0, 8.0)
    assert "inf on any number" in cores.table(Result(10, "", {}, (scaling,)))


def test_tables():
    scaling = Scaling(
        "none",
        (Timed(1, 4.0, 4.0), Timed(2, 2.0, 5.0, cores.PROCESSES)),
        {"Read": Samples(75, 5), "Spill": Samples(25, 15)},
    )
    lines = cores.table(Result(1_000_000, "", {}, (scaling,))).splitlines()
    assert "| 2 | processes | 500,000 | 2.00 | 5.00 |" in lines
    assert lines.index("| Spill | 25.0% | 15.0% |") < lines.index("| Read | 75.0% | 5.0% |")
    assert "| all, of 100 samples | 100% | 20.0% |" in lines
    assert lines[-3] == "Bound of the speed-up of threads: 2.5 on 4, 4.0 on 16, 4.7 on 64 cores, 5.0 on any number."
    assert lines[-1] == (
        "Bound of 2 processes on as many cores: 400,000 rows/s; the job itself takes 0.00 s of it. "
        "CPU for a row: 1.25 times that of one thread."
    )


@pytest.mark.parametrize("sliced", [False, True])
def test_processes_are_bound_by_what_the_job_does_alone_and_their_share_of_the_rest(sliced):
    runs = Timed(1, 4.0, 4.0), Timed(2, 2.0, 5.0, cores.PROCESSES), Timed(16, 3.0, 5.5, cores.PROCESSES, 0.7, sliced)
    scaling = Scaling("none", runs, {})
    assert scaling.least_seconds == pytest.approx(0.7 + 4.8 / 16)
    last = cores.table(Result(1_000_000, "", {}, (scaling,))).splitlines()[-1]
    assert "Bound of 16 processes on as many cores: 1,000,000 rows/s; the job itself takes 0.70 s of it." in last
    assert ("took turns" in last) is sliced


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """The settings that are launched, in order; py-spy sees the steps of `STACKS`."""
    settings = []

    def launch(arena, python, script, task):
        task = json.loads(task)
        settings.append(task["setting"].split())
        pathlib.Path(task["output"], "told.json").write_text('{"own_cpu_seconds": 0.5, "sliced": true}')
        if len(settings[-1]) == 4:
            for name, stacks in (("active.txt", STACKS), ("lock.txt", STACKS[:1])):
                pathlib.Path(task["output"], name).write_text("\n".join(stacks) + "\n")
        return {"seconds": 1.0 + len(settings), "cpu_besides": 0.5}, Usage(0, 9.0, 2.5, 1000)

    monkeypatch.setattr(run, "CACHE", tmp_path)
    monkeypatch.setattr(run, "python_of", lambda requirements: "/env/bin/python")
    monkeypatch.setattr(run, "machine", lambda: {"cores": 3})
    monkeypatch.setattr(run.Arena, "launch", launch)
    return settings


def test_each_round_times_all_workers_and_watches_the_most_threads(launched):
    result = run.bench_cores(100, 2, 60.0)
    kinds = [(1, cores.THREADS), (2, cores.THREADS), (2, cores.PROCESSES), (3, cores.THREADS), (3, cores.PROCESSES)]
    kinds.append((16, cores.PROCESSES))
    each = [[str(workers), mode] for workers, mode in kinds] + [["3", cores.THREADS, "/env/bin/py-spy"]]
    assert launched == [[shuffle, *rest] for shuffle in cores.SHUFFLES for rest in each] * 2
    expected = [Timed(workers, 2.0 + index, 2.0, mode, 0.5, True) for index, (workers, mode) in enumerate(kinds)]
    assert result.scalings[0].runs == tuple(expected)
    assert result.scalings[0].total == Samples(28, 6)


def test_on_many_cores_no_processes_are_added(launched, monkeypatch):
    monkeypatch.setattr(run, "machine", lambda: {"cores": 24})
    assert run.bench_cores(100, 1, 60.0).scalings[0].processes.workers == 24


def test_a_result_is_written_as_json_and_tables(launched, tmp_path):
    assert run.main(["--scenario", "cores", "--rows", "100", "--repeat", "1", "--output", str(tmp_path / "out")]) == 0
    fields = json.loads((tmp_path / "out" / "cores-100.json").read_text())
    assert fields["scalings"][0]["share"] == pytest.approx(3 / 14)
    assert (tmp_path / "out" / "cores-100.md").read_text().startswith("# cores-100\n\n| `--shuffle none`")


def test_where_nothing_can_be_watched_there_is_no_table(launched, monkeypatch, tmp_path, capsys):
    def refuse(*_):
        raise run.ContestantError("py-spy cannot watch a process here")

    monkeypatch.setattr(run.Arena, "launch", refuse)
    assert run.main(["--scenario", "cores", "--rows", "100", "--output", str(tmp_path / "out")]) == 1
    assert "cores: py-spy cannot watch a process here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
