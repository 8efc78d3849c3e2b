"""The benchmark of the stages goes with the steps of the job, and with what they take and give."""

from benchmarks import stages


def test_each_stage_is_measured(capsys):
    stages.main(["--rows=3000", "--repeat=1"])
    told = capsys.readouterr().out
    assert "2,988 rows of 12 columns" in told
    assert [title for title, _ in stages.STAGES.values() if f"| {title} |" not in told] == []
