import doctest

import pytest
from benchmarks.statistics import prepare


def test_the_line_of_a_table_is_as_it_says():
    assert doctest.testmod(prepare).failed == 0


def test_a_job_runs_both_ways_and_in_turns(tmp_path, monkeypatch):
    ran = []

    def run(folder, arguments):
        ran.append(arguments[-2:] == ["--statistics", "none"])
        return 1.0 if ran[-1] else 1.25

    monkeypatch.setattr(prepare, "_run", run)
    assert prepare.measure(tmp_path, ["--input", "x.csv"], 2) == [(1.0, 1.25), (1.0, 1.25)]
    assert ran == [True, False, False, True]


def test_a_job_that_fails_ends_the_benchmark(tmp_path):
    with pytest.raises(SystemExit, match="ended with 3: gone wrong"):
        prepare._run(tmp_path, ["-c", "import sys; sys.stderr.write('gone wrong'); sys.exit(3)"])
